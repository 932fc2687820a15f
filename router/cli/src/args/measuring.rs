//! Measuring on the command line: `allerac tune` and `allerac bench`.

use std::path::PathBuf;

use allerac_hardware::tuning::{REPEATS_MAX, TOKENS_MAX};
use clap::Args as ClapArgs;

use super::Setup;

/// Measures prompts and answers of a model, each several times, with the settings that the server would use and in the same
/// confined process. Nothing is changed. Stop the server first: the two would disturb each other.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac bench
  allerac bench --model qwen2.5-7b-instruct --repeats 3
  allerac bench --threads 1,2,4 --depths 0 --tokens 0      # which number of threads reads prompts fastest?
  allerac bench --json > before.json
  allerac bench --compare before.json                      # exits with 1 where something became slower

A test is named as llama-bench names it: pp512 is a prompt of 512 tokens, tg128 an answer of 128; @ d4096 means after a
conversation of 4096 tokens.")]
pub(crate) struct Bench {
    /// The model to measure [default: the one that is loaded at the start]
    #[arg(long, value_name = "ID")]
    pub(crate) model: Option<String>,
    /// Tokens of a prompt; 0 for no prompts
    #[arg(long, value_name = "TOKENS", default_value_t = 512, value_parser = clap::value_parser!(u32).range(0..=i64::from(TOKENS_MAX)))]
    pub(crate) prompt: u32,
    /// Tokens of an answer; 0 for no answers
    #[arg(long, value_name = "TOKENS", default_value_t = 128, value_parser = clap::value_parser!(u32).range(0..=i64::from(TOKENS_MAX)))]
    pub(crate) tokens: u32,
    /// Tokens before a prompt or an answer [default: 0, and 4096 or as many as the model has room for]
    #[arg(long, value_name = "TOKENS,...", value_delimiter = ',')]
    pub(crate) depths: Vec<u32>,
    /// How often each is computed
    #[arg(long, value_name = "TIMES", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=i64::from(REPEATS_MAX)))]
    pub(crate) repeats: u32,
    /// Threads to compute with [default: as the server does]
    #[arg(long, value_name = "THREADS,...", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) threads: Vec<u32>,
    /// Tokens of a prompt in one step [default: as the server does]
    #[arg(long, value_name = "TOKENS,...", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=8192))]
    pub(crate) batch: Vec<u32>,
    /// What an earlier `allerac bench --json` printed
    #[arg(long, value_name = "FILE")]
    pub(crate) compare: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) setup: Setup,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Measures threads, processors, flash attention, KV types and batches with an installed model for ten minutes at most,
/// keeps the best as `tuned.toml` in the data directory, and prints what was measured. No server may use the data directory meanwhile.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac tune
  allerac tune --quick                       # three minutes at most; sees only large differences
  allerac tune --model smollm2-135m-instruct
  allerac tune --show                        # what was measured last

It compares settings with those of the hardware profile and keeps what is faster by more than the noise.
A configuration file wins over it; removing tuned.toml brings the profile's settings back.")]
pub(crate) struct Tune {
    /// The model to measure with [default: the one that is loaded at the start]
    #[arg(long, value_name = "ID")]
    pub(crate) model: Option<String>,
    /// Measure less, once
    #[arg(long)]
    pub(crate) quick: bool,
    /// Believe what is measured while other programs are at work, because on this machine they always are
    #[arg(long)]
    pub(crate) busy: bool,
    /// Measure nothing; print what was measured last
    #[arg(long, conflicts_with_all = ["model", "quick", "busy"])]
    pub(crate) show: bool,
    #[command(flatten)]
    pub(crate) setup: Setup,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
