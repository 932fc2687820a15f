//! What can be asked of the steward, and the line that its answers begin with.

use serde::{Deserialize, Serialize};

/// What a box does with itself. None has a parameter: whoever takes over the server can choose among these, and no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Hand out the end of the system's log.
    Logs,
    /// Say why the server does not run; a [`crate::Trouble`] as JSON.
    Look,
    /// Start the server, however often it failed.
    Start,
    /// Restart the box.
    Restart,
    /// Look for a newer version of the system, and say what there is.
    Check,
    /// Install a newer version from where the box was told that they come from, and restart.
    Update,
    /// Give up the version that runs for the one before, and restart.
    Back,
    /// Erase all that the box remembers, and restart.
    FactoryReset,
}

/// The first line of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// Why nothing was done, and what to do about it; nothing where it was done.
    pub refused: Option<String>,
}
