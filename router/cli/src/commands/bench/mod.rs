//! `allerac bench`: measures a model as the server would run it, and compares with what was measured before.

mod compare;
mod record;

use std::process::Stdio;
use std::time::Duration;

use allerac_engine_link::EngineSettings;
use allerac_hardware::tuning::{OTHERS_PERCENT_MAX, Phase, Report, Workload};
use allerac_ledger::ServeLock;
use allerac_models::{Header, Installed};
use jiff::Timestamp;
use tokio::process::Command;

use self::compare::{Comparison, Verdict};
use self::record::{Record, Row};
use super::tune::busy::Watch;
use super::tune::{occupied, process};
use crate::args::{Bench, Place};
use crate::failure::{Exit, Failure};
use crate::output::{Align, Table, print_json, print_line};
use crate::serve::stop::Signals;
use crate::setup::Prepared;
use crate::{place, tuned};

/// The depth that is measured beside the beginning, where the model has room for it.
const DEPTH: u32 = 4096;
/// The most that one choice of settings may take: a model of 70B on a small machine takes most of it.
const RUN_WAIT: Duration = Duration::from_secs(4 * 3600);

pub(crate) async fn run(args: &Bench, place: &Place) -> Result<(), Failure> {
    let before = args.compare.as_deref().map(Record::load).transpose()?;
    let mut signals = Signals::new()?;
    let record = tokio::select! {
        biased;
        signal = signals.next() => {
            return Err(Failure::new(Exit::Failure, format!("interrupted by {signal}; nothing was changed")));
        }
        record = measure(args, place) => record?,
    };
    let comparison = before.map(|before| Comparison::new(&before, &record));
    if args.json {
        match &comparison {
            None => print_json(&record)?,
            Some(comparison) => print_json(comparison)?,
        }
    } else {
        print(&record, comparison.as_ref())?;
    }
    let slower = comparison.map_or(0, |comparison| comparison.count(Verdict::Slower));
    if slower == 0 {
        return Ok(());
    }
    Err(Failure::new(Exit::Failure, format!("{slower} of {} rows became slower", record.rows.len())))
}

async fn measure(args: &Bench, place: &Place) -> Result<Record, Failure> {
    let data_dir = place.data_dir()?;
    let prepared = Prepared::new(&args.setup, &data_dir)?;
    let model = prepared.model(args.model.as_deref())?;
    let trained = trained_context(model);
    let workload = workload(args, trained)?;
    // Deeper than the model goes would be memory for nothing; the engine says what it leaves out.
    let context = workload.context().min(trained);
    place::prepare(&data_dir)?;
    // Held to the end: a server that starts meanwhile would disturb, and be disturbed.
    let _lock = ServeLock::acquire(&data_dir).map_err(occupied)?;
    let mut record = Record::new(&allerac_hardware::probe(), model, &prepared.settings);
    record.measured_at = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let or = |given: &[u32], default: u32| if given.is_empty() { vec![default] } else { given.to_vec() };
    for threads in or(&args.threads, prepared.settings.threads) {
        for batch in or(&args.batch, prepared.settings.batch) {
            let threads_batch = if args.threads.is_empty() { prepared.settings.threads_batch } else { threads };
            let settings = EngineSettings {
                threads,
                threads_batch,
                batch,
                context,
                cells: context,
                sequences: 1,
                ..prepared.settings.clone()
            };
            record.rows.extend(rows(&prepared, model, &settings, &workload).await?);
        }
    }
    if record.rows.is_empty() {
        return Err(Failure::new(Exit::Failure, "nothing could be measured").hint("ask for smaller --depths"));
    }
    Ok(record)
}

/// What was asked for; depths that nobody asked for end where the model does.
fn workload(args: &Bench, trained: u32) -> Result<Workload, Failure> {
    let mut depths = args.depths.clone();
    if depths.is_empty() {
        depths = default_depths(trained, args.prompt.max(args.tokens));
    }
    depths.sort_unstable();
    depths.dedup();
    let workload = Workload { prompt: args.prompt, answer: args.tokens, depths, repeats: args.repeats };
    workload.checked().map_err(|error| Failure::from_error(Exit::Usage, &error))
}

