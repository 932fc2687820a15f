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

use std::cmp::Reverse;
use std::time::Duration;

use crate::active::{Outcome, cells_of};
use crate::archive::Archive;
use crate::backend::{Backend, BatchToken, Limits};
use crate::event::{Event, Failure, FinishReason, RefuseReason, Usage};
use crate::pace::Pace;
use crate::pause::Paused;
use crate::prefix::Prefixes;
use crate::queue::Queue;
use crate::request::{Class, Generate, Job, RequestId, TokenId};
use crate::slot::{Slot, State};
use crate::stats::Counters;
use crate::turns::Turns;
use crate::work::{Work, WorkLog};

/// How the engine schedules.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// How long the prompts in one step may take while others generate. Longer: prompts are faster; shorter:
    /// the others stutter less.
    pub chunk_time: Duration,
    /// Prompt tokens in such a step before anything was measured.
    pub chunk: u32,
    /// Whether to guess what follows, from what came before or with a smaller model, and check the guesses together.
    pub speculate: bool,
    /// Requests that may wait for a slot; more are refused.
    pub queue: usize,
    /// Tokens from which on a sequence is worth keeping, or bringing back, beyond the context.
    pub archive_min: u32,
}

/// Steps that a prompt waits for shorter ones before it comes first.
const PASSED_OVER_MAX: u32 = 3;
/// How many times the time of a chunk the shortest piece of prompt may take.
const PIECE_STRETCH: u32 = 2;
/// In one of so many steps, what nobody waits for goes on beside what somebody does.
const BATCH_TURN: u64 = 16;
/// The longest step while nobody generates: whoever leaves or comes meanwhile waits for it.
const STEP_ALONE_MAX: Duration = Duration::from_millis(150);

