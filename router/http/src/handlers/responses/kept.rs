//! Responses that were kept: `GET`, `DELETE`, `cancel` and `input_items` of `/v1/responses/{id}`.

use allerac_objects::{Kind, Order};
use allerac_wire::{Deleted, ListPage};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::context::Kept;
use crate::auth::Authenticated;
use crate::background::{AsTold, Told};
use crate::error::ApiError;
use crate::handlers::list::{Params, slice};
use crate::numbering::events_after;
use crate::sse;
use crate::state::AppState;

/// One of them as it stands, or its events after a number.
pub(crate) async fn get(
    State(state): State<AppState>,
    caller: Authenticated,
    Path(id): Path<String>,
    headers: HeaderMap,
    mut params: Params,
) -> Result<Response, ApiError> {
    let stream = params.boolean("stream")?;
    let after = params.number("starting_after", 0, u64::MAX)?;
    // All that may be included is told anyway, and nothing is padded.
    params.take_all("include");
    params.boolean("include_obfuscation")?;
    params.finish()?;
    if !stream {
        return Ok(Json(find(&state, &caller, &id).await?.response).into_response());
    }
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.parse().ok());
    stream_again(&state, &caller, &id, after.or(last)).await
}

async fn stream_again(
    state: &AppState,
    caller: &Authenticated,
    id: &str,
    after: Option<u64>,
) -> Result<Response, ApiError> {
    let owner = caller.0.salt;
    if let Some(running) = state.background.find(owner, id) {
        return sse::answer(running.follow(after), AsTold).await;
    }
    let kept = find(state, caller, id).await?;
    let transcript = state.store.tail(Kind::Response, owner, id).await?;
    let transcript = transcript.and_then(|transcript| String::from_utf8(transcript).ok());
    let Some(transcript) = transcript else {
        let message = match kept.response["background"].as_bool() {
            Some(true) => "the box was stopped before this response was complete; there is nothing to stream",
            _ => "only a response that was made with `background` can be streamed again",
        };
        return Err(ApiError::invalid_value("stream", message));
    };
    let (sender, told) = mpsc::channel(1);
    let text = events_after(&transcript, after);
    sse::deliver(&sender, Told::Events { text, last: true }).await;
    sse::answer(told, AsTold).await
}

async fn find(state: &AppState, caller: &Authenticated, id: &str) -> Result<Kept, ApiError> {
    let owner = caller.0.salt;
    // First what runs: it is kept before it is there no more.
    let running = state.background.find(owner, id).map(|running| running.response());
    let mut kept = Kept::find(state, owner, id).await?.ok_or_else(|| ApiError::not_kept("response", id))?;
    if let Some(response) = running {
        kept.response = response;
    } else if matches!(kept.response["status"].as_str(), Some("queued" | "in_progress")) {
        kept.response["status"] = json!("failed");
        kept.response["error"] =
            json!({"code": "server_error", "message": "the box was stopped before this response was complete"});
    }
    Ok(kept)
}

/// Forgets it; what runs ends.
pub(crate) async fn delete(
    State(state): State<AppState>,
    caller: Authenticated,
    Path(id): Path<String>,
) -> Result<Json<Deleted>, ApiError> {
    let owner = caller.0.salt;
    if let Some(running) = state.background.find(owner, &id) {
        running.delete();
        running.ended().await;
    }
    if !state.store.delete(Kind::Response, owner, &id).await? {
        return Err(ApiError::not_kept("response", &id));
    }
    Ok(Json(Deleted { id, object: "response", deleted: true }))
}

/// Ends it; of one that has ended, says how.
pub(crate) async fn cancel(
    State(state): State<AppState>,
    caller: Authenticated,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    if let Some(running) = state.background.find(caller.0.salt, &id) {
        running.cancel.cancel();
        running.ended().await;
    }
    let kept = find(&state, &caller, &id).await?;
    if kept.response["background"] != true {
        let message = "only a response that was made with `background` can be cancelled";
        return Err(ApiError::invalid_value("response_id", message));
    }
    Ok(Json(kept.response))
}

/// What it answers, newest first where nothing else is wanted.
pub(crate) async fn input_items(
    State(state): State<AppState>,
    caller: Authenticated,
    Path(id): Path<String>,
    mut params: Params,
) -> Result<Json<ListPage<Value>>, ApiError> {
    let wanted = params.page(Order::Descending, 100)?;
    params.take_all("include");
    params.finish()?;
    let kept = find(&state, &caller, &id).await?;
    slice(kept.input, &wanted).ok_or_else(|| ApiError::not_kept("item", wanted.after.as_deref().unwrap_or_default()))
}
