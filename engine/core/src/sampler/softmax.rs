//! Passes over the logits of a whole vocabulary (up to 260,000 of them, for every token of every request).
//!
//! They are written in fixed lanes so that the compiler turns them into vector instructions, and so that
//! sums are added up in one order on every CPU: the same logits give the same choice everywhere.

use super::SampleError;
use crate::request::TokenId;

/// Numbers worked on at once; a multiple of every CPU's vector width.
const LANES: usize = 16;

/// Logits summed up together. A search looks into one block only after the sums told which.
const BLOCK: usize = 256;

/// Exponents below this give no `f32` above zero worth counting.
const EXPONENT_MIN: f32 = -87.0;

/// How far below the highest a logit counts for the mean: further down it weighs nothing, and nothing times
/// infinity must stay nothing.
const DEPTH_MAX: f32 = 100.0;

/// The likeliest token (the lowest id of equal ones) and its logit.
///
/// # Errors
/// [`SampleError`] when a logit is no number, or none is above minus infinity.
pub(super) fn highest(logits: &[f32]) -> Result<(TokenId, f32), SampleError> {
    let (mut best_block, mut highest) = (0, f32::NEG_INFINITY);
    for (index, block) in logits.chunks(BLOCK).enumerate() {
        let block_highest = highest_of(block)?;
        if block_highest > highest {
            (best_block, highest) = (index, block_highest);
        }
    }
    if highest == f32::NEG_INFINITY {
        return Err(SampleError::AllBanned);
    }
    let start = best_block * BLOCK;
    let offset = logits[start..].iter().position(|logit| *logit == highest).expect("the block holds its highest");
    Ok((token(start + offset), highest))
}

fn highest_of(block: &[f32]) -> Result<f32, SampleError> {
    let mut highest = [f32::NEG_INFINITY; LANES];
    let mut unusable = [false; LANES];
    let (chunks, rest) = block.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            highest[lane] = if chunk[lane] > highest[lane] { chunk[lane] } else { highest[lane] };
            // Neither NaN nor plus infinity is less than infinity.
            unusable[lane] |= !is_usable(chunk[lane]);
        }
    }
    if unusable.contains(&true) || !rest.iter().copied().all(is_usable) {
        return Err(SampleError::NotANumber);
    }
    Ok(highest.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max))
}

fn is_usable(logit: f32) -> bool {
    logit < f32::INFINITY
}

/// How logits become weights: `exp((logit - highest) / temperature)`, 1 for the likeliest token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weights {
    highest: f32,
    scale: f32,
}

impl Weights {
    pub(super) fn new(highest: f32, temperature: f32) -> Self {
        // A temperature near zero must not make the likeliest token's exponent 0 * infinity.
        Self { highest, scale: (1.0 / temperature).min(f32::MAX) }
    }

    pub(super) fn of(self, logit: f32) -> f32 {
        exp(self.exponent(logit))
    }

    /// The logarithm of the weight.
    pub(super) fn exponent(self, logit: f32) -> f32 {
        (logit - self.highest) * self.scale
    }

    /// The sum of all weights.
    pub(super) fn total(self, logits: &[f32]) -> f64 {
        logits.chunks(BLOCK).map(|block| self.block(block)).sum()
    }

    fn block(self, block: &[f32]) -> f64 {
        let mut sums = [0.0f32; LANES];
        let (chunks, rest) = block.as_chunks::<LANES>();
        for chunk in chunks {
            for lane in 0..LANES {
                sums[lane] += self.of(chunk[lane]);
            }
        }
        sums.into_iter().chain(rest.iter().map(|logit| self.of(*logit))).map(f64::from).sum()
    }

    /// The sum of all weights, and by how much the mean logit under these weights is below the highest.
    pub(super) fn total_and_depth(self, logits: &[f32]) -> (f64, f64) {
        let (mut total, mut depths) = (0.0, 0.0);
        for block in logits.chunks(BLOCK) {
            let (mut sums, mut depth_sums) = ([0.0f32; LANES], [0.0f32; LANES]);
            let (chunks, rest) = block.as_chunks::<LANES>();
            for chunk in chunks {
                for lane in 0..LANES {
                    let weight = self.of(chunk[lane]);
                    sums[lane] += weight;
                    depth_sums[lane] += weight * (self.highest - chunk[lane]).min(DEPTH_MAX);
                }
            }
            for (lane, logit) in rest.iter().enumerate() {
                let weight = self.of(*logit);
                sums[lane] += weight;
                depth_sums[lane] += weight * (self.highest - logit).min(DEPTH_MAX);
            }
            total += sums.into_iter().map(f64::from).sum::<f64>();
            depths += depth_sums.into_iter().map(f64::from).sum::<f64>();
        }
        (total, depths / total)
    }

    /// Draws from all tokens with probability proportional to their weights; `unit` is in 0.0..1.0.
    pub(super) fn draw(self, logits: &[f32], unit: f64) -> TokenId {
        let sums: Vec<f64> = logits.chunks(BLOCK).map(|block| self.block(block)).collect();
        let mut wanted = unit * sums.iter().sum::<f64>();
        let mut chosen = 0;
        for (index, sum) in sums.iter().enumerate().filter(|(_, sum)| **sum > 0.0) {
            chosen = index;
            if *sum > wanted {
                break;
            }
            wanted -= sum;
        }
        let start = chosen * BLOCK;
        let block = logits[start..].iter().take(BLOCK).enumerate().map(|(offset, logit)| (offset, self.of(*logit)));
        let offset = draw_from(block, wanted).expect("the chosen block has a weight above zero");
        token(start + offset)
    }
}

