//! The fields of a request.

use serde_json::{Map, Value};

use super::echo::Echo;
use super::{items, tools};
use crate::chat::{metadata, verbosity};
use crate::constraint::{Constraint, Form, json_schema};
use crate::conversation::{ChatRequest, Effort};
use crate::fields::{Envelope, Fields, WireError};
use crate::options::{Options, ServiceTier};
use crate::sampling::Sampling;

/// Fields of OpenAI's API that are refused whatever they say.
const UNSUPPORTED: &[&str] =
    &["access_programs", "context_management", "image", "moderation", "moderation_policy", "personality", "prompt"];
/// What more an answer may tell. What belongs to tools that are not here is never there to be told.
pub(crate) const INCLUDABLE: &[&str] = &[
    LOGPROBS,
    ENCRYPTED,
    "message.input_image.image_url",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
];
const LOGPROBS: &str = "message.output_text.logprobs";
const ENCRYPTED: &str = "reasoning.encrypted_content";
/// Characters of an id, as a client sends it.
pub(crate) const ID_CHARS_MAX: usize = 128;
/// Characters of a hint to OpenAI.
pub(crate) const CACHED_WORD_CHARS_MAX: usize = 1024;
/// How long OpenAI may remember a prompt.
pub(crate) const RETENTIONS: &[&str] = &["in_memory", "in-memory", "24h"];

/// A validated request for a response.
#[derive(Debug, Clone)]
pub struct ResponsesRequest {
    /// What to answer, as items that are complete but for the ids of new ones; references are yet to be resolved.
    pub input: Vec<Value>,
    /// What stands before all items.
    pub instructions: Option<String>,
    /// The response that this one goes on from.
    pub previous_response_id: Option<String>,
    /// The conversation that this one goes on from, and is added to.
    pub conversation: Option<String>,
    /// Whether it runs on when the client leaves.
    pub background: bool,
    /// Whether thoughts are also told sealed.
    pub encrypted_reasoning: bool,
    /// Whether thoughts are told as their summary.
    pub summary: bool,
    /// The rest; its messages are those of the items, once all are known.
    pub chat: ChatRequest,
    /// What the response repeats of its request.
    pub(super) echo: Map<String, Value>,
}

impl ResponsesRequest {
    /// Validates a request.
    ///
    /// # Errors
    /// [`WireError`] naming the field that cannot be honoured.
    pub fn parse(envelope: Envelope) -> Result<Self, WireError> {
        let mut fields = Fields::new(envelope.body);
        fields.take("model");
        let mut echo = Echo::of(&fields);
        let stream = fields.boolean("stream")?.unwrap_or(false);
        stream_options(&mut fields, stream)?;
        let background = fields.boolean("background")?.unwrap_or(false);
        background_options(&mut fields)?;
        let store = fields.boolean("store")?.unwrap_or(true);
        if background && !store {
            return Err(fields.error("background", "invalid_value", "`background` needs `store` to be true"));
        }
        let include = include(&mut fields)?;
        let previous_response_id = id(&mut fields, "previous_response_id")?;
        let conversation = conversation(&mut fields)?;
        if conversation.is_some() && previous_response_id.is_some() {
            let message = "a response goes on from a conversation or from a response, not from both";
            return Err(fields.error("previous_response_id", "mutually_exclusive_parameters", message));
        }
        let goes_on = conversation.is_some() || previous_response_id.is_some();
        let input = match fields.take("input") {
            None if goes_on => Vec::new(),
            None => return Err(fields.missing("input")),
            Some(value) => items::input(value)?,
        };
        if input.is_empty() && !goes_on {
            return Err(fields.out_of_range("input", "a string or at least one item"));
        }
        let instructions = fields.string("instructions")?;
        let tools = tools::take(&mut fields, |list| echo.tools(list))?;
        let (effort, summary) = reasoning(&mut fields)?;
        let constraint = text(&mut fields, &mut echo)?;
        let metadata = metadata(&mut fields)?;
        let top = fields.count("top_logprobs", 0..=20)?;
        let wants_logprobs = include.iter().any(|wanted| wanted == LOGPROBS) || top.is_some_and(|top| top > 0);
        let options = Options {
            keep_alive: None,
            cuts_to_context: false,
            drops_oldest: truncation(&mut fields)?,
            max_tokens: fields.count("max_output_tokens", 1..=u32::MAX)?,
            choices: 1,
            stop: Vec::new(),
            service_tier: ServiceTier::take(&mut fields)?,
            constraint,
            stream,
            include_usage: true,
            sampling: Sampling::take(&mut fields)?,
        };
        accept_what_changes_nothing(&mut fields)?;
        fields.finish(UNSUPPORTED)?;
        let chat = ChatRequest {
            model: envelope.model,
            messages: Vec::new(),
            begun: false,
            tools,
            effort,
            prediction: None,
            template_variables: Map::new(),
            top_logprobs: wants_logprobs.then(|| u8::try_from(top.unwrap_or(0)).expect("it is at most 20")),
            store,
            metadata,
            options,
        };
        let echo = echo.finish(&chat, background, conversation.as_deref());
        Ok(Self {
            input,
            instructions,
            previous_response_id,
            conversation,
            background,
            encrypted_reasoning: include.iter().any(|wanted| wanted == ENCRYPTED),
            summary,
            chat,
            echo,
        })
    }
}

