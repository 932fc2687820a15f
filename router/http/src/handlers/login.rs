//! `/auth`: signing in and out at the page, and taking an invitation.

use allerac_ledger::{Login, Proof, Role};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Bounded, ClaimBody, now_s, parse};
use crate::error::ApiError;
use crate::peer::Peer;
use crate::second_factor::recovery_hash;
use crate::state::AppState;
use crate::{origin, session};

/// Who somebody says that they are.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoginRequest {
    name: String,
    password: String,
    /// Of an authenticator program, or a recovery code, where a second factor is asked for.
    code: Option<String>,
}

/// Somebody who is signed in.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct SignedIn {
    name: String,
    role: &'static str,
}

/// An invitation, by what opens it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct InvitedRequest {
    invitation: String,
}

/// What an invitation says.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct InvitedObject {
    /// The name of the box.
    box_name: String,
    name: Option<String>,
    role: &'static str,
    plan: String,
    team: Option<String>,
    expires_at: i64,
}

/// Somebody who takes an invitation.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AcceptRequest {
    invitation: String,
    /// Left out where the invitation says it.
    name: Option<String>,
    #[schemars(length(min = 10, max = 64))]
    password: String,
}

/// `POST /auth/login`.
pub(crate) async fn login(
    State(state): State<AppState>,
    (peer, headers): (Peer, HeaderMap),
    Bounded(body): ClaimBody,
) -> Result<Response, ApiError> {
    origin::check_open(&headers)?;
    let LoginRequest { name, password, code } = parse(&body)?;
    let (name, address) = (name.trim(), peer.0.to_string());
    state.doors.enter(name, &address)?;
    let login = state.ledger.login(name)?;
    let kept = login.as_ref().and_then(|login| login.password.clone());
    let is_right = state.doors.verify(password, kept).await?;
    let login = login.filter(|_| is_right).ok_or_else(wrong_login)?;
    if login.second_factor {
        check_second_factor(&state, &login, code.as_deref()).await?;
    }
    let cookie = session::open(&state, &login.name, (&headers, peer), "password").await?;
    state.doors.forgive(name, &address);
    let role = state.ledger.user(&login.name)?.role;
    signed_in(StatusCode::OK, login.name, role, cookie)
}

fn wrong_login() -> ApiError {
    ApiError::unauthenticated("wrong_login", "nobody of this name has this password")
}

/// Tells who is signed in now.
pub(crate) fn signed_in(
    status: StatusCode,
    name: String,
    role: Role,
    cookie: session::Cookie,
) -> Result<Response, ApiError> {
    let mut answer = (status, Json(SignedIn { name, role: role.as_str() })).into_response();
    cookie.set(&mut answer)?;
    Ok(answer)
}

/// Whether a code is one of the person's, for the only time that it can be.
pub(crate) async fn check_second_factor(state: &AppState, login: &Login, code: Option<&str>) -> Result<(), ApiError> {
    let Some(code) = code else {
        let message = "this person has a second factor: send its `code` too";
        return Err(ApiError::unauthenticated("second_factor_required", message));
    };
    let enrolled = state.ledger.second_factor(&login.name)?.filter(|enrolled| enrolled.is_confirmed);
    let step = enrolled.and_then(|enrolled| state.doors.codes.step(&enrolled.nonce, code, now_s()));
    let is_right = match (step, recovery_hash(code)) {
        (Some(step), _) => state.ledger.use_step(login.user, step).await?,
        (None, Some(hash)) => state.ledger.use_recovery_code(login.user, hash).await?,
        (None, None) => false,
    };
    let wrong = || {
        ApiError::unauthenticated("wrong_second_factor", "the code is wrong, or was used before; wait for the next one")
    };
    if is_right { Ok(()) } else { Err(wrong()) }
}

/// `POST /auth/logout`: ends the session of this browser. Where there is none, the browser forgets all the same.
pub(crate) async fn logout(State(state): State<AppState>, headers: HeaderMap) -> Result<Response, ApiError> {
    origin::check_open(&headers)?;
    if let Some(presented) = session::presented(&headers)
        && let Ok(caller) = state.ledger.session(presented)
        && let Some(id) = &caller.session
    {
        state.ledger.clone().acting_as(&caller.user_name).end_session(id, Some(&caller.user_name)).await?;
    }
    let mut answer = StatusCode::NO_CONTENT.into_response();
    session::forget(&headers).set(&mut answer)?;
    Ok(answer)
}

/// `POST /auth/invitation`: what an invitation says. It does not stand in the address, which is kept in logs.
pub(crate) async fn invited(
    State(state): State<AppState>,
    (peer, headers): (Peer, HeaderMap),
    Bounded(body): ClaimBody,
) -> Result<Json<InvitedObject>, ApiError> {
    origin::check_open(&headers)?;
    let InvitedRequest { invitation } = parse(&body)?;
    state.doors.enter(&invitation, &peer.0.to_string())?;
    let invited = state.ledger.invited(&invitation)?;
    state.doors.forgive(&invitation, &peer.0.to_string());
    Ok(Json(InvitedObject {
        box_name: state.name,
        name: invited.name,
        role: invited.role.as_str(),
        plan: invited.plan,
        team: invited.team,
        expires_at: invited.expires_at,
    }))
}

/// `POST /auth/invitation/accept`: makes whoever has it a person of this box, and signs them in.
pub(crate) async fn accept(
    State(state): State<AppState>,
    (peer, headers): (Peer, HeaderMap),
    Bounded(body): ClaimBody,
) -> Result<Response, ApiError> {
    origin::check_open(&headers)?;
    let AcceptRequest { invitation, name, password } = parse(&body)?;
    state.doors.enter(&invitation, &peer.0.to_string())?;
    let invited = state.ledger.invited(&invitation)?;
    let name = invited.name.or(name).ok_or_else(|| ApiError::missing("name"))?;
    let hash = state.doors.hash(password).await?;
    let name = state.ledger.accept(&invitation, &name, Proof::Password(hash)).await?;
    let cookie = session::open(&state, &name, (&headers, peer), "invitation").await?;
    state.doors.forgive(&invitation, &peer.0.to_string());
    signed_in(StatusCode::CREATED, name, invited.role, cookie)
}
