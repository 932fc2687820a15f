//! OpenAI's API: what computes something.

use allerac_wire::schema::{
    ResponseEvent, chat_request, completion_request, embedding_request, rerank_request, responses_request,
};
use allerac_wire::{
    ChatChunk, ChatCompletion, Completion, EmbeddingList, InputTokens, Model, ModelList, Reranking, ResponseObject,
    anthropic,
};
use axum::routing::{get, post};
use serde_json::json;

use super::under;
use crate::handlers::{chat, completions, embeddings, generate, models, rerank, responses};
use crate::openapi::Operation;

pub(super) fn operations() -> Vec<Operation> {
    let all = [
        Operation::post("/v1/chat/completions", post(generate::create::<chat::Answer>), "Go on with a conversation")
            .once()
            .takes(chat_request())
            .gives::<ChatCompletion>(200)
            .streams::<ChatChunk<'static>>(),
        Operation::post("/v1/completions", post(generate::create::<completions::Answer>), "Go on with texts")
            .once()
            .takes(completion_request())
            .gives::<Completion<'static>>(200)
            .streams::<Completion<'static>>(),
        Operation::post("/v1/responses", post(responses::create), "Answer, and keep the answer")
            .once()
            .takes(responses_request())
            .gives::<ResponseObject>(200)
            .tells::<ResponseEvent>(),
        Operation::post(
            "/v1/responses/input_tokens",
            post(responses::input_tokens),
            "What a response would cost before its answer",
        )
        .takes(responses_request())
        .gives::<InputTokens>(200),
        Operation::post("/v1/embeddings", post(embeddings::create), "Vectors for texts")
            .takes(embedding_request())
            .gives::<EmbeddingList<'static>>(200),
        Operation::post("/v1/rerank", post(rerank::create), "Documents, by how well they answer a query")
            .takes(rerank_request())
            .gives::<Reranking<'static>>(200),
        page(Operation::get("/v1/models", get(models::list), "The models that your key can use"))
            .gives_either::<ModelList, anthropic::ModelPage>(),
        Operation::get("/v1/models/{*id}", get(models::get), "One of these models")
            .in_path("id", "Its id.")
            .gives_either::<Model, anthropic::ListedModel>(),
    ];
    under("OpenAI", all).collect()
}

/// Anthropic's lists have pages.
fn page(operation: Operation) -> Operation {
    operation
        .in_query(
            "limit",
            "Models on a page; only in Anthropic's shape.",
            json!({"type": "integer", "minimum": 1, "maximum": 1000}),
        )
        .in_query(
            "after_id",
            "The last model of the page before; only in Anthropic's shape.",
            json!({"type": "string"}),
        )
        .in_query(
            "before_id",
            "The first model of the page after; only in Anthropic's shape.",
            json!({"type": "string"}),
        )
}
