//! Everything that is served but the page: paths, what answers them, and how they are described.

mod admin;
mod anthropic;
mod kept;
mod machine;
mod ollama;
mod openai;
mod organization;
mod people;
mod signing_in;

use axum::routing::{get, post};

use crate::handlers::{claim, health, metrics};
use crate::openapi::Operation;

/// All of it. The methods of one path stand together.
pub(crate) fn operations() -> Vec<Operation> {
    let all = [
        openai::operations(),
        kept::operations(),
        organization::operations(),
        anthropic::operations(),
        ollama::operations(),
        people::operations(),
        signing_in::operations(),
        admin::operations(),
        machine::operations(),
        the_box(),
    ];
    all.into_iter().flatten().collect()
}

/// These under one heading.
fn under<const N: usize>(tag: &'static str, operations: [Operation; N]) -> impl Iterator<Item = Operation> {
    operations.into_iter().map(move |operation| operation.tag(tag))
}

fn the_box() -> Vec<Operation> {
    let all = [
        Operation::get("/healthz", get(health::live), "Whether the box lives").open().gives_plain("text/plain"),
        Operation::get("/readyz", get(health::ready), "Whether a model can answer")
            .open()
            .gives::<health::Readiness>(200)
            .gives::<health::Readiness>(503),
        Operation::get("/metrics", get(metrics::show), "What is measured, for Prometheus; for the owner")
            .gives_plain(allerac_metrics::CONTENT_TYPE),
        Operation::get("/claim", get(claim::status), "Whether the box has an owner").open().gives::<claim::Status>(200),
        Operation::post("/claim", post(claim::create), "Become its owner, with the code that it shows")
            .open()
            .takes(claim::schema())
            .gives::<claim::Claimed>(201),
    ];
    under("The box", all).collect()
}
