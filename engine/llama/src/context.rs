//! A context: the KV cache of several sequences, and the step that computes a batch.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use allerac_engine_core::{
    AdapterId, Attention, Backend, BackendError, BatchToken, Draft, FlashAttention, KvType, Limits, TokenId,
};
use llama_cpp_2::DecodeError;
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::{KvCacheType, LlamaContextParams};
use llama_cpp_2::context::session::LlamaStateSeqFlags;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::token::LlamaToken;

use crate::adapter::Adapters;
use crate::draft::DraftModel;
use crate::model::{LoadError, Model};
use crate::threads::{Governor, compute_alone};

/// Sizes of a context.
#[derive(Debug, Clone, Copy)]
pub struct ContextParams {
    /// Longest single sequence, in tokens.
    pub context: u32,
    /// KV cells in all. Where they suffice for every sequence at its longest, each sequence has its own;
    /// else all share one pool.
    pub cells: u32,
    /// Sequences at once.
    pub sequences: u32,
    /// Tokens in one step.
    pub batch: u32,
    /// Threads that compute one token a sequence.
    pub threads: u32,
    /// Threads that compute prompts.
    pub threads_batch: u32,
    /// Whether to compute on one thread while other programs have taken cores.
    pub sheds_threads: bool,
    /// How to attend, and in which numbers to keep keys and values.
    pub attention: Attention,
}

/// Prompt pieces from this length on take the tiled flash attention kernel, which adds up in f32; shorter
/// ones and decoding take another, which adds up in f16 (`GGML_FA_TILE_Q` in ggml's CPU backend).
const PIECE_MIN: u32 = 64;

/// Tokens from which on copying a sequence's own cells is cheaper than computing: the copy moves all its
/// cells, whatever is in them (4096 cells of a 135M model take as long as computing about 20 tokens, those
/// of an 8B model as long as a few).
const COPY_MIN: u32 = 32;

/// The version of llama.cpp and its crate, as in Cargo.toml.
const LLAMA_CPP: &str = "llama-cpp-2 0.1.160";

/// llama.cpp rounds the cells of a sequence up to a multiple of this.
const CELLS_STEP: u32 = 256;

/// One context over a model.
///
/// Sequences have cells of their own where memory allows. Then attention looks at a sequence's own tokens
/// only, so that decoding is no slower for all that is remembered of ended requests (by a fifth at 11,000
/// tokens in one pool), and a request's numbers are the same wherever it is put and in whatever company.
/// The price is that only sequences with neighbouring numbers are computed together.
pub struct Context {
    model: &'static Model,
    inner: LlamaContext<'static>,
    batch: LlamaBatch<'static>,
    limits: Limits,
    /// `None` where all threads compute, come what may.
    governor: Option<Governor>,
    attention: Attention,
    draft_model: Option<DraftModel>,
    adapters: Adapters,
    /// The one that the next batch is computed with.
    adapter: AdapterId,
}

