//! `skein volume`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{Client, encode};
use super::human::{fine, natural};
use super::image::{PruneArgs, agrees, prune};
use super::inspect::{self, InspectArgs, NamesArgs, each};
use super::output::say;
use super::parts::small;
use super::rows::{Column, Listing, labels, list, row};
use super::swarm::text;

const COLUMNS: [Column; 2] = [("DRIVER", "Driver"), ("VOLUME NAME", "Name")];

/// Make, show and remove volumes of this machine
#[derive(Debug, Subcommand)]
pub(super) enum VolumeCommand {
    /// Make a volume
    #[command(
        after_help = "Examples:\n  skein volume create data\n  skein volume create --label team=a data"
    )]
    Create(CreateArgs),
    /// List the volumes
    #[command(
        visible_alias = "list",
        after_help = "Filters: dangling, driver, label, name\nFields: .Driver .Name .Labels .Mountpoint .Scope"
    )]
    Ls(Listing),
    /// Show volumes in full
    Inspect(InspectArgs),
    /// Remove volumes
    #[command(visible_alias = "remove")]
    Rm(RmArgs),
    /// Remove volumes that nothing uses
    Prune(PruneArgs),
}

#[derive(Clone, Debug, Args)]
pub(super) struct CreateArgs {
    /// Driver
    #[arg(long, short, default_value = "local")]
    driver: String,
    /// Label
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Option of the driver
    #[arg(long, short, value_name = "KEY=VALUE")]
    opt: Vec<String>,
    /// Its name (default: a long random one)
    name: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub(super) struct RmArgs {
    #[command(flatten)]
    names: NamesArgs,
    /// Those that are not there are no error
    #[arg(long, short)]
    force: bool,
}

/// Does it.
pub(super) async fn run(client: &Client, command: VolumeCommand) -> anyhow::Result<()> {
    match command {
        VolumeCommand::Create(args) => {
            let body = json!({
                "Name": args.name.unwrap_or_default(),
                "Driver": args.driver,
                "DriverOpts": small::map(&args.opt),
                "Labels": small::map(&args.label),
            });
            let made = client.tell("/volumes/create", Some(&body)).await?;
            say(text(&made, "/Name"));
            Ok(())
        }
        VolumeCommand::Ls(args) => {
            let found: Value = client.get(&format!("/volumes?{}", args.query())).await?;
            let mut found = list(&found, "/Volumes").to_vec();
            found.sort_by_key(|volume| natural(text(volume, "/Name")));
            let rows: Vec<Value> = found.iter().map(volume_row).collect();
            args.show("Name", &COLUMNS, &rows)
        }
        VolumeCommand::Inspect(args) => inspect::of(client, "volume", &args).await,
        VolumeCommand::Rm(args) => {
            let force = args.force;
            each(&args.names.names, async |name| {
                let target = format!("/volumes/{}?force={force}", encode(&name));
                client.delete(&target).await.map(drop)
            })
            .await
        }
        VolumeCommand::Prune(args) => {
            if agrees(args.force, "all volumes without a name that nothing uses") {
                let mut filters = args.filter.clone();
                if args.all {
                    filters.push(("all".into(), "true".into()));
                }
                let freed = prune(client, "volumes", &filters).await?;
                say(format!("Total reclaimed space: {}", fine(freed as f64)));
            }
            Ok(())
        }
    }
}

fn volume_row(volume: &Value) -> Value {
    row([
        ("Driver", text(volume, "/Driver").to_owned()),
        ("Name", text(volume, "/Name").to_owned()),
        ("Labels", labels(&volume["Labels"])),
        ("Mountpoint", text(volume, "/Mountpoint").to_owned()),
        ("Scope", text(volume, "/Scope").to_owned()),
    ])
}
