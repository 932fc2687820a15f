//! Teams and who is in them.

use allerac_ledger::{DEFAULT_PLAN, LedgerError, TeamRow};
use allerac_objects::Order;
use allerac_wire::ListPage;
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Named, name};
use crate::auth::Authenticated;
use crate::error::ApiError;
use crate::handlers::account::acting;
use crate::handlers::list::{Params, told};
use crate::handlers::objects::TeamObject;
use crate::handlers::{Bounded, SmallBody, parse};
use crate::state::AppState;

/// A team to be made.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TeamRequest {
    name: String,
    /// `personal` where it is left out.
    plan: Option<String>,
}

/// What is to be changed about a team.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TeamUpdate {
    plan: String,
}

/// Somebody to be a member.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemberRequest {
    user: String,
}

/// `GET /v1/admin/teams`.
pub(crate) async fn list(
    State(state): State<AppState>,
    _: Authenticated,
    params: Params,
) -> Result<Json<ListPage<Value>>, ApiError> {
    let all = state.ledger.teams(None)?.into_iter().map(|row| json!(TeamObject::from(row)));
    told(all.collect(), params, Order::Ascending)
}

/// `POST /v1/admin/teams`.
pub(crate) async fn create(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    Bounded(body): SmallBody,
) -> Result<(StatusCode, Json<TeamObject>), ApiError> {
    let TeamRequest { name, plan } = parse(&body)?;
    acting(&state, &caller).add_team(&name, plan.as_deref().unwrap_or(DEFAULT_PLAN)).await?;
    Ok((StatusCode::CREATED, Json(find(&state, name.trim())?.into())))
}

/// `GET /v1/admin/teams/{id}`.
pub(crate) async fn get(
    State(state): State<AppState>,
    _: Authenticated,
    path: Named,
) -> Result<Json<TeamObject>, ApiError> {
    Ok(Json(find(&state, &name(path)?)?.into()))
}

/// `POST /v1/admin/teams/{id}`.
pub(crate) async fn update(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    path: Named,
    Bounded(body): SmallBody,
) -> Result<Json<TeamObject>, ApiError> {
    let team = name(path)?;
    let TeamUpdate { plan } = parse(&body)?;
    acting(&state, &caller).set_team_plan(&team, &plan).await?;
    Ok(Json(find(&state, &team)?.into()))
}

/// `DELETE /v1/admin/teams/{id}`.
pub(crate) async fn remove(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    path: Named,
) -> Result<StatusCode, ApiError> {
    acting(&state, &caller).remove_team(&name(path)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/admin/teams/{id}/members`.
pub(crate) async fn join(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    path: Named,
    Bounded(body): SmallBody,
) -> Result<Json<TeamObject>, ApiError> {
    let team = name(path)?;
    let MemberRequest { user } = parse(&body)?;
    acting(&state, &caller).join_team(&team, &user).await?;
    Ok(Json(find(&state, &team)?.into()))
}

/// `DELETE /v1/admin/teams/{id}/members/{user}`.
pub(crate) async fn leave(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Json<TeamObject>, ApiError> {
    let Path((team, user)) = path.map_err(|error| ApiError::invalid_value("id", &error.body_text()))?;
    acting(&state, &caller).leave_team(&team, &user).await?;
    Ok(Json(find(&state, &team)?.into()))
}

fn find(state: &AppState, team: &str) -> Result<TeamRow, ApiError> {
    let found = state.ledger.teams(None)?.into_iter().find(|row| row.team.eq_ignore_ascii_case(team));
    found.ok_or_else(|| LedgerError::Missing { what: "team", id: team.to_owned() }.into())
}
