//! `POST /api/embed` and the older `POST /api/embeddings`: vectors for texts.

use std::sync::Arc;
use std::time::Duration;

use allerac_engine_link::protocol::EncodeInput;
use allerac_router_core::{Endpoint, LocalModel, ModelKind, Route};
use allerac_wire::Envelope;
use allerac_wire::ollama::{Embedded, EmbeddedOne, OllamaEmbed};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::stopwatch::nanoseconds;
use crate::auth::{Admitted, Authenticated};
use crate::encoding::{self, Computed, Job};
use crate::error::ApiError;
use crate::handlers::Asked;
use crate::handlers::embeddings::{dimensions, shorten};
use crate::prepare;
use crate::state::AppState;

/// `POST /api/embed`.
pub(crate) async fn embed(
    State(state): State<AppState>,
    caller: Authenticated,
    admitted: Admitted,
    Asked(envelope): Asked,
) -> Result<Response, ApiError> {
    let accepted = admitted.accepted;
    let (name, model) = place(&state, &caller, &envelope)?;
    let request = OllamaEmbed::parse(envelope)?;
    let Vectors { vectors, tokens, load_time } = vectors(&state, caller, &model, admitted, request).await?;
    let answer = Embedded {
        model: &name,
        embeddings: vectors,
        total_duration: nanoseconds(accepted.elapsed()),
        load_duration: nanoseconds(load_time),
        prompt_eval_count: tokens,
    };
    Ok(Json(answer).into_response())
}

/// `POST /api/embeddings`: of one text.
pub(crate) async fn embeddings(
    State(state): State<AppState>,
    caller: Authenticated,
    admitted: Admitted,
    Asked(envelope): Asked,
) -> Result<Json<EmbeddedOne>, ApiError> {
    let (_, model) = place(&state, &caller, &envelope)?;
    let request = OllamaEmbed::parse_old(envelope)?;
    let Vectors { vectors, .. } = vectors(&state, caller, &model, admitted, request).await?;
    Ok(Json(EmbeddedOne { embedding: vectors.into_iter().next().unwrap_or_default() }))
}

/// The model of the box that is asked, and what the client calls it.
fn place(state: &AppState, caller: &Authenticated, envelope: &Envelope) -> Result<(String, Arc<LocalModel>), ApiError> {
    let name = envelope.model.clone();
    let place = state.route(&name, caller).map_err(|reason| ApiError::no_route(&name, reason))?;
    let Route::Local(model) = place else {
        return Err(ApiError::wrong_kind(&name, "is on another server; ask /v1/embeddings for its vectors"));
    };
    encoding::only(&model, &[ModelKind::Embedding])?;
    Ok((name, model))
}

struct Vectors {
    vectors: Vec<Vec<f32>>,
    tokens: u32,
    load_time: Duration,
}

/// The vectors; none, where nothing is asked but that the model is there.
async fn vectors(
    state: &AppState,
    caller: Authenticated,
    model: &Arc<LocalModel>,
    admitted: Admitted,
    request: OllamaEmbed,
) -> Result<Vectors, ApiError> {
    let loaded = prepare::load(&state.registry, model, request.keep_alive, None).await?;
    let load_time = loaded.time;
    let size = dimensions(&loaded, model, request.dimensions)?;
    if request.inputs.is_empty() {
        return Ok(Vectors { vectors: Vec::new(), tokens: 0, load_time });
    }
    let inputs = request.inputs.into_iter().map(EncodeInput::Text).collect();
    let param = |index| format!("input[{index}]");
    let job = Job { endpoint: Endpoint::OllamaEmbed, inputs, param, all: "input", cuts: request.cuts };
    let computed = encoding::run(state, caller.0, (model, loaded), admitted, job).await?;
    let Computed { mut vectors, tokens } = computed;
    if let Some(size) = size {
        vectors.iter_mut().for_each(|vector| shorten(vector, size));
    }
    Ok(Vectors { vectors, tokens, load_time })
}
