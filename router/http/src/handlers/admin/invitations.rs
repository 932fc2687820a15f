//! Invitations.

use allerac_ledger::{DEFAULT_PLAN, Invitation, InvitationRow, LedgerError, Role};
use allerac_objects::Order;
use allerac_wire::ListPage;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Named, name, role};
use crate::auth::Authenticated;
use crate::error::ApiError;
use crate::handlers::account::acting;
use crate::handlers::list::{Params, told};
use crate::handlers::objects::{InvitationObject, LinkObject};
use crate::handlers::{Bounded, SmallBody, parse};
use crate::origin;
use crate::state::AppState;

/// How long an invitation is open where nobody says, in seconds: a week.
const OPEN_S: i64 = 7 * 24 * 3600;

/// Somebody to be invited.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct InvitationRequest {
    /// The name that they get; left out, they choose one.
    name: Option<String>,
    /// `owner`, `admin`, `member`, `child` or `auditor`; `member` where it is left out.
    role: Option<String>,
    /// `personal` where it is left out.
    plan: Option<String>,
    /// A team that they become a member of.
    team: Option<String>,
    /// How long it is open: a week where it is left out, 90 days at most.
    expires_in_seconds: Option<i64>,
}

/// `GET /v1/admin/invitations`.
pub(crate) async fn list(
    State(state): State<AppState>,
    _: Authenticated,
    params: Params,
) -> Result<Json<ListPage<Value>>, ApiError> {
    let all = state.ledger.invitations()?.into_iter().map(|row| json!(InvitationObject::from(row)));
    told(all.collect(), params, Order::Descending)
}

/// `POST /v1/admin/invitations`.
pub(crate) async fn create(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    headers: HeaderMap,
    Bounded(body): SmallBody,
) -> Result<(StatusCode, Json<LinkObject>), ApiError> {
    let request: InvitationRequest = parse(&body)?;
    let invitation = Invitation {
        name: request.name,
        role: request.role.as_deref().map_or(Ok(Role::Member), role)?,
        plan: request.plan.unwrap_or_else(|| DEFAULT_PLAN.to_owned()),
        team: request.team,
        open_s: request.expires_in_seconds.unwrap_or(OPEN_S),
    };
    let ledger = acting(&state, &caller);
    let made = ledger.invite(invitation, caller.role, &caller.user_name).await?;
    let url = format!("{}/#invitation={}", origin::address(&headers, &state.name), made.secret);
    Ok((StatusCode::CREATED, Json(LinkObject { invitation: find(&state, &made.public_id)?.into(), url })))
}

/// `GET /v1/admin/invitations/{id}`.
pub(crate) async fn get(
    State(state): State<AppState>,
    _: Authenticated,
    path: Named,
) -> Result<Json<InvitationObject>, ApiError> {
    Ok(Json(find(&state, &name(path)?)?.into()))
}

/// `DELETE /v1/admin/invitations/{id}`: takes it back.
pub(crate) async fn revoke(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    path: Named,
) -> Result<Json<InvitationObject>, ApiError> {
    let id = name(path)?;
    acting(&state, &caller).revoke_invitation(&id, caller.role).await?;
    Ok(Json(find(&state, &id)?.into()))
}

fn find(state: &AppState, id: &str) -> Result<InvitationRow, ApiError> {
    let found = state.ledger.invitations()?.into_iter().find(|row| row.id == id);
    found.ok_or_else(|| LedgerError::Missing { what: "invitation", id: id.to_owned() }.into())
}

/// `GET /v1/organization/invites`, as OpenAI's clients list invitations.
pub(crate) async fn organization(
    State(state): State<AppState>,
    _: Authenticated,
    params: Params,
) -> Result<Json<ListPage<Value>>, ApiError> {
    let all = state.ledger.invitations()?.into_iter().map(|row| {
        let role = if row.invited.role.allows(allerac_ledger::Right::Administer) { "owner" } else { "reader" };
        let (accepted_at, created_at, expires_at) = (row.used_at, row.created_at, row.invited.expires_at);
        let is_over = row.revoked_at.is_some() || expires_at <= super::super::now_s();
        let status = if accepted_at.is_some() {
            "accepted"
        } else if is_over {
            "expired"
        } else {
            "pending"
        };
        json!({"object": "organization.invite", "id": row.id, "email": row.invited.name, "role": role, "status": status,
            "created_at": created_at, "expires_at": expires_at, "accepted_at": accepted_at, "projects": []})
    });
    told(all.collect(), params, Order::Ascending)
}
