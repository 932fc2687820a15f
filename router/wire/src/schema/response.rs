//! What a response is told as: the object, its items, and the events of a stream. They are written as JSON where they
//! arise, so their schemas stand here; none leaves a field open, and the tests of the product hold real answers to them.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::{any_object, any_of, boolean, list, string, word};
use crate::response::Logprob;
use crate::responses::{ResponseObject, ResponseStatus};

/// An item that came of a response.
#[derive(Debug)]
pub struct OutputItem;

/// An item that a response answers, or one that came of it.
#[derive(Debug)]
pub struct InputItem;

/// An event of a streamed response.
#[derive(Debug)]
pub struct ResponseEvent;

/// An object of exactly these fields.
fn exactly(fields: Vec<(&'static str, Value)>) -> Value {
    let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    let required = json!(names);
    let properties: Map<String, Value> = fields.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect();
    json!({"type": "object", "required": required, "properties": properties, "additionalProperties": false})
}

fn or_null(kind: &str) -> Value {
    json!({"type": [kind, "null"]})
}

fn either(schema: Value) -> Value {
    any_of([schema, json!({"type": "null"})])
}

fn integer() -> Value {
    json!({"type": "integer", "minimum": 0})
}

fn null() -> Value {
    json!({"type": "null"})
}

fn schema(value: Value) -> Schema {
    Schema::try_from(value).unwrap_or_default()
}

fn status() -> Value {
    word(&["in_progress", "completed", "incomplete"])
}

fn text_part(kind: &str) -> Value {
    exactly(vec![("type", word(&[kind])), ("text", string())])
}

fn output_text(generator: &mut SchemaGenerator) -> Value {
    let logprob = generator.subschema_for::<Logprob>().to_value();
    let annotations = json!({"type": "array", "maxItems": 0});
    exactly(vec![
        ("type", word(&["output_text"])),
        ("annotations", annotations),
        ("logprobs", list(logprob)),
        ("text", string()),
    ])
}

fn thought() -> Value {
    exactly(vec![
        ("id", string()),
        ("type", word(&["reasoning"])),
        ("summary", list(text_part("summary_text"))),
        ("content", list(text_part("reasoning_text"))),
        ("encrypted_content", or_null("string")),
        ("status", status()),
    ])
}

/// A call; what was given is in the field `given`.
fn call(kind: &str, given: &'static str) -> Value {
    let mut call = exactly(vec![
        ("id", string()),
        ("type", word(&[kind])),
        ("status", status()),
        ("call_id", string()),
        ("name", string()),
        (given, string()),
    ]);
    // Only where the tool is in one.
    call["properties"]["namespace"] = string();
    call
}

fn calls() -> [Value; 2] {
    [call("function_call", "arguments"), call("custom_tool_call", "input")]
}

fn call_output(kind: &str) -> Value {
    exactly(vec![
        ("id", string()),
        ("type", word(&[kind])),
        ("call_id", string()),
        ("output", any_of([string(), list(text_part("input_text"))])),
        ("status", status()),
    ])
}

fn message(roles: &[&str], parts: Value) -> Value {
    exactly(vec![
        ("id", string()),
        ("type", word(&["message"])),
        ("status", status()),
        ("role", word(roles)),
        ("content", list(parts)),
    ])
}

impl JsonSchema for OutputItem {
    fn schema_name() -> Cow<'static, str> {
        "OutputItem".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let said = message(&["assistant"], output_text(generator));
        let [function, custom] = calls();
        schema(any_of([thought(), said, function, custom]))
    }
}

