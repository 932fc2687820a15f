//! One sequence of the backend and the request that uses it.

use crate::backend::BatchToken;
use crate::engine::common_prefix;
use crate::event::{Event, FinishReason, Usage};
use crate::request::{Generate, RequestId, TokenId};
use crate::sampler::Sampler;
use crate::stop::{Progress, StopMatcher};
use crate::utf8::Utf8Assembler;

/// A sequence and what it is used for.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) sequence: u32,
    pub(crate) state: State,
}

#[derive(Debug)]
pub(crate) enum State {
    /// No KV.
    Empty,
    /// The KV of an ended request, kept for one that begins alike.
    Resident { salt: u64, tokens: Vec<TokenId>, last_used: u64 },
    /// A request in work.
    Active(Box<Active>),
}

/// A request in a slot.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) request: Generate,
    pub(crate) sampler: Sampler,
    /// Tokens whose KV is computed or in the batch being computed.
    tokens: Vec<TokenId>,
    /// The token chosen last, to be decoded in the next step. `None` while the prompt is not through.
    pub(crate) next: Option<TokenId>,
    pub(crate) completion_tokens: u32,
    cached_tokens: u32,
    admitted: u64,
    utf8: Utf8Assembler,
    stop: StopMatcher,
}

/// How a request ends.
pub(crate) enum Outcome {
    Finished(FinishReason),
    Failed(String),
}

impl Slot {
    pub(crate) fn new(sequence: u32) -> Self {
        Self { sequence, state: State::Empty }
    }

    pub(crate) fn request(&self) -> Option<RequestId> {
        self.active().map(|active| active.request.id)
    }

    pub(crate) fn is_active(&self) -> bool {
        self.active().is_some()
    }

    pub(crate) fn is_prefilling(&self) -> bool {
        self.active().is_some_and(|active| active.tokens.len() < active.request.prompt.len())
    }

    /// The order of admission of the active request.
    pub(crate) fn admitted(&self) -> u64 {
        self.active().map_or(0, |active| active.admitted)
    }

    fn active(&self) -> Option<&Active> {
        match &self.state {
            State::Active(active) => Some(active),
            State::Empty | State::Resident { .. } => None,
        }
    }

    pub(crate) fn active_mut(&mut self) -> Option<&mut Active> {
        match &mut self.state {
            State::Active(active) => Some(active),
            State::Empty | State::Resident { .. } => None,
        }
    }

    /// How much of a request's prompt an ended request left here, in tokens.
    pub(crate) fn common_prefix(&self, request: &Generate) -> u32 {
        match &self.state {
            State::Resident { salt, tokens, .. } if *salt == request.salt => common_prefix(tokens, &request.prompt),
            _ => 0,
        }
    }

    /// Cells of KV kept of an ended request.
    pub(crate) fn resident_cells(&self) -> u32 {
        match &self.state {
            State::Resident { tokens, .. } => u32::try_from(tokens.len()).unwrap_or(u32::MAX),
            State::Empty | State::Active(_) => 0,
        }
    }

    /// Cells that this slot holds or may come to need.
    pub(crate) fn promised_cells(&self) -> u32 {
        match &self.state {
            State::Active(active) => {
                u32::try_from(active.request.prompt.len()).unwrap_or(u32::MAX).saturating_add(active.request.max_tokens)
            }
            State::Empty | State::Resident { .. } => self.resident_cells(),
        }
    }

    /// The chosen token to decode next, when this slot generates.
    pub(crate) fn next_token(&mut self) -> Option<BatchToken> {
        let sequence = self.sequence;
        let active = self.active_mut()?;
        let token = active.next.take()?;
        let position = u32::try_from(active.tokens.len()).expect("a context is bounded by a u32");
        active.tokens.push(token);
        Some(BatchToken { token, position, sequence, wants_logits: true })
    }

    /// Adds the next part of the prompt, at most `room` tokens; the last token of a prompt wants logits.
    pub(crate) fn next_prompt_tokens(&mut self, room: u32, batch: &mut Vec<BatchToken>) {
        let sequence = self.sequence;
        let Some(active) = self.active_mut() else { return };
        let prompt = &active.request.prompt;
        let from = active.tokens.len();
        let to = prompt.len().min(from + room as usize);
        for (index, token) in prompt.iter().enumerate().take(to).skip(from) {
            let position = u32::try_from(index).expect("a context is bounded by a u32");
            let wants_logits = index + 1 == prompt.len();
            batch.push(BatchToken { token: *token, position, sequence, wants_logits });
        }
        active.tokens.extend_from_slice(&prompt[from..to]);
    }

    /// Ends the active request and keeps its KV.
    pub(crate) fn end(&mut self, outcome: Outcome, last_used: u64) -> Option<Event> {
        let State::Active(active) = std::mem::replace(&mut self.state, State::Empty) else { return None };
        let mut active = *active;
        let id = active.request.id;
        let usage = active.usage();
        let event = match outcome {
            Outcome::Failed(message) => Event::Failed { id, message, usage },
            Outcome::Finished(reason) => Event::Finished { id, reason, tail: active.tail(), usage },
        };
        if !active.tokens.is_empty() {
            self.state = State::Resident { salt: active.request.salt, tokens: active.tokens, last_used };
        }
        Some(event)
    }

    pub(crate) fn check_invariants(&self) {
        if let Some(active) = self.active() {
            let prompt = active.request.prompt.len();
            let generated = active.completion_tokens as usize;
            assert!(active.tokens.len() <= prompt + generated);
            assert!(active.completion_tokens <= active.request.max_tokens);
            assert_eq!(active.next.is_some(), generated > 0, "a generating slot always has a next token");
        }
    }
}

impl Active {
    pub(crate) fn new(request: Generate, cached_tokens: u32, admitted: u64) -> Self {
        Self {
            sampler: Sampler::new(request.sampling.clone()),
            tokens: request.prompt[..cached_tokens as usize].to_vec(),
            next: None,
            completion_tokens: 0,
            cached_tokens,
            admitted,
            utf8: Utf8Assembler::default(),
            stop: StopMatcher::new(&request.stop),
            request,
        }
    }

    /// Counts a produced token; the text it releases, and whether a stop string came.
    pub(crate) fn accept(&mut self, bytes: &[u8]) -> (String, bool) {
        self.completion_tokens += 1;
        match self.stop.push(&self.utf8.push(bytes)) {
            Progress::Text(text) => (text, false),
            Progress::Stopped(text) => {
                self.utf8 = Utf8Assembler::default();
                (text, true)
            }
        }
    }

    /// Text held back until the end.
    fn tail(&mut self) -> String {
        match self.stop.push(self.utf8.finish()) {
            Progress::Text(text) => text + &self.stop.finish(),
            Progress::Stopped(text) => text,
        }
    }

    fn usage(&self) -> Usage {
        let computed = self.tokens.len().min(self.request.prompt.len());
        Usage {
            prompt_tokens: u32::try_from(computed).unwrap_or(u32::MAX),
            cached_tokens: self.cached_tokens,
            completion_tokens: self.completion_tokens,
        }
    }
}
