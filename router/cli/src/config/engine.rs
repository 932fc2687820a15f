use std::collections::BTreeMap;
use std::path::PathBuf;

use allerac_engine_link::{CpuSet, EngineSettings, FlashAttention, GpuMode, KvType};
use serde::Deserialize;

use super::load::Bounded;
use crate::tuned::Configured;

/// `[engine]`: which program, which model, and what differs from the hardware profile.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct EngineSection {
    /// The program `allerac-engine`.
    pub(crate) binary: Option<PathBuf>,
    /// The model that is loaded at the start.
    pub(crate) default_model: Option<String>,
    threads: Option<Bounded<0, 1024>>,
    threads_batch: Option<Bounded<0, 1024>>,
    cpus: Option<CpuSet>,
    context: Option<Bounded<256, 1_048_576>>,
    sequences: Option<Bounded<1, 256>>,
    cells: Option<Bounded<256, 16_777_216>>,
    batch: Option<Bounded<1, 8192>>,
    chunk_ms: Option<Bounded<1, 60_000>>,
    speculate: Option<bool>,
    /// Smaller models that guess what larger ones say, by the id of the larger one.
    drafts: BTreeMap<String, String>,
    queue: Option<Bounded<0, 4096>>,
    kv_memory_mib: Option<Bounded<0, 1_048_576>>,
    kv_disk_mib: Option<Bounded<0, 16_777_216>>,
    /// System prompts that are common to all: what the box knows of them is shared between people.
    pub(crate) common_prompts: Vec<String>,
    flash_attention: Option<FlashAttention>,
    kv_type_k: Option<KvType>,
    kv_type_v: Option<KvType>,
    gpu: Option<GpuMode>,
    gpu_layers: Option<Bounded<1, 1024>>,
    sandbox: Option<bool>,
}

impl EngineSection {
    /// The profile's models that guess, with what the file says instead. An empty id is none.
    pub(crate) fn drafts_over(&self, profile: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut drafts = profile.clone();
        drafts.extend(self.drafts.clone());
        drafts.retain(|_, draft| !draft.is_empty());
        drafts
    }

    /// Which of the settings that can be measured the file has.
    pub(crate) fn configured(&self) -> Configured {
        Configured {
            threads: self.threads.is_some() || self.threads_batch.is_some() || self.cpus.is_some(),
            attention: self.flash_attention.is_some() || self.kv_type_k.is_some() || self.kv_type_v.is_some(),
            batch: self.batch.is_some(),
        }
    }

    /// The profile's settings with what the file says instead.
    pub(crate) fn over(&self, profile: &EngineSettings) -> EngineSettings {
        EngineSettings {
            threads: self.threads.map_or(profile.threads, Bounded::get),
            threads_batch: self.threads_batch.map_or(profile.threads_batch, Bounded::get),
            cpus: self.cpus.clone().or_else(|| profile.cpus.clone()),
            context: self.context.map_or(profile.context, Bounded::get),
            sequences: self.sequences.map_or(profile.sequences, Bounded::get),
            cells: self.cells.map_or(profile.cells, Bounded::get),
            batch: self.batch.map_or(profile.batch, Bounded::get),
            chunk_ms: self.chunk_ms.map_or(profile.chunk_ms, Bounded::get),
            speculate: self.speculate.unwrap_or(profile.speculate),
            queue: self.queue.map_or(profile.queue, Bounded::get),
            kv_memory_mib: self.kv_memory_mib.map_or(profile.kv_memory_mib, Bounded::get),
            kv_disk_mib: self.kv_disk_mib.map_or(profile.kv_disk_mib, Bounded::get),
            flash_attention: self.flash_attention.unwrap_or(profile.flash_attention),
            kv_type_k: self.kv_type_k.unwrap_or(profile.kv_type_k),
            kv_type_v: self.kv_type_v.unwrap_or(profile.kv_type_v),
            gpu: self.gpu.unwrap_or(profile.gpu),
            gpu_layers: self.gpu_layers.map(Bounded::get).or(profile.gpu_layers),
            sandbox: self.sandbox.unwrap_or(profile.sandbox),
        }
    }
}
