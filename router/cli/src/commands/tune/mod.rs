//! `allerac tune`: measures on this very machine what decides speed, and keeps what is best.

pub(crate) mod busy;
mod print;
pub(crate) mod process;

use std::path::Path;

use allerac_hardware::tuning::{
    Choice, Effort, OTHERS_PERCENT_MAX, Trial, Tuning, attentions, batches, choose, mixed, placements,
};
use allerac_hardware::{BANDWIDTH_BYTES, Bandwidth, Probe, bandwidth};
use allerac_ledger::{LedgerError, ServeLock};
use jiff::Timestamp;

use crate::args::{Place, Tune};
use crate::failure::{Exit, Failure};
use crate::output::{print_json, print_line};
use crate::place;
use crate::serve::stop::Signals;
use crate::setup::Prepared;
use crate::tuned::{self, Configured, ENGINE_VERSION, Tuned};
pub(crate) use print::placement;
use process::Bench;

pub(crate) async fn run(args: &Tune, place: &Place) -> Result<(), Failure> {
    let data_dir = place.data_dir()?;
    if args.show {
        return show(args, &data_dir);
    }
    // From here on an interruption is noticed; nothing is written before the end.
    let mut signals = Signals::new()?;
    tokio::select! {
        biased;
        signal = signals.next() => {
            Err(Failure::new(Exit::Failure, format!("interrupted by {signal}; nothing was changed")))
        }
        tuned = tune(args, &data_dir) => tuned,
    }
}

fn show(args: &Tune, data_dir: &Path) -> Result<(), Failure> {
    let probe = allerac_hardware::probe();
    let (tuning, stale) = match Tuned::load(data_dir, &probe) {
        Tuned::Current(tuning) => (tuning, None),
        Tuned::Stale(tuning, why) => (tuning, Some(why)),
        Tuned::Not => {
            return Err(Failure::new(Exit::NotFound, "this machine was not tuned yet").hint("run `allerac tune`"));
        }
        Tuned::Unusable(why) => {
            let message = format!("cannot use {}: {why}", tuned::path(data_dir).display());
            return Err(Failure::new(Exit::Failure, message).hint("measure again with `allerac tune`"));
        }
    };
    if args.json {
        return Ok(print_json(&tuning)?);
    }
    print::tuning(&tuning)?;
    match stale {
        Some(why) => Ok(print_line(&format!("\nit is not used any more: {why}; measure again with `allerac tune`"))?),
        None => Ok(()),
    }
}

async fn tune(args: &Tune, data_dir: &Path) -> Result<(), Failure> {
    let probe = allerac_hardware::probe();
    let prepared = Prepared::untuned(&args.setup, data_dir)?;
    let model = prepared.model(args.model.as_deref())?;
    place::prepare(data_dir)?;
    // Held to the end: a server that starts meanwhile would disturb, and be disturbed.
    let _lock = ServeLock::acquire(data_dir).map_err(occupied)?;
    let effort = if args.quick { Effort::Quick } else { Effort::Full };
    let others_percent_max = if args.busy { 100 } else { OTHERS_PERCENT_MAX };
    let mut bench = Bench::new(&prepared, model, effort, others_percent_max);
    bench.announce();
    let configured = prepared.config.engine.configured();
    for what in configured.words() {
        bench.say(&format!("the configuration file has its own {what}, so others are not tried"));
    }
    let bandwidth = bandwidths(&probe).await?;
    let trials = trials(&mut bench, &tuned::choice_of(&prepared.settings), configured, &probe).await?;
    let chosen = trials[choose(&trials, bench.others_percent_max).chosen].engine.clone();
    let mut tuning = Tuning::new(&probe, ENGINE_VERSION, chosen);
    tuning.measured_at = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    tuning.model.clone_from(&model.id);
    tuning.model_sha256.clone_from(&model.sha256);
    (tuning.quick, tuning.busy) = (args.quick, args.busy);
    (tuning.bandwidth, tuning.trials) = (bandwidth, trials);
    let path = tuned::save(data_dir, &tuning)?;
    if args.json {
        return Ok(print_json(&tuning)?);
    }
    print::tuning(&tuning)?;
    Ok(print_line(&format!("\nwritten to {}; a server uses it from its next start", path.display()))?)
}

/// What is said when a server runs.
pub(crate) fn occupied(error: LedgerError) -> Failure {
    match error {
        LedgerError::InUse(server) => Failure::new(
            Exit::Conflict,
            format!("a server uses {server}: it and the measurement would disturb each other"),
        )
        .hint("stop the server, measure, and start it again"),
        other => Failure::from(other),
    }
}

/// One thread, one a core, all: each that there is.
async fn bandwidths(probe: &Probe) -> Result<Vec<Bandwidth>, Failure> {
    let mut threads = vec![1, probe.topology.cores(None), probe.topology.processors()];
    threads.dedup();
    let measure = move || threads.into_iter().map(|threads| bandwidth(threads.max(1), BANDWIDTH_BYTES)).collect();
    let measured = tokio::task::spawn_blocking(measure).await;
    measured.map_err(|error| Failure::new(Exit::Failure, format!("cannot measure the memory: {error}")))
}

/// Up to which part of the time, in percent, each kind of settings is tried.
const PLACEMENTS_PERCENT: u32 = 45;
const ATTENTIONS_PERCENT: u32 = 85;

/// Tries threads and processors first, then, with the best of these, ways to attend, then, with the best of all, how
/// much of a prompt to compute at once. What is configured is not tried otherwise.
async fn trials(
    bench: &mut Bench<'_>,
    present: &Choice,
    configured: Configured,
    probe: &Probe,
) -> Result<Vec<Trial>, Failure> {
    let others_percent_max = bench.others_percent_max;
    let best = |trials: &[Trial]| trials[choose(trials, others_percent_max).chosen].engine.clone();
    let mut trials = Vec::new();
    let candidates = if configured.threads { vec![present.clone()] } else { placements(present, &probe.topology) };
    bench.rounds(&candidates, PLACEMENTS_PERCENT, &mut trials).await?;
    check_first(&trials)?;
    if let Some(mixed) = mixed(&best(&trials), &trials).filter(|_| !configured.threads) {
        bench.rounds(&[mixed], PLACEMENTS_PERCENT, &mut trials).await?;
    }
    // The best is measured once more beside the others, since the machine may be busier or hotter now than before.
    if !configured.attention {
        let best = best(&trials);
        let others = attentions(&best);
        bench.rounds(&[vec![best], others].concat(), ATTENTIONS_PERCENT, &mut trials).await?;
    }
    // Prompts of a quick measurement are too short to tell batches apart.
    if !configured.batch && bench.effort == Effort::Full {
        let best = best(&trials);
        let others = batches(&best);
        bench.rounds(&[vec![best], others].concat(), 100, &mut trials).await?;
    }
    Ok(trials.into_iter().map(Trial::rounded).collect())
}

/// Without speeds of what is used now there is nothing to compare with.
fn check_first(trials: &[Trial]) -> Result<(), Failure> {
    if let Some(failure) = &trials[0].failure {
        let message = format!("the engine cannot be measured with its present settings: {failure}");
        return Err(Failure::new(Exit::Failure, message).hint("see `allerac doctor`"));
    }
    if choose(trials, OTHERS_PERCENT_MAX).gains[0].is_none() {
        return Err(Failure::new(Exit::Failure, "nothing could be measured with the present settings")
            .hint("set context in [engine] of the configuration file to 512 tokens or more"));
    }
    Ok(())
}
