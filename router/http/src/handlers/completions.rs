//! `POST /v1/completions`.

use std::collections::HashMap;

use allerac_engine_core::TokenId;
use allerac_engine_link::protocol::PromptInput;
use allerac_router_core::{Endpoint, Route, route};
use allerac_wire::{Completion, CompletionChoice, CompletionRequest, CompletionUsage, Envelope, Prompt};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::collect::collect;
use super::{Body, Bounded, FINGERPRINT, logprobs, now_s, served_by};
use crate::auth::{Admitted, Authenticated};
use crate::error::ApiError;
use crate::generation::{Job, Progress, start};
use crate::relay;
use crate::sse;
use crate::state::AppState;

const ENDPOINT: &str = "completions";

/// Continues a text, here or elsewhere.
pub(crate) async fn create(
    State(state): State<AppState>,
    caller: Authenticated,
    admitted: Admitted,
    Bounded(body): Body,
) -> Result<Response, ApiError> {
    let envelope = Envelope::parse(&body)?;
    let model = match route(&envelope.model, &state.registry, &state.upstreams, &caller) {
        Ok(Route::Local(model)) => model,
        Ok(Route::Upstream(upstream, name)) => {
            let request =
                relay::Request { endpoint: Endpoint::Completions, envelope: envelope.clone(), name: name.to_owned() };
            return Ok(relay::relay(&state, &caller.0, upstream, request, admitted).await);
        }
        Err(reason) => return Err(ApiError::no_route(&envelope.model, reason)),
    };
    let request = CompletionRequest::parse(envelope)?;
    let options = request.options;
    let answer = Answer {
        id: format!("cmpl-{}", admitted.request_id.simple()),
        created: now_s(),
        model: request.model,
        include_usage: options.include_usage,
        wants_logprobs: request.top_logprobs.is_some(),
        offsets: HashMap::new(),
    };
    let (stream, choices) = (options.stream, request.prompts.len() * options.choices as usize);
    let inputs = request.prompts.into_iter().map(input).collect();
    let (top_logprobs, prompt_param) = (request.top_logprobs, "prompt");
    let job = Job { admitted, endpoint: ENDPOINT, prompt_param, inputs, options, top_logprobs };
    let mut lane = start(&state, caller.0, model, job);
    let response = if stream {
        match sse::first(&mut lane).await {
            Some(Progress::Failed(error)) => return Err(error),
            first => sse::response(first, lane, answer),
        }
    } else {
        let (collected, usage) = collect(&mut lane, choices).await?;
        answer.whole(collected, usage).into_response()
    };
    Ok(served_by(response, "local"))
}

fn input(prompt: Prompt) -> PromptInput {
    match prompt {
        Prompt::Text(text) => PromptInput::Text(text),
        Prompt::Tokens(tokens) => PromptInput::Tokens(tokens.into_iter().map(TokenId).collect()),
    }
}

/// What all parts of one answer share.
struct Answer {
    id: String,
    created: i64,
    model: String,
    include_usage: bool,
    wants_logprobs: bool,
    /// Characters of each choice so far.
    offsets: HashMap<u32, usize>,
}

impl Answer {
    fn whole(mut self, collected: Vec<super::collect::Collected>, usage: CompletionUsage) -> Json<Completion> {
        let choices = (0..).zip(collected).map(|(index, choice)| CompletionChoice {
            logprobs: self.wants_logprobs.then(|| logprobs::completion(&choice.logprobs, &mut 0)),
            text: choice.text,
            index,
            finish_reason: Some(choice.finish_reason),
        });
        let choices = choices.collect();
        self.include_usage = true;
        Json(self.part(choices, Some(usage)))
    }

    fn part(&self, choices: Vec<CompletionChoice>, usage: Option<CompletionUsage>) -> Completion {
        Completion {
            id: self.id.clone(),
            object: "text_completion",
            created: self.created,
            model: self.model.clone(),
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
