//! Ollama's API.

use allerac_wire::ollama::{Answered, Embedded, EmbeddedOne, ListedModels, LoadedModels, Shown, Status, VersionBody};
use allerac_wire::schema::{
    ollama_chat_request, ollama_copy_request, ollama_embed_one_request, ollama_embed_request, ollama_generate_request,
    ollama_model_request, ollama_pull_request,
};
use axum::routing::{delete, get, head, post};

use super::under;
use crate::handlers::ollama;
use crate::openapi::Operation;

pub(super) fn operations() -> Vec<Operation> {
    let asked = [
        Operation::post("/api/chat", post(ollama::chat), "Go on with a conversation")
            .takes(ollama_chat_request())
            .gives::<Answered<'static>>(200)
            .writes_lines::<Answered<'static>>(),
        Operation::post("/api/generate", post(ollama::generate), "Answer a prompt")
            .takes(ollama_generate_request())
            .gives::<Answered<'static>>(200)
            .writes_lines::<Answered<'static>>(),
        Operation::post("/api/embed", post(ollama::embed), "Vectors for texts")
            .takes(ollama_embed_request())
            .gives::<Embedded<'static>>(200),
        Operation::post("/api/embeddings", post(ollama::embeddings), "A vector for one text; the older way")
            .takes(ollama_embed_one_request())
            .gives::<EmbeddedOne>(200),
        Operation::get("/api/tags", get(ollama::tags), "The models that your key can use").gives::<ListedModels>(200),
        Operation::get("/api/ps", get(ollama::ps), "Those in memory").gives::<LoadedModels>(200),
        Operation::post("/api/show", post(ollama::show), "What is known of one")
            .takes(ollama_model_request(ollama::SHOW_KNOWN))
            .gives::<Shown>(200),
        Operation::get("/api/version", get(ollama::version), "The version of Ollama whose API this is like")
            .gives::<VersionBody>(200),
    ];
    under("Ollama", asked).chain(under("Ollama: orders of the owner", orders())).collect()
}

fn orders() -> [Operation; 7] {
    const BLOB: &str = "/api/blobs/{digest}";
    [
        Operation::post("/api/pull", post(ollama::pull), "Fetch a model")
            .takes(ollama_pull_request())
            .gives::<Status>(200)
            .writes_lines::<Status>(),
        Operation::delete("/api/delete", delete(ollama::delete), "Remove a model")
            .takes(ollama_model_request(&[]))
            .gives_nothing(),
        Operation::post("/api/copy", post(ollama::copy), "Give a model another name as well")
            .takes(ollama_copy_request())
            .gives_nothing(),
        Operation::post("/api/create", post(ollama::create), "Not done here: models come from the catalogue"),
        Operation::post("/api/push", post(ollama::push), "Not done here"),
        Operation::head(BLOB, head(ollama::blobs), "Not done here").in_path("digest", "Of a file."),
        Operation::post(BLOB, post(ollama::blobs), "Not done here")
            .in_path("digest", "Of a file.")
            .takes_as("application/octet-stream", serde_json::json!({"type": "string", "format": "binary"})),
    ]
}
