//! `POST /v1/chat/completions`.

mod effort;

use serde_json::{Map, Value};

use crate::conversation::{ChatRequest, Tools};
use crate::fields::{Envelope, Fields, WireError, object};
use crate::message::{PARTS_MAX, cache_breakpoint, messages};
use crate::options::Options;

/// Fields of OpenAI's API that are refused whatever they say.
const UNSUPPORTED: &[&str] = &["audio", "functions", "moderation", "web_search_options"];
/// Pairs of `metadata`, and characters of their keys and values, as OpenAI's API has it.
pub(crate) const METADATA_MAX: (usize, usize, usize) = (16, 64, 512);
/// Bytes of a predicted answer.
pub(crate) const PREDICTION_BYTES_MAX: usize = 1024 * 1024;

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
            return Err(fields.error("top_logprobs", "invalid_value", "`top_logprobs` needs `logprobs` to be true"));
        }
        let options = Options::take(&mut fields, 1)?;
        let tools = Tools::take(&mut fields)?;
        let effort = effort::take(&mut fields)?;
        let prediction = prediction(&mut fields)?;
        let template_variables = match fields.take("chat_template_kwargs") {
            None => Map::new(),
            Some(Value::Object(map)) => map,
            Some(other) => return Err(fields.wrong_type("chat_template_kwargs", "an object", &other)),
        };
        let store = fields.boolean("store")?.unwrap_or(false);
        let metadata = metadata(&mut fields)?;
        accept_what_changes_nothing(&mut fields)?;
        fields.finish(UNSUPPORTED)?;
        let top_logprobs = logprobs.then(|| u8::try_from(top.unwrap_or(0)).expect("it is at most 20"));
        Ok(Self {
            model: envelope.model,
            messages,
            begun: false,
            tools,
            effort,
            prediction,
            template_variables,
            top_logprobs,
            store,
            metadata,
            options,
        })
    }
}

/// What an answer is expected to repeat: text, or text in parts.
fn prediction(fields: &mut Fields) -> Result<Option<String>, WireError> {
    let Some(value) = fields.take("prediction") else { return Ok(None) };
    let mut inner = Fields::of("prediction", value)?;
    if inner.required_string("type")? != "content" {
        return Err(inner.out_of_range("type", "content"));
    }
    let content = inner.required("content")?;
    let path = inner.path_of("content");
    inner.finish(&[])?;
    let text = match content {
        Value::String(text) => text,
        Value::Array(parts) if parts.len() > PARTS_MAX => {
            return Err(WireError::out_of_range(&path, &format!("at most {PARTS_MAX} parts")));
        }
        Value::Array(parts) => {
            let numbered = parts.into_iter().enumerate();
            numbered.map(|(index, part)| text_part(&format!("{path}[{index}]"), part)).collect::<Result<_, _>>()?
        }
        other => return Err(WireError::wrong_type(&path, "a string or an array of parts", &other)),
    };
    if text.len() > PREDICTION_BYTES_MAX {
        return Err(WireError::out_of_range(&path, &format!("at most {PREDICTION_BYTES_MAX} bytes")));
    }
    Ok(Some(text))
}

fn text_part(path: &str, value: Value) -> Result<String, WireError> {
    let mut fields = Fields::of(path, value)?;
    if fields.required_string("type")? != "text" {
        return Err(fields.out_of_range("type", "text"));
    }
    let text = fields.required_string("text")?;
    cache_breakpoint(&mut fields)?;
    fields.finish(&[])?;
    Ok(text)
}

/// Fields that are checked, and have no effect on an answer here.
fn accept_what_changes_nothing(fields: &mut Fields) -> Result<(), WireError> {
    let empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
    fields.only("functions", empty)?;
    fields.only("function_call", |value| value == "none" || value == "auto")?;
    fields.only("modalities", |value| *value == serde_json::json!(["text"]))?;
    verbosity(fields)?;
    // Hints to OpenAI about abuse and caching.
    fields.string("safety_identifier")?;
    fields.string("prompt_cache_key")?;
    fields.string("prompt_cache_retention")?;
    if let Some(value) = fields.take("prompt_cache_options") {
        Fields::of("prompt_cache_options", value)?;
    }
    // llama-server's: what is known is always used.
    fields.boolean("cache_prompt")?;
    // OpenRouter's: usage is told in any case, and in a stream where `stream_options` wants it.
    if let Some(value) = fields.take("usage") {
        let mut usage = Fields::of("usage", value)?;
        usage.boolean("include")?;
        usage.finish(&[])?;
    }
    Ok(())
}