/// A name of something that is kept here.
fn id(fields: &mut Fields, name: &str) -> Result<Option<String>, WireError> {
    match fields.string(name)? {
        Some(id) if id.is_empty() || id.chars().count() > ID_CHARS_MAX => {
            Err(fields.out_of_range(name, &format!("1 to {ID_CHARS_MAX} characters long")))
        }
        id => Ok(id),
    }
}

/// A conversation, by its name or in an object.
fn conversation(fields: &mut Fields) -> Result<Option<String>, WireError> {
    if !fields.peek("conversation").is_some_and(Value::is_object) {
        return id(fields, "conversation");
    }
    let value = fields.required("conversation")?;
    let mut inner = Fields::of("conversation", value)?;
    let found = id(&mut inner, "id")?.ok_or_else(|| inner.missing("id"))?;
    inner.finish(&[])?;
    Ok(Some(found))
}

/// Whether the oldest of a conversation that is too long is left out.
fn truncation(fields: &mut Fields) -> Result<bool, WireError> {
    match fields.string("truncation")?.as_deref() {
        None | Some("disabled") => Ok(false),
        Some("auto") => Ok(true),
        Some(_) => Err(fields.out_of_range("truncation", "auto or disabled")),
    }
}

fn stream_options(fields: &mut Fields, stream: bool) -> Result<(), WireError> {
    let Some(value) = fields.take("stream_options") else { return Ok(()) };
    if !stream {
        return Err(fields.error("stream_options", "invalid_value", "`stream_options` needs `stream` to be true"));
    }
    let mut inner = Fields::of("stream_options", value)?;
    // OpenAI's padding against listeners on the line; there is none to send.
    inner.boolean("include_obfuscation")?;
    inner.finish(&[])
}

/// How long a response in the background may take: here it begins at once.
fn background_options(fields: &mut Fields) -> Result<(), WireError> {
    let Some(value) = fields.take("background_options") else { return Ok(()) };
    let mut inner = Fields::of("background_options", value)?;
    inner.only("completion_window", |value| value == "soonest")?;
    // Which others it belongs with; it adds nothing to what is asked.
    inner.string("continuation_id")?;
    inner.finish(&[])
}

fn include(fields: &mut Fields) -> Result<Vec<String>, WireError> {
    let values = match fields.take("include") {
        None => return Ok(Vec::new()),
        Some(Value::Array(values)) => values,
        Some(other) => return Err(fields.wrong_type("include", "an array of strings", &other)),
    };
    let numbered = values.into_iter().enumerate();
    let wanted = numbered.map(|(index, value)| match value {
        Value::String(word) if INCLUDABLE.contains(&word.as_str()) => Ok(word),
        Value::String(_) => Err(WireError::out_of_range(&format!("include[{index}]"), &INCLUDABLE.join(" or "))),
        other => Err(WireError::wrong_type(&format!("include[{index}]"), "a string", &other)),
    });
    wanted.collect()
}

