//! `POST /v1/embeddings`.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::completion::{Prompt, tokens};
use crate::fields::{Envelope, Fields, WireError};

/// Texts of one request, as OpenAI's API has it.
pub(crate) const INPUTS_MAX: usize = 2048;

/// A validated request for embeddings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddingRequest {
    /// The model asked for.
    pub model: String,
    /// At least one; none is empty.
    pub inputs: Vec<Prompt>,
    /// How vectors are written.
    pub encoding: EmbeddingEncoding,
    /// Numbers wanted in each vector; `None` for all.
    pub dimensions: Option<u32>,
}

/// How a vector is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmbeddingEncoding {
    /// As numbers.
    Float,
    /// As the base64 of little-endian 32-bit floats.
    Base64,
}

impl EmbeddingRequest {
    /// Validates a request.
    ///
    /// # Errors
    /// [`WireError`] naming the field that cannot be honoured.
    pub fn parse(envelope: Envelope) -> Result<Self, WireError> {
        let mut fields = Fields::new(envelope.body);
        fields.take("model");
        let inputs = inputs(fields.required("input")?)?;
        let encoding = match fields.string("encoding_format")?.as_deref() {
            None | Some("float") => EmbeddingEncoding::Float,
            Some("base64") => EmbeddingEncoding::Base64,
            Some(_) => return Err(WireError::out_of_range("encoding_format", "`float` or `base64`")),
        };
        let dimensions = fields.count("dimensions", 1..=u32::MAX)?;
        // Says for whom it is; nothing follows from it here.
        fields.string("user")?;
        fields.finish(&["stream"])?;
        Ok(Self { model: envelope.model, inputs, encoding, dimensions })
    }
}

fn inputs(value: Value) -> Result<Vec<Prompt>, WireError> {
    let values = match value {
        Value::String(text) => return Ok(vec![Prompt::Text(not_empty("input", text)?)]),
        Value::Array(values) if values.first().is_some_and(Value::is_number) => {
            return Ok(vec![Prompt::Tokens(tokens("input", &values)?)]);
        }
        Value::Array(values) => values,
        other => return Err(WireError::wrong_type("input", "a string or an array", &other)),
    };
    if values.is_empty() || values.len() > INPUTS_MAX {
        let wanted = format!("1 to {INPUTS_MAX} texts; there are {}", values.len());
        return Err(WireError::out_of_range("input", &wanted));
    }
    let input = |(index, value)| {
        let path = format!("input[{index}]");
        match value {
            Value::String(text) => Ok(Prompt::Text(not_empty(&path, text)?)),
            Value::Array(values) if values.is_empty() => Err(WireError::out_of_range(&path, "at least one token")),
            Value::Array(values) => Ok(Prompt::Tokens(tokens(&path, &values)?)),
            other => Err(WireError::wrong_type(&path, "a string or an array of tokens", &other)),
        }
    };
    values.into_iter().enumerate().map(input).collect()
}

/// A text that says something.
pub(crate) fn not_empty(path: &str, text: String) -> Result<String, WireError> {
    if text.is_empty() { Err(WireError::out_of_range(path, "a text that is not empty")) } else { Ok(text) }
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct EmbeddingList<'a> {
    /// `list`.
    pub object: &'static str,
    /// One for each text, in their order.
    pub data: Vec<Embedding>,
    /// The model asked for.
    pub model: &'a str,
    /// What it cost.
    pub usage: EncoderUsage,
}

/// A text's vector.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Embedding {
    /// `embedding`.
    pub object: &'static str,
    /// Which text.
    pub index: usize,
    /// The vector.
    pub embedding: EmbeddingVector,
}

/// A vector as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum EmbeddingVector {
    /// As numbers.
    Float(Vec<f32>),
    /// As base64.
    Base64(String),
}

/// Tokens of a request that has no output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct EncoderUsage {
    /// Of all texts, with the special tokens that the model expects.
    pub prompt_tokens: u32,
    /// The same.
    pub total_tokens: u32,
}

impl EncoderUsage {
    /// So many tokens.
    #[must_use]
    pub fn new(tokens: u32) -> Self {
        Self { prompt_tokens: tokens, total_tokens: tokens }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(body: &Value) -> Result<EmbeddingRequest, WireError> {
        EmbeddingRequest::parse(Envelope::parse(body.to_string().as_bytes())?)
    }

    fn inputs_of(input: &Value) -> Result<Vec<Prompt>, WireError> {
        parse(&json!({"model": "m", "input": input})).map(|request| request.inputs)
    }

    fn param(input: &Value) -> String {
        inputs_of(input).unwrap_err().param.unwrap()
    }

    #[test]
    fn input_has_four_forms() {
        assert_eq!(inputs_of(&json!("a")).unwrap(), [Prompt::Text("a".into())]);
        assert_eq!(inputs_of(&json!(["a", " "])).unwrap(), [Prompt::Text("a".into()), Prompt::Text(" ".into())]);
        assert_eq!(inputs_of(&json!([1, 2])).unwrap(), [Prompt::Tokens(vec![1, 2])]);
        assert_eq!(inputs_of(&json!([[1], [2, 3]])).unwrap(), [Prompt::Tokens(vec![1]), Prompt::Tokens(vec![2, 3])]);
    }

    #[test]
    fn what_is_empty_too_much_or_of_another_type_is_named() {
        assert_eq!(param(&json!("")), "input");
        assert_eq!(param(&json!([])), "input");
        assert_eq!(param(&json!(["a", ""])), "input[1]");
        assert_eq!(param(&json!([[1], []])), "input[1]");
        assert_eq!(param(&json!([[1], [-1]])), "input[1][0]");
        assert_eq!(param(&json!(["a", 1])), "input[1]");
        assert_eq!(param(&json!({"a": 1})), "input");
        assert_eq!(param(&json!(vec!["a"; 2049])), "input");
        assert_eq!(inputs_of(&json!(vec!["a"; 2048])).unwrap().len(), 2048);
    }

    #[test]
    fn options_are_honoured_or_refused_by_name() {
        let request =
            parse(&json!({"model": "m", "input": "a", "encoding_format": "base64", "dimensions": 7, "user": "u"}));
        let request = request.unwrap();
        assert_eq!((request.encoding, request.dimensions), (EmbeddingEncoding::Base64, Some(7)));
        for (name, value) in [
            ("encoding_format", json!("binary")),
            ("dimensions", json!(0)),
            ("user", json!(1)),
            ("truncate", json!(true)),
            ("stream", json!(true)),
        ] {
            let mut body = json!({"model": "m", "input": "a"});
            body[name] = value;
            assert_eq!(parse(&body).unwrap_err().param.as_deref(), Some(name));
        }
    }
}
