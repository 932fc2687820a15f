//! `GET /metrics`: what is measured, for Prometheus and for `allerac top`.

use allerac_metrics::{CONTENT_TYPE, ModelReport};
use allerac_router_core::ModelState;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use crate::auth::Observer;
use crate::state::AppState;

/// All of it, as OpenMetrics text.
pub(crate) async fn show(State(state): State<AppState>, _: Observer) -> impl IntoResponse {
    let engines = state.registry.engines().into_iter();
    let report =
        |state: ModelState| ModelReport { model: state.model.id.clone(), status: state.status, report: state.report };
    let models = engines.map(report).collect();
    let text = state.metrics.render(models, state.limits.in_flight(), env!("CARGO_PKG_VERSION"));
    ([(header::CONTENT_TYPE, CONTENT_TYPE), (header::CACHE_CONTROL, "no-store")], text)
}
