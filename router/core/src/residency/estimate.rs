//! How much memory a model will take, before it is loaded: from the header of its file and the settings of engines.

use allerac_engine_link::{EngineSettings, FlashAttention, KvType};
use allerac_models::{ModelKind, Shape};

use super::terms::Need;
use crate::model::LocalModel;

/// What an engine process takes besides: its program, the vocabulary in several forms, compiled grammars. Measured.
const PROCESS_BYTES: u64 = 96 << 20;
/// How many times an encoder has its weights: as they are in the file, and packed for its matrix products.
const ENCODER_COPIES: u64 = 2;
/// llama.cpp rounds the cells of a sequence up to a multiple of this.
const CELLS_STEP: u64 = 256;
/// Numbers that share a scale in quantised formats; a head is a whole number of them.
const BLOCK: u64 = 32;
/// Bytes of a number while it is computed with.
const F32: u64 = 4;

/// The memory of a model with these settings.
pub(crate) fn need(model: &LocalModel, settings: &EngineSettings) -> Need {
    let shape = || model.header.as_ref().and_then(|header| header.shape()).unwrap_or_default();
    if model.kind != ModelKind::Chat && model.parts.is_empty() {
        return Need { mapped: model.size_bytes, own: encoder_bytes(&shape(), settings).saturating_add(PROCESS_BYTES) };
    }
    if model.kind != ModelKind::Chat {
        return Need { mapped: model.size_bytes, own: model.size_bytes * (ENCODER_COPIES - 1) + PROCESS_BYTES };
    }
    let archive = u64::from(settings.kv_memory_mib) << 20;
    let mapped = model.size_bytes + model.draft_bytes;
    // A file that cannot be read is tried all the same: the engine says best what is wrong with it.
    let shape = shape();
    let own = [kv_bytes(&shape, settings), compute_bytes(&shape, settings), archive, PROCESS_BYTES];
    Need { mapped, own: own.into_iter().fold(0, u64::saturating_add) }
}

/// Cells that the context has, as `engine/llama` makes it.
fn cells(shape: &Shape, settings: &EngineSettings) -> u64 {
    let context = u64::from(settings.context).min(shape.context);
    let sequences = u64::from(settings.sequences.max(1));
    let all = u64::from(settings.cells);
    if context.saturating_mul(sequences) <= all { context.next_multiple_of(CELLS_STEP) * sequences } else { all }
}

fn kv_bytes(shape: &Shape, settings: &EngineSettings) -> u64 {
    let bytes = |numbers: u64, kv_type: KvType| numbers.saturating_mul(block_bytes(kv_type)) / BLOCK;
    let cell = bytes(shape.keys, settings.kv_type_k).saturating_add(bytes(shape.values, settings.kv_type_v));
    cell.saturating_mul(cells(shape, settings))
}

/// What an encoder computes with: the longest text in one step, and keys and values of those that need them.
fn encoder_bytes(shape: &Shape, settings: &EngineSettings) -> u64 {
    let tokens = u64::from(settings.context).min(shape.context).max(settings.batch.into());
    let layer = shape.embedding.saturating_mul(6).saturating_add(shape.feed_forward.saturating_mul(2));
    let scores = match settings.flash_attention {
        FlashAttention::Off => shape.heads.saturating_mul(tokens),
        FlashAttention::Auto | FlashAttention::On => 0,
    };
    let kv = shape.keys.saturating_add(shape.values) / 2;
    tokens.saturating_mul(layer.saturating_add(scores).saturating_add(kv)).saturating_mul(F32)
}

/// What a step computes with: the widest of its parts, and the scores of all tokens of the vocabulary.
fn compute_bytes(shape: &Shape, settings: &EngineSettings) -> u64 {
    let batch = u64::from(settings.batch.max(settings.sequences));
    let layer = shape.embedding.saturating_mul(6).saturating_add(shape.feed_forward.saturating_mul(2));
    let scores = match settings.flash_attention {
        FlashAttention::Off => shape.heads.saturating_mul(u64::from(settings.context).min(shape.context)),
        FlashAttention::Auto | FlashAttention::On => 0,
    };
    let numbers = layer.saturating_add(scores).max(shape.vocabulary);
    batch.saturating_mul(numbers).saturating_mul(F32)
}

/// Bytes of [`BLOCK`] numbers, as ggml's formats have them.
fn block_bytes(kv_type: KvType) -> u64 {
    match kv_type {
        KvType::F32 => 128,
        KvType::F16 | KvType::Bf16 => 64,
        KvType::Q8_0 => 34,
        KvType::Q5_1 => 24,
        KvType::Q5_0 => 22,
        KvType::Q4_1 => 20,
        KvType::Q4_0 | KvType::Iq4Nl => 18,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape {
        keys: 30 * 3 * 64,
        values: 30 * 3 * 64,
        heads: 9,
        embedding: 576,
        feed_forward: 1536,
        vocabulary: 49_152,
        context: 8192,
    };

    #[test]
    fn cells_are_those_that_the_engine_makes() {
        let settings = EngineSettings { context: 4096, sequences: 8, cells: 32_768, ..EngineSettings::default() };
        assert_eq!(cells(&SHAPE, &settings), 32_768);
        let shared = EngineSettings { cells: 20_000, ..settings.clone() };
        assert_eq!(cells(&SHAPE, &shared), 20_000);
        let short = Shape { context: 1000, ..SHAPE };
        assert_eq!(cells(&short, &settings), 8 * 1024);
    }

    #[test]
    fn kv_is_what_its_numbers_take() {
        let settings = EngineSettings { context: 4096, sequences: 8, cells: 32_768, ..EngineSettings::default() };
        // 30 layers of 3 heads of 64 numbers, keys and values, of 2 bytes each.
        assert_eq!(kv_bytes(&SHAPE, &settings), 30 * 3 * 64 * 2 * 2 * 32_768);
        let small = EngineSettings { kv_type_k: KvType::Q8_0, kv_type_v: KvType::Q4_0, ..settings };
        assert_eq!(kv_bytes(&SHAPE, &small), 30 * 3 * 64 / 32 * (34 + 18) * 32_768);
        assert_eq!(compute_bytes(&SHAPE, &small), 512 * 49_152 * 4);
    }
}
