//! Containers: `skein ps`, `run`, `logs`, `exec`, and whatever else docker does with one.

mod body;
pub(super) mod copy;
pub(super) mod exec;
pub(super) mod life;
pub(super) mod list;
pub(super) mod logs;
pub(super) mod run;
pub(super) mod stats;
mod talk;

use clap::Subcommand;

use super::client::Client;
use super::inspect::NamesArgs;

/// What is done with containers, each by a word of its own.
#[derive(Debug, Subcommand)]
pub(super) enum ContainerCommand {
    Ps(list::PsArgs),
    Run(Box<run::RunArgs>),
    Create(Box<run::CreateArgs>),
    Logs(logs::LogsArgs),
    Exec(exec::ExecArgs),
    Attach(exec::AttachArgs),
    Cp(copy::CpArgs),
    Stats(stats::StatsArgs),
    Top(life::TopArgs),
    /// Start containers that do not run
    Start(NamesArgs),
    Stop(life::StopArgs),
    /// Stop containers and start them again
    Restart(life::StopArgs),
    Kill(life::KillArgs),
    /// Hold all processes of containers still
    Pause(NamesArgs),
    /// Let the processes of containers go on
    Unpause(NamesArgs),
    /// Wait until containers have ended, and print their exit codes
    Wait(NamesArgs),
    Rename(life::RenameArgs),
    Rm(life::RmArgs),
}

/// Does it.
pub(super) async fn run(client: &Client, command: ContainerCommand) -> anyhow::Result<()> {
    match command {
        ContainerCommand::Ps(args) => list::run(client, &args).await,
        ContainerCommand::Run(args) => run::run(client, &args).await,
        ContainerCommand::Create(args) => run::create(client, &args).await,
        ContainerCommand::Logs(args) => logs::run(client, &args).await,
        ContainerCommand::Exec(args) => exec::exec(client, &args).await,
        ContainerCommand::Attach(args) => exec::attach(client, &args).await,
        ContainerCommand::Cp(args) => copy::run(client, &args).await,
        ContainerCommand::Stats(args) => stats::run(client, &args).await,
        ContainerCommand::Top(args) => life::top(client, &args).await,
        ContainerCommand::Start(args) => life::simple(client, "start", &args).await,
        ContainerCommand::Stop(args) => life::stop(client, "stop", &args).await,
        ContainerCommand::Restart(args) => life::stop(client, "restart", &args).await,
        ContainerCommand::Kill(args) => life::kill(client, &args).await,
        ContainerCommand::Pause(args) => life::simple(client, "pause", &args).await,
        ContainerCommand::Unpause(args) => life::simple(client, "unpause", &args).await,
        ContainerCommand::Wait(args) => life::wait(client, &args).await,
        ContainerCommand::Rename(args) => life::rename(client, &args).await,
        ContainerCommand::Rm(args) => life::remove(client, &args).await,
    }
}
