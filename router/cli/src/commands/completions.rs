use std::io::{Write, stdout};

use clap::CommandFactory;

use crate::args::{Args, Completions};
use crate::failure::Failure;

pub(crate) fn run(args: &Completions) -> Result<(), Failure> {
    // Written to memory first: the generator panics when a pipe closes early.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "allerac", &mut script);
    Ok(stdout().lock().write_all(&script)?)
}
