//! `POST /v1/chat/completions`.

use std::collections::HashSet;

use allerac_ledger::Principal;
use allerac_parse::Piece;
use allerac_router_core::Endpoint;
use allerac_wire::{
    CallDelta, ChatChoice, ChatChunk, ChatChunkChoice, ChatCompletion, ChatMessage, ChatRequest, CompletionUsage,
    CustomDelta, Delta, Envelope, FunctionDelta,
};
use axum::Json;
use axum::response::{IntoResponse, Response};

use super::collect::{Call, Collected};
use super::generate::{Shape, granted};
use super::keep::Keeper;
use super::stored::Stored;
use super::{FINGERPRINT, logprobs, now_s};
use crate::auth::Admitted;
use crate::custom::Customs;
use crate::error::ApiError;
use crate::prepare::Ask;
use crate::progress::Progress;
use crate::sse;
use crate::state::AppState;

/// What all parts of one answer share.
#[derive(Clone)]
pub(crate) struct Answer {
    id: String,
    created: i64,
    model: String,
    include_usage: bool,
    service_tier: &'static str,
    wants_logprobs: bool,
    /// Choices whose role was sent.
    begun: HashSet<u32>,
    customs: Customs,
}

impl Shape for Answer {
    const ENDPOINT: Endpoint = Endpoint::Chat;
    const PASSES: bool = true;

    fn parse(envelope: Envelope, admitted: &Admitted, caller: &Principal) -> Result<(Ask, Self), ApiError> {
        let mut request = ChatRequest::parse(envelope)?;
        let options = &mut request.options;
        options.service_tier = granted(options.service_tier, caller);
        let answer = Self {
            id: format!("chatcmpl-{}", admitted.request_id.simple()),
            created: now_s(),
            model: request.model.clone(),
            include_usage: options.include_usage,
            service_tier: options.service_tier.as_str(),
            wants_logprobs: request.top_logprobs.is_some(),
            begun: HashSet::new(),
            customs: Customs::of(&request.tools),
        };
        Ok((Ask::Chat(Box::new(request)), answer))
    }

    fn whole(self, choices: Vec<Collected>, usage: CompletionUsage) -> Response {
        Json(self.completion(choices, usage)).into_response()
    }

    fn is_kept(envelope: &Envelope) -> bool {
        envelope.body.get("store").is_some_and(|store| *store == true)
    }

    fn keeper(&self, ask: &Ask, state: &AppState, caller: &Principal) -> Option<Keeper> {
        let Ask::Chat(request) = ask else { return None };
        if !request.store {
            return None;
        }
        let (answer, stored) = (self.clone(), Stored::new(&self.id, request));
        Some(Keeper {
            store: state.store.clone(),
            owner: caller.salt,
            bytes_max: caller.storage_bytes(),
            build: Box::new(move |choices, usage| stored.with(&answer.completion(choices, usage))),
        })
    }
}

fn message(choice: Collected, customs: &Customs) -> ChatMessage {
    let Collected { text, reasoning, calls, .. } = choice;
    let call = |Call { id, name, arguments }| customs.called(id, name, arguments);
    ChatMessage {
        role: "assistant",
        content: Some(text).filter(|text| !text.is_empty() || calls.is_empty()),
        refusal: None,
        annotations: Vec::new(),
        reasoning_content: Some(reasoning).filter(|reasoning| !reasoning.is_empty()),
        tool_calls: calls.into_iter().map(call).collect(),
    }
}

/// What a piece adds to a message; `is_custom` where it is of a call that is given text.
fn delta(piece: Piece, is_custom: bool) -> Delta {
    let call = |call| Delta { tool_calls: vec![call], ..Delta::default() };
    match piece {
        Piece::Text(text) => Delta { content: Some(text), ..Delta::default() },
        Piece::Reasoning(text) => Delta { reasoning_content: Some(text), ..Delta::default() },
        Piece::Call { index, id, name } => {
            let kind = Some(if is_custom { "custom" } else { "function" });
            call(CallDelta { id, kind, ..given(index, Some(name), String::new(), is_custom) })
        }
        Piece::Arguments { index, json } => call(given(index, None, json, is_custom)),
    }
}

/// What is called, or more of what it is given.
fn given(index: u32, name: Option<String>, text: String, is_custom: bool) -> CallDelta {
    if is_custom {
        CallDelta { index, custom: Some(CustomDelta { name, input: text }), ..CallDelta::default() }
    } else {
        CallDelta { index, function: Some(FunctionDelta { name, arguments: text }), ..CallDelta::default() }
    }
}

impl Answer {
    fn completion(self, choices: Vec<Collected>, usage: CompletionUsage) -> ChatCompletion {
        let choices = (0..).zip(choices).map(|(index, choice)| ChatChoice {
            index,
            logprobs: self.wants_logprobs.then(|| logprobs::chat(&choice.logprobs)),
            finish_reason: choice.finish.as_str(),
            message: message(choice, &self.customs),
        });
        ChatCompletion {
            choices: choices.collect(),
            id: self.id,
            object: "chat.completion",
            created: self.created,
            model: self.model,
            usage,
            service_tier: self.service_tier,
            system_fingerprint: FINGERPRINT,
        }
    }

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

    /// What a piece adds, where it says something.
    fn read(&mut self, choice: u32, piece: Piece) -> Option<Delta> {
        let piece = self.customs.read(choice, piece)?;
        let is_custom = match &piece {
            Piece::Call { index, .. } | Piece::Arguments { index, .. } => self.customs.reads(choice, *index),
            _ => false,
        };
        Some(delta(piece, is_custom))
    }

    /// The first event of a choice names the role, as OpenAI's streams do.
    fn begin(&mut self, index: u32) -> String {
        if !self.begun.insert(index) {
            return String::new();
        }
        let delta = Delta { role: Some("assistant"), content: Some(String::new()), ..Delta::default() };
        self.delta(index, delta, None)
    }
}

impl sse::Format<Progress> for Answer {
    fn format(&mut self, progress: Progress) -> (String, bool) {
        match progress {
            Progress::Waiting(wait) => (sse::waits(wait), false),
            Progress::Started(_) => (String::new(), false),
            Progress::Chunk { index, pieces, logprobs } => {
                let mut text = self.begin(index);
                let mut deltas: Vec<Delta> = pieces.into_iter().filter_map(|piece| self.read(index, piece)).collect();
                if deltas.is_empty() && self.wants_logprobs && !logprobs.is_empty() {
                    deltas.push(Delta { content: Some(String::new()), ..Delta::default() });
                }
                // All log probabilities go with the first piece of what their tokens became.
                let mut logprobs = self.wants_logprobs.then(|| logprobs::chat(&logprobs));
                for delta in deltas {
                    let choice = ChatChunkChoice { index, delta, logprobs: logprobs.take(), finish_reason: None };
                    text += &self.chunk(vec![choice], None);
                }
                (text, false)
            }
            Progress::Finished { index, reason } => {
                let mut text = self.begin(index);
                for piece in self.customs.finish(index) {
                    text += &self.delta(index, delta(piece, true), None);
                }
                (text + &self.delta(index, Delta::default(), Some(reason.as_str())), false)
            }
            Progress::Done(usage) => {
                let usage = if self.include_usage { self.chunk(Vec::new(), Some(usage)) } else { String::new() };
                (usage + sse::DONE, true)
            }
            Progress::Failed(error) => (sse::error_event(&error), true),
        }
    }
}