/// How much to think, and whether that is told as its summary.
fn reasoning(fields: &mut Fields) -> Result<(Option<Effort>, bool), WireError> {
    let Some(value) = fields.take("reasoning") else { return Ok((None, false)) };
    let mut inner = Fields::of("reasoning", value)?;
    let effort = Effort::take(&mut inner, "effort")?;
    let mut summary = false;
    // The second is the older name.
    for name in ["summary", "generate_summary"] {
        match inner.string(name)?.as_deref() {
            None => {}
            Some("auto" | "concise" | "detailed") => summary = true,
            Some(_) => return Err(inner.out_of_range(name, "auto, concise or detailed")),
        }
    }
    inner.only("context", |value| value == "auto")?;
    inner.only("mode", |value| value == "standard")?;
    inner.finish(&[])?;
    Ok((effort, summary))
}

/// What the answer must be.
fn text(fields: &mut Fields, echo: &mut Echo) -> Result<Option<Constraint>, WireError> {
    let Some(value) = fields.take("text") else { return Ok(None) };
    let mut inner = Fields::of("text", value)?;
    verbosity(&mut inner)?;
    let format = inner.take("format");
    inner.finish(&[])?;
    let Some(format) = format else { return Ok(None) };
    echo.format(&format);
    let mut fields = Fields::of("text.format", format)?;
    match fields.required_string("type")?.as_str() {
        "text" => fields.finish(&[]).map(|()| None),
        "json_object" => {
            fields.finish(&[])?;
            Ok(Some(Constraint { param: "text.format".into(), form: Form::JsonObject }))
        }
        "json_schema" => json_schema(fields).map(Some),
        _ => Err(fields.out_of_range("type", "text, json_object or json_schema")),
    }
}

