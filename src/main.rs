//! The `skein` program: the command line decides what it is, a client or the daemon.

use std::process::ExitCode;

use clap::Parser;
use skein::cli::{Cli, run};

fn main() -> ExitCode {
    run(Cli::parse())
}