/// Tokens that the model was made for.
fn trained_context(model: &Installed) -> u32 {
    let tokens = Header::read(&model.path).ok().and_then(|header| header.own("context_length"));
    tokens.and_then(|tokens| u32::try_from(tokens).ok()).unwrap_or(u32::MAX)
}

fn default_depths(context: u32, tokens: u32) -> Vec<u32> {
    vec![0, DEPTH.min(context.saturating_sub(tokens))]
}

/// One engine with these settings.
async fn rows(
    prepared: &Prepared,
    model: &Installed,
    settings: &EngineSettings,
    workload: &Workload,
) -> Result<Vec<Row>, Failure> {
    let (threads, batch) = (settings.threads, settings.batch);
    eprintln!("measuring {} on {threads} threads in batches of {batch}; Ctrl-C stops it", model.id);
    let mut command = Command::new(&prepared.binary);
    command.args(["--workload", &workload.to_arg(), "--model"]).arg(&model.path).args(settings.to_args());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let watch = Watch::start();
    let mut child = command.spawn().map_err(|error| Failure::from_io("start", &prepared.binary, &error))?;
    let mut rows = Vec::new();
    let taken = |report| match report {
        Report::Sampled { phase, depth, tokens, samples } => {
            let test = match phase {
                Phase::Prefill => format!("pp{tokens}"),
                Phase::Decode => format!("tg{tokens}"),
            };
            let row = Row::new(test, depth, (threads, batch), samples)?;
            eprintln!("{}: {:.1} tokens/s", row.name(), row.tokens_per_second);
            rows.push(row);
            Ok(())
        }
        Report::Skipped { depth, reason } => {
            eprintln!("not measured after {depth} tokens: {reason}");
            Ok(())
        }
        Report::Measured(_) | Report::Done { .. } => Err("it measured something else".to_owned()),
    };
    let read = tokio::time::timeout(RUN_WAIT, process::reports(&mut child, taken)).await;
    let failed = |why: String| Failure::new(Exit::Failure, format!("the engine cannot be measured: {why}"));
    let read = read.map_err(|_| failed(format!("it did not end within {} hours", RUN_WAIT.as_secs() / 3600)))?;
    let others_percent = watch.others_percent(read.map_err(failed)?);
    rows.iter_mut().for_each(|row| row.others_percent = others_percent);
    Ok(rows)
}

fn print(record: &Record, comparison: Option<&Comparison>) -> Result<(), Failure> {
    print_line(&format!(
        "{} on {}, {}, version {}\n",
        record.model, record.cpu_model, record.attention, record.engine_version
    ))?;
    let mut columns = vec![
        ("TEST", Align::Left),
        ("THREADS", Align::Right),
        ("BATCH", Align::Right),
        ("TOKENS/s", Align::Right),
        ("", Align::Left),
        ("OTHERS", Align::Right),
    ];
    if comparison.is_some() {
        columns.extend([("BEFORE", Align::Right), ("RATIO", Align::Right), ("", Align::Left)]);
    }
    let mut table = Table::new(&columns);
    for (index, row) in record.rows.iter().enumerate() {
        let mut cells = vec![
            row.name(),
            row.threads.to_string(),
            row.batch.to_string(),
            format!("{:.2}", row.tokens_per_second),
            format!("± {:.2}", row.deviation),
            format!("{} %", row.others_percent),
        ];
        if let Some(comparison) = comparison {
            cells.extend(comparison.rows[index].cells());
        }
        table.row(cells);
    }
    table.print()?;
    for line in comparison.map(|comparison| comparison.differences.as_slice()).unwrap_or_default() {
        print_line(&format!("\nnot alike: {line}"))?;
    }
    if record.rows.iter().any(|row| row.others_percent > OTHERS_PERCENT_MAX) {
        print_line(
            "\nother programs used the processors meanwhile (OTHERS), so the figures are low; measure again when they rest",
        )?;
    }
    Ok(())
}

/// How a model attends, in words.
fn attention(settings: &EngineSettings) -> String {
    tuned::choice_of(settings).attention().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depths_end_where_the_model_does() {
        assert_eq!(default_depths(8192, 512), [0, 4096]);
        assert_eq!(default_depths(2048, 512), [0, 1536]);
        assert_eq!(default_depths(256, 512), [0, 0]);
    }
}
