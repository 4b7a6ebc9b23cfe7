//! The `skein` program: the command line decides what it is, a client or the daemon.
//!
//! What the container shim starts, once for each container, is told apart before anything else is set up, so that it
//! stays small.

use std::process::ExitCode;

use clap::Parser;
use skein::agent::logs::logger;
use skein::cli::{Cli, run};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        Some(role) if role == logger::ROLE => logger::main(arguments),
        _ => run(Cli::parse()),
    }
}
