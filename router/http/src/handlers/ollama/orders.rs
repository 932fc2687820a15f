//! What Ollama's clients order: to fetch, remove, copy and make models. Only the owner of the box may, and what a
//! running server cannot do says what to do instead.

use allerac_wire::ollama::{Status, model_name};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use crate::auth::Owner;
use crate::error::ApiError;
use crate::handlers::{Bounded, SmallBody};
use crate::state::AppState;

/// What else a request for a model says; it changes nothing here.
pub(crate) const PULL_KNOWN: &[&str] = &["stream", "insecure", "username", "password"];

/// `POST /api/pull`: a model that is here already is there at once.
pub(crate) async fn pull(
    State(state): State<AppState>,
    _: Owner,
    Bounded(body): SmallBody,
) -> Result<Response, ApiError> {
    let name = model_name(&body, PULL_KNOWN)?;
    let model = state.aliases.model(&name, &state.registry, &state.upstreams);
    if state.registry.find(model).is_none() {
        return Err(ApiError::not_done_here(
            "a running server does not fetch models: run `allerac models pull` on the box, then restart it",
        ));
    }
    let status = Status { status: "success".to_owned(), digest: None, total: None, completed: None };
    Ok(Json(status).into_response())
}

/// `DELETE /api/delete`.
pub(crate) async fn delete(_: Owner) -> ApiError {
    ApiError::not_done_here(
        "a running server does not remove models: run `allerac models rm` on the box, then restart it",
    )
}

/// `POST /api/copy`.
pub(crate) async fn copy(_: Owner) -> ApiError {
    ApiError::not_done_here("models are not copied here: give one another name in `aliases` of the configuration file")
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
