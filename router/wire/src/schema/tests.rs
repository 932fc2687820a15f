//! The descriptions and the parsers know the same fields.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    batch_request, chat_request, completion_request, conversation_items_request, conversation_request,
    count_tokens_request, embedding_request, messages_request, ollama_chat_request, ollama_copy_request,
    ollama_embed_one_request, ollama_embed_request, ollama_generate_request, ollama_model_request, ollama_pull_request,
    rerank_request, responses_request,
};
use crate::anthropic::MessagesRequest;
use crate::fields::asked;
use crate::ollama::{CopyOrder, OllamaChat, OllamaEmbed, OllamaGenerate, PullOrder, model_name};
use crate::{
    BatchRequest, ChatRequest, CompletionRequest, ConversationRequest, EmbeddingRequest, Envelope, RerankRequest,
    ResponsesRequest, conversation_items,
};

/// All fields that a schema knows, with `[]` for any place of a list.
fn fields_of(schema: &Value, path: &str, names: &mut BTreeSet<String>) {
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        names.insert(path.clone());
        // What is in a client's own schema is not ours.
        if !path.ends_with("parameters") && !path.ends_with("input_schema") {
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
        "reasoning": {}, "thinking": {"type": "enabled"}, "usage": {},
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
    body["structured_outputs"] = Value::Null;
    body["response_format"] = json!({"type": "json_object", "schema": {}});
    ChatRequest::parse(envelope(&body)).unwrap();
    assert_eq!(asked::take(), known(&chat_request()));
}

#[test]
fn completions_are_described_as_they_are_read() {
    asked::take();
    let schema = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": {}}});
    let beside = json!({"type": "json_object", "schema": {}});
    for other in [
        json!({"response_format": schema}),
        json!({"response_format": beside}),
        json!({"structured_outputs": {"regex": "a"}}),
    ] {
        let mut body = json!({"model": "m", "prompt": "a", "stream": true, "stream_options": {}});
        body.as_object_mut().unwrap().extend(other.as_object().unwrap().clone());
        CompletionRequest::parse(envelope(&body)).unwrap();
    }
    assert_eq!(asked::take(), known(&completion_request()));
}

#[test]
fn responses_are_described_as_they_are_read() {
    let said = |role: &str, content: Value| json!({"role": role, "content": content});
    let thought = |kind: &str| json!([{"type": kind, "text": "hm"}]);
    let image = json!({"type": "input_image", "image_url": "data:,"});
    let text = json!({"type": "input_text", "text": "a"});
    let output = json!({"type": "output_text", "text": "a"});
    let input = json!([
        said("user", json!([text, image])),
        said("assistant", json!([output, {"type": "refusal", "refusal": "no"}])),
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "caller": {"type": "direct"}},
        {"type": "function_call_output", "call_id": "c", "output": [text]},
        {"type": "reasoning", "summary": thought("summary_text"), "content": thought("reasoning_text")},
        {"type": "custom_tool_call", "call_id": "d", "name": "c", "input": "a"},
        {"type": "custom_tool_call_output", "call_id": "d", "output": "b"},
        {"id": "msg_1"},
    ]);
    let body = json!({
        "model": "m", "input": input, "stream": true, "stream_options": {}, "reasoning": {},
        "background_options": {},
        "tools": [
            {"type": "function", "name": "f"},
            {"type": "custom", "name": "c", "format": {"type": "grammar", "syntax": "regex", "definition": "a"}},
            {"type": "namespace", "name": "n", "tools": [
                {"type": "function", "name": "f"},
                {"type": "custom", "name": "c", "format": {"type": "grammar", "syntax": "regex", "definition": "a"}},
            ]},
        ],
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {}}}, "conversation": {"id": "conv_1"},
    });
    asked::take();
    let named = json!({"type": "function", "name": "f"});
    for choice in [named.clone(), json!({"type": "allowed_tools", "mode": "auto", "tools": [named]})] {
        let mut body = body.clone();
        body["tool_choice"] = choice;
        ResponsesRequest::parse(envelope(&body)).unwrap();
    }
    assert_eq!(asked::take(), known(&responses_request()));
    let mut items = body["input"].clone();
    // References are to responses.
    items.as_array_mut().unwrap().pop();
    ConversationRequest::parse(json!({"items": items}).to_string().as_bytes()).unwrap();
    assert_eq!(asked::take(), known(&conversation_request()));
    conversation_items(json!({"items": items}).to_string().as_bytes()).unwrap();
    assert_eq!(asked::take(), known(&conversation_items_request()));
}

/// Every block that shows something to the model.
fn shown() -> Vec<Value> {
    let text = json!({"type": "text", "text": "a"});
    let source = json!({"type": "base64", "media_type": "image/png", "data": "AAAA"});
    let image = |source: Value| json!({"type": "image", "source": source});
    let images = [image(source), image(json!({"type": "url", "url": "https://a"}))];
    let document = |source: Value| json!({"type": "document", "source": source});
    vec![
        text.clone(),
        images[0].clone(),
        images[1].clone(),
        document(json!({"type": "text", "data": "a"})),
        document(json!({"type": "content", "content": [text, images[0], images[1]]})),
        json!({"type": "search_result", "title": "a", "source": "b", "content": [text]}),
    ]
}

