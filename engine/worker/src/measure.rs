//! Measures how fast this process computes, and prints a JSON line a speed.
//!
//! No clock is read: a backend says how long each step took. So the time spent is that of computing.

use std::io::Write;
use std::ops::RangeInclusive;
use std::time::Duration;

use allerac_engine_core::{AdapterId, Backend, BackendError, BatchToken, TokenId};
use allerac_engine_llama::{Context, Model, load_kernels};
use allerac_hardware::tuning::{DEPTHS, Effort, Measurement, Part, Phase, Report, Workload};
use anyhow::Context as _;

use crate::args::Args;
use crate::gpu;
use crate::sandbox;

/// What measuring is for.
pub(crate) enum Work {
    /// To find settings: medians, and only what fits into some time.
    Tune(Effort),
    /// To tell speeds: all of it, and every sample.
    Bench(Workload),
}

/// What is measured, and for how long at most.
struct Plan {
    depths: Vec<u32>,
    /// Tokens of a prompt.
    prompt: u32,
    /// Prompts at each depth.
    repeats: usize,
    /// Tokens of each answer at each depth.
    steps: usize,
    /// What may be computed in all. A depth that would take longer is left out, but for the beginning, and a series that
    /// takes more than its part of it ends early.
    time_max: Duration,
}

/// The fewest steps of a series that was cut short. A prompt is many tokens, so one has to do.
const STEPS_MIN: usize = 3;
const PROMPTS_MIN: usize = 1;
/// The part of all time that one series may take.
const SERIES: u32 = 8;
/// Tokens of the first prompt, which brings the model into memory and tells how fast prompts are about.
const WARM_UP: u32 = 32;

impl Plan {
    fn new(effort: Effort) -> Self {
        let (depths, time_max) = (DEPTHS.map(|(depth, _)| depth), effort.time_max());
        match effort {
            Effort::Quick => Self { depths: depths[..2].to_vec(), prompt: 256, repeats: 3, steps: 16, time_max },
            Effort::Full => Self { depths: depths.to_vec(), prompt: 512, repeats: 3, steps: 32, time_max },
        }
    }
}

/// What measuring is done on: any words do.
const TEXT: &str = "The lighthouse keeper climbed the spiral stairs every evening. He carried a brass lamp, a thermos \
    of tea and a book about the sea, which he had read so often that he knew where each storm began. ";

/// Loads the model, measures and prints until it is done or out of time.
pub(crate) fn run(args: &Args, work: &Work) -> anyhow::Result<()> {
    load_kernels()?;
    let offload = gpu::open(args)?;
    if !args.no_sandbox {
        sandbox::confine(args)?;
    }
    let (model, _) = Model::load_with(args.model(), offload.as_ref(), &[], |_| {})?;
    let mut context = Context::new(model, args.context_params())?;
    let text = model.tokenise(TEXT, false);
    let mut printed = Ok(());
    let mut tell = |report: &Report| {
        let line = serde_json::to_string(report).expect("numbers and words are JSON");
        printed = std::mem::replace(&mut printed, Ok(())).and_then(|()| writeln!(std::io::stdout(), "{line}"));
    };
    let measured = match work {
        Work::Tune(effort) => measure(&mut context, &text, &Plan::new(*effort), &mut tell),
        Work::Bench(workload) => bench(&mut context, &text, workload, &mut tell),
    };
    measured.context("cannot measure")?;
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let cpu_seconds = Duration::try_from(used).unwrap_or_default().as_secs_f64();
    tell(&Report::Done { version: env!("CARGO_PKG_VERSION").to_owned(), cpu_seconds });
    printed.context("cannot print")
}

fn measure<B: Backend>(
    backend: &mut B,
    text: &[TokenId],
    plan: &Plan,
    tell: &mut impl FnMut(&Report),
) -> Result<(), BackendError> {
    let mut meter = Meter { backend, text, plan, length: 0, spent: Duration::ZERO, per_token: Duration::ZERO };
    let took = meter.extend(WARM_UP)?;
    meter.per_token = took / WARM_UP;
    meter.rewind(0);
    for depth in plan.depths.iter().copied() {
        if let Some(reason) = meter.obstacle(depth) {
            tell(&Report::Skipped { depth, reason });
            continue;
        }
        let missing = depth.saturating_sub(meter.length);
        if missing > 0 {
            meter.per_token = meter.extend(missing)? / missing;
        }
        for report in meter.at(depth)? {
            tell(&report);
        }
    }
    Ok(())
}