impl Context {
    /// Makes a context.
    ///
    /// # Errors
    /// [`LoadError::Context`] when there is not enough memory for it, [`LoadError::KvType`] when its numbers do
    /// not suit the model.
    pub fn new(model: &'static Model, params: ContextParams) -> Result<Self, LoadError> {
        let threads = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
        let attention = params.attention;
        model.check_kv_types(attention)?;
        let sequences = params.sequences.max(1);
        let context = params.context.min(model.trained_context());
        let own_cells = context.saturating_mul(sequences) <= params.cells;
        let cells = if own_cells { context.next_multiple_of(CELLS_STEP) * sequences } else { params.cells };
        let inner = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(cells))
            .with_n_seq_max(sequences)
            .with_n_batch(params.batch)
            .with_n_ubatch(params.batch)
            .with_n_threads(threads(params.threads))
            .with_n_threads_batch(threads(params.threads_batch))
            .with_kv_unified(!own_cells)
            .with_flash_attention_policy(flash_policy(attention.flash))
            .with_type_k(kv_cache_type(attention.kv_type_k))
            .with_type_v(kv_cache_type(attention.kv_type_v))
            .with_no_perf(true);
        let inner = model.inner.new_context(model.backend, inner).map_err(|_| LoadError::Context { cells })?;
        // A recurrent state is that of a whole sequence and cannot be had for its beginning.
        let copies = !model.inner.is_recurrent() && !model.inner.is_hybrid();
        let limits = Limits {
            cells: inner.n_ctx(),
            context: context.min(inner.n_ctx()),
            sequences,
            batch: params.batch,
            vocabulary: model.vocabulary(),
            copy_min: copies.then_some(if own_cells { COPY_MIN } else { 1 }),
            drafts: copies,
            neighbours: own_cells,
            piece_min: PIECE_MIN,
        };
        let batch = LlamaBatch::new(params.batch as usize, 1);
        let governor = params.sheds_threads.then(Governor::default);
        let (draft_model, adapters, adapter) = (None, Adapters::default(), AdapterId::NONE);
        Ok(Self { model, inner, batch, limits, governor, attention, draft_model, adapters, adapter })
    }

    /// Lets a smaller model guess what follows.
    #[must_use]
    pub fn with_draft_model(self, draft_model: Option<DraftModel>) -> Self {
        Self { draft_model, ..self }
    }

    /// Lets batches be computed with adapters of its model.
    #[must_use]
    pub fn with_adapters(self, adapters: Adapters) -> Self {
        Self { adapters, ..self }
    }

    /// What decides whether KV of this context means anything in another one.
    #[must_use]
    pub fn kv_kind(&self) -> String {
        // The order of V in memory depends on flash attention; both programs are pinned in Cargo.toml.
        format!("{LLAMA_CPP}, {}", self.attention)
    }

    /// Lets one thread compute a small step while others have taken cores.
    fn govern(&mut self, batch: &[BatchToken], now: Instant) {
        if let Some(governor) = &mut self.governor {
            compute_alone(batch.len() < PIECE_MIN as usize && governor.is_alone(now));
        }
    }

    /// Learns from a step that decoded.
    fn learn(&mut self, batch: &[BatchToken], begun: Instant, ended: Instant) {
        let is_decoding = batch.iter().all(|token| token.wants_logits)
            && batch.windows(2).all(|pair| pair[0].sequence != pair[1].sequence);
        if let Some(governor) = self.governor.as_mut().filter(|_| is_decoding) {
            governor.note(batch.len(), ended - begun, ended);
        }
    }
}

