//! Anthropic's API: `POST /v1/messages` and `POST /v1/messages/count_tokens`.

mod content;
mod response;
mod thinking;
mod tools;

use serde_json::Value;

pub use response::{
    Block, BlockDelta, DeltaUsage, Event, EventDelta, ListedModel, MessageBody, MessageDelta, MessageUsage, ModelPage,
    Problem, ProblemDetail, TokenCount, ToolCaller,
};
pub use thinking::Thoughts;

pub(crate) use content::MEDIA_TYPES;
pub(crate) use thinking::BUDGET_MIN;
pub(crate) use tools::NAME_CHARS_MAX;

use crate::constraint::{Constraint, schema_text};
use crate::conversation::{ChatRequest, Effort, Role, Tools};
use crate::fields::{Envelope, Fields, WireError};
use crate::options::{Options, ServiceTier, stops};
use crate::sampling::Sampling;
use thinking::Thinking;

/// The API's code for a request that a server cannot hold a conversation for.
pub const NO_THREADS: &str = "thread_unsupported_request";
/// Stop sequences of one request. Each is looked for in every token.
pub(crate) const STOPS_MAX: usize = 16;
/// Characters of the name that a client gives its user.
pub(crate) const USER_ID_CHARS_MAX: usize = 512;
/// Fields of the API that are refused whatever they say: what they ask for is done by Anthropic's own servers.
const UNSUPPORTED: &[&str] = &["billing_policy", "compaction", "container", "fallback_credit_token", "fallbacks"];

/// A validated request for a message.
#[derive(Debug, Clone, PartialEq)]
pub struct MessagesRequest {
    /// The conversation.
    pub chat: ChatRequest,
    /// Whether the answer tells what the model thought.
    pub thoughts: Thoughts,
    /// Whether the answer tells what became of a wish to edit the conversation.
    pub edits: bool,
    /// Whether the answer tells apart which tokens of the prompt were known before.
    pub caches: bool,
}

impl MessagesRequest {
    /// Validates a request.
    ///
    /// # Errors
    /// [`WireError`] naming the field that cannot be honoured.
    pub fn parse(envelope: Envelope) -> Result<Self, WireError> {
        let (model, stream) = (envelope.model, envelope.stream);
        let caches = envelope.body.contains_key("cache_control") || envelope.body.values().any(asks_to_cache);
        let mut fields = Fields::new(envelope.body);
        fields.take("stream");
        let max_tokens = fields.count("max_tokens", 1..=u32::MAX)?.ok_or_else(|| fields.missing("max_tokens"))?;
        let sampling = Sampling::take(&mut fields)?;
        if sampling.temperature.is_some_and(|temperature| temperature > 1.0) {
            return Err(fields.out_of_range("temperature", "between 0 and 1"));
        }
        let stop = stops(&mut fields, "stop_sequences", STOPS_MAX)?;
        if let Some(index) = stop.iter().position(|stop| stop.trim().is_empty()) {
            return Err(fields.out_of_range(&format!("stop_sequences[{index}]"), "more than white space"));
        }
        service_tier(&mut fields)?;
        metadata(&mut fields)?;
        let mut asked = Asked::take(&mut fields)?;
        asked.thinking.check_budget(max_tokens)?;
        fields.finish(UNSUPPORTED)?;
        let options = Options {
            keep_alive: None,
            sampling,
            max_tokens: Some(max_tokens),
            cuts_to_context: true,
            drops_oldest: false,
            choices: 1,
            stop,
            service_tier: ServiceTier::Default,
            constraint: asked.constraint.take(),
            stream,
            include_usage: true,
        };
        let (thoughts, edits) = (asked.thinking.thoughts, asked.edits);
        Ok(Self { chat: asked.chat(model, options), thoughts, edits, caches })
    }

    /// Validates a request to count the tokens of a conversation.
    ///
    /// # Errors
    /// [`WireError`] naming the field that cannot be honoured.
    pub fn parse_count(envelope: Envelope) -> Result<ChatRequest, WireError> {
        let mut fields = Fields::new(envelope.body);
        let asked = Asked::take(&mut fields)?;
        fields.finish(UNSUPPORTED)?;
        let options = Options::open(&mut Fields::new(serde_json::Map::new()))?;
        Ok(asked.chat(envelope.model, options))
    }
}

/// Whether there is a `cache_control` anywhere. In this API a prompt is known before only if somebody asked for that;
/// clients that did not add nothing to `input_tokens`, and hold it beside what `count_tokens` says.
fn asks_to_cache(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.iter().any(|(name, value)| name == "cache_control" || asks_to_cache(value)),
        Value::Array(values) => values.iter().any(asks_to_cache),
        _ => false,
    }
}

/// What decides about the prompt.
struct Asked {
    messages: Vec<crate::conversation::Message>,
    tools: Tools,
    thinking: Thinking,
    effort: Option<Effort>,
    constraint: Option<Constraint>,
    edits: bool,
}

