//! How fast memory can be read, which bounds how fast answers come: each token takes all weights from memory once.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use serde::{Deserialize, Serialize};

/// What is read in all, in bytes: many times what caches hold, and little beside a model.
pub const BANDWIDTH_BYTES: usize = 256 << 20;

/// How often it is read.
const PASSES: usize = 9;

/// How fast so many threads read memory.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bandwidth {
    /// Threads that read, each its own part.
    pub threads: u32,
    /// In units of 10^9 bytes; the median of several passes.
    pub gigabytes_per_second: f64,
}

/// Reads so many bytes of memory, divided among threads, several times. A pass ends when the last thread has read its
/// part, as a step of an engine does.
///
/// # Panics
/// When a thread cannot be started.
#[must_use]
pub fn bandwidth(threads: u32, bytes: usize) -> Bandwidth {
    let readers = threads.max(1) as usize;
    let words = (bytes / size_of::<u64>() / readers).max(1);
    let barrier = Barrier::new(readers + 1);
    let read = || {
        // Who writes memory first has it near.
        let part: Vec<u64> = (0..words as u64).collect();
        for _ in 0..PASSES {
            barrier.wait();
            black_box(black_box(&part).iter().fold(0u64, |sum, word| sum.wrapping_add(*word)));
            barrier.wait();
        }
    };
    let mut seconds: Vec<f64> = thread::scope(|scope| {
        (0..readers).for_each(|_| drop(scope.spawn(read)));
        let pass = |_| {
            barrier.wait();
            let begun = Instant::now();
            barrier.wait();
            begun.elapsed().as_secs_f64()
        };
        (0..PASSES).map(pass).collect()
    });
    seconds.sort_by(f64::total_cmp);
    let read_bytes = (words * readers * size_of::<u64>()) as f64;
    // More digits mean nothing.
    let tenths = (read_bytes / seconds[PASSES / 2] / 1e8).round();
    Bandwidth { threads, gigabytes_per_second: tenths / 10.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_neither_a_disk_nor_a_register() {
        for threads in [1, 2] {
            let measured = bandwidth(threads, 32 << 20);
            assert_eq!(measured.threads, threads);
            let speed = measured.gigabytes_per_second;
            assert!(speed > 0.05 && speed < 10_000.0, "{speed} GB/s");
        }
    }
}
