//! Exports of usage on the command line.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};

use super::{Listing, parse_month};

#[derive(Debug, Subcommand)]
pub(crate) enum UsageCommand {
    /// Write each settled request into a file, for a spreadsheet or a database
    Export(UsageExport),
    /// What other servers took this month, and what is left of their budgets
    Upstreams(Listing),
    /// Whether machines of your own would have been cheaper than other servers
    Owning(UsageOwning),
}

/// Compares the machines that the server's configuration names in [[owning]].
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac usage owning
  allerac usage owning --month 2026-11 --json")]
pub(crate) struct UsageOwning {
    /// Another month than this
    #[arg(long, value_name = "YYYY-MM", value_parser = parse_month)]
    pub(crate) month: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// One row a request: when, who, with which key and model, where it was computed, how it ended, tokens. Never what was said.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac usage export > usage.csv
  allerac usage export --from 2026-11-01 --to 2026-12-01 --output november.csv
  allerac usage export --format parquet --output usage.parquet")]
pub(crate) struct UsageExport {
    /// The format
    #[arg(long, value_enum, default_value_t = ExportFormat::Csv)]
    pub(crate) format: ExportFormat,
    /// From this day (its begin, in the time zone of days and months) or moment on, by when requests were settled
    #[arg(long, value_name = "DATE|TIME")]
    pub(crate) from: Option<String>,
    /// Up to this day or moment, which is not included
    #[arg(long, value_name = "DATE|TIME")]
    pub(crate) to: Option<String>,
    /// The file to write; it must not be there [default: what is printed]
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// Comma-separated values, with a line of names (RFC 4180)
    Csv,
    /// Apache Parquet
    Parquet,
}
