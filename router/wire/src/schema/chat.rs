//! `POST /v1/chat/completions`.

use serde_json::{Value, json};

use super::options::options;
use super::{
    MODEL_EXAMPLES, any_object, any_of, array, boolean, described, example, integer, list, nullable, object, of,
    string, text, word,
};
use crate::chat::{METADATA_MAX, PREDICTION_BYTES_MAX};
use crate::conversation::Effort;
use crate::message::{CALLS_MAX, MESSAGES_MAX, PARTS_MAX};
use crate::tools::{GRAMMAR_BYTES_MAX, NAME_CHARS_MAX, TOOLS_MAX};

/// A request to go on with a conversation.
#[must_use]
pub fn chat_request() -> Value {
    let efforts = Effort::ALL.map(|(name, _)| name);
    let conversation = format!("The conversation: at most {MESSAGES_MAX} messages, each of at most {PARTS_MAX} parts.");
    let question = json!([{"role": "user", "content": "Why is the sky blue?"}]);
    let mut properties = vec![
        ("model", model()),
        ("messages", example(question, described(&conversation, at_least_one(list(message()))))),
        ("tools", described("What the model may call.", array(tool(), 0, TOOLS_MAX))),
        ("tool_choice", described("Whether a tool must be called.", tool_choice())),
        ("parallel_tool_calls", described("Whether several may be called at once.", boolean())),
        ("reasoning_effort", described("How much a model thinks first, where it thinks.", word(&efforts))),
        ("reasoning", described("OpenRouter's name of `reasoning_effort`.", reasoning(&efforts))),
        ("thinking", described("DeepSeek's name of `reasoning_effort`.", thinking())),
        ("enable_thinking", described("Qwen's name of `reasoning_effort`: whether a model thinks at all.", boolean())),
        ("prediction", described("Text that the answer is expected to repeat: it comes faster.", prediction())),
        ("logprobs", described("Whether log probabilities come with the answer.", boolean())),
        ("top_logprobs", described("Alternatives at each token; only with `logprobs`.", integer(0, 20))),
        ("store", described("Whether the answer is kept, to be asked for again.", boolean())),
        ("metadata", described("The client's own words about the request.", metadata())),
        ("chat_template_kwargs", described("More variables for the model's chat template.", any_object())),
        ("modalities", described("Only text.", array(word(&["text"]), 1, 1))),
        ("verbosity", described("Checked, and without effect.", word(&["low", "medium", "high"]))),
        ("functions", described("Only empty: the older form of `tools`.", array(any_object(), 0, 0))),
        ("function_call", described("The older form of `tool_choice`.", word(&["none", "auto"]))),
        ("safety_identifier", described("A hint to OpenAI, without effect.", string())),
        ("prompt_cache_key", described("A hint to OpenAI, without effect: what begins alike is found.", string())),
        ("prompt_cache_retention", described("A hint to OpenAI, without effect.", string())),
        ("prompt_cache_options", described("A hint to OpenAI, without effect.", any_object())),
        ("cache_prompt", described("Without effect: what begins alike is found.", boolean())),
        ("usage", described("Usage is told in any case.", object(&[], [("include", boolean())]))),
    ];
    properties.extend(options());
    of(&["model", "messages"], properties)
}

fn reasoning(efforts: &[&str]) -> Value {
    let tokens = described("The more, the more effort.", integer(0, i64::from(u32::MAX)));
    let shown = described("Only `false`.", json!({"type": "boolean", "enum": [false]}));
    object(&[], [("effort", word(efforts)), ("enabled", boolean()), ("max_tokens", tokens), ("exclude", shown)])
}

fn thinking() -> Value {
    let tokens = described("The more, the more effort.", integer(0, i64::from(u32::MAX)));
    object(&["type"], [("type", word(&["enabled", "disabled", "adaptive"])), ("budget_tokens", tokens)])
}

fn at_least_one(mut list: Value) -> Value {
    list["minItems"] = json!(1);
    list
}

/// Other metadata for what is kept.
#[must_use]
pub fn metadata_update() -> Value {
    object(&[], [("metadata", nullable(metadata()))])
}

pub(super) fn model() -> Value {
    example(MODEL_EXAMPLES[0], described("An id of `GET /v1/models`.", string()))
}

/// A message, by who speaks.
fn message() -> Value {
    let said = |roles: &[&str], content: Value| {
        let said = [("role", word(roles)), ("content", content), ("name", string()), cache_control()];
        object(&["role", "content"], said)
    };
    let function = object(&["name"], [("name", string()), ("arguments", described("JSON text.", string()))]);
    let custom = object(&["name", "input"], [("name", string()), ("input", string())]);
    let call =
        any_of([call(&["id", "function"], "function", function), call(&["id", "type", "custom"], "custom", custom)]);
    let answer = object(
        &["role"],
        [
            ("role", word(&["assistant"])),
            ("content", any_of([string(), list(any_of([text_part(), refusal_part()]))])),
            ("name", string()),
            ("refusal", string()),
            ("reasoning_content", described("What the model thought.", string())),
            ("reasoning", described("Another name of `reasoning_content`.", string())),
            ("tool_calls", array(call, 0, CALLS_MAX)),
            ("annotations", array(any_object(), 0, 0)),
            cache_control(),
        ],
    );
    let result = object(
        &["role", "content", "tool_call_id"],
        [
            ("role", word(&["tool"])),
            ("content", text_content()),
            ("tool_call_id", described("The id of a call in the message before.", string())),
            ("name", string()),
            cache_control(),
        ],
    );
    any_of([said(&["user"], user_content()), said(&["system", "developer"], text_content()), answer, result])
}

