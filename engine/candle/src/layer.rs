//! One layer of the encoder, after Vaswani et al., "Attention Is All You Need" (2017), with the norm behind each half.

use std::sync::Arc;

use candle_core::Tensor;

use crate::config::Config;
use crate::error::LoadError;
use crate::ops::{Attention, Linear, Norm};
use crate::weights::Weights;

pub(crate) struct Layer {
    /// Query, key and value in one.
    qkv: Linear,
    heads: usize,
    attended: Linear,
    attended_norm: Norm,
    wide: Linear,
    narrow: Linear,
    norm: Norm,
}

impl Layer {
    pub(crate) fn load(weights: &Weights, config: &Config, index: usize) -> Result<Self, LoadError> {
        let name = |part: &str| format!("encoder.layer.{index}.{part}");
        let (hidden, wide, epsilon) = (config.hidden_size, config.intermediate_size, config.layer_norm_eps);
        let parts = ["query", "key", "value"].map(|part| name(&format!("attention.self.{part}")));
        Ok(Self {
            qkv: weights.linear(&parts.each_ref().map(String::as_str), (hidden, hidden), None)?,
            heads: config.num_attention_heads,
            attended: weights.linear(&[&name("attention.output.dense")], (hidden, hidden), None)?,
            attended_norm: weights.norm(&name("attention.output.LayerNorm"), hidden, epsilon)?,
            wide: weights.linear(&[&name("intermediate.dense")], (hidden, wide), Some(config.activation()?))?,
            narrow: weights.linear(&[&name("output.dense")], (wide, hidden), None)?,
            norm: weights.norm(&name("output.LayerNorm"), hidden, epsilon)?,
        })
    }

    /// Rows of tokens to rows of tokens. `ends` are the ends of the sequences that lie one after the other.
    pub(crate) fn forward(&self, rows: &Tensor, ends: &Arc<[usize]>) -> candle_core::Result<Tensor> {
        let qkv = rows.apply_op1_no_bwd(&self.qkv)?;
        let attended = qkv.apply_op1_no_bwd(&Attention { heads: self.heads, ends: Arc::clone(ends) })?;
        let attended = attended.apply_op1_no_bwd(&self.attended)?;
        let rows = attended.apply_op2_no_bwd(rows, &self.attended_norm)?;
        let wide = rows.apply_op1_no_bwd(&self.wide)?;
        let narrow = wide.apply_op1_no_bwd(&self.narrow)?;
        narrow.apply_op2_no_bwd(&rows, &self.norm)
    }
}
