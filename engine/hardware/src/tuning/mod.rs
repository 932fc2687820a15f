//! What was measured on this very machine, and what follows from it.

mod candidates;
mod choose;
mod file;
mod workload;

pub use candidates::{attentions, batches, mixed, placements};
pub use choose::{LOSSY_GAIN_MIN, NOISE, OTHERS_PERCENT_MAX, Verdict, choose};
pub use file::{Stale, Tuning, TuningError};
pub use workload::{DEPTHS_MAX, REPEATS_MAX, TOKENS_MAX, Workload, WorkloadError};

use std::time::Duration;

use allerac_engine_core::{Attention, FlashAttention, KvType};
use serde::{Deserialize, Serialize};

use crate::cpus::CpuSet;

/// The settings of an engine that are found by measuring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// Threads that compute one token a sequence.
    pub threads: u32,
    /// Threads that compute prompts.
    pub threads_batch: u32,
    /// The processors to run on; absent means all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<CpuSet>,
    /// When to use flash attention.
    pub flash_attention: FlashAttention,
    /// The numbers in which keys are kept.
    pub kv_type_k: KvType,
    /// The numbers in which values are kept.
    pub kv_type_v: KvType,
    /// The most tokens of a prompt that are computed in one step.
    pub batch: u32,
}

impl Choice {
    /// How it attends.
    #[must_use]
    pub fn attention(&self) -> Attention {
        Attention { flash: self.flash_attention, kv_type_k: self.kv_type_k, kv_type_v: self.kv_type_v }
    }

    /// The same with another attention.
    #[must_use]
    pub fn with_attention(self, attention: Attention) -> Self {
        let Attention { flash: flash_attention, kv_type_k, kv_type_v } = attention;
        Self { flash_attention, kv_type_k, kv_type_v, ..self }
    }
}

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Enough to see large differences.
    Quick,
    /// All depths, and more repeats.
    Full,
}

impl Effort {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Quick, Self::Full];

    /// The word on the engine's command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Full => "full",
        }
    }

    /// What one choice may take to compute, but for the beginning of a conversation, which is measured however long that
    /// takes.
    #[must_use]
    pub fn time_max(self) -> Duration {
        match self {
            Self::Quick => Duration::from_secs(20),
            Self::Full => Duration::from_secs(60),
        }
    }

    /// What all choices together may take. It is enough for a small model to be measured in full; of a large one, what
    /// is tried first.
    #[must_use]
    pub fn total_max(self) -> Duration {
        match self {
            Self::Quick => Duration::from_secs(3 * 60),
            Self::Full => Duration::from_secs(10 * 60),
        }
    }

    /// How often each choice is measured. What differs between rounds is noise.
    #[must_use]
    pub fn rounds(self) -> u32 {
        match self {
            Self::Quick => 1,
            Self::Full => 2,
        }
    }
}

/// A line that `allerac-engine --measure` and `--workload` print, as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Report {
    /// A speed.
    Measured(Measurement),
    /// The speed of each repeat, of a workload.
    Sampled {
        /// Prompts or answers.
        phase: Phase,
        /// Tokens before.
        depth: u32,
        /// Tokens of each.
        tokens: u32,
        /// Tokens a second.
        samples: Vec<f64>,
    },
    /// A depth that was not measured.
    Skipped {
        /// Which.
        depth: u32,
        /// Why.
        reason: String,
    },
    /// The last line of a measurement that was not cut short.
    Done {
        /// Of the engine.
        version: String,
        /// What the processors did for it, in seconds.
        cpu_seconds: f64,
    },
}

/// A speed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// Of what.
    #[serde(flatten)]
    pub part: Part,
    /// The median, over all sequences together.
    pub tokens_per_second: f64,
    /// The standard error of the median, as a share of it.
    pub uncertainty: f64,
}

/// What a speed is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Part {
    /// Prompts or answers.
    pub phase: Phase,
    /// Tokens that each sequence has before.
    pub depth: u32,
    /// Sequences computed together.
    pub sequences: u32,
}

/// What tokens are computed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// A prompt: many tokens of one sequence at once.
    Prefill,
    /// An answer: one token a sequence.
    Decode,
}

/// One choice and how fast it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// What was tried.
    pub engine: Choice,
    /// How much of the processors others used meanwhile, in percent; the most of all rounds.
    pub others_percent: u32,
    /// Why there are no speeds, where the choice does not work here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// How fast it was.
    #[serde(default)]
    pub measured: Vec<Measurement>,
}