impl Asked {
    fn take(fields: &mut Fields) -> Result<Self, WireError> {
        fields.take("model");
        let system = fields.take("system");
        let messages = content::messages(system, fields.required("messages")?)?;
        let tools = tools::take(fields)?;
        let thinking = Thinking::take(fields)?;
        let (mut effort, mut constraint) = (None, None);
        if let Some(value) = fields.take("output_config") {
            let mut inner = Fields::of("output_config", value)?;
            effort = thinking::effort(&mut inner)?;
            constraint = output_format(&mut inner, "format")?;
            inner.finish(&["task_budget"])?;
        }
        // The older name, of the beta.
        if let Some(older) = output_format(fields, "output_format")? {
            if constraint.is_some() {
                let message = "`output_format` and `output_config.format` both say what the answer must be; send one";
                return Err(fields.error("output_format", "invalid_value", message));
            }
            constraint = Some(older);
        }
        let edits = context_management(fields)?;
        content::cache_control(fields)?;
        thread(fields)?;
        accept_what_changes_nothing(fields)?;
        Ok(Self { messages, tools, effort, thinking, constraint, edits })
    }

    fn chat(self, model: String, options: Options) -> ChatRequest {
        ChatRequest {
            model,
            begun: self.messages.last().is_some_and(|last| last.role == Role::Assistant),
            messages: self.messages,
            tools: self.tools,
            effort: self.thinking.effort_with(self.effort),
            prediction: None,
            template_variables: serde_json::Map::new(),
            top_logprobs: None,
            store: false,
            metadata: serde_json::Map::new(),
            options,
        }
    }
}

fn output_format(fields: &mut Fields, name: &str) -> Result<Option<Constraint>, WireError> {
    let Some(value) = fields.take(name) else { return Ok(None) };
    let mut inner = Fields::of(&fields.path_of(name), value)?;
    if inner.required_string("type")? != "json_schema" {
        return Err(inner.out_of_range("type", "json_schema"));
    }
    // OpenAI's clients name their schemas; some that speak both APIs do so here.
    inner.string("name")?;
    let param = inner.path_of("schema");
    let form = schema_text(&param, inner.required("schema")?)?;
    inner.finish(&[])?;
    Ok(Some(Constraint { param, form }))
}

/// Wishes to forget parts of a conversation. The one for thoughts asks for nothing here: which thoughts a model sees
/// again is a matter of its own template. Whether there was any wish.
fn context_management(fields: &mut Fields) -> Result<bool, WireError> {
    let Some(value) = fields.take("context_management") else { return Ok(false) };
    let mut inner = Fields::of("context_management", value)?;
    let edits = match inner.take("edits") {
        None => Vec::new(),
        Some(Value::Array(edits)) => edits,
        Some(other) => return Err(inner.wrong_type("edits", "an array", &other)),
    };
    inner.finish(&[])?;
    for (index, edit) in edits.into_iter().enumerate() {
        let mut edit = Fields::of(&format!("context_management.edits[{index}]"), edit)?;
        let kind = edit.required_string("type")?;
        if kind != "clear_thinking_20251015" {
            return Err(edit.unsupported("type", " other than clear_thinking_20251015"));
        }
        edit.take("keep");
        edit.finish(&[])?;
    }
    Ok(true)
}

/// There is one tier for everybody; which of the plan's classes a request has is for its key.
fn service_tier(fields: &mut Fields) -> Result<(), WireError> {
    match fields.string("service_tier")?.as_deref() {
        None | Some("auto" | "standard_only") => Ok(()),
        Some(_) => Err(fields.out_of_range("service_tier", "auto or standard_only")),
    }
}

/// The client's name for its user. It changes nothing in the answer.
fn metadata(fields: &mut Fields) -> Result<(), WireError> {
    let Some(value) = fields.take("metadata") else { return Ok(()) };
    let mut inner = Fields::of("metadata", value)?;
    if inner.string("user_id")?.is_some_and(|id| id.chars().count() > USER_ID_CHARS_MAX) {
        return Err(inner.out_of_range("user_id", &format!("at most {USER_ID_CHARS_MAX} characters long")));
    }
    inner.finish(&[])
}

/// Conversations that a server holds. The API's own word for one that does not makes its clients send all of it.
fn thread(fields: &mut Fields) -> Result<(), WireError> {
    match fields.take("thread") {
        None => Ok(()),
        Some(_) => {
            let message = "`thread` is not supported here: send the whole conversation as `messages`";
            Err(fields.error("thread", NO_THREADS, message))
        }
    }
}

/// Fields that are checked, and have no effect on an answer here.
fn accept_what_changes_nothing(fields: &mut Fields) -> Result<(), WireError> {
    fields.only("mcp_servers", |value| value.as_array().is_some_and(Vec::is_empty))?;
    fields.only("speed", |value| value == "standard")?;
    fields.only("inference_geo", |value| value == "global")?;
    // Asks where a cached prompt began to differ; the answer may be null.
    if let Some(value) = fields.take("diagnostics") {
        Fields::of("diagnostics", value)?;
    }
    fields.string("user_profile_id")?;
    Ok(())
}

#[cfg(test)]
mod tests;