impl JsonSchema for InputItem {
    fn schema_name() -> Cow<'static, str> {
        "InputItem".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let image = exactly(vec![
            ("type", word(&["input_image"])),
            ("image_url", string()),
            ("detail", word(&["low", "high", "auto", "original"])),
            ("file_id", null()),
        ]);
        let refusal = exactly(vec![("type", word(&["refusal"])), ("refusal", string())]);
        let asked = message(&["user", "system", "developer"], any_of([text_part("input_text"), image]));
        let said = message(&["assistant"], any_of([output_text(generator), refusal]));
        let outputs = ["function_call_output", "custom_tool_call_output"].map(call_output);
        // As the client sent it: with its content, sealed or not, or with neither.
        let mut thought = thought();
        thought["required"] = json!(["id", "type", "summary", "status"]);
        let ([function, custom], [function_output, custom_output]) = (calls(), outputs);
        schema(any_of([asked, said, function, function_output, custom, custom_output, thought]))
    }
}

impl JsonSchema for ResponseObject {
    fn schema_name() -> Cow<'static, str> {
        "Response".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let statuses = ResponseStatus::ALL.map(ResponseStatus::as_str);
        let item = generator.subschema_for::<OutputItem>().to_value();
        let codes = word(&["server_error", "rate_limit_exceeded", "invalid_prompt"]);
        let error = exactly(vec![("code", codes), ("message", string())]);
        let incomplete = exactly(vec![("reason", word(&["max_output_tokens", "content_filter"]))]);
        let mut fields = vec![
            ("id", string()),
            ("object", word(&["response"])),
            ("created_at", integer()),
            ("status", word(&statuses)),
            ("completed_at", or_null("integer")),
            ("error", either(error)),
            ("incomplete_details", either(incomplete)),
            ("model", string()),
            ("output", list(item)),
            ("usage", either(usage())),
        ];
        fields.extend(repeated());
        schema(exactly(fields))
    }
}

fn usage() -> Value {
    exactly(vec![
        ("input_tokens", integer()),
        ("input_tokens_details", exactly(vec![("cached_tokens", integer()), ("cache_write_tokens", integer())])),
        ("output_tokens", integer()),
        ("output_tokens_details", exactly(vec![("reasoning_tokens", integer())])),
        ("total_tokens", integer()),
    ])
}

/// What a response repeats of its request.
/// A tool as a response repeats it: a function, or one that is given text.
fn tools() -> [Value; 2] {
    let function = exactly(vec![
        ("type", word(&["function"])),
        ("name", string()),
        ("description", or_null("string")),
        ("parameters", any_object()),
        ("strict", boolean()),
    ]);
    let grammar =
        exactly(vec![("type", word(&["grammar"])), ("syntax", word(&["lark", "regex"])), ("definition", string())]);
    let custom = exactly(vec![
        ("type", word(&["custom"])),
        ("name", string()),
        ("description", or_null("string")),
        ("format", any_of([exactly(vec![("type", word(&["text"]))]), grammar])),
    ]);
    [function, custom]
}

fn repeated() -> Vec<(&'static str, Value)> {
    let [function, custom] = tools();
    let group = exactly(vec![
        ("type", word(&["namespace"])),
        ("name", string()),
        ("description", string()),
        ("tools", list(any_of([function.clone(), custom.clone()]))),
    ]);
    let schema = exactly(vec![
        ("type", word(&["json_schema"])),
        ("name", string()),
        ("description", or_null("string")),
        ("schema", any_of([any_object(), string()])),
        ("strict", boolean()),
    ]);
    let format = any_of([exactly(vec![("type", word(&["text", "json_object"]))]), schema]);
    let mut named = exactly(vec![("type", word(&["function", "custom"])), ("name", string())]);
    named["properties"]["namespace"] = or_null("string");
    let some = exactly(vec![
        ("type", word(&["allowed_tools"])),
        ("mode", word(&["auto", "required"])),
        ("tools", list(named.clone())),
    ]);
    vec![
        ("instructions", or_null("string")),
        ("max_output_tokens", or_null("integer")),
        ("max_tool_calls", or_null("integer")),
        ("previous_response_id", or_null("string")),
        ("prompt_cache_key", or_null("string")),
        ("prompt_cache_retention", or_null("string")),
        ("safety_identifier", or_null("string")),
        ("user", or_null("string")),
        ("temperature", json!({"type": "number"})),
        ("top_p", json!({"type": "number"})),
        ("presence_penalty", json!({"type": "number"})),
        ("frequency_penalty", json!({"type": "number"})),
        ("parallel_tool_calls", boolean()),
        ("tool_choice", any_of([word(&["none", "auto", "required"]), named, some])),
        ("tools", list(any_of([function, custom, group]))),
        ("top_logprobs", integer()),
        ("reasoning", exactly(vec![("effort", or_null("string")), ("summary", or_null("string"))])),
        ("text", exactly(vec![("format", format), ("verbosity", word(&["low", "medium", "high"]))])),
        ("background", boolean()),
        ("store", boolean()),
        ("metadata", json!({"type": "object", "additionalProperties": {"type": "string"}})),
        ("service_tier", word(&["default", "flex", "priority"])),
        ("truncation", word(&["auto", "disabled"])),
        ("prompt", null()),
        ("conversation", either(exactly(vec![("id", string())]))),
    ]
}

