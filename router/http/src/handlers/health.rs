//! `GET /healthz` and `GET /readyz`, the only API paths without a key besides the claim.

use std::path::Path;

use allerac_engine_link::EngineStatus;
use allerac_router_core::Warmth;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;

use crate::state::AppState;

/// The process lives.
pub(crate) async fn live() -> &'static str {
    "ok\n"
}

/// Whether a model can answer, and why not.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Readiness {
    status: &'static str,
    detail: String,
    /// On a box of the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<System>,
}

/// The operating system of a box.
#[derive(Debug, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub(crate) struct System {
    /// Which version of the image runs.
    version: String,
    /// What its owner should know of updates: a version that did not work, one that waits for the next boot.
    notice: Option<String>,
}

/// No such file is longer.
const SYSTEM_BYTES_MAX: u64 = 64 * 1024;

/// What the system says of itself; nothing where it says nothing, or nothing that makes sense.
async fn system(file: &Path) -> Option<System> {
    let opened = tokio::fs::File::open(file).await.ok()?;
    let mut text = Vec::new();
    opened.take(SYSTEM_BYTES_MAX).read_to_end(&mut text).await.ok()?;
    serde_json::from_slice(&text).ok()
}

/// A model can answer: 200, else 503. The reason of a failure stays in the log: it may name paths.
pub(crate) async fn ready(State(state): State<AppState>) -> (StatusCode, Json<Readiness>) {
    let models = state.registry.states();
    let any = |wanted: fn(&EngineStatus) -> bool| models.iter().any(|model| model.status.as_ref().is_some_and(wanted));
    let is_on_its_way =
        |status: &EngineStatus| matches!(status, EngineStatus::Loading { .. } | EngineStatus::Restarting { .. });
    let (status, detail) = if any(|status| matches!(status, EngineStatus::Ready(_))) {
        ("ready", "a model can answer")
    } else if models.is_empty() && state.upstreams.iter().next().is_some() {
        ("ready", "only other servers can answer: no model is installed")
    } else if models.is_empty() {
        ("no_model", "no model is installed: run `allerac models pull`")
    } else if any(is_on_its_way) {
        ("loading", "the model is being loaded")
    } else if any(|status| matches!(status, EngineStatus::Failed { .. })) {
        ("failed", "the model cannot be loaded; see the log")
    } else {
        match state.registry.warmth() {
            Warmth::Pending => ("loading", "the model is being loaded"),
            Warmth::Failed => ("failed", "the model cannot be loaded; see the log"),
            Warmth::Done => ("ready", "no model is in memory; one is loaded when it is asked"),
        }
    };
    let code = if status == "ready" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let system = match &state.system_status {
        Some(file) => system(file).await,
        None => None,
    };
    (code, Json(Readiness { status, detail: detail.to_owned(), system }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_system_is_told_of_where_it_tells() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("status.json");
        assert_eq!(system(&file).await, None);
        std::fs::write(&file, r#"{"version": "0.1.0.7", "notice": null, "entries": [{"version": "0.1.0.7"}]}"#)
            .unwrap();
        assert_eq!(system(&file).await, Some(System { version: "0.1.0.7".into(), notice: None }));
        std::fs::write(&file, "not yet").unwrap();
        assert_eq!(system(&file).await, None);
    }
}
