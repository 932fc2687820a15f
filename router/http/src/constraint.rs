//! From what a request says of its answer to what an engine is told.

use allerac_engine_core::Grammar;
use allerac_parse::closed;
use allerac_wire::{Constraint, Form};

/// Any JSON object.
const OBJECT: &str = r#"{"type":"object"}"#;

pub(crate) fn grammar_of(constraint: &Constraint) -> Grammar {
    match &constraint.form {
        Form::JsonObject => Grammar::JsonSchema(OBJECT.to_owned()),
        Form::JsonSchema(schema) => Grammar::JsonSchema(without_others(schema)),
        Form::Regex(regex) => Grammar::Regex(regex.clone()),
        Form::Choice(choices) => Grammar::Choice(choices.clone()),
        Form::Gbnf(text) => Grammar::Gbnf(text.clone()),
        Form::Lark(text) => Grammar::Lark(text.clone()),
    }
}

/// A schema whose objects have no properties but those that it lists, as other servers have it: a small model would
/// invent some until its tokens are used up. What is no schema is for the compiler to refuse.
fn without_others(schema: &str) -> String {
    serde_json::from_str(schema).map_or_else(|_| schema.to_owned(), |schema| closed(&schema).to_string())
}
