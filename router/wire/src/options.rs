//! What chat and plain completions have in common.

use std::time::Duration;

use serde_json::Value;

use crate::constraint::Constraint;
use crate::fields::{Fields, WireError};
use crate::sampling::Sampling;

/// Choices of one request.
pub(crate) const CHOICES_MAX: u32 = 8;
/// Stop strings of one request, as OpenAI's API has it.
pub(crate) const STOPS_MAX: usize = 4;
/// Characters of a stop string. Longer ones are no stop strings but a mistake.
pub(crate) const STOP_CHARS_MAX: usize = 16_384;

/// How urgent a request is, in OpenAI's words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ServiceTier {
    /// As requests are.
    #[default]
    Default,
    /// It may wait for others, and be paused for them.
    Flex,
    /// It comes before others.
    Priority,
}

impl ServiceTier {
    /// The word in an answer.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Flex => "flex",
            Self::Priority => "priority",
        }
    }

    pub(crate) fn take(fields: &mut Fields) -> Result<Self, WireError> {
        match fields.string("service_tier")?.as_deref() {
            None | Some("auto" | "default") => Ok(Self::Default),
            Some("flex") => Ok(Self::Flex),
            Some("priority") => Ok(Self::Priority),
            Some(_) => Err(WireError::out_of_range("service_tier", "auto, default, flex or priority")),
        }
    }
}

/// Everything but the prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// The most tokens of one choice; `None` when the client leaves it to us.
    pub max_tokens: Option<u32>,
    /// Whether `max_tokens` is only a bound: where the context has less room, the answer may fill that.
    pub cuts_to_context: bool,
    /// Whether the oldest of a conversation that is too long is left out; else it is refused.
    pub drops_oldest: bool,
    /// Answers to give.
    pub choices: u32,
    /// The answer ends before any of these.
    pub stop: Vec<String>,
    /// How urgent it is.
    pub service_tier: ServiceTier,
    /// What the answer must be, where it may not be anything.
    pub constraint: Option<Constraint>,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// Whether a stream ends with its usage.
    pub include_usage: bool,
    /// How long the model is to stay in memory afterwards: [`Duration::MAX`] for ever, `None` where nothing is said.
    pub keep_alive: Option<Duration>,
}

impl Options {
    /// `tokens_min` is the least that a client may ask for: a plain completion can be of nothing but its prompt.
    pub(crate) fn take(fields: &mut Fields, tokens_min: u32) -> Result<Self, WireError> {
        let stream = fields.boolean("stream")?.unwrap_or(false);
        let options = Self {
            max_tokens: max_tokens(fields, tokens_min)?,
            choices: fields.count("n", 1..=CHOICES_MAX)?.unwrap_or(1),
            stop: stops(fields, "stop", STOPS_MAX)?,
            service_tier: ServiceTier::take(fields)?,
            constraint: Constraint::take(fields)?,
            stream,
            include_usage: include_usage(fields, stream)?,
            ..Self::open(fields)?
        };
        // Names the end user to us; it changes nothing in the answer.
        fields.string("user")?;
        Ok(options)
    }

    /// With what the fields say of sampling, and all else left open.
    pub(crate) fn open(fields: &mut Fields) -> Result<Self, WireError> {
        Ok(Self {
            sampling: Sampling::take(fields)?,
            max_tokens: None,
            cuts_to_context: false,
            drops_oldest: false,
            choices: 1,
            stop: Vec::new(),
            service_tier: ServiceTier::Default,
            constraint: None,
            stream: false,
            include_usage: false,
            keep_alive: None,
        })
    }
}

fn max_tokens(fields: &mut Fields, least: u32) -> Result<Option<u32>, WireError> {
    let old = fields.count("max_tokens", least..=u32::MAX)?;
    let new = fields.count("max_completion_tokens", least..=u32::MAX)?;
    match (old, new) {
        (Some(old), Some(new)) if old != new => Err(WireError::new(
            "max_tokens",
            "invalid_value",
            "`max_tokens` and `max_completion_tokens` say different things; send one of them",
        )),
        (old, new) => Ok(new.or(old)),
    }
}

/// Takes one stop string or several.
pub(crate) fn stops(fields: &mut Fields, name: &str, max: usize) -> Result<Vec<String>, WireError> {
    let values = match fields.take(name) {
        None => return Ok(Vec::new()),
        Some(Value::Array(values)) => values,
        Some(value) => vec![value],
    };
    if values.len() > max {
        return Err(fields.out_of_range(name, &format!("at most {max} strings")));
    }
    values.into_iter().map(|value| stop_string(fields, name, value)).collect()
}

fn stop_string(fields: &Fields, name: &str, value: Value) -> Result<String, WireError> {
    match value {
        Value::String(stop) if stop.is_empty() => Err(fields.out_of_range(name, "a string that is not empty")),
        Value::String(stop) if stop.chars().count() > STOP_CHARS_MAX => {
            Err(fields.out_of_range(name, &format!("at most {STOP_CHARS_MAX} characters long")))
        }
        Value::String(stop) => Ok(stop),
        other => Err(fields.wrong_type(name, "a string or an array of strings", &other)),
    }
}

fn include_usage(fields: &mut Fields, stream: bool) -> Result<bool, WireError> {
    match fields.take("stream_options") {
        None => Ok(false),
        Some(_) if !stream => {
            Err(WireError::new("stream_options", "invalid_value", "`stream_options` needs `stream` to be true"))
        }
        Some(value) => {
            let mut inner = Fields::of("stream_options", value)?;
            let include = inner.boolean("include_usage")?.unwrap_or(false);
            // OpenAI's padding against listeners on the line; there is none to send.
            inner.boolean("include_obfuscation")?;
            inner.finish(&[])?;
            Ok(include)
        }
    }
}