/// Measures all of a workload, however long it takes.
fn bench<B: Backend>(
    backend: &mut B,
    text: &[TokenId],
    workload: &Workload,
    tell: &mut impl FnMut(&Report),
) -> Result<(), BackendError> {
    let Workload { prompt, answer, ref depths, repeats } = *workload;
    let repeats = repeats as usize;
    let plan = Plan { depths: depths.clone(), prompt, repeats, steps: answer as usize, time_max: Duration::MAX };
    let mut meter = Meter { backend, text, plan: &plan, length: 0, spent: Duration::ZERO, per_token: Duration::ZERO };
    // The model comes into memory before anything counts.
    meter.extend(WARM_UP)?;
    meter.step(1)?;
    for depth in depths.iter().copied() {
        if let Some(reason) = meter.obstacle(depth) {
            tell(&Report::Skipped { depth, reason });
            continue;
        }
        for (phase, tokens) in [(Phase::Prefill, prompt), (Phase::Decode, answer)].into_iter().filter(|(_, n)| *n > 0) {
            let samples = (0..repeats).map(|_| meter.sample(phase, depth, tokens));
            let samples = samples.collect::<Result<_, _>>()?;
            tell(&Report::Sampled { phase, depth, tokens, samples });
        }
    }
    Ok(())
}

struct Meter<'a, B> {
    backend: &'a mut B,
    text: &'a [TokenId],
    plan: &'a Plan,
    /// Tokens that the first sequence has.
    length: u32,
    spent: Duration,
    /// What a token of a prompt takes about.
    per_token: Duration,
}

