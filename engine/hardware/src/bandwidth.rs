//! How fast memory can be read, which bounds how fast answers come: each token takes all weights from memory once.

use std::hint::black_box;

use serde::{Deserialize, Serialize};

use crate::passes::median_pass;

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
    // Who writes memory first has it near.
    let part = || (0..words as u64).collect::<Vec<u64>>();
    let seconds = median_pass(readers, PASSES, part, |part| {
        black_box(black_box(part).iter().fold(0u64, |sum, word| sum.wrapping_add(*word)));
    });
    let read_bytes = (words * readers * size_of::<u64>()) as f64;
    // More digits mean nothing.
    let tenths = (read_bytes / seconds / 1e8).round();
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
