//! `POST /api/embed` and `POST /api/embeddings`.

use std::time::{Duration, Instant};

use allerac_engine_link::protocol::EncodeInput;
use allerac_router_core::{Endpoint, ModelKind, Route};
use allerac_wire::Envelope;
use allerac_wire::ollama::{Embedded, EmbeddedOne, OllamaEmbed};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use crate::auth::{Admitted, Authenticated};
use crate::encoding::{self, Computed, Job};
use crate::error::ApiError;
use crate::handlers::embeddings::{dimensions, shorten};
use crate::handlers::{Body, Bounded};
use crate::state::AppState;

/// `POST /api/embed`.
pub(crate) async fn embed(
    State(state): State<AppState>,
    caller: Authenticated,
    admitted: Admitted,
    Bounded(body): Body,
) -> Result<Response, ApiError> {
    let began = Instant::now();
    let request = OllamaEmbed::parse(Envelope::parse(&body)?)?;
    drop(body);
    let Vectors { vectors, tokens, load_time } = vectors(&state, caller, admitted, &request).await?;
    Ok(Json(Embedded {
        model: &request.model,
        embeddings: vectors,
        total_duration: nanoseconds(began.elapsed()),
        load_duration: nanoseconds(load_time),
        prompt_eval_count: tokens,
    })
    .into_response())
}

/// `POST /api/embeddings`.
pub(crate) async fn embed_one(
    State(state): State<AppState>,
    caller: Authenticated,
    admitted: Admitted,
    Bounded(body): Body,
) -> Result<Json<EmbeddedOne>, ApiError> {
    let request = OllamaEmbed::parse_one(Envelope::parse(&body)?)?;
    drop(body);
    let vectors = vectors(&state, caller, admitted, &request).await?.vectors;
    Ok(Json(EmbeddedOne { embedding: vectors.into_iter().next().unwrap_or_default() }))
}

struct Vectors {
    vectors: Vec<Vec<f32>>,
    tokens: u32,
    load_time: Duration,
}

async fn vectors(
    state: &AppState,
    caller: Authenticated,
    admitted: Admitted,
    request: &OllamaEmbed,
) -> Result<Vectors, ApiError> {
    let place = state.route(&request.model, &caller).map_err(|reason| ApiError::no_route(&request.model, reason))?;
    let Route::Local(model) = place else {
        let message = "this model is on another server; ask for its embeddings at /v1/embeddings";
        return Err(ApiError::unsupported_value("model", message));
    };
    encoding::only(model, &[ModelKind::Embedding])?;
    let wanted = Instant::now();
    encoding::load(state, model).await?;
    let load_time = wanted.elapsed();
    if request.texts.is_empty() {
        return Ok(Vectors { vectors: Vec::new(), tokens: 0, load_time });
    }
    let size = dimensions(state, model, request.dimensions).await?;
    let inputs = request.texts.iter().cloned().map(EncodeInput::Text).collect();
    let param = |index| format!("input[{index}]");
    let job = Job { endpoint: Endpoint::Embeddings, inputs, cuts: request.cuts, param, all: "input" };
    let Computed { mut vectors, tokens } = encoding::run(state, caller.0, model, admitted, job).await?;
    if let Some(size) = size {
        vectors.iter_mut().for_each(|vector| shorten(vector, size));
    }
    Ok(Vectors { vectors, tokens, load_time })
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
