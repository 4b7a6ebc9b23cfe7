//! `skein stats`: what containers use, once a second.

use std::collections::BTreeMap;
use std::io::{IsTerminal, stdout};
use std::time::Duration;

use clap::Args;
use serde_json::Value;
use tokio::time::Instant;

use crate::cli::client::{Client, ClientError, encode};
use crate::cli::human::{binary, decimal, short};
use crate::cli::output::say;
use crate::cli::rows::{Column, list, number, row, show};
use crate::cli::swarm::text;

/// Between two looks at all of them.
const INTERVAL: Duration = Duration::from_secs(1);

const COLUMNS: [Column; 8] = [
    ("CONTAINER ID", "ID"),
    ("NAME", "Name"),
    ("CPU %", "CPUPerc"),
    ("MEM USAGE / LIMIT", "MemUsage"),
    ("MEM %", "MemPerc"),
    ("NET I/O", "NetIO"),
    ("BLOCK I/O", "BlockIO"),
    ("PIDS", "PIDs"),
];

/// Show what containers use
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Without names: all that run on this machine.\nFields: .Container .ID .Name .CPUPerc .MemUsage .MemPerc \
    .NetIO .BlockIO .PIDs\n\nExamples:\n  skein stats --no-stream\n  skein stats web --format '{{.CPUPerc}} {{.MemUsage}}'"
)]
pub(in crate::cli) struct StatsArgs {
    /// Those that do not run, too
    #[arg(long, short)]
    all: bool,
    /// table, json, a template, or `table` and a template
    #[arg(long)]
    format: Option<String>,
    /// Once
    #[arg(long)]
    no_stream: bool,
    /// Whole IDs
    #[arg(long)]
    no_trunc: bool,
    /// Containers
    containers: Vec<String>,
}

/// Does it, until it is interrupted.
pub(in crate::cli) async fn run(client: &Client, args: &StatsArgs) -> anyhow::Result<()> {
    let redraws = stdout().is_terminal() && !args.no_stream && args.format.is_none();
    let mut before = BTreeMap::new();
    loop {
        let start = Instant::now();
        let names = match args.containers.as_slice() {
            [] => all(client, args.all).await?,
            named => named.to_vec(),
        };
        let mut rows = Vec::new();
        for name in &names {
            let sample = match sample(client, name, before.is_empty()).await {
                Ok(sample) => sample,
                // What has ended meanwhile uses nothing.
                Err(ClientError::Refused { .. }) if args.containers.is_empty() => continue,
                Err(error) => return Err(error.into()),
            };
            rows.push(stats_row(name, &sample, before.get(name), args.no_trunc));
            before.insert(name.clone(), sample);
        }
        if redraws {
            say("\x1b[2J\x1b[H");
        }
        show(args.format.as_deref(), &COLUMNS, &rows)?;
        if args.no_stream {
            return Ok(());
        }
        tokio::time::sleep_until(start + INTERVAL).await;
    }
}

async fn all(client: &Client, ended_too: bool) -> Result<Vec<String>, ClientError> {
    let target = format!("/containers/json?all={}", u8::from(ended_too));
    let found: Vec<Value> = client.get(&target).await?;
    Ok(found
        .iter()
        .map(|one| text(one, "/Id").to_owned())
        .collect())
}

/// The first sample of each container is of two moments, for what it does in between.
async fn sample(client: &Client, name: &str, first: bool) -> Result<Value, ClientError> {
    let once = if first { "" } else { "&one-shot=1" };
    let name = encode(name);
    client
        .get(&format!("/containers/{name}/stats?stream=0{once}"))
        .await
}

fn stats_row(name: &str, sample: &Value, before: Option<&Value>, whole: bool) -> Value {
    let id = text(sample, "/id");
    let memory = &sample["memory_stats"];
    let cache = ["/stats/inactive_file", "/stats/total_inactive_file"]
        .iter()
        .map(|field| number(memory, field))
        .find(|cache| *cache > 0)
        .unwrap_or_default();
    let used = (number(memory, "/usage") - cache).max(0) as f64;
    let limit = number(memory, "/limit") as f64;
    let share = if limit > 0.0 {
        used / limit * 100.0
    } else {
        0.0
    };
    let (mut received, mut sent) = (0, 0);
    for network in sample["networks"]
        .as_object()
        .into_iter()
        .flat_map(|all| all.values())
    {
        received += number(network, "/rx_bytes");
        sent += number(network, "/tx_bytes");
    }
    let blocks = |wanted: &str| -> i64 {
        list(sample, "/blkio_stats/io_service_bytes_recursive")
            .iter()
            .filter(|entry| text(entry, "/op").eq_ignore_ascii_case(wanted))
            .map(|entry| number(entry, "/value"))
            .sum()
    };
    let pair = |a: i64, b: i64| format!("{} / {}", decimal(a as f64), decimal(b as f64));
    row([
        ("Container", name.to_owned()),
        ("ID", if whole { id } else { short(id) }.to_owned()),
        (
            "Name",
            text(sample, "/name").trim_start_matches('/').to_owned(),
        ),
        ("CPUPerc", format!("{:.2}%", cpu(sample, before))),
        ("MemUsage", format!("{} / {}", binary(used), binary(limit))),
        ("MemPerc", format!("{share:.2}%")),
        ("NetIO", pair(received, sent)),
        ("BlockIO", pair(blocks("read"), blocks("write"))),
        ("PIDs", number(sample, "/pids_stats/current").to_string()),
    ])
}

/// What it used of one processor since the sample before.
fn cpu(sample: &Value, before: Option<&Value>) -> f64 {
    let now = &sample["cpu_stats"];
    let then = before.map_or(&sample["precpu_stats"], |before| &before["cpu_stats"]);
    let used = number(now, "/cpu_usage/total_usage") - number(then, "/cpu_usage/total_usage");
    let whole = number(now, "/system_cpu_usage") - number(then, "/system_cpu_usage");
    let processors = number(now, "/online_cpus").max(1) as f64;
    match used > 0 && whole > 0 {
        true => used as f64 / whole as f64 * processors * 100.0,
        false => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_sample_is_shown_as_docker_shows_it() {
        let sample = json!({
            "id": "0123456789abcdef", "name": "/web", "pids_stats": {"current": 3},
            "memory_stats": {"usage": 3 << 20, "limit": 4 << 20, "stats": {"inactive_file": 1 << 20}},
            "cpu_stats": {"cpu_usage": {"total_usage": 300}, "system_cpu_usage": 2000, "online_cpus": 4},
            "precpu_stats": {"cpu_usage": {"total_usage": 100}, "system_cpu_usage": 1000},
            "networks": {"eth0": {"rx_bytes": 1000, "tx_bytes": 5}},
            "blkio_stats": {"io_service_bytes_recursive": [{"op": "Read", "value": 7}, {"op": "write", "value": 8}]},
        });
        let row = stats_row("web", &sample, None, false);
        for (field, shown) in [
            ("ID", "0123456789ab"),
            ("Name", "web"),
            ("CPUPerc", "80.00%"),
            ("MemUsage", "2MiB / 4MiB"),
            ("MemPerc", "50.00%"),
            ("NetIO", "1kB / 5B"),
            ("BlockIO", "7B / 8B"),
            ("PIDs", "3"),
        ] {
            assert_eq!(row[field], shown, "{field}");
        }
        assert_eq!(
            stats_row("web", &sample, Some(&sample), false)["CPUPerc"],
            "0.00%"
        );
    }
}
