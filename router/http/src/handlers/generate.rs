//! What the endpoints that generate have in common: where a request goes, and how its answer is sent.

use allerac_ledger::{Principal, Urgency};
use allerac_router_core::{Endpoint, ModelKind, Route};
use allerac_wire::{CompletionUsage, Envelope, ServiceTier};
use axum::extract::{OriginalUri, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use tokio::sync::mpsc;

use super::collect::{Collected, collect};
use super::keep::Keeper;
use super::{Body, Bounded, served_by};
use crate::auth::{Admitted, Authenticated};
use crate::encoding;
use crate::error::ApiError;
use crate::generation::{LOCAL, start};
use crate::idempotency::{self, Turn};
use crate::prepare::{Ask, Job};
use crate::progress::Progress;
use crate::relay::{self, Conversation};
use crate::sse;
use crate::state::AppState;

/// An answer in the shape of one endpoint; as events when it is streamed.
pub(crate) trait Shape: sse::Format<Progress> + Sized {
    const ENDPOINT: Endpoint;
    /// Whether other servers have this endpoint too: then requests pass to them as they came, and else as chat
    /// completions.
    const PASSES: bool;

    /// Reads a request.
    fn parse(envelope: Envelope, admitted: &Admitted, caller: &Principal) -> Result<(Ask, Self), ApiError>;

    /// Sees each step of an answer that is not streamed, when it happens.
    fn watch(&mut self, _: &Progress) {}

    /// The whole of an answer that is not streamed.
    fn whole(self, choices: Vec<Collected>, usage: CompletionUsage) -> Response;

    /// Whether a request wants its answer kept: then it is read here, also where it passes to another server.
    fn is_kept(_envelope: &Envelope) -> bool {
        false
    }

    /// What keeps the answer, where the request wants that.
    fn keeper(&self, _ask: &Ask, _state: &AppState, _caller: &Principal) -> Option<Keeper> {
        None
    }
}

/// How urgent a request is: what it asks for, where its plan allows that. The answer says what became of it.
pub(crate) fn granted(wanted: ServiceTier, caller: &Principal) -> ServiceTier {
    match (caller.urgency(), wanted) {
        (Urgency::Batch, _) => ServiceTier::Flex,
        (Urgency::Chat, ServiceTier::Priority) => ServiceTier::Default,
        (Urgency::Chat | Urgency::Voice, wanted) => wanted,
    }
}

/// Answers a request, here or elsewhere.
pub(crate) async fn create<S: Shape>(
    State(state): State<AppState>,
    caller: Authenticated,
    admitted: Admitted,
    path: OriginalUri,
    headers: HeaderMap,
    Bounded(body): Body,
) -> Result<Response, ApiError> {
    let turn = Turn::of(&state, &caller.0, &headers, path.path(), &body).await?;
    let respond = |envelope| async move { respond::<S>(&state, caller, admitted, envelope).await };
    idempotency::answer(turn, body, respond).await
}

/// Answers a request that was read as far as its model.
pub(crate) async fn respond<S: Shape>(
    state: &AppState,
    caller: Authenticated,
    admitted: Admitted,
    envelope: Envelope,
) -> Result<Response, ApiError> {
    let place = place(state, &caller, &envelope)?;
    let endpoint = S::ENDPOINT;
    if let (Route::Upstream(upstream, name), true) = (&place, S::PASSES && !S::is_kept(&envelope)) {
        let request = relay::Request { endpoint, envelope, name: (*name).to_owned() };
        return Ok(relay::relay(state, &caller.0, upstream, request, admitted).await);
    }
    if let Route::Local(model) = &place {
        encoding::only(model, &[ModelKind::Chat])?;
    }
    let (ask, mut answer) = S::parse(envelope, &admitted, &caller.0)?;
    let (stream, choices) = (ask.options().stream, ask.choices());
    let keeper = answer.keeper(&ask, state, &caller.0);
    if keeper.is_some() {
        // Before anything is computed that could not be kept.
        state.store.refuse_full(caller.0.salt, caller.0.storage_bytes()).await?;
    }
    let (who, lane) = begin(state, &caller.0, place, Job { admitted, endpoint, ask })?;
    let mut lane = match keeper {
        Some(keeper) => keeper.follow(lane, choices),
        None => lane,
    };
    let answered = if stream {
        sse::answer(lane, answer).await
    } else {
        let collected = collect(&mut lane, choices, |progress| answer.watch(progress)).await;
        collected.map(|(collected, usage)| answer.whole(collected, usage))
    };
    // The answer names another server also when it is an error: the prompt may have left the box.
    Ok(served_by(answered.unwrap_or_else(IntoResponse::into_response), &who))
}

/// Where a request is computed.
pub(crate) fn place<'a>(
    state: &'a AppState,
    caller: &Authenticated,
    envelope: &Envelope,
) -> Result<Route<'a>, ApiError> {
    state.route(&envelope.model, caller).map_err(|reason| ApiError::no_route(&envelope.model, reason))
}

/// Begins a request, here or elsewhere: who computes it, and the lane in which what comes of it arrives. Dropping the
/// lane ends it.
pub(crate) fn begin(
    state: &AppState,
    caller: &Principal,
    place: Route<'_>,
    job: Job,
) -> Result<(String, mpsc::Receiver<Progress>), ApiError> {
    let Job { admitted, endpoint, mut ask } = job;
    // Not every API has a word for it; the plan holds in all.
    let tier = &mut ask.options_mut().service_tier;
    *tier = granted(*tier, caller);
    match (place, ask) {
        (Route::Local(model), ask) => {
            let lane = start(state, caller.clone(), model, Job { admitted, endpoint, ask });
            Ok((LOCAL.to_owned(), lane))
        }
        (Route::Upstream(upstream, name), Ask::Chat(request)) => {
            let conversation = Conversation { request: &request, endpoint, name };
            let lane = relay::converse(state, caller, upstream, &conversation, admitted);
            Ok((format!("upstream:{}", upstream.name()), lane))
        }
        (Route::Upstream(..), Ask::Completion(request)) => {
            let param = if request.suffix.is_some() { "suffix" } else { "raw" };
            let message = format!("this model is on another server, which gets no prompts with `{param}`");
            Err(ApiError::unsupported_value(param, &message))
        }
    }
}
