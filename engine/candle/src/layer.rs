//! One layer of the encoder, after Vaswani et al., "Attention Is All You Need" (2017), with the norm behind each half.

use std::sync::Arc;

use candle_core::Tensor;

use crate::config::{Config, Family};
use crate::error::LoadError;
use crate::ops::{Attention, Distances, Linear, Norm};
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

/// What the parts of a layer are called.
struct Names {
    layers: &'static str,
    qkv: [&'static str; 3],
    attended: &'static str,
    attended_norm: &'static str,
    wide: &'static str,
    narrow: &'static str,
    norm: &'static str,
}

impl Names {
    fn of(family: Family) -> Self {
        let bert = Self {
            layers: "encoder.layer",
            qkv: ["attention.self.query", "attention.self.key", "attention.self.value"],
            attended: "attention.output.dense",
            attended_norm: "attention.output.LayerNorm",
            wide: "intermediate.dense",
            narrow: "output.dense",
            norm: "output.LayerNorm",
        };
        match family {
            Family::Bert | Family::Roberta => bert,
            Family::Mpnet => Self {
                qkv: ["attention.attn.q", "attention.attn.k", "attention.attn.v"],
                attended: "attention.attn.o",
                attended_norm: "attention.LayerNorm",
                ..bert
            },
            Family::DistilBert => Self {
                layers: "transformer.layer",
                qkv: ["attention.q_lin", "attention.k_lin", "attention.v_lin"],
                attended: "attention.out_lin",
                attended_norm: "sa_layer_norm",
                wide: "ffn.lin1",
                narrow: "ffn.lin2",
                norm: "output_layer_norm",
            },
        }
    }
}

impl Layer {
    pub(crate) fn load(weights: &Weights, config: &Config, index: usize) -> Result<Self, LoadError> {
        let names = Names::of(config.family()?);
        let name = |part: &str| format!("{}.{index}.{part}", names.layers);
        let (hidden, wide, epsilon) = (config.hidden_size, config.intermediate_size, config.layer_norm_eps);
        let parts = names.qkv.map(name);
        Ok(Self {
            qkv: weights.linear(&parts.each_ref().map(String::as_str), (hidden, hidden), None)?,
            heads: config.num_attention_heads,
            attended: weights.linear(&[&name(names.attended)], (hidden, hidden), None)?,
            attended_norm: weights.norm(&name(names.attended_norm), hidden, epsilon)?,
            wide: weights.linear(&[&name(names.wide)], (hidden, wide), Some(config.activation()?))?,
            narrow: weights.linear(&[&name(names.narrow)], (wide, hidden), None)?,
            norm: weights.norm(&name(names.norm), hidden, epsilon)?,
        })
    }

    /// Rows of tokens to rows of tokens. `ends` are the ends of the sequences that lie one after the other.
    pub(crate) fn forward(
        &self,
        rows: &Tensor,
        ends: &Arc<[usize]>,
        distances: Option<&Arc<Distances>>,
    ) -> candle_core::Result<Tensor> {
        let qkv = rows.apply_op1_no_bwd(&self.qkv)?;
        let attention = Attention { heads: self.heads, ends: Arc::clone(ends), distances: distances.cloned() };
        let attended = qkv.apply_op1_no_bwd(&attention)?;
        let attended = attended.apply_op1_no_bwd(&self.attended)?;
        let rows = attended.apply_op2_no_bwd(rows, &self.attended_norm)?;
        let wide = rows.apply_op1_no_bwd(&self.wide)?;
        let narrow = wide.apply_op1_no_bwd(&self.narrow)?;
        narrow.apply_op2_no_bwd(&rows, &self.norm)
    }
}
