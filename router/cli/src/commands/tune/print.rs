//! What was measured, for people.

use std::collections::BTreeSet;

use allerac_hardware::tuning::{Choice, Measurement, OTHERS_PERCENT_MAX, Part, Phase, Trial, Tuning, choose};

use crate::failure::Failure;
use crate::output::{Align, Table, print_line};

const DISTURBED: &str =
    "what was measured then changes nothing; tune again when they rest, or with --busy if they never do";

/// `2 threads on 0-3, flash attention off, K q8_0, V f16, batch 512`.
pub(super) fn choice(choice: &Choice) -> String {
    format!("{}, {}, batch {}", placement(choice), choice.attention(), choice.batch)
}

/// `2 threads`, `4 threads (8 for prompts) on 0-7`.
pub(crate) fn placement(choice: &Choice) -> String {
    let mut text = threads(choice.threads);
    if choice.threads_batch != choice.threads {
        text.extend([" (", &choice.threads_batch.to_string(), " for prompts)"]);
    }
    if let Some(cpus) = &choice.cpus {
        text.extend([" on ", &cpus.to_string()]);
    }
    text
}

fn threads(count: u32) -> String {
    if count == 1 { "1 thread".to_owned() } else { format!("{count} threads") }
}

/// One speed: `decode after 1024 tokens, 8 together: 120 tokens/s`.
pub(super) fn measurement(measurement: &Measurement) -> String {
    let Part { phase, depth, sequences } = measurement.part;
    let together = if sequences > 1 { format!(", {sequences} together") } else { String::new() };
    format!("{} after {depth} tokens{together}: {:.0} tokens/s", word(phase), measurement.tokens_per_second)
}

fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Prefill => "prefill",
        Phase::Decode => "decode",
    }
}

/// All speeds of a trial in a line.
pub(super) fn speeds(trial: &Trial) -> String {
    match &trial.failure {
        Some(failure) => format!("does not work here: {failure}"),
        None => {
            let columns = columns(std::slice::from_ref(trial));
            format!(
                "prefill {}, decode {}, together {} tokens/s",
                cell(trial, Phase::Prefill, false, &columns),
                cell(trial, Phase::Decode, false, &columns),
                cell(trial, Phase::Decode, true, &columns)
            )
        }
    }
}

/// The table, and what follows from it.
pub(super) fn tuning(tuning: &Tuning) -> Result<(), Failure> {
    let how = if tuning.quick { "quickly, " } else { "" };
    print_line(&format!("measured {how}at {} with {} on {}", tuning.measured_at, tuning.model, tuning.cpu_model))?;
    let bandwidth =
        tuning.bandwidth.iter().map(|one| format!("{:.1} GB/s by {}", one.gigabytes_per_second, threads(one.threads)));
    let bandwidth: Vec<String> = bandwidth.collect();
    print_line(&format!("memory is read at {}", bandwidth.join(", ")))?;
    let depths = columns(&tuning.trials);
    let said: Vec<String> = depths.iter().map(ToString::to_string).collect();
    print_line(&format!("speeds in tokens/s, after {} tokens\n", said.join(" / ")))?;
    table(tuning, &depths).print()?;
    print_line(&format!("\nchosen: {}\n{}", choice(&tuning.engine), reason(tuning)))?;
    let others = tuning.trials.iter().map(|trial| trial.others_percent).max().unwrap_or(0);
    if others > OTHERS_PERCENT_MAX {
        print_line(&format!(
            "other programs used up to {others} % of the processors meanwhile, so the figures are low and say little about \
             a calm machine:\n{}",
            if tuning.busy { "they were believed all the same, as --busy asks" } else { DISTURBED }
        ))?;
    }
    Ok(())
}

/// Why it was chosen.
fn reason(tuning: &Tuning) -> String {
    let verdict = choose(&tuning.trials, OTHERS_PERCENT_MAX);
    let gains = tuning.trials.iter().zip(&verdict.gains);
    let gain = gains.skip(1).find(|(trial, _)| trial.engine == tuning.engine).and_then(|(_, gain)| *gain);
    match gain {
        Some(gain) => format!(
            "a turn of a conversation is computed {:.0} % faster with it than as without tuning (the first line)",
            gain * 100.0
        ),
        None => "as without tuning: nothing else was faster by more than the noise".to_owned(),
    }
}

fn table(tuning: &Tuning, depths: &BTreeSet<u32>) -> Table {
    let mut table = Table::new(&[
        ("THREADS", Align::Left),
        ("FLASH", Align::Left),
        ("K/V", Align::Left),
        ("BATCH", Align::Right),
        ("PREFILL", Align::Right),
        ("DECODE", Align::Right),
        ("TOGETHER", Align::Right),
        ("OTHERS", Align::Right),
        ("GAIN", Align::Right),
        ("", Align::Left),
    ]);
    let verdict = choose(&tuning.trials, OTHERS_PERCENT_MAX);
    for (trial, gain) in tuning.trials.iter().zip(&verdict.gains) {
        let engine = &trial.engine;
        let mark = match &trial.failure {
            Some(failure) => failure.as_str(),
            None if *engine == tuning.engine => "chosen",
            None => "",
        };
        table.row(vec![
            placement(engine).replace(" threads", "").replace(" thread", ""),
            engine.flash_attention.to_string(),
            format!("{}/{}", engine.kv_type_k, engine.kv_type_v),
            engine.batch.to_string(),
            cell(trial, Phase::Prefill, false, depths),
            cell(trial, Phase::Decode, false, depths),
            cell(trial, Phase::Decode, true, depths),
            format!("{} %", trial.others_percent),
            gain.map_or_else(|| "-".to_owned(), |gain| format!("{:+.0} %", gain * 100.0)),
            mark.to_owned(),
        ]);
    }
    table
}

/// Depths that were measured.
fn columns(trials: &[Trial]) -> BTreeSet<u32> {
    trials.iter().flat_map(|trial| &trial.measured).map(|measurement| measurement.part.depth).collect()
}

/// The speeds at all depths: `410 / 390 / -`.
fn cell(trial: &Trial, phase: Phase, together: bool, depths: &BTreeSet<u32>) -> String {
    let speed = |depth: &u32| {
        let mut of = trial.measured.iter().filter(|one| one.part.phase == phase && one.part.depth == *depth);
        let found = of.find(|one| (one.part.sequences > 1) == together);
        found.map_or_else(|| "-".to_owned(), |one| format!("{:.0}", one.tokens_per_second))
    };
    depths.iter().map(speed).collect::<Vec<_>>().join(" / ")
}
