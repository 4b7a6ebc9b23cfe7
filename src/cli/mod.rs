//! The command line: a client of the API socket, and the only place that prints.
//!
//! Each command is a file. [`run`] parses nothing and decides nothing but which of them it is; every error ends here
//! as one line, `skein: what went wrong: why`, and exit code 1 (2 for wrong arguments).
#![expect(clippy::print_stderr, reason = "the command line is what prints")]

mod blob;
mod board;
mod client;
mod container;
mod context;
mod daemon;
mod format;
mod human;
mod image;
mod init;
mod inspect;
mod join;
mod leave;
mod network;
mod node;
mod output;
mod parts;
mod recover;
mod registry;
mod rows;
mod service;
mod stack;
mod start;
mod status;
mod swarm;
mod system;
mod template;
mod terminal;
mod token;
mod values;
mod version;
mod volume;
mod whoami;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use client::Client;
use parts::references::Kind;

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
    /// The daemon's socket [env: SKEIN_HOST=] [default: unix:///run/skein/skein.sock]; for `skein daemon`,
    /// tcp://ADDRESS:PORT is where it listens besides
    #[arg(
        long,
        global = true,
        value_parser = values::host_or_entry,
        value_name = "unix://PATH"
    )]
    host: Vec<values::HostOrEntry>,
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
    #[command(subcommand)]
    Service(service::ServiceCommand),
    #[command(subcommand)]
    Stack(stack::StackCommand),
    /// Keep, show and remove keys and other secrets for services
    #[command(subcommand)]
    Secret(blob::BlobCommand),
    /// Keep, show and remove configuration files for services
    #[command(subcommand)]
    Config(blob::BlobCommand),
    #[command(flatten)]
    OfContainer(container::ContainerCommand),
    /// Show and change containers
    #[command(subcommand)]
    Container(container::ContainerCommand),
    #[command(subcommand)]
    Image(image::ImageCommand),
    Images(image::LsArgs),
    Pull(image::PullArgs),
    Push(image::PushArgs),
    Load(image::LoadArgs),
    Save(image::SaveArgs),
    Tag(image::TagArgs),
    Rmi(image::RmiArgs),
    History(image::HistoryArgs),
    #[command(subcommand)]
    Volume(volume::VolumeCommand),
    #[command(subcommand)]
    Network(network::NetworkCommand),
    #[command(subcommand)]
    System(system::SystemCommand),
    Info(system::InfoArgs),
    Events(system::EventsArgs),
    Inspect(inspect::AnyArgs),
    Completion(system::CompletionArgs),
    Status(status::StatusArgs),
    Recover(recover::RecoverArgs),
    Unlock(swarm::UnlockArgs),
    Version(version::VersionArgs),
    Context(context::ContextArgs),
    Daemon(daemon::DaemonArgs),
    Whoami(whoami::WhoamiArgs),
}

/// The exit code of something that ran, passed on without a word.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("it ended with exit code {0}")]
struct Exit(u8);

impl Exit {
    /// An end with this code; zero is none to speak of.
    fn with(code: i64) -> anyhow::Result<()> {
        match code {
            0 => Ok(()),
            code => Err(Self(u8::try_from(code & 0xff).unwrap_or(1)).into()),
        }
    }
}

/// Does what the arguments say. Returns when a client command is through or the daemon has stopped.
pub fn run(cli: Cli) -> ExitCode {
    let done = match cli.command {
        Command::Whoami(args) => whoami::run(&args),
        command => of_daemon(cli.host, command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<Exit>() {
            Some(Exit(code)) => ExitCode::from(*code),
            None => {
                output::complain(&error);
                ExitCode::FAILURE
            }
        },
    }
}

/// What runs a daemon, asks one, or is about one.
fn of_daemon(hosts: Vec<values::HostOrEntry>, mut command: Command) -> anyhow::Result<()> {
    let host = take_entries(hosts, &mut command)?;
    match command {
        Command::Daemon(args) => daemon::run(args, host),
        Command::Context(args) => context::run(&args, &host),
        command => run_client(&host, command),
    }
}

fn run_client(host: &values::Host, command: Command) -> anyhow::Result<()> {
    let client = Client::new(host.path()?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(dispatch(&client, command));
    // A read of the keyboard that nobody waits for any more holds nothing up.
    runtime.shutdown_background();
    done
}

/// The daemon's socket. `service create --host NAME:IP` is docker's, so `--host` there may be an entry of the hosts
/// file as well; anywhere else that is an error.
fn take_entries(
    hosts: Vec<values::HostOrEntry>,
    command: &mut Command,
) -> anyhow::Result<values::Host> {
    let mut found = None;
    for host in hosts {
        match (host, &mut *command) {
            (values::HostOrEntry::Host(host), _) => found = Some(host),
            (
                values::HostOrEntry::Entry(entry),
                Command::Service(service::ServiceCommand::Create(args)),
            ) => args.hosts.push(entry),
            (values::HostOrEntry::Entry(entry), _) => {
                anyhow::bail!("--host {entry}: give the socket as unix:///path/to/skein.sock")
            }
        }
    }
    match found {
        Some(host) => Ok(host),
        None => values::usual_host(),
    }
}

async fn dispatch(client: &Client, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Init(args) => init::run(client, args).await,
        Command::Join(args) => join::run(client, args).await,
        Command::Leave(args) => leave::run(client, args).await,
        Command::Token(args) => token::run(client, args).await,
        Command::Node(command) => node::run(client, command).await,
        Command::Service(command) => service::run(client, command).await,
        Command::Stack(command) => stack::run(client, command).await,
        Command::Secret(command) => blob::run(client, Kind::Secret, command).await,
        Command::Config(command) => blob::run(client, Kind::Config, command).await,
        Command::OfContainer(command) | Command::Container(command) => {
            container::run(client, command).await
        }
        Command::Image(command) => image::run(client, command).await,
        Command::Images(args) => image::ls(client, &args).await,
        Command::Pull(args) => image::pull(client, &args).await,
        Command::Push(args) => image::push(client, &args).await,
        Command::Load(args) => image::load(client, &args).await,
        Command::Save(args) => image::save(client, &args).await,
        Command::Tag(args) => image::tag(client, &args).await,
        Command::Rmi(args) => image::rmi(client, &args).await,
        Command::History(args) => image::history(client, &args).await,
        Command::Volume(command) => volume::run(client, command).await,
        Command::Network(command) => network::run(client, command).await,
        Command::System(command) => system::run(client, command).await,
        Command::Info(args) => system::info(client, &args).await,
        Command::Events(args) => system::events(client, &args).await,
        Command::Completion(args) => system::completion(&args),
        Command::Inspect(args) => inspect::run(client, args).await,
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