/// A call of this kind.
fn call(required: &[&str], kind: &'static str, called: Value) -> Value {
    object(
        required,
        [
            ("id", string()),
            ("type", word(&[kind])),
            ("index", described("Its place in a stream, without effect.", integer(0, i64::from(u32::MAX)))),
            ("extra_content", described("What another server signed, without effect.", any_object())),
            (kind, called),
        ],
    )
}

/// Where a cache is to end, in Anthropic's words.
fn cache_breakpoint() -> (&'static str, Value) {
    ("prompt_cache_breakpoint", described("Without effect: what begins alike is found.", any_object()))
}

fn cache_control() -> (&'static str, Value) {
    ("cache_control", described("Without effect: what begins alike is found.", any_object()))
}

fn text_part() -> Value {
    object(&["type", "text"], [("type", word(&["text"])), ("text", string()), cache_control(), cache_breakpoint()])
}

fn refusal_part() -> Value {
    object(
        &["type", "refusal"],
        [("type", word(&["refusal"])), ("refusal", string()), cache_control(), cache_breakpoint()],
    )
}

/// Text, or text in parts.
fn text_content() -> Value {
    any_of([string(), list(text_part())])
}

/// Text, or parts.
fn user_content() -> Value {
    let image = object(&["url"], [("url", string()), ("detail", string())]);
    let image = object(
        &["type", "image_url"],
        [("type", word(&["image_url"])), ("image_url", image), cache_control(), cache_breakpoint()],
    );
    any_of([string(), list(any_of([text_part(), described("For models that see.", image)]))])
}

/// A function that the model may ask to be called, or a custom tool, which is given text.
fn tool() -> Value {
    let function = object(
        &["name"],
        [
            ("name", tool_name()),
            ("description", described("What it does, for the model.", string())),
            ("parameters", tool_parameters()),
            ("strict", described("Whether calls always follow the schema.", boolean())),
        ],
    );
    let function =
        object(&["type", "function"], [("type", word(&["function"])), ("function", function), cache_control()]);
    let custom = object(
        &["name"],
        [
            ("name", tool_name()),
            ("description", described("What it does, for the model.", string())),
            ("format", described("What its text must be.", custom_format(true))),
        ],
    );
    let custom = object(&["type", "custom"], [("type", word(&["custom"])), ("custom", custom), cache_control()]);
    any_of([function, custom])
}

/// What the text of a custom tool must be; in one API the grammar is an object of its own.
pub(super) fn custom_format(nested: bool) -> Value {
    let kind = ("type", word(&["grammar"]));
    let syntax = ("syntax", word(&["lark", "regex"]));
    let definition = ("definition", text(1, GRAMMAR_BYTES_MAX));
    let grammar = if nested {
        let grammar = object(&["syntax", "definition"], [syntax, definition]);
        object(&["type", "grammar"], [kind, ("grammar", grammar)])
    } else {
        object(&["type", "syntax", "definition"], [kind, syntax, definition])
    };
    any_of([object(&["type"], [("type", word(&["text"]))]), grammar])
}

pub(super) fn tool_name() -> Value {
    json!({"type": "string", "pattern": format!("^[A-Za-z0-9_.-]{{1,{NAME_CHARS_MAX}}}$")})
}

/// What a tool is given: always an object.
pub(super) fn tool_parameters() -> Value {
    let parameters = json!({"type": "object", "properties": {"type": {"const": "object"}}});
    described("The JSON schema of its arguments.", parameters)
}

fn tool_choice() -> Value {
    let name = || object(&["name"], [("name", string())]);
    let of_kind = |kind: &'static str| object(&["type", kind], [("type", word(&[kind])), (kind, name())]);
    let named = || any_of([of_kind("function"), of_kind("custom")]);
    let some =
        object(&["mode", "tools"], [("mode", word(&["auto", "required"])), ("tools", array(named(), 0, TOOLS_MAX))]);
    let some = object(&["type", "allowed_tools"], [("type", word(&["allowed_tools"])), ("allowed_tools", some)]);
    any_of([word(&["none", "auto", "required"]), named(), some])
}

fn prediction() -> Value {
    let part = object(&["type", "text"], [("type", word(&["text"])), ("text", string()), cache_breakpoint()]);
    let content = any_of([text(0, PREDICTION_BYTES_MAX), list(part)]);
    object(&["type", "content"], [("type", word(&["content"])), ("content", content)])
}

pub(super) fn metadata() -> Value {
    let (pairs, key_chars, value_chars) = METADATA_MAX;
    json!({
        "type": "object", "maxProperties": pairs, "propertyNames": {"maxLength": key_chars},
        "additionalProperties": text(0, value_chars),
    })
}
