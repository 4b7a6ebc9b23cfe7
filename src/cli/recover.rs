//! `skein recover`: brings a cluster back that has lost its quorum.

use clap::Args;
use serde_json::Value;

use super::client::Client;
use super::output::say;
use super::swarm::text;

/// Bring a cluster back that has lost more than half of its managers
///
/// Run it on the machine that survived; with several, on the one whose log is newest (`skein status` shows it).
/// That machine's state becomes the cluster's. The others come back as members when they return.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sudo skein status\n  sudo skein recover")]
pub(super) struct RecoverArgs {}

/// Does it.
pub(super) async fn run(client: &Client, _args: RecoverArgs) -> anyhow::Result<()> {
    let answer = client.post("/skein/recover", None).await?;
    let answer: Value = serde_json::from_slice(&answer)?;
    say(text(&answer, "/Message"));
    Ok(())
}