/// Fields that are checked, and have no effect on an answer here.
fn accept_what_changes_nothing(fields: &mut Fields) -> Result<(), WireError> {
    // It bounds calls of tools that OpenAI runs; there are none here.
    fields.count("max_tool_calls", 1..=u32::MAX)?;
    for name in ["user", "safety_identifier", "prompt_cache_key"] {
        if fields.string(name)?.is_some_and(|text| text.chars().count() > CACHED_WORD_CHARS_MAX) {
            return Err(fields.out_of_range(name, &format!("at most {CACHED_WORD_CHARS_MAX} characters long")));
        }
    }
    if fields.string("prompt_cache_retention")?.is_some_and(|word| !RETENTIONS.contains(&word.as_str())) {
        return Err(fields.out_of_range("prompt_cache_retention", "in_memory or 24h"));
    }
    // What Codex tells of itself, beside the prompt.
    for name in ["prompt_cache_options", "client_metadata"] {
        if let Some(value) = fields.take(name) {
            Fields::of(name, value)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversation::ToolChoice;
    use serde_json::json;

    fn parse(body: &Value) -> Result<ResponsesRequest, WireError> {
        ResponsesRequest::parse(Envelope::parse(body.to_string().as_bytes())?)
    }

    fn with(name: &str, value: Value) -> Value {
        let mut body = json!({"model": "m", "input": "hi"});
        body[name] = value;
        body
    }

    #[test]
    fn every_field_is_read() {
        let function = json!({"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": true});
        let schema = json!({"type": "json_schema", "name": "s", "schema": {"type": "object"}});
        let request = parse(&json!({
            "model": "m", "input": "hi", "instructions": "be brief", "background": true, "stream": true,
            "stream_options": {"include_obfuscation": false}, "include": [LOGPROBS, ENCRYPTED], "top_logprobs": 2,
            "max_output_tokens": 9, "max_tool_calls": 1, "metadata": {"a": "b"}, "parallel_tool_calls": false,
            "previous_response_id": "resp_1", "prompt_cache_key": "k", "reasoning": {"effort": "low", "summary": "auto"},
            "safety_identifier": "s", "service_tier": "flex", "temperature": 0.5, "top_p": 0.25, "user": "u",
            "text": {"format": schema, "verbosity": "low"}, "tools": [function], "truncation": "disabled",
            "tool_choice": {"type": "function", "name": "f"}, "prompt": null,
        }))
        .unwrap();
        assert!(request.background && request.encrypted_reasoning && request.summary && request.chat.store);
        assert_eq!(
            (request.instructions.as_deref(), request.previous_response_id.as_deref()),
            (Some("be brief"), Some("resp_1"))
        );
        let chat = &request.chat;
        assert_eq!((chat.effort, chat.top_logprobs, &chat.metadata["a"]), (Some(Effort::Low), Some(2), &json!("b")));
        assert_eq!((chat.tools.choice.clone(), chat.tools.parallel), (ToolChoice::Named("f".into()), Some(false)));
        let options = &chat.options;
        assert_eq!((options.max_tokens, options.stream, options.service_tier), (Some(9), true, ServiceTier::Flex));
        assert_eq!((options.sampling.temperature, options.sampling.top_p), (Some(0.5), Some(0.25)));
        assert_eq!(options.constraint.as_ref().unwrap().param, "text.format.schema");
        assert_eq!(
            request.echo["tools"][0],
            json!({"type": "function", "name": "f", "description": null,
            "parameters": {"type": "object"}, "strict": true})
        );
        assert_eq!(request.echo["text"]["verbosity"], "low");
        assert_eq!(request.echo["temperature"], json!(0.5));
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        let refused = |name: &str, value: Value, param: &str, code: &str| {
            let error = parse(&with(name, value)).unwrap_err();
            assert_eq!((error.param.as_deref(), error.code), (Some(param), Some(code)), "{error}");
        };
        for name in UNSUPPORTED {
            refused(name, json!({"id": "x"}), name, "unsupported_parameter");
        }
        refused(
            "background_options",
            json!({"completion_window": "8h"}),
            "background_options.completion_window",
            "unsupported_parameter",
        );
        let called = json!([{"type": "function", "name": "f", "allowed_callers": ["programmatic"]}]);
        refused("tools", called, "tools[0].allowed_callers", "unsupported_parameter");
        refused(
            "tools",
            json!([{"type": "custom", "name": "f", "async": true}]),
            "tools[0].async",
            "unsupported_parameter",
        );
        refused("truncation", json!("often"), "truncation", "invalid_value");
        refused("conversation", json!({"name": "x"}), "conversation.id", "missing_required_parameter");
        refused("conversation", json!(5), "conversation", "invalid_type");
        refused("tools", json!([{"type": "file_search"}]), "tools[0].type", "unsupported_parameter");
        refused("tools", json!([{"type": "custom"}]), "tools[0].name", "missing_required_parameter");
        refused("tools", json!([{"type": "function"}]), "tools[0].name", "missing_required_parameter");
        refused("tool_choice", json!({"type": "mcp"}), "tool_choice.type", "unsupported_parameter");
        refused("tool_choice", json!("required"), "tool_choice", "invalid_value");
        refused("include", json!(["everything"]), "include[0]", "invalid_value");
        refused("reasoning", json!({"effort": "much"}), "reasoning.effort", "invalid_value");
        refused("reasoning", json!({"summary": "long"}), "reasoning.summary", "invalid_value");
        refused("text", json!({"format": {"type": "xml"}}), "text.format.type", "invalid_value");
        refused("text", json!({"format": {"type": "json_schema"}}), "text.format.name", "missing_required_parameter");
        refused("max_output_tokens", json!(0), "max_output_tokens", "invalid_value");
        refused("max_tokens", json!(5), "max_tokens", "unknown_parameter");
        refused("stream_options", json!({}), "stream_options", "invalid_value");
        refused("previous_response_id", json!(""), "previous_response_id", "invalid_value");
        refused("input", json!([]), "input", "invalid_value");
        refused("input", json!(5), "input", "invalid_type");
        let error = parse(&json!({"model": "m", "input": "", "background": true, "store": false})).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("background"));
        assert_eq!(parse(&json!({"model": "m"})).unwrap_err().param.as_deref(), Some("input"));
        let both = json!({"model": "m", "input": "", "conversation": "conv_1", "previous_response_id": "resp_1"});
        assert_eq!(parse(&both).unwrap_err().param.as_deref(), Some("previous_response_id"));
    }

    #[test]
    fn a_conversation_is_named_in_either_way() {
        for said in [json!("conv_1"), json!({"id": "conv_1"})] {
            let request = parse(&json!({"model": "m", "conversation": said, "truncation": "auto"})).unwrap();
            assert_eq!((request.conversation.as_deref(), request.input.len()), (Some("conv_1"), 0));
            assert_eq!(request.echo["conversation"], json!({"id": "conv_1"}));
            assert_eq!((request.chat.options.drops_oldest, &request.echo["truncation"]), (true, &json!("auto")));
        }
    }
}
