//! How both sides are measured: in turns, over the same requests.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::process::{SLOTS, Server, pause};
use crate::stats::Sorted;

/// A measurement that takes this long ends with the rounds it has.
const TIME_MAX: Duration = Duration::from_secs(40);
/// A first round that took longer than this was warm for most of it, and counts.
const WARM_MAX: Duration = Duration::from_secs(8);
/// Threads that wait for work spin for a while; after this they sleep and do not disturb the other side.
const CALM: Duration = Duration::from_millis(300);

/// The same measurement of both.
pub(crate) struct Pair {
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) more_is_better: bool,
    /// The ratio that is aimed at.
    pub(crate) target: Option<f64>,
    pub(crate) ours: Sorted,
    pub(crate) theirs: Sorted,
}

impl Pair {
    /// A pair of these measurements.
    pub(crate) fn new(what: &str, unit: &'static str, more_is_better: bool, ours: Vec<f64>, theirs: Vec<f64>) -> Self {
        let (what, ours, theirs) = (what.to_owned(), Sorted::new(ours), Sorted::new(theirs));
        eprintln!("{what}: {:.1} beside {:.1} {unit}", ours.median(), theirs.median());
        Self { what, unit, more_is_better, target: None, ours, theirs }
    }

    /// The same with the ratio that is aimed at, as `ratio` counts it.
    pub(crate) fn aims_at(self, target: f64) -> Self {
        Self { target: Some(target), ..self }
    }

    /// How much better the product is; above 1 it is better.
    pub(crate) fn ratio(&self) -> f64 {
        let (ours, theirs) = (self.ours.median(), self.theirs.median());
        if self.more_is_better { ours / theirs } else { theirs / ours }
    }
}

/// One stream as it came.
pub(crate) struct Stream {
    /// From sending the request to the first text.
    pub(crate) first: Duration,
    /// Likewise to the last.
    pub(crate) whole: Duration,
    /// The longest wait for the next text.
    pub(crate) gap: Duration,
    pub(crate) tokens: u32,
}

impl Stream {
    /// Tokens a second after the first.
    pub(crate) fn rate(&self) -> f64 {
        f64::from(self.tokens - 1) / (self.whole - self.first).as_secs_f64()
    }
}

/// Two servers and how often to measure each.
pub(crate) struct Bench<'a> {
    pub(crate) model: &'a str,
    pub(crate) rounds: u32,
    pub(crate) ours: &'a Server,
    pub(crate) theirs: &'a Server,
}

impl Bench<'_> {
    /// Measures both in turns, ours first in one round and theirs in the next, after a round for warmth.
    pub(crate) fn pair(
        &self,
        what: &str,
        unit: &'static str,
        more_is_better: bool,
        measure: impl Fn(&Self, &Server, u32) -> anyhow::Result<f64>,
    ) -> anyhow::Result<Pair> {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let began = Instant::now();
        for round in 0..=self.rounds {
            if !ours.is_empty() && !theirs.is_empty() && began.elapsed() > TIME_MAX {
                break;
            }
            let mut sides = [(self.ours, &mut ours), (self.theirs, &mut theirs)];
            if round % 2 == 1 {
                sides.reverse();
            }
            for (server, values) in sides {
                pause(CALM);
                let began = Instant::now();
                let value = measure(self, server, round)?;
                if round > 0 || began.elapsed() > WARM_MAX {
                    values.push(value);
                }
            }
        }
        Ok(Pair::new(what, unit, more_is_better, ours, theirs))
    }

    /// [`stream`] of the model that is measured.
    pub(crate) fn stream(
        &self,
        server: &Server,
        prompt: &str,
        max_tokens: u32,
        temperature: f64,
        on_text: impl FnMut(u32),
    ) -> anyhow::Result<Stream> {
        stream(self.model, server, prompt, max_tokens, temperature, on_text)
    }

    /// As many streams as there are slots at once; `prompt` makes each one's prompt of its number.
    pub(crate) fn together(
        &self,
        server: &Server,
        max_tokens: u32,
        prompt: impl Fn(u32) -> String + Sync,
    ) -> anyhow::Result<Vec<Stream>> {
        let prompt = &prompt;
        std::thread::scope(|scope| {
            let one = |index| move || self.stream(server, &prompt(index), max_tokens, 0.8, |_| ());
            let running: Vec<_> = (0..SLOTS).map(|index| scope.spawn(one(index))).collect();
            running.into_iter().map(|thread| thread.join().expect("a client does not panic")).collect()
        })
    }
}

/// Streams so many tokens; the model may not end before. `on_text` is called at each piece of text with the
/// number of pieces.
pub(crate) fn stream(
    model: &str,
    server: &Server,
    prompt: &str,
    max_tokens: u32,
    temperature: f64,
    mut on_text: impl FnMut(u32),
) -> anyhow::Result<Stream> {
    let body = json!({
        "model": model, "prompt": prompt, "max_tokens": max_tokens, "temperature": temperature, "seed": 1,
        "logit_bias": {"0": -100, "1": -100, "2": -100, "106": -100}, "stream": true, "stream_options": {"include_usage": true},
    });
    let request = server.target.post("/v1/completions", &body.to_string());
    let mut connection = server.target.connect()?;
    let (mut first, mut tokens, mut pieces, mut gap) = (None, None, 0, Duration::ZERO);
    let began = Instant::now();
    let mut last = began;
    connection.stream(&request, |now, data| {
        let chunk: Value = serde_json::from_str(data).unwrap_or_default();
        if chunk["choices"][0]["text"].as_str().is_some_and(|text| !text.is_empty()) {
            if first.is_some() {
                gap = gap.max(now - last);
            }
            first.get_or_insert(now);
            last = now;
            pieces += 1;
            on_text(pieces);
        }
        tokens = chunk["usage"]["completion_tokens"].as_u64().or(tokens);
    })?;
    let tokens = u32::try_from(tokens.context("no usage came")?)?;
    ensure!(tokens == max_tokens, "the answer ended after {tokens} tokens");
    Ok(Stream { first: first.context("no token came")? - began, whole: last - began, gap, tokens })
}