/// A request for a message with everything in it, as far as it goes together.
fn full_message() -> Value {
    let text = json!({"type": "text", "text": "a"});
    let mut asked = shown();
    asked.push(json!({"type": "tool_result", "tool_use_id": "c", "content": shown()}));
    let answered = json!([
        text, {"type": "thinking", "thinking": "hm"}, {"type": "redacted_thinking", "data": "x"},
        {"type": "tool_use", "id": "c", "name": "f", "input": {}},
    ]);
    json!({
        "model": "m", "system": [text], "tools": [{"name": "f", "input_schema": {}}],
        "messages": [
            {"role": "user", "content": shown()}, {"role": "assistant", "content": answered},
            {"role": "user", "content": asked}, {"role": "system", "content": [text]},
            {"role": "user", "content": "a"},
        ],
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "tool_choice": {"type": "tool", "name": "f"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015"}]},
    })
}

#[test]
fn messages_are_described_as_they_are_read() {
    let format = json!({"type": "json_schema", "schema": {}});
    asked::take();
    for (name, value) in [("output_config", json!({"format": format})), ("output_format", format)] {
        let mut body = full_message();
        body[name] = value;
        body["max_tokens"] = json!(2000);
        body["metadata"] = json!({});
        MessagesRequest::parse(envelope(&body)).unwrap();
    }
    assert_eq!(asked::take(), known(&messages_request()));
}

#[test]
fn counts_of_tokens_are_described_as_they_are_read() {
    let format = json!({"type": "json_schema", "schema": {}});
    asked::take();
    for (name, value) in [("output_config", json!({"format": format})), ("output_format", format)] {
        let mut body = full_message();
        body[name] = value;
        MessagesRequest::parse_count(envelope(&body)).unwrap();
    }
    // Sampling is looked for in nothing: a count has none.
    let sampling = super::options::sampling().into_iter().map(|(name, _)| name.to_owned());
    let known: BTreeSet<String> = known(&count_tokens_request()).into_iter().chain(sampling).collect();
    assert_eq!(asked::take(), known);
}

#[test]
fn the_conversations_of_ollama_are_described_as_they_are_read() {
    asked::take();
    let body = json!({
        "model": "m", "options": {}, "tools": [{"function": {"name": "f"}}],
        "messages": [
            {"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]},
        ],
    });
    for chosen in [json!({"name": "f"}), json!({"function": {"name": "f"}})] {
        let mut body = body.clone();
        body["tool_choice"] = chosen;
        body["tool_choice"]["type"] = json!("function");
        OllamaChat::parse(envelope(&body)).unwrap();
    }
    assert_eq!(asked::take(), known(&ollama_chat_request()));
    OllamaGenerate::parse(envelope(&json!({"model": "m", "prompt": "a", "options": {}}))).unwrap();
    assert_eq!(asked::take(), known(&ollama_generate_request()));
    model_name(br#"{"model": "m"}"#, &["verbose"]).unwrap();
    assert_eq!(asked::take(), known(&ollama_model_request(&["verbose"])));
}

#[test]
fn what_is_ordered_of_ollama_and_its_vectors_are_described_as_they_are_read() {
    asked::take();
    PullOrder::parse(br#"{"model": "m"}"#).unwrap();
    assert_eq!(asked::take(), known(&ollama_pull_request()));
    CopyOrder::parse(br#"{"source": "a", "destination": "b"}"#).unwrap();
    assert_eq!(asked::take(), known(&ollama_copy_request()));
    OllamaEmbed::parse(envelope(&json!({"model": "m", "input": "a", "options": {}}))).unwrap();
    assert_eq!(asked::take(), known(&ollama_embed_request()));
    OllamaEmbed::parse_old(envelope(&json!({"model": "m", "prompt": "a", "options": {}}))).unwrap();
    assert_eq!(asked::take(), known(&ollama_embed_one_request()));
}

#[test]
fn what_encodes_and_what_is_kept_is_described_as_it_is_read() {
    asked::take();
    EmbeddingRequest::parse(envelope(&json!({"model": "m", "input": "a"}))).unwrap();
    assert_eq!(asked::take(), known(&embedding_request()));
    RerankRequest::parse(envelope(&json!({"model": "m", "query": "a", "documents": [{"text": "a"}]}))).unwrap();
    assert_eq!(asked::take(), known(&rerank_request()));
    let batch = json!({"input_file_id": "f", "endpoint": "/v1/responses", "completion_window": "24h",
        "output_expires_after": {"anchor": "created_at", "seconds": 3600}});
    BatchRequest::parse(batch.to_string().as_bytes()).unwrap();
    assert_eq!(asked::take(), known(&batch_request()));
}