impl JsonSchema for ResponseEvent {
    fn schema_name() -> Cow<'static, str> {
        "ResponseEvent".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let response = generator.subschema_for::<ResponseObject>().to_value();
        let item = generator.subschema_for::<OutputItem>().to_value();
        let logprobs = list(generator.subschema_for::<Logprob>().to_value());
        let part = any_of([output_text(generator), text_part("reasoning_text")]);
        let summary = || text_part("summary_text");
        let of_response = ["created", "queued", "in_progress", "completed", "incomplete", "failed"];
        let mut events: Vec<Value> =
            of_response.iter().map(|kind| event(kind, vec![("response", response.clone())])).collect();
        let mut of_item = |kind: &str, more: Vec<(&'static str, Value)>| {
            let mut fields = vec![("item_id", string()), ("output_index", integer())];
            fields.extend(more);
            events.push(event(kind, fields));
        };
        let content = || ("content_index", integer());
        of_item("content_part.added", vec![content(), ("part", part.clone())]);
        of_item("content_part.done", vec![content(), ("part", part)]);
        of_item("output_text.delta", vec![content(), ("delta", string()), ("logprobs", logprobs.clone())]);
        of_item("output_text.done", vec![content(), ("text", string()), ("logprobs", logprobs)]);
        of_item("reasoning_text.delta", vec![content(), ("delta", string())]);
        of_item("reasoning_text.done", vec![content(), ("text", string())]);
        let index = || ("summary_index", integer());
        of_item("reasoning_summary_part.added", vec![index(), ("part", summary())]);
        of_item("reasoning_summary_part.done", vec![index(), ("part", summary())]);
        of_item("reasoning_summary_text.delta", vec![index(), ("delta", string())]);
        of_item("reasoning_summary_text.done", vec![index(), ("text", string())]);
        of_item("function_call_arguments.delta", vec![("delta", string())]);
        of_item("function_call_arguments.done", vec![("name", string()), ("arguments", string())]);
        of_item("custom_tool_call_input.delta", vec![("delta", string())]);
        of_item("custom_tool_call_input.done", vec![("input", string())]);
        for kind in ["output_item.added", "output_item.done"] {
            events.push(event(kind, vec![("output_index", integer()), ("item", item.clone())]));
        }
        events.push(exactly(vec![
            ("type", word(&["error"])),
            ("sequence_number", integer()),
            ("code", or_null("string")),
            ("message", string()),
            ("param", or_null("string")),
        ]));
        schema(json!({"anyOf": events}))
    }
}

fn event(kind: &str, more: Vec<(&'static str, Value)>) -> Value {
    let kind = format!("response.{kind}");
    let mut fields = vec![("type", word(&[&kind])), ("sequence_number", integer())];
    fields.extend(more);
    exactly(fields)
}
