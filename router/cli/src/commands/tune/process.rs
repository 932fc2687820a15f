//! Runs the engine's program to measure.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use allerac_engine_link::EngineSettings;
use allerac_hardware::tuning::{Choice, Effort, Report, Trial};
use allerac_models::Installed;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

use super::busy::Watch;
use super::print;
use crate::failure::Failure;
use crate::setup::Prepared;
use crate::tuned::{self, Configured, ENGINE_VERSION};

/// What a model may take to be loaded from a slow disk; the engine bounds what it measures.
const LOAD_WAIT: Duration = Duration::from_secs(180);

/// What an engine may print: many times the lines of a measurement.
const STDOUT_BYTES_MAX: u64 = 64 * 1024;

/// What an engine may say on stderr before it is of no interest.
const STDERR_BYTES_MAX: u64 = 64 * 1024;

/// Measures one choice after another.
pub(super) struct Bench<'a> {
    binary: PathBuf,
    model: &'a Installed,
    settings: EngineSettings,
    pub(super) effort: Effort,
    /// See [`choose`](allerac_hardware::tuning::choose).
    pub(super) others_percent_max: u32,
    budget: Budget,
    bar: ProgressBar,
    runs: usize,
}

/// The time for all runs.
struct Budget {
    begun: Instant,
    total: Duration,
    last_run: Duration,
}

impl Budget {
    /// Whether a run that takes as long as the last one ends within this part of the time, in percent.
    fn allows(&self, percent: u32, now: Instant) -> bool {
        now + self.last_run <= self.begun + self.total * percent / 100
    }
}

impl<'a> Bench<'a> {
    pub(super) fn new(prepared: &Prepared, model: &'a Installed, effort: Effort, others_percent_max: u32) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(ProgressStyle::with_template("{spinner} {msg}").expect("the template is well-formed"));
        bar.enable_steady_tick(Duration::from_millis(200));
        let (binary, settings) = (prepared.binary.clone(), prepared.settings.clone());
        let budget = Budget { begun: Instant::now(), total: effort.total_max(), last_run: Duration::ZERO };
        Self { binary, model, settings, effort, others_percent_max, budget, bar, runs: 0 }
    }

    /// Says what is going to happen, and how long it can take.
    pub(super) fn announce(&self) {
        let minutes = self.budget.total.as_secs() / 60;
        self.say(&format!("measuring {}, for about {minutes} minutes at most", self.model.id));
        self.say("leave the machine alone meanwhile; Ctrl-C stops it and changes nothing");
    }

    /// Measures each choice as often as is due, one after the other, so that what makes a machine slower for a while
    /// (heat, a neighbour) meets all of them. A choice that was measured before gets further rounds. Ends with this part
    /// of the time, in percent, but measures the very first choice in any case.
    pub(super) async fn rounds(
        &mut self,
        choices: &[Choice],
        percent: u32,
        trials: &mut Vec<Trial>,
    ) -> Result<(), Failure> {
        let mut left_out = 0;
        for _ in 0..self.effort.rounds() {
            for choice in choices {
                if !trials.is_empty() && !self.budget.allows(percent, Instant::now()) {
                    left_out += 1;
                    continue;
                }
                let round = self.trial(choice).await?;
                match trials.iter_mut().find(|trial| trial.engine == *choice) {
                    Some(trial) => trial.merge(&round),
                    None => trials.push(round),
                }
            }
        }
        if left_out > 0 {
            self.say(&format!("no time for {left_out} more runs of this kind"));
        }
        Ok(())
    }

