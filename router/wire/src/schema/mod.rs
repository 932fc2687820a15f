//! What requests look like, as JSON schemas, for the API's own description. The limits are the parsers' own, and a
//! test holds the names beside those that the parsers read.

mod anthropic;
mod batch;
mod chat;
mod completion;
mod encoder;
mod form;
mod ollama;
mod options;
mod response;
mod responses;

pub use anthropic::{count_tokens_request, messages_request};
pub use batch::{batch_request, file_form};
pub use chat::{chat_request, metadata_update};
pub use completion::completion_request;
pub use encoder::{embedding_request, rerank_request};
pub use ollama::{
    ollama_chat_request, ollama_copy_request, ollama_embed_one_request, ollama_embed_request, ollama_generate_request,
    ollama_model_request, ollama_pull_request,
};
pub use response::{InputItem, OutputItem, ResponseEvent};
pub use responses::{conversation_items_request, conversation_request, responses_request};

use serde_json::{Map, Value, json};

/// The models that examples name: one that talks, and one that makes vectors.
pub const MODEL_EXAMPLES: [&str; 2] = ["smollm2-135m-instruct", "all-minilm-l6-v2"];

/// An object of these properties; `required` ones must be there, others may be null. Nothing else may be there.
fn object<const N: usize>(required: &[&str], properties: [(&'static str, Value); N]) -> Value {
    of(required, Vec::from(properties))
}

/// The same, of a list.
fn of(required: &[&str], properties: Vec<(&'static str, Value)>) -> Value {
    let mut map = Map::new();
    for (name, schema) in properties {
        let schema = if required.contains(&name) { schema } else { nullable(schema) };
        map.insert(name.to_owned(), schema);
    }
    json!({"type": "object", "required": required, "properties": map, "additionalProperties": false})
}

/// The same, or null.
fn nullable(mut schema: Value) -> Value {
    if let Some(kind) = schema.get("type").and_then(Value::as_str).map(str::to_owned) {
        schema["type"] = json!([kind, "null"]);
        if let Some(words) = schema.get_mut("enum").and_then(Value::as_array_mut) {
            words.push(Value::Null);
        }
        schema
    } else {
        let description = schema.as_object_mut().and_then(|map| map.remove("description"));
        let either = any_of([schema, json!({"type": "null"})]);
        description.map_or(either.clone(), |text| described(text.as_str().unwrap_or_default(), either))
    }
}

/// One of these.
fn any_of<const N: usize>(schemas: [Value; N]) -> Value {
    json!({"anyOf": Vec::from(schemas)})
}

/// A schema and what it is.
fn described(text: &str, mut schema: Value) -> Value {
    schema["description"] = json!(text);
    schema
}

/// A schema and a value of it.
fn example(value: impl Into<Value>, mut schema: Value) -> Value {
    schema["examples"] = json!([value.into()]);
    schema
}

fn string() -> Value {
    json!({"type": "string"})
}

/// A string that says something.
fn some_text() -> Value {
    json!({"type": "string", "minLength": 1})
}

/// A string of so many characters.
fn text(least: usize, most: usize) -> Value {
    json!({"type": "string", "minLength": least, "maxLength": most})
}

fn boolean() -> Value {
    json!({"type": "boolean"})
}

fn number(least: f64, most: f64) -> Value {
    json!({"type": "number", "minimum": least, "maximum": most})
}

fn integer(least: i64, most: i64) -> Value {
    json!({"type": "integer", "minimum": least, "maximum": most})
}

fn array(items: Value, least: usize, most: usize) -> Value {
    let mut schema = json!({"type": "array", "minItems": least, "maxItems": most});
    schema["items"] = items;
    schema
}

/// A list whose limit is told in words: bodies beyond it are too long before they are too many.
fn list(items: Value) -> Value {
    let mut schema = json!({"type": "array"});
    schema["items"] = items;
    schema
}

/// One of these words.
fn word(words: &[&str]) -> Value {
    json!({"type": "string", "enum": words})
}

/// Any object.
fn any_object() -> Value {
    json!({"type": "object"})
}

#[cfg(test)]
mod tests;