impl Backend for Context {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn decode(&mut self, batch: &[BatchToken], adapter: AdapterId) -> Result<Duration, BackendError> {
        let begun = Instant::now();
        let has_changed = adapter != self.adapter;
        if has_changed {
            self.adapters.set(adapter, &mut self.inner)?;
            self.adapter = adapter;
        }
        self.govern(batch, begun);
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
        })?;
        let ended = Instant::now();
        // After a change llama.cpp plans anew, which says nothing of how busy the machine is.
        if !has_changed {
            self.learn(batch, begun, ended);
        }
        Ok(ended - begun)
    }

    fn has_adapter(&self, adapter: AdapterId) -> bool {
        self.adapters.has(adapter)
    }

    fn logits(&self, index: usize) -> &[f32] {
        self.inner.get_logits_ith(i32::try_from(index).expect("a batch index fits an i32"))
    }

    fn clear(&mut self, sequence: u32) {
        let cleared = self.inner.clear_kv_cache_seq(Some(sequence), None, None);
        assert_eq!(cleared, Ok(true), "llama.cpp can always clear a whole sequence");
        // Its next owner must not see by the speed of guesses what this one asked.
        if let Some(draft_model) = &mut self.draft_model {
            draft_model.clear(sequence);
        }
    }

    fn truncate(&mut self, sequence: u32, from: u32) -> bool {
        self.inner.clear_kv_cache_seq(Some(sequence), Some(from), None) == Ok(true)
    }

    fn copy(&mut self, from: u32, to: u32, length: u32) {
        // From one sequence's own cells to another's only everything can be copied.
        let range = if self.limits.neighbours { (None, None) } else { (Some(0), Some(length)) };
        self.inner
            .copy_kv_cache_seq(signed(from), signed(to), range.0, range.1)
            .expect("positions are within the context");
        let cut = self.truncate(to, length);
        assert!(cut, "sequences that can be copied can be cut");
    }

    fn save(&self, sequence: u32) -> Option<Vec<u8>> {
        let (sequence, flags) = (signed(sequence), LlamaStateSeqFlags::empty());
        let bytes = self.inner.state_seq_get_size_ext(sequence, flags);
        let mut state: Vec<u8> = Vec::with_capacity(bytes);
        // SAFETY: llama.cpp writes what it said it would, into memory of that size, and says how much it wrote.
        unsafe {
            let written = self.inner.state_seq_get_data_ext(state.as_mut_ptr(), sequence, flags);
            assert!(written <= bytes, "llama.cpp wrote more than it said");
            state.set_len(written);
        }
        (!state.is_empty()).then_some(state)
    }

    fn restore(&mut self, sequence: u32, state: &[u8]) -> bool {
        let (id, flags) = (signed(sequence), LlamaStateSeqFlags::empty());
        // SAFETY: the archive gives back only what `save` returned for the same model, version and kind of KV: what it
        // reads from disk was sealed by us and is unchanged. llama.cpp checks all sizes in it besides.
        let is_restored = unsafe { self.inner.state_seq_set_data_ext(state, id, flags) };
        if !is_restored {
            self.clear(sequence);
        }
        is_restored
    }

    fn token_bytes(&self, token: TokenId) -> Vec<u8> {
        self.model.piece(token).to_vec()
    }

    fn token_text(&self, token: TokenId) -> Vec<u8> {
        self.model.text_of(token).to_vec()
    }

    fn is_end(&self, token: TokenId) -> bool {
        self.model.ends(token)
    }

    fn draft_backlog(&mut self, sequence: u32, tokens: &[TokenId]) -> Option<u32> {
        self.draft_model.as_mut()?.backlog(sequence, tokens)
    }

    fn draft(&mut self, sequence: u32, tokens: &[TokenId], length: u32, room: u32) -> Draft {
        let model = self.draft_model.as_mut();
        model.map(|model| model.draft(sequence, tokens, length, room)).unwrap_or_default()
    }
}

pub(crate) fn flash_policy(flash: FlashAttention) -> llama_cpp_sys_2::llama_flash_attn_type {
    match flash {
        FlashAttention::Auto => llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_AUTO,
        FlashAttention::On => llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_ENABLED,
        FlashAttention::Off => llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_DISABLED,
    }
}

fn kv_cache_type(kv_type: KvType) -> KvCacheType {
    match kv_type {
        KvType::F32 => KvCacheType::F32,
        KvType::F16 => KvCacheType::F16,
        KvType::Bf16 => KvCacheType::BF16,
        KvType::Q8_0 => KvCacheType::Q8_0,
        KvType::Q5_1 => KvCacheType::Q5_1,
        KvType::Q5_0 => KvCacheType::Q5_0,
        KvType::Q4_1 => KvCacheType::Q4_1,
        KvType::Q4_0 => KvCacheType::Q4_0,
        KvType::Iq4Nl => KvCacheType::IQ4_NL,
    }
}

pub(crate) fn signed(number: u32) -> i32 {
    i32::try_from(number).expect("llama.cpp's numbers are below 2^31")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_version_is_the_one_that_is_built() {
        let (name, version) = super::LLAMA_CPP.split_once(' ').expect("a name and a version");
        let lock = include_str!("../../../Cargo.lock");
        assert!(lock.contains(&format!("name = \"{name}\"\nversion = \"{version}\"\n")));
    }
}
