//! What chat and plain completions have in common.

use serde_json::Value;

use crate::constraint::Constraint;
use crate::fields::{Fields, WireError};

/// Choices of one request.
const CHOICES_MAX: u32 = 8;
/// Stop strings of one request, as OpenAI's API has it.
const STOPS_MAX: usize = 4;
/// Characters of a stop string. Longer ones are no stop strings but a mistake.
const STOP_CHARS_MAX: usize = 16_384;
/// Tokens whose likelihood one request may change.
const BIASES_MAX: usize = 1024;

/// How tokens are chosen. What the client leaves open is for the model.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// 0..=2; 0 is greedy.
    pub temperature: Option<f32>,
    /// 0..=1.
    pub top_p: Option<f32>,
    /// 0 keeps all.
    pub top_k: Option<u32>,
    /// 0..=1.
    pub min_p: Option<f32>,
    /// -2..=2.
    pub presence_penalty: f32,
    /// -2..=2.
    pub frequency_penalty: f32,
    /// Token ids and what is added to their logits, -100..=100.
    pub logit_bias: Vec<(u32, f32)>,
    /// The same seed gives the same answer.
    pub seed: Option<i64>,
}

/// Everything but the prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// The most tokens of one choice; `None` when the client leaves it to us.
    pub max_tokens: Option<u32>,
    /// Answers to give.
    pub choices: u32,
    /// The answer ends before any of these.
    pub stop: Vec<String>,
    /// What the answer must be, where it may not be anything.
    pub constraint: Option<Constraint>,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// Whether a stream ends with its usage.
    pub include_usage: bool,
}

impl Options {
    pub(crate) fn take(fields: &mut Fields) -> Result<Self, WireError> {
        let stream = fields.boolean("stream")?.unwrap_or(false);
        let options = Self {
            sampling: Sampling::take(fields)?,
            max_tokens: max_tokens(fields)?,
            choices: fields.count("n", 1..=CHOICES_MAX)?.unwrap_or(1),
            stop: stop(fields)?,
            constraint: Constraint::take(fields)?,
            stream,
            include_usage: include_usage(fields, stream)?,
        };
        // Names the end user to us; it changes nothing in the answer.
        fields.string("user")?;
        Ok(options)
    }
}

impl Sampling {
    #[allow(clippy::cast_possible_truncation, reason = "the ranges are far within an f32")]
    fn take(fields: &mut Fields) -> Result<Self, WireError> {
        let mut number = |name, range| -> Result<Option<f32>, WireError> {
            Ok(fields.number(name, range)?.map(|number| number as f32))
        };
        let temperature = number("temperature", 0.0..=2.0)?;
        let top_p = number("top_p", 0.0..=1.0)?;
        let min_p = number("min_p", 0.0..=1.0)?;
        let presence_penalty = number("presence_penalty", -2.0..=2.0)?.unwrap_or(0.0);
        let frequency_penalty = number("frequency_penalty", -2.0..=2.0)?.unwrap_or(0.0);
        Ok(Self {
            temperature,
            top_p,
            min_p,
            presence_penalty,
            frequency_penalty,
            top_k: fields.count("top_k", 0..=1_000_000)?,
            logit_bias: logit_bias(fields)?,
            seed: fields.integer("seed", i64::MIN..=i64::MAX)?,
        })
    }
}

fn max_tokens(fields: &mut Fields) -> Result<Option<u32>, WireError> {
    let old = fields.count("max_tokens", 1..=u32::MAX)?;
    let new = fields.count("max_completion_tokens", 1..=u32::MAX)?;
    match (old, new) {
        (Some(old), Some(new)) if old != new => Err(WireError::new(
            "max_tokens",
            "invalid_value",
            "`max_tokens` and `max_completion_tokens` say different things; send one of them",
        )),
        (old, new) => Ok(new.or(old)),
    }
}

fn stop(fields: &mut Fields) -> Result<Vec<String>, WireError> {
    let values = match fields.take("stop") {
        None => return Ok(Vec::new()),
        Some(Value::Array(values)) => values,
        Some(value) => vec![value],
    };
    if values.len() > STOPS_MAX {
        return Err(WireError::out_of_range("stop", &format!("at most {STOPS_MAX} strings")));
    }
    values.into_iter().map(stop_string).collect()
}

fn stop_string(value: Value) -> Result<String, WireError> {
    match value {
        Value::String(stop) if stop.is_empty() => Err(WireError::out_of_range("stop", "a string that is not empty")),
        Value::String(stop) if stop.chars().count() > STOP_CHARS_MAX => {
            Err(WireError::out_of_range("stop", &format!("at most {STOP_CHARS_MAX} characters long")))
        }
        Value::String(stop) => Ok(stop),
        other => Err(WireError::wrong_type("stop", "a string or an array of strings", &other)),
    }
}

fn include_usage(fields: &mut Fields, stream: bool) -> Result<bool, WireError> {
    match fields.take("stream_options") {
        None => Ok(false),
        Some(_) if !stream => {
            Err(WireError::new("stream_options", "invalid_value", "`stream_options` needs `stream` to be true"))
        }
        Some(Value::Object(map)) => {
            let mut inner = Fields::new(map);
            let include = inner.boolean("include_usage")?.unwrap_or(false);
            inner.only("include_obfuscation", |value| value == false)?;
            inner.finish(&[])?;
            Ok(include)
        }
        Some(other) => Err(WireError::wrong_type("stream_options", "an object", &other)),
    }
}

#[allow(clippy::cast_possible_truncation, reason = "-100..=100 is far within an f32")]
fn logit_bias(fields: &mut Fields) -> Result<Vec<(u32, f32)>, WireError> {
    let map = match fields.take("logit_bias") {
        None => return Ok(Vec::new()),
        Some(Value::Object(map)) => map,
        Some(other) => return Err(WireError::wrong_type("logit_bias", "an object", &other)),
    };
    if map.len() > BIASES_MAX {
        return Err(WireError::out_of_range("logit_bias", &format!("an object of at most {BIASES_MAX} tokens")));
    }
    map.into_iter()
        .map(|(token, bias)| {
            let path = format!("logit_bias.{token}");
            let id = token.parse().map_err(|_| WireError::out_of_range(&path, "keyed by a token id"))?;
            let bias = bias.as_f64().ok_or_else(|| WireError::wrong_type(&path, "a number", &bias))?;
            let within = (-100.0..=100.0).contains(&bias);
            if within { Ok((id, bias as f32)) } else { Err(WireError::out_of_range(&path, "between -100 and 100")) }
        })
        .collect()
}
