//! `skein stack`: many services out of one file of the Compose Specification.
//!
//! The file becomes one model (`load`, and below it `yaml`, `interpolate`, `keys`, `normal`, `merge`), the model what
//! docker's API takes (`convert`), all of it pure but for reading files; `deploy` sends it. Stacks are labels alone,
//! the same as docker's, so that either client sees what the other one made.

mod convert;
mod deploy;
mod interpolate;
mod keys;
mod list;
mod load;
mod merge;
mod normal;
mod shown;
mod values;
mod wait;
mod yaml;

use clap::Subcommand;

use super::client::Client;

/// The label that says which stack an object belongs to.
pub(super) const NAMESPACE: &str = "com.docker.stack.namespace";

/// Make, show and remove stacks of services from a file
#[derive(Debug, Subcommand)]
pub(super) enum StackCommand {
    Deploy(deploy::DeployArgs),
    Ls(list::LsArgs),
    Ps(list::PsArgs),
    Services(list::ServicesArgs),
    Rm(list::RmArgs),
    Config(deploy::ConfigArgs),
}

/// Does it.
pub(super) async fn run(client: &Client, command: StackCommand) -> anyhow::Result<()> {
    match command {
        StackCommand::Deploy(args) => deploy::run(client, &args).await,
        StackCommand::Ls(args) => list::stacks(client, &args).await,
        StackCommand::Ps(args) => list::tasks(client, &args).await,
        StackCommand::Services(args) => list::services(client, &args).await,
        StackCommand::Rm(args) => list::remove(client, &args).await,
        StackCommand::Config(args) => deploy::config(&args),
    }
}
