//! The command line: a client of the API socket, and the only place that prints.
//!
//! Each command is a file. [`run`] parses nothing and decides nothing but which of them it is; every error ends here
//! as one line, `skein: what went wrong: why`, and exit code 1 (2 for wrong arguments).
#![expect(clippy::print_stderr, reason = "the command line is what prints")]

mod client;
mod context;
mod daemon;
mod format;
mod init;
mod join;
mod leave;
mod node;
mod output;
mod recover;
mod start;
mod status;
mod swarm;
mod template;
mod token;
mod values;
mod version;
mod whoami;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use client::Client;

/// Skein makes Linux machines work as one Docker host.
#[derive(Debug, Parser)]
#[command(
    name = "skein",
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    after_help = "Begin with `sudo skein init` on one machine and the line that it prints on the others.\n\
        Then use docker as ever, after  skein context --use"
)]
pub struct Cli {
    /// The daemon's socket; for `skein daemon`, tcp://ADDRESS:PORT is where it listens besides
    #[arg(
        long,
        global = true,
        env = "SKEIN_HOST",
        default_value = "unix:///run/skein/skein.sock",
        value_parser = values::host,
        value_name = "unix://PATH"
    )]
    host: values::Host,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::InitArgs),
    Join(join::JoinArgs),
    Leave(leave::LeaveArgs),
    Token(token::TokenArgs),
    #[command(subcommand)]
    Node(node::NodeCommand),
    Status(status::StatusArgs),
    Recover(recover::RecoverArgs),
    Unlock(swarm::UnlockArgs),
    Version(version::VersionArgs),
    Context(context::ContextArgs),
    Daemon(daemon::DaemonArgs),
    Whoami(whoami::WhoamiArgs),
}

/// Does what the arguments say. Returns when a client command is through or the daemon has stopped.
pub fn run(cli: Cli) -> ExitCode {
    let done = match cli.command {
        Command::Daemon(args) => daemon::run(args, cli.host),
        Command::Whoami(args) => whoami::run(&args),
        Command::Context(args) => context::run(&args, &cli.host),
        command => run_client(cli.host, command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn run_client(host: values::Host, command: Command) -> anyhow::Result<()> {
    let client = Client::new(host.path()?);
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(dispatch(&client, command))
}

async fn dispatch(client: &Client, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Init(args) => init::run(client, args).await,
        Command::Join(args) => join::run(client, args).await,
        Command::Leave(args) => leave::run(client, args).await,
        Command::Token(args) => token::run(client, args).await,
        Command::Node(command) => node::run(client, command).await,
        Command::Status(args) => status::run(client, args).await,
        Command::Recover(args) => recover::run(client, args).await,
        Command::Unlock(args) => swarm::unlock(client, args).await,
        Command::Version(args) => version::run(client, args).await,
        // They ask no daemon, and were run before.
        Command::Daemon(_) | Command::Whoami(_) | Command::Context(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
