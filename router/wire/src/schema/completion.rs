//! `POST /v1/completions`.

use serde_json::{Value, json};

use super::chat::model;
use super::options::options;
use super::{any_of, array, boolean, described, example, integer, of, string};
use crate::completion::{LOGPROBS_MAX, PROMPTS_MAX};

/// The same, from another least number on.
fn with_least(mut schema: Value, least: i64) -> Value {
    schema["minimum"] = json!(least);
    schema
}

/// A request to go on with texts.
#[must_use]
pub fn completion_request() -> Value {
    let tokens = || array(integer(0, i64::from(u32::MAX)), 1, 1_000_000);
    let text = || json!({"type": "string", "minLength": 1});
    let prompt = any_of([text(), array(text(), 1, PROMPTS_MAX), tokens(), array(tokens(), 1, PROMPTS_MAX)]);
    let mut properties = vec![
        ("model", model()),
        ("prompt", example("Once upon a time", described("Texts to go on with, or tokens of the model.", prompt))),
        (
            "logprobs",
            described("Log probabilities wanted: alternatives at each token.", integer(0, i64::from(LOGPROBS_MAX))),
        ),
        ("best_of", described("As many as `n`.", integer(1, i64::from(u32::MAX)))),
        ("echo", described("Whether each answer begins with its prompt, in `logprobs` too.", boolean())),
        ("suffix", described("What stands after the answer, for models that fill in the middle.", string())),
    ];
    // An echo may be all that is wanted.
    let options = options().into_iter().map(|(name, schema)| match name {
        "max_tokens" | "max_completion_tokens" => (name, with_least(schema, 0)),
        _ => (name, schema),
    });
    properties.extend(options);
    of(&["model", "prompt"], properties)
}
