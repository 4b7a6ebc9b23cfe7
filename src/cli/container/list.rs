//! `skein ps`.

use clap::Args;
use serde_json::Value;

use crate::cli::client::Client;
use crate::cli::human::{cut, date, decimal, short, span};
use crate::cli::registry::without_digest;
use crate::cli::rows::{Column, Listing, labels, list, number, row};
use crate::cli::swarm::text;
use crate::node::clock;

/// The columns of docker's table.
const COLUMNS: [Column; 7] = [
    ("CONTAINER ID", "ID"),
    ("IMAGE", "Image"),
    ("COMMAND", "Command"),
    ("CREATED", "RunningFor"),
    ("STATUS", "Status"),
    ("PORTS", "Ports"),
    ("NAMES", "Names"),
];

/// Longest command that is shown whole.
const COMMAND_WIDTH: usize = 20;

/// List the containers of this machine
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Filters: id, name, label, status, ancestor, network, volume, health, is-task, publish, exited, before, \
    since\nFields: .ID .Image .Command .CreatedAt .RunningFor .Ports .State .Status .Size .Names .Labels .Mounts \
    .Networks\n\nExamples:\n  skein ps --all\n  skein ps --filter label=com.docker.swarm.service.name=web\n  \
    skein ps --format '{{.Names}} {{.Status}}'"
)]
pub(in crate::cli) struct PsArgs {
    #[command(flatten)]
    listing: Listing,
    /// Those that have ended, too
    #[arg(long, short)]
    all: bool,
    /// The last containers made, so many
    #[arg(long, short = 'n', value_name = "COUNT")]
    last: Option<u32>,
    /// The container made last
    #[arg(long, short)]
    latest: bool,
    /// Whole IDs and commands
    #[arg(long)]
    no_trunc: bool,
    /// With what they take of the disk
    #[arg(long, short)]
    size: bool,
}

/// Does it.
pub(in crate::cli) async fn run(client: &Client, args: &PsArgs) -> anyhow::Result<()> {
    let mut query = args.listing.query();
    let last = if args.latest { Some(1) } else { args.last };
    if args.all {
        query.push_str("&all=1");
    }
    if args.size {
        query.push_str("&size=1");
    }
    if let Some(last) = last {
        query.push_str(&format!("&limit={last}"));
    }
    let found: Vec<Value> = client.get(&format!("/containers/json?{query}")).await?;
    let now = clock::now().secs();
    let rows: Vec<Value> = found
        .iter()
        .map(|container| container_row(container, args.no_trunc, now))
        .collect();
    let mut columns = COLUMNS.to_vec();
    if args.size {
        columns.push(("SIZE", "Size"));
    }
    args.listing.show("ID", &columns, &rows)
}

fn container_row(container: &Value, whole: bool, now: i64) -> Value {
    let id = text(container, "/Id");
    let image = text(container, "/Image");
    let command = text(container, "/Command");
    let command = match whole {
        true => command.to_owned(),
        false => cut(command, COMMAND_WIDTH),
    };
    let names: Vec<&str> = list(container, "/Names")
        .iter()
        .filter_map(Value::as_str)
        .map(|name| name.trim_start_matches('/'))
        .filter(|name| whole || !name.contains('/'))
        .collect();
    let mounts: Vec<&str> = list(container, "/Mounts")
        .iter()
        .map(|mount| match text(mount, "/Name") {
            "" => text(mount, "/Source"),
            name if whole => name,
            name => name.get(..15).unwrap_or(name),
        })
        .collect();
    let networks = container.pointer("/NetworkSettings/Networks");
    let networks: Vec<&str> = networks
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(|networks| networks.keys().map(String::as_str))
        .collect();
    let created = number(container, "/Created");
    let size = decimal(number(container, "/SizeRw") as f64);
    let virtual_size = decimal(number(container, "/SizeRootFs") as f64);
    row([
        ("ID", if whole { id } else { short(id) }.to_owned()),
        (
            "Image",
            if whole { image } else { without_digest(image) }.to_owned(),
        ),
        ("Command", format!("\"{command}\"")),
        ("CreatedAt", date(created)),
        ("RunningFor", format!("{} ago", span(now - created))),
        ("State", text(container, "/State").to_owned()),
        ("Status", text(container, "/Status").to_owned()),
        ("Ports", ports(list(container, "/Ports"))),
        ("Names", names.join(",")),
        ("Labels", labels(&container["Labels"])),
        ("Mounts", mounts.join(",")),
        ("Networks", networks.join(",")),
        ("Size", format!("{size} (virtual {virtual_size})")),
    ])
}

/// `0.0.0.0:8080->80/tcp, 443/tcp`.
fn ports(all: &[Value]) -> String {
    let mut shown: Vec<(bool, String)> = all
        .iter()
        .map(|port| {
            let private = number(port, "/PrivatePort");
            let protocol = text(port, "/Type");
            match (number(port, "/PublicPort"), text(port, "/IP")) {
                (0, _) => (true, format!("{private}/{protocol}")),
                (public, "") => (false, format!("{public}->{private}/{protocol}")),
                (public, ip) if ip.contains(':') => {
                    (false, format!("[{ip}]:{public}->{private}/{protocol}"))
                }
                (public, ip) => (false, format!("{ip}:{public}->{private}/{protocol}")),
            }
        })
        .collect();
    shown.sort();
    let shown: Vec<String> = shown.into_iter().map(|(_, port)| port).collect();
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_container_is_shown_as_docker_shows_it() {
        let container = json!({
            "Id": "0123456789abcdef", "Image": "a:1@sha256:b", "Command": "sh -c 'while :; do sleep 1; done'",
            "Created": 100, "State": "running", "Status": "Up 2 minutes", "Names": ["/web", "/other/alias"],
            "Ports": [{"PrivatePort": 443, "Type": "tcp"}, {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}],
            "Labels": {"a": "b"}, "Mounts": [{"Name": "data"}],
        });
        let row = container_row(&container, false, 400);
        for (field, shown) in [
            ("ID", "0123456789ab"),
            ("Image", "a:1"),
            ("Command", "\"sh -c 'while :; do …\""),
            ("RunningFor", "5 minutes ago"),
            ("Ports", "0.0.0.0:8080->80/tcp, 443/tcp"),
            ("Names", "web"),
            ("Labels", "a=b"),
            ("Mounts", "data"),
        ] {
            assert_eq!(row[field], shown, "{field}");
        }
        assert_eq!(
            container_row(&container, true, 400)["Names"],
            "web,other/alias"
        );
    }
}
