//! Checks everything the box needs; each check says what to do when it fails.

mod machine;
mod settings;
pub(crate) mod words;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use allerac_engine_link::{EngineSettings, GpuMode, choose_gpu, gpu_module, list_gpus};
use allerac_hardware::{Machine, Probe, Tree};
use allerac_ledger::{LedgerError, ServeLock};
use allerac_models::Store;
use serde::Serialize;
use tokio::process::Command;

use crate::args::{Doctor, Place};
use crate::config::ConfigFile;
use crate::failure::{Exit, Failure};
use crate::output::{bytes, print_json, print_line};
use crate::serve::backups::BackupOutcome;
use crate::serve::listen;
use crate::{place, setup};

/// Below this the ledger still fits but hardly a model does.
const FREE_BYTES_MIN: u64 = 1_000_000_000;
/// The self-test takes milliseconds; a program that hangs is broken too.
const SELF_TEST_WAIT: Duration = Duration::from_secs(20);

#[derive(Debug, Serialize)]
struct Report {
    /// Nothing is broken; warnings may be there.
    ok: bool,
    checks: Vec<Check>,
    /// All that was found of the machine.
    machine: Machine,
}

#[derive(Debug, Serialize)]
struct Check {
    name: String,
    status: Status,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Warning,
    Broken,
}

impl Check {
    fn ok(name: &str, detail: impl Into<String>) -> Self {
        Self { name: name.to_owned(), status: Status::Ok, detail: detail.into(), hint: None }
    }

    fn warning(name: &str, detail: impl Into<String>, hint: &str) -> Self {
        let hint = Some(hint.to_owned());
        Self { name: name.to_owned(), status: Status::Warning, detail: detail.into(), hint }
    }

    fn broken(name: &str, failure: Failure) -> Self {
        let (detail, hint) = failure.into_parts();
        Self { name: name.to_owned(), status: Status::Broken, detail, hint }
    }
}

pub(crate) async fn run(args: &Doctor, place: &Place) -> Result<(), Failure> {
    let probe = allerac_hardware::probe();
    let machine = Machine::read(&Tree::default(), &probe.topology);
    let checks = examine(args, place, &probe, &machine).await?;
    let ok = checks.iter().all(|check| check.status != Status::Broken);
    let report = Report { ok, checks, machine };
    if args.json {
        print_json(&report)?;
    } else {
        print(&report)?;
    }
    if report.ok {
        return Ok(());
    }
    let broken = report.checks.iter().filter(|check| check.status == Status::Broken).count();
    Err(Failure::new(Exit::Failure, format!("{broken} of {} checks found something broken", report.checks.len())))
}

async fn examine(args: &Doctor, place: &Place, probe: &Probe, machine: &Machine) -> Result<Vec<Check>, Failure> {
    let data_dir = place.data_dir()?;
    let mut checks = vec![data_directory(&data_dir), disk(&data_dir)];
    checks.extend(machine::volume(&Tree::default(), &data_dir));
    checks.extend([ledger(place), processor(probe)]);
    checks.extend(machine::found(machine));
    checks.extend(machine::advice(machine));
    let config = match ConfigFile::load(args.setup.config.as_deref()).and_then(|config| {
        config.upstreams()?;
        Ok(config)
    }) {
        Ok(config) => {
            let what = args.setup.config.as_ref().map_or_else(|| "none".to_owned(), |path| path.display().to_string());
            checks.push(Check::ok("configuration", what));
            config
        }
        Err(failure) => {
            checks.push(Check::broken("configuration", failure));
            ConfigFile::default()
        }
    };
    checks.extend(settings::checks(args, &config, probe, &data_dir));
    checks.extend(models(&data_dir));
    checks.extend(drafts(args, &config, probe, &data_dir));
    checks.extend(engine(&config, &data_dir).await);
    checks.extend(backup(place, &config));
    checks.push(port(args.listen.or(config.listen).unwrap_or(listen::DEFAULT), &data_dir).await);
    Ok(checks)
}

fn print(report: &Report) -> Result<(), Failure> {
    for check in &report.checks {
        let mark = match check.status {
            Status::Ok => "ok",
            Status::Warning => "warning",
            Status::Broken => "BROKEN",
        };
        print_line(&format!("{mark:<8} {:<16} {}", check.name, check.detail))?;
        if let Some(hint) = &check.hint {
            print_line(&format!("{:<8} {:<16} -> {hint}", "", ""))?;
        }
    }
    Ok(())
}

fn data_directory(data_dir: &Path) -> Check {
    match place::prepare(data_dir) {
        Ok(()) => Check::ok("data directory", data_dir.display().to_string()),
        Err(failure) => Check::broken("data directory", failure),
    }
}

fn disk(data_dir: &Path) -> Check {
    let existing = data_dir.ancestors().find(|path| path.exists()).unwrap_or(data_dir);
    match place::free_bytes(existing) {
        Ok(free) => {
            let detail = format!("{} free", bytes(free));
            if free >= FREE_BYTES_MIN {
                Check::ok("disk", detail)
            } else {
                Check::warning("disk", detail, "free some space, or move the data with --data-dir")
            }
        }
        Err(error) => Check::broken("disk", Failure::from_io("measure the disk of", data_dir, &error)),
    }
}

