//! Attention of each sequence to itself, head by head: softmax(Q Kᵀ / √d) V. Every token sees all of its sequence.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Error, Layout, Result, Shape};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::distances::Distances;
use super::numbers;
use super::tile::{COLUMNS_MAX, ROWS, columns, pack, product};

/// Attention over sequences that lie one after the other.
pub(crate) struct Attention {
    pub(crate) heads: usize,
    /// Where each sequence ends, in rows.
    pub(crate) ends: Arc<[usize]>,
    /// What is added to the scores for how far two tokens are apart.
    pub(crate) distances: Option<Arc<Distances>>,
}

impl Attention {
    /// `rows` have queries, keys and values one after the other, each `width` numbers.
    fn apply(&self, rows: &[f32], width: usize) -> Vec<f32> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        let sequences: Vec<Range<usize>> = begins.zip(self.ends.iter()).map(|(begin, end)| begin..*end).collect();
        let mut all = vec![0.0; rows.len() / 3];
        let mut outs = Vec::with_capacity(sequences.len());
        let mut rest = all.as_mut_slice();
        for sequence in &sequences {
            let (out, later) = rest.split_at_mut(sequence.len() * width);
            outs.push(out);
            rest = later;
        }
        sequences.into_par_iter().zip(outs).for_each(|(sequence, out)| {
            let rows = &rows[sequence.start * 3 * width..sequence.end * 3 * width];
            self.sequence(rows, width, out);
        });
        all
    }

    /// One sequence: its heads are computed side by side, then put together.
    fn sequence(&self, rows: &[f32], width: usize, out: &mut [f32]) {
        let size = width / self.heads;
        let heads: Vec<Vec<f32>> = (0..self.heads)
            .into_par_iter()
            .map(|head| {
                let distances = self.distances.as_ref().map(|distances| distances.of(head));
                Arch::new().dispatch(Head { rows, width, size, first: head * size, distances })
            })
            .collect();
        for (place, row) in out.chunks_exact_mut(width).enumerate() {
            for (part, head) in row.chunks_exact_mut(size).zip(&heads) {
                part.copy_from_slice(&head[place * size..][..size]);
            }
        }
    }
}

/// One head of one sequence.
struct Head<'a> {
    rows: &'a [f32],
    width: usize,
    size: usize,
    /// Its first column among queries, keys and values.
    first: usize,
    /// What is added to its scores; the middle one where a token looks at itself.
    distances: Option<&'a [f32]>,
}

impl WithSimd for Head<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        let Self { rows, width, size, first, distances } = self;
        let (stride, columns) = (3 * width, columns());
        let length = rows.len() / stride;
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        pack(&mut keys, (size, length), columns, |place, token| rows[token * stride + width + first + place]);
        pack(&mut values, (length, size), columns, |token, place| rows[token * stride + 2 * width + first + place]);
        #[expect(clippy::cast_precision_loss, reason = "a head is small")]
        let scale = 1.0 / (size as f32).sqrt();
        let padded = length.next_multiple_of(columns);
        let mut scores = vec![0.0; ROWS * padded];
        let mut sums = [0.0; ROWS * COLUMNS_MAX];
        let mut out = vec![0.0; length * size];
        for (index, out) in out.chunks_mut(ROWS * size).enumerate() {
            let count = out.len() / size;
            let queries = &rows[index * ROWS * stride + first..];
            for (place, panel) in keys.chunks_exact(size * columns).enumerate() {
                product(simd, (queries, stride, count), size, panel, &mut sums);
                for (row, sums) in scores.chunks_exact_mut(padded).zip(sums.chunks_exact(columns)) {
                    row[place * columns..][..columns].copy_from_slice(sums);
                }
            }
            for (place, row) in scores.chunks_exact_mut(padded).take(count).enumerate() {
                if let Some(distances) = distances {
                    let own = distances.len() / 2 - (index * ROWS + place);
                    row.iter_mut().zip(&distances[own..][..length]).for_each(|(score, bias)| *score += bias);
                }
                softmax(&mut row[..length], scale);
            }
            for (place, panel) in values.chunks_exact(length * columns).enumerate() {
                product(simd, (&scores, padded, count), length, panel, &mut sums);
                let wide = columns.min(size - place * columns);
                for (row, sums) in out.chunks_exact_mut(size).zip(sums.chunks_exact(columns)) {
                    row[place * columns..][..wide].copy_from_slice(&sums[..wide]);
                }
            }
        }
        out
    }
}

