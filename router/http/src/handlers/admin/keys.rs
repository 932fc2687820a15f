//! Keys of everybody.

use allerac_ledger::{LedgerError, NewKey, Role};
use allerac_objects::Order;
use allerac_wire::ListPage;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Named, may_be, name};
use crate::auth::Authenticated;
use crate::error::ApiError;
use crate::handlers::account::acting;
use crate::handlers::list::{Params, told};
use crate::handlers::objects::{KeyObject, KeyRequest, RotateRequest, SecretObject, Wanted};
use crate::handlers::{Bounded, SmallBody, parse};
use crate::state::AppState;

/// What is to be changed about a key.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyUpdate {
    /// A plan that limits it beside its person's; null for none.
    plan: Option<String>,
}

/// `GET /v1/admin/keys`.
pub(crate) async fn list(
    State(state): State<AppState>,
    _: Authenticated,
    mut params: Params,
) -> Result<Json<ListPage<Value>>, ApiError> {
    let rows = state.ledger.keys_of(params.take("user").as_deref())?;
    told(rows.into_iter().map(|row| json!(KeyObject::from(row))).collect(), params, Order::Descending)
}

/// `POST /v1/admin/keys`.
pub(crate) async fn create(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    Bounded(body): SmallBody,
) -> Result<(StatusCode, Json<SecretObject>), ApiError> {
    let mut request: KeyRequest = parse(&body)?;
    let user = request.user.take().ok_or_else(|| ApiError::missing("user"))?;
    let Wanted { label, plan, upstreams, limits } = request.wanted()?;
    let ledger = acting(&state, &caller);
    may_be(&caller, user.trim(), role_of(&state, user.trim())?)?;
    let key = ledger.create_key(NewKey { user, label, plan, upstreams, limits }).await?;
    Ok((StatusCode::CREATED, Json(SecretObject::new(ledger.key(&key.public_id)?, key))))
}

/// The role of somebody; who is not there yet becomes a member.
fn role_of(state: &AppState, user: &str) -> Result<Role, ApiError> {
    match state.ledger.user(user) {
        Ok(known) => Ok(known.role),
        Err(LedgerError::UnknownUser(_)) => Ok(Role::Member),
        Err(error) => Err(error.into()),
    }
}

/// `GET /v1/admin/keys/{id}`.
pub(crate) async fn get(
    State(state): State<AppState>,
    _: Authenticated,
    path: Named,
) -> Result<Json<KeyObject>, ApiError> {
    Ok(Json(state.ledger.key(&name(path)?)?.into()))
}

/// `POST /v1/admin/keys/{id}`.
pub(crate) async fn update(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    path: Named,
    Bounded(body): SmallBody,
) -> Result<Json<KeyObject>, ApiError> {
    let id = name(path)?;
    let KeyUpdate { plan } = parse(&body)?;
    let ledger = acting(&state, &caller);
    let row = ledger.key(&id)?;
    may_be(&caller, &row.user, role_of(&state, &row.user)?)?;
    ledger.set_key_plan(&id, plan.as_deref()).await?;
    Ok(Json(ledger.key(&id)?.into()))
}

/// `POST /v1/admin/keys/{id}/rotate`.
pub(crate) async fn rotate(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    path: Named,
    Bounded(body): SmallBody,
) -> Result<Json<SecretObject>, ApiError> {
    let id = name(path)?;
    let RotateRequest { overlap_seconds } = parse(&body)?;
    let ledger = acting(&state, &caller);
    let row = ledger.key(&id)?;
    may_be(&caller, &row.user, role_of(&state, &row.user)?)?;
    let key = ledger.rotate_key(&id, overlap_seconds).await?;
    Ok(Json(SecretObject::new(ledger.key(&id)?, key)))
}

/// `DELETE /v1/admin/keys/{id}`: refuses it from now on.
pub(crate) async fn revoke(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    path: Named,
) -> Result<Json<KeyObject>, ApiError> {
    let id = name(path)?;
    let row = state.ledger.key(&id)?;
    may_be(&caller, &row.user, role_of(&state, &row.user)?)?;
    Ok(Json(acting(&state, &caller).revoke_key(&id).await?.into()))
}
