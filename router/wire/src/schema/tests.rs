//! The descriptions and the parsers know the same fields.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{chat_request, completion_request};
use crate::fields::asked;
use crate::{ChatRequest, CompletionRequest, Envelope};

/// All fields that a schema knows, with `[]` for any place of a list.
fn fields_of(schema: &Value, path: &str, names: &mut BTreeSet<String>) {
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        names.insert(path.clone());
        // What is in a client's own schema is not ours.
        if !path.ends_with("parameters") {
            fields_of(schema, &path, names);
        }
    }
    for schema in schema["anyOf"].as_array().into_iter().flatten() {
        fields_of(schema, path, names);
    }
    if schema["items"].is_object() {
        fields_of(&schema["items"], &format!("{path}[]"), names);
    }
}

fn known(schema: &Value) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    fields_of(schema, "", &mut names);
    names
}

fn envelope(body: &Value) -> Envelope {
    Envelope::parse(body.to_string().as_bytes()).unwrap()
}

/// A request with everything in it, as far as it goes together.
fn full_chat() -> Value {
    json!({
        "model": "m", "stream": true, "stream_options": {"include_usage": true},
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "a"}]},
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}], "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                {"id": "d", "type": "custom", "custom": {"name": "n", "input": "a"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "1"},
        ],
        "tools": [{"type": "function", "function": {"name": "f"}}, {"type": "custom", "custom": {"name": "n", "format":
            {"type": "grammar", "grammar": {"syntax": "regex", "definition": "a"}}}}],
        "prediction": {"type": "content", "content": [{"type": "text", "text": "a"}]},
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}},
    })
}

#[test]
fn chat_is_described_as_it_is_read() {
    asked::take();
    let mut choices = vec![json!("auto"), json!({"type": "function", "function": {"name": "f"}})];
    choices.push(json!({"type": "custom", "custom": {"name": "n"}}));
    let allowed = json!({"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}},
        {"type": "custom", "custom": {"name": "n"}}]});
    choices.push(json!({"type": "allowed_tools", "allowed_tools": allowed}));
    for choice in choices {
        let mut body = full_chat();
        body["tool_choice"] = choice;
        ChatRequest::parse(envelope(&body)).unwrap();
    }
    let mut body = full_chat();
    body["response_format"] = Value::Null;
    body["structured_outputs"] = json!({"regex": "a"});
    ChatRequest::parse(envelope(&body)).unwrap();
    assert_eq!(asked::take(), known(&chat_request()));
}

#[test]
fn completions_are_described_as_they_are_read() {
    asked::take();
    let schema = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": {}}});
    for other in [json!({"response_format": schema}), json!({"structured_outputs": {"regex": "a"}})] {
        let mut body = json!({"model": "m", "prompt": "a", "stream": true, "stream_options": {}});
        body.as_object_mut().unwrap().extend(other.as_object().unwrap().clone());
        CompletionRequest::parse(envelope(&body)).unwrap();
    }
    assert_eq!(asked::take(), known(&completion_request()));
}
