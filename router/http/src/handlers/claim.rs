//! `GET /claim` and `POST /claim`: the first person makes the box theirs.

use std::time::Instant;

use allerac_ledger::LedgerError;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Bounded, ClaimBody};
use crate::claim::Verdict;
use crate::error::ApiError;
use crate::origin;
use crate::peer::Peer;
use crate::session;
use crate::state::AppState;

/// What the page needs to know before anybody has a key.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Status {
    claimed: bool,
    name: String,
    version: &'static str,
    /// With whom else people sign in, where the owner set that up.
    single_sign_on: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Claim {
    code: String,
    owner: String,
    /// To sign in with at the page, beside the key.
    #[schemars(length(min = 10, max = 64))]
    password: Option<String>,
}

/// What a claim looks like.
pub(crate) fn schema() -> serde_json::Value {
    schemars::schema_for!(Claim).to_value()
}

/// The owner's first key.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Claimed {
    key: String,
    owner: String,
    /// The model to begin with, when one is installed.
    model: Option<String>,
}

/// Whether the box has an owner.
pub(crate) async fn status(State(state): State<AppState>) -> Result<Json<Status>, ApiError> {
    let claimed = state.ledger.is_claimed()?;
    let single_sign_on = state.sso.as_ref().map(|sso| sso.name.clone());
    Ok(Json(Status { claimed, name: state.name, version: env!("CARGO_PKG_VERSION"), single_sign_on }))
}

/// Makes the owner, for whoever has the code.
pub(crate) async fn create(
    State(state): State<AppState>,
    (peer, headers): (Peer, HeaderMap),
    Bounded(body): ClaimBody,
) -> Result<Response, ApiError> {
    origin::check_open(&headers)?;
    let invalid =
        |message: String| ApiError::new(StatusCode::BAD_REQUEST, "invalid_request_error", "invalid_claim", message);
    let claim: Claim = serde_json::from_slice(&body)
        .map_err(|error| invalid(format!("a claim is {{\"code\": \"...\", \"owner\": \"...\"}}: {error}")))?;
    if state.ledger.is_claimed()? {
        return Err(LedgerError::AlreadyClaimed.into());
    }
    match state.claim.try_code(&claim.code, Instant::now()) {
        Verdict::Right => {}
        Verdict::Wrong => return Err(denied(StatusCode::FORBIDDEN, "wrong_code", "that is not the claim code")),
        Verdict::Wait(wait) => {
            let error = denied(StatusCode::TOO_MANY_REQUESTS, "too_many_tries", "too many tries; wait a minute");
            return Err(error.retry_after(u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1)));
        }
    }
    // Before the box is claimed, so that a password that cannot be leaves nothing behind.
    let password = match claim.password {
        Some(password) => Some(state.doors.hash(password).await?),
        None => None,
    };
    let owner = claim.owner.trim();
    let key = state.ledger.claim(owner).await.map_err(|error| match error {
        error @ LedgerError::InvalidName => ApiError::invalid_value("owner", &error.to_string()),
        error => error.into(),
    })?;
    tracing::info!("the box was claimed");
    let model = state.registry.default_model();
    let claimed = Claimed { key: key.secret, owner: owner.to_owned(), model };
    let mut answer = (StatusCode::CREATED, Json(claimed)).into_response();
    if let Some(password) = password {
        state.ledger.set_password(owner, Some(password), (None, None)).await?;
        session::open(&state, owner, (&headers, peer), "claim").await?.set(&mut answer)?;
    }
    Ok(answer)
}

fn denied(status: StatusCode, code: &'static str, message: &str) -> ApiError {
    ApiError::new(status, "permission_error", code, message)
}
