//! What the endpoints that generate have in common: where a request goes, and how its answer is sent.

use allerac_ledger::Principal;
use allerac_router_core::{Endpoint, Route, route};
use allerac_wire::{CompletionUsage, Envelope, ServiceTier};
use axum::extract::State;
use axum::response::Response;

use super::collect::{Collected, collect};
use super::{Body, Bounded};
use crate::auth::{Admitted, Authenticated};
use crate::error::ApiError;
use crate::generation::{Job, Progress, start};
use crate::relay;
use crate::sse;
use crate::state::AppState;

/// An answer in the shape of one endpoint; as events when it is streamed.
pub(crate) trait Shape: sse::Format<Progress> + Sized {
    const ENDPOINT: Endpoint;

    /// Reads a request that is computed here.
    fn parse(envelope: Envelope, admitted: Admitted, caller: &Principal) -> Result<(Job, Self), ApiError>;

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
    let model = match route(&envelope.model, &state.registry, &state.upstreams, &caller) {
        Ok(Route::Local(model)) => model,
        Ok(Route::Upstream(upstream, name)) => {
            let request = relay::Request { endpoint: S::ENDPOINT, envelope, name: name.to_owned() };
            return Ok(relay::relay(&state, &caller.0, upstream, request, admitted).await);
        }
        Err(reason) => return Err(ApiError::no_route(&envelope.model, reason)),
    };
    let (job, answer) = S::parse(envelope, admitted, &caller.0)?;
    let (stream, choices) = (job.options.stream, job.inputs.len() * job.options.choices as usize);
    let mut lane = start(&state, caller.0, model, job);
    if !stream {
        let (collected, usage) = collect(&mut lane, choices).await?;
        return Ok(answer.whole(collected, usage));
    }
    match sse::first(&mut lane).await {
        Some(Progress::Failed(error)) => Err(error),
        first => Ok(sse::response(first, lane, answer)),
    }
}
