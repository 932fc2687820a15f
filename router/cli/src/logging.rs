//! Logs to stderr, filtered by `RUST_LOG`; stdout is for what the command was asked to print.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;

use crate::args::{Command, LogFormat};

/// The mDNS library repeats each unreachable interface at every packet; its errors are enough.
const SERVER_FILTER: &str = "info,mdns_sd=error";
/// Other commands print what they have to say.
const COMMAND_FILTER: &str = "warn";

pub(crate) fn start(command: &Command) {
    let (default, format) = match command {
        Command::Serve(serve) => (SERVER_FILTER, serve.log_format),
        _ => (COMMAND_FILTER, LogFormat::Text),
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    match format {
        LogFormat::Text => log.with_ansi(stderr().is_terminal()).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}
