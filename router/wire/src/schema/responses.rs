//! `POST /v1/responses`, and the count of what one would cost.

use serde_json::{Value, json};

use super::chat::{custom_format, metadata, model, tool_name, tool_parameters};
use super::form::schema_format;
use super::options::sampling;
use super::{any_object, any_of, array, boolean, described, example, integer, list, object, of, string, text, word};
use crate::conversation::Effort;
use crate::responses::{
    CACHED_WORD_CHARS_MAX, CONVERSATION_ITEMS_MAX, ID_CHARS_MAX, INCLUDABLE, LEFT_ALONE, RETENTIONS,
};
use crate::tools::TOOLS_MAX;

/// A request for a response.
#[must_use]
pub fn responses_request() -> Value {
    let tokens = || integer(1, i64::from(u32::MAX));
    let hint = |what: &str| described(what, text(0, CACHED_WORD_CHARS_MAX));
    let mut properties = vec![
        ("model", model()),
        (
            "input",
            example(
                "Why is the sky blue?",
                described("What to answer; with `previous_response_id` or `conversation` it may be left out.", input()),
            ),
        ),
        ("instructions", described("Stands before everything; not carried on to the next response.", string())),
        ("previous_response_id", described("The kept response that this one goes on from.", id())),
        ("conversation", described("The conversation that this one goes on from, and is added to.", conversation())),
        ("store", described("Whether it is kept; by default it is, for 30 days.", boolean())),
        ("background", described("Whether it runs on when the client leaves; needs `store`.", boolean())),
        ("background_options", described("Without effect: it begins at once.", background_options())),
        ("stream", described("Whether it comes as server-sent events while it is made.", boolean())),
        ("stream_options", described("Only with `stream`.", object(&[], [("include_obfuscation", boolean())]))),
        ("include", described("What more the answer is to tell.", list(word(INCLUDABLE)))),
        ("tools", described("What the model may call.", array(tool(), 0, TOOLS_MAX))),
        ("tool_choice", described("Whether a tool must be called.", tool_choice())),
        ("parallel_tool_calls", described("Whether several may be called at once.", boolean())),
        ("max_tool_calls", described("Bounds calls of tools that OpenAI runs; checked, and without effect.", tokens())),
        (
            "reasoning",
            described("How much a model thinks first, and whether that is told as its summary.", reasoning()),
        ),
        ("text", described("What the answer must be.", text_form())),
        ("max_output_tokens", example(64, described("The most tokens of the answer, thoughts among them.", tokens()))),
        ("top_logprobs", described("Log probabilities wanted: alternatives at each token.", integer(0, 20))),
        ("metadata", described("The client's own words about the request.", metadata())),
        (
            "service_tier",
            described(
                "How urgent it is: `flex` may wait for others, `priority` comes before them where the plan allows it.",
                word(&["auto", "default", "flex", "priority"]),
            ),
        ),
        (
            "truncation",
            described(
                "With `auto` the oldest turns of a conversation that is too long are left out; else it is refused.",
                word(&["auto", "disabled"]),
            ),
        ),
        ("user", hint("Who asks, in the client's words; without effect.")),
        ("safety_identifier", hint("A hint to OpenAI, without effect.")),
        ("prompt_cache_key", hint("A hint to OpenAI, without effect: what begins alike is found.")),
        ("prompt_cache_retention", described("A hint to OpenAI, without effect.", word(RETENTIONS))),
        ("prompt_cache_options", described("A hint to OpenAI, without effect.", any_object())),
        ("client_metadata", described("What a program tells of itself, without effect.", any_object())),
    ];
    properties.extend(sampling());
    let mut request = of(&["model"], properties);
    let there = |name: &str, kinds: &[&str]| json!({"required": [name], "properties": {name: {"type": kinds}}});
    request["anyOf"] = json!([
        there("input", &["string", "array"]),
        there("previous_response_id", &["string"]),
        there("conversation", &["string", "object"]),
    ]);
    request
}

