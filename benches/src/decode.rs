//! What is measured beside the peer: one stream, eight, long prompts, and people in each other's way.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Context;

use crate::Args;
use crate::bench::{Bench, Pair, stream};
use crate::process::{SLOTS, Server};

/// Tokens of the one stream.
const TOKENS_ALONE: u32 = 256;
/// Tokens of each of eight.
const TOKENS_IN_COMPANY: u32 = 128;
/// A restart takes seconds, and shows the same each time.
const RESTARTS_MAX: u32 = 3;
/// Numbers that make a prompt of about 1000, 2000 and 3500 tokens.
const NUMBERS_1K: u32 = 230;
const NUMBERS_2K: u32 = 420;
const NUMBERS_3K: u32 = 700;
/// Prompts of earlier measurements are numbered below this apart.
const APART: u32 = 1000;

pub(crate) fn measure(args: &Args) -> anyhow::Result<Vec<Pair>> {
    let ours = Server::allerac(args, None)?;
    let theirs = Server::peer(args)?;
    let bench = Bench { model: &args.model, rounds: args.rounds, ours: &ours, theirs: &theirs };
    let mut pairs = alone(&bench)?;
    pairs.extend(in_company(&bench)?);
    pairs.push(beside_a_busy_program(&bench)?.aims_at(3.0));
    Ok(pairs)
}

/// The first token on a prompt of 2,000 tokens that was answered before both servers were started anew.
pub(crate) fn measure_restart(args: &Args) -> anyhow::Result<Pair> {
    let (mut ours, mut theirs) = (Server::allerac(args, None)?, Server::peer(args)?);
    let (mut of_ours, mut of_theirs) = (Vec::new(), Vec::new());
    for round in 0..args.rounds.min(RESTARTS_MAX) {
        let prompt = numbers(7 * APART + round, NUMBERS_2K);
        for (server, values) in [(&mut ours, &mut of_ours), (&mut theirs, &mut of_theirs)] {
            let stream = |server: &Server, prompt: &str| stream(&args.model, server, prompt, 1, 0.0, |_| ());
            stream(server, &prompt)?;
            server.restart()?;
            // Threads and caches of the new process get warm on something else.
            stream(server, &prose(8 * APART + round))?;
            values.push(millis(stream(server, &prompt)?.first));
        }
    }
    let what = "first token of a known prompt of 2,000 tokens after a restart";
    Ok(Pair::new(what, "ms", false, of_ours, of_theirs).aims_at(1.0 / 0.03))
}

/// Guessing what comes next, beside the product itself without it.
pub(crate) fn measure_guesses(args: &Args) -> anyhow::Result<Vec<Pair>> {
    let with = Server::allerac(args, None)?;
    let without = Server::allerac_with(args, None, "speculate = false\n")?;
    let bench = Bench { model: &args.model, rounds: args.rounds, ours: &with, theirs: &without };
    let copied = bench.pair("text that repeats its prompt", "tok/s", true, |bench, server, round| {
        let passage = format!(
            "In house {round} the keeper climbed the stairs every evening. He carried a brass lamp and a small book. "
        );
        Ok(bench.stream(server, &passage.repeat(6), TOKENS_ALONE, 0.0, |_| ())?.rate())
    })?;
    let other = bench.pair("other text", "tok/s", true, |bench, server, round| {
        Ok(bench.stream(server, &prose(round), TOKENS_ALONE, 0.8, |_| ())?.rate())
    })?;
    Ok(vec![copied.aims_at(3.0), other.aims_at(0.97)])
}

fn alone(bench: &Bench) -> anyhow::Result<Vec<Pair>> {
    let short = bench.pair("decode, one stream", "tok/s", true, |bench, server, round| {
        Ok(bench.stream(server, &prose(round), TOKENS_ALONE, 0.8, |_| ())?.rate())
    })?;
    let deep = bench.pair("decode, one stream after 2,000 tokens", "tok/s", true, |bench, server, round| {
        let prompt = format!("{}{}", numbers(0, NUMBERS_2K), prose(round));
        Ok(bench.stream(server, &prompt, 64, 0.8, |_| ())?.rate())
    })?;
    let first = bench.pair("first token, prompt of 20 tokens", "ms", false, |bench, server, round| {
        Ok(millis(bench.stream(server, &prose(APART + round), 2, 0.0, |_| ())?.first))
    })?;
    let long = bench.pair("first token, prompt of 1,000 tokens", "ms", false, |bench, server, round| {
        Ok(millis(bench.stream(server, &numbers(round, NUMBERS_1K), 2, 0.0, |_| ())?.first))
    })?;
    Ok(vec![short.aims_at(1.0), deep.aims_at(1.5), first, long])
}

