//! One sequence of the backend and the request that uses it.

use crate::active::Active;
use crate::backend::{BatchToken, Limits};
use crate::engine::common_prefix;
use crate::event::{Event, Failure, FinishReason};
use crate::request::{Generate, RequestId, TokenId};

/// A sequence and what it is used for.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) sequence: u32,
    pub(crate) state: State,
    /// What followed the prompt computed here last. The same prompt again costs nothing and gives exactly
    /// the same answer, which computing its last token apart from the others would not.
    pub(crate) after_prompt: Option<AfterPrompt>,
}

/// Logits after the first `length` tokens of a sequence.
#[derive(Debug, Clone)]
pub(crate) struct AfterPrompt {
    length: u32,
    pub(crate) logits: Vec<f32>,
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

impl AfterPrompt {
    pub(crate) fn is_after(&self, length: u32) -> bool {
        self.length == length
    }
}

/// How a request ends.
pub(crate) enum Outcome {
    Finished(FinishReason),
    Failed(Failure),
}

impl Slot {
    pub(crate) fn new(sequence: u32) -> Self {
        Self { sequence, state: State::Empty, after_prompt: None }
    }

    pub(crate) fn request(&self) -> Option<RequestId> {
        self.active().map(|active| active.request.id)
    }

    pub(crate) fn is_active(&self) -> bool {
        self.active().is_some()
    }

    /// Whether the active request has no token of its answer yet.
    pub(crate) fn is_prefilling(&self) -> bool {
        self.active().is_some_and(|active| active.completion_tokens == 0)
    }

    /// Keeps the logits that follow the active request's prompt.
    pub(crate) fn remember(&mut self, logits: &[f32]) {
        if let Some(active) = self.active() {
            let length = length(&active.request.prompt);
            self.after_prompt = Some(AfterPrompt { length, logits: logits.to_vec() });
        }
    }

    /// Prompt tokens of a request that need not be computed, given how many begin this sequence. The last
    /// of a prompt must be, for its logits, where they are not remembered.
    pub(crate) fn usable(&self, common: u32, request: &Generate) -> u32 {
        let all = length(&request.prompt);
        let remembered = self.after_prompt.as_ref().is_some_and(|after| after.length == all);
        if common == all && remembered { all } else { common.min(all.saturating_sub(1)) }
    }

    /// Notes that a step had no room for this prompt.
    pub(crate) fn pass_over(&mut self) {
        if let Some(active) = self.active_mut() {
            active.passed_over += 1;
        }
    }

    /// The order of admission of the active request.
    pub(crate) fn admitted(&self) -> u64 {
        self.active().map_or(0, |active| active.admitted)
    }

