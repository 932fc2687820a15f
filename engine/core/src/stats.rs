//! What the engine counts of its work: numbers only, nothing of what was asked or answered.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::archive::{ArchiveStats, Tier};
use crate::backend::Backend;
use crate::engine::Engine;
use crate::event::{Event, FinishReason, RefuseReason};
use crate::request::Class;
use crate::slot::Slot;

/// An engine at one moment, and all that it did since it began.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// What goes up and down.
    pub gauges: Gauges,
    /// What only grows.
    pub counters: Counters,
}

/// What an engine holds at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gauges {
    /// Requests that have not ended, by class, in the order of [`Class::ALL`]. One that was passed over for long
    /// counts as the class it was raised to.
    pub requests: [Requests; Class::ALL.len()],
    /// Prompt tokens computed in a step beside those who generate, as measured so far.
    pub chunk_tokens: u32,
    /// KV cells of the context.
    pub cells: u32,
    /// Of these, with tokens of requests at work. What a copy shares is counted for each.
    pub cells_active: u32,
    /// Of these, kept of requests that ended.
    pub cells_kept: u32,
    /// How full the archive is; zero without one.
    pub archive: ArchiveStats,
}

/// Requests of one class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// In the queue.
    pub waiting: u32,
    /// In a slot.
    pub active: u32,
    /// Without a slot that they had.
    pub paused: u32,
}

/// What an engine did since it began.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Requests that came, refused ones included.
    pub submitted: u64,
    /// Requests that ended.
    pub ended: Ended,
    /// Where the tokens of prompts came from.
    pub prompt: PromptTokens,
    /// Tokens produced.
    pub output_tokens: u64,
    /// Guesses computed.
    pub draft_tokens: u64,
    /// Of these, right.
    pub draft_tokens_accepted: u64,
    /// Batches with a token for everyone who generates.
    pub decode: StepTimes,
    /// Pieces of prompts.
    pub prefill: StepTimes,
    /// Requests that gave up their slot.
    pub paused: u64,
    /// Requests that got one again.
    pub resumed: u64,
}

/// Requests by how they ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// [`FinishReason::Stop`].
    pub stop: u64,
    /// [`FinishReason::Length`].
    pub length: u64,
    /// [`FinishReason::Cancelled`].
    pub cancelled: u64,
    /// [`Event::Failed`].
    pub failed: u64,
    /// [`RefuseReason::QueueFull`].
    pub queue_full: u64,
    /// [`RefuseReason::TooLong`].
    pub too_long: u64,
}

/// Tokens of prompts by where their KV came from. Counted when work on a request begins; after a pause nothing is
/// counted again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptTokens {
    /// Computed.
    pub computed: u64,
    /// Known by the slot that the request took over.
    pub slot: u64,
    /// Copied from another slot.
    pub copied: u64,
    /// From [`Tier::Memory`] of the archive.
    pub memory: u64,
    /// From [`Tier::Disk`] of the archive.
    pub disk: u64,
}

/// How long steps of one kind took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepTimes {
    /// Steps, also of a backend that does not measure.
    pub steps: u64,
    /// All of them together.
    pub time: Duration,
    /// Steps of at most so long, longer than the bound before; the last bucket has no bound.
    pub buckets: [u64; STEP_BOUNDS.len() + 1],
}

/// The upper bounds of the buckets of [`StepTimes`]: from a small model's token to a piece of prompt that makes
/// everybody wait.
pub const STEP_BOUNDS: [Duration; 11] = [
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

/// Where the known beginning of a prompt was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    Slot,
    Copied,
    Archive(Tier),
}

impl Counters {
    /// Adds what another engine did: one that was started after this one had ended.
    pub fn add(&mut self, other: &Self) {
        let Self { ended, prompt, decode, prefill, .. } = self;
        ended.add(other.ended);
        prompt.add(other.prompt);
        decode.add(&other.decode);
        prefill.add(&other.prefill);
        self.submitted += other.submitted;
        self.output_tokens += other.output_tokens;
        self.draft_tokens += other.draft_tokens;
        self.draft_tokens_accepted += other.draft_tokens_accepted;
        self.paused += other.paused;
        self.resumed += other.resumed;
    }

    /// Counts what happened to requests.
    pub(crate) fn note(&mut self, events: &[Event]) {
        for event in events {
            match event {
                Event::Waiting { .. } | Event::Started { .. } | Event::Scored { .. } => {}
                Event::Chunk { chunk, .. } => self.output_tokens += chunk.tokens.len() as u64,
                Event::Finished { reason, .. } => match reason {
                    FinishReason::Stop | FinishReason::StopString(_) => self.ended.stop += 1,
                    FinishReason::Length => self.ended.length += 1,
                    FinishReason::Cancelled => self.ended.cancelled += 1,
                },
                Event::Failed { .. } => self.ended.failed += 1,
                Event::Refused { reason, .. } => match reason {
                    RefuseReason::QueueFull { .. } => self.ended.queue_full += 1,
                    RefuseReason::TooLong { .. } => self.ended.too_long += 1,
                },
            }
        }
    }
}

