//! Ollama's own API.

mod answer;
mod embed;
mod model_info;
mod models;
mod orders;
mod pull;
mod stopwatch;

use std::time::Duration;

use allerac_router_core::Route;
use allerac_wire::Envelope;
use allerac_wire::ollama::{Answered, AnsweredMessage, OllamaChat, OllamaGenerate, keep_alive_of, only_loads};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};

pub(crate) use embed::{embed, embeddings};
pub(crate) use models::{SHOW_KNOWN, ps, show, tags, version};
pub(crate) use orders::{blobs, copy, create, delete, push};
pub(crate) use pull::pull;

use super::Asked;
use super::generate::{place, respond};
use crate::auth::{Admitted, Authenticated};
use crate::error::ApiError;
use crate::prepare;
use crate::state::AppState;
use answer::{Chat, Generate};

/// `POST /api/chat`.
pub(crate) async fn chat(
    State(state): State<AppState>,
    caller: Authenticated,
    admitted: Admitted,
    Asked(envelope): Asked,
) -> Result<Response, ApiError> {
    if only_loads(&envelope.body, "messages") {
        return load(&state, &caller, envelope, true).await;
    }
    respond::<Chat>(&state, caller, admitted, envelope).await
}

/// `POST /api/generate`.
pub(crate) async fn generate(
    State(state): State<AppState>,
    caller: Authenticated,
    admitted: Admitted,
    Asked(envelope): Asked,
) -> Result<Response, ApiError> {
    if only_loads(&envelope.body, "prompt") {
        return load(&state, &caller, envelope, false).await;
    }
    respond::<Generate>(&state, caller, admitted, envelope).await
}

/// A request that asks nothing: its model is loaded, or leaves memory where it is to stay for no time. It does not as
/// long as others use it.
async fn load(state: &AppState, caller: &Authenticated, envelope: Envelope, chat: bool) -> Result<Response, ApiError> {
    let place = place(state, caller, &envelope)?;
    check_the_rest(envelope.clone(), chat)?;
    let keep_alive = keep_alive_of(&envelope.body)?;
    let is_done = keep_alive == Some(Duration::ZERO);
    match place {
        Route::Local(model) if is_done => state.registry.unload(&model).await,
        Route::Local(model) => drop(prepare::load(&state.registry, &model, keep_alive, None).await?),
        Route::Upstream(..) => {}
    }
    let message = chat.then(|| AnsweredMessage { role: "assistant", ..AnsweredMessage::default() });
    Ok(Json(Answered {
        model: &envelope.model,
        created_at: now(),
        message,
        response: (!chat).then(String::new),
        thinking: None,
        logprobs: None,
        done: true,
        done_reason: Some(if is_done { "unload" } else { "load" }),
        durations: None,
    })
    .into_response())
}

/// What a request says besides what it asks is checked also where it asks nothing.
fn check_the_rest(mut envelope: Envelope, chat: bool) -> Result<(), ApiError> {
    let (name, nothing) = if chat { ("messages", json!([])) } else { ("prompt", json!("")) };
    let asked = envelope.body.entry(name).or_insert(Value::Null);
    if asked.is_null() {
        *asked = nothing;
    }
    if chat {
        OllamaChat::parse(envelope)?;
    } else {
        OllamaGenerate::parse(envelope)?;
    }
    Ok(())
}

fn now() -> String {
    jiff::Timestamp::now().to_string()
}

/// A line of an answer that comes in lines.
fn line(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("answers are plain data") + "\n"
}
