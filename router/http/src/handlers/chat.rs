//! `POST /v1/chat/completions`.

use std::collections::HashSet;

use allerac_engine_link::protocol::PromptInput;
use allerac_ledger::Principal;
use allerac_router_core::Endpoint;
use allerac_wire::{
    ChatChoice, ChatChunk, ChatChunkChoice, ChatCompletion, ChatMessage, ChatRequest, CompletionUsage, Delta, Envelope,
};
use axum::Json;
use axum::response::{IntoResponse, Response};

use super::collect::Collected;
use super::generate::{Shape, granted};
use super::{FINGERPRINT, logprobs, now_s};
use crate::auth::Admitted;
use crate::error::ApiError;
use crate::generation::{Job, Progress};
use crate::sse;

/// What all parts of one answer share.
pub(crate) struct Answer {
    id: String,
    created: i64,
    model: String,
    include_usage: bool,
    service_tier: &'static str,
    wants_logprobs: bool,
    /// Choices whose role was sent.
    begun: HashSet<u32>,
}

impl Shape for Answer {
    const ENDPOINT: Endpoint = Endpoint::Chat;

    fn parse(envelope: Envelope, admitted: Admitted, caller: &Principal) -> Result<(Job, Self), ApiError> {
        let ChatRequest { model, messages, top_logprobs, mut options } = ChatRequest::parse(envelope)?;
        options.service_tier = granted(options.service_tier, caller);
        let messages_json = serde_json::to_string(&messages).expect("messages are plain data");
        let answer = Self {
            id: format!("chatcmpl-{}", admitted.request_id.simple()),
            created: now_s(),
            model,
            include_usage: options.include_usage,
            service_tier: options.service_tier.as_str(),
            wants_logprobs: top_logprobs.is_some(),
            begun: HashSet::new(),
        };
        let inputs = vec![PromptInput::Chat { messages_json }];
        let (endpoint, prompt_param) = (Self::ENDPOINT, "messages");
        Ok((Job { admitted, endpoint, prompt_param, inputs, options, top_logprobs }, answer))
    }

    fn whole(self, choices: Vec<Collected>, usage: CompletionUsage) -> Response {
        let choices = (0..).zip(choices).map(|(index, choice)| ChatChoice {
            index,
            logprobs: self.wants_logprobs.then(|| logprobs::chat(&choice.logprobs)),
            message: ChatMessage { role: "assistant", content: choice.text, refusal: None, annotations: Vec::new() },
            finish_reason: choice.finish_reason,
        });
        let completion = ChatCompletion {
            choices: choices.collect(),
            id: self.id,
            object: "chat.completion",
            created: self.created,
            model: self.model,
            usage,
            service_tier: self.service_tier,
            system_fingerprint: FINGERPRINT,
        };
        Json(completion).into_response()
    }
}

impl Answer {
    fn chunk(&self, choices: Vec<ChatChunkChoice>, usage: Option<CompletionUsage>) -> String {
        sse::event(&ChatChunk {
            id: &self.id,
            object: "chat.completion.chunk",
            created: self.created,
            model: &self.model,
            choices,
            usage: self.include_usage.then_some(usage),
            service_tier: self.service_tier,
            system_fingerprint: FINGERPRINT,
        })
    }

    fn delta(&self, index: u32, delta: Delta, finish_reason: Option<&'static str>) -> String {
        self.chunk(vec![ChatChunkChoice { index, delta, logprobs: None, finish_reason }], None)
    }

    /// The first event of a choice names the role, as OpenAI's streams do.
    fn begin(&mut self, index: u32) -> String {
        if !self.begun.insert(index) {
            return String::new();
        }
        self.delta(index, Delta { role: Some("assistant"), content: Some(String::new()) }, None)
    }
}

impl sse::Format<Progress> for Answer {
    fn format(&mut self, progress: Progress) -> (String, bool) {
        match progress {
            Progress::Waiting { place, wait_ms } => (sse::place(place, wait_ms), false),
            Progress::Started => (String::new(), false),
            Progress::Chunk { index, chunk } => {
                let mut text = self.begin(index);
                if !chunk.text.is_empty() || self.wants_logprobs {
                    let delta = Delta { role: None, content: Some(chunk.text) };
                    let logprobs = self.wants_logprobs.then(|| logprobs::chat(&chunk.logprobs));
                    text += &self.chunk(vec![ChatChunkChoice { index, delta, logprobs, finish_reason: None }], None);
                }
                (text, false)
            }
            Progress::Finished { index, reason, tail } => {
                let mut text = self.begin(index);
                if !tail.is_empty() {
                    text += &self.delta(index, Delta { role: None, content: Some(tail) }, None);
                }
                text += &self.delta(index, Delta::default(), Some(reason));
                (text, false)
            }
            Progress::Done(usage) => {
                let usage = if self.include_usage { self.chunk(Vec::new(), Some(usage)) } else { String::new() };
                (usage + sse::DONE, true)
            }
            Progress::Failed(error) => (sse::error_event(&error), true),
        }
    }
}