/// A wish for longer or shorter answers, which models here have no notion of.
pub(crate) fn verbosity(fields: &mut Fields) -> Result<Option<String>, WireError> {
    match fields.string("verbosity")? {
        Some(word) if !matches!(word.as_str(), "low" | "medium" | "high") => {
            Err(fields.out_of_range("verbosity", "low, medium or high"))
        }
        word => Ok(word),
    }
}

/// Reads a body that says nothing but `metadata`.
///
/// # Errors
/// [`WireError`] naming what cannot be honoured.
pub fn metadata_of(bytes: &[u8]) -> Result<Map<String, Value>, WireError> {
    let mut fields = Fields::new(object(bytes)?);
    let metadata = metadata(&mut fields)?;
    fields.finish(&[])?;
    Ok(metadata)
}

/// Words of the client's own about a request.
pub(crate) fn metadata(fields: &mut Fields) -> Result<Map<String, Value>, WireError> {
    let (pairs, key_chars, value_chars) = METADATA_MAX;
    let map = match fields.take("metadata") {
        None => return Ok(Map::new()),
        Some(Value::Object(map)) => map,
        Some(other) => return Err(fields.wrong_type("metadata", "an object", &other)),
    };
    if map.len() > pairs || map.keys().any(|key| key.chars().count() > key_chars) {
        let wanted = format!("an object of at most {pairs} pairs with keys of at most {key_chars} characters");
        return Err(fields.out_of_range("metadata", &wanted));
    }
    for (key, value) in &map {
        let path = format!("metadata.{key}");
        match value {
            Value::String(text) if text.chars().count() <= value_chars => {}
            Value::String(_) => {
                return Err(fields.out_of_range(&path, &format!("at most {value_chars} characters long")));
            }
            other => return Err(fields.wrong_type(&path, "a string", other)),
        }
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversation::{Effort, Message, Role};
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
        assert_eq!(request.messages, [Message::text(Role::User, "hi")]);
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
        assert_eq!((request.messages[0].role, request.messages[0].all_text().as_str()), (Role::System, "be brief"));
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
        refused("chat_template_kwargs", json!([]), "chat_template_kwargs", "invalid_type");
        refused("response_format", json!({"type": "xml"}), "response_format.type", "invalid_value");
        refused("reasoning_effort", json!("much"), "reasoning_effort", "invalid_value");
        refused("verbosity", json!("much"), "verbosity", "invalid_value");
        refused("audio", json!({}), "audio", "unsupported_parameter");
        refused("prediction", json!({"type": "text"}), "prediction.type", "invalid_value");
        refused("prediction", json!({"type": "content", "content": 5}), "prediction.content", "invalid_type");
        refused("metadata", json!({"a": 1}), "metadata.a", "invalid_type");
        refused("metadata", json!({"a": "x".repeat(513)}), "metadata.a", "invalid_value");
        refused("store", json!("yes"), "store", "invalid_type");
        refused("stream_options", json!({"include_usage": true}), "stream_options", "invalid_value");
        refused("temperatur", json!(1), "temperatur", "unknown_parameter");
        refused("messages", json!([]), "messages", "invalid_value");
        refused("messages", json!("hi"), "messages", "invalid_type");
        refused("messages", json!([{"role": "user"}]), "messages[0].content", "missing_required_parameter");
        refused("messages", json!([{"role": "king", "content": ""}]), "messages[0].role", "invalid_value");
        refused("messages", json!([{"role": "user", "content": 5}]), "messages[0].content", "invalid_type");
        let audio = json!([{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]);
        refused("messages", audio, "messages[0].content[0].type", "unsupported_parameter");
        let part = json!([{"role": "user", "content": [{"type": "text", "text": "x", "bold": true}]}]);
        refused("messages", part, "messages[0].content[0].bold", "unknown_parameter");
        let part = json!([{"role": "user", "content": [{"type": "text"}]}]);
        refused("messages", part, "messages[0].content[0].text", "missing_required_parameter");
    }

    #[test]
    fn what_is_expected_and_kept_is_read() {
        let parts = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
        let mut body = with("prediction", json!({"type": "content", "content": parts}));
        body["store"] = json!(true);
        body["metadata"] = json!({"topic": "tea"});
        body["reasoning_effort"] = json!("high");
        body["chat_template_kwargs"] = json!({"enable_thinking": false});
        let request = parse(&body).unwrap();
        assert_eq!((request.prediction.as_deref(), request.effort), (Some("ab"), Some(Effort::High)));
        assert_eq!((request.store, &request.metadata["topic"]), (true, &json!("tea")));
        assert_eq!(request.template_variables["enable_thinking"], json!(false));
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
