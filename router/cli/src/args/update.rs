//! The arguments of `allerac update` and `allerac health`: what a box of the image does with itself.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use super::parse_url;

/// On a box that was made from the image. A new version proves itself, or the old one comes back.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  allerac update status
  allerac update source https://updates.example.org/allerac
  allerac update check
  allerac update apply --restart")]
pub(crate) enum Update {
    /// Say which version runs, and what became of the last update
    Status(UpdateStatus),
    /// Look whether something newer is there
    Check(UpdateFrom),
    /// Install what is newer; it starts with the next boot
    Apply(UpdateApply),
    /// Keep where updates come from, for the nightly look
    Source(UpdateSource),
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac update status
  allerac update status --json | jq -r .version")]
pub(crate) struct UpdateStatus {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Also write the JSON into this file, for `allerac serve --system-status`
    #[arg(long, value_name = "FILE")]
    pub(crate) write: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac update check
  allerac update check --source /media/stick")]
pub(crate) struct UpdateFrom {
    /// An address, or the path of a folder [default: what `allerac update source` was told]
    #[arg(long, value_name = "SOURCE")]
    pub(crate) source: Option<String>,
}

/// Only what is signed by the keys of the image is taken, and nothing older than what was here before.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac update apply --restart
  allerac update apply --source /media/stick")]
pub(crate) struct UpdateApply {
    #[command(flatten)]
    pub(crate) from: UpdateFrom,
    /// Boot it at once; requests in flight have ten seconds to end
    #[arg(long)]
    pub(crate) restart: bool,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac update source https://updates.example.org/allerac
  allerac update source none")]
pub(crate) struct UpdateSource {
    /// An address, the path of a folder, or `none`
    #[arg(value_name = "SOURCE")]
    pub(crate) source: String,
}

/// Makes a key for itself, asks the smallest installed model for one token over HTTP, and takes the key away again.
/// Exits with 1 when there is no answer.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac health
  allerac health --url http://127.0.0.1 --wait-s 300")]
pub(crate) struct Health {
    /// The server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", value_parser = parse_url)]
    pub(crate) url: reqwest::Url,
    /// How long to wait for a server that is not there yet, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) wait_s: u64,
}