fn ledger(place: &Place) -> Check {
    let checked = place.ledger().and_then(|ledger| Ok((ledger.verify(), ledger.keys()?.len())));
    match checked {
        Ok((Ok(verified), keys)) => match verified.differences.first() {
            None => Check::ok("ledger", format!("adds up; {keys} keys")),
            Some(first) => {
                let more = verified.differences.len();
                let message =
                    format!("{more} sums are off, {} of {} in {} first", first.what, first.account, first.month);
                Check::broken("ledger", Failure::new(Exit::Failure, message).hint("run: allerac ledger verify"))
            }
        },
        Ok((Err(error), _)) => Check::broken("ledger", Failure::from(error)),
        Err(failure) => Check::broken("ledger", failure),
    }
}

/// Where backups go, and what became of the last one; nothing where none are made.
fn backup(place: &Place, config: &ConfigFile) -> Option<Check> {
    let schedule = match config.backup.schedule(config.folder()) {
        Ok(schedule) => schedule?,
        Err(failure) => return Some(Check::broken("backup", failure)),
    };
    let outcome = place.ledger().ok().and_then(|ledger| ledger.backup_outcome().ok().flatten());
    let outcome: Option<BackupOutcome> = outcome.and_then(|text| serde_json::from_str(&text).ok());
    let to = schedule.target.describe();
    Some(match outcome {
        None => Check::ok("backup", format!("to {to}; none was made yet")),
        Some(BackupOutcome { at, error: Some(error), .. }) => {
            Check::broken("backup", Failure::new(Exit::Failure, format!("to {to}: failed at {at}: {error}")))
        }
        Some(BackupOutcome { at, .. }) => Check::ok("backup", format!("to {to}; the last at {at}")),
    })
}

fn processor(probe: &Probe) -> Check {
    let detail = format!(
        "{}, {}, {}, {}",
        probe.cpu_model,
        probe.topology.describe(),
        bytes(probe.memory_bytes),
        probe.features.join(" ")
    );
    if probe.features.iter().any(|feature| feature == "avx2") {
        Check::ok("processor", detail)
    } else {
        Check::warning("processor", detail, "without AVX2 the models run slowly")
    }
}

fn models(data_dir: &Path) -> Vec<Check> {
    let store = Store::open(data_dir);
    let installed = match store.list() {
        Ok(installed) => installed,
        Err(error) => return vec![Check::broken("models", super::models::models_failure(&error))],
    };
    if installed.is_empty() {
        return vec![Check::warning("models", "none is installed", "fetch one: allerac models pull ID")];
    }
    let check = |model: &allerac_models::Installed| {
        let name = format!("model {}", model.id);
        match store.verify(model) {
            Ok(()) => Check::ok(&name, format!("verified, {}", bytes(model.size_bytes))),
            Err(error) => Check::broken(&name, super::models::models_failure(&error)),
        }
    };
    installed.iter().map(check).collect()
}

/// The models that guess for others. What is wrong with the profile or the models is said elsewhere.
fn drafts(args: &Doctor, config: &ConfigFile, probe: &Probe, data_dir: &Path) -> Vec<Check> {
    const NAME: &str = "draft models";
    let (Ok(profile), Ok(installed)) = (setup::profile(&args.setup, config, probe), Store::open(data_dir).list())
    else {
        return Vec::new();
    };
    let drafts = config.engine.drafts_over(&profile.engine.drafts);
    let missing = setup::missing_drafts(&drafts, &installed);
    if missing.is_empty() {
        let used = drafts.iter().filter(|(model, _)| installed.iter().any(|installed| installed.id == **model));
        let pairs: Vec<String> = used.map(|(model, draft)| format!("{draft} for {model}")).collect();
        return if pairs.is_empty() { Vec::new() } else { vec![Check::ok(NAME, pairs.join(", "))] };
    }
    missing.into_iter().map(|(what, hint)| Check::warning(NAME, what, &hint)).collect()
}

async fn engine(config: &ConfigFile, data_dir: &Path) -> Vec<Check> {
    let binary = match setup::engine_binary(config) {
        Ok(binary) => binary,
        Err(failure) => return vec![Check::broken("engine", failure)],
    };
    let found = Check::ok("engine", binary.display().to_string());
    let mut checks = vec![found, kernels(&binary).await, confinement(&binary, data_dir).await];
    checks.extend(gpu(&binary, config).await);
    checks
}

