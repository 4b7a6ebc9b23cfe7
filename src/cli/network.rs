//! `skein network`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{Client, encode};
use super::human::{natural, short};
use super::image::{PruneArgs, agrees, prune};
use super::inspect::{self, InspectArgs, NamesArgs, each};
use super::output::say;
use super::parts::small;
use super::rows::{Column, Listing, labels, row};
use super::swarm::text;

const COLUMNS: [Column; 4] = [
    ("NETWORK ID", "ID"),
    ("NAME", "Name"),
    ("DRIVER", "Driver"),
    ("SCOPE", "Scope"),
];

/// Make, show and remove networks
#[derive(Debug, Subcommand)]
pub(super) enum NetworkCommand {
    /// Make a network
    #[command(
        after_help = "Examples:\n  skein network create --driver overlay web\n  \
        skein network create -d overlay --attachable --subnet 10.9.0.0/24 web"
    )]
    Create(Box<CreateArgs>),
    /// List the networks
    #[command(
        visible_alias = "list",
        after_help = "Filters: dangling, driver, id, label, name, scope, type\n\
        Fields: .ID .Name .Driver .Scope .IPv6 .Internal .Labels .CreatedAt"
    )]
    Ls(LsArgs),
    /// Show networks in full
    Inspect(InspectArgs),
    /// Remove networks
    #[command(visible_alias = "remove")]
    Rm(NamesArgs),
    /// Connect a container to a network
    Connect(ConnectArgs),
    /// Disconnect a container from a network
    Disconnect(DisconnectArgs),
    /// Remove networks that nothing uses
    Prune(PruneArgs),
}

#[derive(Clone, Debug, Args)]
pub(super) struct LsArgs {
    #[command(flatten)]
    listing: Listing,
    /// Whole IDs
    #[arg(long)]
    no_trunc: bool,
}

#[derive(Clone, Debug, Args)]
pub(super) struct CreateArgs {
    /// Single containers may be connected to it
    #[arg(long)]
    attachable: bool,
    /// Driver
    #[arg(long, short, default_value = "bridge")]
    driver: String,
    /// Gateway of the subnet of the same place
    #[arg(long)]
    gateway: Vec<String>,
    /// Publish ports through it
    #[arg(long)]
    ingress: bool,
    /// No way out
    #[arg(long)]
    internal: bool,
    /// Give addresses out of this range
    #[arg(long)]
    ip_range: Vec<String>,
    /// Who gives addresses
    #[arg(long, default_value = "default")]
    ipam_driver: String,
    /// Option of who gives addresses
    #[arg(long, value_name = "KEY=VALUE")]
    ipam_opt: Vec<String>,
    /// With IPv6
    #[arg(long)]
    ipv6: bool,
    /// Label
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Option of the driver
    #[arg(long, short, value_name = "KEY=VALUE")]
    opt: Vec<String>,
    /// local or swarm
    #[arg(long)]
    scope: Option<String>,
    /// Subnet
    #[arg(long)]
    subnet: Vec<String>,
    /// Its name
    name: String,
}

#[derive(Clone, Debug, Args)]
pub(super) struct ConnectArgs {
    /// Further name of the container there
    #[arg(long)]
    alias: Vec<String>,
    /// Its address there
    #[arg(long)]
    ip: Option<std::net::Ipv4Addr>,
    /// Its IPv6 address there
    #[arg(long)]
    ip6: Option<std::net::Ipv6Addr>,
    /// Option of the driver
    #[arg(long, value_name = "KEY=VALUE")]
    driver_opt: Vec<String>,
    /// The network
    network: String,
    /// The container
    container: String,
}

#[derive(Clone, Debug, Args)]
pub(super) struct DisconnectArgs {
    /// Whatever the container says
    #[arg(long, short)]
    force: bool,
    /// The network
    network: String,
    /// The container
    container: String,
}

/// Does it.
pub(super) async fn run(client: &Client, command: NetworkCommand) -> anyhow::Result<()> {
    match command {
        NetworkCommand::Create(args) => {
            let made = client.tell("/networks/create", Some(&body(&args))).await?;
            say(text(&made, "/Id"));
            Ok(())
        }
        NetworkCommand::Ls(args) => {
            let target = format!("/networks?{}", args.listing.query());
            let mut found: Vec<Value> = client.get(&target).await?;
            found.sort_by_key(|network| natural(text(network, "/Name")));
            let rows: Vec<Value> = found
                .iter()
                .map(|one| network_row(one, args.no_trunc))
                .collect();
            args.listing.show("ID", &COLUMNS, &rows)
        }
        NetworkCommand::Inspect(args) => inspect::of(client, "network", &args).await,
        NetworkCommand::Rm(args) => {
            each(&args.names, async |name| {
                let target = format!("/networks/{}", encode(&name));
                client.delete(&target).await.map(drop)
            })
            .await
        }
        NetworkCommand::Connect(args) => {
            let mut endpoint =
                json!({"Aliases": args.alias, "DriverOpts": small::map(&args.driver_opt)});
            if let Some(ip) = args.ip {
                endpoint["IPAMConfig"]["IPv4Address"] = ip.to_string().into();
            }
            if let Some(ip) = args.ip6 {
                endpoint["IPAMConfig"]["IPv6Address"] = ip.to_string().into();
            }
            let body = json!({"Container": args.container, "EndpointConfig": endpoint});
            let target = format!("/networks/{}/connect", encode(&args.network));
            client.post(&target, Some(&body)).await?;
            Ok(())
        }
        NetworkCommand::Disconnect(args) => {
            let body = json!({"Container": args.container, "Force": args.force});
            let target = format!("/networks/{}/disconnect", encode(&args.network));
            client.post(&target, Some(&body)).await?;
            Ok(())
        }
        NetworkCommand::Prune(args) => {
            if agrees(args.force, "all networks that nothing uses") {
                prune(client, "networks", &args.filter).await?;
            }
            Ok(())
        }
    }
}

fn body(args: &CreateArgs) -> Value {
    let pools: Vec<Value> = args
        .subnet
        .iter()
        .enumerate()
        .map(|(at, subnet)| {
            let mut pool = json!({"Subnet": subnet});
            for (field, values) in [("Gateway", &args.gateway), ("IPRange", &args.ip_range)] {
                if let Some(value) = values.get(at) {
                    pool[field] = value.as_str().into();
                }
            }
            pool
        })
        .collect();
    let mut body = json!({
        "Name": args.name,
        "Driver": args.driver,
        "Options": small::map(&args.opt),
        "Labels": small::map(&args.label),
        "Internal": args.internal,
        "Attachable": args.attachable,
        "Ingress": args.ingress,
        "IPAM": {"Driver": args.ipam_driver, "Options": small::map(&args.ipam_opt), "Config": pools},
    });
    if args.ipv6 {
        body["EnableIPv6"] = true.into();
    }
    if let Some(scope) = &args.scope {
        body["Scope"] = scope.as_str().into();
    }
    body
}

fn network_row(network: &Value, whole: bool) -> Value {
    let id = text(network, "/Id");
    row([
        ("ID", if whole { id } else { short(id) }.to_owned()),
        ("Name", text(network, "/Name").to_owned()),
        ("Driver", text(network, "/Driver").to_owned()),
        ("Scope", text(network, "/Scope").to_owned()),
        ("IPv6", (network["EnableIPv6"] == true).to_string()),
        ("Internal", (network["Internal"] == true).to_string()),
        ("Labels", labels(&network["Labels"])),
        ("CreatedAt", text(network, "/Created").to_owned()),
    ])
}
