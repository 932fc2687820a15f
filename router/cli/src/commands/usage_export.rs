//! Settled requests as a file.

use std::io::{self, BufWriter};

use allerac_http::{NotWritten, Output, UsageFormat, write_usage};
use allerac_ledger::Span;

use super::users::moment;
use crate::args::Place;
use crate::args::usage::{ExportFormat, UsageExport};
use crate::failure::{Exit, Failure};
use crate::output::{create_private, grouped, print_line};

pub(crate) fn run(args: &UsageExport, place: &Place) -> Result<(), Failure> {
    let zone = place.time_zone();
    let second = |text: &Option<String>| -> Result<Option<i64>, Failure> {
        text.as_ref().map(|text| Ok(moment(text, &zone)?.as_second())).transpose()
    };
    let span = Span { from: second(&args.from)?, to: second(&args.to)?, user: None };
    if let (Some(from), Some(to)) = (span.from, span.to)
        && from >= to
    {
        return Err(
            Failure::new(Exit::Usage, "--to is not after --from").hint("--to is the first moment that is not wanted")
        );
    }
    let ledger = place.existing_ledger()?;
    let output: Output = match &args.output {
        Some(path) => Box::new(create_private(path)?),
        None => Box::new(BufWriter::new(io::stdout())),
    };
    let format = match args.format {
        ExportFormat::Csv => UsageFormat::Csv,
        ExportFormat::Parquet => UsageFormat::Parquet,
    };
    let written = write_usage(&ledger, &span, format, output).map_err(Failure::from);
    let Some(path) = &args.output else { return written.map(drop) };
    match written {
        Ok(rows) => Ok(print_line(&format!("{}: {} requests", path.display(), grouped(rows)))?),
        Err(failure) => {
            let _ = std::fs::remove_file(path);
            Err(failure)
        }
    }
}

impl From<NotWritten> for Failure {
    fn from(error: NotWritten) -> Self {
        match error {
            NotWritten::Ledger(error) => error.into(),
            NotWritten::Store(error) => error.into(),
            NotWritten::Io(error) => error.into(),
            NotWritten::Parquet(_) => Self::new(Exit::Failure, error.to_string()),
        }
    }
}
