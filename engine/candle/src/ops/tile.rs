//! Matrix products of a few rows with a panel of columns, the innermost loop of everything here.
//!
//! A matrix of `depth` rows is cut into panels of as many columns as two of the CPU's registers hold; a panel's numbers
//! lie row by row. Six rows of the other matrix and two registers of columns make twelve sums, which stay in registers
//! and are enough to keep the CPU's multipliers busy.

use pulp::{Arch, Simd, WithSimd};

/// Rows computed together.
pub(crate) const ROWS: usize = 6;
/// Registers of columns in a panel.
const REGISTERS: usize = 2;
/// The columns of a panel on the widest CPU.
pub(crate) const COLUMNS_MAX: usize = 32;

/// Columns of a panel on this CPU.
pub(crate) fn columns() -> usize {
    struct Columns;
    impl WithSimd for Columns {
        type Output = usize;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> usize {
            REGISTERS * S::F32_LANES
        }
    }
    Arch::new().dispatch(Columns)
}

/// Packs `depth` rows of `count` columns each into panels; what is beyond the columns is zero. `at(row, column)` is a
/// number.
pub(crate) fn pack(
    panels: &mut Vec<f32>,
    (depth, count): (usize, usize),
    columns: usize,
    at: impl Fn(usize, usize) -> f32,
) {
    panels.clear();
    panels.resize(count.div_ceil(columns) * depth * columns, 0.0);
    for (index, panel) in panels.chunks_exact_mut(depth * columns).enumerate() {
        let first = index * columns;
        let width = columns.min(count - first);
        for (row, numbers) in panel.chunks_exact_mut(columns).enumerate() {
            for (column, number) in numbers[..width].iter_mut().enumerate() {
                *number = at(row, first + column);
            }
        }
    }
}

/// The product of up to [`ROWS`] rows, `stride` apart in `rows` and `depth` long, with a panel of `depth` rows: as
/// many rows of sums, one after the other at the beginning of `sums`.
#[inline(always)]
pub(crate) fn product<S: Simd>(simd: S, rows: (&[f32], usize, usize), depth: usize, panel: &[f32], sums: &mut [f32]) {
    let (numbers, stride, count) = rows;
    match count {
        1 => fixed::<S, 1>(simd, numbers, stride, depth, panel, sums),
        2 => fixed::<S, 2>(simd, numbers, stride, depth, panel, sums),
        3 => fixed::<S, 3>(simd, numbers, stride, depth, panel, sums),
        4 => fixed::<S, 4>(simd, numbers, stride, depth, panel, sums),
        5 => fixed::<S, 5>(simd, numbers, stride, depth, panel, sums),
        _ => fixed::<S, ROWS>(simd, numbers, stride, depth, panel, sums),
    }
}

#[inline(always)]
fn fixed<S: Simd, const COUNT: usize>(
    simd: S,
    numbers: &[f32],
    stride: usize,
    depth: usize,
    panel: &[f32],
    sums: &mut [f32],
) {
    let (panel, _) = S::as_simd_f32s(panel);
    let panel = &panel[..depth * REGISTERS];
    let rows: [&[f32]; COUNT] = std::array::from_fn(|row| &numbers[row * stride..][..depth]);
    let mut totals = [[simd.splat_f32s(0.0); REGISTERS]; COUNT];
    for (place, columns) in panel.chunks_exact(REGISTERS).enumerate() {
        for row in 0..COUNT {
            let factor = simd.splat_f32s(rows[row][place]);
            for register in 0..REGISTERS {
                totals[row][register] = simd.mul_add_f32s(factor, columns[register], totals[row][register]);
            }
        }
    }
    let (sums, _) = S::as_mut_simd_f32s(sums);
    for (sums, totals) in sums.chunks_exact_mut(REGISTERS).zip(totals) {
        sums.copy_from_slice(&totals);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Multiply<'a> {
        rows: &'a [f32],
        count: usize,
        depth: usize,
        panel: &'a [f32],
        sums: &'a mut [f32],
    }

    impl WithSimd for Multiply<'_> {
        type Output = ();
        fn with_simd<S: Simd>(self, simd: S) {
            product(simd, (self.rows, self.depth, self.count), self.depth, self.panel, self.sums);
        }
    }

    #[test]
    fn products_are_exact_for_whole_numbers() {
        let (columns, depth) = (columns(), 5);
        assert!(columns <= COLUMNS_MAX);
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let at = |row: usize, column: usize| (row * 3 + column) as f32 % 7.0;
        let mut panels = Vec::new();
        pack(&mut panels, (depth, columns + 3), columns, at);
        assert_eq!(panels.len(), 2 * depth * columns);
        for count in 1..=ROWS {
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let rows: Vec<f32> = (0..count * depth).map(|number| number as f32).collect();
            let mut sums = [9.0; ROWS * COLUMNS_MAX];
            let panel = &panels[depth * columns..];
            Arch::new().dispatch(Multiply { rows: &rows, count, depth, panel, sums: &mut sums });
            for row in 0..count {
                for column in 0..columns {
                    let inside = column < 3;
                    let sum: f32 = (0..depth).map(|k| rows[row * depth + k] * at(k, columns + column)).sum();
                    assert_eq!(sums[row * columns + column], if inside { sum } else { 0.0 });
                }
            }
        }
    }
}
