//! The engine: a queue, a fixed number of slots, and a step that makes all of them progress together.
//!
//! One slot owns one sequence of the backend. Each step decodes one token for every generating slot in one
//! batch, then computes a bounded chunk of prompt (continuous batching with chunked prefill), so that a long
//! prompt never stops the others. Prompts are computed apart from the decoding and from each other: a batch
//! of them all would hardly be faster, a prompt's numbers would depend on its company, and a batch that
//! fails would take the others along. Cells of the KV cache are promised in full when a request is
//! admitted: an answer can never run out of them half-way. A slot whose request ended keeps its KV; a
//! later request of the same owner that begins alike takes it over, or copies the common beginning from
//! whichever slot has it, be that one still at work.

use std::collections::VecDeque;

use crate::backend::{Backend, BatchToken, Limits};
use crate::event::{Chunk, Event, FinishReason, RefuseReason, Usage};
use crate::request::{Generate, RequestId, TokenId};
use crate::sampler;
use crate::slot::{Active, Outcome, Slot, State, length};

/// How the engine schedules.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// Prompt tokens computed in one step while others generate. Larger: prompts are faster; smaller: the
    /// others stutter less.
    pub chunk: u32,
    /// Requests that may wait for a slot; more are refused.
    pub queue: usize,
}

/// Schedules requests over one backend.
#[derive(Debug)]
pub struct Engine<B> {
    backend: B,
    limits: Limits,
    config: Config,
    waiting: VecDeque<Generate>,
    slots: Vec<Slot>,
    /// Counts admissions; orders slots by age and by last use without a clock.
    ticks: u64,
}

impl<B: Backend> Engine<B> {
    /// An idle engine over this backend.
    #[must_use]
    pub fn new(backend: B, config: Config) -> Self {
        let mut limits = backend.limits();
        limits.piece_min = limits.piece_min.clamp(1, limits.batch);
        let chunk = config.chunk.clamp(limits.piece_min, limits.batch);
        let slots = (0..limits.sequences).map(Slot::new).collect();
        Self { backend, limits, config: Config { chunk, ..config }, waiting: VecDeque::new(), slots, ticks: 0 }
    }

    /// Puts a request into the queue, or refuses it with an event.
    pub fn submit(&mut self, request: Generate, events: &mut Vec<Event>) {
        if request.prompt.is_empty() || request.max_tokens == 0 {
            let message = "a request needs a prompt and room for an answer".to_owned();
            events.push(Event::Failed { id: request.id, message, usage: Usage::default() });
            return;
        }
        match self.refusal(&request) {
            Some(reason) => events.push(Event::Refused { id: request.id, reason }),
            None => self.waiting.push_back(request),
        }
    }

    /// Ends a request, wherever it is. Unknown ids are ignored: it may just have ended.
    pub fn cancel(&mut self, id: RequestId, events: &mut Vec<Event>) {
        if let Some(index) = self.waiting.iter().position(|request| request.id == id) {
            self.waiting.remove(index);
            let (reason, tail, usage) = (FinishReason::Cancelled, String::new(), Usage::default());
            events.push(Event::Finished { id, reason, tail, usage });
        } else if let Some(slot) = self.slots.iter_mut().find(|slot| slot.request() == Some(id)) {
            events.extend(slot.end(Outcome::Finished(FinishReason::Cancelled), self.ticks));
        }
    }

