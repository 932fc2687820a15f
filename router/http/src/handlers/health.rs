//! `GET /healthz` and `GET /readyz`, the only API paths without a key besides the claim.

use allerac_engine_link::EngineStatus;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

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
}

/// A model can answer: 200, else 503. The reason of a failure stays in the log: it may name paths.
pub(crate) async fn ready(State(state): State<AppState>) -> (StatusCode, Json<Readiness>) {
    let statuses = state.registry.statuses();
    let any = |wanted: fn(&EngineStatus) -> bool| statuses.iter().any(|(_, status)| wanted(status));
    let (status, detail) = if any(|status| matches!(status, EngineStatus::Ready(_))) {
        ("ready", "a model can answer")
    } else if state.registry.models().is_empty() && state.upstreams.iter().next().is_some() {
        ("ready", "only other servers can answer: no model is installed")
    } else if state.registry.models().is_empty() {
        ("no_model", "no model is installed: run `allerac models pull`, then restart")
    } else if any(|status| matches!(status, EngineStatus::Failed { .. })) {
        ("failed", "the model cannot be loaded; see the log")
    } else {
        ("loading", "the model is being loaded")
    };
    let code = if status == "ready" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(Readiness { status, detail: detail.to_owned() }))
}
