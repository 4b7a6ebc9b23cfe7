//! `skein context`: a context of docker's that is this cluster, so that `docker` needs no `--host`.
//!
//! Asks no daemon. Where there is no docker command it says what to run where there is one.
#![expect(clippy::print_stdout, reason = "the command line is what prints")]

use std::process::{Command, Stdio};

use anyhow::Context as _;
use clap::Args;

use super::values::Host;
use crate::config::{CLUSTER_SOCKET_NAME, SOCKET_NAME};

/// Set up a docker context for this cluster
///
/// With it, `docker ps`, `docker stats` and `docker images` show all machines, and `docker run` goes where there is room.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sudo skein context --use")]
pub(super) struct ContextArgs {
    /// What to call it
    #[arg(default_value = "skein")]
    name: String,
    /// This machine alone instead of the whole cluster
    #[arg(long)]
    node: bool,
    /// Make it the one that docker uses
    #[arg(long = "use")]
    select: bool,
    /// Only say what would be run
    #[arg(long)]
    print: bool,
}

/// Makes the context, or says how.
pub(super) fn run(args: &ContextArgs, host: &Host) -> anyhow::Result<()> {
    let own = host.path()?;
    let socket = match own.file_name() {
        Some(name) if name == SOCKET_NAME && !args.node => own.with_file_name(CLUSTER_SOCKET_NAME),
        _ => own.to_owned(),
    };
    let commands = commands(args, &format!("unix://{}", socket.display()), false);
    let docker = !args.print && docker(&["--version".into()]).is_ok();
    if !docker {
        if !args.print {
            println!("There is no docker command on this machine. Where there is one:");
        }
        for command in commands {
            println!("docker {}", command.join(" "));
        }
        return Ok(());
    }
    let known = docker_has(&args.name);
    for command in self::commands(args, &format!("unix://{}", socket.display()), known) {
        docker_run(&command)?;
    }
    println!(
        "Docker's context \"{}\" is {}.",
        args.name,
        socket.display()
    );
    if !args.select {
        println!("To use it: docker context use {}", args.name);
    }
    Ok(())
}

/// What docker is to be told. A context that is there already is changed.
fn commands(args: &ContextArgs, host: &str, known: bool) -> Vec<Vec<String>> {
    let verb = if known { "update" } else { "create" };
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let docker = format!("host={host}");
    let mut all = vec![words(&["context", verb, &args.name, "--docker", &docker])];
    if args.select {
        all.push(words(&["context", "use", &args.name]));
    }
    all
}

fn docker_has(name: &str) -> bool {
    docker(&["context".into(), "inspect".into(), name.into()]).is_ok()
}

fn docker_run(args: &[String]) -> anyhow::Result<()> {
    docker(args).with_context(|| format!("docker {}", args.join(" ")))
}

fn docker(args: &[String]) -> anyhow::Result<()> {
    let done = Command::new("docker")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .context("docker cannot be run")?;
    let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    anyhow::ensure!(done.status.success(), "{said}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_is_told_to_make_or_to_change() {
        let args = ContextArgs {
            name: "home".into(),
            node: false,
            select: true,
            print: false,
        };
        let told = |known| -> Vec<String> {
            let all = commands(&args, "unix:///run/x.sock", known);
            all.iter().map(|command| command.join(" ")).collect()
        };
        assert_eq!(
            told(false),
            [
                "context create home --docker host=unix:///run/x.sock",
                "context use home"
            ]
        );
        assert!(told(true)[0].starts_with("context update home "));
    }
}