    pub(crate) fn active(&self) -> Option<&Active> {
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

    /// How much of a request's prompt is here, in tokens: left by an ended request, or of one in work.
    pub(crate) fn common_prefix(&self, request: &Generate) -> u32 {
        let (salt, tokens) = match &self.state {
            State::Resident { salt, tokens, .. } => (*salt, tokens),
            State::Active(active) => (active.request.salt, &active.tokens),
            State::Empty => return 0,
        };
        if salt == request.salt { common_prefix(tokens, &request.prompt) } else { 0 }
    }

    /// How much of a request's prompt will be here once the prompt of the request in work is computed.
    pub(crate) fn coming_prefix(&self, request: &Generate) -> u32 {
        match self.active() {
            Some(active) if active.request.salt == request.salt => {
                common_prefix(&active.request.prompt, &request.prompt)
            }
            _ => 0,
        }
    }

    /// When this slot was last used, if it only remembers an ended request.
    pub(crate) fn last_used(&self) -> Option<u64> {
        match &self.state {
            State::Resident { last_used, .. } => Some(*last_used),
            State::Empty | State::Active(_) => None,
        }
    }

    /// Cells of KV kept of an ended request.
    pub(crate) fn resident_cells(&self) -> u32 {
        match &self.state {
            State::Resident { tokens, .. } => length(tokens),
            State::Empty | State::Active(_) => 0,
        }
    }

    /// Cells that this slot holds or may come to need.
    pub(crate) fn promised_cells(&self) -> u32 {
        match &self.state {
            State::Active(active) => length(&active.request.prompt).saturating_add(active.request.max_tokens),
            State::Empty | State::Resident { .. } => self.resident_cells(),
        }
    }

    /// Whether the active request decodes in the next step.
    pub(crate) fn is_decoding(&self) -> bool {
        self.active().is_some_and(|active| active.next.is_some())
    }

    /// The chosen token to decode next and guesses of what follows it, when this slot generates. `draft_length`
    /// tells how long the guess may be, given how often guesses were right here and the longest that makes sense.
    pub(crate) fn next_tokens(&mut self, draft_length: impl FnMut(f64, u32) -> u32) -> Vec<BatchToken> {
        let sequence = self.sequence;
        let Some(active) = self.active_mut() else { return Vec::new() };
        let Some(token) = active.next.take() else { return Vec::new() };
        let from = active.tokens.len();
        active.tokens.push(token);
        active.draft(draft_length);
        let position = |place: usize| u32::try_from(place).expect("a context is bounded by a u32");
        let tokens = active.tokens.iter().enumerate().skip(from);
        let batch = tokens.map(|(place, token)| BatchToken {
            token: *token,
            position: position(place),
            sequence,
            wants_logits: true,
        });
        batch.collect()
    }

    /// Forgets the guesses after the first `right` ones; how many tokens are then left, when some were wrong.
    pub(crate) fn settle_draft(&mut self, right: u32) -> Option<u32> {
        let active = self.active_mut()?;
        let length = std::mem::take(&mut active.drafted);
        if length > 0 {
            active.drafter.note(right, length);
        }
        active.tokens.truncate(active.tokens.len() - (length - right) as usize);
        (right < length).then(|| crate::slot::length(&active.tokens))
    }

    /// The next piece of the prompt, at most about `room` tokens, empty when there is not enough room; the
    /// last token of a prompt wants logits.
    pub(crate) fn next_piece(&mut self, room: u32, limits: &Limits) -> Vec<BatchToken> {
        let sequence = self.sequence;
        let Some(active) = self.active_mut() else { return Vec::new() };
        let prompt = &active.request.prompt;
        let (from, end) = (length(&active.tokens), length(prompt));
        let to = from + piece_length(from, end, room, limits);
        let tokens = (from..to).map(|position| BatchToken {
            token: prompt[position as usize],
            position,
            sequence,
            wants_logits: position + 1 == end,
        });
        let piece = tokens.collect();
        active.tokens.extend_from_slice(&prompt[from as usize..to as usize]);
        active.passed_over = if to > from { 0 } else { active.passed_over + 1 };
        piece
    }

    /// Ends the active request and keeps its KV.
    pub(crate) fn end(&mut self, outcome: Outcome, last_used: u64) -> Option<Event> {
        let State::Active(active) = std::mem::replace(&mut self.state, State::Empty) else { return None };
        let mut active = *active;
        let id = active.request.id;
        let usage = active.usage();
        let event = match outcome {
            Outcome::Failed(failure) => Event::Failed { id, failure, usage },
            Outcome::Finished(reason) => Event::Finished { id, reason, tail: active.tail(), usage },
        };
        if !active.tokens.is_empty() {
            self.state = State::Resident { salt: active.request.salt, tokens: active.tokens, last_used };
        }
        Some(event)
    }

    pub(crate) fn check_invariants(&self) {
        let known = self.active().map_or(self.resident_cells(), |active| length(&active.tokens));
        assert!(self.after_prompt.as_ref().is_none_or(|after| after.length <= known));
        if let Some(active) = self.active() {
            let prompt = active.request.prompt.len();
            let generated = active.completion_tokens as usize;
            assert!(active.tokens.len() <= prompt + generated);
            assert!(active.completion_tokens <= active.request.max_tokens);
            assert_eq!(active.next.is_some(), generated > 0, "a generating slot always has a next token");
            assert_eq!(active.drafted, 0, "guesses are settled in the step that computes them");
        }
    }
}

/// How many of the prompt tokens `from..end` to compute at once where about `room` are wanted.
///
/// A prompt falls into segments of a full batch, at fixed places. A segment may be cut further, but never
/// into pieces shorter than `piece_min`: so its numbers are those of the whole segment, and an answer does
/// not depend on how much room the company of the moment leaves. A piece may exceed `room` by less than
/// `piece_min` for that.
fn piece_length(from: u32, end: u32, room: u32, limits: &Limits) -> u32 {
    let Limits { batch, piece_min, .. } = *limits;
    let segment_end = (from / batch + 1).saturating_mul(batch).min(end);
    let left = segment_end - from;
    if left <= room || (left < 2 * piece_min && room >= piece_min) {
        left
    } else if room < piece_min {
        0
    } else {
        room.min(left - piece_min)
    }
}

/// The length of a token list; a context is far shorter than a `u32` can say.
pub(crate) fn length(tokens: &[TokenId]) -> u32 {
    u32::try_from(tokens.len()).unwrap_or(u32::MAX)
}