/// The first item at which the sum of weights exceeds `wanted`. Where rounding leaves the sum a hair short,
/// it is the last item of any weight.
pub(super) fn draw_from<T>(weighted: impl Iterator<Item = (T, f32)>, wanted: f64) -> Option<T> {
    let mut sum = 0.0;
    let mut last = None;
    for (item, weight) in weighted.filter(|(_, weight)| *weight > 0.0) {
        sum += f64::from(weight);
        last = Some(item);
        if sum > wanted {
            break;
        }
    }
    last
}

/// `e^x` for `x <= 0`, to about one unit in the last place of an `f32`; 0 for NaN. Range reduction and
/// polynomial are those of `expf` in Moshier's Cephes library, without its branches.
#[allow(clippy::excessive_precision, reason = "the constants as published")]
#[inline]
fn exp(x: f32) -> f32 {
    /// Adding 1.5 * 2^23 rounds to a whole number, which then is in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_375;
    const LN_2_LOW: f32 = -2.121_944_40e-4;
    const COEFFICIENTS: [f32; 6] = [
        1.987_569_150_0e-4,
        1.398_199_950_7e-3,
        8.333_451_907_3e-3,
        4.166_579_589_4e-2,
        1.666_666_545_9e-1,
        5.000_000_120_1e-1,
    ];
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let whole = rounded - ROUND;
    let rest = x - whole * LN_2_HIGH - whole * LN_2_LOW;
    let polynomial = COEFFICIENTS.into_iter().fold(0.0, |sum, coefficient| sum * rest + coefficient);
    let power_of_two = f32::from_bits((rounded.to_bits() << 23).wrapping_add(1.0f32.to_bits()));
    let value = (polynomial * rest * rest + rest + 1.0) * power_of_two;
    if x >= EXPONENT_MIN { value } else { 0.0 }
}

#[allow(clippy::cast_possible_truncation, reason = "vocabularies are far below 2^32 tokens")]
fn token(index: usize) -> TokenId {
    TokenId(index as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_exponential_is_right_to_the_last_places() {
        for step in 0..8_700u16 {
            let x = -f32::from(step) / 100.0;
            let (seen, expected) = (f64::from(exp(x)), f64::from(x).exp());
            assert!(((seen - expected) / expected).abs() < 2e-7, "e^{x} is {expected} and not {seen}");
        }
        assert_eq!((exp(0.0), exp(-87.1), exp(f32::NEG_INFINITY), exp(f32::NAN)), (1.0, 0.0, 0.0, 0.0));
    }

    #[test]
    fn weights_survive_extreme_temperatures() {
        let at = |temperature| {
            let weights = Weights::new(2.0, temperature);
            [weights.of(2.0), weights.of(1.0), weights.of(f32::NEG_INFINITY)]
        };
        assert_eq!(at(1e-42), [1.0, 0.0, 0.0]);
        assert_eq!(at(f32::INFINITY), [1.0, 1.0, 0.0]);
    }

    proptest! {
        #[test]
        fn the_highest_is_what_a_plain_search_finds(
            logits in proptest::collection::vec(-3i8..3, 1..700), banned in 0usize..700,
        ) {
            let mut logits: Vec<f32> = logits.into_iter().map(f32::from).collect();
            for logit in logits.iter_mut().take(banned) {
                *logit = f32::NEG_INFINITY;
            }
            let mut plain: Result<(TokenId, f32), SampleError> = Err(SampleError::AllBanned);
            for (index, logit) in logits.iter().enumerate().filter(|(_, logit)| **logit > f32::NEG_INFINITY) {
                if plain.is_err() || plain.is_ok_and(|(_, highest)| *logit > highest) {
                    plain = Ok((token(index), *logit));
                }
            }
            prop_assert_eq!(highest(&logits), plain);
        }

        #[test]
        fn one_bad_logit_anywhere_is_noticed(length in 1usize..700, place in 0usize..700, infinite in any::<bool>()) {
            let mut logits = vec![0.0; length];
            logits[place % length] = if infinite { f32::INFINITY } else { f32::NAN };
            prop_assert_eq!(highest(&logits), Err(SampleError::NotANumber));
        }

        #[test]
        fn a_draw_is_where_a_plain_sum_puts_it(
            logits in proptest::collection::vec(-9.0f32..9.0, 1..700), temperature in 0.3f32..2.0, unit in 0.0f64..1.0,
        ) {
            let highest = logits.iter().copied().fold(f32::MIN, f32::max);
            let weights: Vec<f64> = logits.iter().map(|l| f64::from((l - highest) / temperature).exp()).collect();
            let total: f64 = weights.iter().sum();
            let drawn = Weights::new(highest, temperature).draw(&logits, unit).0 as usize;
            let before: f64 = weights[..drawn].iter().sum();
            prop_assert!(before / total < unit + 1e-5);
            prop_assert!((before + weights[drawn]) / total > unit - 1e-5);
        }
    }
}
