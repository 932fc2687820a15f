//! `GET /claim` and `POST /claim`: the first person makes the box theirs.

use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Bounded, ClaimBody};
use crate::claim::Verdict;
use crate::error::ApiError;
use crate::state::AppState;

/// What the page needs to know before anybody has a key.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Status {
    claimed: bool,
    name: String,
    version: &'static str,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Claim {
    code: String,
    owner: String,
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
    Ok(Json(Status { claimed, name: state.name, version: env!("CARGO_PKG_VERSION") }))
}

/// Makes the owner, for whoever has the code.
pub(crate) async fn create(
    State(state): State<AppState>,
    headers: HeaderMap,
    Bounded(body): ClaimBody,
) -> Result<(StatusCode, Json<Claimed>), ApiError> {
    refuse_foreign_pages(&headers)?;
    let invalid =
        |message: String| ApiError::new(StatusCode::BAD_REQUEST, "invalid_request_error", "invalid_claim", message);
    let claim: Claim = serde_json::from_slice(&body)
        .map_err(|error| invalid(format!("a claim is {{\"code\": \"...\", \"owner\": \"...\"}}: {error}")))?;
    if state.ledger.is_claimed()? {
        return Err(allerac_ledger::LedgerError::AlreadyClaimed.into());
    }
    match state.claim.try_code(&claim.code, Instant::now()) {
        Verdict::Right => {}
        Verdict::Wrong => return Err(denied(StatusCode::FORBIDDEN, "wrong_code", "that is not the claim code")),
        Verdict::Wait(wait) => {
            let error = denied(StatusCode::TOO_MANY_REQUESTS, "too_many_tries", "too many tries; wait a minute");
            return Err(error.retry_after(u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1)));
        }
    }
    let key = state.ledger.claim(&claim.owner).await?;
    tracing::info!("the box was claimed");
    let model = state.registry.default_model();
    let claimed = Claimed { key: key.secret, owner: claim.owner.trim().to_owned(), model };
    Ok((StatusCode::CREATED, Json(claimed)))
}

fn denied(status: StatusCode, code: &'static str, message: &str) -> ApiError {
    ApiError::new(status, "permission_error", code, message)
}

/// Another site's page, open in a browser on this network, must not claim the box.
fn refuse_foreign_pages(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    match origin {
        Some((_, origin)) if Some(origin) == host => Ok(()),
        _ => Err(denied(StatusCode::FORBIDDEN, "foreign_origin", "the box can only be claimed from its own page")),
    }
}
