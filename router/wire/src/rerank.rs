//! `POST /v1/rerank`, in the shape that Cohere's and Jina's APIs share.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::embedding::{EncoderUsage, not_empty};
use crate::fields::{Envelope, Fields, WireError};

/// Documents of one request.
pub(crate) const DOCUMENTS_MAX: usize = 2048;

/// A validated request to rank documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RerankRequest {
    /// The model asked for.
    pub model: String,
    /// What they are to answer; not empty.
    pub query: String,
    /// At least one; none is empty.
    pub documents: Vec<String>,
    /// How many of the best are wanted.
    pub top: usize,
    /// Whether the answer repeats the documents.
    pub return_documents: bool,
}

impl RerankRequest {
    /// Validates a request.
    ///
    /// # Errors
    /// [`WireError`] naming the field that cannot be honoured.
    pub fn parse(envelope: Envelope) -> Result<Self, WireError> {
        let mut fields = Fields::new(envelope.body);
        fields.take("model");
        let query = not_empty("query", fields.required_string("query")?)?;
        let documents = documents(fields.required("documents")?)?;
        let top = fields.count("top_n", 1..=u32::MAX)?;
        let top = top.map_or(documents.len(), |top| documents.len().min(top as usize));
        let return_documents = fields.boolean("return_documents")?.unwrap_or(false);
        fields.string("user")?;
        fields.finish(&["stream", "max_chunks_per_doc", "max_tokens_per_doc", "rank_fields"])?;
        Ok(Self { model: envelope.model, query, documents, top, return_documents })
    }
}

fn documents(value: Value) -> Result<Vec<String>, WireError> {
    let Value::Array(values) = value else {
        return Err(WireError::wrong_type("documents", "an array", &value));
    };
    if values.is_empty() || values.len() > DOCUMENTS_MAX {
        let wanted = format!("1 to {DOCUMENTS_MAX} documents; there are {}", values.len());
        return Err(WireError::out_of_range("documents", &wanted));
    }
    let document = |(index, value)| {
        let path = format!("documents[{index}]");
        match value {
            Value::String(text) => not_empty(&path, text),
            Value::Object(_) => {
                let mut fields = Fields::of(&path, value)?;
                let text = not_empty(&fields.path_of("text"), fields.required_string("text")?)?;
                fields.finish(&[])?;
                Ok(text)
            }
            other => Err(WireError::wrong_type(&path, "a string or an object with `text`", &other)),
        }
    };
    values.into_iter().enumerate().map(document).collect()
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Reranking<'a> {
    /// The request's name.
    pub id: String,
    /// `list`.
    pub object: &'static str,
    /// The model asked for.
    pub model: &'a str,
    /// The best first.
    pub results: Vec<RankedDocument>,
    /// What it cost.
    pub usage: EncoderUsage,
}

/// A document's place.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct RankedDocument {
    /// Which document of the request.
    pub index: usize,
    /// How well it answers the query; more is better.
    pub relevance_score: f32,
    /// The document, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<RankedText>,
}

/// A document as it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RankedText {
    /// Its text.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(body: &Value) -> Result<RerankRequest, WireError> {
        RerankRequest::parse(Envelope::parse(body.to_string().as_bytes())?)
    }

    fn with(name: &str, value: Value) -> Result<RerankRequest, WireError> {
        let mut body = json!({"model": "m", "query": "q", "documents": ["a", {"text": "b"}]});
        body[name] = value;
        parse(&body)
    }

    #[test]
    fn documents_are_texts_or_objects_with_one() {
        let request = with("top_n", Value::Null).unwrap();
        assert_eq!(
            (request.documents, request.top, request.return_documents),
            (vec!["a".into(), "b".into()], 2, false)
        );
        assert_eq!(with("top_n", json!(1)).unwrap().top, 1);
        assert_eq!(with("top_n", json!(9)).unwrap().top, 2);
        assert!(with("return_documents", json!(true)).unwrap().return_documents);
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        for (name, value, param) in [
            ("query", json!(""), "query"),
            ("query", json!(null), "query"),
            ("documents", json!([]), "documents"),
            ("documents", json!("a"), "documents"),
            ("documents", json!(["a", ""]), "documents[1]"),
            ("documents", json!([1]), "documents[0]"),
            ("documents", json!([{"title": "t"}]), "documents[0].text"),
            ("documents", json!([{"text": "t", "title": "t"}]), "documents[0].title"),
            ("documents", json!(vec!["a"; 2049]), "documents"),
            ("top_n", json!(0), "top_n"),
            ("return_documents", json!("yes"), "return_documents"),
            ("rank_fields", json!(["a"]), "rank_fields"),
            ("temperature", json!(1), "temperature"),
        ] {
            assert_eq!(with(name, value).unwrap_err().param.as_deref(), Some(param), "{name}");
        }
    }
}
