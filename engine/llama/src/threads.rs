//! How many threads compute: all, or one while other programs are at work. Threads wait for each other at every
//! operation, so one whose core another program has taken holds all up, and a single one is many times as fast. That is
//! so in small steps; a piece of a prompt is computed by all in any case, which even then costs hardly more (200 beside
//! 220 tokens a second where both were measured, and 430 beside 225 with the cores free).

use std::ffi::c_int;
use std::time::{Duration, Instant};

/// A step this much slower than the best of its kind says that a core is taken.
const SLOW: f64 = 1.6;
/// How many slow steps in a row are believed.
const SLOW_STEPS: u32 = 3;
/// How fast the best step of a kind is forgotten: steps become slower as sequences grow.
const FORGET: f64 = 1.002;
/// How long to compute on one thread before all are tried again, at first and at most.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(8);
/// Sequences in a step that are told apart.
const SEQUENCES_MAX: usize = 16;

/// Decides from the duration of steps.
#[derive(Debug, Default)]
pub(crate) struct Governor {
    /// While one thread computes: when all are tried again.
    alone_until: Option<Instant>,
    /// The best time for a step of so many sequences with all threads, in seconds.
    best: [Option<f64>; SEQUENCES_MAX],
    /// Slow steps in a row.
    slow: u32,
    /// How long the last slow step took, to see whether one thread is better.
    crowded: f64,
    retry: Duration,
}

impl Governor {
    /// Whether one thread should compute a small step that begins now.
    pub(crate) fn is_alone(&mut self, now: Instant) -> bool {
        if self.alone_until.is_some_and(|until| now >= until) {
            self.try_all();
        }
        self.alone_until.is_some()
    }

    /// Learns how long a step of one token for each of `sequences` took that has ended now.
    pub(crate) fn note(&mut self, sequences: usize, took: Duration, now: Instant) {
        let Some(best) = self.best.get_mut(sequences.wrapping_sub(1)) else { return };
        let seconds = took.as_secs_f64();
        if self.alone_until.is_some() {
            if seconds > self.crowded {
                self.try_all();
            }
            return;
        }
        let known = best.map_or(seconds, |best| best * FORGET).min(seconds);
        *best = Some(known);
        if seconds <= known * SLOW {
            (self.slow, self.retry) = (0, Duration::ZERO);
        } else if self.slow + 1 < SLOW_STEPS {
            self.slow += 1;
        } else {
            self.retry = (self.retry * 2).clamp(RETRY_FIRST, RETRY_MAX);
            (self.alone_until, self.crowded) = (Some(now + self.retry), seconds);
        }
    }

    /// Lets all compute. One slow step is then enough to end the try.
    fn try_all(&mut self) {
        (self.alone_until, self.slow) = (None, SLOW_STEPS - 1);
    }
}

unsafe extern "C" {
    /// Of OpenMP, which ggml computes with: how deep parallel regions may be nested; 0 makes none parallel.
    safe fn omp_set_max_active_levels(levels: c_int);
}

/// Lets one thread compute from now on, or all again. For the thread that calls it.
pub(crate) fn compute_alone(alone: bool) {
    omp_set_max_active_levels(c_int::from(!alone));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A governor, and the time.
    struct Machine {
        governor: Governor,
        now: Instant,
    }

    impl Machine {
        fn new() -> Self {
            Self { governor: Governor::default(), now: Instant::now() }
        }

        /// A step of one sequence, of so many milliseconds; whether one thread computed it.
        fn step(&mut self, millis: impl Fn(bool) -> u64) -> bool {
            let alone = self.governor.is_alone(self.now);
            let took = Duration::from_millis(millis(alone));
            self.now += took;
            self.governor.note(1, took, self.now);
            alone
        }

        /// Steps for so many seconds, with a core taken or not; the share of those on one thread.
        fn run(&mut self, seconds: u64, crowded: bool) -> f64 {
            let (end, mut steps, mut alone) = (self.now + Duration::from_secs(seconds), 0, 0);
            while self.now < end {
                steps += 1;
                alone += i32::from(self.step(|alone| match (alone, crowded) {
                    (true, _) => 20,
                    (false, true) => 80,
                    (false, false) => 10,
                }));
            }
            f64::from(alone) / f64::from(steps)
        }
    }

    #[test]
    fn one_thread_computes_while_a_core_is_taken_and_all_do_afterwards() {
        let mut machine = Machine::new();
        assert!(machine.run(3, false) < 0.001);
        assert!(machine.run(20, true) > 0.97);
        // The next try may be some seconds away.
        machine.run(9, false);
        assert!(machine.run(10, false) < 0.001);
    }

    #[test]
    fn time_without_small_steps_counts_too() {
        let mut machine = Machine::new();
        machine.run(1, false);
        machine.run(1, true);
        assert!(machine.step(|_| 10));
        machine.now += RETRY_MAX;
        assert!(!machine.step(|_| 10));
        assert!(!machine.step(|_| 10));
    }

    #[test]
    fn what_grows_slowly_is_no_contention() {
        let mut machine = Machine::new();
        for step in 0..4000 {
            assert!(!machine.step(|_| 500 + step / 2));
        }
        machine.governor.note(SEQUENCES_MAX + 1, Duration::from_secs(9), machine.now);
        machine.governor.note(0, Duration::from_secs(9), machine.now);
        assert!(!machine.step(|_| 2500));
    }

    #[test]
    fn where_one_thread_is_no_better_all_go_on() {
        let mut machine = Machine::new();
        machine.step(|_| 10);
        for _ in 0..SLOW_STEPS {
            assert!(!machine.step(|_| 30));
        }
        assert!(machine.step(|_| 31));
        assert!(!machine.step(|_| 10));
    }
}
