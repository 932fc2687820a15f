//! `POST /v1/completions`.

use serde_json::{Value, json};

use super::chat::model;
use super::options::options;
use super::{any_of, array, described, example, integer, of};
use crate::completion::{LOGPROBS_MAX, PROMPTS_MAX};

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
        ("echo", described("Only `false`.", json!({"type": "boolean", "enum": [false]}))),
        ("suffix", described("Only empty.", json!({"type": "string", "maxLength": 0}))),
    ];
    properties.extend(options());
    of(&["model", "prompt"], properties)
}
