//! What Ollama's clients order: to remove, copy and make models. Only the owner of the box may, and what it does not do
//! says what to do instead.

use allerac_router_core::NoRoute;
use allerac_wire::ollama::{CopyOrder, model_name};
use axum::extract::State;
use axum::http::StatusCode;

use crate::auth::Owner;
use crate::error::ApiError;
use crate::handlers::{Bounded, SmallBody};
use crate::state::AppState;

/// What Ollama's clients add to a name that has no tag.
const LATEST: &str = ":latest";

/// The id of the installed model that a name means. Other names from the configuration file do not count: who orders
/// something for a model names the model.
fn installed(state: &AppState, name: &str) -> Result<String, ApiError> {
    let plain = name.strip_suffix(LATEST).unwrap_or(name);
    let found = [name, plain].into_iter().find_map(|name| state.registry.find(name));
    let id = found.map(|model| model.id.clone()).or_else(|| state.registry.named(name));
    id.ok_or_else(|| ApiError::no_route(name, NoRoute::Unknown))
}

/// `DELETE /api/delete`: what runs on the model ends well; then its files go.
pub(crate) async fn delete(
    State(state): State<AppState>,
    _: Owner,
    Bounded(body): SmallBody,
) -> Result<StatusCode, ApiError> {
    let id = installed(&state, &model_name(&body, &[])?)?;
    let removed = state.registry.remove(&id).await.map_err(|error| ApiError::from(&error))?;
    // Somebody else may have removed it just now.
    if removed { Ok(StatusCode::OK) } else { Err(ApiError::no_route(&id, NoRoute::Unknown)) }
}

/// `POST /api/copy`: another name for the same files.
pub(crate) async fn copy(
    State(state): State<AppState>,
    _: Owner,
    Bounded(body): SmallBody,
) -> Result<StatusCode, ApiError> {
    let CopyOrder { source, destination } = CopyOrder::parse(&body)?;
    let from = installed(&state, &source)?;
    let to = destination.strip_suffix(LATEST).unwrap_or(&destination);
    state.registry.copy(&from, to).await.map_err(|error| ApiError::from(&error))?;
    Ok(StatusCode::OK)
}

/// `POST /api/create`.
pub(crate) async fn create(_: Owner) -> ApiError {
    ApiError::not_done_here(
        "models are not made here: the box serves those of its catalogue; see `allerac models list`",
    )
}

/// `POST /api/push`.
pub(crate) async fn push(_: Owner) -> ApiError {
    ApiError::not_done_here("models are not given away here")
}

/// `HEAD` and `POST /api/blobs/{digest}`.
pub(crate) async fn blobs(_: Owner) -> ApiError {
    ApiError::not_done_here("files of models are not taken here: the box fetches those of its catalogue itself")
}
