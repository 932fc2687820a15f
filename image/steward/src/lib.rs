//! What a box of the image does with itself as root, for servers that are not: a handful of fixed orders over a Unix socket,
//! each answered once. Systemd runs `allerac-steward obey` for each connection, with the socket as its input and output.
//!
//! An order is a line with a word in JSON. The answer is a line that says whether it was refused, then what was asked for.

mod ask;
pub mod entries;
mod order;
mod trouble;
mod version;

pub use ask::{AskError, ask};
pub use order::{Answered, Order};
pub use trouble::{Cause, Facts, Trouble};
pub use version::running;

/// Where the steward of a box listens.
pub const SOCKET: &str = "/run/allerac-steward.sock";
/// How much of the log is handed out, in bytes: a day of a busy box, and what a phone can still save.
pub const LOG_BYTES_MAX: usize = 8 * 1024 * 1024;
