//! Anthropic's `POST /v1/messages` and `POST /v1/messages/count_tokens`.

mod blocks;
mod count;

use allerac_ledger::Principal;
use allerac_router_core::Endpoint;
use allerac_wire::anthropic::{
    Block, Event, EventDelta, MessageBody, MessageDelta, MessageUsage, MessagesRequest, Thoughts, ToolCaller,
};
use allerac_wire::{CompletionUsage, Envelope, arguments_object};
use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use uuid::Uuid;

pub(crate) use count::count_tokens;

use super::collect::Collected;
use super::generate::Shape;
use crate::api::request_id;
use crate::auth::Admitted;
use crate::error::ApiError;
use crate::prepare::Ask;
use crate::progress::{Begun, Finish, Progress};
use crate::sse;
use blocks::Blocks;

/// What all parts of one answer share.
pub(crate) struct Answer {
    request_id: Uuid,
    model: String,
    thoughts: Thoughts,
    /// Whether the answer tells what became of wishes to edit the conversation.
    edits: bool,
    /// Whether tokens that were known before are told apart.
    caches: bool,
    /// The most tokens that the client wants.
    max_tokens: u32,
    begun: bool,
    blocks: Blocks,
    finish: Finish,
}

impl Shape for Answer {
    const ENDPOINT: Endpoint = Endpoint::Messages;
    const PASSES: bool = false;

    fn parse(envelope: Envelope, admitted: &Admitted, _: &Principal) -> Result<(Ask, Self), ApiError> {
        let MessagesRequest { chat, thoughts, edits, caches } = MessagesRequest::parse(envelope)?;
        let answer = Self {
            request_id: admitted.request_id,
            model: chat.model.clone(),
            thoughts,
            edits,
            caches,
            max_tokens: chat.options.max_tokens.unwrap_or(u32::MAX),
            begun: false,
            blocks: Blocks::new(thoughts),
            finish: Finish::Stop,
        };
        Ok((Ask::Chat(Box::new(chat)), answer))
    }

    fn whole(mut self, choices: Vec<Collected>, usage: CompletionUsage) -> Response {
        let choice = choices.into_iter().next().unwrap_or_default();
        let mut content = Vec::new();
        if !choice.reasoning.is_empty() {
            content.extend(blocks::thought(self.thoughts, choice.reasoning));
        }
        if !choice.text.is_empty() {
            content.push(Block::Text { text: choice.text, citations: None });
        }
        content.extend(choice.calls.into_iter().map(|call| Block::ToolUse {
            id: call.id,
            name: call.name,
            input: arguments_object(&call.arguments),
            caller: ToolCaller::Direct,
        }));
        self.finish = choice.finish;
        let (reason, sequence) = self.stop(usage.completion_tokens);
        let usage = self.cost(&usage);
        let body = MessageBody { content, stop_reason: Some(reason), stop_sequence: sequence, ..self.body(usage) };
        Json(body).into_response()
    }
}

/// One event.
fn event(event: &Event) -> String {
    format!("event: {}\n{}", event.name(), sse::event(event))
}

impl Answer {
    /// A message with nothing in it yet.
    fn body(&self, usage: MessageUsage) -> MessageBody {
        MessageBody {
            id: format!("msg_{}", self.request_id.simple()),
            kind: "message",
            role: "assistant",
            model: self.model.clone(),
            content: Vec::new(),
            stop_reason: None,
            stop_sequence: None,
            stop_details: None,
            container: None,
            diagnostics: None,
            context_management: self.applied_edits(),
            usage,
        }
    }

    /// What it cost, in Anthropic's words.
    fn cost(&self, usage: &CompletionUsage) -> MessageUsage {
        let thinking = usage.completion_tokens_details.reasoning_tokens;
        let cached = self.told_cached(usage.prompt_tokens_details.cached_tokens);
        MessageUsage::new(usage.prompt_tokens, cached, usage.completion_tokens, thinking)
    }

    /// Tokens that were known before, as far as the client wants to hear of them.
    fn told_cached(&self, cached: u32) -> u32 {
        if self.caches { cached } else { 0 }
    }

    /// None: which thoughts a model sees again is a matter of its template.
    fn applied_edits(&self) -> Option<Value> {
        self.edits.then(|| json!({"applied_edits": []}))
    }

    /// Why the message ended, after so many tokens, and by which stop sequence.
    fn stop(&self, tokens: u32) -> (&'static str, Option<String>) {
        match &self.finish {
            Finish::Stop => ("end_turn", None),
            Finish::StopString(stop) => ("stop_sequence", Some(stop.clone())),
            Finish::Calls => ("tool_use", None),
            Finish::Length if tokens < self.max_tokens => ("model_context_window_exceeded", None),
            Finish::Length => ("max_tokens", None),
            Finish::Filtered => ("refusal", None),
        }
    }

    /// The first events. What the prompt cost is not known of other servers before the end.
    fn begin(&mut self, begun: Option<Begun>) -> String {
        if std::mem::replace(&mut self.begun, true) {
            return String::new();
        }
        let (prompt, cached) = begun.map_or((0, 0), |begun| (begun.prompt_tokens, begun.cached_tokens));
        let message = Box::new(self.body(MessageUsage::new(prompt, self.told_cached(cached), 0, 0)));
        event(&Event::MessageStart { message }) + &event(&Event::Ping)
    }

    /// The last events.
    fn end(&mut self, usage: &CompletionUsage) -> String {
        let (reason, sequence) = self.stop(usage.completion_tokens);
        let delta =
            EventDelta { stop_reason: Some(reason), stop_sequence: sequence, stop_details: None, container: None };
        let context_management = self.applied_edits();
        let delta = MessageDelta { delta, context_management, usage: self.cost(usage).into() };
        event(&Event::MessageDelta(delta)) + &event(&Event::MessageStop)
    }
}

impl sse::Format<Progress> for Answer {
    const WAITING: Option<&'static str> = Some("event: ping\ndata: {\"type\":\"ping\"}\n\n");

    fn format(&mut self, progress: Progress) -> (String, bool) {
        match progress {
            Progress::Waiting(wait) => (sse::waits(wait), false),
            Progress::Started(begun) => (self.begin(Some(begun)), false),
            Progress::Chunk { pieces, .. } => {
                let mut text = self.begin(None);
                for each in pieces.into_iter().flat_map(|piece| self.blocks.add(piece)) {
                    text += &event(&each);
                }
                (text, false)
            }
            Progress::Finished { reason, .. } => {
                self.finish = reason;
                let closed: String = self.blocks.close().iter().map(event).collect();
                (self.begin(None) + &closed, false)
            }
            Progress::Done(usage) => (self.begin(None) + &self.end(&usage), true),
            Progress::Failed(error) => {
                let (error, request_id) = (error.anthropic_detail(), request_id(self.request_id));
                (event(&Event::Error { error, request_id }), true)
            }
        }
    }
}
