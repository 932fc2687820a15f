//! `POST /v1/embeddings`.

use allerac_engine_core::TokenId;
use allerac_engine_link::protocol::{EncodeInput, Produces};
use allerac_router_core::{Endpoint, LocalModel, ModelKind, Route};
use allerac_wire::{
    Embedding, EmbeddingEncoding, EmbeddingList, EmbeddingRequest, EmbeddingVector, EncoderUsage, Prompt,
};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use data_encoding::BASE64;

use super::Asked;
use super::generate::place;
use crate::auth::{Admitted, Authenticated};
use crate::encoding::{self, Computed, Job};
use crate::error::ApiError;
use crate::prepare::{self, Loaded};
use crate::relay;
use crate::state::AppState;

/// Vectors for texts.
pub(crate) async fn create(
    State(state): State<AppState>,
    caller: Authenticated,
    admitted: Admitted,
    Asked(envelope): Asked,
) -> Result<Response, ApiError> {
    let place = place(&state, &caller, &envelope)?;
    let model = match place {
        Route::Local(model) => model,
        Route::Upstream(upstream, name) => {
            let request = relay::Request { endpoint: Endpoint::Embeddings, envelope, name: name.to_owned() };
            return Ok(relay::relay(&state, &caller.0, upstream, request, admitted).await);
        }
    };
    encoding::only(&model, &[ModelKind::Embedding])?;
    let request = EmbeddingRequest::parse(envelope)?;
    let loaded = prepare::load(&state.registry, &model, None, None).await?;
    let size = dimensions(&loaded, &model, request.dimensions)?;
    let inputs = request.inputs.into_iter().map(input).collect();
    let job = Job {
        endpoint: Endpoint::Embeddings,
        inputs,
        param: |index| format!("input[{index}]"),
        all: "input",
        cuts: false,
    };
    let Computed { vectors, tokens } = encoding::run(&state, caller.0, (&model, loaded), admitted, job).await?;
    let embedding = |(index, mut vector): (usize, Vec<f32>)| {
        if let Some(size) = size {
            shorten(&mut vector, size);
        }
        Embedding { object: "embedding", index, embedding: written(vector, request.encoding) }
    };
    let data = vectors.into_iter().enumerate().map(embedding).collect();
    let usage = EncoderUsage::new(tokens);
    Ok(Json(EmbeddingList { object: "list", data, model: &request.model, usage }).into_response())
}

fn input(prompt: Prompt) -> EncodeInput {
    match prompt {
        Prompt::Text(text) => EncodeInput::Text(text),
        Prompt::Tokens(tokens) => EncodeInput::Tokens(tokens.into_iter().map(TokenId).collect()),
    }
}

/// The numbers to keep of each vector; `None` for all.
pub(crate) fn dimensions(loaded: &Loaded, model: &LocalModel, wanted: Option<u32>) -> Result<Option<usize>, ApiError> {
    let Some(wanted) = wanted else { return Ok(None) };
    let Produces::Vectors { dimensions } = loaded.info.produces else { return Ok(None) };
    if wanted == dimensions {
        return Ok(None);
    }
    if !model.matryoshka {
        let message = format!(
            "the vectors of `{}` have {dimensions} numbers and cannot be shortened: leave `dimensions` out",
            model.id
        );
        return Err(ApiError::unsupported_value("dimensions", &message));
    }
    if wanted > dimensions {
        let message = format!("the vectors of `{}` have {dimensions} numbers; ask for fewer", model.id);
        return Err(ApiError::invalid_value("dimensions", &message));
    }
    Ok(Some(wanted as usize))
}

/// Keeps the beginning of a vector and brings it to length 1 again.
pub(crate) fn shorten(vector: &mut Vec<f32>, size: usize) {
    vector.truncate(size);
    let length = vector.iter().map(|number| number * number).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|number| *number /= length);
    }
}

fn written(vector: Vec<f32>, encoding: EmbeddingEncoding) -> EmbeddingVector {
    match encoding {
        EmbeddingEncoding::Float => EmbeddingVector::Float(vector),
        EmbeddingEncoding::Base64 => {
            let bytes: Vec<u8> = vector.into_iter().flat_map(f32::to_le_bytes).collect();
            EmbeddingVector::Base64(BASE64.encode(&bytes))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortened_vector_has_length_1() {
        let mut vector = vec![3.0, 4.0, 12.0];
        shorten(&mut vector, 2);
        assert_eq!(vector, [0.6, 0.8]);
    }

    #[test]
    fn base64_is_of_little_endian_floats() {
        let written = written(vec![1.0, -2.0], EmbeddingEncoding::Base64);
        assert_eq!(written, EmbeddingVector::Base64("AACAPwAAAMA=".into()));
    }
}
