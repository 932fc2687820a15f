//! A linear map with its bias and the function after it. The weights are packed once, when the model is loaded.

use candle_core::{CpuStorage, CustomOp1, Error, Layout, Result, Shape};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::tile::{COLUMNS_MAX, ROWS, columns, pack, product};
use super::{activation, numbers};
use crate::config::Activation;

/// The most rows that one thread computes at a time: they and a panel of weights fit its cache.
const ROWS_A_TASK: usize = 8 * ROWS;

/// A linear map.
pub(crate) struct Linear {
    panels: Vec<f32>,
    bias: Vec<f32>,
    inputs: usize,
    columns: usize,
    activation: Option<Activation>,
}

impl Linear {
    /// `weight` has a row of `inputs` numbers for each output.
    pub(crate) fn new(weight: &[f32], bias: &[f32], inputs: usize, activation: Option<Activation>) -> Self {
        let columns = columns();
        let mut panels = Vec::new();
        pack(&mut panels, (inputs, bias.len()), columns, |input, output| weight[output * inputs + input]);
        Self { panels, bias: bias.to_vec(), inputs, columns, activation }
    }

    /// Many rows are shared among the threads; of few rows each thread computes some columns, so that each weight is
    /// read once.
    fn apply(&self, rows: &[f32]) -> Vec<f32> {
        let (count, outputs) = (rows.len() / self.inputs, self.bias.len());
        let mut all = vec![0.0; count * outputs];
        let panels = outputs.div_ceil(self.columns);
        let threads = rayon::current_num_threads();
        if count >= threads * ROWS_A_TASK || threads == 1 {
            // As many tasks for each thread: one more would have the others wait.
            let tasks = count.div_ceil(threads * ROWS_A_TASK) * threads;
            let size = count.div_ceil(tasks).next_multiple_of(ROWS);
            all.par_chunks_mut(size * outputs)
                .zip(rows.par_chunks(size * self.inputs))
                .for_each(|(out, rows)| Arch::new().dispatch(Part { linear: self, rows, panels: (0, panels), out }));
            return all;
        }
        let parts = panels.min(threads);
        let computed: Vec<_> = (0..parts)
            .into_par_iter()
            .map(|part| {
                let panels = (part * panels / parts, (part + 1) * panels / parts);
                let width = (panels.1 * self.columns).min(outputs) - panels.0 * self.columns;
                let mut out = vec![0.0; count * width];
                Arch::new().dispatch(Part { linear: self, rows, panels, out: &mut out });
                (panels.0 * self.columns, width, out)
            })
            .collect();
        for (first, width, part) in computed {
            for (row, part) in all.chunks_exact_mut(outputs).zip(part.chunks_exact(width)) {
                row[first..first + width].copy_from_slice(part);
            }
        }
        all
    }
}

/// Some rows and some panels, and where the result goes: rows of as many numbers as these panels have outputs.
struct Part<'a> {
    linear: &'a Linear,
    rows: &'a [f32],
    panels: (usize, usize),
    out: &'a mut [f32],
}

impl WithSimd for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Linear { panels, bias, inputs, columns, activation } = self.linear;
        let (inputs, columns) = (*inputs, *columns);
        let begin = self.panels.0 * columns;
        let width = (self.panels.1 * columns).min(bias.len()) - begin;
        let mut sums = [0.0; ROWS * COLUMNS_MAX];
        for (index, panel) in panels.chunks_exact(inputs * columns).enumerate().take(self.panels.1).skip(self.panels.0)
        {
            let first = index * columns - begin;
            let wide = columns.min(width - first);
            let bias = &bias[index * columns..][..wide];
            for (rows, out) in self.rows.chunks(ROWS * inputs).zip(self.out.chunks_mut(ROWS * width)) {
                let count = rows.len() / inputs;
                product(simd, (rows, inputs, count), inputs, panel, &mut sums);
                for (row, sums) in out.chunks_exact_mut(width).zip(sums.chunks_exact(columns)) {
                    let row = &mut row[first..first + wide];
                    row.copy_from_slice(&sums[..wide]);
                    activation::finish(row, bias, *activation);
                }
            }
        }
    }
}

impl CustomOp1 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (count, inputs) = layout.shape().dims2()?;
        if inputs != self.inputs {
            return Err(Error::Msg(format!("rows of {inputs} instead of {}", self.inputs)));
        }
        let all = self.apply(numbers(storage, layout)?);
        Ok((CpuStorage::F32(all), (count, self.bias.len()).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Tensor};

    #[test]
    fn it_is_what_candle_computes_whatever_the_sizes() {
        for (count, inputs, outputs) in [(1, 7, 3), (5, 64, 33), (13, 96, 200), (301, 40, 65)] {
            let device = Device::Cpu;
            let rows = Tensor::randn(0f32, 1.0, (count, inputs), &device).unwrap();
            let weight = Tensor::randn(0f32, 1.0, (outputs, inputs), &device).unwrap();
            let bias = Tensor::randn(0f32, 1.0, outputs, &device).unwrap();
            let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let linear = Linear::new(&flat(&weight), &flat(&bias), inputs, Some(Activation::Gelu));
            let ours = flat(&rows.apply_op1_no_bwd(&linear).unwrap());
            let theirs = rows.matmul(&weight.t().unwrap()).unwrap().broadcast_add(&bias).unwrap().gelu_erf().unwrap();
            for (ours, theirs) in ours.iter().zip(flat(&theirs)) {
                assert!((ours - theirs).abs() < 1e-4, "{count} {inputs} {outputs}: {ours} {theirs}");
            }
            // A row does not depend on the others.
            let last = rows.narrow(0, count - 1, 1).unwrap().contiguous().unwrap();
            let alone = flat(&last.apply_op1_no_bwd(&linear).unwrap());
            assert_eq!(alone, ours[(count - 1) * outputs..]);
        }
    }
}
