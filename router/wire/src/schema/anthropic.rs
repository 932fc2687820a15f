//! Anthropic's `POST /v1/messages` and `POST /v1/messages/count_tokens`.

use serde_json::{Value, json};

use super::chat::{model, tool_parameters};
use super::options::sampling;
use super::{any_object, any_of, array, boolean, described, example, integer, list, number, object, of, string, text};
use super::{some_text, word};
use crate::anthropic::{BUDGET_MIN, MEDIA_TYPES, NAME_CHARS_MAX, STOPS_MAX, USER_ID_CHARS_MAX};
use crate::options::STOP_CHARS_MAX;
use crate::tools::TOOLS_MAX;

/// A request for a message.
#[must_use]
pub fn messages_request() -> Value {
    let stop = json!({"type": "string", "maxLength": STOP_CHARS_MAX, "pattern": "\\S"});
    let mut properties = asked();
    properties.extend([
        ("max_tokens", example(64, described("The most tokens of the answer.", integer(1, i64::from(u32::MAX))))),
        ("stream", described("Whether the message comes as server-sent events while it is made.", boolean())),
        ("stop_sequences", described("The answer ends before any of these.", array(stop, 0, STOPS_MAX))),
        ("service_tier", described("There is one tier for everybody.", word(&["auto", "standard_only"]))),
        ("metadata", described("Who asks, without effect.", object(&[], [("user_id", text(0, USER_ID_CHARS_MAX))]))),
    ]);
    properties.extend(sampling().into_iter().filter(|(name, _)| *name != "temperature"));
    properties.push(("temperature", described("0 takes the likeliest token always.", number(0.0, 1.0))));
    of(&["model", "messages", "max_tokens"], properties)
}

/// A request to count the tokens of a conversation.
#[must_use]
pub fn count_tokens_request() -> Value {
    of(&["model", "messages"], asked())
}

/// What decides about the prompt.
fn asked() -> Vec<(&'static str, Value)> {
    let question = json!([{"role": "user", "content": "Why is the sky blue?"}]);
    vec![
        ("model", model()),
        ("messages", example(question, described("The conversation; the last to speak is the user.", messages()))),
        ("system", described("Stands before the conversation.", texts())),
        ("tools", described("What the model may call.", array(tool(), 0, TOOLS_MAX))),
        ("tool_choice", described("Whether a tool must be called.", tool_choice())),
        ("thinking", described("Whether the model thinks first, and whether it is told what.", thinking())),
        ("output_config", described("How much to think, and what the answer must be.", output_config())),
        ("output_format", described("The older name of `output_config.format`.", output_format())),
        ("context_management", described("Accepted; what of its thoughts a model sees again is up to it.", edits())),
        ("cache_control", cache_control()),
        ("mcp_servers", described("Only empty.", array(any_object(), 0, 0))),
        ("speed", word(&["standard"])),
        ("inference_geo", word(&["global"])),
        ("diagnostics", described("Accepted, and without effect.", any_object())),
        ("thread", described("Only null: send the whole conversation.", json!({"const": null}))),
        ("user_profile_id", described("Accepted, and without effect.", string())),
    ]
}

/// A hint for Anthropic's cache.
fn cache_control() -> Value {
    described("A hint to Anthropic, without effect: what begins alike is found.", any_object())
}

fn messages() -> Value {
    let said =
        |role: &str, content: Value| object(&["role", "content"], [("role", word(&[role])), ("content", content)]);
    let user = any_of([text_block(), image(), document(), search_result(), tool_result()]);
    let user = any_of([json!({"type": "string", "minLength": 1}), at_least_one(list(user))]);
    let assistant = any_of([text_block(), thought(), sealed_thought(), tool_use()]);
    let assistant = any_of([string(), list(assistant)]);
    at_least_one(list(any_of([said("user", user), said("assistant", assistant), said("system", texts())])))
}

fn at_least_one(mut list: Value) -> Value {
    list["minItems"] = json!(1);
    list
}

/// Text, or blocks of text.
fn texts() -> Value {
    any_of([string(), list(text_block())])
}

