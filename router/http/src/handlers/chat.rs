//! `POST /v1/chat/completions`.

use std::collections::HashSet;

use allerac_engine_link::protocol::PromptInput;
use allerac_router_core::{Endpoint, Route, route};
use allerac_wire::{
    ChatChoice, ChatChunk, ChatChunkChoice, ChatCompletion, ChatMessage, ChatRequest, CompletionUsage, Delta, Envelope,
};
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

const ENDPOINT: &str = "chat.completions";

/// Answers a conversation, here or elsewhere.
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
                relay::Request { endpoint: Endpoint::Chat, envelope: envelope.clone(), name: name.to_owned() };
            return Ok(relay::relay(&state, &caller.0, upstream, request, admitted).await);
        }
        Err(reason) => return Err(ApiError::no_route(&envelope.model, reason)),
    };
    let request = ChatRequest::parse(envelope)?;
    let messages_json = serde_json::to_string(&request.messages).expect("messages are plain data");
    let options = request.options;
    let answer = Answer {
        id: format!("chatcmpl-{}", admitted.request_id.simple()),
        created: now_s(),
        model: request.model,
        include_usage: options.include_usage,
        wants_logprobs: request.top_logprobs.is_some(),
        begun: HashSet::new(),
    };
    let (stream, choices) = (options.stream, options.choices as usize);
    let job = Job {
        admitted,
        endpoint: ENDPOINT,
        prompt_param: "messages",
        inputs: vec![PromptInput::Chat { messages_json }],
        options,
        top_logprobs: request.top_logprobs,
    };
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

/// What all parts of one answer share.
struct Answer {
    id: String,
    created: i64,
    model: String,
    include_usage: bool,
    wants_logprobs: bool,
    /// Choices whose role was sent.
    begun: HashSet<u32>,
}

impl Answer {
    fn whole(self, collected: Vec<super::collect::Collected>, usage: CompletionUsage) -> Json<ChatCompletion> {
        let choices = (0..).zip(collected).map(|(index, choice)| ChatChoice {
            index,
            logprobs: self.wants_logprobs.then(|| logprobs::chat(&choice.logprobs)),
            message: ChatMessage { role: "assistant", content: choice.text, refusal: None, annotations: Vec::new() },
            finish_reason: choice.finish_reason,
        });
        Json(ChatCompletion {
            choices: choices.collect(),
            id: self.id,
            object: "chat.completion",
            created: self.created,
            model: self.model,
            usage,
            service_tier: "default",
            system_fingerprint: FINGERPRINT,
        })
    }

    fn chunk(&self, choices: Vec<ChatChunkChoice>, usage: Option<CompletionUsage>) -> String {
        sse::event(&ChatChunk {
            id: &self.id,
            object: "chat.completion.chunk",
            created: self.created,
            model: &self.model,
            choices,
            usage: self.include_usage.then_some(usage),
            service_tier: "default",
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
