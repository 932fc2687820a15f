//! `GET /metrics`: what is measured, for Prometheus and for `allerac top`.

use allerac_metrics::{CONTENT_TYPE, ModelReport};
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use crate::auth::Observer;
use crate::state::AppState;

/// All of it, as OpenMetrics text.
pub(crate) async fn show(State(state): State<AppState>, _: Observer) -> impl IntoResponse {
    let reports = state.registry.reports().into_iter();
    let models = reports.map(|(model, engine)| ModelReport { model, engine }).collect();
    let text = state.metrics.render(models, state.limits.in_flight(), env!("CARGO_PKG_VERSION"));
    ([(header::CONTENT_TYPE, CONTENT_TYPE), (header::CACHE_CONTROL, "no-store")], text)
}
