//! Links by which somebody sets a password: made by who looks after the box, taken at the page.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::account::acting;
use super::admin::{Named, name};
use super::{Bounded, ClaimBody, SmallBody, parse};
use crate::auth::Authenticated;
use crate::error::ApiError;
use crate::peer::Peer;
use crate::state::AppState;
use crate::{origin, session};

/// How long a link opens where nobody says, in seconds: a day.
const OPEN_S: i64 = 24 * 3600;

/// A link to be made.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PasswordLinkRequest {
    /// How long it opens: a day where it is left out, 7 days at most.
    expires_in_seconds: Option<i64>,
}

/// A link just made. It is told this once.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct PasswordLinkObject {
    object: &'static str,
    /// To be sent to whose it is. What opens it stands after the `#`, which browsers send to nobody.
    url: String,
    expires_at: i64,
}

/// A link, by what opens it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LinkedRequest {
    link: String,
}

/// Whose password it sets.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct LinkedObject {
    /// The name of the box.
    box_name: String,
    name: String,
}

/// A password, by a link.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetRequest {
    link: String,
    #[schemars(length(min = 10, max = 64))]
    password: String,
}

/// Whose password was set.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct SetObject {
    name: String,
    /// Not where a second factor is asked for: a link does not stand for it.
    signed_in: bool,
}

/// `POST /v1/admin/people/{id}/password_link`.
pub(crate) async fn create(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    (path, headers): (Named, HeaderMap),
    Bounded(body): SmallBody,
) -> Result<(StatusCode, Json<PasswordLinkObject>), ApiError> {
    let PasswordLinkRequest { expires_in_seconds } = parse(&body)?;
    let ledger = acting(&state, &caller);
    let (link, expires_at) =
        ledger.password_link(&name(path)?, expires_in_seconds.unwrap_or(OPEN_S), caller.role).await?;
    let url = format!("{}/#password={}", origin::address(&headers, &state.name), link.secret);
    Ok((StatusCode::CREATED, Json(PasswordLinkObject { object: "password_link", url, expires_at })))
}

/// `POST /auth/password`: whose password a link sets. It does not stand in the address, which is kept in logs.
pub(crate) async fn linked(
    State(state): State<AppState>,
    (peer, headers): (Peer, HeaderMap),
    Bounded(body): ClaimBody,
) -> Result<Json<LinkedObject>, ApiError> {
    origin::check_open(&headers)?;
    let LinkedRequest { link } = parse(&body)?;
    state.doors.enter(&link, &peer.0.to_string())?;
    let name = state.ledger.linked(&link)?;
    state.doors.forgive(&link, &peer.0.to_string());
    Ok(Json(LinkedObject { box_name: state.name, name }))
}

/// `POST /auth/password/set`: sets it, and signs in where no second factor is asked for.
pub(crate) async fn set(
    State(state): State<AppState>,
    (peer, headers): (Peer, HeaderMap),
    Bounded(body): ClaimBody,
) -> Result<Response, ApiError> {
    origin::check_open(&headers)?;
    let SetRequest { link, password } = parse(&body)?;
    state.doors.enter(&link, &peer.0.to_string())?;
    // Before a password is computed, which costs something.
    state.ledger.linked(&link)?;
    let hash = state.doors.hash(password).await?;
    let name = state.ledger.take_password_link(&link, hash).await?;
    state.doors.forgive(&link, &peer.0.to_string());
    let signed_in = state.ledger.login(&name)?.is_some_and(|login| !login.second_factor);
    let mut answer = Json(SetObject { name: name.clone(), signed_in }).into_response();
    if signed_in {
        session::open(&state, &name, (&headers, peer), "password link").await?.set(&mut answer)?;
    }
    Ok(answer)
}
