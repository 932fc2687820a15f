//! The answers of `POST /api/chat` and `POST /api/generate`: lines of JSON, or one object.

use std::time::Instant;

use allerac_ledger::Principal;
use allerac_parse::Piece;
use allerac_router_core::Endpoint;
use allerac_wire::ollama::{Answered, AnsweredMessage, Called, CalledName, Durations, OllamaChat, OllamaGenerate};
use allerac_wire::{CompletionUsage, Envelope, Logprob, arguments_object};
use axum::Json;
use axum::response::{IntoResponse, Response};

use super::stopwatch::Stopwatch;
use super::{line, now};
use crate::auth::Admitted;
use crate::error::ApiError;
use crate::handlers::collect::{Call, Collected};
use crate::handlers::generate::Shape;
use crate::handlers::logprobs;
use crate::prepare::Ask;
use crate::progress::{Finish, Progress};
use crate::sse;

/// An answer to a conversation, or to a prompt.
pub(crate) struct Answer<const CHAT: bool> {
    model: String,
    wants_logprobs: bool,
    watch: Stopwatch,
    /// The call that is being written: the API has calls whole.
    call: Option<(u32, Call)>,
    finish: Finish,
}

/// Of `/api/chat`.
pub(crate) type Chat = Answer<true>;
/// Of `/api/generate`.
pub(crate) type Generate = Answer<false>;

/// What one line tells.
#[derive(Default)]
struct Told {
    text: String,
    thinking: Option<String>,
    calls: Vec<Called>,
    logprobs: Option<Vec<Logprob>>,
    end: Option<(&'static str, Durations)>,
}

impl<const CHAT: bool> Shape for Answer<CHAT> {
    const ENDPOINT: Endpoint = if CHAT { Endpoint::OllamaChat } else { Endpoint::OllamaGenerate };
    const PASSES: bool = false;

    fn parse(envelope: Envelope, admitted: &Admitted, _: &Principal) -> Result<(Ask, Self), ApiError> {
        let model = envelope.model.clone();
        let ask = if CHAT {
            Ask::Chat(Box::new(OllamaChat::parse(envelope)?.0))
        } else {
            match OllamaGenerate::parse(envelope)? {
                OllamaGenerate::Templated(request) => Ask::Chat(request),
                OllamaGenerate::Raw(request) => Ask::Completion(request),
            }
        };
        let watch = Stopwatch::new(admitted.accepted);
        let wants_logprobs = ask.top_logprobs().is_some();
        Ok((ask, Self { model, wants_logprobs, watch, call: None, finish: Finish::Stop }))
    }

    fn watch(&mut self, progress: &Progress) {
        self.watch.note(progress, Instant::now());
    }

    fn whole(self, choices: Vec<Collected>, usage: CompletionUsage) -> Response {
        let choice = choices.into_iter().next().unwrap_or_default();
        let told = Told {
            text: choice.text,
            thinking: Some(choice.reasoning).filter(|thought| !thought.is_empty()),
            calls: (0..).zip(choice.calls).map(|(index, call)| called(index, call)).collect(),
            logprobs: self.wants_logprobs.then(|| logprobs::chat(&choice.logprobs).content),
            end: Some((reason(&choice.finish), self.watch.durations(&usage, Instant::now()))),
        };
        Json(self.answered(told)).into_response()
    }
}

fn called(index: u32, call: Call) -> Called {
    let Call { id, name, arguments: text } = call;
    Called { id, function: CalledName { index, name, arguments: arguments_object(&text) } }
}

/// Ollama's word for why an answer ended.
fn reason(finish: &Finish) -> &'static str {
    if *finish == Finish::Length { "length" } else { "stop" }
}

impl<const CHAT: bool> Answer<CHAT> {
    fn answered(&self, told: Told) -> Answered<'_> {
        let Told { text, thinking, calls, logprobs, end } = told;
        let (message, response, thinking) = if CHAT {
            let message = AnsweredMessage { role: "assistant", content: text, thinking, tool_calls: calls };
            (Some(message), None, None)
        } else {
            (None, Some(text), thinking)
        };
        Answered {
            model: &self.model,
            created_at: now(),
            message,
            response,
            thinking,
            logprobs,
            done: end.is_some(),
            done_reason: end.map(|(reason, _)| reason),
            durations: end.map(|(_, durations)| durations),
        }
    }

    fn line(&self, told: Told) -> String {
        line(&self.answered(told))
    }

    /// The line of the call that is complete, now that something else follows.
    fn whole_call(&mut self) -> String {
        let Some((index, call)) = self.call.take() else { return String::new() };
        self.line(Told { calls: vec![called(index, call)], ..Told::default() })
    }

    fn piece(&mut self, piece: Piece, logprobs: &mut Option<Vec<Logprob>>) -> String {
        match piece {
            Piece::Text(text) => {
                let logprobs = logprobs.take();
                self.whole_call() + &self.line(Told { text, logprobs, ..Told::default() })
            }
            Piece::Reasoning(thought) => {
                let (thinking, logprobs) = (Some(thought), logprobs.take());
                self.whole_call() + &self.line(Told { thinking, logprobs, ..Told::default() })
            }
            Piece::Call { index, id, name } => {
                let before = self.whole_call();
                self.call = Some((index, Call { id: id.unwrap_or_default(), name, arguments: String::new() }));
                before
            }
            Piece::Arguments { json, .. } => {
                if let Some((_, call)) = &mut self.call {
                    call.arguments += &json;
                }
                String::new()
            }
        }
    }

    fn chunk(&mut self, pieces: Vec<Piece>, logprobs: Option<Vec<Logprob>>) -> String {
        // All log probabilities go with the first line of what their tokens became.
        let mut logprobs = logprobs.filter(|logprobs| !logprobs.is_empty());
        let mut text = String::new();
        for piece in pieces {
            text += &self.piece(piece, &mut logprobs);
        }
        if logprobs.is_some() {
            text += &self.line(Told { logprobs, ..Told::default() });
        }
        text
    }
}

impl<const CHAT: bool> sse::Format<Progress> for Answer<CHAT> {
    const CONTENT_TYPE: &'static str = "application/x-ndjson";
    const WAITING: Option<&'static str> = None;

    fn format(&mut self, progress: Progress) -> (String, bool) {
        self.watch.note(&progress, Instant::now());
        match progress {
            Progress::Waiting { .. } | Progress::Started(_) => (String::new(), false),
            Progress::Chunk { pieces, logprobs, .. } => {
                let logprobs = self.wants_logprobs.then(|| logprobs::chat(&logprobs).content);
                (self.chunk(pieces, logprobs), false)
            }
            Progress::Finished { reason, .. } => {
                self.finish = reason;
                (self.whole_call(), false)
            }
            Progress::Done(usage) => {
                let end = Some((reason(&self.finish), self.watch.durations(&usage, Instant::now())));
                (self.line(Told { end, ..Told::default() }), true)
            }
            Progress::Failed(error) => (line(&error.ollama()), true),
        }
    }
}
