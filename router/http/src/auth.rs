//! Who a request comes from; known before its body is read.

use std::time::Instant;

use allerac_ledger::{Principal, Role};
use allerac_router_core::{Access, Limited, Permit};
use axum::extract::FromRequestParts;
use axum::http::HeaderName;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use uuid::Uuid;

use crate::error::ApiError;
use crate::payment::limited;
use crate::rate::Told;
use crate::server::RequestId;
use crate::state::AppState;

/// Where Anthropic's clients put a key.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// A request with a key that opens.
#[derive(Debug, Clone)]
pub(crate) struct Authenticated(pub(crate) Principal);

impl FromRequestParts<AppState> for Authenticated {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let caller = state.ledger.authenticate(bearer(parts)?)?;
        // For whatever else in this request needs to know who asks.
        parts.extensions.insert(caller.clone());
        Ok(Self(caller))
    }
}

/// The key as OpenAI's and Ollama's clients send it, or as Anthropic's do.
fn bearer(parts: &Parts) -> Result<&str, ApiError> {
    let text = |name: HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let header = match (text(AUTHORIZATION), text(API_KEY)) {
        (None, Some(key)) => return Ok(key.trim()),
        (header, _) => header,
    };
    let (scheme, key) = header.and_then(|header| header.split_once(' ')).ok_or_else(ApiError::no_key)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(key.trim()) } else { Err(ApiError::no_key()) }
}

/// A request of somebody who may look at what the whole box does: with a key of its owner, or with a pass that was
/// made from its secret.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Observer;

impl FromRequestParts<AppState> for Observer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let presented = bearer(parts)?;
        if state.pass.opens(presented, jiff::Timestamp::now().as_second()) {
            return Ok(Self);
        }
        match state.ledger.authenticate(presented)?.role {
            Role::Owner => Ok(Self),
            Role::Member => Err(ApiError::owner_only()),
        }
    }
}

/// A request with a key of the owner of the box.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner;

impl FromRequestParts<AppState> for Owner {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        match state.ledger.authenticate(bearer(parts)?)?.role {
            Role::Owner => Ok(Self),
            Role::Member => Err(ApiError::owner_only()),
        }
    }
}

/// A place among the requests in flight, taken before the body is read: bodies hold memory.
#[derive(Debug)]
pub(crate) struct Admitted {
    /// The request's name in the answer and in the ledger.
    pub(crate) request_id: Uuid,
    /// When it came.
    pub(crate) accepted: Instant,
    pub(crate) permit: Permit,
    /// Whom its tokens are counted with by the limits of a minute.
    pub(crate) accounts: Vec<Limited>,
}

impl FromRequestParts<AppState> for Admitted {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let caller = match parts.extensions.get::<Principal>() {
            Some(caller) => caller.clone(),
            None => Authenticated::from_request_parts(parts, state).await?.0,
        };
        let accounts = limited(&caller);
        if let Some(told) = parts.extensions.get::<Told>() {
            told.set(&accounts, caller.past_soft_limit);
        }
        let permit = state.limits.admit(&accounts)?;
        let RequestId(request_id) = parts.extensions.get().copied().unwrap_or_default();
        Ok(Self { request_id, accepted: Instant::now(), permit, accounts })
    }
}

impl Access for Authenticated {
    fn allows_parameters(&self, parameters: u64) -> bool {
        self.0.allows_parameters(parameters)
    }

    fn allows_model(&self, model: &str) -> bool {
        self.0.allows_model(model)
    }

    fn allows_upstream(&self, upstream: &str) -> bool {
        self.0.allows_upstream(upstream)
    }
}