impl Trial {
    /// The speed of a part.
    #[must_use]
    pub fn speed(&self, part: Part) -> Option<&Measurement> {
        self.measured.iter().find(|measurement| measurement.part == part)
    }

    /// Takes another round of the same choice into account: speeds become the mean of both, and how much the rounds
    /// differ says more about the uncertainty than either alone. What only one round has is dropped.
    pub fn merge(&mut self, round: &Self) {
        debug_assert_eq!(self.engine, round.engine);
        self.others_percent = self.others_percent.max(round.others_percent);
        self.failure = self.failure.take().or_else(|| round.failure.clone());
        self.measured.retain_mut(|mine| {
            let Some(theirs) = round.speed(mine.part) else { return false };
            let (a, b) = (mine.tokens_per_second, theirs.tokens_per_second);
            mine.tokens_per_second = f64::midpoint(a, b);
            mine.uncertainty = mine.uncertainty.max(theirs.uncertainty).max((a - b).abs() / (a + b));
            true
        });
    }

    /// With as many digits as mean something.
    #[must_use]
    pub fn rounded(mut self) -> Self {
        let digits = |value: f64, digits: f64| (value * digits).round() / digits;
        for one in &mut self.measured {
            one.tokens_per_second = digits(one.tokens_per_second, 100.0);
            one.uncertainty = digits(one.uncertainty, 10_000.0);
        }
        self
    }
}

/// The depths that are measured, in tokens, and how much each weighs in the choice: most answers are given in a
/// conversation of some length.
pub const DEPTHS: [(u32, f64); 3] = [(0, 1.0), (1024, 2.0), (3072, 1.0)];

#[cfg(test)]
pub(crate) mod fixtures {
    use super::*;

    pub(crate) fn choice(threads: u32) -> Choice {
        Choice {
            threads,
            threads_batch: threads,
            cpus: None,
            flash_attention: FlashAttention::Auto,
            kv_type_k: KvType::F16,
            kv_type_v: KvType::F16,
            batch: 512,
        }
    }

    /// A trial with the same speed at two depths: of prompts, of one answer, of four.
    pub(crate) fn trial(engine: Choice, prefill: f64, decode: f64, company: f64) -> Trial {
        let speeds = [(Phase::Prefill, 1, prefill), (Phase::Decode, 1, decode), (Phase::Decode, 4, company)];
        let measured = speeds.into_iter().flat_map(|(phase, sequences, tokens_per_second)| {
            [0, 1024].map(|depth| Measurement {
                part: Part { phase, depth, sequences },
                tokens_per_second,
                uncertainty: 0.0,
            })
        });
        Trial { engine, others_percent: 0, failure: None, measured: measured.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::fixtures::{choice, trial};
    use super::*;

    #[test]
    fn rounds_that_differ_are_uncertain() {
        let mut first = trial(choice(2), 400.0, 60.0, 100.0);
        first.measured[0].uncertainty = 0.2;
        let mut second = trial(choice(2), 400.0, 40.0, 100.0);
        second.others_percent = 30;
        second.measured.pop();
        first.merge(&second);
        let said: Vec<_> = first.measured.iter().map(|one| (one.tokens_per_second, one.uncertainty)).collect();
        assert_eq!(said, [(400.0, 0.2), (400.0, 0.0), (50.0, 0.2), (50.0, 0.2), (100.0, 0.0)]);
        assert_eq!((first.others_percent, first.failure.clone()), (30, None));
        let failed = Trial { failure: Some("no memory".into()), measured: Vec::new(), ..second };
        first.merge(&failed);
        assert_eq!((first.measured.len(), first.failure.as_deref()), (0, Some("no memory")));
    }

    #[test]
    fn digits_that_mean_nothing_are_dropped() {
        let mut one = trial(choice(2), 205.355_000_000_000_02, 0.004_9, 1.0);
        one.measured[0].uncertainty = 0.043_169_146;
        let speeds = one.rounded().measured;
        assert_eq!(
            (speeds[0].tokens_per_second, speeds[0].uncertainty, speeds[2].tokens_per_second),
            (205.36, 0.0432, 0.0)
        );
    }

    #[test]
    fn lines_are_read_as_they_are_written() {
        let part = Part { phase: Phase::Decode, depth: 1024, sequences: 8 };
        let line = Report::Measured(Measurement { part, tokens_per_second: 50.5, uncertainty: 0.01 });
        let text = serde_json::to_string(&line).unwrap();
        let expected =
            r#"{"measured":{"phase":"decode","depth":1024,"sequences":8,"tokens_per_second":50.5,"uncertainty":0.01}}"#;
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), line);
    }
}
