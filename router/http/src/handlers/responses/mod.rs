//! `POST /v1/responses` and what belongs to it.

mod again;
pub(crate) mod context;
mod item;
pub(crate) mod kept;
mod run;
mod writer;

use allerac_router_core::{Endpoint, Route};
use allerac_wire::{Envelope, InputTokens, ResponseObject, ResponsesRequest};
use axum::Json;
use axum::extract::{OriginalUri, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};

use super::generate::{begin, granted, place};
use super::{Asked, Body, Bounded, now_s, served_by};
use crate::auth::{Admitted, Authenticated};
use crate::error::ApiError;
use crate::idempotency::{self, Turn};
use crate::prepare::{Ask, Job, count_tokens};
use crate::state::AppState;
use again::Again;
pub use again::resume;
use context::Context;
use run::Run;
use writer::{Manner, Writer};

/// What a sealed thought belongs to: a person.
fn sealed_about(owner: u64) -> String {
    format!("thought {owner:x}")
}

/// Answers a request, here or elsewhere.
pub(crate) async fn create(
    State(state): State<AppState>,
    caller: Authenticated,
    admitted: Admitted,
    path: OriginalUri,
    headers: HeaderMap,
    Bounded(body): Body,
) -> Result<Response, ApiError> {
    let turn = Turn::of(&state, &caller.0, &headers, path.path(), &body).await?;
    let respond = |envelope| async move { respond(&state, caller, admitted, envelope).await };
    idempotency::answer(turn, body, respond).await
}

/// Answers a request that was read as far as its model.
pub(crate) async fn respond(
    state: &AppState,
    caller: Authenticated,
    admitted: Admitted,
    envelope: Envelope,
) -> Result<Response, ApiError> {
    let place = place(state, &caller, &envelope)?;
    let owner = caller.0.salt;
    let mut again = Again::of(&envelope, &caller.0);
    let mut request = ResponsesRequest::parse(envelope)?;
    let tier = &mut request.chat.options.service_tier;
    *tier = granted(*tier, &caller.0);
    let name = admitted.request_id.simple().to_string();
    let context = Context::of(state, owner, &mut request, &name).await?;
    if let Some(again) = &mut again {
        again.known = context.known;
    }
    let writer = writer(state, owner, &request, (&name, now_s()), &place);
    let (stream, background, is_kept) = (request.chat.options.stream, request.background, request.chat.store);
    let bytes_max = caller.0.storage_bytes();
    if is_kept || context.conversation.is_some() {
        // Before anything is computed that could not be kept.
        state.store.refuse_full(owner, bytes_max).await?;
    }
    let run = Run { store: state.store.clone(), owner, bytes_max, context, is_kept, writer, again };
    // A place in the background is taken before anything is computed.
    let running = background.then(|| run.go_background(&state.background)).transpose()?;
    let job = Job { admitted, endpoint: Endpoint::Responses, ask: Ask::Chat(Box::new(request.chat)) };
    let begun = begin(state, &caller.0, place, job);
    let answered = match (begun, running) {
        (Err(error), Some(running)) => {
            running.leave(&state.background);
            return Err(error.about_input());
        }
        (Err(error), None) => return Err(error.about_input()),
        (Ok((who, lane)), None) if stream => (who, run.stream(lane).await),
        (Ok((who, lane)), None) => (who, run.whole(lane).await.map(|response| Json(response).into_response())),
        (Ok((who, lane)), Some(running)) => (who, running.start(run, lane, state, stream).await),
    };
    let (who, answered) = answered;
    Ok(served_by(answered.unwrap_or_else(|error| error.about_input().into_response()), &who))
}

/// Writes the response to a request, by its name and the time when it came.
fn writer(
    state: &AppState,
    owner: u64,
    request: &ResponsesRequest,
    (name, created_at): (&str, i64),
    place: &Route<'_>,
) -> Writer {
    let response = ResponseObject::new(format!("resp_{name}"), created_at, request, open_sampling(place));
    let manner = Manner {
        summary: request.summary,
        sealed: request.encrypted_reasoning.then(|| (state.store.seal().clone(), owner)),
        logprobs: request.chat.top_logprobs.is_some(),
        events: request.chat.options.stream || request.background,
    };
    Writer::new(response, name.to_owned(), manner).with_tools(&request.chat.tools)
}

/// What a request that says nothing of temperature and `top_p` gets.
fn open_sampling(place: &Route<'_>) -> (f64, f64) {
    let number = |value: Option<f32>| value.map_or(1.0, |value| value.to_string().parse().unwrap_or(1.0));
    match place {
        Route::Local(model) => (number(model.sampling.temperature), number(model.sampling.top_p)),
        Route::Upstream(..) => (1.0, 1.0),
    }
}

/// `POST /v1/responses/input_tokens`: what a request would cost before its answer.
pub(crate) async fn input_tokens(
    State(state): State<AppState>,
    caller: Authenticated,
    admitted: Admitted,
    Asked(envelope): Asked,
) -> Result<Json<InputTokens>, ApiError> {
    let place = place(&state, &caller, &envelope)?;
    let mut request = ResponsesRequest::parse(envelope)?;
    let name = admitted.request_id.simple().to_string();
    Context::of(&state, caller.0.salt, &mut request, &name).await?;
    let Route::Local(model) = place else {
        let message = "only tokens of models of this box can be counted";
        return Err(ApiError::unsupported_value("model", message));
    };
    let ask = Ask::Chat(Box::new(request.chat));
    let input_tokens = count_tokens(&state.registry, &model, &ask).await.map_err(ApiError::about_input)?;
    Ok(Json(InputTokens { object: "response.input_tokens", input_tokens }))
}
