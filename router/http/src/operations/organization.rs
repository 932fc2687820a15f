//! OpenAI's API: what was used, for whoever looks after the box.

use axum::routing::get;
use serde_json::{Value, json};

use super::under;
use crate::handlers::organization::{self, CompletionsUsage, Cost, EmbeddingsUsage, UsagePage};
use crate::openapi::Operation;

pub(super) fn operations() -> Vec<Operation> {
    let completions = get(organization::completions);
    let embeddings = get(organization::embeddings);
    let all = [
        asked(Operation::get(
            "/v1/organization/usage/completions",
            completions,
            "Tokens of answers; for owners, admins and auditors",
        ))
        .gives::<UsagePage<CompletionsUsage>>(200),
        asked(Operation::get(
            "/v1/organization/usage/embeddings",
            embeddings,
            "Tokens of vectors; for owners, admins and auditors",
        ))
        .gives::<UsagePage<EmbeddingsUsage>>(200),
        Operation::get(
            "/v1/organization/costs",
            get(organization::costs),
            "What other servers took, and what electricity and the machine cost; for owners, admins and auditors",
        )
        .in_query("start_time", "A moment in the first day, in seconds since 1970.", moment())
        .required()
        .in_query("end_time", "Where it ends, not included; now as usual.", moment())
        .in_query("bucket_width", "A calendar day of the box.", json!({"type": "string", "enum": ["1d"]}))
        .in_query(
            "group_by",
            "What is told apart: the key, or the model.",
            json!({"type": "array", "items": {"type": "string", "enum": ["api_key_id", "line_item"]}}),
        )
        .in_query("user_ids", "Of these users only, by name.", words())
        .in_query("api_key_ids", "With these keys only, by public id.", words())
        .in_query("models", "With these models only.", words())
        .in_query("limit", "Days on a page, 7 as usual.", json!({"type": "integer", "minimum": 1, "maximum": 180}))
        .in_query("page", "The `next_page` of the page before.", json!({"type": "string"}))
        .gives::<UsagePage<Cost>>(200),
    ];
    under("OpenAI: usage", all).collect()
}

fn moment() -> Value {
    json!({"type": "integer", "minimum": 0, "maximum": i64::MAX / 1_000_000_000})
}

fn words() -> Value {
    json!({"type": "array", "items": {"type": "string"}, "maxItems": 64})
}

/// What both may be asked.
fn asked(operation: Operation) -> Operation {
    let one_of = |words: &[&str]| -> Value { json!({"type": "string", "enum": words}) };
    operation
        .in_query("start_time", "A moment in the first span, in seconds since 1970.", moment())
        .required()
        .in_query("end_time", "Where it ends, not included; now as usual.", moment())
        .in_query(
            "bucket_width",
            "How long spans are: `1d` as usual, a calendar day of the box.",
            one_of(&["1m", "1h", "1d"]),
        )
        .in_query(
            "group_by",
            "What is told apart.",
            json!({"type": "array", "items": one_of(&["user_id", "api_key_id", "model"])}),
        )
        .in_query("user_ids", "Of these users only, by name.", words())
        .in_query("api_key_ids", "With these keys only, by public id.", words())
        .in_query("models", "With these models only.", words())
        .in_query(
            "limit",
            "Spans on a page: 31 days (7 as usual), 168 hours (24) or 1440 minutes (60) at most.",
            json!({"type": "integer", "minimum": 1, "maximum": 1440}),
        )
        .in_query("page", "The `next_page` of the page before.", json!({"type": "string"}))
}
