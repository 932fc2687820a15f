//! How much memory a model will take, before it is loaded: from the header of its file and the settings of engines.

use allerac_engine_link::{EngineSettings, FlashAttention, KvType};
use allerac_models::fit::{Facts, Plan};
use allerac_models::{ModelKind, Shape};

use super::terms::Need;
use crate::model::LocalModel;

/// What an engine of an encoder takes besides: its program, the vocabulary in several forms. Measured.
const PROCESS_BYTES: u64 = 96 << 20;
/// How many times an encoder has its weights: as they are in the file, and packed for its matrix products.
const ENCODER_COPIES: u64 = 2;
/// Bytes of a number while it is computed with.
const F32: u64 = 4;

/// The memory of a model with these settings.
pub(crate) fn need(model: &LocalModel, settings: &EngineSettings) -> Need {
    let shape = || model.header.as_ref().and_then(|header| header.shape()).unwrap_or_default();
    if model.kind != ModelKind::Chat && model.parts.is_empty() {
        return Need {
            mapped: model.weights_bytes,
            own: encoder_bytes(&shape(), settings).saturating_add(PROCESS_BYTES),
        };
    }
    if model.kind != ModelKind::Chat {
        return Need { mapped: model.weights_bytes, own: model.weights_bytes * (ENCODER_COPIES - 1) + PROCESS_BYTES };
    }
    let archive = u64::from(settings.kv_memory_mib) << 20;
    // A file that cannot be read is tried all the same: the engine says best what is wrong with it.
    let header = model.header.as_ref();
    let facts = header.and_then(|header| Facts::of_header(header, model.weights_bytes));
    let facts = facts.unwrap_or(Facts { file_bytes: model.weights_bytes, ..Facts::default() });
    let needed = facts.needed(&plan(settings));
    let mapped = needed.mapped.saturating_sub(needed.weights).saturating_add(model.draft_bytes);
    // Adapters are read, not mapped.
    Need { mapped, own: needed.own().saturating_add(archive).saturating_add(model.adapters_bytes) }
}

/// An engine's settings, as an estimate looks at them.
#[must_use]
pub fn plan(settings: &EngineSettings) -> Plan {
    Plan {
        context: settings.context.into(),
        sequences: settings.sequences.into(),
        cells: settings.cells.into(),
        batch: settings.batch.into(),
        key_block_bytes: block_bytes(settings.kv_type_k),
        value_block_bytes: block_bytes(settings.kv_type_v),
        without_flash: settings.flash_attention == FlashAttention::Off,
    }
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

/// Bytes of 32 numbers, as ggml's formats have them.
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
    use crate::model::test_model;

    #[test]
    fn settings_become_a_plan() {
        let settings = EngineSettings { kv_type_k: KvType::Q8_0, kv_type_v: KvType::Q4_0, ..EngineSettings::default() };
        let plan = plan(&settings);
        assert_eq!((plan.key_block_bytes, plan.value_block_bytes, plan.without_flash), (34, 18, false));
        assert!(super::plan(&EngineSettings { flash_attention: FlashAttention::Off, ..settings }).without_flash);
    }

    #[test]
    fn what_is_set_aside_for_known_prompts_is_needed_too() {
        let model = test_model("m", 1);
        let with = |kv_memory_mib| need(&model, &EngineSettings { kv_memory_mib, ..EngineSettings::default() }).own;
        assert_eq!(with(100) - with(0), 100 << 20);
    }
}
