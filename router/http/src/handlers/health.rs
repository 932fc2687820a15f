//! `GET /healthz` and `GET /readyz`, the only API paths without a key besides the claim.

use allerac_engine_link::EngineStatus;
use allerac_router_core::Warmth;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use crate::handlers::admin::system::{System, told};
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
        Some(file) => told(file).await,
        None => None,
    };
    (code, Json(Readiness { status, detail: detail.to_owned(), system }))
}
