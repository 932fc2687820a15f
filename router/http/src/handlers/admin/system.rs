//! The operating system of a box: which version runs, and what its owner has it do. The steward does it (image/steward).

use std::path::Path;

use allerac_ledger::{Principal, Right};
use allerac_steward::{AskError, Order};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;

use crate::auth::Authenticated;
use crate::error::ApiError;
use crate::handlers::account::acting;
use crate::handlers::account::security::confirm_person;
use crate::handlers::{Bounded, ClaimBody, parse};
use crate::peer::Peer;
use crate::state::AppState;

/// No file about the system is longer, in bytes.
const STATUS_BYTES_MAX: u64 = 64 * 1024;
/// What is typed before everything is erased.
const ERASE: &str = "erase everything";

/// The operating system of a box, as it tells of itself.
#[derive(Debug, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub(crate) struct System {
    /// Which version of the image runs.
    pub(crate) version: String,
    /// What its owner should know of updates: a version that did not work, one that waits for the next boot.
    pub(crate) notice: Option<String>,
}

/// The system, for who looks after the box.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct SystemObject {
    object: &'static str,
    /// Whether this is a box of the image; nothing below is possible elsewhere.
    is_box: bool,
    /// Which version of the image runs.
    version: Option<String>,
    /// What became of updates, where there is something to know.
    notice: Option<String>,
    /// The version that the box can go back to.
    previous: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Status {
    version: Option<String>,
    notice: Option<String>,
    #[serde(default)]
    previous: Option<String>,
}

/// What a look for updates found.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CheckedObject {
    object: &'static str,
    /// In words.
    found: String,
}

/// Something that cannot be taken back at once.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BackRequest {
    /// Of whoever has one.
    password: Option<String>,
}

/// The end of all that the box remembers.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResetRequest {
    /// The words `erase everything`.
    confirm: String,
    /// Of whoever has one.
    password: Option<String>,
}

/// What the system says of itself; nothing where it says nothing, or nothing that makes sense.
pub(crate) async fn told<T: for<'de> Deserialize<'de>>(file: &Path) -> Option<T> {
    let opened = tokio::fs::File::open(file).await.ok()?;
    let mut text = Vec::new();
    opened.take(STATUS_BYTES_MAX).read_to_end(&mut text).await.ok()?;
    serde_json::from_slice(&text).ok()
}

/// `GET /v1/admin/system`.
pub(crate) async fn get(State(state): State<AppState>, _: Authenticated) -> Json<SystemObject> {
    let status = match &state.system_status {
        Some(file) => told(file).await,
        None => None,
    };
    let Status { version, notice, previous } = status.unwrap_or_default();
    Json(SystemObject { object: "system", is_box: state.steward.is_some(), version, notice, previous })
}

/// `GET /v1/admin/system/logs`: for owners; what people said is in no log.
pub(crate) async fn logs(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
) -> Result<([(HeaderName, &'static str); 3], Vec<u8>), ApiError> {
    let text = order(&state, &caller, Order::Logs, "system.logs").await?;
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"allerac.log\""),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, text))
}

/// `POST /v1/admin/system/check`: asks where updates come from.
pub(crate) async fn check(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
) -> Result<Json<CheckedObject>, ApiError> {
    let found = order(&state, &caller, Order::Check, "system.check").await?;
    Ok(Json(CheckedObject { object: "system.check", found: String::from_utf8_lossy(&found).trim().to_owned() }))
}

/// `POST /v1/admin/system/update`: begins; the box restarts when it is done.
pub(crate) async fn update(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
) -> Result<StatusCode, ApiError> {
    begin(&state, &caller, Order::Update, "system.update").await
}

/// `POST /v1/admin/system/restart`.
pub(crate) async fn restart(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
) -> Result<StatusCode, ApiError> {
    begin(&state, &caller, Order::Restart, "system.restart").await
}

/// `POST /v1/admin/system/back`: gives up the version that runs for the one before.
pub(crate) async fn back(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    peer: Peer,
    Bounded(body): ClaimBody,
) -> Result<StatusCode, ApiError> {
    caller.may(Right::MakeAdmins)?;
    let BackRequest { password } = parse(&body)?;
    confirm_person(&state, &caller.user_name, password, peer).await?;
    begin(&state, &caller, Order::Back, "system.back").await
}

/// `POST /v1/admin/system/factory_reset`: erases all that the box remembers.
pub(crate) async fn factory_reset(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    peer: Peer,
    Bounded(body): ClaimBody,
) -> Result<StatusCode, ApiError> {
    caller.may(Right::MakeAdmins)?;
    let ResetRequest { confirm, password } = parse(&body)?;
    if confirm.trim() != ERASE {
        return Err(ApiError::invalid_value("confirm", &format!("`confirm` must be the words `{ERASE}`")));
    }
    confirm_person(&state, &caller.user_name, password, peer).await?;
    begin(&state, &caller, Order::FactoryReset, "system.factory_reset").await
}

async fn begin(state: &AppState, caller: &Principal, what: Order, action: &str) -> Result<StatusCode, ApiError> {
    order(state, caller, what, action).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Only owners have the box do something with itself. It is noted first: there may be no time afterwards. Where the books
/// cannot be written that may be just what is to be mended; the steward writes each order into the system's log.
async fn order(state: &AppState, caller: &Principal, what: Order, action: &str) -> Result<Vec<u8>, ApiError> {
    caller.may(Right::MakeAdmins)?;
    let steward = state.steward.clone().ok_or(AskError::NotABox).map_err(refused)?;
    if let Err(error) = acting(state, caller).note_act(action, "box").await {
        tracing::warn!(action, "not in the audit log: {error}");
    }
    let asked = tokio::task::spawn_blocking(move || allerac_steward::ask(&steward, what)).await;
    asked.expect("asking does not panic").map_err(refused)
}

fn refused(error: AskError) -> ApiError {
    match error {
        AskError::NotABox => ApiError::conflict("not_a_box", error.to_string()),
        AskError::Refused(reason) => ApiError::conflict("refused_by_system", reason),
        AskError::Broken(cause) => {
            tracing::warn!("the steward of the box does not answer: {cause}");
            ApiError::system_silent(AskError::Broken(cause).to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_system_is_told_of_where_it_tells() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("status.json");
        assert_eq!(told::<System>(&file).await, None);
        std::fs::write(&file, r#"{"version": "0.1.0.7", "notice": null, "entries": [{"version": "0.1.0.7"}]}"#)
            .unwrap();
        assert_eq!(told(&file).await, Some(System { version: "0.1.0.7".into(), notice: None }));
        std::fs::write(&file, "not yet").unwrap();
        assert_eq!(told::<System>(&file).await, None);
    }
}
