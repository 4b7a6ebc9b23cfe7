//! The `skein` program: decides what it is by how it was called. Inside containers and under shims it is a small tool
//! without a runtime; else the command line says whether it is a client or the daemon.

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use skein::agent::{init, runtime::drain};
use skein::cli::{Cli, run};

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let called = args.next().unwrap_or_default();
    if Path::new(&called).file_name() == Some("docker-init".as_ref()) {
        return init::main(args);
    }
    let rest = || std::env::args_os().skip(2);
    match std::env::args_os().nth(1).as_deref() {
        Some(role) if role == "logger" => drain::main(rest()),
        Some(role) if role == "logger-fifos" => drain::main_of_fifos(rest()),
        _ => run(Cli::parse()),
    }
}
