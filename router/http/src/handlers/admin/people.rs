//! People: added, changed, removed; their sessions ended.

use allerac_ledger::{Hours, Increase, LedgerError, NoHours, PersonChange, Principal};
use allerac_objects::Order;
use allerac_wire::ListPage;
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Named, name, role};
use crate::auth::Authenticated;
use crate::error::ApiError;
use crate::handlers::account::acting;
use crate::handlers::list::{Params, told};
use crate::handlers::objects::{PersonObject, SessionObject};
use crate::handlers::passkeys::PasskeyObject;
use crate::handlers::sso::IdentityObject;
use crate::handlers::{Bounded, SmallBody, now_s, parse};
use crate::state::AppState;

/// Somebody to be added.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PersonRequest {
    name: String,
    /// `owner`, `admin`, `member`, `child` or `auditor`; `member` where it is left out.
    role: Option<String>,
    /// `personal` where it is left out.
    plan: Option<String>,
    hours: Option<String>,
    models: Option<Vec<String>>,
}

/// What is to be changed about somebody; what is left out stays.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PersonUpdate {
    /// What they are to be called; all that is theirs stays theirs.
    name: Option<String>,
    role: Option<String>,
    plan: Option<String>,
    /// When they may use the box, as `mon-fri 07:00-20:00`; empty for always.
    hours: Option<String>,
    /// The models that they may use; empty for all.
    models: Option<Vec<String>>,
    /// Another password; their sessions end.
    #[schemars(length(min = 10, max = 64))]
    password: Option<String>,
    /// `true` takes their second factor away, for who lost theirs.
    remove_second_factor: Option<bool>,
    /// `true` takes all their passkeys away, for who lost their devices.
    remove_passkeys: Option<bool>,
    /// `true` lets no other provider sign them in any more; they can be linked again.
    remove_identities: Option<bool>,
    /// More tokens a month for a while; one of 0 tokens ends all of them.
    increase: Option<IncreaseRequest>,
}

/// Tokens beyond the plan.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct IncreaseRequest {
    tokens: u64,
    /// In seconds since 1970.
    ends_at: Option<i64>,
}

/// `GET /v1/admin/people`.
pub(crate) async fn list(
    State(state): State<AppState>,
    _: Authenticated,
    params: Params,
) -> Result<Json<ListPage<Value>>, ApiError> {
    let all = state.ledger.users()?.into_iter().map(|row| json!(PersonObject::from(row)));
    told(all.collect(), params, Order::Ascending)
}

/// `POST /v1/admin/people`.
pub(crate) async fn create(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    Bounded(body): SmallBody,
) -> Result<(StatusCode, Json<PersonObject>), ApiError> {
    let request: PersonRequest = parse(&body)?;
    let facts = PersonChange {
        name: None,
        role: request.role.as_deref().map(role).transpose()?,
        plan: request.plan,
        hours: request.hours.as_deref().map(hours).transpose()?,
        models: request.models,
    };
    let (ledger, name) = (acting(&state, &caller), request.name.trim());
    ledger.add_person_with(name, facts, caller.role).await?;
    Ok((StatusCode::CREATED, Json(ledger.user(name)?.into())))
}

/// `GET /v1/admin/people/{id}`.
pub(crate) async fn get(
    State(state): State<AppState>,
    _: Authenticated,
    path: Named,
) -> Result<Json<PersonObject>, ApiError> {
    Ok(Json(state.ledger.user(&name(path)?)?.into()))
}

/// `POST /v1/admin/people/{id}`.
pub(crate) async fn update(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    path: Named,
    Bounded(body): SmallBody,
) -> Result<Json<PersonObject>, ApiError> {
    let mut name = name(path)?;
    let update: PersonUpdate = parse(&body)?;
    let ledger = acting(&state, &caller);
    let known = ledger.user(&name)?;
    let change = PersonChange {
        name: update.name.map(|name| name.trim().to_owned()),
        role: update.role.as_deref().map(role).transpose()?,
        plan: update.plan,
        hours: update.hours.as_deref().map(hours).transpose()?,
        models: update.models,
    };
    let hash = match update.password {
        Some(password) => Some(state.doors.hash(password).await?),
        None => None,
    };
    // It also says whether whoever asks may change this person at all.
    let called = change.name.clone();
    ledger.change_person(&name, change, caller.role).await?;
    name = called.unwrap_or(name);
    if hash.is_some() {
        ledger.set_password(&name, hash, (None, Some(caller.role))).await?;
    }
    if update.remove_second_factor == Some(true) && known.second_factor {
        ledger.remove_second_factor(&name).await?;
    }
    if update.remove_passkeys == Some(true) {
        ledger.remove_passkeys(&name).await?;
    }
    if update.remove_identities == Some(true) {
        ledger.unlink_identities(&name).await?;
    }
    match update.increase {
        Some(IncreaseRequest { tokens: 0, .. }) => {
            ledger.end_increases(&name).await?;
        }
        Some(IncreaseRequest { tokens, ends_at }) => {
            let ends_at = ends_at.ok_or_else(|| ApiError::missing("increase.ends_at"))?;
            ledger.increase(&name, Increase { tokens, ends_at }).await?;
        }
        None => {}
    }
    Ok(Json(ledger.user(&name)?.into()))
}