fn in_company(bench: &Bench) -> anyhow::Result<Vec<Pair>> {
    let eight = |round: u32| move |index: u32| prose(2 * APART + round * SLOTS + index);
    let aggregate = bench.pair("decode, eight streams together", "tok/s", true, |bench, server, round| {
        let began = Instant::now();
        let streams = bench.together(server, TOKENS_IN_COMPANY, eight(round))?;
        Ok(f64::from(streams.iter().map(|stream| stream.tokens).sum::<u32>()) / began.elapsed().as_secs_f64())
    })?;
    let cost = bench.pair("CPU time a token, eight streams", "ms", false, |bench, server, round| {
        let before = server.cpu_time_of_all()?;
        let streams = bench.together(server, TOKENS_IN_COMPANY, eight(APART + round))?;
        let tokens: u32 = streams.iter().map(|stream| stream.tokens).sum();
        Ok(millis(server.cpu_time_of_all()? - before) / f64::from(tokens))
    })?;
    let shared = bench.pair(
        "eight at once with one new beginning of 2,000 tokens, all answered",
        "ms",
        false,
        |bench, server, round| {
            let began = Instant::now();
            bench.together(server, 1, |index| format!("{}{}", numbers(2 * APART + round, NUMBERS_2K), prose(index)))?;
            Ok(millis(began.elapsed()))
        },
    )?;
    let warm = bench.pair(
        "first token of a known prompt while a new one of 2,000 tokens is read",
        "ms",
        false,
        |bench, server, round| {
            let known = numbers(0, 40);
            bench.stream(server, &known, 1, 0.0, |_| ())?;
            beside(bench, server, &numbers(3 * APART + round, NUMBERS_2K), || {
                Ok(millis(bench.stream(server, &known, 1, 0.0, |_| ())?.first))
            })
        },
    )?;
    let gap = bench.pair(
        "longest gap in a stream while a prompt of 3,500 tokens is read",
        "ms",
        false,
        |bench, server, round| Ok(disturbed(bench, server, 4 * APART + round)?.0),
    )?;
    let newcomer = bench.pair("first token of that prompt", "ms", false, |bench, server, round| {
        Ok(disturbed(bench, server, 5 * APART + round)?.1)
    })?;
    Ok(vec![
        aggregate.aims_at(1.25),
        cost.aims_at(1.0 / 0.75),
        shared.aims_at(1.0 / 0.15),
        warm.aims_at(1.0 / 0.05),
        gap.aims_at(1.0 / 0.05),
        newcomer.aims_at(1.0 / 1.2),
    ])
}

/// Runs something while a prompt is being read.
fn beside(
    bench: &Bench,
    server: &Server,
    prompt: &str,
    run: impl FnOnce() -> anyhow::Result<f64>,
) -> anyhow::Result<f64> {
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| bench.stream(server, prompt, 1, 0.0, |_| ()));
        crate::process::pause(std::time::Duration::from_millis(300));
        let result = run();
        reading.join().expect("a client does not panic")?;
        result
    })
}

/// A stream beside which a long prompt arrives: its longest gap, and the newcomer's first token, in milliseconds.
fn disturbed(bench: &Bench, server: &Server, number: u32) -> anyhow::Result<(f64, f64)> {
    let (begun, arrived) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let newcomer = scope.spawn(move || {
            arrived.recv().context("the stream ended before it began")?;
            bench.stream(server, &numbers(number, NUMBERS_3K), 1, 0.0, |_| ())
        });
        let stream = bench.stream(server, &prose(number), 4 * TOKENS_ALONE, 0.8, |pieces| {
            if pieces == 10 {
                let _ = begun.send(());
            }
        })?;
        let newcomer = newcomer.join().expect("a client does not panic")?;
        Ok((millis(stream.gap), millis(newcomer.first)))
    })
}

fn beside_a_busy_program(bench: &Bench) -> anyhow::Result<Pair> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                std::hint::black_box(0);
            }
        });
        let pair =
            bench.pair("decode, one stream while another program has a core", "tok/s", true, |bench, server, round| {
                Ok(bench.stream(server, &prose(6 * APART + round), 48, 0.8, |_| ())?.rate())
            });
        over.store(true, Ordering::Relaxed);
        pair
    })
}

fn millis(time: std::time::Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// A prompt that the model goes on with without repeating itself; no two share a beginning, so that no side
/// finds it in its cache.
fn prose(number: u32) -> String {
    format!("Chapter {number}. Once upon a time, in a village by the sea, there lived")
}

/// A long prompt that begins like no other.
fn numbers(number: u32, count: u32) -> String {
    format!("{number}: {}", (1..count).map(|count| format!("{count}, ")).collect::<String>())
}
