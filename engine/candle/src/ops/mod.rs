//! The operations that take the time, for candle's tensors: each does in one pass what single operations would do in
//! several, on all threads, with the widest instructions of the CPU.

mod activation;
mod attention;
mod distances;
mod linear;
mod norm;
mod tile;

pub(crate) use attention::Attention;
pub(crate) use distances::Distances;
pub(crate) use linear::Linear;
pub(crate) use norm::Norm;

use candle_core::{CpuStorage, Error, Layout, Result};

/// The numbers of a tensor that lie one after the other.
fn numbers<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let (begin, end) = layout.contiguous_offsets().ok_or_else(|| Error::Msg("a tensor is not contiguous".into()))?;
    Ok(&storage.as_slice::<f32>()?[begin..end])
}
