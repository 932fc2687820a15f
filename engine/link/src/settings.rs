//! What an engine process is told on its command line.

use allerac_engine_core::{Attention, AttentionError, FlashAttention, KvType};
use allerac_hardware::CpuSet;
use serde::{Deserialize, Serialize};

/// Sizes and switches of one engine process. A profile gives them; the configuration file may override
/// single ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EngineSettings {
    /// Threads that compute one token a sequence; 0 means one per physical core.
    pub threads: u32,
    /// Threads that compute prompts; 0 means as `threads`.
    pub threads_batch: u32,
    /// The processors to run on; `None` means all.
    pub cpus: Option<CpuSet>,
    /// Longest prompt and output together, in tokens.
    pub context: u32,
    /// Requests that decode together.
    pub sequences: u32,
    /// KV cells shared by all sequences, in tokens.
    pub cells: u32,
    /// Tokens computed in one step.
    pub batch: u32,
    /// How long the prompts in one step may take while others generate, in milliseconds.
    pub chunk_ms: u32,
    /// Whether to guess what follows from what came before, where that is measured to pay.
    pub speculate: bool,
    /// Requests that may wait.
    pub queue: u32,
    /// Memory for KV that has no place in the context, in MiB.
    pub kv_memory_mib: u32,
    /// The same on disk; 0 keeps nothing there.
    pub kv_disk_mib: u32,
    /// When to use flash attention.
    pub flash_attention: FlashAttention,
    /// The numbers in which keys are kept.
    pub kv_type_k: KvType,
    /// The numbers in which values are kept.
    pub kv_type_v: KvType,
    /// Whether a graphics processor may compute.
    pub gpu: GpuMode,
    /// Layers that it is to hold; as many as fit where nobody says.
    pub gpu_layers: Option<u32>,
    /// Whether the process confines itself. Switched off only to debug.
    pub sandbox: bool,
}

/// Whether a graphics processor may compute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GpuMode {
    /// When there is one with memory of its own.
    #[default]
    Auto,
    /// Also one that shares memory with the processor, where there is no other.
    On,
    /// Never.
    Off,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            threads: 0,
            threads_batch: 0,
            cpus: None,
            context: 4096,
            sequences: 8,
            cells: 32_768,
            batch: 512,
            chunk_ms: 100,
            speculate: true,
            queue: 64,
            kv_memory_mib: 512,
            kv_disk_mib: 4096,
            flash_attention: FlashAttention::Auto,
            kv_type_k: KvType::F16,
            kv_type_v: KvType::F16,
            gpu: GpuMode::Auto,
            gpu_layers: None,
            sandbox: true,
        }
    }
}

impl EngineSettings {
    /// How contexts attend.
    ///
    /// # Errors
    /// [`AttentionError`] when the settings do not go together.
    pub fn attention(&self) -> Result<Attention, AttentionError> {
        Attention { flash: self.flash_attention, kv_type_k: self.kv_type_k, kv_type_v: self.kv_type_v }.check()
    }

    /// The arguments of `allerac-engine` that say this, but for the graphics processor: what that holds is another thing
    /// for each model ([`Offload`](crate::Offload)).
    #[must_use]
    pub fn to_args(&self) -> Vec<String> {
        let mut args = Vec::new();
        let numbers = [
            ("--threads", self.threads),
            ("--threads-batch", self.threads_batch),
            ("--context", self.context),
            ("--sequences", self.sequences),
            ("--cells", self.cells),
            ("--batch", self.batch),
            ("--chunk-ms", self.chunk_ms),
            ("--queue", self.queue),
            ("--kv-memory-mib", self.kv_memory_mib),
            ("--kv-disk-mib", self.kv_disk_mib),
        ];
        for (flag, number) in numbers {
            args.extend([flag.to_owned(), number.to_string()]);
        }
        let words = [
            ("--flash-attention", self.flash_attention.as_str()),
            ("--kv-type-k", self.kv_type_k.as_str()),
            ("--kv-type-v", self.kv_type_v.as_str()),
        ];
        for (flag, word) in words {
            args.extend([flag.to_owned(), word.to_owned()]);
        }
        if let Some(cpus) = &self.cpus {
            args.extend(["--cpus".to_owned(), cpus.to_string()]);
        }
        if !self.speculate {
            args.push("--no-speculation".to_owned());
        }
        if !self.sandbox {
            args.push("--no-sandbox".to_owned());
        }
        args
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_say_everything_once() {
        let settings = EngineSettings {
            cpus: Some("0-3,6".parse().unwrap()),
            flash_attention: FlashAttention::On,
            kv_type_k: KvType::Q8_0,
            kv_type_v: KvType::Q5_1,
            ..EngineSettings::default()
        };
        let args = settings.to_args();
        let value = |flag: &str| {
            let places: Vec<usize> = (0..args.len()).filter(|place| args[*place] == flag).collect();
            assert_eq!(places.len(), 1, "{flag} in {args:?}");
            args[places[0] + 1].as_str()
        };
        assert_eq!(value("--cpus"), "0-3,6");
        assert!(!EngineSettings::default().to_args().contains(&"--cpus".to_owned()));
        assert_eq!((value("--flash-attention"), value("--kv-type-k"), value("--kv-type-v")), ("on", "q8_0", "q5_1"));
        assert_eq!(
            settings.attention(),
            Ok(Attention { flash: FlashAttention::On, kv_type_k: KvType::Q8_0, kv_type_v: KvType::Q5_1 })
        );
        let refused = EngineSettings { flash_attention: FlashAttention::Off, ..settings };
        assert_eq!(refused.attention(), Err(AttentionError::QuantisedValues(KvType::Q5_1)));
    }
}
