//! `allerac-steward`: what the image does beside the server. `obey` carries out an order as root; `emergency` is the page
//! that is there while the server is not, as somebody without rights, who asks the former.

mod emergency;
mod obey;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What a box of the image does beside its server.
#[derive(Debug, Parser)]
#[command(name = "allerac-steward", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Carry out the order that comes on standard input, and answer on standard output
    Obey {
        /// The system to do it to
        #[arg(long, value_name = "FOLDER", default_value = "/")]
        root: PathBuf,
    },
    /// Serve the page that says why the server does not start
    Emergency(Emergency),
}

#[derive(Debug, clap::Args)]
struct Emergency {
    /// The address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// Where the steward listens
    #[arg(long, value_name = "SOCKET", default_value = allerac_steward::SOCKET)]
    steward: PathBuf,
    /// Write what the screen of the box shows into this file, with the code that the page asks for
    #[arg(long, value_name = "FILE")]
    screen: PathBuf,
}

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Obey { root } => obey::obey(&root),
        Command::Emergency(Emergency { listen, steward, screen }) => emergency::serve(listen, steward, &screen),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