/// What a conversation begins with.
#[must_use]
pub fn conversation_request() -> Value {
    let items = described("What was said so far.", array(new_item(), 0, CONVERSATION_ITEMS_MAX));
    object(&[], [("items", items), ("metadata", described("The client's own words about it.", metadata()))])
}

/// What is added to a conversation.
#[must_use]
pub fn conversation_items_request() -> Value {
    object(&["items"], [("items", array(new_item(), 0, CONVERSATION_ITEMS_MAX))])
}

fn conversation() -> Value {
    any_of([id(), object(&["id"], [("id", id())])])
}

fn id() -> Value {
    text(1, ID_CHARS_MAX)
}

/// A text, or items.
fn input() -> Value {
    any_of([string(), list(item())])
}

/// An item, or a reference to one of a kept response.
fn item() -> Value {
    let reference = object(&["id"], [("type", word(&["item_reference"])), ("id", id()), ("status", status())]);
    let mut any = new_item();
    if let Some(kinds) = any["anyOf"].as_array_mut() {
        kinds.push(described("An item of a kept response.", reference));
    }
    any
}

fn status() -> Value {
    word(&["in_progress", "completed", "incomplete"])
}

/// An item as it is.
fn new_item() -> Value {
    let with = |required: &[&str], kind: &str, more: Vec<(&'static str, Value)>| {
        let mut properties = vec![("type", word(&[kind])), ("id", id()), ("status", status())];
        properties.extend(more);
        of(required, properties)
    };
    let said = |roles: &[&str], parts: Value| {
        let phase = ("phase", word(&["commentary", "final_answer"]));
        let content = ("content", any_of([string(), list(parts)]));
        with(&["role", "content"], "message", vec![("role", word(roles)), content, phase])
    };
    let caller = || {
        let caller = object(&["type"], [("type", word(&["direct"]))]);
        ("caller", described("Always the model itself.", caller))
    };
    let call = |given: (&'static str, Value)| {
        vec![("call_id", string()), ("name", string()), namespace(), caller(), waited_for(), given]
    };
    let output = || {
        let output = described("What the tool gave.", any_of([string(), list(input_text())]));
        let call_id = ("call_id", described("That of a call before it.", string()));
        vec![call_id, ("output", output), ("name", described("Of the tool.", string())), namespace(), caller()]
    };
    let texts = |kind: &str| list(object(&["type", "text"], [("type", word(&[kind])), ("text", string())]));
    let thought = vec![
        ("summary", texts("summary_text")),
        ("content", texts("reasoning_text")),
        ("encrypted_content", described("As a response gave it.", string())),
    ];
    any_of([
        said(&["user"], any_of([input_text(), input_image()])),
        said(&["system", "developer"], input_text()),
        said(&["assistant"], any_of([input_text(), output_text(), refusal()])),
        with(
            &["type", "call_id", "name", "arguments"],
            "function_call",
            call(("arguments", described("JSON text.", string()))),
        ),
        with(&["type", "call_id", "output"], "function_call_output", output()),
        with(&["type", "call_id", "name", "input"], "custom_tool_call", call(("input", string()))),
        with(&["type", "call_id", "output"], "custom_tool_call_output", output()),
        with(&["type"], "reasoning", thought),
    ])
}

