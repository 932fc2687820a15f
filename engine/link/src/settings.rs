//! What an engine process is told on its command line.

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
    /// Whether the process confines itself. Switched off only to debug.
    pub sandbox: bool,
}

/// When to use flash attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FlashAttention {
    /// llama.cpp decides.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

impl FlashAttention {
    /// The word on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            threads: 0,
            threads_batch: 0,
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
            sandbox: true,
        }
    }
}

impl EngineSettings {
    /// The arguments of `allerac-engine` that say this.
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
        args.extend(["--flash-attention".to_owned(), self.flash_attention.as_str().to_owned()]);
        if !self.speculate {
            args.push("--no-speculation".to_owned());
        }
        if !self.sandbox {
            args.push("--no-sandbox".to_owned());
        }
        args
    }
}
