//! The engine: a queue, a fixed number of slots, and a step that makes all of them progress together.
//!
//! One slot owns one sequence of the backend. Each step decodes one token for every generating slot and
//! fills what is left of the batch with a chunk of prompt (continuous batching with chunked prefill), so
//! that a long prompt never stops the others. Cells of the KV cache are promised in full when a request is
//! admitted: an answer can never run out of them half-way. A slot whose request ended keeps its KV; a
//! later request of the same owner that begins alike takes it over.

use std::collections::VecDeque;

use crate::backend::{Backend, BatchToken, Limits};
use crate::event::{Chunk, Event, FinishReason, RefuseReason, Usage};
use crate::request::{Generate, RequestId, TokenId};
use crate::sampler;
use crate::slot::{Active, Outcome, Slot, State};

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
        let limits = backend.limits();
        let slots = (0..limits.sequences).map(Slot::new).collect();
        Self { backend, limits, config, waiting: VecDeque::new(), slots, ticks: 0 }
    }

    /// Puts a request into the queue, or refuses it with an event.
    pub fn submit(&mut self, request: Generate, events: &mut Vec<Event>) {
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

    /// Requests waiting for a slot.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Admits what fits, computes one batch, and reports what came of it.
    pub fn step(&mut self, events: &mut Vec<Event>) {
        self.admit(events);
        let batch = self.plan();
        if batch.is_empty() {
            return;
        }
        match self.backend.decode(&batch) {
            Ok(()) => self.apply(&batch, events),
            Err(error) => self.fail(&batch, &error.to_string(), events),
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
    fn admit(&mut self, events: &mut Vec<Event>) {
        while let Some(request) = self.waiting.front() {
            let Some(slot) = self.choose_slot(request) else { return };
            if !self.make_room(slot, cells_of(request)) {
                return;
            }
            let request = self.waiting.pop_front().expect("the queue has a head");
            let id = request.id;
            let cached_tokens = self.take_over(slot, &request);
            self.ticks += 1;
            self.slots[slot].state = State::Active(Box::new(Active::new(request, cached_tokens, self.ticks)));
            events.push(Event::Started { id, cached_tokens });
        }
    }

    /// The slot for a request: the one with the longest known beginning of its prompt, unless that would
    /// cost a longer memory than it saves; else an empty one; else the one unused for the longest.
    fn choose_slot(&self, request: &Generate) -> Option<usize> {
        let best = (0..self.slots.len())
            .map(|index| (self.slots[index].common_prefix(request), index))
            .max_by_key(|(common, index)| (*common, std::cmp::Reverse(*index)))?;
        let empty = self.slots.iter().position(|slot| matches!(slot.state, State::Empty));
        let (common, index) = best;
        if common > 0 && (empty.is_none() || common * 2 >= self.slots[index].resident_cells()) {
            return Some(index);
        }
        empty.or_else(|| self.oldest_resident(None))
    }

    fn oldest_resident(&self, except: Option<usize>) -> Option<usize> {
        let residents = self.slots.iter().enumerate().filter_map(|(index, slot)| match &slot.state {
            State::Resident { last_used, .. } if Some(index) != except => Some((*last_used, index)),
            _ => None,
        });
        residents.min().map(|(_, index)| index)
    }

    /// Forgets resident slots, oldest first, until `cells` more can be promised to `slot`.
    fn make_room(&mut self, slot: usize, cells: u32) -> bool {
        let others = |slots: &[Slot]| -> u32 {
            let others = slots.iter().enumerate().filter(|(index, _)| *index != slot);
            others.map(|(_, slot)| slot.promised_cells()).sum()
        };
        while others(&self.slots) + cells > self.limits.cells {
            let Some(oldest) = self.oldest_resident(Some(slot)) else { return false };
            self.clear(oldest);
        }
        true
    }

    /// Keeps what the slot already knows of the prompt, and drops the rest. At least the last token of
    /// the prompt is computed again, for its logits.
    fn take_over(&mut self, slot: usize, request: &Generate) -> u32 {
        let last = u32::try_from(request.prompt.len()).unwrap_or(u32::MAX).saturating_sub(1);
        let keep = self.slots[slot].common_prefix(request).min(last);
        let known = self.slots[slot].resident_cells();
        if keep > 0 && (keep == known || self.backend.truncate(self.slots[slot].sequence, keep)) {
            return keep;
        }
        self.clear(slot);
        0
    }

    fn clear(&mut self, slot: usize) {
        self.backend.clear(self.slots[slot].sequence);
        self.slots[slot].state = State::Empty;
    }

    /// The next batch: one token of every generating slot, then prompts in the order of admission.
    fn plan(&mut self) -> Vec<BatchToken> {
        let mut batch = Vec::new();
        for slot in &mut self.slots {
            batch.extend(slot.next_token());
        }
        let room = self.limits.batch.saturating_sub(len(&batch));
        let mut room = if batch.is_empty() { room } else { room.min(self.config.chunk) };
        let mut prefilling: Vec<&mut Slot> = self.slots.iter_mut().filter(|slot| slot.is_prefilling()).collect();
        prefilling.sort_by_key(|slot| slot.admitted());
        for slot in prefilling {
            let before = len(&batch);
            slot.next_prompt_tokens(room, &mut batch);
            room -= len(&batch) - before;
        }
        batch
    }

    /// Samples where logits were wanted. `batch` was computed.
    fn apply(&mut self, batch: &[BatchToken], events: &mut Vec<Event>) {
        for (index, token) in batch.iter().enumerate().filter(|(_, token)| token.wants_logits) {
            let place = self.slots.iter().position(|slot| slot.sequence == token.sequence);
            let place = place.expect("a batch holds tokens of our slots");
            let slot = &mut self.slots[place];
            let Some(outcome) = produce(slot, &self.backend, self.backend.logits(index), events) else { continue };
            let failed = matches!(outcome, Outcome::Failed(_));
            events.extend(slot.end(outcome, self.ticks));
            if failed {
                self.clear(place);
            }
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
    let prompt = u32::try_from(request.prompt.len()).unwrap_or(u32::MAX);
    prompt.saturating_add(request.max_tokens)
}

fn len(batch: &[BatchToken]) -> u32 {
    u32::try_from(batch.len()).expect("a batch is bounded by a u32")
}

/// The length of the common beginning of two token lists.
pub(crate) fn common_prefix(a: &[TokenId], b: &[TokenId]) -> u32 {
    let common = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    u32::try_from(common).unwrap_or(u32::MAX)
}