/// What computes beside the processor; nothing where there is no module for it.
async fn gpu(binary: &Path, config: &ConfigFile) -> Option<Check> {
    const NAME: &str = "gpu";
    let module = gpu_module(binary)?;
    let mode = config.engine.over(&EngineSettings::default()).gpu;
    if mode == GpuMode::Off {
        return Some(Check::ok(NAME, "not used, as the configuration file says"));
    }
    Some(match list_gpus(binary, &module).await {
        Ok(devices) => match choose_gpu(&devices, mode) {
            Some(device) => {
                let (free, all) = (bytes(device.free_bytes), bytes(device.memory_bytes));
                Check::ok(NAME, format!("{}, {free} of {all} free", device.description))
            }
            None => Check::ok(NAME, "none that has memory of its own"),
        },
        Err(reason) => Check::ok(NAME, format!("none: {reason}")),
    })
}

/// Which kernels of llama.cpp compute, by its own account. No model is loaded for it.
async fn kernels(binary: &Path) -> Check {
    const NAME: &str = "kernels";
    let mut ask = Command::new(binary);
    ask.arg("--system-info").stdin(Stdio::null()).kill_on_drop(true);
    let broken = |detail: String| Check::broken(NAME, Failure::new(Exit::Failure, detail));
    match tokio::time::timeout(SELF_TEST_WAIT, ask.output()).await {
        Err(_) => broken("the engine does not answer".to_owned()),
        Ok(Err(error)) => broken(format!("the engine cannot be started: {error}")),
        Ok(Ok(output)) => match kernels_of(&String::from_utf8_lossy(&output.stdout)) {
            Some(kernels) => Check::ok(NAME, kernels),
            None => {
                let said = String::from_utf8_lossy(&output.stderr);
                broken(said.lines().last().unwrap_or("the engine names no CPU features; update it").to_owned())
            }
        },
    }
}

/// From what the engine says of itself, like `CPU : SSE3 = 1 | AVX2 = 1 | kernels: haswell`: the features in use, and
/// the kernels that a portable build chose.
fn kernels_of(said: &str) -> Option<String> {
    let (features, chosen) = match said.split_once("kernels: ") {
        Some((features, variant)) => (features, format!("those for {} of a portable build", variant.trim())),
        None => (said, "built for this machine".to_owned()),
    };
    let used = features.split(['|', ':']).filter_map(|part| part.trim().strip_suffix("= 1")).map(str::trim);
    let used: Vec<&str> = used.collect();
    (!used.is_empty()).then(|| format!("{chosen}, with {}", used.join(" ")))
}

/// Lets the engine confine itself and try what must be denied. It tries to remove "its model" too, so it gets a file
/// that nobody misses.
async fn confinement(binary: &Path, data_dir: &Path) -> Check {
    const NAME: &str = "confinement";
    let victim = data_dir.join(format!(".confinement-test-{}", std::process::id()));
    if let Err(error) = fs::write(&victim, b"allerac") {
        return Check::broken(NAME, Failure::from_io("write", &victim, &error));
    }
    let mut test = Command::new(binary);
    test.args(["--self-test-sandbox", "--model"]).arg(&victim).stdin(Stdio::null()).kill_on_drop(true);
    let outcome = tokio::time::timeout(SELF_TEST_WAIT, test.output()).await;
    let _ = fs::remove_file(&victim);
    let failed = |detail: String| {
        Check::broken(
            NAME,
            Failure::new(Exit::Failure, detail).hint("the engine must not run unconfined; update it, or the kernel"),
        )
    };
    match outcome {
        Err(_) => failed("the engine's self-test did not end".to_owned()),
        Ok(Err(error)) => failed(format!("the engine cannot be started: {error}")),
        Ok(Ok(output)) if !output.status.success() => {
            let said = String::from_utf8_lossy(&output.stderr);
            failed(said.lines().last().unwrap_or("the engine's self-test failed and said nothing").to_owned())
        }
        Ok(Ok(output)) => {
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let denied = said.lines().filter(|line| line.starts_with("denied")).count();
            match said.lines().find(|line| line.starts_with("not tested")) {
                None => Check::ok(NAME, format!("holds: {denied} forbidden things were denied")),
                Some(line) => Check::warning(NAME, line, "use a kernel with landlock (5.13 or newer, enabled at boot)"),
            }
        }
    }
}

async fn port(address: SocketAddr, data_dir: &Path) -> Check {
    const NAME: &str = "port";
    match tokio::net::TcpListener::bind(address).await {
        Ok(_) => Check::ok(NAME, format!("{address} is free")),
        Err(_) if matches!(ServeLock::acquire(data_dir), Err(LedgerError::InUse(_))) => {
            Check::ok(NAME, format!("{address} is in use; this box's server is running"))
        }
        Err(error) => Check::broken(NAME, listen::refused(address, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::kernels_of;

    #[test]
    fn what_the_engine_says_of_itself_is_understood() {
        let said = |text| kernels_of(text).unwrap_or_default();
        let features = "CPU : SSE3 = 1 | AVX2 = 1 | AVX512 = 0 | REPACK = 1 | ";
        assert_eq!(said(features), "built for this machine, with SSE3 AVX2 REPACK");
        let portable = format!("{features}kernels: alderlake\n");
        assert_eq!(said(&portable), "those for alderlake of a portable build, with SSE3 AVX2 REPACK");
        assert_eq!(kernels_of("stub\n"), None);
    }
}
