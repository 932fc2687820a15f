//! `POST /v1/completions`.

use std::collections::HashMap;

use allerac_ledger::Principal;
use allerac_parse::Piece;
use allerac_router_core::Endpoint;
use allerac_wire::{Completion, CompletionChoice, CompletionRequest, CompletionUsage, Envelope};
use axum::Json;
use axum::response::{IntoResponse, Response};

use super::collect::Collected;
use super::generate::{Shape, granted};
use super::{FINGERPRINT, logprobs, now_s};
use crate::auth::Admitted;
use crate::error::ApiError;
use crate::prepare::Ask;
use crate::progress::Progress;
use crate::sse;

/// What all parts of one answer share.
pub(crate) struct Answer {
    id: String,
    created: i64,
    model: String,
    include_usage: bool,
    wants_logprobs: bool,
    /// Whether it begins with the prompt.
    echo: bool,
    /// How far each choice has come.
    places: HashMap<u32, logprobs::Place>,
}

impl Shape for Answer {
    const ENDPOINT: Endpoint = Endpoint::Completions;
    const PASSES: bool = true;

    fn parse(envelope: Envelope, admitted: &Admitted, caller: &Principal) -> Result<(Ask, Self), ApiError> {
        let mut request = CompletionRequest::parse(envelope)?;
        let options = &mut request.options;
        options.service_tier = granted(options.service_tier, caller);
        let answer = Self {
            id: format!("cmpl-{}", admitted.request_id.simple()),
            created: now_s(),
            model: request.model.clone(),
            include_usage: options.include_usage,
            wants_logprobs: request.top_logprobs.is_some(),
            echo: request.echo,
            places: HashMap::new(),
        };
        Ok((Ask::Completion(Box::new(request)), answer))
    }

    fn whole(mut self, choices: Vec<Collected>, usage: CompletionUsage) -> Response {
        let choices = (0..).zip(choices).map(|(index, choice)| CompletionChoice {
            logprobs: self.wants_logprobs.then(|| logprobs::completion(&choice.logprobs, &mut self.start())),
            text: choice.text,
            index,
            finish_reason: Some(choice.finish.as_str()),
        });
        let choices = choices.collect();
        self.include_usage = true;
        Json(self.part(choices, Some(usage))).into_response()
    }
}

/// What was said. Nothing else comes of a plain completion.
fn text_of(pieces: Vec<Piece>) -> String {
    let said = pieces.into_iter().filter_map(|piece| match piece {
        Piece::Text(text) => Some(text),
        _ => None,
    });
    said.collect()
}

impl Answer {
    /// Where its log probabilities begin.
    fn start(&self) -> logprobs::Place {
        logprobs::Place::start(self.echo)
    }

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
            Progress::Waiting(wait) => (sse::waits(wait), false),
            Progress::Started(_) => (String::new(), false),
            Progress::Chunk { index, pieces, logprobs } => {
                let text = text_of(pieces);
                if text.is_empty() && !self.wants_logprobs {
                    return (String::new(), false);
                }
                let start = self.start();
                let place = self.places.entry(index).or_insert(start);
                let logprobs = self.wants_logprobs.then(|| logprobs::completion(&logprobs, place));
                (self.choice(CompletionChoice { text, index, logprobs, finish_reason: None }), false)
            }
            Progress::Finished { index, reason } => {
                let (text, finish_reason) = (String::new(), Some(reason.as_str()));
                (self.choice(CompletionChoice { text, index, logprobs: None, finish_reason }), false)
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
