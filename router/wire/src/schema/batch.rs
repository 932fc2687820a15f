//! `POST /v1/batches` and `POST /v1/files`.

use serde_json::{Value, json};

use super::chat::metadata;
use super::{described, example, integer, object, text, word};
use crate::batch::{BatchEndpoint, ID_CHARS_MAX, KEPT_S};

/// At most a day, in hours, minutes or seconds.
const WINDOW: &str = "^((2[0-4]|1[0-9]|[1-9])h|(14[0-3][0-9]|1440|1[0-3][0-9]{2}|[1-9][0-9]{0,2})m\
    |(86[0-3][0-9]{2}|86400|8[0-5][0-9]{3}|[1-7][0-9]{4}|[1-9][0-9]{0,3})s)$";

/// A request for a batch.
#[must_use]
pub fn batch_request() -> Value {
    let window = example(
        "24h",
        described("How long it may take: at most a day, as in `90m`.", json!({"type": "string", "pattern": WINDOW})),
    );
    let seconds = integer(*KEPT_S.start(), *KEPT_S.end());
    let expiry = object(&["anchor", "seconds"], [("anchor", word(&["created_at"])), ("seconds", seconds)]);
    object(
        &["input_file_id", "endpoint", "completion_window"],
        [
            (
                "input_file_id",
                described("A file of the purpose `batch`, with a request on each line.", text(1, ID_CHARS_MAX)),
            ),
            ("endpoint", described("What the lines ask.", word(&BatchEndpoint::ALL.map(|(path, _)| path)))),
            ("completion_window", window),
            ("output_expires_after", described("How long what it gives is kept; by default 30 days.", expiry)),
            ("metadata", described("The client's own words about it.", metadata())),
        ],
    )
}

/// The form that brings a file.
#[must_use]
pub fn file_form(purposes: &[&str]) -> Value {
    let file = json!({"type": "string", "format": "binary", "description": "What is in it."});
    let seconds = integer(*KEPT_S.start(), *KEPT_S.end());
    json!({
        "type": "object", "required": ["file", "purpose"], "additionalProperties": false,
        "properties": {
            "file": file,
            "purpose": described("What it is for.", word(purposes)),
            "expires_after[anchor]": described("From when `expires_after[seconds]` count.", word(&["created_at"])),
            "expires_after[seconds]": described("How long it is kept.", seconds),
        },
        "dependentRequired": {
            "expires_after[anchor]": ["expires_after[seconds]"],
            "expires_after[seconds]": ["expires_after[anchor]"],
        },
    })
}
