//! Alerts on the command line.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  allerac alerts list
  allerac alerts test --config /etc/allerac.toml
  allerac alerts retry

[alerts] in the configuration file says who is told of what; the server sends.")]
pub(crate) enum Alerts {
    /// List what was told, to whom, and what could not be
    List(AlertsList),
    /// Try again what was given up
    Retry(AlertsRetry),
    /// Send a test over each channel now
    Test(AlertsTest),
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac alerts list
  allerac alerts list --dead --json")]
pub(crate) struct AlertsList {
    /// How many
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) last: u32,
    /// Only what was given up
    #[arg(long)]
    pub(crate) dead: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac alerts retry
  allerac alerts retry 0192f3c1-7d1e-7c3b-9a52-5f1c1f6c2a10")]
pub(crate) struct AlertsRetry {
    /// The alert's id; all that were given up without it
    pub(crate) id: Option<String>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac alerts test --config /etc/allerac.toml")]
pub(crate) struct AlertsTest {
    /// A configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}