fn block(kind: &str, required: &[&str], more: Vec<(&'static str, Value)>) -> Value {
    let mut properties = vec![("type", word(&[kind]))];
    properties.extend(more);
    of(required, properties)
}

fn text_block() -> Value {
    let citations = described("As an answer had them, without effect.", json!({}));
    block(
        "text",
        &["type", "text"],
        vec![("text", string()), ("cache_control", cache_control()), ("citations", citations)],
    )
}

fn image() -> Value {
    let bytes = [("type", word(&["base64"])), ("media_type", word(&MEDIA_TYPES)), ("data", some_text())];
    let url = [("type", word(&["url"])), ("url", string())];
    let source = any_of([object(&["type", "media_type", "data"], bytes), object(&["type", "url"], url)]);
    let nothing = json!({"type": "object", "maxProperties": 0});
    let image = block(
        "image",
        &["type", "source"],
        vec![("source", source), ("cache_control", cache_control()), ("transformations", nothing)],
    );
    described("For models that see.", image)
}

/// Models here do not say where they have something from.
fn no_citations() -> Value {
    let enabled = json!({"type": "object", "required": ["enabled"], "properties": {"enabled": {"const": true}}});
    described("Only where they are not enabled.", json!({"not": enabled}))
}

fn document() -> Value {
    let plain = [("type", word(&["text"])), ("media_type", word(&["text/plain"])), ("data", string())];
    let content = any_of([string(), list(any_of([text_block(), image()]))]);
    let blocks = [("type", word(&["content"])), ("content", content)];
    let source = any_of([object(&["type", "data"], plain), object(&["type", "content"], blocks)]);
    let document = block(
        "document",
        &["type", "source"],
        vec![
            ("source", source),
            ("title", string()),
            ("context", string()),
            ("cache_control", cache_control()),
            ("citations", no_citations()),
        ],
    );
    described("A document of text.", document)
}

fn search_result() -> Value {
    block(
        "search_result",
        &["type", "title", "source", "content"],
        vec![
            ("title", string()),
            ("source", string()),
            ("content", texts()),
            ("cache_control", cache_control()),
            ("citations", no_citations()),
        ],
    )
}

fn tool_result() -> Value {
    let shown = any_of([text_block(), image(), document(), search_result()]);
    block(
        "tool_result",
        &["type", "tool_use_id"],
        vec![
            ("tool_use_id", described("The id of a `tool_use` of the message before.", string())),
            ("content", any_of([string(), list(shown)])),
            ("is_error", boolean()),
            ("cache_control", cache_control()),
        ],
    )
}

fn thought() -> Value {
    block("thinking", &["type", "thinking"], vec![("thinking", string()), ("signature", string())])
}

fn sealed_thought() -> Value {
    let sealed = block("redacted_thinking", &["type", "data"], vec![("data", string())]);
    described("Passed over: only its maker can read it.", sealed)
}

fn tool_use() -> Value {
    let direct = json!({"allOf": [{"required": ["type"], "properties": {"type": {"const": "direct"}}}]});
    block(
        "tool_use",
        &["type", "id", "name", "input"],
        vec![
            ("id", string()),
            ("name", string()),
            ("input", any_object()),
            ("cache_control", cache_control()),
            ("caller", with_type("object", direct)),
        ],
    )
}

fn with_type(kind: &str, mut schema: Value) -> Value {
    schema["type"] = json!(kind);
    schema
}

/// A function that the model may ask to be called.
fn tool() -> Value {
    let name = json!({"type": "string", "pattern": format!("^[A-Za-z0-9_-]{{1,{NAME_CHARS_MAX}}}$")});
    object(
        &["name", "input_schema"],
        [
            ("type", word(&["custom"])),
            ("name", name),
            ("description", described("What it does, for the model.", string())),
            ("input_schema", tool_parameters()),
            ("strict", described("Whether calls always follow the schema.", boolean())),
            ("cache_control", cache_control()),
            ("eager_input_streaming", described("What a tool is given is always streamed as it comes.", boolean())),
            ("defer_loading", described("Only `false`.", json!({"type": "boolean", "enum": [false]}))),
            ("allowed_callers", described("Only the model.", array(word(&["direct"]), 1, 1))),
            ("input_examples", described("Only empty.", array(any_object(), 0, 0))),
        ],
    )
}

fn tool_choice() -> Value {
    let single = || ("disable_parallel_tool_use", boolean());
    let any = object(&["type"], [("type", word(&["auto", "any", "none"])), single()]);
    let one = object(&["type", "name"], [("type", word(&["tool"])), ("name", string()), single()]);
    any_of([any, one])
}

fn thinking() -> Value {
    let display = || ("display", word(&["summarized", "omitted"]));
    let budget = described("Less than `max_tokens`.", integer(i64::from(BUDGET_MIN), i64::from(u32::MAX)));
    let simple = object(&["type"], [("type", word(&["disabled", "adaptive"])), display()]);
    let enabled = [("type", word(&["enabled"])), ("budget_tokens", budget), display()];
    any_of([simple, object(&["type", "budget_tokens"], enabled)])
}

fn output_config() -> Value {
    let effort = word(&["low", "medium", "high", "xhigh", "max"]);
    object(&[], [("effort", effort), ("format", output_format())])
}

fn output_format() -> Value {
    let schema = described("A JSON schema; it always binds.", any_of([any_object(), string()]));
    object(&["type", "schema"], [("type", word(&["json_schema"])), ("name", string()), ("schema", schema)])
}

fn edits() -> Value {
    let edit = object(&["type"], [("type", word(&["clear_thinking_20251015"])), ("keep", json!({}))]);
    object(&[], [("edits", list(edit))])
}
