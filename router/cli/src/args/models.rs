//! Models on the command line.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  allerac models list
  allerac models pull smollm2-135m-instruct
  allerac models rm smollm2-135m-instruct")]
pub(crate) enum Models {
    /// List the catalogue and what is installed
    List(ModelsList),
    /// Fetch a model; verified, and resumed where it stopped
    Pull(ModelsPull),
    /// Install a GGUF file of this machine or of a stick: a model, or an adapter
    Import(ModelsImport),
    /// Say what models would take on this machine, and how fast they would be
    Fit(ModelsFit),
    /// Remove an installed model
    Rm(ModelsRm),
    /// Remove what unfinished downloads left, and files of no model
    Gc(ModelsGc),
    /// Look for damaged files, and fetch what is damaged of them
    Scrub(ModelsScrub),
    /// Show everything known about a model
    Show(ModelsShow),
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac models list
  allerac models list --installed --json")]
pub(crate) struct ModelsList {
    /// Only what is installed
    #[arg(long)]
    pub(crate) installed: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// A running server offers it within a second or two. Run again after it was broken off, it goes on where it was.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac models pull smollm2-135m-instruct
  allerac models pull qwen2.5-7b-instruct:q8_0              # in other numbers; see `allerac models show`
  allerac models pull bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M
  HF_TOKEN=hf_... allerac models pull gemma-3-4b-it --accept-licence

HF_ENDPOINT names a mirror of the hub, HF_TOKEN an account there. [downloads] of the configuration file has both, and
kib_per_second, hours and connections.")]
pub(crate) struct ModelsPull {
    /// The model's id, or USER/REPOSITORY[:QUANTISATION][@REVISION] of a hub
    pub(crate) id: String,
    /// Accept the model's licence, where that asks for it
    #[arg(long)]
    pub(crate) accept_licence: bool,
    /// Do not wait for the hours of downloads
    #[arg(long)]
    pub(crate) now: bool,
    /// Take what is at the hub now, not what was there at the first fetch
    #[arg(long)]
    pub(crate) update: bool,
    /// The model that it is an adapter of [default: the only installed one that it fits]
    #[arg(long, value_name = "MODEL")]
    pub(crate) base: Option<String>,
    /// A configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// The file is shared by a hard link where it lies on the same disk. An engine loads it first, confined as always, and renders
/// a conversation with its template. Of a model in several parts any of them is named. A LoRA adapter is used with a model
/// that is installed.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac models import /media/usb/my-model-Q4_K_M.gguf
  allerac models import my-model.gguf --name my-model --licence MIT
  allerac models import pirate-lora.gguf --base smollm2-135m-instruct   # becomes smollm2-135m-instruct:pirate-lora")]
pub(crate) struct ModelsImport {
    /// A GGUF file
    pub(crate) file: PathBuf,
    /// The name that clients use [default: that of the file, for an adapter behind its model's]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// The model that it is an adapter of [default: the only installed one that it fits]
    #[arg(long, value_name = "MODEL")]
    pub(crate) base: Option<String>,
    /// Its licence, for the record
    #[arg(long)]
    pub(crate) licence: Option<String>,
    /// A configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// A download that somebody is at stays. What is removed is fetched anew when it is wanted.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac models gc")]
pub(crate) struct ModelsGc {}

/// Measures memory and arithmetic for a few seconds, and predicts from that. Nothing is fetched, nothing is loaded. Leave the
/// machine alone meanwhile: what others use is missing from the prediction.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac models fit
  allerac models fit qwen2.5-7b-instruct:q8_0
  allerac models fit /media/usb/my-model.gguf --json")]
pub(crate) struct ModelsFit {
    /// A model of the catalogue, an installed one, or a GGUF file [default: all of the catalogue]
    #[arg(value_name = "NAME|FILE")]
    pub(crate) model: Option<String>,
    #[command(flatten)]
    pub(crate) setup: super::Setup,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Exits with 1 when a file is damaged and was not mended.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac models scrub
  allerac models scrub smollm2-135m-instruct --dry-run")]
pub(crate) struct ModelsScrub {
    /// One model only
    pub(crate) id: Option<String>,
    /// Only say what is damaged
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// A configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac models rm smollm2-135m-instruct")]
pub(crate) struct ModelsRm {
    /// The model's id
    pub(crate) id: String,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac models show smollm2-135m-instruct
  allerac models show smollm2-135m-instruct --json")]
pub(crate) struct ModelsShow {
    /// The model's id
    pub(crate) id: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
