//! How long the parts of a request take, seen where its answer is told.

use std::time::{Duration, Instant};

use allerac_wire::CompletionUsage;
use allerac_wire::ollama::Durations;

use crate::progress::Progress;

/// The times of one request.
#[derive(Debug)]
pub(super) struct Stopwatch {
    accepted: Instant,
    load_time: Duration,
    /// When the engine was asked to begin.
    asked: Option<Instant>,
    /// When the first of the answer came.
    answered: Option<Instant>,
}

impl Stopwatch {
    pub(super) fn new(accepted: Instant) -> Self {
        Self { accepted, load_time: Duration::ZERO, asked: None, answered: None }
    }

    /// Notes when a step happened.
    pub(super) fn note(&mut self, progress: &Progress, now: Instant) {
        match progress {
            Progress::Started(begun) => {
                self.load_time = begun.load_time;
                self.asked = Some(begun.asked);
            }
            Progress::Chunk { .. } => self.answered = self.answered.or(Some(now)),
            _ => {}
        }
    }

    /// All of it, when the request has just ended. The prompt's time ends with the first of the answer, and has in it
    /// what the request waited for others.
    pub(super) fn durations(&self, usage: &CompletionUsage, now: Instant) -> Durations {
        let asked = self.asked.unwrap_or(self.accepted);
        let answered = self.answered.unwrap_or(now);
        Durations {
            total_duration: nanoseconds(now - self.accepted),
            load_duration: nanoseconds(self.load_time),
            prompt_eval_count: usage.prompt_tokens,
            prompt_eval_duration: nanoseconds(answered - asked),
            eval_count: usage.completion_tokens,
            eval_duration: nanoseconds(now - answered),
        }
    }
}

pub(super) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Begun;

    #[test]
    fn each_part_has_its_time() {
        let accepted = Instant::now();
        let after = |ms| accepted + Duration::from_millis(ms);
        let mut watch = Stopwatch::new(accepted);
        let begun = Begun { prompt_tokens: 7, cached_tokens: 0, load_time: Duration::from_millis(2), asked: after(3) };
        watch.note(&Progress::Started(begun), after(9));
        for ms in [10, 20] {
            watch.note(&Progress::Chunk { index: 0, pieces: Vec::new(), logprobs: Vec::new() }, after(ms));
        }
        let expected = Durations {
            total_duration: 30_000_000,
            load_duration: 2_000_000,
            prompt_eval_count: 7,
            prompt_eval_duration: 7_000_000,
            eval_count: 5,
            eval_duration: 20_000_000,
        };
        assert_eq!(watch.durations(&CompletionUsage::new(7, 0, 5), after(30)), expected);
    }
}