    async fn trial(&mut self, choice: &Choice) -> Result<Trial, Failure> {
        self.runs += 1;
        let name = format!("run {}: {}", self.runs, print::choice(choice));
        self.bar.set_message(name.clone());
        let mut trial = Trial { engine: choice.clone(), others_percent: 0, failure: None, measured: Vec::new() };
        let (begun, watch) = (Instant::now(), Watch::start());
        let mut child = self.spawn(choice)?;
        let patience = self.effort.time_max() * 2 + LOAD_WAIT;
        let read = tokio::time::timeout(patience, self.read(&mut child, &name, &mut trial)).await;
        match read {
            Ok(Ok(cpu_seconds)) => trial.others_percent = watch.others_percent(cpu_seconds),
            Ok(Err(failure)) => trial.failure = Some(failure),
            Err(_) => trial.failure = Some(format!("it did not end within {} s", patience.as_secs())),
        }
        if trial.failure.is_some() {
            trial.measured.clear();
        }
        self.budget.last_run = begun.elapsed();
        let speeds = print::speeds(&trial);
        if trial.others_percent > self.others_percent_max {
            let others = trial.others_percent;
            self.say(&format!("{name}: {speeds}; not believed: other programs used {others} % of the processors"));
        } else {
            self.say(&format!("{name}: {speeds}"));
        }
        Ok(trial)
    }

    fn spawn(&self, choice: &Choice) -> Result<Child, Failure> {
        let settings = tuned::apply(self.settings.clone(), choice, Configured::default());
        let mut command = Command::new(&self.binary);
        command.args(["--measure", self.effort.as_str(), "--model"]).arg(&self.model.path).args(settings.to_args());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command.spawn().map_err(|error| Failure::from_io("start", &self.binary, &error))
    }

    /// Takes what the engine prints until it ends; the seconds that processors worked for it, or why it failed.
    async fn read(&self, child: &mut Child, name: &str, trial: &mut Trial) -> Result<f64, String> {
        let taken = |report| match report {
            Report::Measured(measurement) if measurement.tokens_per_second <= 0.0 => {
                Err(format!("it said nonsense: {}", serde_json::to_string(&measurement).unwrap_or_default()))
            }
            Report::Measured(measurement) => {
                self.bar.set_message(format!("{name}: {}", print::measurement(&measurement)));
                trial.measured.push(measurement);
                Ok(())
            }
            Report::Skipped { depth, reason } => {
                self.say(&format!("{name}: not measured after {depth} tokens: {reason}"));
                Ok(())
            }
            Report::Sampled { .. } | Report::Done { .. } => Ok(()),
        };
        reports(child, taken).await
    }

    pub(super) fn say(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }
}

/// Gives on what a measuring engine prints until it ends; the seconds that processors worked for it, or why it failed.
pub(crate) async fn reports(
    child: &mut Child,
    mut taken: impl FnMut(Report) -> Result<(), String>,
) -> Result<f64, String> {
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err("it has no output".to_owned());
    };
    let mut done = None;
    let lines = async {
        let mut lines = BufReader::new(stdout.take(STDOUT_BYTES_MAX)).lines();
        while let Some(line) = lines.next_line().await.map_err(|error| error.to_string())? {
            match serde_json::from_str(&line).map_err(|error| format!("it said nonsense: {error}"))? {
                Report::Done { version, cpu_seconds } => done = Some((version, cpu_seconds)),
                report => taken(report)?,
            }
        }
        Ok::<(), String>(())
    };
    let mut said = Vec::new();
    let complaints = async {
        let mut stderr = stderr;
        let _ = (&mut stderr).take(STDERR_BYTES_MAX).read_to_end(&mut said).await;
        // What comes after that is read too, or the engine would wait for us.
        let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
    };
    let (read, ()) = tokio::join!(lines, complaints);
    let status = child.wait().await.map_err(|error| error.to_string())?;
    read?;
    match done {
        Some((version, cpu_seconds)) if status.success() => {
            if version == ENGINE_VERSION {
                Ok(cpu_seconds)
            } else {
                Err(format!("the engine is of version {version}, and this is {ENGINE_VERSION}"))
            }
        }
        _ => {
            let said = String::from_utf8_lossy(&said);
            Err(said.lines().last().map_or_else(|| format!("it ended with {status}"), str::to_owned))
        }
    }
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_begins_only_where_it_can_end_in_time() {
        let begun = Instant::now();
        let (total, last_run) = (Duration::from_secs(100), Duration::from_secs(20));
        let budget = Budget { begun, total, last_run };
        let allows = |percent, seconds| budget.allows(percent, begun + Duration::from_secs(seconds));
        assert!(allows(50, 0) && allows(50, 30) && !allows(50, 31));
        assert!(allows(100, 80) && !allows(100, 81) && !allows(100, 500));
    }
}
