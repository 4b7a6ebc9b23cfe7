//! `skein version`: this program's version and the daemon's.

use clap::Args;
use serde_json::Value;

use super::client::Client;
use super::output::{note, say};
use super::swarm::text;
use crate::api::{API_VERSION, BUILD_TIME, GIT_COMMIT, SKEIN_VERSION};

/// Show the version of this program and of the daemon
#[derive(Debug, Args)]
pub(super) struct VersionArgs {}

/// Does it. A daemon that does not answer is no error.
pub(super) async fn run(client: &Client, _args: VersionArgs) -> anyhow::Result<()> {
    say(format!("Skein:      {SKEIN_VERSION}"));
    say(format!("API:        {API_VERSION}"));
    for (name, value) in [("Commit:", GIT_COMMIT), ("Built:", BUILD_TIME)] {
        if !value.is_empty() {
            say(format!("{name:<12}{value}"));
        }
    }
    match client.get::<Value>("/version").await {
        Ok(daemon) => {
            let engine = text(&daemon, "/Version");
            let skein = text(&daemon, "/Platform/Name");
            say(format!("Daemon:     {skein}, as Docker Engine {engine}"));
        }
        Err(error) => note(format!("Daemon:     {error}")),
    }
    Ok(())
}
