//! The engine: a queue, a fixed number of slots, and a step that makes all of them progress together.
//!
//! One slot owns one sequence of the backend. Each step decodes one token for every generating slot in one
//! batch, then computes a bounded chunk of prompt (continuous batching with chunked prefill), so that a long
//! prompt never stops the others. A generating slot may also compute guesses of its next tokens; those that
//! turn out wrong are removed again, so an answer is the same with and without them. Prompts are computed
//! apart from the decoding and from each other: a batch of them all would hardly be faster, a prompt's
//! numbers would depend on its company, and a batch that fails would take the others along. Cells of the KV cache are promised in full when a request is
//! admitted: an answer can never run out of them half-way. A slot whose request ended keeps its KV; a
//! later request of the same owner that begins alike takes it over, or copies the common beginning from
//! whichever slot has it, be that one still at work.

use std::time::Duration;

use crate::active::Active;
use crate::backend::{Backend, BatchToken, Limits};
use crate::event::{Event, Failure, FinishReason, RefuseReason, Usage};
use crate::pace::Pace;
use crate::queue::Queue;
use crate::request::{Generate, Job, RequestId, TokenId};
use crate::slot::{Outcome, Slot, State, length};

/// How the engine schedules.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// How long the prompts in one step may take while others generate. Longer: prompts are faster; shorter:
    /// the others stutter less.
    pub chunk_time: Duration,
    /// Prompt tokens in such a step before anything was measured.
    pub chunk: u32,
    /// Whether to guess what follows from what came before, and check the guesses together.
    pub speculate: bool,
    /// Requests that may wait for a slot; more are refused.
    pub queue: usize,
}

/// One in so many slots is kept free for others where several people use the machine.
const KEPT_FREE: usize = 4;
/// Steps that a prompt waits for shorter ones before it comes first.
const PASSED_OVER_MAX: u32 = 3;
/// How many times the time of a chunk the shortest piece of prompt may take.
const PIECE_STRETCH: u32 = 2;
/// The longest step while nobody generates: whoever leaves or comes meanwhile waits for it.
const STEP_ALONE_MAX: Duration = Duration::from_millis(250);

/// Schedules requests over one backend.
#[derive(Debug)]
pub struct Engine<B> {
    pub(crate) backend: B,
    limits: Limits,
    config: Config,
    pub(crate) queue: Queue,
    pub(crate) slots: Vec<Slot>,
    pub(crate) pace: Pace,
    /// Counts admissions; orders slots by age and by last use without a clock.
    pub(crate) ticks: u64,
}

impl<B: Backend> Engine<B> {
    /// An idle engine over this backend.
    #[must_use]
    pub fn new(backend: B, config: Config) -> Self {
        let mut limits = backend.limits();
        limits.piece_min = limits.piece_min.clamp(1, limits.batch);
        let chunk = config.chunk.clamp(limits.piece_min, limits.batch);
        let slots = (0..limits.sequences).map(Slot::new).collect();
        let (queue, pace) = (Queue::default(), Pace::new(limits.sequences));
        Self { backend, limits, config: Config { chunk, ..config }, queue, slots, pace, ticks: 0 }
    }

    /// Puts a request into the queue, or refuses it with an event.
    pub fn submit(&mut self, job: impl Into<Job>, events: &mut Vec<Event>) {
        let job = job.into();
        let request = &job.request;
        if request.prompt.is_empty() || request.max_tokens == 0 {
            let failure = Failure::Backend("a request needs a prompt and room for an answer".to_owned());
            events.push(Event::Failed { id: request.id, failure, usage: Usage::default() });
            return;
        }
        match self.refusal(request) {
            Some(reason) => events.push(Event::Refused { id: request.id, reason }),
            None => self.queue.push(job, active_owners(&self.slots)),
        }
    }

    /// Ends a request, wherever it is. Unknown ids are ignored: it may just have ended.
    pub fn cancel(&mut self, id: RequestId, events: &mut Vec<Event>) {
        if self.queue.remove(id).is_some() {
            let (reason, tail, usage) = (FinishReason::Cancelled, String::new(), Usage::default());
            events.push(Event::Finished { id, reason, tail, usage });
        } else if let Some(slot) = self.slots.iter_mut().find(|slot| slot.request() == Some(id)) {
            events.extend(slot.end(Outcome::Finished(FinishReason::Cancelled), self.ticks));
        }
    }

