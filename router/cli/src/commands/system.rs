//! `allerac system`: asks the steward of a box, as the page does for owners.

use std::io::{self, Write};
use std::path::Path;

use allerac_steward::{AskError, Order, ask};

use crate::args::system::System;
use crate::failure::{Exit, Failure};
use crate::output::print_line;

pub(crate) fn run(command: &System) -> Result<(), Failure> {
    match command {
        System::Logs(args) => Ok(io::stdout().lock().write_all(&order(&args.steward, Order::Logs)?)?),
        System::Restart(args) => begin(&args.steward, Order::Restart, "the box restarts"),
        System::Back(args) => begin(&args.steward, Order::Back, "the box goes back to the version before"),
        System::Reset(args) => {
            begin(&args.steward.steward, Order::FactoryReset, "the box erases everything and restarts")
        }
    }
}

fn begin(steward: &Path, what: Order, said: &str) -> Result<(), Failure> {
    order(steward, what)?;
    Ok(print_line(said)?)
}

fn order(steward: &Path, what: Order) -> Result<Vec<u8>, Failure> {
    ask(steward, what).map_err(|error| {
        let exit = match error {
            AskError::NotABox => Exit::NotFound,
            AskError::Refused(_) => Exit::Conflict,
            AskError::Broken(_) => Exit::Failure,
        };
        Failure::from_error(exit, &error)
    })
}