/// `GET /v1/admin/people/{id}/passkeys`.
pub(crate) async fn passkeys(
    State(state): State<AppState>,
    _: Authenticated,
    path: Named,
    params: Params,
) -> Result<Json<ListPage<Value>>, ApiError> {
    let user = state.ledger.user(&name(path)?)?.user;
    let rows = state.ledger.passkeys(&user)?.into_iter().map(|row| json!(PasskeyObject::from(row)));
    told(rows.collect(), params, Order::Ascending)
}

/// `DELETE /v1/admin/people/{id}/passkeys/{passkey}`.
pub(crate) async fn remove_passkey(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    path: OneOf,
) -> Result<StatusCode, ApiError> {
    let (user, id) = below(&state, &caller, path)?;
    acting(&state, &caller).remove_passkey(&user, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /v1/admin/people/{id}/identities`.
pub(crate) async fn identities(
    State(state): State<AppState>,
    _: Authenticated,
    path: Named,
    params: Params,
) -> Result<Json<ListPage<Value>>, ApiError> {
    let user = state.ledger.user(&name(path)?)?.user;
    let rows = state.ledger.identities(&user)?.into_iter().map(|row| json!(IdentityObject::from(row)));
    told(rows.collect(), params, Order::Ascending)
}

/// `DELETE /v1/admin/people/{id}/identities/{identity}`.
pub(crate) async fn remove_identity(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    path: OneOf,
) -> Result<StatusCode, ApiError> {
    let (user, id) = below(&state, &caller, path)?;
    acting(&state, &caller).unlink_identity(&user, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A person, and something of theirs.
type OneOf = Result<Path<(String, String)>, PathRejection>;

/// Refuses to take something from people who are not below whoever asks.
fn below(state: &AppState, caller: &Principal, path: OneOf) -> Result<(String, String), ApiError> {
    let Path((user, id)) = path.map_err(|error| ApiError::invalid_value("id", &error.body_text()))?;
    let known = state.ledger.user(&user)?;
    if !caller.role.governs(known.role) {
        let message = format!("only an owner of the box may change people with the role {}", known.role);
        return Err(LedgerError::Forbidden(message).into());
    }
    Ok((known.user, id))
}

/// `DELETE /v1/admin/people/{id}`: they are nobody here from now on; what they used stays in the books.
pub(crate) async fn remove(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    path: Named,
) -> Result<StatusCode, ApiError> {
    acting(&state, &caller).remove_person(&name(path)?, caller.role).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /v1/admin/sessions`.
pub(crate) async fn sessions(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    mut params: Params,
) -> Result<Json<ListPage<Value>>, ApiError> {
    let rows = state.ledger.sessions(params.take("user").as_deref())?;
    let current = caller.session.as_deref();
    told(rows.into_iter().map(|row| json!(SessionObject::new(row, current))).collect(), params, Order::Descending)
}

/// `DELETE /v1/admin/sessions/{id}`.
pub(crate) async fn end_session(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    path: Named,
) -> Result<StatusCode, ApiError> {
    acting(&state, &caller).end_session(&name(path)?, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn hours(text: &str) -> Result<Hours, ApiError> {
    text.parse().map_err(|error: NoHours| ApiError::invalid_value("hours", &error.to_string()))
}

/// `GET /v1/organization/users`, as OpenAI's clients list people.
pub(crate) async fn organization(
    State(state): State<AppState>,
    _: Authenticated,
    params: Params,
) -> Result<Json<ListPage<Value>>, ApiError> {
    let all = state.ledger.users()?.into_iter().map(|user| {
        let role = if user.role.allows(allerac_ledger::Right::Administer) { "owner" } else { "reader" };
        json!({"object": "organization.user", "id": user.user, "name": user.user, "email": null, "role": role,
            "added_at": user.created_at.min(now_s())})
    });
    told(all.collect(), params, Order::Ascending)
}
