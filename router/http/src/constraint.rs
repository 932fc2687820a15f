//! From what a request says of its answer to what an engine is told.

use allerac_engine_core::Grammar;
use allerac_wire::{Constraint, Form};

/// Any JSON object.
const OBJECT: &str = r#"{"type":"object"}"#;

pub(crate) fn grammar_of(constraint: &Constraint) -> Grammar {
    match &constraint.form {
        Form::JsonObject => Grammar::JsonSchema(OBJECT.to_owned()),
        Form::JsonSchema(schema) => Grammar::JsonSchema(schema.clone()),
        Form::Regex(regex) => Grammar::Regex(regex.clone()),
        Form::Choice(choices) => Grammar::Choice(choices.clone()),
        Form::Gbnf(text) => Grammar::Gbnf(text.clone()),
        Form::Lark(text) => Grammar::Lark(text.clone()),
    }
}
