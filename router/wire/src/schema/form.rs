//! What an answer must be.

use serde_json::{Value, json};

use super::{any_object, any_of, array, boolean, described, object, string, text, word};
use crate::constraint::{CHOICES_MAX, GRAMMAR_BYTES_MAX, NAME_CHARS_MAX, REGEX_BYTES_MAX};

/// `response_format`.
pub(super) fn response_format() -> Value {
    let of = |kind: &str| object(&["type"], [("type", word(&[kind]))]);
    let schema = object(&["name", "schema"], schema_format());
    let schema = object(&["type", "json_schema"], [("type", word(&["json_schema"])), ("json_schema", schema)]);
    let json = described("Other servers' place for a schema.", any_object());
    let json = object(&["type"], [("type", word(&["json_object"])), ("schema", json)]);
    described("What the answer must be. A schema always binds.", any_of([of("text"), json, schema]))
}

/// A schema with its name.
pub(super) fn schema_format() -> [(&'static str, Value); 4] {
    [("name", name()), ("description", string()), ("schema", any_object()), ("strict", boolean())]
}

fn name() -> Value {
    json!({"type": "string", "pattern": format!("^[A-Za-z0-9_-]{{1,{NAME_CHARS_MAX}}}$")})
}

/// The names that vLLM and llama.cpp's server have for it.
pub(super) fn others() -> [(&'static str, Value); 6] {
    let form = [
        ("json", described("A JSON schema.", schema())),
        ("regex", described("The whole answer matches it.", regex())),
        ("choice", described("The answer is one of these.", choice())),
        ("grammar", grammar()),
    ];
    [
        ("structured_outputs", described("vLLM's names for it; one of them.", object(&[], form))),
        ("grammar", grammar()),
        ("guided_json", described("The older name of `structured_outputs.json`.", schema())),
        ("guided_regex", described("The older name of `structured_outputs.regex`.", regex())),
        ("guided_choice", described("The older name of `structured_outputs.choice`.", choice())),
        ("guided_grammar", described("The older name of `structured_outputs.grammar`.", grammar())),
    ]
}

fn schema() -> Value {
    any_of([any_object(), text(1, crate::constraint::SCHEMA_BYTES_MAX)])
}

fn regex() -> Value {
    text(1, REGEX_BYTES_MAX)
}

fn choice() -> Value {
    array(json!({"type": "string", "minLength": 1}), 1, CHOICES_MAX)
}

fn grammar() -> Value {
    described("A grammar in llama.cpp's GBNF, or in llguidance's Lark.", text(1, GRAMMAR_BYTES_MAX))
}