impl<B: Backend> Meter<'_, B> {
    /// Why a depth is not measured.
    fn obstacle(&self, depth: u32) -> Option<String> {
        let room = self.backend.limits().context;
        let longest = depth + self.plan.prompt.max(self.steps());
        if longest > room {
            return Some(format!("it needs {longest} tokens of context, and there are {room}"));
        }
        // Without the beginning there would be nothing to compare.
        if depth == 0 {
            return None;
        }
        let tokens = depth.saturating_sub(self.length) + self.plan.prompt;
        let wait = self.per_token * tokens;
        let left = self.plan.time_max.saturating_sub(self.spent);
        (wait > left)
            .then(|| format!("it takes about {:.1} s, and {:.1} s are left", wait.as_secs_f64(), left.as_secs_f64()))
    }

    /// Everything that is measured at a depth, which the first sequence has.
    fn at(&mut self, depth: u32) -> Result<Vec<Report>, BackendError> {
        let mut reports = Vec::new();
        // A recurrent state cannot be taken back, and a prompt measured would make the answers deeper.
        if depth == 0 || self.backend.limits().drafts {
            let prompt = self.plan.prompt;
            let samples = self.series(PROMPTS_MIN..=self.plan.repeats, |this| {
                let took = this.extend(prompt)?;
                this.rewind(depth);
                Ok(f64::from(prompt) / took.as_secs_f64())
            })?;
            reports.push(report(Phase::Prefill, depth, 1, samples));
        }
        let steps = STEPS_MIN..=self.plan.steps;
        let samples = self.series(steps.clone(), |this| this.step(1))?;
        reports.push(report(Phase::Decode, depth, 1, samples));
        self.rewind(depth);
        let sequences = self.backend.limits().sequences;
        if sequences > 1 && self.gather(depth, sequences) {
            let samples = self.series(steps, |this| this.step(sequences))?;
            reports.push(report(Phase::Decode, depth, sequences, samples));
            (1..sequences).for_each(|sequence| self.backend.clear(sequence));
            self.rewind(depth);
        }
        Ok(reports)
    }

    /// One prompt, or one answer, after so many tokens; tokens a second.
    fn sample(&mut self, phase: Phase, depth: u32, tokens: u32) -> Result<f64, BackendError> {
        self.rewind(depth);
        if self.length != depth {
            // Nothing that is deeper is there yet, or a recurrent state, which cannot be taken back.
            if self.length > depth {
                self.rewind(0);
            }
            self.extend(depth - self.length)?;
        }
        let took = match phase {
            Phase::Prefill => self.extend(tokens)?,
            Phase::Decode => {
                let before = self.spent;
                for _ in 0..tokens {
                    self.step(1)?;
                }
                self.spent - before
            }
        };
        Ok(f64::from(tokens) / took.as_secs_f64())
    }

    /// As many samples as the range goes to, or fewer when they take too long.
    fn series(
        &mut self,
        count: RangeInclusive<usize>,
        mut sample: impl FnMut(&mut Self) -> Result<f64, BackendError>,
    ) -> Result<Vec<f64>, BackendError> {
        let (begun, mut samples) = (self.spent, Vec::new());
        while samples.len() < *count.end() {
            samples.push(sample(self)?);
            if samples.len() >= *count.start() && self.spent - begun > self.plan.time_max / SERIES {
                break;
            }
        }
        Ok(samples)
    }

    /// Gives all sequences what the first one has; `false` where that cannot be or does not fit.
    fn gather(&mut self, depth: u32, sequences: u32) -> bool {
        let limits = self.backend.limits();
        if sequences * (depth + self.steps()) > limits.cells || (depth > 0 && limits.copy_min.is_none()) {
            return false;
        }
        if depth > 0 {
            (1..sequences).for_each(|sequence| self.backend.copy(0, sequence, depth));
        }
        true
    }

    /// One more token for each of so many sequences; tokens a second.
    fn step(&mut self, sequences: u32) -> Result<f64, BackendError> {
        let batch: Vec<BatchToken> = (0..sequences)
            .map(|sequence| BatchToken { wants_logits: true, ..self.token(sequence, self.length) })
            .collect();
        let took = self.decode(&batch)?;
        self.length += 1;
        Ok(f64::from(sequences) / took.as_secs_f64())
    }

    /// Computes more of the first sequence, in batches.
    fn extend(&mut self, tokens: u32) -> Result<Duration, BackendError> {
        let (end, mut took) = (self.length + tokens, Duration::ZERO);
        while self.length < end {
            let until = end.min(self.length + self.backend.limits().batch);
            let mut batch: Vec<BatchToken> = (self.length..until).map(|position| self.token(0, position)).collect();
            if let Some(last) = batch.last_mut() {
                last.wants_logits = until == end;
            }
            took += self.decode(&batch)?;
            self.length = until;
        }
        Ok(took)
    }

    /// Takes the first sequence back to a length, where it can be.
    fn rewind(&mut self, length: u32) {
        if length >= self.length {
            return;
        }
        if length == 0 {
            self.backend.clear(0);
            self.length = 0;
        } else if self.backend.truncate(0, length) {
            self.length = length;
        }
    }

    fn decode(&mut self, batch: &[BatchToken]) -> Result<Duration, BackendError> {
        let took = self.backend.decode(batch, AdapterId::NONE)?;
        self.spent += took;
        Ok(took)
    }

    fn token(&self, sequence: u32, position: u32) -> BatchToken {
        let token = self.text[position as usize % self.text.len()];
        BatchToken { token, position, sequence, wants_logits: false }
    }

    fn steps(&self) -> u32 {
        u32::try_from(self.plan.steps).unwrap_or(u32::MAX)
    }
}

fn report(phase: Phase, depth: u32, sequences: u32, samples: Vec<f64>) -> Report {
    let (tokens_per_second, uncertainty) = summary(samples);
    Report::Measured(Measurement { part: Part { phase, depth, sequences }, tokens_per_second, uncertainty })
}

/// The median, and its standard error as a share of it, from the median absolute deviation: a single sample that
/// another program disturbed changes neither. The factors are those of normally distributed samples.
fn summary(mut samples: Vec<f64>) -> (f64, f64) {
    let count = samples.len() as f64;
    let median = median(&mut samples);
    let mut deviations: Vec<f64> = samples.iter().map(|sample| (sample - median).abs()).collect();
    let deviation = 1.4826 * self::median(&mut deviations);
    (median, 1.2533 * deviation / count.sqrt() / median)
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    let middle = samples.len() / 2;
    if samples.len().is_multiple_of(2) { f64::midpoint(samples[middle - 1], samples[middle]) } else { samples[middle] }
}

#[cfg(test)]
#[path = "measure_tests.rs"]
mod tests;
