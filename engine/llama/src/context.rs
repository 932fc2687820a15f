//! A context: the KV cache of several sequences, and the step that computes a batch.

use std::num::NonZeroU32;

use allerac_engine_core::{Backend, BackendError, BatchToken, Limits, TokenId};
use llama_cpp_2::DecodeError;
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::token::LlamaToken;

use crate::model::{LoadError, Model};

/// Sizes of a context.
#[derive(Debug, Clone, Copy)]
pub struct ContextParams {
    /// Longest single sequence, in tokens.
    pub context: u32,
    /// KV cells shared by all sequences.
    pub cells: u32,
    /// Sequences at once.
    pub sequences: u32,
    /// Tokens in one step.
    pub batch: u32,
    /// Threads that compute one token a sequence.
    pub threads: u32,
    /// Threads that compute prompts.
    pub threads_batch: u32,
    /// When to use flash attention.
    pub flash_attention: FlashAttention,
}

/// When to use flash attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlashAttention {
    /// llama.cpp decides.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// One context over a model.
pub struct Context {
    model: &'static Model,
    inner: LlamaContext<'static>,
    batch: LlamaBatch<'static>,
    limits: Limits,
}

impl Context {
    /// Makes a context.
    ///
    /// # Errors
    /// [`LoadError::Context`] when there is not enough memory for it.
    pub fn new(model: &'static Model, params: ContextParams) -> Result<Self, LoadError> {
        let threads = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
        let flash_attention = match params.flash_attention {
            FlashAttention::Auto => llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_AUTO,
            FlashAttention::On => llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_ENABLED,
            FlashAttention::Off => llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_DISABLED,
        };
        let inner = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(params.cells))
            .with_n_seq_max(params.sequences)
            .with_n_batch(params.batch)
            .with_n_ubatch(params.batch)
            .with_n_threads(threads(params.threads))
            .with_n_threads_batch(threads(params.threads_batch))
            .with_kv_unified(true)
            .with_flash_attention_policy(flash_attention)
            .with_no_perf(true);
        let inner =
            model.inner.new_context(&model.backend, inner).map_err(|_| LoadError::Context { cells: params.cells })?;
        let limits = Limits {
            cells: inner.n_ctx(),
            context: params.context.min(inner.n_ctx()).min(model.trained_context()),
            sequences: params.sequences,
            batch: params.batch,
            vocabulary: model.vocabulary(),
        };
        Ok(Self { model, inner, batch: LlamaBatch::new(params.batch as usize, 1), limits })
    }
}

impl Backend for Context {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn decode(&mut self, batch: &[BatchToken]) -> Result<(), BackendError> {
        self.batch.clear();
        for token in batch {
            let id = LlamaToken(signed(token.token.0));
            self.batch
                .add(id, signed(token.position), &[signed(token.sequence)], token.wants_logits)
                .expect("the scheduler keeps to the batch size");
        }
        self.inner.decode(&mut self.batch).map_err(|error| match error {
            DecodeError::NoKvCacheSlot => BackendError::CacheFull,
            DecodeError::NTokensZero => BackendError::Failed(-1),
            DecodeError::Unknown(code) => BackendError::Failed(code),
        })
    }

    fn logits(&self, index: usize) -> &[f32] {
        self.inner.get_logits_ith(i32::try_from(index).expect("a batch index fits an i32"))
    }

    fn clear(&mut self, sequence: u32) {
        let cleared = self.inner.clear_kv_cache_seq(Some(sequence), None, None);
        assert_eq!(cleared, Ok(true), "llama.cpp can always clear a whole sequence");
    }

    fn truncate(&mut self, sequence: u32, from: u32) -> bool {
        self.inner.clear_kv_cache_seq(Some(sequence), Some(from), None) == Ok(true)
    }

    fn token_bytes(&self, token: TokenId) -> Vec<u8> {
        self.model.piece(token).to_vec()
    }

    fn is_end(&self, token: TokenId) -> bool {
        self.model.ends(token)
    }
}

fn signed(number: u32) -> i32 {
    i32::try_from(number).expect("llama.cpp's numbers are below 2^31")
}
