//! A request in work: what it has so far, and how it goes on.

use crate::backend::{BatchToken, Limits};
use crate::constraint::Constraint;
use crate::draft::{Drafter, Kind};
use crate::event::{Event, Failure, FinishReason, TokenLogprob, Usage};
use crate::request::{Generate, Job, TokenId};
use crate::sampler::{Sampler, logprob};
use crate::stop::{Progress, StopMatcher};
use crate::utf8::Utf8Assembler;

#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) request: Generate,
    pub(crate) sampler: Sampler,
    /// Where the answer stands in its grammar, after the token chosen last.
    constraint: Option<Box<dyn Constraint>>,
    /// Tokens whose KV is computed or in the batch being computed.
    tokens: Vec<TokenId>,
    /// The token chosen last, to be decoded in the next step. `None` while the prompt is not through.
    pub(crate) next: Option<TokenId>,
    pub(crate) completion_tokens: u32,
    cached_tokens: u32,
    /// Whether the request was told that it left the queue; by then `cached_tokens` is final.
    started: bool,
    /// Steps that had no room for this prompt, since one had.
    passed_over: u32,
    admitted: u64,
    utf8: Utf8Assembler,
    stop: StopMatcher,
    drafter: Drafter,
    /// How many of the last `tokens` are guesses that are being computed.
    drafted: u32,
}

/// About how many tokens of a prompt are scored at once: each has logits over the whole vocabulary, of which so many
/// take 64 MiB where that has 256,000 tokens.
const SCORED_MAX: u32 = 64;

/// How a request ends.
pub(crate) enum Outcome {
    Finished(FinishReason),
    Failed(Failure),
}

impl Active {
    pub(crate) fn new(job: Job, sampler: Sampler, cached_tokens: u32, admitted: u64) -> Self {
        let Job { request, constraint } = job;
        Self {
            sampler,
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
            drafter: Drafter::new(&request.prompt, &request.prediction),
            drafted: 0,
            request,
        }
    }

    /// The chosen token to decode next and guesses of what follows it, when the prompt is through. `guess` makes them
    /// of the tokens so far and of how many there may be: the last token of an answer is chosen and not computed.
    pub(crate) fn next_tokens(
        &mut self,
        sequence: u32,
        guess: impl FnOnce(&mut Drafter, &[TokenId], Vec<TokenId>, u32) -> Vec<TokenId>,
    ) -> Vec<BatchToken> {
        let Some(token) = self.next.take() else { return Vec::new() };
        let from = self.tokens.len();
        self.tokens.push(token);
        let longest = self.request.max_tokens.saturating_sub(self.completion_tokens + 1);
        let forced = self.constraint.as_mut().map(|constraint| constraint.forced()).unwrap_or_default();
        let guesses = guess(&mut self.drafter, &self.tokens, forced, longest);
        self.drafted = length(&guesses);
        self.tokens.extend(guesses);
        let position = |place: usize| u32::try_from(place).expect("a context is bounded by a u32");
        let tokens = self.tokens.iter().enumerate().skip(from);
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
        let length = std::mem::take(&mut self.drafted);
        if length > 0 {
            self.drafter.note(right, length);
        }
        self.tokens.truncate(self.tokens.len() - (length - right) as usize);
        (right < length).then(|| crate::active::length(&self.tokens))
    }

    /// The next piece of the prompt, at most about `room` tokens, empty when there is not enough room; the
    /// last token of a prompt wants logits.
    pub(crate) fn next_piece(&mut self, sequence: u32, room: u32, limits: &Limits) -> Vec<BatchToken> {
        let prompt = &self.request.prompt;
        let (from, end) = (length(&self.tokens), length(prompt));
        let scores = self.request.score_prompt;
        let room = if scores { room.min(SCORED_MAX.max(limits.piece_min)) } else { room };
        let to = from + piece_length(from, end, room, limits);
        let tokens = (from..to).map(|position| BatchToken {
            token: prompt[position as usize],
            position,
            sequence,
            wants_logits: scores || position + 1 == end,
        });
        let piece = tokens.collect();
        self.tokens.extend_from_slice(&prompt[from as usize..to as usize]);
        self.passed_over = if to > from { 0 } else { self.passed_over + 1 };
        piece
    }