/// Where a cache is to begin may be said of each part; what was known before is found without it.
fn part<const N: usize>(kind: &str, required: &[&str], more: [(&'static str, Value); N]) -> Value {
    let mut properties = vec![("type", word(&[kind])), ("prompt_cache_breakpoint", json!({}))];
    properties.extend(more);
    of(required, properties)
}

fn input_text() -> Value {
    part("input_text", &["type", "text"], [("text", string())])
}

fn output_text() -> Value {
    let anything = || json!({"type": "array"});
    let more = [("text", string()), ("annotations", anything()), ("logprobs", anything())];
    part("output_text", &["type", "text"], more)
}

fn refusal() -> Value {
    part("refusal", &["type", "refusal"], [("refusal", string())])
}

fn input_image() -> Value {
    let file = described("Only null: send the picture as `image_url`.", json!({"const": null}));
    let detail = word(&["low", "high", "auto", "original"]);
    let more = [("image_url", string()), ("detail", detail), ("file_id", file)];
    described("For models that see.", part("input_image", &["type", "image_url"], more))
}

fn background_options() -> Value {
    object(&[], [("completion_window", word(&["soonest"])), ("continuation_id", string())])
}

fn allowed_callers() -> (&'static str, Value) {
    ("allowed_callers", described("Always the model itself.", array(word(&["direct"]), 1, 1)))
}

fn waited_for() -> (&'static str, Value) {
    ("async", described("Only `false`.", json!({"type": "boolean", "enum": [false]})))
}

fn namespace() -> (&'static str, Value) {
    ("namespace", described("That of the tool, where it is in one.", string()))
}

/// A tool, tools of a namespace, or an offer that models here leave alone.
fn tool() -> Value {
    let within = described("What may be called.", list(any_of([function(), custom()])));
    let group = object(
        &["type", "name", "tools"],
        [
            ("type", word(&["namespace"])),
            ("name", tool_name()),
            ("description", described("What its tools have in common.", string())),
            ("tools", within),
        ],
    );
    let offer = json!({"type": "object", "required": ["type"], "properties": {"type": word(LEFT_ALONE)}});
    any_of([function(), custom(), group, described("Accepted, and never called here.", offer)])
}

fn function() -> Value {
    object(
        &["type", "name"],
        [
            ("type", word(&["function"])),
            ("name", tool_name()),
            ("description", described("What it does, for the model.", string())),
            ("parameters", tool_parameters()),
            ("strict", described("Whether calls always follow the schema.", boolean())),
            ("defer_loading", described("All tools are told of: without effect.", boolean())),
            allowed_callers(),
            waited_for(),
            ("output_schema", described("The schema of what it gives; without effect.", any_object())),
        ],
    )
}

fn custom() -> Value {
    object(
        &["type", "name"],
        [
            ("type", word(&["custom"])),
            ("name", tool_name()),
            ("description", described("What it does, for the model.", string())),
            ("format", described("What its text must be.", custom_format(false))),
            ("defer_loading", described("All tools are told of: without effect.", boolean())),
            allowed_callers(),
            waited_for(),
        ],
    )
}

fn tool_choice() -> Value {
    let kind = || ("type", word(&["function", "custom"]));
    let named = || object(&["type", "name"], [kind(), ("name", string()), namespace()]);
    let some = [
        ("type", word(&["allowed_tools"])),
        ("mode", word(&["auto", "required"])),
        ("tools", array(named(), 0, TOOLS_MAX)),
    ];
    any_of([word(&["none", "auto", "required"]), named(), object(&["type", "mode", "tools"], some)])
}

fn reasoning() -> Value {
    let summary = || word(&["auto", "concise", "detailed"]);
    object(
        &[],
        [
            ("effort", word(&Effort::ALL.map(|(name, _)| name))),
            ("summary", summary()),
            ("generate_summary", described("The older name of `summary`.", summary())),
            ("context", word(&["auto"])),
            ("mode", word(&["standard"])),
        ],
    )
}

fn text_form() -> Value {
    let of = |kind: &str| object(&["type"], [("type", word(&[kind]))]);
    let mut schema = vec![("type", word(&["json_schema"]))];
    schema.extend(schema_format());
    let schema = super::of(&["type", "name", "schema"], schema);
    let format = described("A schema always binds.", any_of([of("text"), of("json_object"), schema]));
    let verbosity = described("Checked, and without effect.", word(&["low", "medium", "high"]));
    object(&[], [("format", format), ("verbosity", verbosity)])
}
