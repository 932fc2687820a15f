//! `allerac-engine`: one model, one loop, one socket, confined.
//!
//! The router starts it with one end of a socket pair as standard input. The main thread owns the model's
//! context and runs the step loop; one thread reads frames, one renders and tokenises prompts, one compiles
//! grammars, one writes frames. It ends when the socket closes.

mod affinity;
mod args;
mod check;
mod encoder;
mod gpu;
mod grammar;
mod measure;
mod memory;
mod prepare;
mod report;
mod sandbox;
mod serve;
mod spin;
mod steps;
mod template;
mod work;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,llama-cpp-2=error,llama-cpp-sys-2=error"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .without_time()
        .init();
    let args = args::Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &args::Args) -> anyhow::Result<()> {
    if args.system_info {
        return print_system_info();
    }
    if args.list_gpus {
        return gpu::list(args);
    }
    affinity::bind(args)?;
    spin::bound();
    match (args.measure, &args.workload) {
        _ if args.self_test_sandbox => sandbox::self_test(args),
        _ if args.check => check::run(args),
        (Some(effort), _) => measure::run(args, &measure::Work::Tune(effort)),
        (None, Some(workload)) => measure::run(args, &measure::Work::Bench(workload.clone())),
        (None, None) => serve::run(args),
    }
}

fn print_system_info() -> anyhow::Result<()> {
    use std::io::Write;
    allerac_engine_llama::load_kernels()?;
    Ok(writeln!(std::io::stdout(), "{}", allerac_engine_llama::Model::system_info().trim())?)
}
