//! The `skein` program: decides what it is by how it was called. Inside containers and under shims it is a small tool
//! without a runtime; else the command line says whether it is a client or the daemon.

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use skein::agent::init;
use skein::agent::logs::logger;
use skein::cli::{Cli, run};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let called = arguments.next().unwrap_or_default();
    if Path::new(&called).file_name() == Some("docker-init".as_ref()) {
        return init::main(arguments);
    }
    match arguments.next() {
        Some(role) if role == logger::ROLE => logger::main(arguments),
        Some(role) if role == logger::FIFO_ROLE => logger::main_of_fifos(arguments),
        _ => run(Cli::parse()),
    }
}
