//! `/v1/admin`: people, keys, invitations, sessions, teams, plans, the audit log, models, the machine and its system, for who looks after the box.

pub(crate) mod alerts;
pub(crate) mod books;
pub(crate) mod downloads;
pub(crate) mod exports;
pub(crate) mod gpu;
pub(crate) mod invitations;
pub(crate) mod keys;
pub(crate) mod look;
pub(crate) mod models;
pub(crate) mod people;
pub(crate) mod system;
pub(crate) mod teams;
pub(crate) mod upstreams;

use allerac_ledger::{LedgerError, Principal, Role};
use axum::extract::Path;
use axum::extract::rejection::PathRejection;

use crate::error::ApiError;

/// What stands in an address for a thing's name.
pub(crate) type Named = Result<Path<String>, PathRejection>;

pub(crate) fn name(path: Named) -> Result<String, ApiError> {
    let Path(name) = path.map_err(|error| ApiError::invalid_value("id", &error.body_text()))?;
    Ok(name)
}

/// Whether whoever asks may have a secret of somebody of this name: with it they are that person.
fn may_be(caller: &Principal, name: &str, role: Role) -> Result<(), ApiError> {
    let is_self = caller.user_name.eq_ignore_ascii_case(name);
    if is_self || caller.role.governs(role) {
        return Ok(());
    }
    Err(LedgerError::Forbidden(format!("only an owner of the box makes and turns keys of people with the role {role}"))
        .into())
}

fn role(word: &str) -> Result<Role, ApiError> {
    word.parse().map_err(|error: allerac_ledger::UnknownWord| ApiError::invalid_value("role", &error.to_string()))
}
