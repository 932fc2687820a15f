//! `POST /api/embed` and the older `POST /api/embeddings`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::keep::keep_alive;
use super::options;
use crate::fields::{Envelope, Fields, WireError};

/// Texts of one request, as in OpenAI's API.
const INPUTS_MAX: usize = 2048;

/// A validated request for vectors, in Ollama's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OllamaEmbed {
    /// The texts; none only loads the model.
    pub inputs: Vec<String>,
    /// Whether a text that is too long for the model is cut.
    pub cuts: bool,
    /// Numbers wanted in each vector; `None` for all.
    pub dimensions: Option<u32>,
    /// How long the model is to stay in memory: [`Duration::MAX`] for ever.
    pub keep_alive: Option<Duration>,
}

impl OllamaEmbed {
    /// Validates a request to `/api/embed`.
    ///
    /// # Errors
    /// [`WireError`] naming the field that cannot be honoured.
    pub fn parse(envelope: Envelope) -> Result<Self, WireError> {
        let mut fields = Fields::new(envelope.body);
        let inputs = match fields.take("input") {
            None => Vec::new(),
            Some(Value::String(text)) if text.is_empty() => Vec::new(),
            Some(Value::String(text)) => vec![text],
            Some(Value::Array(values)) if values.len() > INPUTS_MAX => {
                return Err(fields.out_of_range("input", &format!("at most {INPUTS_MAX} texts")));
            }
            Some(Value::Array(values)) => {
                values.into_iter().enumerate().map(text_of).collect::<Result<Vec<String>, WireError>>()?
            }
            Some(other) => return Err(fields.wrong_type("input", "a string or an array of strings", &other)),
        };
        let cuts = fields.boolean("truncate")?.unwrap_or(true);
        // Nothing asked is all of them.
        let dimensions = fields.count("dimensions", 0..=u32::MAX)?.filter(|wanted| *wanted > 0);
        Self::rest(fields, inputs, cuts, dimensions)
    }

    /// Validates a request to `/api/embeddings`.
    ///
    /// # Errors
    /// [`WireError`] naming the field that cannot be honoured.
    pub fn parse_old(envelope: Envelope) -> Result<Self, WireError> {
        let mut fields = Fields::new(envelope.body);
        let prompt = fields.string("prompt")?.filter(|prompt| !prompt.is_empty());
        Self::rest(fields, prompt.into_iter().collect(), true, None)
    }

    fn rest(mut fields: Fields, inputs: Vec<String>, cuts: bool, dimensions: Option<u32>) -> Result<Self, WireError> {
        fields.take("model");
        // What they say is for texts that are generated, and for the machine.
        options::options(&mut fields)?;
        let keep_alive = keep_alive(&mut fields)?;
        // Vectors come at once.
        fields.take("stream");
        fields.finish(&[])?;
        Ok(Self { inputs, cuts, dimensions, keep_alive })
    }
}

fn text_of((index, value): (usize, Value)) -> Result<String, WireError> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(WireError::wrong_type(&format!("input[{index}]"), "a string", &other)),
    }
}

/// The answer of `/api/embed`. Times are in nanoseconds.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[allow(missing_docs, reason = "the fields are Ollama's")]
pub struct Embedded<'a> {
    pub model: &'a str,
    pub embeddings: Vec<Vec<f32>>,
    pub total_duration: u64,
    pub load_duration: u64,
    pub prompt_eval_count: u32,
}

/// The answer of `/api/embeddings`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[allow(missing_docs, reason = "the fields are Ollama's")]
pub struct EmbeddedOne {
    pub embedding: Vec<f32>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn embed(body: &Value) -> Result<OllamaEmbed, WireError> {
        OllamaEmbed::parse(Envelope::parse(body.to_string().as_bytes())?)
    }

    #[test]
    fn texts_come_alone_or_in_a_list() {
        let body = json!({"model": "m", "input": ["a", ""], "truncate": false, "dimensions": 5, "keep_alive": "1s",
            "options": {"num_ctx": 9, "temperature": 0}});
        let expected = OllamaEmbed {
            inputs: vec!["a".into(), String::new()],
            cuts: false,
            dimensions: Some(5),
            keep_alive: Some(Duration::from_secs(1)),
        };
        assert_eq!(embed(&body).unwrap(), expected);
        let plain = embed(&json!({"model": "m", "input": "a"})).unwrap();
        assert_eq!((plain.inputs.len(), plain.cuts, plain.dimensions, plain.keep_alive), (1, true, None, None));
        for nothing in [json!({"model": "m"}), json!({"model": "m", "input": ""}), json!({"model": "m", "input": []})] {
            assert_eq!(embed(&nothing).unwrap().inputs, Vec::<String>::new());
        }
        let old = |body: &Value| OllamaEmbed::parse_old(Envelope::parse(body.to_string().as_bytes())?);
        assert_eq!(old(&json!({"model": "m", "prompt": "a"})).unwrap().inputs, ["a"]);
        assert_eq!(old(&json!({"model": "m", "prompt": ""})).unwrap().inputs, Vec::<String>::new());
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        for (name, value, param) in [
            ("input", json!(5), "input"),
            ("input", json!(["a", 5]), "input[1]"),
            ("input", json!(vec!["a"; 3000]), "input"),
            ("truncate", json!("no"), "truncate"),
            ("dimensions", json!(-1), "dimensions"),
            ("options", json!({"nonsense": 1}), "options.nonsense"),
            ("nonsense", json!(1), "nonsense"),
        ] {
            let mut body = json!({"model": "m", "input": "a"});
            body[name] = value;
            assert_eq!(embed(&body).unwrap_err().param.as_deref(), Some(param));
        }
    }
}
