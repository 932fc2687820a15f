//! `POST /v1/chat/completions`.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::fields::{Envelope, Fields, WireError};
use crate::options::Options;

/// Messages of one conversation.
const MESSAGES_MAX: usize = 4096;

/// Fields of OpenAI's API that are refused whatever they say.
const UNSUPPORTED: &[&str] =
    &["audio", "functions", "moderation", "prediction", "reasoning_effort", "verbosity", "web_search_options"];

/// A validated chat request.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatRequest {
    /// The model asked for.
    pub model: String,
    /// The conversation, at least one message.
    pub messages: Vec<Message>,
    /// Log probabilities wanted: how many alternatives at each token.
    pub top_logprobs: Option<u8>,
    /// The rest.
    pub options: Options,
}

/// One message, as a chat template reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: &'static str,
    /// Its text.
    pub content: String,
    /// The speaker, for templates that tell several apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl ChatRequest {
    /// Validates a request.
    ///
    /// # Errors
    /// [`WireError`] naming the field that cannot be honoured.
    pub fn parse(envelope: Envelope) -> Result<Self, WireError> {
        let mut fields = Fields::new(envelope.body);
        fields.take("model");
        let messages = messages(fields.required("messages")?)?;
        let logprobs = fields.boolean("logprobs")?.unwrap_or(false);
        let top = fields.count("top_logprobs", 0..=20)?;
        if top.is_some() && !logprobs {
            return Err(WireError::new("top_logprobs", "invalid_value", "`top_logprobs` needs `logprobs` to be true"));
        }
        let options = Options::take(&mut fields)?;
        refuse_unsupported(&mut fields)?;
        fields.finish(UNSUPPORTED)?;
        let top_logprobs = logprobs.then(|| u8::try_from(top.unwrap_or(0)).expect("it is at most 20"));
        Ok(Self { model: envelope.model, messages, top_logprobs, options })
    }
}

/// Fields that are accepted when they ask for nothing beyond what we do anyway.
fn refuse_unsupported(fields: &mut Fields) -> Result<(), WireError> {
    let empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
    fields.only("tools", empty)?;
    fields.only("functions", empty)?;
    fields.only("tool_choice", |value| value == "none" || value == "auto")?;
    fields.only("function_call", |value| value == "none" || value == "auto")?;
    fields.only("parallel_tool_calls", Value::is_boolean)?;
    fields.only("modalities", |value| *value == serde_json::json!(["text"]))?;
    fields.only("store", |value| value == false)?;
    fields.only("metadata", |value| value.as_object().is_some_and(Map::is_empty))?;
    // Hints to OpenAI about abuse and caching; they change nothing in an answer.
    fields.string("safety_identifier")?;
    fields.string("prompt_cache_key")?;
    Ok(())
}

fn messages(value: Value) -> Result<Vec<Message>, WireError> {
    let Value::Array(values) = value else { return Err(WireError::wrong_type("messages", "an array", &value)) };
    if values.is_empty() || values.len() > MESSAGES_MAX {
        return Err(WireError::out_of_range("messages", &format!("an array of 1 to {MESSAGES_MAX} messages")));
    }
    values.into_iter().enumerate().map(|(index, value)| message(&format!("messages[{index}]"), value)).collect()
}

fn message(path: &str, value: Value) -> Result<Message, WireError> {
    let Value::Object(map) = value else { return Err(WireError::wrong_type(path, "an object", &value)) };
    let mut fields = Fields::new(map);
    let within = |error: WireError| error.within(path);
    let role = match fields.required("role").map_err(within)? {
        Value::String(role) => role_name(path, &role)?,
        other => return Err(WireError::wrong_type(&format!("{path}.role"), "a string", &other)),
    };
    let content = content(&format!("{path}.content"), fields.required("content").map_err(within)?)?;
    let name = fields.string("name").map_err(within)?;
    fields.only("tool_calls", |value| value.as_array().is_some_and(Vec::is_empty)).map_err(within)?;
    fields.only("refusal", |_| false).map_err(within)?;
    fields.only("annotations", |value| value.as_array().is_some_and(Vec::is_empty)).map_err(within)?;
    fields.finish(&["audio", "function_call", "tool_call_id"]).map_err(within)?;
    Ok(Message { role, content, name })
}

