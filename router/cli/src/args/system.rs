//! The arguments of `allerac system`: what a box of the image does with itself.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

/// On a box that was made from the image, for root. The page has the same for owners, at Account, System.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  allerac system logs > allerac.log
  allerac system restart
  allerac system back
  allerac system reset --erase-everything")]
pub(crate) enum System {
    /// Print the end of the system's log
    Logs(Steward),
    /// Restart the box
    Restart(Steward),
    /// Give up the version that runs for the one before, and restart
    Back(Steward),
    /// Erase all that the box remembers, and restart
    Reset(SystemReset),
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac system logs | tail -n 100
  allerac system restart
  allerac system back")]
pub(crate) struct Steward {
    /// Where the box's steward listens
    #[arg(long, value_name = "SOCKET", default_value = allerac_steward::SOCKET)]
    pub(crate) steward: PathBuf,
}

/// People, keys, conversations and models that were fetched are gone for good. The version of the system stays.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac system reset --erase-everything")]
pub(crate) struct SystemReset {
    /// Yes, everything
    #[arg(long, required = true)]
    pub(crate) erase_everything: bool,
    #[command(flatten)]
    pub(crate) steward: Steward,
}
