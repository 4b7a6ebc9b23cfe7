//! `skein secret` and `skein config`: small files that the cluster keeps for services.

use std::io::Read as _;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{Client, encode};
use super::human::{ago, natural};
use super::inspect::{self, InspectArgs, NamesArgs, each};
use super::output::say;
use super::parts::references::Kind;
use super::parts::small;
use super::rows::{Column, Listing, labels, row};
use super::swarm::text;
use crate::node::clock;

/// Longest data that is read; the daemon's own limits are below it.
const DATA_LIMIT: u64 = 2 << 20;

const COLUMNS: [Column; 4] = [
    ("ID", "ID"),
    ("NAME", "Name"),
    ("CREATED", "CreatedAt"),
    ("UPDATED", "UpdatedAt"),
];

/// Keep, show and remove small files such as keys for services
#[derive(Debug, Subcommand)]
pub(super) enum BlobCommand {
    /// Keep one; the data comes from a file, or from standard input
    #[command(
        after_help = "Examples:\n  skein secret create db-password password.txt\n  \
        openssl rand -hex 16 | skein secret create key -\n  skein config create nginx.conf ./nginx.conf"
    )]
    Create(CreateArgs),
    /// List them
    #[command(
        visible_alias = "list",
        after_help = "Filters: id, name, label\nFields: .ID .Name .CreatedAt .UpdatedAt .Labels\n\nExamples:\n  \
            skein secret ls --filter label=team=a"
    )]
    Ls(Listing),
    /// Show them in full; the data of secrets is shown to nobody
    Inspect(InspectArgs),
    /// Remove them
    #[command(visible_alias = "remove")]
    Rm(NamesArgs),
}

#[derive(Clone, Debug, Args)]
pub(super) struct CreateArgs {
    /// Label
    #[arg(long, short, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Driver that has the data
    #[arg(long, short)]
    driver: Option<String>,
    /// Fill in what stands in braces for each task: golang
    #[arg(long)]
    template_driver: Option<String>,
    /// Its name
    name: String,
    /// The file; - for standard input
    #[arg(value_name = "FILE|-")]
    file: Option<String>,
}

/// Does it.
pub(super) async fn run(client: &Client, kind: Kind, command: BlobCommand) -> anyhow::Result<()> {
    let collection = kind.collection();
    match command {
        BlobCommand::Create(args) => create(client, kind, &args).await,
        BlobCommand::Ls(args) => {
            let target = format!("/{collection}?{}", args.query());
            let mut found: Vec<Value> = client.get(&target).await?;
            found.sort_by_key(|one| natural(text(one, "/Spec/Name")));
            let now = clock::now().secs();
            let rows: Vec<Value> = found.iter().map(|one| blob_row(one, now)).collect();
            args.show("ID", &COLUMNS, &rows)
        }
        BlobCommand::Inspect(args) => inspect::of(client, kind.word(), &args).await,
        BlobCommand::Rm(args) => {
            each(&args.names, async |name| {
                let target = format!("/{collection}/{}", encode(&name));
                client.delete(&target).await.map(drop)
            })
            .await
        }
    }
}

fn blob_row(one: &Value, now: i64) -> Value {
    row([
        ("ID", text(one, "/ID").to_owned()),
        ("Name", text(one, "/Spec/Name").to_owned()),
        ("CreatedAt", ago(text(one, "/CreatedAt"), now)),
        ("UpdatedAt", ago(text(one, "/UpdatedAt"), now)),
        ("Driver", text(one, "/Spec/Driver/Name").to_owned()),
        ("Labels", labels(&one["Spec"]["Labels"])),
    ])
}

async fn create(client: &Client, kind: Kind, args: &CreateArgs) -> anyhow::Result<()> {
    let mut spec = json!({"Name": args.name, "Labels": small::map(&args.label)});
    match (&args.driver, &args.file) {
        (Some(driver), None) => spec["Driver"] = json!({"Name": driver}),
        (Some(_), Some(_)) => {
            anyhow::bail!("data comes from a driver or from a file: leave one of them out")
        }
        (None, None) => anyhow::bail!("name the file with the data, or - for standard input"),
        (None, Some(file)) => spec["Data"] = encoded(&data(file)?).into(),
    }
    if let Some(driver) = &args.template_driver {
        spec["Templating"] = json!({"Name": driver});
    }
    let target = format!("/{}/create", kind.collection());
    let made = client.tell(&target, Some(&spec)).await?;
    say(text(&made, "/ID"));
    Ok(())
}

/// Data as the API takes it.
pub(super) fn encoded(data: &[u8]) -> String {
    STANDARD.encode(data)
}

fn data(file: &str) -> anyhow::Result<Vec<u8>> {
    let mut data = Vec::new();
    match file {
        "-" => std::io::stdin().take(DATA_LIMIT + 1).read_to_end(&mut data),
        path => std::fs::File::open(path)
            .and_then(|file| file.take(DATA_LIMIT + 1).read_to_end(&mut data)),
    }
    .with_context(|| format!("{file} cannot be read"))?;
    anyhow::ensure!(
        data.len() as u64 <= DATA_LIMIT,
        "{file} is too long: a secret has at most 500 KiB, a config 1000 KiB"
    );
    Ok(data)
}
