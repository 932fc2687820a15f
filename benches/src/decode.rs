//! Tokens a second and the time to the first, of one stream and of eight, on both servers in turns.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::Args;
use crate::http::Target;
use crate::process::{SLOTS, Server, pause};
use crate::stats::Sorted;

/// A measurement that takes this long ends with the rounds it has: the machine is busy with something else.
const TIME_MAX: Duration = Duration::from_secs(100);
/// Tokens of the one stream.
const TOKENS_ALONE: u32 = 256;
/// Tokens of each of eight.
const TOKENS_IN_COMPANY: u32 = 128;
/// Threads that wait for work spin for a while; after this they sleep and do not disturb the other side.
const CALM: Duration = Duration::from_millis(300);

/// The same measurement of both.
pub(crate) struct Pair {
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) more_is_better: bool,
    pub(crate) ours: Sorted,
    pub(crate) theirs: Sorted,
}

/// One stream as it came.
struct Stream {
    first: Duration,
    whole: Duration,
    tokens: u32,
}

pub(crate) fn measure(args: &Args) -> anyhow::Result<Vec<Pair>> {
    let ours = Server::allerac(args, None)?;
    let theirs = Server::peer(args)?;
    let bench = Bench { model: &args.model, rounds: args.rounds, ours: &ours.target, theirs: &theirs.target };
    let alone = bench.pair("decode, one stream", "tok/s", true, |bench, target, round| {
        let stream = bench.stream(target, &prose(round), TOKENS_ALONE)?;
        Ok(f64::from(stream.tokens - 1) / (stream.whole - stream.first).as_secs_f64())
    })?;
    let company = bench.pair("decode, eight streams together", "tok/s", true, |bench, target, round| {
        let began = Instant::now();
        let tokens: u32 = bench.together(target, round)?.iter().map(|stream| stream.tokens).sum();
        Ok(f64::from(tokens) / began.elapsed().as_secs_f64())
    })?;
    let first = bench.pair("time to the first token, prompt of 20 tokens", "ms", false, |bench, target, round| {
        Ok(bench.stream(target, &prose(round), 2)?.first.as_secs_f64() * 1e3)
    })?;
    let long = bench.pair("time to the first token, prompt of 1000 tokens", "ms", false, |bench, target, round| {
        Ok(bench.stream(target, &long_prompt(round), 2)?.first.as_secs_f64() * 1e3)
    })?;
    Ok(vec![alone, company, first, long])
}

struct Bench<'a> {
    model: &'a str,
    rounds: u32,
    ours: &'a Target,
    theirs: &'a Target,
}

impl Bench<'_> {
    /// Measures both in turns, ours first in one round and theirs in the next, after a round for warmth.
    fn pair(
        &self,
        what: &str,
        unit: &'static str,
        more_is_better: bool,
        measure: impl Fn(&Self, &Target, u32) -> anyhow::Result<f64>,
    ) -> anyhow::Result<Pair> {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let began = Instant::now();
        for round in 0..=self.rounds {
            if !ours.is_empty() && began.elapsed() > TIME_MAX {
                break;
            }
            let mut sides = [(self.ours, &mut ours), (self.theirs, &mut theirs)];
            if round % 2 == 1 {
                sides.reverse();
            }
            for (target, values) in sides {
                pause(CALM);
                let value = measure(self, target, round)?;
                if round > 0 {
                    values.push(value);
                }
            }
        }
        let pair =
            Pair { what: what.to_owned(), unit, more_is_better, ours: Sorted::new(ours), theirs: Sorted::new(theirs) };
        eprintln!("{what}: {:.1} beside {:.1} {unit}", pair.ours.median(), pair.theirs.median());
        Ok(pair)
    }

    fn stream(&self, target: &Target, prompt: &str, max_tokens: u32) -> anyhow::Result<Stream> {
        let body = json!({
            "model": self.model, "prompt": prompt, "max_tokens": max_tokens, "temperature": 0.8, "seed": 1,
            "logit_bias": {"0": -100, "2": -100}, "stream": true, "stream_options": {"include_usage": true},
        });
        let request = target.post("/v1/completions", &body.to_string());
        let mut connection = target.connect()?;
        let (mut first, mut tokens) = (None, None);
        let began = Instant::now();
        let mut last = began;
        connection.stream(&request, |now, data| {
            let chunk: Value = serde_json::from_str(data).unwrap_or_default();
            if chunk["choices"][0]["text"].as_str().is_some_and(|text| !text.is_empty()) {
                first.get_or_insert(now);
                last = now;
            }
            tokens = chunk["usage"]["completion_tokens"].as_u64().or(tokens);
        })?;
        let tokens = u32::try_from(tokens.context("no usage came")?)?;
        ensure!(tokens == max_tokens, "the answer ended after {tokens} tokens");
        Ok(Stream { first: first.context("no token came")? - began, whole: last - began, tokens })
    }

    fn together(&self, target: &Target, round: u32) -> anyhow::Result<Vec<Stream>> {
        std::thread::scope(|scope| {
            let one = |index| move || self.stream(target, &prose(round * SLOTS + index), TOKENS_IN_COMPANY);
            let running: Vec<_> = (0..SLOTS).map(|index| scope.spawn(one(index))).collect();
            running.into_iter().map(|thread| thread.join().expect("a client does not panic")).collect()
        })
    }
}

/// A prompt that the model goes on with without repeating itself; no two share a beginning, so that no side
/// finds it in its cache.
fn prose(number: u32) -> String {
    format!("Chapter {number}. Once upon a time, in a village by the sea, there lived")
}

fn long_prompt(number: u32) -> String {
    format!("{number}: {}", (1..250).map(|count| format!("{count}, ")).collect::<String>())
}
