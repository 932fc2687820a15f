//! Passwords, second factors and sessions of people themselves.

use allerac_objects::Order;
use allerac_wire::ListPage;
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::acting;
use crate::auth::Authenticated;
use crate::error::ApiError;
use crate::handlers::list::{Params, told};
use crate::handlers::login::check_second_factor;
use crate::handlers::objects::SessionObject;
use crate::handlers::{Bounded, ClaimBody, now_s, parse};
use crate::peer::Peer;
use crate::second_factor::{address, picture, recovery_codes, recovery_hash};
use crate::state::AppState;

/// Another password.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PasswordRequest {
    /// The one before, where there is one.
    current_password: Option<String>,
    #[schemars(length(min = 10, max = 64))]
    password: String,
}

/// A second factor that waits to be confirmed.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct EnrolledObject {
    object: &'static str,
    /// To be typed into an authenticator program.
    secret: String,
    /// The same as an address that such programs open.
    url: String,
    /// The same as a picture that they read: a row of `0` and `1` a line, without its margin.
    picture: Vec<String>,
}

/// A code of the program that has the secret now.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CodeRequest {
    code: String,
}

/// What opens in place of a code, once each. It is told this once.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RecoveryObject {
    object: &'static str,
    recovery_codes: Vec<String>,
}

/// Who asks knows the password.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KnownPassword {
    password: String,
    /// Of the second factor, or a recovery code, where it is to be removed.
    code: Option<String>,
}

/// Which team pays.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChargeRequest {
    /// A team of the person's; null for the person.
    team: Option<String>,
}

/// `POST /v1/account/password`. Other sessions end.
pub(crate) async fn password(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    peer: Peer,
    Bounded(body): ClaimBody,
) -> Result<StatusCode, ApiError> {
    let PasswordRequest { current_password, password } = parse(&body)?;
    if state.ledger.user(&caller.user_name)?.password {
        let current = current_password.ok_or_else(|| {
            let message = "you have a password already: send it as `current_password` too";
            ApiError::forbidden("wrong_password", message).with_param("current_password")
        })?;
        check_password(&state, &caller.user_name, current, peer).await?;
    } else if caller.session.is_none() && caller.is_bound {
        let message = "this key has limits of its own, and sets no password: use another key";
        return Err(ApiError::forbidden("key_is_bound", message));
    }
    let hash = state.doors.hash(password).await?;
    let keep = (caller.session.clone(), None);
    acting(&state, &caller).set_password(&caller.user_name, Some(hash), keep).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whether somebody who is let in already knows their password too; guessing counts as at the door.
/// Who asks for another way to sign in.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PasswordAsk {
    /// Of whoever has one.
    pub(crate) password: Option<String>,
}

/// Whoever has a password shows that they know it before they get another way to sign in: a session that somebody left open
/// is not to be kept for ever.
pub(crate) async fn confirm_person(
    state: &AppState,
    name: &str,
    password: Option<String>,
    peer: Peer,
) -> Result<(), ApiError> {
    if !state.ledger.user(name)?.password {
        return Ok(());
    }
    let password = password.ok_or_else(|| ApiError::missing("password"))?;
    check_password(state, name, password, peer).await
}

pub(crate) async fn check_password(state: &AppState, name: &str, password: String, peer: Peer) -> Result<(), ApiError> {
    let address = peer.0.to_string();
    state.doors.enter(name, &address)?;
    let kept = state.ledger.login(name)?.and_then(|login| login.password);
    if !state.doors.verify(password, kept).await? {
        return Err(ApiError::forbidden("wrong_password", "that is not your password"));
    }
    state.doors.forgive(name, &address);
    Ok(())
}

/// `POST /v1/account/second_factor`: begins one; it is asked for once it is confirmed.
pub(crate) async fn enrol(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    peer: Peer,
    Bounded(body): ClaimBody,
) -> Result<Json<EnrolledObject>, ApiError> {
    let KnownPassword { password, .. } = parse(&body)?;
    check_password(&state, &caller.user_name, password, peer).await?;
    let enrolled = acting(&state, &caller).enrol(&caller.user_name).await?;
    let secret = state.doors.codes.secret(&enrolled.nonce);
    let url = address(&state.name, &caller.user_name, &secret);
    Ok(Json(EnrolledObject { object: "second_factor", picture: picture(&url), secret, url }))
}

/// `POST /v1/account/second_factor/confirm`: from now on it is asked for.
pub(crate) async fn confirm(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    peer: Peer,
    Bounded(body): ClaimBody,
) -> Result<Json<RecoveryObject>, ApiError> {
    let CodeRequest { code } = parse(&body)?;
    let (name, from) = (&caller.user_name, peer.0.to_string());
    state.doors.enter(name, &from)?;
    let begun = state.ledger.second_factor(name)?.filter(|enrolled| !enrolled.is_confirmed);
    let none = || ApiError::conflict("no_second_factor", "no second factor waits to be confirmed; begin one");
    let nonce = begun.ok_or_else(none)?.nonce;
    let step = state.doors.codes.step(&nonce, &code, now_s()).ok_or_else(|| {
        ApiError::forbidden(
            "wrong_second_factor",
            "that is not the code now; compare the clocks of the box and of your program",
        )
    })?;
    let codes = recovery_codes();
    let hashes = codes.iter().filter_map(|code| recovery_hash(code)).collect();
    acting(&state, &caller).confirm_second_factor(name, (nonce, step), hashes).await?;
    state.doors.forgive(name, &from);
    Ok(Json(RecoveryObject { object: "recovery_codes", recovery_codes: codes }))
}

/// `POST /v1/account/second_factor/remove`: for who knows the password and a code.
pub(crate) async fn remove(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    peer: Peer,
    Bounded(body): ClaimBody,
) -> Result<StatusCode, ApiError> {
    let KnownPassword { password, code } = parse(&body)?;
    check_password(&state, &caller.user_name, password, peer).await?;
    if let Some(login) = state.ledger.login(&caller.user_name)?.filter(|login| login.second_factor) {
        state.doors.enter(&caller.user_name, &peer.0.to_string())?;
        check_second_factor(&state, &login, code.as_deref()).await.map_err(ApiError::into_forbidden)?;
        state.doors.forgive(&caller.user_name, &peer.0.to_string());
    }
    acting(&state, &caller).remove_second_factor(&caller.user_name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /v1/account/sessions`.
pub(crate) async fn sessions(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    params: Params,
) -> Result<Json<ListPage<Value>>, ApiError> {
    let rows = state.ledger.sessions(Some(&caller.user_name))?;
    let current = caller.session.as_deref();
    told(rows.into_iter().map(|row| json!(SessionObject::new(row, current))).collect(), params, Order::Descending)
}

/// `DELETE /v1/account/sessions/{id}`.
pub(crate) async fn end_session(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    id: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, ApiError> {
    let Path(id) = id.map_err(|error| ApiError::invalid_value("id", &error.body_text()))?;
    acting(&state, &caller).end_session(&id, Some(&caller.user_name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/account/team`: who pays for what is asked in this session from now on.
pub(crate) async fn charge(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    Bounded(body): ClaimBody,
) -> Result<StatusCode, ApiError> {
    let ChargeRequest { team } = parse(&body)?;
    let Some(session) = &caller.session else {
        let message = "who pays for a key is said when it is made; sessions of the page can be changed";
        return Err(ApiError::conflict("no_session", message));
    };
    acting(&state, &caller).charge_session(session, &caller.user_name, team.as_deref()).await?;
    Ok(StatusCode::NO_CONTENT)
}
