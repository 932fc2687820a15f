//! Everything that is served but the page: paths, what answers them, and how they are described.

use allerac_wire::schema::{chat_request, completion_request, metadata_update};
use allerac_wire::{ChatCompletion, Completion, Model, ModelList};
use axum::routing::{delete, get, post};
use serde_json::json;

use crate::handlers::{chat, claim, completions, generate, health, metrics, models, stored};
use crate::openapi::Operation;

/// All of it.
pub(crate) fn operations() -> Vec<Operation> {
    openai().into_iter().chain(stored_chats()).chain(the_box()).collect()
}

fn openai() -> Vec<Operation> {
    vec![
        Operation::post("/v1/chat/completions", post(generate::create::<chat::Answer>), "Go on with a conversation")
            .takes(chat_request())
            .gives::<ChatCompletion>(200)
            .streams()
            .tag("OpenAI"),
        Operation::post("/v1/completions", post(generate::create::<completions::Answer>), "Go on with texts")
            .takes(completion_request())
            .gives::<Completion<'static>>(200)
            .streams()
            .tag("OpenAI"),
        Operation::get("/v1/models", get(models::list), "The models that your key can use")
            .gives::<ModelList>(200)
            .tag("OpenAI"),
        Operation::get("/v1/models/{*id}", get(models::get), "One of these models")
            .in_path("id", "Its id.")
            .gives::<Model>(200)
            .tag("OpenAI"),
    ]
}

/// Chat completions that were kept.
fn stored_chats() -> Vec<Operation> {
    const ONE: &str = "/v1/chat/completions/{id}";
    let all = vec![
        Operation::get("/v1/chat/completions", get(stored::list), "Chat completions that were kept for you")
            .in_query("model", "Those of this model.", json!({"type": "string"}))
            .lists(),
        Operation::get(ONE, get(stored::get), "One of them").in_path("id", "Its id.").gives_object(),
        Operation::post(ONE, post(stored::update), "Give it other metadata")
            .in_path("id", "Its id.")
            .takes(metadata_update())
            .gives_object(),
        Operation::delete(ONE, delete(stored::delete), "Keep it no longer").in_path("id", "Its id.").gives_object(),
        Operation::get("/v1/chat/completions/{id}/messages", get(stored::messages), "What was asked")
            .in_path("id", "Its id.")
            .lists(),
    ];
    all.into_iter().map(|operation| operation.tag("OpenAI: kept chat completions")).collect()
}

fn the_box() -> Vec<Operation> {
    vec![
        Operation::get("/healthz", get(health::live), "Whether the box lives")
            .open()
            .gives_plain("text/plain")
            .tag("The box"),
        Operation::get("/readyz", get(health::ready), "Whether a model can answer")
            .open()
            .gives::<health::Readiness>(200)
            .gives::<health::Readiness>(503)
            .tag("The box"),
        Operation::get("/metrics", get(metrics::show), "What is measured, for Prometheus; for the owner")
            .gives_plain(allerac_metrics::CONTENT_TYPE)
            .tag("The box"),
        Operation::get("/claim", get(claim::status), "Whether the box has an owner")
            .open()
            .gives::<claim::Status>(200)
            .tag("The box"),
        Operation::post("/claim", post(claim::create), "Become its owner, with the code that it shows")
            .open()
            .takes(claim::schema())
            .gives::<claim::Claimed>(201)
            .tag("The box"),
    ]
}
