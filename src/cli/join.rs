//! `skein join`: makes this machine a member of a cluster, starting the daemon when none runs.

use clap::Args;
use serde_json::{Value, json};

use super::client::Client;
use super::output::say;
use super::start::{StartArgs, ensure_daemon};
use super::swarm::{from_stdin, text};

/// Join a cluster
///
/// The token says what this machine will be, and may carry addresses: TOKEN@HOST[:PORT][,HOST...]. Starts the
/// daemon when none runs.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sudo skein join SWMTKN-1-...@10.0.0.1\n  \
    sudo skein join SWMTKN-1-... 10.0.0.1 10.0.0.2:2377\n  sudo skein join - 10.0.0.1 < token.txt\n\n\
    `skein token` on any manager prints a token.")]
pub(super) struct JoinArgs {
    /// The join token; `-` reads it from standard input
    #[arg(value_name = "TOKEN[@HOST[:PORT],...]")]
    token: String,
    /// Members to ask
    #[arg(value_name = "HOST[:PORT]")]
    hosts: Vec<String>,
    /// What to tell other machines of where this one is
    #[arg(long, value_name = "IP|INTERFACE[:PORT]")]
    advertise_addr: Option<String>,
    /// Where to listen for other machines, UDP
    #[arg(long, value_name = "IP|INTERFACE[:PORT]")]
    listen_addr: Option<String>,
    /// The address of the containers' traffic, when it is another
    #[arg(long, value_name = "IP|INTERFACE")]
    data_path_addr: Option<String>,
    /// Whether this machine takes tasks
    #[arg(long, default_value = "active", value_parser = ["active", "pause", "drain"])]
    availability: String,
    #[command(flatten)]
    start: StartArgs,
}

/// Does it.
pub(super) async fn run(client: &Client, args: JoinArgs) -> anyhow::Result<()> {
    let given = match args.token.as_str() {
        "-" => from_stdin("the join token")?,
        token => token.to_owned(),
    };
    let (token, hosts) = split(&given, &args.hosts);
    let body = json!({
        "ListenAddr": args.listen_addr,
        "AdvertiseAddr": args.advertise_addr,
        "DataPathAddr": args.data_path_addr,
        "RemoteAddrs": hosts,
        "JoinToken": token,
        "Availability": args.availability,
    });
    ensure_daemon(client, &args.start).await?;
    client.post("/swarm/join", Some(&body)).await?;
    let info: Value = client.get("/info").await?;
    let may = match info.pointer("/Swarm/ControlAvailable") {
        Some(Value::Bool(true)) => "it answers every command and may manage",
        _ => "it runs tasks; commands for the cluster are for a manager",
    };
    say(format!(
        "This machine is in the cluster as node {} ({}): {may}.",
        text(&info, "/Name"),
        text(&info, "/Swarm/NodeID"),
    ));
    Ok(())
}

/// The token alone, and all addresses, without doubles.
fn split<'a>(given: &'a str, hosts: &'a [String]) -> (&'a str, Vec<&'a str>) {
    let (token, carried) = given.split_once('@').unwrap_or((given, ""));
    let mut all: Vec<&str> = Vec::new();
    for host in carried
        .split(',')
        .chain(hosts.iter().flat_map(|host| host.split(',')))
    {
        let host = host.trim();
        if !host.is_empty() && !all.contains(&host) {
            all.push(host);
        }
    }
    (token.trim(), all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_from_the_token_and_the_arguments() {
        let hosts = ["b:1".to_owned(), "c,a".to_owned()];
        assert_eq!(split("T@a,b:1", &hosts), ("T", vec!["a", "b:1", "c"]));
        assert_eq!(split("T", &[]), ("T", vec![]));
        assert_eq!(
            split("T@[fd00::1]:2377", &[]),
            ("T", vec!["[fd00::1]:2377"])
        );
    }
}
