//! What several commands ask of the daemon: who this node is, the cluster's tokens, where managers are.

use std::io::Read as _;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};

use super::client::{Client, ClientError, encode};
use super::output::say;

/// Managers whose addresses a printed token carries; any one of them lets a machine in.
const ADDRESSES_IN_TOKEN: usize = 3;

/// The text at `pointer`; empty when there is none.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// `GET /nodes/{id}`.
pub(super) async fn node(client: &Client, id: &str) -> Result<Value, ClientError> {
    client.get(&format!("/nodes/{}", encode(id))).await
}

/// This node's own ID, as `self` means it; refused in the daemon's words when it is in no cluster.
pub(super) async fn own_id(client: &Client) -> anyhow::Result<String> {
    let info: Value = client.get("/info").await?;
    let id = text(&info, "/Swarm/NodeID");
    if id.is_empty() {
        anyhow::bail!(
            "this node is in no cluster: `sudo skein init` makes one, `sudo skein join` joins one"
        );
    }
    Ok(id.to_owned())
}

/// `token` with the addresses of managers that answer, this node's own first.
pub(super) async fn with_addresses(client: &Client, token: &str) -> anyhow::Result<String> {
    let own = own_id(client).await?;
    let nodes: Vec<Value> = client.get("/nodes").await?;
    let mut found: Vec<(bool, &str)> = nodes
        .iter()
        .filter(|node| text(node, "/ManagerStatus/Reachability") == "reachable")
        .map(|node| (text(node, "/ID") != own, text(node, "/ManagerStatus/Addr")))
        .filter(|(_, addr)| !addr.is_empty())
        .collect();
    found.sort_by_key(|(other, _)| *other);
    let list: Vec<&str> = found
        .into_iter()
        .map(|(_, addr)| addr)
        .take(ADDRESSES_IN_TOKEN)
        .collect();
    Ok(match list.as_slice() {
        [] => token.to_owned(),
        list => format!("{token}@{}", list.join(",")),
    })
}

/// Unlock a manager that waits for its key after a restart
///
/// The key is read from standard input when it is not given, which keeps it out of the list of processes.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sudo skein unlock < key.txt\n  sudo skein unlock SWMKEY-1-..."
)]
pub(super) struct UnlockArgs {
    /// The key, SWMKEY-1-...
    key: Option<String>,
}

/// `skein unlock`.
pub(super) async fn unlock(client: &Client, args: UnlockArgs) -> anyhow::Result<()> {
    let key = match args.key {
        Some(key) => key,
        None => from_stdin("the unlock key")?,
    };
    let body = json!({"UnlockKey": key});
    client.post("/swarm/unlock", Some(&body)).await?;
    say("Unlocked.");
    Ok(())
}

/// A secret from standard input, without the line's end.
pub(super) fn from_stdin(what: &str) -> anyhow::Result<String> {
    let mut text = String::new();
    std::io::stdin()
        .take(64 << 10)
        .read_to_string(&mut text)
        .with_context(|| format!("{what} cannot be read from standard input"))?;
    match text.trim() {
        "" => anyhow::bail!("{what} was expected on standard input, and nothing came"),
        text => Ok(text.to_owned()),
    }
}