/// Schedules requests over one backend.
pub struct Engine<B> {
    pub(crate) backend: B,
    pub(crate) limits: Limits,
    /// The tokens that end a turn.
    pub(crate) ends: Vec<TokenId>,
    pub(crate) config: Config,
    pub(crate) queue: Queue,
    pub(crate) slots: Vec<Slot>,
    /// The beginnings that the slots have, by their place.
    pub(crate) known: Prefixes<usize>,
    /// Requests that gave up their slot to a more urgent one.
    pub(crate) paused: Vec<Paused>,
    pub(crate) archive: Option<Box<dyn Archive>>,
    pub(crate) pace: Pace,
    pub(crate) counters: Counters,
    pub(crate) work: WorkLog,
    /// With which adapter answers are computed.
    pub(crate) turns: Turns,
    /// Counts admissions; orders slots by age and by last use without a clock.
    pub(crate) ticks: u64,
    steps: u64,
    /// Whether the last step brought any request further.
    pub(crate) has_progressed: bool,
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
        let ends = (0..limits.vocabulary).map(TokenId).filter(|token| backend.is_end(*token)).collect();
        Self {
            backend,
            limits,
            ends,
            config: Config { chunk, ..config },
            queue,
            slots,
            known: Prefixes::default(),
            paused: Vec::new(),
            archive: None,
            pace,
            counters: Counters::default(),
            work: WorkLog::default(),
            turns: Turns::default(),
            ticks: 0,
            steps: 0,
            has_progressed: false,
        }
    }

    /// Keeps in an archive what has no place in the context any more.
    #[must_use]
    pub fn with_archive(self, archive: Box<dyn Archive>) -> Self {
        Self { archive: Some(archive), ..self }
    }

    /// Puts a request into the queue, or refuses it with an event.
    pub fn submit(&mut self, job: impl Into<Job>, events: &mut Vec<Event>) {
        self.counters.submitted += 1;
        let job = job.into();
        self.counted(events, |engine, events| engine.queue_up(job, events));
    }

    fn queue_up(&mut self, job: Job, events: &mut Vec<Event>) {
        let request = &job.request;
        if request.prompt.is_empty() {
            let failure = Failure::Backend("a request needs a prompt".to_owned());
            events.push(Event::Failed { id: request.id, failure, usage: Usage::default() });
            return;
        }
        if !self.backend.has_adapter(request.adapter) {
            let failure = Failure::Backend("its adapter could not be loaded; the log says why".to_owned());
            events.push(Event::Failed { id: request.id, failure, usage: Usage::default() });
            return;
        }
        match self.refusal(request) {
            Some(reason) => events.push(Event::Refused { id: request.id, reason }),
            None => {
                let present: Vec<u64> = self.owners().collect();
                self.queue.push(job, present.into_iter());
            }
        }
    }

    /// Ends a request, wherever it is. Unknown ids are ignored: it may just have ended.
    pub fn cancel(&mut self, id: RequestId, events: &mut Vec<Event>) {
        self.counted(events, |engine, events| engine.end_early(id, events));
    }

    fn end_early(&mut self, id: RequestId, events: &mut Vec<Event>) {
        if self.queue.remove(id).is_some() {
            let (reason, tail, usage) = (FinishReason::Cancelled, String::new(), Usage::default());
            events.push(Event::Finished { id, reason, tail, usage });
        } else if let Some(index) = self.slots.iter().position(|slot| slot.request() == Some(id)) {
            self.end(index, Outcome::Finished(FinishReason::Cancelled), events);
        } else {
            events.extend(self.cancel_paused(id));
        }
    }

    /// Ends the request in a slot, which keeps its KV.
    pub(crate) fn end(&mut self, index: usize, outcome: Outcome, events: &mut Vec<Event>) {
        let slot = &mut self.slots[index];
        events.extend(slot.end(outcome, self.ticks));
        match slot.resident() {
            Some(resident) => self.known.insert(index, resident.scope, resident.common, &resident.tokens),
            None => self.known.remove(index),
        }
    }

    /// Whether a call of [`step`](Self::step) would do anything.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.queue.is_empty() || !self.paused.is_empty() || self.slots.iter().any(Slot::is_active)
    }

    /// Whether all work waits for the archive: then another [`step`](Self::step) helps only when something was brought.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        self.has_work() && !self.has_progressed
    }

    /// Whom the time of steps went to since this was asked last; `cpu` is what processors spent meanwhile.
    pub fn take_work(&mut self, cpu: Duration) -> Vec<Work> {
        self.work.take(cpu)
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
        self.counted(events, Self::advance_all);
    }

    /// Does something, and counts the events that came of it: so what is counted is what is told.
    fn counted(&mut self, events: &mut Vec<Event>, act: impl FnOnce(&mut Self, &mut Vec<Event>)) {
        let before = events.len();
        act(self, events);
        self.counters.note(&events[before..]);
    }

    fn advance_all(&mut self, events: &mut Vec<Event>) {
        self.steps += 1;
        self.has_progressed = false;
        self.admit(events);
        for (id, place) in self.queue.moved() {
            events.push(Event::Waiting { id, place, wait_ms: self.pace.wait_ms(place) });
        }
        let batch = self.next_tokens();
        let mut room = self.room(batch.is_empty());
        self.compute(&batch, events);
        for index in self.prefilling() {
            if room > 0 && self.begin(index, events) {
                let piece = self.next_piece(index, room);
                self.compute(&piece, events);
                room = room.saturating_sub(len(&piece));
                self.answer_from_memory(index, events);
            } else if let Some(active) = self.slots[index].active_mut().filter(|_| room == 0) {
                active.pass_over();
            }
        }
    }

    /// Whether requests of a class take part in this step.
    pub(crate) fn takes_part(&self, class: Class) -> bool {
        let urgent = || self.slots.iter().filter_map(Slot::active).any(|active| active.request.class > Class::Batch);
        class > Class::Batch || self.steps.is_multiple_of(BATCH_TURN) || !urgent()
    }

    /// The next piece of a slot's prompt, counted for its owner.
    fn next_piece(&mut self, index: usize, room: u32) -> Vec<BatchToken> {
        let limits = Limits { piece_min: self.piece_min(), ..self.limits };
        let slot = &mut self.slots[index];
        let sequence = slot.sequence;
        let Some(active) = slot.active_mut() else { return Vec::new() };
        let piece = active.next_piece(sequence, room, &limits);
        self.queue.count(active.request.salt, len(&piece), 0);
        piece
    }

    /// Prompt tokens to compute in this step: as many as fit its time. With nobody to wait for the step, only
    /// those who leave or come do.
    pub(crate) fn room(&self, alone: bool) -> u32 {
        let (time, start) =
            if alone { (STEP_ALONE_MAX, self.limits.batch) } else { (self.config.chunk_time, self.config.chunk) };
        self.pace.prompt_tokens_in(time).unwrap_or(start).clamp(self.piece_min(), self.limits.batch)
    }

    /// The shortest piece of prompt that keeps its numbers, or what can be computed in a bearable time where even
    /// that takes longer, unless kernels are much slower for it: then others come before the last places of a number.
    fn piece_min(&self) -> u32 {
        let bearable = self.pace.prompt_tokens_in(self.config.chunk_time * PIECE_STRETCH);
        self.pace.shortest_piece(bearable.unwrap_or(u32::MAX), self.limits.piece_min)
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

    /// The slots whose prompt is not through: the most urgent first, of these those that were passed over for too
    /// long, then those of the owner served least, then those that are through first.
    fn prefilling(&self) -> Vec<usize> {
        let takes_part = |index: &usize| {
            let slot = &self.slots[*index];
            slot.is_prefilling() && slot.active().is_some_and(|active| self.takes_part(active.request.class))
        };
        let mut prefilling: Vec<usize> = (0..self.slots.len()).filter(takes_part).collect();
        prefilling.sort_by_cached_key(|index| {
            let active = self.slots[*index].active().expect("a slot that prefills is active");
            let patient = active.passed_over() < PASSED_OVER_MAX;
            let rest = if patient { (self.queue.served(active.request.salt), active.prompt_left()) } else { (0, 0) };
            (Reverse(active.request.class), patient, rest, active.admitted())
        });
        prefilling
    }

    /// The owners of the requests in slots, one for each.
    pub(crate) fn owners(&self) -> impl Iterator<Item = u64> {
        self.slots.iter().filter_map(|slot| Some(slot.active()?.request.salt))
    }

    pub(crate) fn clear(&mut self, index: usize) {
        self.backend.clear(self.slots[index].sequence);
        self.slots[index].state = State::Empty;
        self.slots[index].after_prompt = None;
        self.known.remove(index);
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
        assert!(self.paused.len() <= self.slots.len());
        self.known.check_invariants();
        self.check_counters();
        for slot in &self.slots {
            slot.check_invariants();
        }
    }
}

pub(crate) fn len(batch: &[BatchToken]) -> u32 {
    u32::try_from(batch.len()).expect("a batch is bounded by a u32")
}
