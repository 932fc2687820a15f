//! How many threads compute: all, or one while other programs are at work. Threads wait for each other at every
//! operation, so one whose core another program has taken holds all up, and a single one is many times as fast.

use std::ffi::c_int;
use std::time::Duration;

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
    /// Whether one thread computes.
    alone: bool,
    /// The best time for a step of so many sequences with all threads, in seconds.
    best: [Option<f64>; SEQUENCES_MAX],
    /// Slow steps in a row.
    slow: u32,
    /// How long the last slow step took, to see whether one thread is better.
    crowded: f64,
    /// Computed on one thread since all were tried.
    since: Duration,
    retry: Duration,
}

impl Governor {
    /// Learns how long a step of one token for each of `sequences` took; whether one thread should compute the
    /// next one, when that is to change.
    pub(crate) fn note(&mut self, sequences: usize, took: Duration) -> Option<bool> {
        let best = self.best.get_mut(sequences.wrapping_sub(1))?;
        let seconds = took.as_secs_f64();
        let before = self.alone;
        if self.alone {
            self.since += took;
            if self.since >= self.retry || seconds > self.crowded {
                // One slow step is then enough to end the try.
                (self.alone, self.slow) = (false, SLOW_STEPS - 1);
            }
        } else {
            let known = best.map_or(seconds, |best| best * FORGET).min(seconds);
            *best = Some(known);
            if seconds <= known * SLOW {
                (self.slow, self.retry) = (0, Duration::ZERO);
            } else if self.slow + 1 < SLOW_STEPS {
                self.slow += 1;
            } else {
                self.retry = (self.retry * 2).clamp(RETRY_FIRST, RETRY_MAX);
                (self.alone, self.crowded, self.since) = (true, seconds, Duration::ZERO);
            }
        }
        (self.alone != before).then_some(self.alone)
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

    /// Steps of one sequence for so many seconds, with a core taken or not; the share of steps on one thread.
    fn run(governor: &mut Governor, seconds: f64, crowded: bool) -> f64 {
        let (mut left, mut steps, mut alone) = (seconds, 0, 0);
        while left > 0.0 {
            let took = match (governor.alone, crowded) {
                (true, _) => 0.02,
                (false, true) => 0.08,
                (false, false) => 0.01,
            };
            steps += 1;
            alone += i32::from(governor.alone);
            left -= took;
            governor.note(1, Duration::from_secs_f64(took));
        }
        f64::from(alone) / f64::from(steps)
    }

    #[test]
    fn one_thread_computes_while_a_core_is_taken_and_all_do_afterwards() {
        let mut governor = Governor::default();
        assert!(run(&mut governor, 3.0, false) < 0.001);
        assert!(run(&mut governor, 20.0, true) > 0.97);
        // The next try may be some seconds away.
        run(&mut governor, 8.1, false);
        assert!(run(&mut governor, 10.0, false) < 0.001);
    }

    #[test]
    fn what_grows_slowly_is_no_contention() {
        let mut governor = Governor::default();
        for step in 0..4000 {
            assert_eq!(governor.note(1, Duration::from_micros(5000 + 5 * step)), None);
        }
        assert_eq!(governor.note(SEQUENCES_MAX + 1, Duration::from_secs(9)), None);
        assert_eq!(governor.note(0, Duration::from_secs(9)), None);
    }

    #[test]
    fn where_one_thread_is_no_better_all_go_on() {
        let mut governor = Governor::default();
        governor.note(1, Duration::from_millis(10));
        for _ in 0..SLOW_STEPS - 1 {
            assert_eq!(governor.note(1, Duration::from_millis(30)), None);
        }
        assert_eq!(governor.note(1, Duration::from_millis(30)), Some(true));
        assert_eq!(governor.note(1, Duration::from_millis(31)), Some(false));
    }
}
