//! Responses in the background that the box was at when it stopped: they are begun again, like the lines of batches.
//!
//! A response that is not complete is kept with its request. What runs again runs under the same name in the ledger,
//! which charges the last time only.

use std::time::Instant;

use allerac_ledger::{Denied, Principal, Right};
use allerac_objects::{Kind, StoreError};
use allerac_router_core::Endpoint;
use allerac_wire::{Envelope, ResponsesRequest};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::context::{Context, Kept};
use super::run::Run;
use super::{granted, writer};
use crate::auth::{Admitted, Authenticated};
use crate::error::ApiError;
use crate::handlers::generate::{begin, place};
use crate::prepare::{Ask, Job};
use crate::state::AppState;

/// How often a response is begun. One during which the box stops each time may be why it does.
const RUNS_MAX: u64 = 3;
/// More events than a response has: a model of a million tokens tells fewer. Those of the next run have higher numbers,
/// so that whoever goes on after the last event that came gets all of them, and nothing of the run before.
const EVENTS_MAX: u64 = 10_000_000;

/// What is needed to begin a response again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Again {
    /// The public id of the key that asked.
    key_id: String,
    /// The request, but for what it answers, which is kept beside it.
    body: Map<String, Value>,
    /// How often it was begun.
    runs: u64,
    /// How many items of what it answers were there before the request.
    #[serde(default)]
    pub(super) known: usize,
}

impl Again {
    /// What is to be kept of a request that runs in the background.
    pub(crate) fn of(envelope: &Envelope, caller: &Principal) -> Option<Self> {
        if envelope.body.get("background") != Some(&json!(true)) {
            return None;
        }
        let rest = envelope.body.iter().filter(|(name, _)| *name != "input");
        let input = ("input".to_owned(), json!("-"));
        let body = rest.map(|(name, value)| (name.clone(), value.clone())).chain([input]).collect();
        Some(Self { key_id: caller.key_id.clone(), body, runs: 1, known: 0 })
    }
}

/// Goes on with the responses that the last run of the box did not complete.
///
/// # Errors
/// When the store cannot be read or written.
pub async fn resume(state: &AppState) -> Result<(), StoreError> {
    for object in state.store.open_objects(Kind::Response).await? {
        let Ok(mut kept) = serde_json::from_slice::<Kept>(&object.head) else { continue };
        let Some(again) = kept.again.take() else { continue };
        let id = kept.id().to_owned();
        tracing::info!(response = %id, "beginning a response again");
        if let Err(error) = begin_again(state, object.owner, &kept, again).await {
            tracing::warn!(response = %id, "a response is not begun again: {}", error.message);
            kept.response["status"] = json!("failed");
            kept.response["error"] = json!({"code": error.response_code(), "message": error.message});
            state.store.put(kept.object(object.owner, false, None)).await?;
        }
    }
    Ok(())
}

async fn begin_again(state: &AppState, owner: u64, kept: &Kept, mut again: Again) -> Result<(), ApiError> {
    if again.runs >= RUNS_MAX {
        let message = format!("the box was stopped {RUNS_MAX} times before this response was complete; ask again");
        return Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "stopped", message));
    }
    again.runs += 1;
    let caller = Authenticated(state.ledger.principal(&again.key_id)?);
    // It was asked for within the hours of its key.
    match caller.0.may(Right::Infer) {
        Ok(()) | Err(Denied::Hours(_)) => {}
        Err(denied) => return Err(denied.into()),
    }
    let envelope = Envelope::of(again.body.clone())?;
    let place = place(state, &caller, &envelope)?;
    let mut request = ResponsesRequest::parse(envelope)?;
    request.chat.options.service_tier = granted(request.chat.options.service_tier, &caller.0);
    let context = Context::again(kept.input.clone(), again.known, &mut request)?;
    let id = kept.id();
    let name = id.trim_start_matches("resp_");
    let request_id = Uuid::try_parse(name).map_err(|_| ApiError::not_kept("response", id))?;
    let created_at = kept.response["created_at"].as_i64().unwrap_or_default();
    let writer =
        writer(state, owner, &request, (name, created_at), &place).counting_from((again.runs - 1) * EVENTS_MAX);
    let (store, bytes_max) = (state.store.clone(), caller.0.storage_bytes());
    let run = Run { store, owner, bytes_max, context, is_kept: true, writer, again: Some(again) };
    let running = run.go_background(&state.background)?;
    // It had its place in the limits of a minute when it came.
    let (accepted, accounts) = (Instant::now(), Vec::new());
    let admitted =
        state.limits.admit(&accounts).await.map(|permit| Admitted { request_id, accepted, permit, accounts });
    let ask = Ask::Chat(Box::new(request.chat));
    let begun = admitted
        .map_err(ApiError::from)
        .and_then(|admitted| begin(state, &caller.0, place, Job { admitted, endpoint: Endpoint::Responses, ask }));
    match begun {
        Ok((_, lane)) => running.launch(run, lane, state).await.map(drop),
        Err(error) => {
            running.leave(&state.background);
            Err(error)
        }
    }
}
