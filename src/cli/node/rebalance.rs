//! `skein node rebalance`.

use clap::Args;
use serde_json::Value;

use crate::cli::client::Client;
use crate::cli::output::{say, table};
use crate::cli::swarm::text;

/// Spread the tasks of replicated services evenly over the members
///
/// Nothing moves by itself when a member comes or comes back. This moves tasks from members that have many of a service
/// to members that have few, in each service one at a time: the new task runs before the old one ends. A service with
/// the label skein.rebalance=auto is kept even always.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  skein node rebalance --dry-run\n  skein node rebalance")]
pub(in crate::cli) struct RebalanceArgs {
    /// Only say what would be moved
    #[arg(long)]
    dry_run: bool,
}

/// Does it.
pub(super) async fn rebalance(client: &Client, args: RebalanceArgs) -> anyhow::Result<()> {
    let query = if args.dry_run { "?dryRun=1" } else { "" };
    let answer = client
        .post(&format!("/skein/rebalance{query}"), None)
        .await?;
    let answer: Value = serde_json::from_slice(&answer)?;
    let moves = answer["Moves"].as_array().cloned().unwrap_or_default();
    if moves.is_empty() {
        say("There is nothing to move: every service is spread as evenly as it can be.");
        return Ok(());
    }
    let rows: Vec<Vec<String>> = moves.iter().map(row).collect();
    say(table(&["TASK", "FROM", "TO", "WHY"], &rows));
    if answer["More"] == true {
        say("And more than these.");
    }
    say(match args.dry_run {
        true => "Nothing was moved: that is what would be done without --dry-run.",
        false => {
            "This is done from now on, in each service one at a time, the new task before the old one: see `docker \
             service ps`."
        }
    });
    Ok(())
}

fn row(planned: &Value) -> Vec<String> {
    vec![
        format!("{}.{}", text(planned, "/Service"), text(planned, "/Slot")),
        text(planned, "/From/Hostname").to_owned(),
        text(planned, "/To/Hostname").to_owned(),
        text(planned, "/Reason").to_owned(),
    ]
}
