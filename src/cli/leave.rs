//! `skein leave`: takes this machine out of its cluster.

use clap::Args;

use super::client::Client;
use super::output::say;

/// Take this machine out of its cluster
///
/// The others show it as down until `skein node rm` removes its record. A manager leaves only with --force.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sudo skein leave\n  sudo skein leave --force")]
pub(super) struct LeaveArgs {
    /// Leave even as a manager, and even when the cluster is lost by it
    #[arg(long, short)]
    force: bool,
}

/// Does it.
pub(super) async fn run(client: &Client, args: LeaveArgs) -> anyhow::Result<()> {
    let target = match args.force {
        true => "/swarm/leave?force=1",
        false => "/swarm/leave",
    };
    client.post(target, None).await?;
    say("This machine has left its cluster.");
    Ok(())
}
