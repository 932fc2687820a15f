//! `POST /v1/completions`.

use std::collections::HashMap;

use allerac_engine_core::TokenId;
use allerac_engine_link::protocol::PromptInput;
use allerac_ledger::Principal;
use allerac_router_core::Endpoint;
use allerac_wire::{Completion, CompletionChoice, CompletionRequest, CompletionUsage, Envelope, Prompt};
use axum::Json;
use axum::response::{IntoResponse, Response};

use super::collect::Collected;
use super::generate::{Shape, granted};
use super::{FINGERPRINT, logprobs, now_s};
use crate::auth::Admitted;
use crate::error::ApiError;
use crate::generation::{Job, Progress};
use crate::sse;

fn input(prompt: Prompt) -> PromptInput {
    match prompt {
        Prompt::Text(text) => PromptInput::Text(text),
        Prompt::Tokens(tokens) => PromptInput::Tokens(tokens.into_iter().map(TokenId).collect()),
    }
}

/// What all parts of one answer share.
pub(crate) struct Answer {
    id: String,
    created: i64,
    model: String,
    include_usage: bool,
    wants_logprobs: bool,
    /// Characters of each choice so far.
    offsets: HashMap<u32, usize>,
}

impl Shape for Answer {
    const ENDPOINT: Endpoint = Endpoint::Completions;

    fn parse(envelope: Envelope, admitted: Admitted, caller: &Principal) -> Result<(Job, Self), ApiError> {
        let CompletionRequest { model, prompts, top_logprobs, mut options } = CompletionRequest::parse(envelope)?;
        options.service_tier = granted(options.service_tier, caller);
        let answer = Self {
            id: format!("cmpl-{}", admitted.request_id.simple()),
            created: now_s(),
            model,
            include_usage: options.include_usage,
            wants_logprobs: top_logprobs.is_some(),
            offsets: HashMap::new(),
        };
        let inputs = prompts.into_iter().map(input).collect();
        let (endpoint, prompt_param) = (Self::ENDPOINT, "prompt");
        Ok((Job { admitted, endpoint, prompt_param, inputs, options, top_logprobs }, answer))
    }

    fn whole(mut self, choices: Vec<Collected>, usage: CompletionUsage) -> Response {
        let choices = (0..).zip(choices).map(|(index, choice)| CompletionChoice {
            logprobs: self.wants_logprobs.then(|| logprobs::completion(&choice.logprobs, &mut 0)),
            text: choice.text,
            index,
            finish_reason: Some(choice.finish_reason),
        });
        let choices = choices.collect();
        self.include_usage = true;
        Json(self.part(choices, Some(usage))).into_response()
    }
}

impl Answer {
    fn part(&self, choices: Vec<CompletionChoice>, usage: Option<CompletionUsage>) -> Completion<'_> {
        Completion {
            id: &self.id,
            object: "text_completion",
            created: self.created,
            model: &self.model,
            choices,
            usage: self.include_usage.then_some(usage),
            system_fingerprint: FINGERPRINT,
        }
    }

    fn choice(&self, choice: CompletionChoice) -> String {
        sse::event(&self.part(vec![choice], None))
    }
}

impl sse::Format<Progress> for Answer {
    fn format(&mut self, progress: Progress) -> (String, bool) {
        match progress {
            Progress::Waiting { place, wait_ms } => (sse::place(place, wait_ms), false),
            Progress::Started => (String::new(), false),
            Progress::Chunk { index, chunk } if chunk.text.is_empty() && !self.wants_logprobs => {
                self.offsets.entry(index).or_default();
                (String::new(), false)
            }
            Progress::Chunk { index, chunk } => {
                let offset = self.offsets.entry(index).or_default();
                let logprobs = self.wants_logprobs.then(|| logprobs::completion(&chunk.logprobs, offset));
                let choice = CompletionChoice { text: chunk.text, index, logprobs, finish_reason: None };
                (self.choice(choice), false)
            }
            Progress::Finished { index, reason, tail } => {
                let choice = CompletionChoice { text: tail, index, logprobs: None, finish_reason: Some(reason) };
                (self.choice(choice), false)
            }
            Progress::Done(usage) => {
                let usage = Some(usage).filter(|_| self.include_usage);
                let usage = usage.map_or_else(String::new, |usage| sse::event(&self.part(Vec::new(), Some(usage))));
                (usage + sse::DONE, true)
            }
            Progress::Failed(error) => (sse::error_event(&error), true),
        }
    }
}
