//! Measures the product beside llama.cpp's own server, on the same file, threads and machine, in turns, and
//! the router alone over a stub of the engine. Prints a table and writes it to a file; never fails on time.

mod bench;
mod chart;
mod decode;
mod http;
mod machine;
mod overhead;
mod process;
mod report;
mod stats;

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;

/// Speed beside llama.cpp's own server, and the router's overhead
#[derive(Debug, Clone, Parser)]
struct Args {
    /// The program `allerac`
    #[arg(long, default_value = "target/release/allerac")]
    allerac: PathBuf,
    /// A stand-in for `allerac-engine` that answers at once
    #[arg(long, default_value = "target/release/examples/engine_stub")]
    stub: PathBuf,
    /// A Python with the packages of tests/requirements.txt
    #[arg(long, default_value = "tests/.venv/bin/python")]
    python: PathBuf,
    /// The program that starts the peer
    #[arg(long, default_value = "tests/python/peer.py")]
    peer: PathBuf,
    /// The folder with the model that both serve
    #[arg(long, default_value = ".cache/test-data/models")]
    models: PathBuf,
    /// The model's id
    #[arg(long, default_value = "smollm2-135m-instruct")]
    model: String,
    /// A folder with another model, whose decoding is measured too
    #[arg(long)]
    second_models: Option<PathBuf>,
    /// That model's id
    #[arg(long, default_value = "gemma-3-270m")]
    second_model: String,
    /// Where the product keeps its data meanwhile: the ledger's speed is that of this disk
    #[arg(long, default_value = "target")]
    data: PathBuf,
    /// Threads of both engines; 0 means one a core
    #[arg(long, default_value_t = 0)]
    threads: u32,
    /// Rounds of each measurement
    #[arg(long, default_value_t = 7)]
    rounds: u32,
    /// Requests a second for the router's overhead
    #[arg(long, default_value_t = 1000)]
    rate: u32,
    /// Seconds of that
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// What to measure
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["decode", "restart", "guesses", "overhead"])]
    what: Vec<What>,
    /// Where the results are written; nowhere when left out
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    Decode,
    Restart,
    Guesses,
    Overhead,
}

fn main() -> anyhow::Result<()> {
    let mut args = Args::parse();
    if args.threads == 0 {
        args.threads = machine::physical_cores();
    }
    let mut report = report::Report::new(&args)?;
    let second = args.second_models.clone().map(|models| (args.second_model.clone(), models));
    let models = [(args.model.clone(), args.models.clone())].into_iter().chain(second);
    for (model, models) in models {
        let args = Args { model, models, ..args.clone() };
        let mut pairs = Vec::new();
        if args.what.contains(&What::Decode) {
            pairs = decode::measure(&args).context("the decoding benchmark")?;
        }
        if args.what.contains(&What::Restart) {
            pairs.push(decode::measure_restart(&args).context("the benchmark of restarts")?);
        }
        if !pairs.is_empty() {
            report.decode(&format!("{}, beside llama.cpp's own server", args.model), "peer", pairs);
        }
        if args.what.contains(&What::Guesses) {
            let pairs = decode::measure_guesses(&args).context("the benchmark of guesses")?;
            report.decode(
                &format!("{}, beside itself without guesses (`speculate = false`)", args.model),
                "without",
                pairs,
            );
        }
    }
    if args.what.contains(&What::Overhead) {
        report.overhead(&overhead::measure(&args).context("the overhead benchmark")?);
    }
    let chart = args.out.as_ref().map(|path| path.with_extension("svg"));
    let (text, picture) = report.finish(chart.as_deref());
    println!("{text}");
    for (path, content) in args.out.iter().zip([text]).chain(chart.iter().zip([picture])) {
        std::fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
