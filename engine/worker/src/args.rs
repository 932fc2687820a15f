//! The command line, written by `EngineSettings::to_args` of `engine/link`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use allerac_engine_core::{AdapterId, Attention, BatcherConfig, Config, FlashAttention, KvType};
use allerac_engine_llama::{ContextParams, EmbedderParams};
use allerac_hardware::tuning::{Effort, Workload};
use allerac_hardware::{CpuSet, Topology};
use clap::Parser;
use clap::builder::{PossibleValuesParser, TypedValueParser};

/// Serves one model over a socket handed in as standard input. Started by `allerac serve`.
#[derive(Debug, Parser)]
#[command(version, about)]
pub(crate) struct Args {
    /// The model file (GGUF).
    #[arg(long, required_unless_present_any = ["system_info", "list_gpus"])]
    model: Option<PathBuf>,
    /// Encode texts rather than going on with them.
    #[arg(long)]
    pub(crate) encode: bool,
    /// Another file of the model, as NAME=PATH; may be given several times. An encoder of several files has its weights in
    /// MODEL (safetensors), one without any is all there (GGUF). Of a model to chat with they are what llama.cpp finds
    /// by the name of MODEL, which says how many there are.
    #[arg(long = "part", value_parser = part)]
    pub(crate) parts: Vec<(String, PathBuf)>,
    /// An adapter that requests may name, as NUMBER=PATH (GGUF); may be given several times.
    #[arg(long = "adapter", value_parser = adapter, conflicts_with = "encode")]
    pub(crate) adapters: Vec<(AdapterId, PathBuf)>,
    /// A smaller model of the same family that guesses what follows (GGUF).
    #[arg(long)]
    draft_model: Option<PathBuf>,
    /// Threads that compute one token a sequence; 0 means one per physical core.
    #[arg(long, default_value_t = 0)]
    threads: u32,
    /// Threads that compute prompts; 0 means as many as --threads.
    #[arg(long, default_value_t = 0)]
    threads_batch: u32,
    /// The processors to run on, like 0-7,16; all by default.
    #[arg(long)]
    pub(crate) cpus: Option<CpuSet>,
    /// Longest prompt and output together, in tokens.
    #[arg(long, default_value_t = 4096)]
    context: u32,
    /// Requests that decode together.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=256))]
    sequences: u32,
    /// KV cells in all. Fewer than sequences times context are shared by the sequences, which is slower.
    #[arg(long, default_value_t = 32_768)]
    cells: u32,
    /// Tokens computed in one step.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=8192))]
    batch: u32,
    /// How long the prompts in one step may take while others generate, in milliseconds.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    chunk_ms: u32,
    /// Do not guess what follows.
    #[arg(long)]
    no_speculation: bool,
    /// Requests that may wait for a sequence.
    #[arg(long, default_value_t = 64)]
    queue: u32,
    /// A file for KV that has no place in the context; made where it is missing.
    #[arg(long)]
    pub(crate) kv_file: Option<PathBuf>,
    /// Memory for KV that has no place in the context, in MiB.
    #[arg(long, default_value_t = 512)]
    kv_memory_mib: u32,
    /// The most that the file may grow to, in MiB.
    #[arg(long, default_value_t = 4096)]
    kv_disk_mib: u32,
    /// When to use flash attention.
    #[arg(long, value_parser = one_of(&FlashAttention::ALL, FlashAttention::as_str), default_value_t = FlashAttention::Auto)]
    flash_attention: FlashAttention,
    /// The numbers in which keys are kept.
    #[arg(long, value_parser = one_of(&KvType::ALL, KvType::as_str), default_value_t = KvType::F16)]
    kv_type_k: KvType,
    /// The numbers in which values are kept; quantised ones need flash attention.
    #[arg(long, value_parser = one_of(&KvType::ALL, KvType::as_str), default_value_t = KvType::F16)]
    kv_type_v: KvType,
    /// llama.cpp's module for graphics processors.
    #[arg(long, value_name = "FILE")]
    pub(crate) gpu_module: Option<PathBuf>,
    /// The graphics processor that is to hold a part of the model, as --list-gpus names it.
    #[arg(long, value_name = "NAME", requires = "gpu_module", conflicts_with = "encode")]
    pub(crate) gpu: Option<String>,
    /// So many layers are on it: what scores tokens is one and comes first, then the model's last ones.
    #[arg(long, default_value_t = 0, requires = "gpu")]
    pub(crate) gpu_layers: u32,
    /// The model's first layers, so many, whose experts stay with the processor.
    #[arg(long, default_value_t = 0, requires = "gpu")]
    pub(crate) cpu_expert_layers: u32,
    /// A folder in which drivers may keep compiled shaders.
    #[arg(long, value_name = "DIR", requires = "gpu")]
    pub(crate) shader_cache: Option<PathBuf>,
    /// Print the graphics processors that there are as JSON, and exit.
    #[arg(long, requires = "gpu_module")]
    pub(crate) list_gpus: bool,
    /// Measure how fast the model is with these settings, print a line of JSON a speed, and exit.
    #[arg(long, value_name = "EFFORT", value_parser = one_of(&Effort::ALL, Effort::as_str))]
    pub(crate) measure: Option<Effort>,
    /// Measure prompts and answers as this JSON says, print a line of JSON for each, and exit.
    #[arg(long, value_name = "JSON", conflicts_with = "measure")]
    pub(crate) workload: Option<Workload>,
    /// Print the CPU features that llama.cpp uses, and exit.
    #[arg(long)]
    pub(crate) system_info: bool,
    /// Load the model and its chat template, say whether they are sound, and exit.
    #[arg(long)]
    pub(crate) check: bool,
    /// Do not confine the process. Only to debug.
    #[arg(long)]
    pub(crate) no_sandbox: bool,
    /// Confine the process as for this model, try what must be denied, print what was, and exit.
    #[arg(long)]
    pub(crate) self_test_sandbox: bool,
}

