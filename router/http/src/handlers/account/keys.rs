//! Keys that people make for themselves, within what they may.

use allerac_ledger::{KeyRow, LedgerError, NewKey, Principal, Right, UpstreamPolicy};
use allerac_objects::Order;
use allerac_wire::ListPage;
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::acting;
use crate::auth::Authenticated;
use crate::error::ApiError;
use crate::handlers::list::{Params, told};
use crate::handlers::objects::{KeyObject, KeyRequest, RotateRequest, SecretObject, Wanted};
use crate::handlers::{Bounded, SmallBody, parse};
use crate::state::AppState;

/// `GET /v1/account/keys`.
pub(crate) async fn list(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    params: Params,
) -> Result<Json<ListPage<Value>>, ApiError> {
    let rows = state.ledger.keys_of(Some(&caller.user_name))?;
    told(rows.into_iter().map(|row| json!(KeyObject::from(row))).collect(), params, Order::Descending)
}

/// `POST /v1/account/keys`.
pub(crate) async fn create(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    Bounded(body): SmallBody,
) -> Result<(StatusCode, Json<SecretObject>), ApiError> {
    caller.may(Right::OwnKeys)?;
    let request: KeyRequest = parse(&body)?;
    if request.user.is_some() {
        return Err(ApiError::invalid_value("user", "a key for oneself has no `user`; admins make keys for others"));
    }
    let Wanted { label, plan, upstreams, limits } = request.wanted()?;
    within(&caller, &upstreams)?;
    if !limits.scopes.within(caller.scopes) {
        let message = "a key cannot make one for more endpoints than its own; name `scopes`";
        return Err(ApiError::forbidden("scope_not_allowed", message));
    }
    let ledger = acting(&state, &caller);
    let key = ledger.create_key(NewKey { user: caller.user_name, label, plan, upstreams, limits }).await?;
    Ok((StatusCode::CREATED, Json(SecretObject::new(ledger.key(&key.public_id)?, key))))
}

/// Nobody gets further with a key of their own making than they are.
fn within(caller: &Principal, upstreams: &UpstreamPolicy) -> Result<(), ApiError> {
    if caller.is_bound {
        let message = "this key has limits of its own, and makes no other one: sign in, or use another key";
        return Err(ApiError::forbidden("key_is_bound", message));
    }
    let leaves = match upstreams {
        UpstreamPolicy::None => true,
        UpstreamPolicy::Named(names) => names.iter().all(|name| caller.upstreams.allows(name)),
        UpstreamPolicy::All => caller.upstreams == UpstreamPolicy::All,
    };
    let message = "a key may leave the box for an upstream only where the owner said so; ask them for one";
    if leaves { Ok(()) } else { Err(ApiError::forbidden("upstream_not_allowed", message)) }
}

/// `POST /v1/account/keys/{id}/rotate`.
pub(crate) async fn rotate(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    id: Result<Path<String>, PathRejection>,
    Bounded(body): SmallBody,
) -> Result<Json<SecretObject>, ApiError> {
    caller.may(Right::OwnKeys)?;
    let RotateRequest { overlap_seconds } = parse(&body)?;
    let row = own(&state, &caller, id)?;
    // Turning a key tells its secret: only who may as much as it may do so.
    within(&caller, &row.upstreams).or_else(|error| if row.id == caller.key_id { Ok(()) } else { Err(error) })?;
    if row.id != caller.key_id && caller.scopes != allerac_ledger::Scopes::ALL {
        let message = "a key that is made for some endpoints turns no other one: sign in, or use another key";
        return Err(ApiError::forbidden("scope_not_allowed", message));
    }
    let ledger = acting(&state, &caller);
    let key = ledger.rotate_key(&row.id, overlap_seconds).await?;
    Ok(Json(SecretObject::new(ledger.key(&key.public_id)?, key)))
}

/// `DELETE /v1/account/keys/{id}`: refuses it from now on.
pub(crate) async fn revoke(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<KeyObject>, ApiError> {
    let row = own(&state, &caller, id)?;
    Ok(Json(acting(&state, &caller).revoke_key(&row.id).await?.into()))
}

/// A key of whoever asks; those of others are not there.
fn own(state: &AppState, caller: &Principal, id: Result<Path<String>, PathRejection>) -> Result<KeyRow, ApiError> {
    let Path(id) = id.map_err(|error| ApiError::invalid_value("id", &error.body_text()))?;
    let row = state.ledger.key(&id)?;
    if row.user == caller.user_name { Ok(row) } else { Err(LedgerError::UnknownKey(id).into()) }
}
