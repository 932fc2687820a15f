//! `POST /v1/conversations` and its items.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::items;
use crate::chat::metadata;
use crate::fields::{Fields, WireError, object};

/// Items that one request brings, as OpenAI's API has it.
pub(crate) const ITEMS_MAX: usize = 20;

/// What a conversation begins with.
#[derive(Debug, Clone, PartialEq)]
pub struct ConversationRequest {
    /// Items that are complete but for the ids of new ones.
    pub items: Vec<Value>,
    /// The client's own words about it.
    pub metadata: Map<String, Value>,
}

/// A conversation.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[allow(missing_docs, reason = "the fields are OpenAI's")]
pub struct ConversationObject {
    pub id: String,
    #[schemars(extend("const" = "conversation"))]
    pub object: &'static str,
    pub created_at: i64,
    pub metadata: Map<String, Value>,
}

impl ConversationRequest {
    /// Validates a request.
    ///
    /// # Errors
    /// [`WireError`] naming the field that cannot be honoured.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let mut fields = Fields::new(object(bytes)?);
        let items = items_of(&mut fields)?.unwrap_or_default();
        let metadata = metadata(&mut fields)?;
        fields.finish(&[])?;
        Ok(Self { items, metadata })
    }
}

/// The items that a request adds to a conversation, complete but for the ids of new ones.
///
/// # Errors
/// [`WireError`] naming the field that cannot be honoured.
pub fn conversation_items(bytes: &[u8]) -> Result<Vec<Value>, WireError> {
    let mut fields = Fields::new(object(bytes)?);
    let items = items_of(&mut fields)?.ok_or_else(|| fields.missing("items"))?;
    fields.finish(&[])?;
    Ok(items)
}

fn items_of(fields: &mut Fields) -> Result<Option<Vec<Value>>, WireError> {
    let items = match fields.take("items") {
        None => return Ok(None),
        Some(Value::Array(values)) => items::list("items", values, ITEMS_MAX)?,
        Some(other) => return Err(fields.wrong_type("items", "an array of items", &other)),
    };
    match items.iter().position(|item| item["type"] == "item_reference") {
        Some(index) => Err(fields.unsupported(&format!("items[{index}].type"), " for `item_reference`; send the item")),
        None => Ok(Some(items)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(body: &Value) -> Result<ConversationRequest, WireError> {
        ConversationRequest::parse(body.to_string().as_bytes())
    }

    #[test]
    fn items_and_metadata_are_read() {
        let hi = json!({"role": "user", "content": "hi"});
        let request = parse(&json!({"items": [hi], "metadata": {"a": "b"}})).unwrap();
        assert_eq!((&request.items[0]["content"][0]["text"], &request.metadata["a"]), (&json!("hi"), &json!("b")));
        assert_eq!(parse(&json!({"items": null})).unwrap().items, Vec::<Value>::new());
        assert_eq!(conversation_items(json!({"items": [hi, hi]}).to_string().as_bytes()).unwrap().len(), 2);
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        let hi = json!({"role": "user", "content": "hi"});
        for (body, param) in [
            (json!({"items": vec![hi; 21]}), "items"),
            (json!({"items": 5}), "items"),
            (json!({"items": [{"role": "king", "content": ""}]}), "items[0].role"),
            (json!({"items": [{"type": "item_reference", "id": "msg_1"}]}), "items[0].type"),
            (json!({"metadata": 5}), "metadata"),
            (json!({"name": "x"}), "name"),
        ] {
            assert_eq!(parse(&body).unwrap_err().param.as_deref(), Some(param), "{body}");
        }
        assert_eq!(conversation_items(b"{}").unwrap_err().param.as_deref(), Some("items"));
    }
}
