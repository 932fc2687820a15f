//! The graphics processor on the command line.

use clap::{Args as ClapArgs, Subcommand};

use super::parse_url;

/// Shows which graphics processors there are, and which models are on one. Without a server it shows only the former.
#[derive(Debug, ClapArgs)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  allerac gpu
  allerac gpu --json | jq '.devices[].free_bytes'
  allerac gpu eject          # then it can be unplugged
  allerac gpu use            # use it again

On the box itself no key is needed, for whoever may read its data directory; elsewhere one of its owner."
)]
pub(crate) struct Gpu {
    #[command(flatten)]
    pub(crate) server: GpuServer,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Option<GpuCommand>,
}

/// The server that uses it.
#[derive(Debug, ClapArgs)]
pub(crate) struct GpuServer {
    /// The server that uses it
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", value_parser = parse_url)]
    pub(crate) url: reqwest::Url,
    /// A key of the box's owner; better in the environment, where nobody else sees it
    #[arg(long, env = "ALLERAC_KEY", hide_env_values = true, value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// A configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<std::path::PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum GpuCommand {
    /// Take all models off it as their answers end, so that it can be unplugged
    Eject(GpuChange),
    /// Use it again, after it was ejected, or at once after it failed
    Use(GpuChange),
}

/// Waits until it is done.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac gpu eject
  allerac gpu use --url http://127.0.0.1:8081")]
pub(crate) struct GpuChange {
    #[command(flatten)]
    pub(crate) server: GpuServer,
}
