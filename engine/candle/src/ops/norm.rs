//! The sum of two matrices, each row then brought to mean 0 and variance 1 (Ba et al., "Layer Normalization", 2016),
//! scaled and shifted.

use candle_core::{CpuStorage, CustomOp2, Error, Layout, Result, Shape};
use pulp::Arch;
use rayon::prelude::*;

use super::numbers;

/// Rows that a thread takes at a time.
const ROWS_A_TASK: usize = 32;
/// Partial sums, so that they are computed side by side.
const LANES: usize = 16;

/// The scale and shift of a norm.
pub(crate) struct Norm {
    scale: Vec<f32>,
    shift: Vec<f32>,
    epsilon: f32,
}

impl Norm {
    pub(crate) fn new(scale: Vec<f32>, shift: Vec<f32>, epsilon: f32) -> Self {
        Self { scale, shift, epsilon }
    }

    fn apply(&self, one: &[f32], other: &[f32]) -> Vec<f32> {
        let size = ROWS_A_TASK * self.scale.len();
        let mut all = vec![0.0; one.len()];
        let tasks = all.par_chunks_mut(size).zip(one.par_chunks(size)).zip(other.par_chunks(size));
        tasks.for_each(|((out, one), other)| Arch::new().dispatch(|| self.rows(out, one, other)));
        all
    }

    #[inline(always)]
    fn rows(&self, out: &mut [f32], one: &[f32], other: &[f32]) {
        let size = self.scale.len();
        let pairs = one.chunks_exact(size).zip(other.chunks_exact(size));
        for (out, (one, other)) in out.chunks_exact_mut(size).zip(pairs) {
            for ((sum, one), other) in out.iter_mut().zip(one).zip(other) {
                *sum = one + other;
            }
            self.row(out);
        }
    }

    #[inline(always)]
    fn row(&self, row: &mut [f32]) {
        #[expect(clippy::cast_precision_loss, reason = "a width is small")]
        let size = row.len() as f32;
        let mean = sum(row, |number| number) / size;
        let variance = sum(row, |number| (number - mean) * (number - mean)) / size;
        let factor = 1.0 / (variance + self.epsilon).sqrt();
        for ((number, scale), shift) in row.iter_mut().zip(&self.scale).zip(&self.shift) {
            *number = (*number - mean) * factor * scale + shift;
        }
    }
}

#[inline(always)]
fn sum(row: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest: f32 = chunks.remainder().iter().copied().map(&of).sum();
    for chunk in chunks {
        for (lane, number) in lanes.iter_mut().zip(chunk) {
            *lane += of(*number);
        }
    }
    lanes.iter().sum::<f32>() + rest
}

impl CustomOp2 for Norm {
    fn name(&self) -> &'static str {
        "norm"
    }

    fn cpu_fwd(&self, one: &CpuStorage, l1: &Layout, other: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        if l1.dims() != l2.dims() || l1.shape().dims2()?.1 != self.scale.len() {
            return Err(Error::Msg("rows of another size".into()));
        }
        Ok((CpuStorage::F32(self.apply(numbers(one, l1)?, numbers(other, l2)?)), l1.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_mean_0_and_variance_1_before_scale_and_shift() {
        let norm = Norm::new(vec![2.0; 18], vec![1.0; 18], 1e-12);
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let one: Vec<f32> = (0..36).map(|number| number as f32).collect();
        let out = norm.apply(&one, &[0.5; 36]);
        // Of 0 to 17 the variance is (18 * 18 - 1) / 12.
        let deviation = (323.0f32 / 12.0).sqrt();
        for (place, number) in out.iter().enumerate() {
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let wanted = ((place % 18) as f32 - 8.5) / deviation * 2.0 + 1.0;
            assert!((number - wanted).abs() < 1e-5, "{place}: {number} {wanted}");
        }
    }
}