/// Powers of e that sum to 1, of numbers that are scaled first.
#[inline(always)]
fn softmax(row: &mut [f32], scale: f32) {
    let most = row.iter().fold(f32::NEG_INFINITY, |most, number| if *number > most { *number } else { most });
    for number in &mut *row {
        *number = exp((*number - most) * scale);
    }
    let mut lanes = [0.0f32; 16];
    let chunks = row.chunks_exact(16);
    let rest: f32 = chunks.remainder().iter().sum();
    for chunk in chunks {
        for (lane, number) in lanes.iter_mut().zip(chunk) {
            *lane += number;
        }
    }
    let factor = 1.0 / (lanes.iter().sum::<f32>() + rest);
    row.iter_mut().for_each(|number| *number *= factor);
}

/// e to the power of a number of at most 0, to the last places of an `f32`, without a branch: 2 to a whole power, whose
/// bits are an exponent, times a polynomial (the coefficients of Cephes' `expf`).
#[inline(always)]
fn exp(x: f32) -> f32 {
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    const COEFFICIENTS: [f32; 6] = [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1];
    // Below, the result is as good as 0.
    let x = x.clamp(-87.0, 0.0);
    let whole = (x * std::f32::consts::LOG2_E).round_ties_even();
    let rest = x - whole * LN_2_HIGH - whole * LN_2_LOW;
    let polynomial = COEFFICIENTS.iter().fold(0.0, |sum, next| sum * rest + next);
    let fraction = polynomial * rest * rest + rest + 1.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "-126 to 0, and 127 more is positive")]
    let power = f32::from_bits(((whole as i32 + 127) as u32) << 23);
    fraction * power
}

impl CustomOp1 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (count, all) = layout.shape().dims2()?;
        let width = all / 3;
        if self.ends.last() != Some(&count) || all % (3 * self.heads) != 0 {
            return Err(Error::Msg("rows that are no sequences of these heads".into()));
        }
        Ok((CpuStorage::F32(self.apply(numbers(storage, layout)?, width)), (count, width).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{D, Device, Tensor};

    #[test]
    fn powers_of_e_are_right_to_the_last_places() {
        for step in 0..8700u16 {
            let x = -f32::from(step) / 100.0;
            let wanted = f64::from(x).exp();
            assert!((f64::from(exp(x)) - wanted).abs() <= wanted * 3e-7, "{x}: {} {wanted}", exp(x));
        }
        assert!(exp(-1e30) < 1e-37 && exp(f32::NEG_INFINITY) < 1e-37);
    }

    /// One head of one sequence by candle's own operations.
    fn plain(rows: &Tensor, size: usize, heads: usize, head: usize) -> Result<Tensor> {
        let part = |kind: usize| rows.narrow(1, (kind * heads + head) * size, size)?.contiguous();
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let scores = (part(0)?.matmul(&part(1)?.t()?)? / (size as f64).sqrt())?;
        let most = scores.max_keepdim(D::Minus1)?;
        let powers = scores.broadcast_sub(&most)?.exp()?;
        powers.broadcast_div(&powers.sum_keepdim(D::Minus1)?)?.matmul(&part(2)?)
    }

    #[test]
    fn it_is_what_candle_computes_for_each_sequence_alone() {
        let (heads, size) = (3, 20);
        let lengths = [1, 7, 33, 64, 100];
        let ends: Vec<usize> = lengths
            .iter()
            .scan(0, |end, length| {
                *end += length;
                Some(*end)
            })
            .collect();
        let count = *ends.last().unwrap();
        let rows = Tensor::randn(0f32, 1.0, (count, 3 * heads * size), &Device::Cpu).unwrap();
        let ours = rows.apply_op1_no_bwd(&Attention { heads, ends: ends.clone().into(), distances: None }).unwrap();
        for (end, length) in ends.iter().zip(lengths) {
            let own = rows.narrow(0, end - length, length).unwrap();
            for head in 0..heads {
                let wanted = plain(&own, size, heads, head).unwrap().to_vec2::<f32>().unwrap();
                let found = ours.narrow(0, end - length, length).unwrap().narrow(1, head * size, size).unwrap();
                for (wanted, found) in wanted.iter().flatten().zip(found.to_vec2::<f32>().unwrap().iter().flatten()) {
                    assert!((wanted - found).abs() < 1e-5, "length {length} head {head}: {wanted} {found}");
                }
            }
        }
    }
}
