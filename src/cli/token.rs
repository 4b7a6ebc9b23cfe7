//! `skein token`: prints how a machine joins, and makes old tokens worthless.

use clap::Args;
use serde_json::Value;

use super::client::Client;
use super::output::say;
use super::swarm::{text, with_addresses};

/// Print the line that joins a machine
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  skein token\n  skein token --worker\n  skein token --manager --rotate"
)]
pub(super) struct TokenArgs {
    /// For machines that only run tasks
    #[arg(long, group = "kind")]
    worker: bool,
    /// For machines that always manage
    #[arg(long, group = "kind")]
    manager: bool,
    /// For machines that may become managers (the default)
    #[arg(long, group = "kind")]
    peer: bool,
    /// Make a new token first; machines that are in stay in
    #[arg(long)]
    rotate: bool,
    /// Print the token alone
    #[arg(long, short)]
    quiet: bool,
}

/// Does it.
pub(super) async fn run(client: &Client, args: TokenArgs) -> anyhow::Result<()> {
    let (kind, flag, what) = match (args.worker, args.manager) {
        (true, _) => ("Worker", "rotateWorkerToken", "a worker"),
        (_, true) => ("Manager", "rotateManagerToken", "a manager"),
        (false, false) => ("Peer", "rotatePeerToken", "a machine"),
    };
    let mut swarm: Value = client.get("/swarm").await?;
    if args.rotate {
        let version = swarm.pointer("/Version/Index").cloned().unwrap_or_default();
        let target = format!("/swarm/update?version={version}&{flag}=true");
        client.post(&target, Some(&swarm["Spec"])).await?;
        swarm = client.get("/swarm").await?;
    }
    let token = text(&swarm, &format!("/JoinTokens/{kind}"));
    let token = with_addresses(client, token).await?;
    if args.quiet {
        say(token);
        return Ok(());
    }
    say(format!(
        "To add {what} to this cluster, run on it:\n\n    sudo skein join {token}"
    ));
    Ok(())
}