    /// Whether a call of [`step`](Self::step) would do anything.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.waiting.is_empty() || self.slots.iter().any(Slot::is_active)
    }

    /// Ends the engine; what it was built over.
    #[must_use]
    pub fn into_backend(self) -> B {
        self.backend
    }

    /// Requests waiting for a slot.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Admits what fits, decodes a token for everyone who generates, computes a chunk of prompt, and reports
    /// what came of it.
    pub fn step(&mut self, events: &mut Vec<Event>) {
        self.admit();
        let batch: Vec<BatchToken> = self.slots.iter_mut().filter_map(Slot::next_token).collect();
        let mut room = if batch.is_empty() { self.limits.batch } else { self.config.chunk };
        self.compute(&batch, events);
        for index in self.prefilling() {
            if room == 0 {
                break;
            }
            if self.begin(index, events) {
                let piece = self.slots[index].next_piece(room, &self.limits);
                self.compute(&piece, events);
                room = room.saturating_sub(len(&piece));
                self.answer_from_memory(index, events);
            }
        }
    }

    fn refusal(&self, request: &Generate) -> Option<RefuseReason> {
        let tokens = cells_of(request);
        let context = self.limits.context.min(self.limits.cells);
        if tokens > context {
            Some(RefuseReason::TooLong { tokens, context })
        } else if self.waiting.len() >= self.config.queue {
            let waiting = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX);
            Some(RefuseReason::QueueFull { waiting })
        } else {
            None
        }
    }

    /// Moves requests from the head of the queue into slots for as long as slots and cells last.
    fn admit(&mut self) {
        while let Some(request) = self.waiting.front() {
            let Some(slot) = self.choose_slot(request) else { return };
            if !self.make_room(slot, cells_of(request)) {
                return;
            }
            let request = self.waiting.pop_front().expect("the queue has a head");
            let cached_tokens = self.take_over(slot, &request);
            self.ticks += 1;
            self.slots[slot].state = State::Active(Box::new(Active::new(request, cached_tokens, self.ticks)));
        }
    }

    /// The slot for a request. The one whose KV is mostly the beginning of its prompt (the same conversation
    /// goes on), where it is no worse placed than others or could not be copied; else of the best placed
    /// ones an empty one, or the one unused for the longest.
    fn choose_slot(&self, request: &Generate) -> Option<usize> {
        let free = || (0..self.slots.len()).filter(|index| !self.slots[*index].is_active());
        let best = free()
            .map(|index| (self.distance(index), self.slots[index].last_used(), index))
            .min_by_key(|(distance, last_used, index)| (*distance, *last_used, *index))?;
        let known =
            free().max_by_key(|index| (self.slots[*index].common_prefix(request), std::cmp::Reverse(*index)))?;
        let common = self.slots[known].common_prefix(request);
        let same_conversation = common > 0 && common.saturating_mul(2) >= self.slots[known].resident_cells();
        let well_placed = self.limits.copy_min.is_none() || self.distance(known) <= best.0;
        Some(if same_conversation && well_placed { known } else { best.2 })
    }

    /// How far a slot is from those at work, where only neighbours are computed together; 0 between them.
    fn distance(&self, index: usize) -> usize {
        let active = || (0..self.slots.len()).filter(|index| self.slots[*index].is_active());
        match (active().next(), active().next_back()) {
            (Some(first), Some(last)) if self.limits.neighbours => {
                first.saturating_sub(index) + index.saturating_sub(last)
            }
            _ => 0,
        }
    }

    fn oldest_resident(&self, except: usize) -> Option<usize> {
        let others = (0..self.slots.len()).filter(|index| *index != except);
        let residents = others.filter_map(|index| Some((self.slots[index].last_used()?, index)));
        residents.min().map(|(_, index)| index)
    }

    /// Forgets resident slots, oldest first, until `cells` more can be promised to `slot`.
    fn make_room(&mut self, slot: usize, cells: u32) -> bool {
        let others = |slots: &[Slot]| -> u32 {
            let others = slots.iter().enumerate().filter(|(index, _)| *index != slot);
            others.map(|(_, slot)| slot.promised_cells()).sum()
        };
        while others(&self.slots) + cells > self.limits.cells {
            let Some(oldest) = self.oldest_resident(slot) else { return false };
            self.clear(oldest);
        }
        true
    }

    /// Keeps what the slot already knows of the prompt, and drops the rest.
    fn take_over(&mut self, index: usize, request: &Generate) -> u32 {
        let slot = &mut self.slots[index];
        let keep = slot.usable(slot.common_prefix(request), request);
        if keep < length(&request.prompt) {
            slot.after_prompt = None;
        }
        if keep > 0 && (keep == slot.resident_cells() || self.backend.truncate(slot.sequence, keep)) {
            return keep;
        }
        self.clear(index);
        0
    }

    fn clear(&mut self, slot: usize) {
        self.backend.clear(self.slots[slot].sequence);
        self.slots[slot].state = State::Empty;
        self.slots[slot].after_prompt = None;
    }

    /// The slots whose prompt is not through, in the order of admission.
    fn prefilling(&self) -> Vec<usize> {
        let mut prefilling: Vec<usize> =
            (0..self.slots.len()).filter(|index| self.slots[*index].is_prefilling()).collect();
        prefilling.sort_by_key(|index| self.slots[*index].admitted());
        prefilling
    }

    /// Before a slot's first piece of prompt: copies the beginning that another slot has. `false` when a
    /// prompt admitted earlier is about to compute a beginning that saves half of the work or more.
    fn begin(&mut self, index: usize, events: &mut Vec<Event>) -> bool {
        let Some(active) = self.slots[index].active().filter(|active| !active.is_started()) else { return true };
        let (own, all) = (active.cached_tokens(), length(&active.request.prompt));
        let (mut source, mut usable, mut coming) = (index, own, own);
        if let Some(copy_min) = self.limits.copy_min.map(|least| least.max(1)) {
            for (other, slot) in self.slots.iter().enumerate().filter(|(other, _)| *other != index) {
                let known = slot.usable(slot.common_prefix(&active.request), &active.request);
                if known >= usable.saturating_add(copy_min) {
                    (source, usable) = (other, known);
                }
                if slot.is_prefilling() && slot.admitted() < self.slots[index].admitted() {
                    coming = coming.max(slot.coming_prefix(&active.request));
                }
            }
            let saved = coming.saturating_sub(usable);
            if saved >= copy_min && saved.saturating_mul(2) >= all - usable {
                return false;
            }
        }
        if source != index {
            self.copy(source, index, usable);
        }
        let active = self.slots[index].active_mut().expect("the slot was active above");
        active.set_cached(usable);
        events.push(active.start());
        true
    }

    /// Gives slot `to` the first `length` tokens of slot `from`.
    fn copy(&mut self, from: usize, to: usize, length: u32) {
        self.backend.clear(self.slots[to].sequence);
        self.backend.copy(self.slots[from].sequence, self.slots[to].sequence, length);
        self.slots[to].after_prompt = self.slots[from].after_prompt.clone().filter(|after| after.is_after(length));
    }

    /// Samples the first token of an answer whose whole prompt was known.
    fn answer_from_memory(&mut self, index: usize, events: &mut Vec<Event>) {
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

    /// Computes a batch and reports what came of it.
    fn compute(&mut self, batch: &[BatchToken], events: &mut Vec<Event>) {
        if batch.is_empty() {
            return;
        }
        match self.backend.decode(batch) {
            Ok(()) => self.apply(batch, events),
            Err(error) => self.fail(batch, &error.to_string(), events),
        }
    }

    /// Samples where logits were wanted. `batch` was computed.
    fn apply(&mut self, batch: &[BatchToken], events: &mut Vec<Event>) {
        for (index, token) in batch.iter().enumerate().filter(|(_, token)| token.wants_logits) {
            let place = self.slots.iter().position(|slot| slot.sequence == token.sequence);
            let place = place.expect("a batch holds tokens of our slots");
            if self.slots[place].is_prefilling() {
                self.slots[place].remember(self.backend.logits(index));
            }
            self.advance(place, None, index, events);
        }
    }

    /// Samples one token for a slot, from these logits or from those at `index` of the last batch.
    fn advance(&mut self, place: usize, logits: Option<&[f32]>, index: usize, events: &mut Vec<Event>) {
        let slot = &mut self.slots[place];
        let logits = logits.unwrap_or_else(|| self.backend.logits(index));
        let Some(outcome) = produce(slot, &self.backend, logits, events) else { return };
        let failed = matches!(outcome, Outcome::Failed(_));
        events.extend(slot.end(outcome, self.ticks));
        if failed {
            self.clear(place);
        }
    }

    /// Ends every request of a batch that could not be computed; their KV is undefined.
    fn fail(&mut self, batch: &[BatchToken], message: &str, events: &mut Vec<Event>) {
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            if batch.iter().any(|token| token.sequence == slot.sequence) {
                events.extend(slot.end(Outcome::Failed(message.to_owned()), self.ticks));
                self.clear(index);
            }
        }
    }

    /// The backend's sequences that requests are in work on.
    #[must_use]
    pub fn busy_sequences(&self) -> Vec<u32> {
        self.slots.iter().filter(|slot| slot.is_active()).map(|slot| slot.sequence).collect()
    }

    /// Checks what must hold after every step; for tests.
    ///
    /// # Panics
    /// When it does not hold.
    pub fn check_invariants(&self) {
        let promised: u32 = self.slots.iter().map(Slot::promised_cells).sum();
        assert!(promised <= self.limits.cells, "{promised} cells promised of {}", self.limits.cells);
        assert!(self.waiting.len() <= self.config.queue);
        for slot in &self.slots {
            slot.check_invariants();
        }
    }
}

