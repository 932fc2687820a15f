//! Settled requests as a file: CSV or Parquet.

use std::io::{self, Write};
use std::sync::Arc;

use allerac_ledger::{Ledger, LedgerError, Span, UsedRequest};
use allerac_objects::StoreError;
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

/// Requests that are held in memory until they are written together: some megabytes.
const ROWS_AT_ONCE: usize = 20_000;
/// The columns of a Parquet file, in the order in which they are written.
const SCHEMA: &str = "message usage {
    REQUIRED BYTE_ARRAY request_id (UTF8); REQUIRED INT64 created_at (TIMESTAMP(MILLIS,true));
    REQUIRED INT64 settled_at (TIMESTAMP(MILLIS,true)); REQUIRED BYTE_ARRAY day (UTF8); REQUIRED BYTE_ARRAY user (UTF8);
    REQUIRED BYTE_ARRAY key (UTF8); REQUIRED BYTE_ARRAY key_name (UTF8); REQUIRED BYTE_ARRAY model (UTF8);
    REQUIRED BYTE_ARRAY endpoint (UTF8); REQUIRED BYTE_ARRAY served_by (UTF8); REQUIRED BYTE_ARRAY outcome (UTF8);
    REQUIRED INT64 prompt_tokens; REQUIRED INT64 cached_tokens; REQUIRED INT64 completion_tokens; REQUIRED INT64 charged; REQUIRED INT64 cost;
    REQUIRED INT64 energy_uj; REQUIRED INT64 cpu_us; REQUIRED INT64 electricity; REQUIRED INT64 machine;
}";

/// Where a file goes.
pub type Output = Box<dyn Write + Send>;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageFormat {
    /// Comma-separated values, with a line of names (RFC 4180).
    Csv,
    /// Apache Parquet.
    Parquet,
}

/// A file that was not written.
#[derive(Debug, thiserror::Error)]
pub enum NotWritten {
    /// The books cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// What somebody keeps cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot be written where it goes.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It cannot be put together.
    #[error("the file cannot be written: {0}")]
    Parquet(ParquetError),
}

/// Writes settled requests, oldest first; how many.
///
/// # Errors
/// [`NotWritten`], and then what is there is not all of it.
pub fn write_usage(ledger: &Ledger, span: &Span, format: UsageFormat, output: Output) -> Result<u64, NotWritten> {
    let mut rows = 0;
    let export = |each: Each<'_>| {
        ledger.export_usage(span, |row| {
            rows += 1;
            each(row)
        })
    };
    match format {
        UsageFormat::Csv => write_csv(output, export)?,
        UsageFormat::Parquet => write_parquet(output, export)?,
    }
    Ok(rows)
}

/// What takes a request.
type Each<'a> = &'a mut dyn FnMut(UsedRequest) -> Result<(), NotWritten>;

fn write_csv(output: Output, rows: impl FnOnce(Each<'_>) -> Result<(), NotWritten>) -> Result<(), NotWritten> {
    let mut writer = csv::Writer::from_writer(output);
    let broken = |error: csv::Error| io::Error::from(error);
    // Also where there is no row that the names could be taken from.
    let mut names = Some([
        "request_id",
        "created_at",
        "settled_at",
        "day",
        "user",
        "key",
        "key_name",
        "model",
        "endpoint",
        "served_by",
        "outcome",
        "prompt_tokens",
        "cached_tokens",
        "completion_tokens",
        "charged",
        "cost",
        "energy_uj",
        "cpu_us",
        "electricity",
        "machine",
    ]);
    rows(&mut |row| {
        names = None;
        Ok(writer.serialize(row).map_err(broken)?)
    })?;
    if let Some(names) = names {
        writer.write_record(names).map_err(broken)?;
    }
    Ok(writer.flush()?)
}

fn write_parquet(output: Output, rows: impl FnOnce(Each<'_>) -> Result<(), NotWritten>) -> Result<(), NotWritten> {
    let schema = Arc::new(parse_message_type(SCHEMA).map_err(broken)?);
    let properties = Arc::new(WriterProperties::builder().set_compression(Compression::SNAPPY).build());
    let mut writer = SerializedFileWriter::new(output, schema, properties).map_err(broken)?;
    let mut held = Vec::new();
    rows(&mut |row| {
        held.push(row);
        if held.len() < ROWS_AT_ONCE {
            return Ok(());
        }
        write_group(&mut writer, &std::mem::take(&mut held))
    })?;
    write_group(&mut writer, &held)?;
    writer.close().map_err(broken)?;
    Ok(())
}

fn write_group(writer: &mut SerializedFileWriter<Output>, rows: &[UsedRequest]) -> Result<(), NotWritten> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut group = writer.next_row_group().map_err(broken)?;
    let columns = &mut Columns { group: &mut group, rows };
    columns.texts(|row| &row.request_id)?;
    columns.numbers(|row| row.created_at * 1000)?;
    columns.numbers(|row| row.settled_at * 1000)?;
    let texts: [fn(&UsedRequest) -> &String; 8] = [
        |row| &row.day,
        |row| &row.user,
        |row| &row.key,
        |row| &row.key_name,
        |row| &row.model,
        |row| &row.endpoint,
        |row| &row.served_by,
        |row| &row.outcome,
    ];
    for text in texts {
        columns.texts(text)?;
    }
    let numbers: [fn(&UsedRequest) -> i64; 9] = [
        |row| row.prompt_tokens,
        |row| row.cached_tokens,
        |row| row.completion_tokens,
        |row| row.charged,
        |row| row.cost,
        |row| row.energy_uj,
        |row| row.cpu_us,
        |row| row.electricity,
        |row| row.machine,
    ];
    for number in numbers {
        columns.numbers(number)?;
    }
    group.close().map_err(broken)?;
    Ok(())
}

/// Columns of a group of rows, to be written one after the other.
struct Columns<'a, 'b> {
    group: &'a mut SerializedRowGroupWriter<'b, Output>,
    rows: &'a [UsedRequest],
}

impl Columns<'_, '_> {
    fn texts(&mut self, of: impl Fn(&UsedRequest) -> &String) -> Result<(), NotWritten> {
        let values: Vec<ByteArray> = self.rows.iter().map(|row| ByteArray::from(of(row).as_str())).collect();
        let mut column = self.group.next_column().map_err(broken)?.expect("the schema has as many columns");
        column.typed::<ByteArrayType>().write_batch(&values, None, None).map_err(broken)?;
        column.close().map_err(broken)
    }

    fn numbers(&mut self, of: impl Fn(&UsedRequest) -> i64) -> Result<(), NotWritten> {
        let values: Vec<i64> = self.rows.iter().map(of).collect();
        let mut column = self.group.next_column().map_err(broken)?.expect("the schema has as many columns");
        column.typed::<Int64Type>().write_batch(&values, None, None).map_err(broken)?;
        column.close().map_err(broken)
    }
}

fn broken(error: ParquetError) -> NotWritten {
    match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(error) => NotWritten::Io(*error),
            Err(other) => NotWritten::Parquet(ParquetError::External(other)),
        },
        other => NotWritten::Parquet(other),
    }
}
