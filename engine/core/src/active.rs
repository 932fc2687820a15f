//! A request in a slot: how far its prompt and its answer have come.

use crate::constraint::Constraint;
use crate::draft::Drafter;
use crate::event::{Event, Failure, Usage};
use crate::request::{Generate, Job, TokenId};
use crate::sampler::Sampler;
use crate::slot::length;
use crate::stop::{Progress, StopMatcher};
use crate::utf8::Utf8Assembler;

/// A request in a slot.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) request: Generate,
    pub(crate) sampler: Sampler,
    /// Where the answer stands in its grammar, after the token chosen last.
    pub(crate) constraint: Option<Box<dyn Constraint>>,
    /// Tokens whose KV is computed or in the batch being computed.
    pub(crate) tokens: Vec<TokenId>,
    /// The token chosen last, to be decoded in the next step. `None` while the prompt is not through.
    pub(crate) next: Option<TokenId>,
    pub(crate) completion_tokens: u32,
    cached_tokens: u32,
    /// Whether the request was told that it left the queue; by then `cached_tokens` is final.
    started: bool,
    /// Steps that had no room for this prompt, since one had.
    pub(crate) passed_over: u32,
    pub(crate) admitted: u64,
    utf8: Utf8Assembler,
    stop: StopMatcher,
    pub(crate) drafter: Drafter,
    /// How many of the last `tokens` are guesses that are being computed.
    pub(crate) drafted: u32,
}

impl Active {
    pub(crate) fn new(job: Job, cached_tokens: u32, admitted: u64) -> Self {
        let Job { request, constraint } = job;
        Self {
            sampler: Sampler::new(request.sampling.clone()),
            constraint,
            tokens: request.prompt[..cached_tokens as usize].to_vec(),
            next: None,
            completion_tokens: 0,
            cached_tokens,
            started: false,
            passed_over: 0,
            admitted,
            utf8: Utf8Assembler::default(),
            stop: StopMatcher::new(&request.stop),
            drafter: Drafter::new(),
            drafted: 0,
            request,
        }
    }

    /// Appends a guess of what follows to the tokens, if one is likely to pay: what the grammar leaves no choice
    /// about, or what followed before.
    pub(crate) fn draft(&mut self, mut draft_length: impl FnMut(f64, u32) -> u32) {
        // The last token of an answer is chosen and not computed.
        let longest = self.request.max_tokens.saturating_sub(self.completion_tokens + 1);
        let forced = self.constraint.as_mut().map(|constraint| constraint.forced()).unwrap_or_default();
        let found = self.drafter.find(&self.tokens);
        let guess: Vec<TokenId> = match found {
            _ if !forced.is_empty() => {
                self.drafter.force();
                let length = draft_length(self.drafter.hit(), longest.min(length(&forced)));
                forced.into_iter().take(length as usize).collect()
            }
            Some(from) => Drafter::guess(&self.tokens, from, draft_length(self.drafter.hit(), longest)),
            None => return,
        };
        if guess.is_empty() {
            self.drafter.skip();
        }
        self.drafted = length(&guess);
        self.tokens.extend(guess);
    }

    /// Whether the token chosen last is the guess at this place, and thus computed already: then it is no
    /// longer the next one to compute.
    pub(crate) fn was_guessed(&mut self, place: u32) -> bool {
        let guesses = self.tokens.len() - self.drafted as usize;
        let guess = self.tokens[guesses..].get(place as usize).copied();
        guess.is_some() && self.next.take_if(|next| guess == Some(*next)).is_some()
    }

    /// Notes that the KV of the first `tokens` of the prompt was copied from elsewhere.
    pub(crate) fn set_cached(&mut self, tokens: u32) {
        self.tokens = self.request.prompt[..tokens as usize].to_vec();
        self.cached_tokens = tokens;
    }

    pub(crate) fn cached_tokens(&self) -> u32 {
        self.cached_tokens
    }

    pub(crate) fn passed_over(&self) -> u32 {
        self.passed_over
    }

    /// Tokens of the prompt that are still to be computed.
    pub(crate) fn prompt_left(&self) -> u32 {
        length(&self.request.prompt).saturating_sub(length(&self.tokens))
    }

    pub(crate) fn is_started(&self) -> bool {
        self.started
    }

    /// Whether the whole prompt came from memory and the answer is still to begin.
    pub(crate) fn is_known(&self) -> bool {
        self.started && self.completion_tokens == 0 && self.cached_tokens == length(&self.request.prompt)
    }

    /// The event that says that work on it begins.
    pub(crate) fn start(&mut self) -> Event {
        self.started = true;
        Event::Started { id: self.request.id, cached_tokens: self.cached_tokens }
    }

    /// Chooses the next token among those that the grammar allows. Where those are not known there is none.
    pub(crate) fn choose(&mut self, logits: &[f32]) -> Result<TokenId, Failure> {
        let allowed = self.constraint.as_mut().map(|constraint| constraint.allowed()).transpose();
        let allowed = allowed.map_err(|error| Failure::Constraint(error.to_string()))?;
        self.sampler.sample(logits, allowed).map_err(|error| Failure::Backend(error.to_string()))
    }

    /// Goes on in the grammar by a token; whether the answer is whole then.
    pub(crate) fn advance(&mut self, token: TokenId) -> Result<bool, Failure> {
        let Some(constraint) = &mut self.constraint else { return Ok(false) };
        constraint.accept(token).map_err(|error| Failure::Constraint(error.to_string()))?;
        Ok(constraint.is_complete())
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
    pub(crate) fn tail(&mut self) -> String {
        match self.stop.push(self.utf8.finish()) {
            Progress::Text(text) => text + &self.stop.finish(),
            Progress::Stopped(text) => text,
        }
    }

    /// A request that was cancelled before any work on it cost nothing, whatever was cached for it.
    pub(crate) fn usage(&self) -> Usage {
        if !self.started {
            return Usage::default();
        }
        Usage {
            prompt_tokens: length(&self.tokens).min(length(&self.request.prompt)),
            cached_tokens: self.cached_tokens,
            completion_tokens: self.completion_tokens,
        }
    }
}