fn role_name(path: &str, role: &str) -> Result<&'static str, WireError> {
    let param = format!("{path}.role");
    match role {
        // OpenAI's newer name for the same thing; templates know the older one.
        "system" | "developer" => Ok("system"),
        "user" => Ok("user"),
        "assistant" => Ok("assistant"),
        "tool" | "function" => Err(WireError::unsupported(&param, " for tool results")),
        _ => Err(WireError::out_of_range(&param, "system, developer, user or assistant")),
    }
}

/// Text, or text in parts.
fn content(path: &str, value: Value) -> Result<String, WireError> {
    let parts = match value {
        Value::String(text) => return Ok(text),
        Value::Array(parts) => parts,
        other => return Err(WireError::wrong_type(path, "a string or an array of parts", &other)),
    };
    let mut text = String::new();
    for (index, value) in parts.into_iter().enumerate() {
        text.push_str(&part(&format!("{path}[{index}]"), value)?);
    }
    Ok(text)
}

fn part(path: &str, value: Value) -> Result<String, WireError> {
    let Value::Object(map) = value else { return Err(WireError::wrong_type(path, "an object", &value)) };
    let mut fields = Fields::new(map);
    let within = |error: WireError| error.within(path);
    let kind = fields.string("type").map_err(within)?.unwrap_or_default();
    if kind != "text" {
        return Err(WireError::unsupported(&format!("{path}.type"), &format!(" for `{kind}` parts")));
    }
    let text = fields.string("text").and_then(|text| text.ok_or_else(|| WireError::missing("text"))).map_err(within)?;
    fields.finish(&[]).map_err(within)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::ServiceTier;
    use proptest::prelude::*;
    use serde_json::json;

    fn parse(body: &Value) -> Result<ChatRequest, WireError> {
        ChatRequest::parse(Envelope::parse(body.to_string().as_bytes())?)
    }

    fn with(name: &str, value: Value) -> Value {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        body[name] = value;
        body
    }

    /// A field, a value for it, and the `param` and `code` of the refusal.
    fn refused(name: &str, value: Value, param: &str, code: &str) {
        let error = parse(&with(name, value)).unwrap_err();
        assert_eq!((error.param.as_deref(), error.code), (Some(param), Some(code)), "{error}");
        let shown = param.rsplit('.').next().unwrap();
        assert!(error.message.contains(shown), "{error}");
    }

    #[test]
    fn what_is_left_open_is_for_the_model() {
        let request = parse(&with("user", json!("u"))).unwrap();
        assert_eq!(request.messages, [Message { role: "user", content: "hi".into(), name: None }]);
        assert_eq!((request.options.choices, request.options.stream, request.top_logprobs), (1, false, None));
        let sampling = request.options.sampling;
        assert_eq!((sampling.temperature, sampling.top_p, sampling.seed), (None, None, None));
    }

    #[test]
    fn every_field_is_read() {
        let body = json!({
            "model": "m", "messages": [
                {"role": "developer", "content": [{"type": "text", "text": "be "}, {"type": "text", "text": "brief"}]},
                {"role": "user", "content": "hi", "name": "anna"}],
            "temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.1, "seed": -7, "stop": ["a", "b"],
            "max_completion_tokens": 9, "n": 2, "presence_penalty": 1, "frequency_penalty": -1.5,
            "logit_bias": {"5": -100, "6": 2.5}, "logprobs": true, "top_logprobs": 3, "user": "u",
            "stream": true, "stream_options": {"include_usage": true},
            "tools": [], "store": false, "response_format": {"type": "text"}, "service_tier": "flex",
        });
        let request = parse(&body).unwrap();
        assert_eq!(request.messages[0], Message { role: "system", content: "be brief".into(), name: None });
        assert_eq!(request.messages[1].name.as_deref(), Some("anna"));
        let options = &request.options;
        assert_eq!((options.max_tokens, options.choices, request.top_logprobs), (Some(9), 2, Some(3)));
        assert_eq!((options.stream, options.include_usage), (true, true));
        assert_eq!(options.stop, ["a", "b"]);
        assert_eq!(options.service_tier, ServiceTier::Flex);
        let sampling = &options.sampling;
        assert_eq!((sampling.temperature, sampling.top_p), (Some(0.5), Some(0.9)));
        assert_eq!((sampling.top_k, sampling.min_p), (Some(40), Some(0.1)));
        assert_eq!((sampling.presence_penalty, sampling.frequency_penalty, sampling.seed), (1.0, -1.5, Some(-7)));
        assert_eq!(sampling.logit_bias, [(5, -100.0), (6, 2.5)]);
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        refused("temperature", json!("hot"), "temperature", "invalid_type");
        refused("temperature", json!(2.1), "temperature", "invalid_value");
        refused("temperature", json!(-1), "temperature", "invalid_value");
        refused("max_tokens", json!(0), "max_tokens", "invalid_value");
        refused("max_tokens", json!(-5), "max_tokens", "invalid_value");
        refused("max_tokens", json!(1.5), "max_tokens", "invalid_value");
        refused("n", json!(9), "n", "invalid_value");
        refused("service_tier", json!("scale"), "service_tier", "invalid_value");
        refused("service_tier", json!(1), "service_tier", "invalid_type");
        refused("stop", json!(["a", "b", "c", "d", "e"]), "stop", "invalid_value");
        refused("stop", json!(""), "stop", "invalid_value");
        refused("stop", json!("x".repeat(16_385)), "stop", "invalid_value");
        refused("stop", json!([1]), "stop", "invalid_type");
        refused("logit_bias", json!({"x": 1}), "logit_bias.x", "invalid_value");
        refused("logit_bias", json!({"1": 101}), "logit_bias.1", "invalid_value");
        refused("top_logprobs", json!(2), "top_logprobs", "invalid_value");
        refused("tools", json!([{"type": "function"}]), "tools", "unsupported_parameter");
        refused("response_format", json!({"type": "xml"}), "response_format.type", "invalid_value");
        refused("reasoning_effort", json!("low"), "reasoning_effort", "unsupported_parameter");
        refused("store", json!(true), "store", "unsupported_parameter");
        refused("stream_options", json!({"include_usage": true}), "stream_options", "invalid_value");
        refused("temperatur", json!(1), "temperatur", "unknown_parameter");
        refused("messages", json!([]), "messages", "invalid_value");
        refused("messages", json!("hi"), "messages", "invalid_type");
        refused("messages", json!([{"role": "user"}]), "messages[0].content", "missing_required_parameter");
        refused("messages", json!([{"role": "king", "content": ""}]), "messages[0].role", "invalid_value");
        refused("messages", json!([{"role": "user", "content": 5}]), "messages[0].content", "invalid_type");
        let image = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]);
        refused("messages", image, "messages[0].content[0].type", "unsupported_parameter");
        let part = json!([{"role": "user", "content": [{"type": "text", "text": "x", "bold": true}]}]);
        refused("messages", part, "messages[0].content[0].bold", "unknown_parameter");
        let part = json!([{"role": "user", "content": [{"type": "text"}]}]);
        refused("messages", part, "messages[0].content[0].text", "missing_required_parameter");
    }

    #[test]
    fn what_is_no_request_at_all_is_refused() {
        for body in ["", "{", "[]", "5", "{\"temperature\": NaN}", "\u{1}", &"[".repeat(10_000)] {
            assert_eq!(Envelope::parse(body.as_bytes()).unwrap_err().code, Some("invalid_json"), "{body:.20}");
        }
        assert_eq!(Envelope::parse(b"{\"model\": \"\xFF\"}").unwrap_err().code, Some("invalid_json"));
        assert_eq!(Envelope::parse(b"{}").unwrap_err().param.as_deref(), Some("model"));
        assert_eq!(Envelope::parse(b"{\"model\": 5}").unwrap_err().code, Some("invalid_type"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            if let Ok(envelope) = Envelope::parse(&bytes) {
                let _ = ChatRequest::parse(envelope);
            }
        }
    }
}
