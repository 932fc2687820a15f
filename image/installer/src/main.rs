//! `allerac-install`: puts the system that runs from a stick onto a disk of the machine.
//!
//! What is done to a disk is decided first, by a pure plan from what the disks are and what was asked ([`plan`]); only
//! then something is written ([`apply`]). A disk is named by its serial number and in no other way. Its boot loader comes
//! last: until all else was read back and found right, the firmware finds nothing to start there.

mod apply;
mod content;
mod dialogue;
mod disk;
mod plan;
mod progress;
mod scan;
mod seed;
mod table;
mod tool;

use std::io::{self, BufRead, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::apply::Source;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::seed::{Seed, SeedFile};

/// Installs the system that runs from this stick on a disk of the machine.
#[derive(Debug, Parser)]
#[command(name = "allerac-install", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Ask on the terminal which disk to install on
    Ask,
    /// Do what `allerac-install.toml` on the stick says
    Seed,
}

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Ask => ask(),
        Command::Seed => follow_seed(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn ask() -> anyhow::Result<()> {
    let source = Source::look()?;
    let (mut input, mut output) = (io::stdin().lock(), io::stdout());
    loop {
        let plan = dialogue::choose(&mut input, &mut output, &source.facts, scan::disks)?;
        match install(&plan, &source) {
            Ok(()) => break,
            Err(error) => writeln!(output, "\n  It did not work: {error:#}\n  Nothing starts from that disk now.")?,
        }
    }
    // What runs here runs from the stick, so it must be off before that is pulled out.
    writeln!(
        output,
        "\n  Done. Press Enter: the machine switches itself off. Then pull the stick out, and switch it on."
    )?;
    input.read_line(&mut String::new())?;
    tool::run("systemctl", &["poweroff"])?;
    Ok(())
}

/// Ends without a word when there is no such file. What came of it is left beside it, for who has no screen.
fn follow_seed() -> anyhow::Result<()> {
    let Some(file) = SeedFile::find() else { return Ok(()) };
    let result = file.read().and_then(|seed| install_by(&seed).map(|()| seed));
    match result {
        Ok(seed) => {
            // Else the next start from this stick would install again.
            file.done().context("the installation is done, but the stick cannot be written")?;
            println!("the installation is done");
            tool::run("systemctl", &[seed.then.verb()])?;
            Ok(())
        }
        Err(error) => {
            if let Err(unwritten) = file.failed(&format!("{error:#}")) {
                eprintln!("what went wrong cannot be written onto the stick: {unwritten}");
            }
            Err(error)
        }
    }
}

fn install_by(seed: &Seed) -> anyhow::Result<()> {
    let source = Source::look()?;
    let plan = plan::plan(&scan::disks()?, &seed.request(), &source.facts)?;
    install(&plan, &source)
}

fn install(plan: &Plan, source: &Source) -> anyhow::Result<()> {
    apply::apply(plan, source, &mut Progress::new(io::stdout()))
}
