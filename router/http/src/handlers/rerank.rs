//! `POST /v1/rerank`: by a reranker, which looks at query and document together, or by an embedding model, whose
//! vectors for them are compared.

use allerac_engine_link::protocol::EncodeInput;
use allerac_router_core::{Endpoint, ModelKind, Route};
use allerac_wire::{EncoderUsage, RankedDocument, RankedText, RerankRequest, Reranking};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::Asked;
use super::generate::place;
use crate::auth::{Admitted, Authenticated};
use crate::encoding::{self, Computed, Job};
use crate::error::ApiError;
use crate::prepare;
use crate::relay;
use crate::state::AppState;

/// Documents in the order of how well they answer a query.
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
            let request = relay::Request { endpoint: Endpoint::Rerank, envelope, name: name.to_owned() };
            return Ok(relay::relay(&state, &caller.0, upstream, request, admitted).await);
        }
    };
    encoding::only(&model, &[ModelKind::Reranker, ModelKind::Embedding])?;
    let request = RerankRequest::parse(envelope)?;
    let id = format!("rerank-{}", admitted.request_id.simple());
    let pairs = model.kind == ModelKind::Reranker;
    let loaded = prepare::load(&state.registry, &model, None, None).await?;
    let job = if pairs { by_pairs(&request) } else { by_vectors(&request) };
    let Computed { vectors, tokens } = encoding::run(&state, caller.0, (&model, loaded), admitted, job).await?;
    let scores = if pairs { vectors.into_iter().flatten().collect() } else { cosines(&vectors) };
    let answer = Reranking {
        id,
        object: "list",
        model: &request.model,
        results: ranked(&request, scores),
        usage: EncoderUsage::new(tokens),
    };
    Ok(Json(answer).into_response())
}

fn by_pairs(request: &RerankRequest) -> Job {
    let pair = |document: &String| EncodeInput::Pair(request.query.clone(), document.clone());
    let inputs = request.documents.iter().map(pair).collect();
    Job {
        endpoint: Endpoint::Rerank,
        inputs,
        param: |index| format!("documents[{index}]"),
        all: "documents",
        cuts: false,
    }
}

/// The query first, then the documents.
fn by_vectors(request: &RerankRequest) -> Job {
    let texts = std::iter::once(&request.query).chain(&request.documents);
    let inputs = texts.cloned().map(EncodeInput::Text).collect();
    let param = |index: usize| match index.checked_sub(1) {
        Some(document) => format!("documents[{document}]"),
        None => "query".to_owned(),
    };
    Job { endpoint: Endpoint::Rerank, inputs, param, all: "documents", cuts: false }
}

/// The cosine of the first vector's angle to each of the others.
fn cosines(vectors: &[Vec<f32>]) -> Vec<f32> {
    let Some((query, documents)) = vectors.split_first() else { return Vec::new() };
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let cosine = |document: &Vec<f32>| {
        let lengths = (product(query, query) * product(document, document)).sqrt();
        if lengths > 0.0 { (product(query, document) / lengths).clamp(-1.0, 1.0) } else { 0.0 }
    };
    documents.iter().map(cosine).collect()
}

/// The best first; of equal ones the one that came first.
fn ranked(request: &RerankRequest, scores: Vec<f32>) -> Vec<RankedDocument> {
    let mut places: Vec<(usize, f32)> = scores.into_iter().enumerate().collect();
    places.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    places.truncate(request.top);
    let document = |(index, relevance_score): (usize, f32)| {
        let text = request.return_documents.then(|| RankedText { text: request.documents[index].clone() });
        RankedDocument { index, relevance_score, document: text }
    };
    places.into_iter().map(document).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_come_first_and_equal_ones_in_their_order() {
        let documents: Vec<String> = ["a", "b", "c", "d"].map(String::from).to_vec();
        let request = RerankRequest { model: "m".into(), query: "q".into(), documents, top: 3, return_documents: true };
        let ranked = ranked(&request, vec![0.25, 0.75, 0.5, 0.75]);
        let found: Vec<_> =
            ranked.iter().map(|one| (one.index, one.document.as_ref().unwrap().text.as_str())).collect();
        assert_eq!(found, [(1, "b"), (3, "d"), (2, "c")]);
    }

    #[test]
    fn cosines_do_not_depend_on_lengths() {
        let vectors = [vec![2.0, 0.0], vec![0.5, 0.0], vec![0.0, 3.0], vec![-4.0, 0.0], vec![0.0, 0.0]];
        assert_eq!(cosines(&vectors), [1.0, 0.0, -1.0, 0.0]);
    }
}