    /// Whether a call of [`step`](Self::step) would do anything.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.queue.is_empty() || self.slots.iter().any(Slot::is_active)
    }

    /// Ends the engine; what it was built over.
    #[must_use]
    pub fn into_backend(self) -> B {
        self.backend
    }

    /// Requests waiting for a slot.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Admits what fits, decodes a token for everyone who generates, computes a chunk of prompt, and reports
    /// what came of it.
    pub fn step(&mut self, events: &mut Vec<Event>) {
        self.admit();
        for (id, place) in self.queue.moved() {
            events.push(Event::Waiting { id, place, wait_ms: self.pace.wait_ms(place) });
        }
        let batch = self.next_tokens();
        let mut room = self.room(batch.is_empty());
        self.compute(&batch, events);
        for index in self.prefilling() {
            if room == 0 {
                self.slots[index].pass_over();
                continue;
            }
            if self.begin(index, events) {
                let limits = Limits { piece_min: self.piece_min(), ..self.limits };
                let piece = self.slots[index].next_piece(room, &limits);
                self.count_prompt(index, len(&piece));
                self.compute(&piece, events);
                room = room.saturating_sub(len(&piece));
                self.answer_from_memory(index, events);
            }
        }
    }

    /// One token for everyone who generates, with guesses of what follows where they are likely to pay.
    fn next_tokens(&mut self) -> Vec<BatchToken> {
        let decoding = self.slots.iter().filter(|slot| slot.is_decoding()).count();
        let mut spare = self.limits.batch.saturating_sub(u32::try_from(decoding).unwrap_or(u32::MAX));
        let (pace, drafts) = (&mut self.pace, self.limits.drafts && self.config.speculate);
        let mut batch = Vec::new();
        for slot in &mut self.slots {
            let draft_length =
                |hit, longest: u32| if drafts { pace.draft_length(decoding, hit, longest.min(spare)) } else { 0 };
            let tokens = slot.next_tokens(draft_length);
            spare = spare.saturating_sub(len(&tokens).saturating_sub(1));
            batch.extend(tokens);
        }
        batch
    }

    /// Prompt tokens to compute in this step: as many as fit its time. With nobody to wait for the step, only
    /// those who leave or come do.
    fn room(&self, alone: bool) -> u32 {
        let (time, start) =
            if alone { (STEP_ALONE_MAX, self.limits.batch) } else { (self.config.chunk_time, self.config.chunk) };
        self.pace.prompt_tokens_in(time).unwrap_or(start).clamp(self.piece_min(), self.limits.batch)
    }

    /// The shortest piece of prompt that keeps its numbers, or what can be computed in a bearable time where even
    /// that takes longer: then others come before the last places of a number.
    fn piece_min(&self) -> u32 {
        let bearable = self.pace.prompt_tokens_in(self.config.chunk_time * PIECE_STRETCH);
        self.limits.piece_min.min(bearable.unwrap_or(u32::MAX)).max(1)
    }

    fn count_prompt(&mut self, index: usize, tokens: u32) {
        if let Some(active) = self.slots[index].active() {
            self.queue.count(active.request.salt, tokens, 0);
        }
    }

    fn refusal(&self, request: &Generate) -> Option<RefuseReason> {
        let tokens = cells_of(request);
        let context = self.limits.context.min(self.limits.cells);
        if tokens > context {
            Some(RefuseReason::TooLong { tokens, context })
        } else if self.queue.len() >= self.config.queue {
            let waiting = u32::try_from(self.queue.len()).unwrap_or(u32::MAX);
            Some(RefuseReason::QueueFull { waiting, wait_ms: self.pace.wait_ms(waiting.saturating_add(1)) })
        } else {
            None
        }
    }

    /// Moves requests from the queue into slots, in its order, for as long as slots and cells last.
    fn admit(&mut self) {
        while let Some(request) = self.queue.next(|owner| self.may_have_another(owner)) {
            let (id, cells) = (request.id, cells_of(request));
            let Some(slot) = self.choose_slot(request) else { return };
            if !self.make_room(slot, cells) {
                return;
            }
            let job = self.queue.take(id).expect("the queue has the request it gave");
            let cached_tokens = self.take_over(slot, &job.request);
            self.ticks += 1;
            self.slots[slot].state = State::Active(Box::new(Active::new(job, cached_tokens, self.ticks)));
        }
    }

    /// Whether an owner may have one more slot. Where several people use the machine, nobody has all of it: who
    /// comes next begins at once.
    fn may_have_another(&self, owner: u64) -> bool {
        let all = self.slots.len();
        let most = if self.queue.has_others(owner) { all - all / KEPT_FREE } else { all };
        active_owners(&self.slots).filter(|active| *active == owner).count() < most.max(1)
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

    pub(crate) fn clear(&mut self, slot: usize) {
        self.backend.clear(self.slots[slot].sequence);
        self.slots[slot].state = State::Empty;
        self.slots[slot].after_prompt = None;
    }

    /// The slots whose prompt is not through: those that were passed over for too long, then those of the owner
    /// served least, then those that are through first.
    fn prefilling(&self) -> Vec<usize> {
        let mut prefilling: Vec<usize> =
            (0..self.slots.len()).filter(|index| self.slots[*index].is_prefilling()).collect();
        prefilling.sort_by_cached_key(|index| {
            let active = self.slots[*index].active().expect("a slot that prefills is active");
            let patient = active.passed_over() < PASSED_OVER_MAX;
            let rest = if patient { (self.queue.served(active.request.salt), active.prompt_left()) } else { (0, 0) };
            (patient, rest, self.slots[*index].admitted())
        });
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
        assert!(self.queue.len() <= self.config.queue);
        for slot in &self.slots {
            slot.check_invariants();
        }
    }
}

/// The owners of the requests in work, one for each.
fn active_owners(slots: &[Slot]) -> impl Iterator<Item = u64> {
    slots.iter().filter_map(|slot| Some(slot.active()?.request.salt))
}

/// Cells that a request may come to need.
fn cells_of(request: &Generate) -> u32 {
    length(&request.prompt).saturating_add(request.max_tokens)
}

pub(crate) fn len(batch: &[BatchToken]) -> u32 {
    u32::try_from(batch.len()).expect("a batch is bounded by a u32")
}

/// The length of the common beginning of two token lists.
pub(crate) fn common_prefix(a: &[TokenId], b: &[TokenId]) -> u32 {
    let common = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    length(&a[..common])
}
