//! Who a request comes from; known before its body is read.

use allerac_ledger::Principal;
use allerac_router_core::{Access, Permit};
use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use uuid::Uuid;

use crate::error::ApiError;
use crate::server::RequestId;
use crate::state::AppState;

/// A request with a key that opens.
#[derive(Debug, Clone)]
pub(crate) struct Authenticated(pub(crate) Principal);

impl FromRequestParts<AppState> for Authenticated {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let (scheme, key) = header.and_then(|header| header.split_once(' ')).ok_or_else(ApiError::no_key)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(ApiError::no_key());
        }
        Ok(Self(state.ledger.authenticate(key.trim())?))
    }
}

/// A place among the requests in flight, taken before the body is read: bodies hold memory.
#[derive(Debug)]
pub(crate) struct Admitted {
    /// The request's name in the answer and in the ledger.
    pub(crate) request_id: Uuid,
    pub(crate) permit: Permit,
}

impl FromRequestParts<AppState> for Admitted {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let permit = state.limits.admit().ok_or_else(ApiError::too_many_requests)?;
        let RequestId(request_id) = parts.extensions.get().copied().unwrap_or_default();
        Ok(Self { request_id, permit })
    }
}

impl Access for Authenticated {
    fn allows_parameters(&self, parameters: u64) -> bool {
        self.0.allows_parameters(parameters)
    }

    fn allows_upstream(&self, upstream: &str) -> bool {
        self.0.allows_upstream(upstream)
    }
}
