//! `allerac`: the server, and the commands that look after it.

mod amount;
mod args;
mod commands;
mod config;
mod failure;
mod logging;
mod output;
mod place;
mod secret;
mod serve;
mod setup;
mod tuned;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};
use failure::{Exit, Failure};

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(refusal) => {
            // Help and version come this way too, and are no failure.
            let _ = refusal.print();
            return if refusal.use_stderr() { Exit::Usage.into() } else { Exit::Success.into() };
        }
    };
    logging::start(&args.command);
    match start(&args) {
        Ok(()) => Exit::Success.into(),
        Err(failure) => {
            if failure.exit != Exit::Success {
                eprintln!("{failure}");
            }
            failure.exit.into()
        }
    }
}

fn start(args: &Args) -> Result<(), Failure> {
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| Failure::new(Exit::Failure, format!("cannot start threads: {error}")))?;
    let result = runtime.block_on(run(args));
    // What still blocks a thread (a name being resolved) must not keep a stopped program alive.
    runtime.shutdown_background();
    result
}

async fn run(args: &Args) -> Result<(), Failure> {
    let place = &args.place;
    match &args.command {
        Command::Serve(args) => serve::run(args, place).await,
        Command::Keys(command) => commands::keys::run(command, place).await,
        Command::Users(command) => commands::users::run(command, place).await,
        Command::Teams(command) => commands::teams::run(command, place).await,
        Command::Invitations(command) => commands::invitations::run(command, place).await,
        Command::Plans(command) => commands::plans::run(command, place).await,
        Command::Ledger(command) => commands::ledger::run(command, place),
        Command::Audit(command) => commands::audit::run(command, place).await,
        Command::Alerts(command) => commands::alerts::run(command, place).await,
        Command::Backup(command) => commands::backup::run(command, place).await,
        Command::Top(args) => commands::top::run(args, place).await,
        Command::Usage(args) => commands::usage::run(args, place),
        Command::Models(command) => commands::models::run(command, place).await,
        Command::Gpu(args) => commands::gpu::run(args, place).await,
        Command::Tune(args) => commands::tune::run(args, place).await,
        Command::Bench(args) => commands::bench::run(args, place).await,
        Command::Doctor(args) => commands::doctor::run(args, place).await,
        Command::Console(args) => commands::console::run(args).await,
        Command::Health(args) => commands::health::run(args, place).await,
        Command::Downgrade(_) => commands::downgrade::run(place),
        Command::System(command) => commands::system::run(command),
        Command::Update(command) => commands::update::run(command).await,
        Command::Completions(args) => commands::completions::run(args),
    }
}
