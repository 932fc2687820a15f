//! `POST /api/embed`, and `POST /api/embeddings`, its predecessor.

use serde::Serialize;
use serde_json::Value;

use super::keep_alive;
use super::options::options;
use crate::embedding::{INPUTS_MAX, not_empty};
use crate::fields::{Envelope, Fields, WireError};

/// Texts to embed, in Ollama's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OllamaEmbed {
    /// The model asked for.
    pub model: String,
    /// None is empty. Where there is none at all, the model is only to be there.
    pub texts: Vec<String>,
    /// Whether a text that is too long is cut, as is Ollama's way where nothing is said.
    pub cuts: bool,
    /// Numbers wanted in each vector; `None` for all.
    pub dimensions: Option<u32>,
}

impl OllamaEmbed {
    /// Validates a request to `/api/embed`.
    ///
    /// # Errors
    /// [`WireError`] naming the field that cannot be honoured.
    pub fn parse(envelope: Envelope) -> Result<Self, WireError> {
        let mut fields = Fields::new(envelope.body);
        let texts = match fields.take("input") {
            None => Vec::new(),
            Some(Value::String(text)) if text.is_empty() => Vec::new(),
            Some(Value::String(text)) => vec![text],
            Some(Value::Array(values)) if values.len() > INPUTS_MAX => {
                return Err(WireError::out_of_range("input", &format!("at most {INPUTS_MAX} texts")));
            }
            Some(Value::Array(values)) => values.into_iter().enumerate().map(text).collect::<Result<_, _>>()?,
            Some(other) => return Err(WireError::wrong_type("input", "a string or an array of strings", &other)),
        };
        let cuts = fields.boolean("truncate")?.unwrap_or(true);
        let dimensions = fields.count("dimensions", 1..=u32::MAX)?;
        finish(fields)?;
        Ok(Self { model: envelope.model, texts, cuts, dimensions })
    }

    /// Validates a request to `/api/embeddings`.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_one(envelope: Envelope) -> Result<Self, WireError> {
        let mut fields = Fields::new(envelope.body);
        let prompt = fields.string("prompt")?.filter(|prompt| !prompt.is_empty());
        finish(fields)?;
        Ok(Self { model: envelope.model, texts: prompt.into_iter().collect(), cuts: true, dimensions: None })
    }
}

fn text((index, value): (usize, Value)) -> Result<String, WireError> {
    let path = format!("input[{index}]");
    match value {
        Value::String(text) => not_empty(&path, text),
        other => Err(WireError::wrong_type(&path, "a string", &other)),
    }
}

fn finish(mut fields: Fields) -> Result<(), WireError> {
    fields.take("model");
    // Nothing follows from how tokens would be chosen; what concerns the machine is checked.
    options(&mut fields)?;
    keep_alive(&mut fields)?;
    fields.finish(&[])
}

/// The answer of `/api/embed`. Times are in nanoseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the fields are Ollama's")]
pub struct Embedded<'a> {
    pub model: &'a str,
    pub embeddings: Vec<Vec<f32>>,
    pub total_duration: u64,
    pub load_duration: u64,
    pub prompt_eval_count: u32,
}

/// The answer of `/api/embeddings`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the fields are Ollama's")]
pub struct EmbeddedOne {
    pub embedding: Vec<f32>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn envelope(body: &Value) -> Envelope {
        Envelope::parse(body.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn texts_are_one_several_or_none() {
        let texts = |input: Value| OllamaEmbed::parse(envelope(&json!({"model": "m", "input": input}))).unwrap().texts;
        assert_eq!(texts(json!("a")), ["a"]);
        assert_eq!(texts(json!(["a", "b"])), ["a", "b"]);
        assert!(texts(json!("")).is_empty() && texts(json!([])).is_empty() && texts(Value::Null).is_empty());
        let old = json!({"model": "m", "prompt": "a", "options": {"num_ctx": 512}, "keep_alive": "5m"});
        assert_eq!(OllamaEmbed::parse_one(envelope(&old)).unwrap().texts, ["a"]);
    }

    #[test]
    fn fields_are_honoured_or_refused_by_name() {
        let body = json!({"model": "m", "input": "a", "truncate": false, "dimensions": 7, "keep_alive": -1});
        let request = OllamaEmbed::parse(envelope(&body)).unwrap();
        assert_eq!((request.cuts, request.dimensions), (false, Some(7)));
        for (name, value, param) in [
            ("input", json!(5), "input"),
            ("input", json!(["a", ""]), "input[1]"),
            ("input", json!([1, 2]), "input[0]"),
            ("truncate", json!("no"), "truncate"),
            ("dimensions", json!(0), "dimensions"),
            ("prompt", json!("a"), "prompt"),
            ("keep_alive", json!("soon"), "keep_alive"),
        ] {
            let mut body = json!({"model": "m"});
            body[name] = value;
            assert_eq!(OllamaEmbed::parse(envelope(&body)).unwrap_err().param.as_deref(), Some(param));
        }
    }
}
