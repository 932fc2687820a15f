//! Adapters: small matrices that are added to those of a model (Hu et al., "LoRA: Low-Rank Adaptation of Large Language
//! Models", 2021), in GGUF as llama.cpp's `convert_lora_to_gguf.py` writes them.
//!
//! llama.cpp ends its process over some things that do not fit, while it loads or only when it computes. So all that it
//! takes for granted is looked at here, in the headers of both files.

use crate::gguf::{Header, Tensor, Value};

/// What the names of the two factors of a matrix end with: the one that is applied first, and the other.
const FIRST: &str = ".lora_a";
const SECOND: &str = ".lora_b";
/// The table that tokens are looked up in; its factors stand the other way round.
const TOKEN_TABLE: &str = "token_embd.weight";
/// ggml's kinds of numbers that factors may be of: F32, F16, Q8_0, BF16.
const KINDS: [u32; 4] = [0, 1, 8, 30];
/// How strong it is, where the file says so.
const ALPHA: &str = "adapter.lora.alpha";
/// Names the text after which an adapter is to be used.
const INVOCATION: &str = "adapter.alora.invocation_tokens";

/// Why a file is no adapter for a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// Another kind of adapter.
    #[error("it is an adapter of the kind `{0}`; LoRA adapters can be used")]
    Kind(String),
    /// For models of another architecture.
    #[error("it is for models of the architecture {adapter}, and this model is of {model}")]
    Architecture {
        /// That of the adapter.
        adapter: String,
        /// That of the model.
        model: String,
    },
    /// One of its matrices.
    #[error("{what}: {name}")]
    Tensor {
        /// Which one.
        name: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// It changes nothing.
    #[error("there is nothing in it")]
    Empty,
    /// How strong it is cannot be read.
    #[error("how strong it is ({ALPHA}) is no number of 32 bits")]
    Alpha,
}

/// Whether a file says that it is an adapter.
#[must_use]
pub fn is_adapter(header: &Header) -> bool {
    header.text("general.type") == Some("adapter")
}

/// Whether an adapter can be used with a model.
///
/// # Errors
/// [`Misfit`] saying what does not fit.
pub fn fits(adapter: &Header, model: &Header) -> Result<(), Misfit> {
    let kind = adapter.text("adapter.type").unwrap_or_default();
    if !is_adapter(adapter) || kind != "lora" {
        return Err(Misfit::Kind(kind.to_owned()));
    }
    if adapter.value(INVOCATION).is_some() {
        return Err(Misfit::Kind("activated LoRA".to_owned()));
    }
    if adapter.architecture() != model.architecture() || adapter.architecture().is_empty() {
        let (adapter, model) = (adapter.architecture().to_owned(), model.architecture().to_owned());
        return Err(Misfit::Architecture { adapter, model });
    }
    match adapter.value(ALPHA) {
        None => {}
        Some(Value::Float(alpha)) if alpha.is_finite() => {}
        Some(_) => return Err(Misfit::Alpha),
    }
    let tensors = &adapter.weights().tensors;
    if tensors.is_empty() {
        return Err(Misfit::Empty);
    }
    tensors.keys().try_for_each(|name| tensor_fits(name, adapter, model))
}

/// Whether a factor has its other one, and both suit the matrix that they are for.
fn tensor_fits(name: &str, adapter: &Header, model: &Header) -> Result<(), Misfit> {
    let wrong = |what| Misfit::Tensor { name: name.to_owned(), what };
    let matrix = name.strip_suffix(FIRST).or_else(|| name.strip_suffix(SECOND));
    let matrix = matrix.ok_or_else(|| wrong("it changes more than matrices, which is not supported"))?;
    let factor = |end: &str| adapter.weights().tensors.get(&format!("{matrix}{end}"));
    let (Some(first), Some(second)) = (factor(FIRST), factor(SECOND)) else {
        return Err(wrong("one of two factors is missing"));
    };
    if !KINDS.contains(&first.kind) || !KINDS.contains(&second.kind) {
        return Err(wrong("its numbers are of a kind that is not used for adapters"));
    }
    let whole = model.weights().tensors.get(matrix).filter(|whole| whole.lengths[1] > 1);
    let whole = whole.ok_or_else(|| wrong("the model has no such matrix"))?;
    // The table would score with the factors, too, which stand the wrong way round for that.
    if matrix == TOKEN_TABLE && !model.weights().has_output {
        return Err(wrong("the model scores tokens by the same table, which cannot be changed"));
    }
    if product_fits(matrix, first, second, whole) { Ok(()) } else { Err(wrong("the model's matrix has another size")) }
}

/// Whether the product of the factors is as large as the matrix. A row of the first is as long as one of the matrix.
fn product_fits(matrix: &str, first: &Tensor, second: &Tensor, whole: &Tensor) -> bool {
    let ([inner, rank, deep @ ..], [rank_too, outer, deep_too @ ..]) = (first.lengths, second.lengths);
    let [length, rows, wanted @ ..] = whole.lengths;
    let sides = if matrix == TOKEN_TABLE {
        (outer, rank) == (length, rows) && inner == rank_too
    } else {
        (inner, outer) == (length, rows) && rank == rank_too
    };
    // The scale is divided by the rank, which the factors share.
    let shared = if matrix == TOKEN_TABLE { inner } else { rank };
    sides && shared > 0 && deep == wanted && deep_too == wanted
}

#[cfg(test)]
mod tests;
