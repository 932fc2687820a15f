//! `/v1/account`: what people see and change of themselves.

pub(crate) mod keys;
pub(crate) mod security;

use allerac_ledger::{Ledger, Principal, Role, Scope, Scopes};
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;

use crate::auth::Authenticated;
use crate::error::ApiError;
use crate::handlers::list::Params;
use crate::handlers::objects::{PersonObject, TeamObject};
use crate::handlers::streamed::streamed;
use crate::person_file::write_person;
use crate::state::AppState;
use crate::usage_file::NotWritten;

/// Whoever asks.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AccountObject {
    object: &'static str,
    person: PersonObject,
    teams: Vec<TeamObject>,
    /// The team that pays for what is asked with this key, or in this session.
    team: Option<String>,
    /// Whether this was asked in a session of the page.
    signed_in: bool,
    /// What the person's role may: `ask models`...
    rights: Vec<&'static str>,
    storage: StorageObject,
}

/// What somebody keeps: files, responses, batches.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct StorageObject {
    used_bytes: u64,
    /// Null for no limit.
    limit_bytes: Option<u64>,
}

/// The ledger in the hands of whoever asks.
pub(crate) fn acting(state: &AppState, caller: &Principal) -> Ledger {
    let by = match &caller.session {
        Some(session) => format!("{}, session {session}", caller.user_name),
        None => format!("{}, key {}", caller.user_name, caller.key_id),
    };
    let ledger = state.ledger.clone().acting_as(&by);
    if caller.role == Role::Admin { ledger.by_admin(&caller.user_name) } else { ledger }
}

/// `GET /v1/account`.
pub(crate) async fn get(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
) -> Result<Json<AccountObject>, ApiError> {
    let teams = state.ledger.teams(Some(&caller.user_name))?.into_iter().map(TeamObject::from).collect();
    let used_bytes = state.store.kept_bytes(caller.salt).await?;
    Ok(Json(AccountObject {
        storage: StorageObject { used_bytes, limit_bytes: caller.storage_bytes() },
        object: "account",
        person: state.ledger.user(&caller.user_name)?.into(),
        teams,
        team: caller.team,
        signed_in: caller.session.is_some(),
        rights: caller.role.rights(),
    }))
}

/// `GET /v1/account/export`: all that the box has of whoever asks.
pub(crate) async fn export(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    params: Params,
) -> Result<Response, ApiError> {
    params.finish()?;
    // A key that is made for less does not open all of it.
    if caller.is_bound || !Scopes::of(&[Scope::Inference, Scope::Files, Scope::Account]).within(caller.scopes) {
        let message =
            "this key is bound to some uses: ask for all that is yours at the page, or with a key that is not";
        return Err(ApiError::forbidden("key_is_bound", message));
    }
    let (ledger, store) = (state.ledger.clone(), state.store.clone());
    let person = ledger.person(&caller.user_name)?;
    streamed(&state.exports, ("allerac.zip", "application/zip"), move |output| {
        write_person(&ledger, Some(&store), &person, output).map(drop).map_err(|error| match error {
            NotWritten::Io(error) => error,
            other => std::io::Error::other(other),
        })
    })
}
