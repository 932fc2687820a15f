//! What the endpoints that generate have in common: where a request goes, and how its answer is sent.

use allerac_ledger::Principal;
use allerac_router_core::{Endpoint, Route};
use allerac_wire::{CompletionUsage, Envelope, ServiceTier};
use axum::extract::State;
use axum::response::Response;

use super::collect::{Collected, collect};
use super::{Body, Bounded};
use crate::auth::{Admitted, Authenticated};
use crate::error::ApiError;
use crate::generation::start;
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
}

/// How urgent a request is: what it asks for, where its plan allows that. The answer says what became of it.
pub(crate) fn granted(wanted: ServiceTier, caller: &Principal) -> ServiceTier {
    match wanted {
        ServiceTier::Priority if !caller.has_priority() => ServiceTier::Default,
        other => other,
    }
}

/// Answers a request, here or elsewhere.
pub(crate) async fn create<S: Shape>(
    State(state): State<AppState>,
    caller: Authenticated,
    admitted: Admitted,
    Bounded(body): Body,
) -> Result<Response, ApiError> {
    let envelope = Envelope::parse(&body)?;
    drop(body);
    respond::<S>(&state, caller, admitted, envelope).await
}

/// Answers a request that was read as far as its model.
pub(crate) async fn respond<S: Shape>(
    state: &AppState,
    caller: Authenticated,
    admitted: Admitted,
    envelope: Envelope,
) -> Result<Response, ApiError> {
    let place = state.route(&envelope.model, &caller).map_err(|reason| ApiError::no_route(&envelope.model, reason))?;
    let endpoint = S::ENDPOINT;
    if let (Route::Upstream(upstream, name), true) = (&place, S::PASSES) {
        let request = relay::Request { endpoint, envelope, name: (*name).to_owned() };
        return Ok(relay::relay(state, &caller.0, upstream, request, admitted).await);
    }
    let (ask, mut answer) = S::parse(envelope, &admitted, &caller.0)?;
    match (place, ask) {
        (Route::Upstream(upstream, name), Ask::Chat(request)) => {
            let conversation = Conversation { request: &request, endpoint, name };
            Ok(relay::translate(state, &caller.0, upstream, conversation, admitted, answer).await)
        }
        (Route::Upstream(..), Ask::Completion(_)) => {
            Err(ApiError::unsupported_value("raw", "this model is on another server, which gets no `raw` prompts"))
        }
        (Route::Local(model), ask) => {
            let (stream, choices) = (ask.options().stream, ask.choices());
            let mut lane = start(state, caller.0, model, Job { admitted, endpoint, ask });
            if stream {
                return sse::answer(lane, answer).await;
            }
            let (collected, usage) = collect(&mut lane, choices, |progress| answer.watch(progress)).await?;
            Ok(answer.whole(collected, usage))
        }
    }
}
