//! How fast this machine multiplies and adds small whole numbers, which bounds how fast prompts are computed: each token of a
//! prompt takes one multiplication and one addition for each of a model's weights.

use std::hint::black_box;

use crate::passes::median_pass;

/// Numbers of each operand: they stay in the nearest cache.
const NUMBERS: usize = 4096;
/// How often they are multiplied in one pass: some milliseconds.
const REPEATS: usize = 20_000;
/// Passes; the median counts.
const PASSES: usize = 5;

/// How many multiplications, each with its addition, so many threads do in a second, in units of 10^9.
///
/// # Panics
/// When a thread cannot be started.
#[must_use]
pub fn compute(threads: u32) -> f64 {
    measured(threads, REPEATS)
}

fn measured(threads: u32, repeats: usize) -> f64 {
    let workers = threads.max(1) as usize;
    let operands = || {
        let a: Vec<i8> = (0..=126).cycle().take(NUMBERS).collect();
        let b: Vec<i8> = (-30..=30).cycle().take(NUMBERS).collect();
        (a, b)
    };
    let seconds = median_pass(workers, PASSES, operands, |(a, b)| {
        for _ in 0..repeats {
            black_box(dot(black_box(a), black_box(b)));
        }
    });
    (NUMBERS * repeats * workers) as f64 / seconds / 1e9
}

/// A check for overflow at each step, as this program has them, would have the compiler take one number at a time.
fn dot(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).map(|(a, b)| i32::from(*a).wrapping_mul(i32::from(*b))).fold(0, i32::wrapping_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_multiplies() {
        let speed = measured(2, 500);
        // One number at a time would be one or two: then what is predicted of prompts is wrong by as much.
        assert!(speed > 4.0 && speed < 100_000.0, "{speed}");
        assert_eq!(dot(&[1, -2, 127], &[3, 4, -128]), 3 - 8 - 16_256);
    }
}
