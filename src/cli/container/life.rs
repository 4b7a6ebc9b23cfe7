//! `skein start`, `stop`, `restart`, `kill`, `pause`, `unpause`, `wait`, `rename`, `rm` and `top`.

use clap::Args;
use serde_json::Value;

use crate::cli::client::stream::Ask;
use crate::cli::client::{Client, ClientError, encode};
use crate::cli::inspect::{NamesArgs, each};
use crate::cli::output::{say, table};
use crate::cli::rows::{list, number};

/// Stop containers: ask them to end, and kill those that do not
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  skein stop web\n  skein stop --timeout 60 db cache")]
pub(in crate::cli) struct StopArgs {
    #[command(flatten)]
    names: NamesArgs,
    /// Signal that asks
    #[arg(long, short)]
    signal: Option<String>,
    /// Seconds until they are killed; -1 for never
    #[arg(long, short, allow_negative_numbers = true)]
    timeout: Option<i64>,
}

/// Kill containers, or send them a signal
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  skein kill web\n  skein kill --signal HUP proxy")]
pub(in crate::cli) struct KillArgs {
    #[command(flatten)]
    names: NamesArgs,
    /// The signal (default KILL)
    #[arg(long, short)]
    signal: Option<String>,
}

/// Remove containers
#[derive(Clone, Debug, Args)]
#[command(
    visible_alias = "remove",
    after_help = "Examples:\n  skein rm web\n  skein rm --force --volumes web"
)]
pub(in crate::cli) struct RmArgs {
    #[command(flatten)]
    names: NamesArgs,
    /// Kill those that run
    #[arg(long, short)]
    force: bool,
    /// Remove their anonymous volumes as well
    #[arg(long, short)]
    volumes: bool,
}

/// Rename a container
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct RenameArgs {
    /// The container
    container: String,
    /// Its next name
    name: String,
}

/// Show the processes of a container
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  skein top web\n  skein top web -o pid,comm")]
pub(in crate::cli) struct TopArgs {
    /// The container
    container: String,
    /// Options of ps
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

async fn act(client: &Client, name: &str, what: &str) -> Result<(), ClientError> {
    let target = format!("/containers/{}/{what}", encode(name));
    client.open(Ask::post(target).patiently()).await.map(drop)
}

/// `start`, `pause`, `unpause`.
pub(in crate::cli) async fn simple(
    client: &Client,
    what: &str,
    args: &NamesArgs,
) -> anyhow::Result<()> {
    each(&args.names, async |name| act(client, &name, what).await).await
}

/// `stop` and `restart`.
pub(in crate::cli) async fn stop(
    client: &Client,
    what: &str,
    args: &StopArgs,
) -> anyhow::Result<()> {
    let mut query = Vec::new();
    if let Some(timeout) = args.timeout {
        query.push(format!("t={timeout}"));
    }
    if let Some(signal) = &args.signal {
        query.push(format!("signal={}", encode(signal)));
    }
    let what = format!("{what}?{}", query.join("&"));
    each(&args.names.names, async |name| {
        act(client, &name, &what).await
    })
    .await
}

/// `kill`.
pub(in crate::cli) async fn kill(client: &Client, args: &KillArgs) -> anyhow::Result<()> {
    let signal = args.signal.as_deref().unwrap_or("KILL");
    let what = format!("kill?signal={}", encode(signal));
    each(&args.names.names, async |name| {
        act(client, &name, &what).await
    })
    .await
}

/// `rm`.
pub(in crate::cli) async fn remove(client: &Client, args: &RmArgs) -> anyhow::Result<()> {
    let query = format!("force={}&v={}", args.force, args.volumes);
    each(&args.names.names, async |name| {
        let name = encode(name.trim_start_matches('/'));
        client
            .delete(&format!("/containers/{name}?{query}"))
            .await
            .map(drop)
    })
    .await
}

/// `wait`: prints the exit codes.
pub(in crate::cli) async fn wait(client: &Client, args: &NamesArgs) -> anyhow::Result<()> {
    for name in &args.names {
        let ended = super::exec::waiting(client, &encode(name), "not-running").await?;
        let ended = ended.value().await?;
        say(number(&ended, "/StatusCode").to_string());
    }
    Ok(())
}

/// `rename`.
pub(in crate::cli) async fn rename(client: &Client, args: &RenameArgs) -> anyhow::Result<()> {
    let what = format!("rename?name={}", encode(&args.name));
    Ok(act(client, &args.container, &what).await?)
}

/// `top`.
pub(in crate::cli) async fn top(client: &Client, args: &TopArgs) -> anyhow::Result<()> {
    let mut target = format!("/containers/{}/top", encode(&args.container));
    if !args.options.is_empty() {
        target.push_str(&format!("?ps_args={}", encode(&args.options.join(" "))));
    }
    let shown: Value = client.get(&target).await?;
    let words = |value: &Value| -> Vec<String> {
        let words = value.as_array().into_iter().flatten();
        words
            .map(|word| word.as_str().unwrap_or_default().to_owned())
            .collect()
    };
    let titles = words(&shown["Titles"]);
    let titles: Vec<&str> = titles.iter().map(String::as_str).collect();
    let rows: Vec<Vec<String>> = list(&shown, "/Processes").iter().map(words).collect();
    say(table(&titles, &rows));
    Ok(())
}
