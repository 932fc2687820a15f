//! Anthropic's API.

use allerac_wire::anthropic::{Event, MessageBody, TokenCount};
use allerac_wire::schema::{count_tokens_request, messages_request};
use axum::routing::post;

use super::under;
use crate::handlers::{anthropic, generate};
use crate::openapi::Operation;

pub(super) fn operations() -> Vec<Operation> {
    let all = [
        Operation::post("/v1/messages", post(generate::create::<anthropic::Answer>), "Go on with a conversation")
            .once()
            .takes(messages_request())
            .gives::<MessageBody>(200)
            .tells::<Event>(),
        Operation::post(
            "/v1/messages/count_tokens",
            post(anthropic::count_tokens),
            "What a message would cost before its answer",
        )
        .takes(count_tokens_request())
        .gives::<TokenCount>(200),
    ];
    under("Anthropic", all).collect()
}
