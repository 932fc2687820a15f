//! Settled requests as a file.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use allerac_ledger::{Span, UsedRequest};
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

use super::users::moment;
use crate::args::Place;
use crate::args::usage::{ExportFormat, UsageExport};
use crate::failure::{Exit, Failure};
use crate::output::{create_private, grouped, print_line};

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

type Output = Box<dyn Write + Send>;

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
    let mut rows = 0;
    let output: Output = match &args.output {
        Some(path) => Box::new(create_private(path)?),
        None => Box::new(BufWriter::new(io::stdout())),
    };
    let written = match args.format {
        ExportFormat::Csv => write_csv(output, |each| ledger.export_usage(&span, counted(&mut rows, each))),
        ExportFormat::Parquet => write_parquet(output, |each| ledger.export_usage(&span, counted(&mut rows, each))),
    };
    let Some(path) = &args.output else { return written };
    if let Err(failure) = written {
        let _ = std::fs::remove_file(path);
        return Err(failure);
    }
    Ok(print_line(&format!("{}: {} requests", path.display(), grouped(rows)))?)
}

/// What takes a request.
type Each<'a> = &'a mut dyn FnMut(UsedRequest) -> Result<(), Failure>;

fn counted<'a>(rows: &'a mut u64, each: Each<'a>) -> impl FnMut(UsedRequest) -> Result<(), Failure> + 'a {
    move |row| {
        *rows += 1;
        each(row)
    }
}

fn write_csv(output: Output, rows: impl FnOnce(Each<'_>) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut writer = csv::Writer::from_writer(output);
    let broken = |error: csv::Error| Failure::from(io::Error::from(error));
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
        writer.serialize(row).map_err(broken)
    })?;
    if let Some(names) = names {
        writer.write_record(names).map_err(broken)?;
    }
    Ok(writer.flush()?)
}

fn write_parquet(output: Output, rows: impl FnOnce(Each<'_>) -> Result<(), Failure>) -> Result<(), Failure> {
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

fn write_group(writer: &mut SerializedFileWriter<Output>, rows: &[UsedRequest]) -> Result<(), Failure> {
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
    fn texts(&mut self, of: impl Fn(&UsedRequest) -> &String) -> Result<(), Failure> {
        let values: Vec<ByteArray> = self.rows.iter().map(|row| ByteArray::from(of(row).as_str())).collect();
        let mut column = self.group.next_column().map_err(broken)?.expect("the schema has as many columns");
        column.typed::<ByteArrayType>().write_batch(&values, None, None).map_err(broken)?;
        column.close().map_err(broken)
    }

    fn numbers(&mut self, of: impl Fn(&UsedRequest) -> i64) -> Result<(), Failure> {
        let values: Vec<i64> = self.rows.iter().map(of).collect();
        let mut column = self.group.next_column().map_err(broken)?.expect("the schema has as many columns");
        column.typed::<Int64Type>().write_batch(&values, None, None).map_err(broken)?;
        column.close().map_err(broken)
    }
}

fn broken(error: ParquetError) -> Failure {
    match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(error) => (*error).into(),
            Err(other) => Failure::new(Exit::Failure, format!("the file cannot be written: {other}")),
        },
        other => Failure::new(Exit::Failure, format!("the file cannot be written: {other}")),
    }
}
