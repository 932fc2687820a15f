//! The books as files: settled requests, and the audit log. They are written as they are read, so that none is ever in
//! memory as a whole.

use std::io::{self, Write};

use allerac_ledger::{LedgerError, Span};
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::auth::Authenticated;
use crate::error::ApiError;
use crate::handlers::account::acting;
use crate::handlers::list::Params;
use crate::handlers::streamed::streamed;
use crate::handlers::{Bounded, SmallBody, parse};
use crate::state::AppState;
use crate::usage_file::{NotWritten, UsageFormat, write_usage};

/// Whether requests are noted in the audit log.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NotedRequests {
    /// Key, model, tokens and how each ended; never what was said.
    requests: bool,
}

/// `GET /v1/admin/usage/export`.
pub(crate) async fn usage(
    State(state): State<AppState>,
    _: Authenticated,
    mut params: Params,
) -> Result<Response, ApiError> {
    let (format, name, kind) = match params.take("format").as_deref() {
        None | Some("csv") => (UsageFormat::Csv, "usage.csv", "text/csv; charset=utf-8"),
        Some("parquet") => (UsageFormat::Parquet, "usage.parquet", "application/vnd.apache.parquet"),
        Some(_) => return Err(ApiError::invalid_value("format", "`format` must be csv or parquet")),
    };
    let moment_max = i64::MAX.unsigned_abs() / 1_000_000_000;
    let moment = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let from = params.number("start_time", 0, moment_max)?.map(moment);
    let to = params.number("end_time", 0, moment_max)?.map(moment);
    let user = params.take("user");
    params.finish()?;
    if from.zip(to).is_some_and(|(from, to)| from >= to) {
        return Err(ApiError::invalid_value("end_time", "`end_time` must be after `start_time`"));
    }
    let (ledger, span) = (state.ledger.clone(), Span { from, to, user });
    streamed(&state.exports, (name, kind), move |output| {
        write_usage(&ledger, &span, format, Box::new(output)).map(drop).map_err(|error| match error {
            NotWritten::Io(error) => error,
            other => io::Error::other(other),
        })
    })
}

/// `GET /v1/admin/audit_logs/export`: as `allerac audit verify --file` reads it.
pub(crate) async fn audit(
    State(state): State<AppState>,
    _: Authenticated,
    params: Params,
) -> Result<Response, ApiError> {
    params.finish()?;
    let ledger = state.ledger.clone();
    streamed(&state.exports, ("audit.jsonl", "application/jsonl"), move |mut output| {
        let mut broken = None;
        let read = ledger.export_audit(|entry| {
            let written = serde_json::to_writer(&mut output, entry).map_err(io::Error::from);
            written.and_then(|()| output.write_all(b"\n")).map_err(|error| {
                broken = Some(error);
                LedgerError::Closed
            })
        });
        match (broken, read) {
            (Some(error), _) => Err(error),
            (None, Err(error)) => Err(io::Error::other(error)),
            (None, Ok(())) => output.flush(),
        }
    })
}

/// `POST /v1/admin/audit_logs/requests`.
pub(crate) async fn note_requests(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    Bounded(body): SmallBody,
) -> Result<Json<NotedRequests>, ApiError> {
    let asked: NotedRequests = parse(&body)?;
    acting(&state, &caller).note_requests(asked.requests).await?;
    Ok(Json(asked))
}
