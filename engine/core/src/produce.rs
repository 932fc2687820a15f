//! The second half of a step: what was computed becomes tokens, text and events.

use std::time::Duration;

use crate::active::{Active, Outcome};
use crate::backend::{Backend, BatchToken};
use crate::engine::{Engine, len};
use crate::event::{Chunk, Event, Failure, FinishReason, TokenLogprob};
use crate::request::{AdapterId, TokenId};
use crate::slot::{Slot, State};

impl<B: Backend> Engine<B> {
    /// Computes a batch and reports what came of it.
    pub(crate) fn compute(&mut self, batch: &[BatchToken], events: &mut Vec<Event>) {
        if batch.is_empty() {
            return;
        }
        self.has_progressed = true;
        let adapter = self.adapter_of(batch[0].sequence);
        match self.backend.decode(batch, adapter) {
            Ok(took) => {
                self.measure(batch, took);
                self.apply(batch, events);
            }
            Err(error) => self.fail(batch, &error.to_string(), events),
        }
    }

    /// What the request in the slot of a sequence is computed with.
    fn adapter_of(&self, sequence: u32) -> AdapterId {
        let slot = self.slots.iter().find(|slot| slot.sequence == sequence);
        slot.and_then(Slot::active).map_or(AdapterId::NONE, |active| active.request.adapter)
    }

    /// Learns from how long a batch took.
    fn measure(&mut self, batch: &[BatchToken], took: Duration) {
        let runs = || batch.chunk_by(|a, b| a.sequence == b.sequence);
        let request = |sequence| self.slots.iter().find(|slot| slot.sequence == sequence).and_then(Slot::request);
        let tokens = |tokens: &[BatchToken]| Some((request(tokens[0].sequence)?, u64::from(len(tokens))));
        let shares: Vec<_> = runs().filter_map(tokens).collect();
        self.work.note(took, &shares);
        let drafts: Vec<u32> = runs().map(|tokens| len(tokens) - 1).filter(|length| *length > 0).collect();
        let by_model = self.slots.iter().filter_map(Slot::active).map(Active::drafted_by_model).sum();
        if self.slots.iter().any(|slot| slot.sequence == batch[0].sequence && slot.is_prefilling()) {
            self.counters.prefill.note(took);
            self.counters.prompt.computed += u64::from(len(batch));
            // Scores take logits of every token: what that costs tells nothing of other prompts.
            if batch.len() == 1 || !batch[0].wants_logits {
                self.pace.note_prompt(len(batch), took);
            }
            return;
        }
        self.counters.decode.note(took);
        if drafts.is_empty() {
            self.pace.note_decode(runs().count(), took);
        } else {
            self.counters.draft_tokens += drafts.iter().copied().map(u64::from).sum::<u64>();
            self.pace.note_drafts(runs().count(), &drafts, by_model, took);
        }
    }

    /// Samples where logits were wanted. `batch` was computed.
    fn apply(&mut self, batch: &[BatchToken], events: &mut Vec<Event>) {
        let mut from = 0;
        for tokens in batch.chunk_by(|a, b| a.sequence == b.sequence) {
            let place = self.slots.iter().position(|slot| slot.sequence == tokens[0].sequence);
            let place = place.expect("a batch holds tokens of our slots");
            if self.slots[place].is_prefilling() {
                self.score(place, tokens, from, events);
                let last = tokens.len() - 1;
                if tokens[last].wants_logits
                    && self.slots[place].active().is_some_and(|active| active.prompt_left() == 0)
                {
                    self.slots[place].remember(self.backend.logits(from + last));
                    self.advance(place, None, from + last, events);
                }
            } else if let Some(first) = tokens.iter().position(|token| token.wants_logits) {
                self.advance(place, None, from + first, events);
            }
            from += tokens.len();
        }
    }

    /// Reports how likely the tokens of a piece of prompt were, which begins at `from` in the batch, where that is wanted.
    fn score(&self, place: usize, piece: &[BatchToken], from: usize, events: &mut Vec<Event>) {
        let Some(active) = self.slots[place].active().filter(|active| active.request.score_prompt) else { return };
        let bytes = |token| self.backend.token_bytes(token);
        let begins = piece.first().filter(|first| first.position == 0);
        let first = begins.map(|first| TokenLogprob {
            token: first.token,
            bytes: bytes(first.token),
            logprob: 0.0,
            top: Vec::new(),
        });
        let rest = piece.iter().enumerate();
        let rest =
            rest.filter_map(|(index, token)| active.score(token.position, self.backend.logits(from + index), bytes));
        let logprobs = first.into_iter().chain(rest).collect();
        events.push(Event::Scored { id: active.request.id, logprobs });
    }