/// Samples one token for a slot. `Some` when that ends the request.
fn produce(slot: &mut Slot, backend: &impl Backend, logits: &[f32], events: &mut Vec<Event>) -> Option<Outcome> {
    let active = slot.active_mut()?;
    let token = match active.sampler.sample(logits) {
        Ok(token) => token,
        Err(error) => return Some(Outcome::Failed(error.to_string())),
    };
    if backend.is_end(token) {
        return Some(Outcome::Finished(FinishReason::Stop));
    }
    let top = active.request.top_logprobs;
    let logprobs = top.map(|top| sampler::logprob(logits, token, top, |token| backend.token_bytes(token)));
    let (text, stopped) = active.accept(&backend.token_bytes(token));
    let chunk = Chunk {
        text,
        tokens: vec![token],
        logprobs: logprobs.into_iter().collect(),
        completion_tokens: active.completion_tokens,
    };
    events.push(Event::Chunk { id: active.request.id, chunk });
    if stopped {
        Some(Outcome::Finished(FinishReason::Stop))
    } else if active.completion_tokens >= active.request.max_tokens {
        Some(Outcome::Finished(FinishReason::Length))
    } else {
        active.next = Some(token);
        None
    }
}

/// Cells that a request may come to need.
fn cells_of(request: &Generate) -> u32 {
    length(&request.prompt).saturating_add(request.max_tokens)
}

fn len(batch: &[BatchToken]) -> u32 {
    u32::try_from(batch.len()).expect("a batch is bounded by a u32")
}

/// The length of the common beginning of two token lists.
pub(crate) fn common_prefix(a: &[TokenId], b: &[TokenId]) -> u32 {
    let common = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    length(&a[..common])
}