    /// How many tokens are being computed that a smaller model guessed.
    pub(crate) fn drafted_by_model(&self) -> u32 {
        if self.drafter.kind == Kind::Model { self.drafted } else { 0 }
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

    /// Tokens whose KV is computed.
    pub(crate) fn computed(&self) -> u32 {
        length(&self.tokens)
    }

    /// Cells that it holds or may come to need.
    pub(crate) fn cells(&self) -> u32 {
        cells_of(&self.request)
    }

    /// The order of admission.
    pub(crate) fn admitted(&self) -> u64 {
        self.admitted
    }

    /// Steps that had no room for this prompt, since one had.
    pub(crate) fn passed_over(&self) -> u32 {
        self.passed_over
    }

    /// Notes that a step had no room for this prompt.
    pub(crate) fn pass_over(&mut self) {
        self.passed_over += 1;
    }

    /// Ends it: the last event, and the tokens whose KV is computed.
    pub(crate) fn end(mut self, outcome: Outcome) -> (Event, Generate, Vec<TokenId>) {
        let (id, usage) = (self.request.id, self.usage());
        let event = match outcome {
            Outcome::Failed(failure) => Event::Failed { id, failure, usage },
            Outcome::Finished(reason) => Event::Finished { id, reason, tail: self.tail(), usage },
        };
        (event, self.request, self.tokens)
    }

    pub(crate) fn check_invariants(&self) {
        let (prompt, generated) = (self.request.prompt.len(), self.completion_tokens as usize);
        assert!(self.tokens.len() <= prompt + generated);
        assert!(self.completion_tokens <= self.request.max_tokens);
        assert_eq!(self.next.is_some(), generated > 0, "a generating request always has a next token");
        assert_eq!(self.drafted, 0, "guesses are settled in the step that computes them");
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

    /// Chooses the next token among those that the grammar allows; without one, none of `ends` before the answer is as
    /// long as it must be. Where what is allowed is not known there is none.
    pub(crate) fn choose(
        &mut self,
        logits: &[f32],
        ends: &[TokenId],
        bytes: impl Fn(TokenId) -> Vec<u8>,
    ) -> Result<TokenId, Failure> {
        let allowed = self.constraint.as_mut().map(|constraint| constraint.allowed()).transpose();
        let allowed = allowed.map_err(|error| Failure::Constraint(error.to_string()))?;
        let goes_on = allowed.is_none() && self.completion_tokens < self.request.sampling.min_tokens;
        let banned = if goes_on { ends } else { &[] };
        self.sampler.sample_with(logits, allowed, banned, bytes).map_err(|error| Failure::Backend(error.to_string()))
    }

    /// The log probability of the prompt's token after `position`, which has these logits; `None` after the last.
    pub(crate) fn score(
        &self,
        position: u32,
        logits: &[f32],
        bytes: impl Fn(TokenId) -> Vec<u8>,
    ) -> Option<TokenLogprob> {
        let token = *self.request.prompt.get(position as usize + 1)?;
        Some(logprob(logits, token, self.request.top_logprobs.unwrap_or(0), bytes))
    }

    /// Goes on in the grammar by a token; whether the answer is whole then.
    pub(crate) fn advance(&mut self, token: TokenId) -> Result<bool, Failure> {
        let Some(constraint) = &mut self.constraint else { return Ok(false) };
        constraint.accept(token).map_err(|error| Failure::Constraint(error.to_string()))?;
        Ok(constraint.is_complete())
    }

    /// Counts a produced token; the text it releases, and which stop string came.
    pub(crate) fn accept(&mut self, bytes: &[u8]) -> (String, Option<u32>) {
        self.completion_tokens += 1;
        match self.stop.push(&self.utf8.push(bytes)) {
            Progress::Text(text) => (text, None),
            Progress::Stopped { text, stop } => {
                self.utf8 = Utf8Assembler::default();
                (text, Some(stop))
            }
        }
    }

    /// Text held back until the end.
    fn tail(&mut self) -> String {
        match self.stop.push(self.utf8.finish()) {
            Progress::Text(text) => text + &self.stop.finish(),
            Progress::Stopped { text, .. } => text,
        }
    }

    /// A request that was cancelled before any work on it cost nothing, whatever was cached for it.
    fn usage(&self) -> Usage {
        if !self.started {
            return Usage::default();
        }
        Usage {
            prompt_tokens: length(&self.tokens).min(length(&self.request.prompt)),
            cached_tokens: self.cached_tokens,
            completion_tokens: self.completion_tokens,
            predicted_tokens: self.drafter.predicted.0,
            mispredicted_tokens: self.drafter.predicted.1,
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

/// Cells that a request may come to need.
pub(crate) fn cells_of(request: &Generate) -> u32 {
    length(&request.prompt).saturating_add(request.max_tokens)
}

/// The length of a token list; a context is far shorter than a `u32` can say.
pub(crate) fn length(tokens: &[TokenId]) -> u32 {
    u32::try_from(tokens.len()).unwrap_or(u32::MAX)
}
