//! The ledger's checks and the audit log on the command line.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  allerac ledger verify
  allerac ledger verify --json
  allerac ledger move postgres://allerac:password@db.example/allerac")]
pub(crate) enum Ledger {
    /// Add the journal up again and compare it with the balances
    Verify(LedgerVerify),
    /// Copy the ledger to a PostgreSQL server, which several routers may share
    Move(LedgerMove),
}

/// Stop the server first, and start it with --database from then on. The ledger in the data directory stays as it was then,
/// and is not looked at any more.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac ledger move postgres://allerac:password@db.example/allerac
  ALLERAC_DATABASE=postgres://allerac:password@db.example/allerac allerac serve")]
pub(crate) struct LedgerMove {
    /// The address of an empty database
    #[arg(value_name = "ADDRESS")]
    pub(crate) to: String,
}

/// Exits with 1 when something is off, and says which account, in which month, and by how much. Works while the server runs.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac ledger verify
  allerac ledger verify --json | jq '.differences'")]
pub(crate) struct LedgerVerify {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  allerac audit list
  allerac audit verify
  allerac audit export > audit.jsonl
  allerac audit requests on")]
pub(crate) enum Audit {
    /// List what administrators did, newest first
    List(AuditList),
    /// Check that nothing was changed, taken out or cut off
    Verify(AuditVerify),
    /// Print all entries, oldest first, one JSON object a line
    Export(AuditExport),
    /// Note requests too: who asked which model when and what it cost, never what was said
    Requests(AuditRequests),
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac audit list --last 10
  allerac audit list --before 1042 --json")]
pub(crate) struct AuditList {
    /// How many
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) last: u32,
    /// Only entries before this one
    #[arg(long, value_name = "ID")]
    pub(crate) before: Option<u64>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Exits with 1 when the log was tampered with, and names the first entry that shows it. It prints the number and the hash of
/// the last entry: note them elsewhere, and even a log that was rewritten whole is found out.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac audit verify
  allerac audit verify --noted 1042:5d41402abc4b2a76b9719d911017c592ae2e1d8e0c6f6a1b5f0c9f2d7e3b4a61
  allerac audit verify --file audit.jsonl")]
pub(crate) struct AuditVerify {
    /// An entry as it was noted elsewhere
    #[arg(long, value_name = "ID:HASH", value_parser = parse_noted)]
    pub(crate) noted: Option<(u64, String)>,
    /// Check an export instead of the box's own log
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac audit export > audit.jsonl")]
pub(crate) struct AuditExport {}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac audit requests on
  allerac audit requests off")]
pub(crate) struct AuditRequests {
    /// Whether they are noted from now on
    pub(crate) wanted: Switch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}

fn parse_noted(text: &str) -> Result<(u64, String), String> {
    let wrong =
        || "write the number of an entry and its hash, as `allerac audit verify` prints them: 12:5d41...".to_owned();
    let (id, hash) = text.split_once(':').ok_or_else(wrong)?;
    let is_hash = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = id.parse().ok().filter(|id| *id > 0 && is_hash).ok_or_else(wrong)?;
    Ok((id, hash.to_ascii_lowercase()))
}
