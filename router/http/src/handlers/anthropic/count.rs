//! `POST /v1/messages/count_tokens`.

use allerac_router_core::Route;
use allerac_wire::anthropic::{MessagesRequest, TokenCount};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};

use crate::auth::{Admitted, Authenticated};
use crate::error::ApiError;
use crate::estimate::estimate;
use crate::handlers::Asked;
use crate::handlers::generate::place;
use crate::prepare;
use crate::state::AppState;

/// Says how a count was made: `exact`, or `estimate`.
const TOKEN_COUNT: HeaderName = HeaderName::from_static("x-allerac-token-count");

/// Counts the tokens of a conversation: exactly for a model of this box, and by its length for one of another server,
/// which is not asked. It costs nothing.
pub(crate) async fn count_tokens(
    State(state): State<AppState>,
    caller: Authenticated,
    admitted: Admitted,
    Asked(envelope): Asked,
) -> Result<Response, ApiError> {
    let place = place(&state, &caller, &envelope)?;
    let request = MessagesRequest::parse_count(envelope)?;
    let (input_tokens, how) = match place {
        Route::Local(model) => (prepare::count(&state.registry, &model, request).await?, "exact"),
        Route::Upstream(_, name) => (estimate(&request.for_upstream(name)), "estimate"),
    };
    drop(admitted);
    let mut response = Json(TokenCount { input_tokens }).into_response();
    response.headers_mut().insert(TOKEN_COUNT, HeaderValue::from_static(how));
    Ok(response)
}
