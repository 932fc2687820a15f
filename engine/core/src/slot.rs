//! One sequence of the backend, and what it holds.

use serde::{Deserialize, Serialize};

use crate::active::{Active, Outcome, length};
use crate::event::Event;
use crate::request::{Generate, RequestId, Scope, TokenId};

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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AfterPrompt {
    /// Tokens before.
    pub length: u32,
    /// One for each token of the vocabulary.
    pub logits: Vec<f32>,
}

#[derive(Debug)]
pub(crate) enum State {
    /// No KV.
    Empty,
    /// The KV of an ended request, kept for one that begins alike.
    Resident(Box<Resident>),
    /// A request in work.
    Active(Box<Active>),
}

/// What is left of an ended request.
#[derive(Debug)]
pub(crate) struct Resident {
    pub(crate) scope: Scope,
    /// How many of the first tokens are common to all.
    pub(crate) common: u32,
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) last_used: u64,
    /// Whether the archive has it too.
    pub(crate) is_archived: bool,
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

    /// Whether the active request decodes in the next step.
    pub(crate) fn is_decoding(&self) -> bool {
        self.active().is_some_and(|active| active.next.is_some())
    }

    /// Keeps the logits that follow the active request's prompt.
    pub(crate) fn remember(&mut self, logits: &[f32]) {
        if let Some(active) = self.active() {
            let length = length(&active.request.prompt);
            self.after_prompt = Some(AfterPrompt { length, logits: logits.to_vec() });
        }
    }

    /// Prompt tokens of a request that need not be computed, given how many begin this sequence, of those computed
    /// so far. The last of a prompt must be, for its logits, where they are not remembered; all must where it is scored.
    pub(crate) fn usable(&self, common: u32, request: &Generate) -> u32 {
        if request.score_prompt {
            return 0;
        }
        let (common, all) = (common.min(self.computed()), length(&request.prompt));
        let remembered = self.after_prompt.as_ref().is_some_and(|after| after.length == all);
        if common == all && remembered { all } else { common.min(all.saturating_sub(1)) }
    }

    pub(crate) fn active(&self) -> Option<&Active> {
        match &self.state {
            State::Active(active) => Some(active),
            State::Empty | State::Resident(_) => None,
        }
    }

    pub(crate) fn active_mut(&mut self) -> Option<&mut Active> {
        match &mut self.state {
            State::Active(active) => Some(active),
            State::Empty | State::Resident(_) => None,
        }
    }

    /// What it keeps of an ended request.
    pub(crate) fn resident(&self) -> Option<&Resident> {
        match &self.state {
            State::Resident(resident) => Some(resident),
            State::Empty | State::Active(_) => None,
        }
    }

    /// When this slot was last used, if it only remembers an ended request.
    pub(crate) fn last_used(&self) -> Option<u64> {
        self.resident().map(|resident| resident.last_used)
    }

    /// Cells of KV kept of an ended request.
    pub(crate) fn resident_cells(&self) -> u32 {
        self.resident().map_or(0, |resident| length(&resident.tokens))
    }

    /// Tokens whose KV is here.
    pub(crate) fn computed(&self) -> u32 {
        self.active().map_or(self.resident_cells(), Active::computed)
    }

    /// Cells that this slot holds or may come to need.
    pub(crate) fn promised_cells(&self) -> u32 {
        self.active().map_or(self.resident_cells(), Active::cells)
    }

    /// Ends the active request and keeps its KV.
    pub(crate) fn end(&mut self, outcome: Outcome, last_used: u64) -> Option<Event> {
        let State::Active(active) = std::mem::replace(&mut self.state, State::Empty) else { return None };
        let (event, request, tokens) = active.end(outcome);
        if !tokens.is_empty() {
            let (scope, common) = (request.scope(), request.common);
            let resident = Resident { scope, common, tokens, last_used, is_archived: false };
            self.state = State::Resident(Box::new(resident));
        }
        Some(event)
    }

    pub(crate) fn check_invariants(&self) {
        assert!(self.after_prompt.as_ref().is_none_or(|after| after.length <= self.computed()));
        if let Some(active) = self.active() {
            active.check_invariants();
        }
    }
}