impl Ended {
    /// All of them.
    #[must_use]
    pub fn sum(&self) -> u64 {
        let Self { stop, length, cancelled, failed, queue_full, too_long } = *self;
        stop + length + cancelled + failed + queue_full + too_long
    }

    fn add(&mut self, other: Self) {
        let Self { stop, length, cancelled, failed, queue_full, too_long } = other;
        self.stop += stop;
        self.length += length;
        self.cancelled += cancelled;
        self.failed += failed;
        self.queue_full += queue_full;
        self.too_long += too_long;
    }
}

impl PromptTokens {
    /// Those that were not computed.
    #[must_use]
    pub fn known(&self) -> u64 {
        self.slot + self.copied + self.memory + self.disk
    }

    pub(crate) fn note_known(&mut self, known: Known, tokens: u32) {
        let counter = match known {
            Known::Slot => &mut self.slot,
            Known::Copied => &mut self.copied,
            Known::Archive(Tier::Memory) => &mut self.memory,
            Known::Archive(Tier::Disk) => &mut self.disk,
        };
        *counter += u64::from(tokens);
    }

    fn add(&mut self, other: Self) {
        let Self { computed, slot, copied, memory, disk } = other;
        self.computed += computed;
        self.slot += slot;
        self.copied += copied;
        self.memory += memory;
        self.disk += disk;
    }
}

impl StepTimes {
    pub(crate) fn note(&mut self, took: Duration) {
        self.steps += 1;
        self.time += took;
        self.buckets[STEP_BOUNDS.partition_point(|bound| *bound < took)] += 1;
    }

    fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.time += other.time;
        for (bucket, more) in self.buckets.iter_mut().zip(other.buckets) {
            *bucket += more;
        }
    }
}

impl<B: Backend> Engine<B> {
    /// What the engine holds now, and what it did so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut requests = [Requests::default(); Class::ALL.len()];
        for class in self.queue.classes() {
            requests[class as usize].waiting += 1;
        }
        for active in self.slots.iter().filter_map(Slot::active) {
            requests[active.request.class as usize].active += 1;
        }
        for class in self.paused_classes() {
            requests[class as usize].paused += 1;
        }
        let cells = |is_active: bool| {
            let slots = self.slots.iter().filter(|slot| slot.is_active() == is_active);
            slots.map(Slot::computed).sum()
        };
        let gauges = Gauges {
            requests,
            chunk_tokens: self.room(false),
            cells: self.limits.cells,
            cells_active: cells(true),
            cells_kept: cells(false),
            archive: self.archive.as_ref().map(|archive| archive.stats()).unwrap_or_default(),
        };
        Stats { gauges, counters: self.counters.clone() }
    }

    /// Checks what must hold of the numbers after every step; for tests.
    pub(crate) fn check_counters(&self) {
        let Stats { gauges, counters } = self.stats();
        let present = gauges.requests.iter().map(|of| u64::from(of.waiting + of.active + of.paused)).sum::<u64>();
        assert_eq!(counters.submitted, counters.ended.sum() + present, "every request is somewhere, once");
        assert!(counters.resumed <= counters.paused);
        assert!(counters.draft_tokens_accepted <= counters.draft_tokens);
        assert!(gauges.cells_active + gauges.cells_kept <= gauges.cells);
        for times in [counters.decode, counters.prefill] {
            assert_eq!(times.steps, times.buckets.iter().sum::<u64>());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_fall_into_the_bucket_of_their_bound() {
        let mut times = StepTimes::default();
        for millis in [0, 1, 2, 2001] {
            times.note(Duration::from_millis(millis));
        }
        times.note(Duration::from_micros(1001));
        assert_eq!((times.steps, times.time), (5, Duration::from_micros(2_005_001)));
        assert_eq!(times.buckets, [2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn two_engines_did_what_both_did() {
        let one = Counters {
            submitted: 1,
            ended: Ended { stop: 2, length: 3, cancelled: 4, failed: 5, queue_full: 6, too_long: 7 },
            prompt: PromptTokens { computed: 8, slot: 9, copied: 10, memory: 11, disk: 12 },
            output_tokens: 13,
            draft_tokens: 14,
            draft_tokens_accepted: 15,
            decode: StepTimes { steps: 16, time: Duration::from_secs(17), buckets: [18; 12] },
            prefill: StepTimes { steps: 19, time: Duration::from_secs(20), buckets: [21; 12] },
            paused: 22,
            resumed: 23,
        };
        let mut both = Counters::default();
        both.add(&one);
        assert_eq!(both, one);
        both.add(&one);
        assert_eq!((both.submitted, both.ended.sum(), both.prompt.known()), (2, 54, 84));
        assert_eq!((both.decode.steps, both.prefill.buckets[11], both.resumed), (32, 42, 46));
    }
}