    /// Samples the first token of an answer whose whole prompt was known.
    pub(crate) fn answer_from_memory(&mut self, index: usize, events: &mut Vec<Event>) {
        let slot = &mut self.slots[index];
        if !slot.active().is_some_and(Active::is_known) {
            return;
        }
        let after = slot.after_prompt.take().expect("a prompt is known with its logits or not wholly");
        self.advance(index, Some(&after.logits), 0, events);
        // A failure cleared the slot.
        let slot = &mut self.slots[index];
        if !matches!(slot.state, State::Empty) {
            slot.after_prompt = Some(after);
        }
    }

    /// Samples for a slot, from these logits or from those at `index` of the last batch: one token, and one
    /// more for each guess that was right.
    fn advance(&mut self, place: usize, logits: Option<&[f32]>, index: usize, events: &mut Vec<Event>) {
        self.has_progressed = true;
        let slot = &mut self.slots[place];
        let Some((id, owner)) = slot.active().map(|active| (active.request.id, active.request.salt)) else { return };
        let (mut chunk, mut right) = (Chunk::default(), 0);
        let outcome = loop {
            let logits = logits.unwrap_or_else(|| self.backend.logits(index + right as usize));
            let outcome = produce(slot, (&self.backend, &self.ends), logits, &mut chunk);
            if outcome.is_some() || !slot.active_mut().is_some_and(|active| active.was_guessed(right)) {
                break outcome;
            }
            right += 1;
        };
        self.counters.draft_tokens_accepted += u64::from(right);
        if !chunk.tokens.is_empty() {
            self.queue.count(owner, 0, u32::try_from(chunk.tokens.len()).unwrap_or(u32::MAX));
            events.push(Event::Chunk { id, chunk });
        }
        if slot.active().is_some_and(|active| active.drafted_by_model() > 0) {
            self.pace.note_saved(right);
        }
        if let Some(length) = slot.active_mut().and_then(|active| active.settle_draft(right)) {
            let removed = self.backend.truncate(slot.sequence, length);
            assert!(removed, "guesses are made only where they can be removed");
        }
        let Some(outcome) = outcome else { return };
        let failed = matches!(outcome, Outcome::Failed(_));
        // What was only to be computed says nothing of how long answers are.
        if let Some(active) = slot.active().filter(|active| active.request.max_tokens > 0) {
            self.pace.note_answer(active.completion_tokens);
        }
        self.end(place, outcome, events);
        if failed {
            self.clear(place);
        }
    }

    /// Ends every request of a batch that could not be computed; their KV is undefined.
    fn fail(&mut self, batch: &[BatchToken], message: &str, events: &mut Vec<Event>) {
        for index in 0..self.slots.len() {
            let slot = &self.slots[index];
            if batch.iter().any(|token| token.sequence == slot.sequence) {
                self.end(index, Outcome::Failed(Failure::Backend(message.to_owned())), events);
                self.clear(index);
            }
        }
    }
}

/// Samples one token for a slot and adds it to `chunk`. `Some` when that ends the request. With the backend come the
/// tokens that end a turn.
fn produce(
    slot: &mut Slot,
    (backend, ends): (&impl Backend, &[TokenId]),
    logits: &[f32],
    chunk: &mut Chunk,
) -> Option<Outcome> {
    let active = slot.active_mut()?;
    if active.request.max_tokens == 0 {
        return Some(Outcome::Finished(FinishReason::Length));
    }
    let bytes = |token| backend.token_bytes(token);
    let token = match active.choose(logits, ends, bytes) {
        Ok(token) => token,
        Err(failure) => return Some(Outcome::Failed(failure)),
    };
    if ends.contains(&token) {
        return Some(Outcome::Finished(FinishReason::Stop));
    }
    let complete = match active.advance(token) {
        Ok(complete) => complete,
        Err(failure) => return Some(Outcome::Failed(failure)),
    };
    let top = active.request.top_logprobs;
    chunk.logprobs.extend(top.map(|top| active.sampler.logprob(logits, token, top, bytes)));
    let shown = if active.request.control_words { backend.token_text(token) } else { bytes(token) };
    let (text, stop) = active.accept(&shown);
    chunk.text += &text;
    chunk.tokens.push(token);
    chunk.completion_tokens = active.completion_tokens;
    if let Some(place) = stop {
        Some(Outcome::Finished(FinishReason::StopString(place)))
    } else if complete {
        Some(Outcome::Finished(FinishReason::Stop))
    } else if active.completion_tokens >= active.request.max_tokens {
        Some(Outcome::Finished(FinishReason::Length))
    } else {
        active.next = Some(token);
        None
    }
}