/// Prompt tokens of a step before anything was measured.
const FIRST_CHUNK: u32 = 128;

/// Tokens from which on a sequence is worth keeping, or bringing back, beyond the context: even the smallest models
/// take longer to compute them than to copy them.
const ARCHIVE_MIN: u32 = 64;

impl Args {
    /// The model file; none is needed only where none is read.
    pub(crate) fn model(&self) -> &Path {
        self.model.as_deref().unwrap_or(Path::new(""))
    }

    /// The model that guesses, if any is to.
    pub(crate) fn draft_model(&self) -> Option<&Path> {
        self.draft_model.as_deref().filter(|_| !self.no_speculation)
    }

    /// How an encoder schedules.
    pub(crate) fn batches(&self) -> BatcherConfig {
        BatcherConfig { queue: self.queue as usize, batch: self.batch }
    }

    /// Sizes of an encoder's context.
    pub(crate) fn embedder_params(&self) -> EmbedderParams {
        let ContextParams { context, batch, threads_batch, attention, .. } = self.context_params();
        EmbedderParams { context, batch, threads: threads_batch, flash: attention.flash }
    }

    /// Threads that compute.
    pub(crate) fn compute_threads(&self) -> usize {
        self.context_params().threads as usize
    }

    /// How the engine schedules.
    pub(crate) fn schedule(&self) -> Config {
        Config {
            chunk_time: Duration::from_millis(self.chunk_ms.into()),
            chunk: FIRST_CHUNK,
            speculate: !self.no_speculation,
            queue: self.queue as usize,
            archive_min: ARCHIVE_MIN,
        }
    }

    /// The most memory for KV outside the context, in bytes.
    pub(crate) fn kv_memory_bytes(&self) -> u64 {
        u64::from(self.kv_memory_mib) << 20
    }

    /// The most that the file for KV may take, in bytes.
    pub(crate) fn kv_disk_bytes(&self) -> u64 {
        u64::from(self.kv_disk_mib) << 20
    }

    /// One thread a core that may be used: a hyper-thread adds nothing to a computation that waits for memory. The
    /// router normally says how many; this is for a start by hand.
    fn cores(&self) -> u32 {
        Topology::probe().cores(self.cpus.as_ref()).max(1)
    }

    /// Sizes of the context, with what was left open filled in.
    pub(crate) fn context_params(&self) -> ContextParams {
        let threads = if self.threads == 0 { self.cores() } else { self.threads };
        ContextParams {
            context: self.context,
            cells: self.cells,
            sequences: self.sequences,
            batch: self.batch.max(self.sequences),
            threads,
            // What is measured is these threads.
            sheds_threads: self.measure.is_none() && self.workload.is_none(),
            threads_batch: if self.threads_batch == 0 { threads } else { self.threads_batch },
            attention: Attention { flash: self.flash_attention, kv_type_k: self.kv_type_k, kv_type_v: self.kv_type_v },
        }
    }
}

/// Parses `NAME=PATH`.
fn part(text: &str) -> Result<(String, PathBuf), &'static str> {
    let (name, path) = text.split_once('=').ok_or("it is not of the form NAME=PATH")?;
    Ok((name.to_owned(), path.into()))
}

/// Parses `NUMBER=PATH`.
fn adapter(text: &str) -> Result<(AdapterId, PathBuf), &'static str> {
    let (number, path) = part(text)?;
    let number = number.parse().ok().filter(|number| *number != AdapterId::NONE.0);
    Ok((AdapterId(number.ok_or("its name is no number above 0")?), path))
}

/// Parses one of a few words.
fn one_of<T: Copy + Send + Sync + 'static>(
    all: &'static [T],
    word: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T> {
    let words = PossibleValuesParser::new(all.iter().map(|one| word(*one)));
    words.map(move |text| *all.iter().find(|one| word(**one) == text).expect("one of the possible values"))
}
