//! Answers one line of a batch, as if it had come by itself.

use std::time::{Duration, Instant};

use allerac_ledger::{Denied, Right};
use allerac_router_core::Route;
use allerac_wire::{BatchEndpoint, BatchLine};
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, Limited};
use serde_json::{Value, json};
use uuid::Uuid;

use super::record::Record;
use crate::auth::{Admitted, Authenticated};
use crate::error::ApiError;
use crate::handlers::{chat, completions, generate, responses};
use crate::state::AppState;

/// Bytes of one answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long a line waits when the box says that it is busy, and does not say for how long.
const WAIT: Duration = Duration::from_secs(5);
/// The longest such wait.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// How often a line is tried that fails for a reason which may pass, other than that the box is busy.
const FAILURES_MAX: u32 = 3;

/// What became of a line.
pub(crate) struct Answered {
    pub(crate) failed: bool,
    /// The line of the output or of the errors.
    pub(crate) line: Value,
}

/// Answers a line, however long the box is busy with others.
pub(crate) async fn answer(state: &AppState, record: &Record, number: u32, bytes: &[u8]) -> Answered {
    let custom_id = custom_id(bytes);
    let request_id = request_id(&record.id, number);
    let mut failures = 0;
    loop {
        let answer = once(state, record, request_id, bytes).await;
        let (status, retry_after) = (answer.status(), retry_after(&answer));
        let body = body(answer).await;
        let busy = status == StatusCode::SERVICE_UNAVAILABLE
            || status == StatusCode::TOO_MANY_REQUESTS && body["error"]["code"] != "insufficient_quota";
        failures += u32::from(!busy);
        let is_final = !busy && (!status.is_server_error() || failures >= FAILURES_MAX);
        if is_final {
            let failed = !status.is_success();
            let response =
                json!({"status_code": status.as_u16(), "request_id": request_id.simple().to_string(), "body": body});
            return Answered { failed, line: output_line(&record.id, number, &custom_id, &response, &Value::Null) };
        }
        tokio::time::sleep(retry_after.unwrap_or(WAIT).min(WAIT_MAX)).await;
    }
}

/// What is said of a line that was not begun.
pub(crate) fn unanswered(record: &Record, number: u32, bytes: &[u8], code: &str, message: &str) -> Value {
    let error = json!({"code": code, "message": message});
    output_line(&record.id, number, &custom_id(bytes), &Value::Null, &error)
}

fn output_line(batch: &str, number: u32, custom_id: &str, response: &Value, error: &Value) -> Value {
    let id = format!("batch_req_{}", request_id(batch, number).simple());
    json!({"id": id, "custom_id": custom_id, "response": response, "error": error})
}

/// The name of a line's request in the ledger: the same however often it is begun, so that it is charged once.
fn request_id(batch: &str, number: u32) -> Uuid {
    let hash = blake3::hash(format!("line {number} of {batch}").as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.as_bytes()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

fn custom_id(bytes: &[u8]) -> String {
    let line: Value = serde_json::from_slice(bytes).unwrap_or_default();
    line["custom_id"].as_str().unwrap_or_default().to_owned()
}

async fn once(state: &AppState, record: &Record, request_id: Uuid, bytes: &[u8]) -> Response {
    ask(state, record, request_id, bytes).await.unwrap_or_else(IntoResponse::into_response)
}

async fn ask(state: &AppState, record: &Record, request_id: Uuid, bytes: &[u8]) -> Result<Response, ApiError> {
    let caller = Authenticated(state.ledger.principal(&record.key_id)?);
    // It was asked for within the hours of its key; when it is answered is for the box to decide.
    match caller.0.may(Right::Files).and_then(|()| caller.0.may(Right::Infer)) {
        Ok(()) | Err(Denied::Hours(_)) => {}
        Err(denied) => return Err(denied.into()),
    }
    // Lines wait for everybody as it is: the limits of a minute are for those who wait for answers.
    let accounts = Vec::new();
    let permit = state.limits.admit(&accounts).await?;
    let admitted = Admitted { request_id, accepted: Instant::now(), permit, accounts };
    let mut envelope = BatchLine::parse(bytes, record.endpoint())?.envelope()?;
    // Here it waits for others; what another server makes of a tier is for the client to know.
    if matches!(generate::place(state, &caller, &envelope)?, Route::Local(_)) {
        envelope.body.insert("service_tier".into(), json!("flex"));
    }
    match record.endpoint() {
        BatchEndpoint::Chat => generate::respond::<chat::Answer>(state, caller, admitted, envelope).await,
        BatchEndpoint::Completions => generate::respond::<completions::Answer>(state, caller, admitted, envelope).await,
        BatchEndpoint::Responses => responses::respond(state, caller, admitted, envelope).await,
    }
}

fn retry_after(answer: &Response) -> Option<Duration> {
    answer.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

async fn body(answer: Response) -> Value {
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    serde_json::from_slice(&body).unwrap_or_default()
}
