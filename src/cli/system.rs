//! `skein system df|info|prune|events`, `skein info`, `skein events`, and completions for shells.

use std::io::Write as _;

use clap::{Args, CommandFactory as _, Subcommand};
use clap_complete::Shell;
use serde_json::Value;

use super::client::Client;
use super::client::frames::Lines;
use super::client::stream::Ask;
use super::container::logs::moment;
use super::human::{binary, fine};
use super::image::{PruneArgs, agrees, prune};
use super::output::{pretty, say};
use super::rows::{Column, list, number, query, row, show};
use super::swarm::text;
use super::template::Template;
use super::{Cli, values};

/// Show and clean up this machine
#[derive(Debug, Subcommand)]
pub(super) enum SystemCommand {
    Df(DfArgs),
    Info(InfoArgs),
    Events(EventsArgs),
    /// Remove what nothing uses: containers, networks, images
    Prune(SystemPruneArgs),
}

/// Does it.
pub(super) async fn run(client: &Client, command: SystemCommand) -> anyhow::Result<()> {
    match command {
        SystemCommand::Df(args) => df(client, &args).await,
        SystemCommand::Info(args) => info(client, &args).await,
        SystemCommand::Events(args) => events(client, &args).await,
        SystemCommand::Prune(args) => prune_all(client, &args).await,
    }
}

/// Show what images, containers and volumes take of the disk
#[derive(Clone, Debug, Args)]
pub(super) struct DfArgs {
    /// table, json, a template, or `table` and a template
    #[arg(long)]
    format: Option<String>,
    /// Everything that the daemon tells
    #[arg(long, short)]
    verbose: bool,
}

const DF: [Column; 5] = [
    ("TYPE", "Type"),
    ("TOTAL", "TotalCount"),
    ("ACTIVE", "Active"),
    ("SIZE", "Size"),
    ("RECLAIMABLE", "Reclaimable"),
];

async fn df(client: &Client, args: &DfArgs) -> anyhow::Result<()> {
    let body = client.get_text("/system/df").await?;
    if args.verbose {
        say(pretty(&String::from_utf8_lossy(&body)));
        return Ok(());
    }
    show(
        args.format.as_deref(),
        &DF,
        &df_rows(&serde_json::from_slice(&body)?),
    )
}

fn df_rows(usage: &Value) -> Vec<Value> {
    let line = |kind: &str, total: usize, active: usize, size: i64, free: i64| {
        let share = match size {
            0 => String::new(),
            size => format!(" ({}%)", free.max(0) * 100 / size),
        };
        row([
            ("Type", kind.to_owned()),
            ("TotalCount", total.to_string()),
            ("Active", active.to_string()),
            ("Size", fine(size as f64)),
            (
                "Reclaimable",
                format!("{}{share}", fine(free.max(0) as f64)),
            ),
        ])
    };
    let images = list(usage, "/Images");
    let used: Vec<&Value> = images
        .iter()
        .filter(|image| number(image, "/Containers") > 0)
        .collect();
    let own = |image: &&Value| number(image, "/Size") - number(image, "/SharedSize").max(0);
    let layers = number(usage, "/LayersSize");
    let kept: i64 = used.iter().map(own).sum();
    let containers = list(usage, "/Containers");
    let runs = |one: &&Value| ["running", "paused", "restarting"].contains(&text(one, "/State"));
    let size = |one: &Value| number(one, "/SizeRw");
    let volumes = list(usage, "/Volumes");
    let in_use = |one: &&Value| number(one, "/UsageData/RefCount") > 0;
    let volume_size = |one: &Value| number(one, "/UsageData/Size").max(0);
    vec![
        line("Images", images.len(), used.len(), layers, layers - kept),
        line(
            "Containers",
            containers.len(),
            containers.iter().filter(runs).count(),
            containers.iter().map(size).sum(),
            containers.iter().filter(|one| !runs(one)).map(size).sum(),
        ),
        line(
            "Local Volumes",
            volumes.len(),
            volumes.iter().filter(in_use).count(),
            volumes.iter().map(volume_size).sum(),
            volumes
                .iter()
                .filter(|one| !in_use(one))
                .map(volume_size)
                .sum(),
        ),
        line("Build Cache", list(usage, "/BuildCache").len(), 0, 0, 0),
    ]
}

/// Show this machine and its cluster
#[derive(Clone, Debug, Args)]
pub(super) struct InfoArgs {
    /// json or a template
    #[arg(long, short)]
    format: Option<String>,
}

/// `skein info`.
pub(super) async fn info(client: &Client, args: &InfoArgs) -> anyhow::Result<()> {
    let body = client.get_text("/info").await?;
    let info: Value = serde_json::from_slice(&body)?;
    match args.format.as_deref() {
        Some("json") => say(String::from_utf8_lossy(&body).trim()),
        Some(template) => say(Template::parse(template)?.render(&info)?),
        None => say(info_lines(&info)),
    }
    Ok(())
}

fn info_lines(info: &Value) -> String {
    let swarm = &info["Swarm"];
    let mut lines = vec![
        format!("Containers: {}", number(info, "/Containers")),
        format!(" Running: {}", number(info, "/ContainersRunning")),
        format!(" Paused: {}", number(info, "/ContainersPaused")),
        format!(" Stopped: {}", number(info, "/ContainersStopped")),
        format!("Images: {}", number(info, "/Images")),
    ];
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            lines.push(format!("{name}: {value}"));
        }
    };
    line("Server Version", text(info, "/ServerVersion"));
    line("Storage Driver", text(info, "/Driver"));
    line("Logging Driver", text(info, "/LoggingDriver"));
    line("Swarm", text(swarm, "/LocalNodeState"));
    line(" NodeID", text(swarm, "/NodeID"));
    line(" Error", text(swarm, "/Error"));
    line(
        " Is Manager",
        &(swarm["ControlAvailable"] == true).to_string(),
    );
    if swarm["ControlAvailable"] == true {
        line(" ClusterID", text(swarm, "/Cluster/ID"));
        line(" Managers", &number(swarm, "/Managers").to_string());
        line(" Nodes", &number(swarm, "/Nodes").to_string());
    }
    line(" Node Address", text(swarm, "/NodeAddr"));
    line("Kernel Version", text(info, "/KernelVersion"));
    line("Operating System", text(info, "/OperatingSystem"));
    line("OSType", text(info, "/OSType"));
    line("Architecture", text(info, "/Architecture"));
    line("CPUs", &number(info, "/NCPU").to_string());
    line("Total Memory", &binary(number(info, "/MemTotal") as f64));
    line("Name", text(info, "/Name"));
    line("ID", text(info, "/ID"));
    line("Docker Root Dir", text(info, "/DockerRootDir"));
    for warning in list(info, "/Warnings").iter().filter_map(Value::as_str) {
        line("WARNING", warning.trim_start_matches("WARNING: "));
    }
    lines.join("\n")
}

/// Show what happens, as it happens
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Filters: type, event, scope, node, service, network, secret, config, container, image, volume, label\n\n\
    Examples:\n  skein events --filter type=service\n  skein events --since 10m --until 0s --format json"
)]
pub(super) struct EventsArgs {
    /// Only what fits, key=value; may be given several times
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = values::filter)]
    filter: Vec<(String, String)>,
    /// json or a template
    #[arg(long)]
    format: Option<String>,
    /// From a time on, or from a while ago
    #[arg(long)]
    since: Option<String>,
    /// Until a time, or a while ago
    #[arg(long)]
    until: Option<String>,
}

/// `skein events`.
pub(super) async fn events(client: &Client, args: &EventsArgs) -> anyhow::Result<()> {
    let template = match args.format.as_deref() {
        None | Some("json") => None,
        Some(template) => Some(Template::parse(template)?),
    };
    let mut target = format!("/events?{}", query(&args.filter));
    for (name, time) in [("since", &args.since), ("until", &args.until)] {
        if let Some(time) = time {
            target.push_str(&format!("&{name}={}", moment(time)?));
        }
    }
    let mut reply = client.open(Ask::get(target).patiently()).await?;
    let mut lines = Lines::default();
    while let Some(piece) = reply.next().await? {
        lines.push(&piece);
        while let Some(line) = lines.next() {
            match (&template, &args.format) {
                (Some(template), _) => say(template.render(&serde_json::from_str(&line)?)?),
                (None, Some(_)) => say(line),
                (None, None) => say(event_line(&serde_json::from_str(&line)?)),
            }
        }
    }
    Ok(())
}

/// `TIME type action id (name=web, …)`.
fn event_line(event: &Value) -> String {
    let nanos = number(event, "/timeNano");
    let time = jiff::Timestamp::from_nanosecond(nanos.into());
    let time = time.map_or_else(|_| String::new(), |time| format!("{time:.9}"));
    let attributes = event
        .pointer("/Actor/Attributes")
        .and_then(Value::as_object);
    let pair = |(key, value): (&String, &Value)| format!("{key}={}", value.as_str().unwrap_or(""));
    let pairs: Vec<String> = attributes.into_iter().flatten().map(pair).collect();
    let details = match pairs.is_empty() {
        true => String::new(),
        false => format!(" ({})", pairs.join(", ")),
    };
    let (kind, action) = (text(event, "/Type"), text(event, "/Action"));
    format!(
        "{time} {kind} {action} {}{details}",
        text(event, "/Actor/ID")
    )
}

#[derive(Clone, Debug, Args)]
pub(super) struct SystemPruneArgs {
    #[command(flatten)]
    shared: PruneArgs,
    /// Volumes without a name as well
    #[arg(long)]
    volumes: bool,
}

async fn prune_all(client: &Client, args: &SystemPruneArgs) -> anyhow::Result<()> {
    let what = "all stopped containers, unused networks and dangling images";
    if !agrees(args.shared.force, what) {
        return Ok(());
    }
    let filters = &args.shared.filter;
    let mut images = filters.clone();
    images.push(("dangling".into(), (!args.shared.all).to_string()));
    let mut freed = prune(client, "containers", filters).await?;
    prune(client, "networks", filters).await?;
    if args.volumes {
        freed += prune(client, "volumes", &[]).await?;
    }
    freed += prune(client, "images", &images).await?;
    say(format!("Total reclaimed space: {}", fine(freed as f64)));
    Ok(())
}

/// Write completions for a shell
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Examples:\n  skein completion bash > /etc/bash_completion.d/skein\n  \
    skein completion zsh > \"${fpath[1]}/_skein\"\n  skein completion fish > ~/.config/fish/completions/skein.fish"
)]
pub(super) struct CompletionArgs {
    /// The shell
    #[arg(value_parser = ["bash", "zsh", "fish"])]
    shell: String,
}

/// `skein completion`. Asks no daemon.
pub(super) fn completion(args: &CompletionArgs) -> anyhow::Result<()> {
    let shell = match args.shell.as_str() {
        "bash" => Shell::Bash,
        "zsh" => Shell::Zsh,
        _ => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "skein", &mut script);
    // A reader that went away is no error of ours.
    let _ = std::io::stdout().lock().write_all(&script);
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_a_line() {
        let event = json!({
            "Type": "service", "Action": "create", "timeNano": 1_500_000_000_i64,
            "Actor": {"ID": "abc", "Attributes": {"name": "web"}},
        });
        assert_eq!(
            event_line(&event),
            "1970-01-01T00:00:01.500000000Z service create abc (name=web)"
        );
    }

    #[test]
    fn the_disk_is_shown_as_docker_shows_it() {
        let usage = json!({
            "LayersSize": 1000, "Images": [{"Size": 400, "SharedSize": 0, "Containers": 1}, {"Size": 600, "Containers": 0}],
            "Containers": [{"State": "running", "SizeRw": 10}, {"State": "exited", "SizeRw": 30}],
            "Volumes": [{"UsageData": {"RefCount": 0, "Size": 7}}], "BuildCache": [],
        });
        let rows = df_rows(&usage);
        let shown: Vec<(&str, &str, &str)> = rows
            .iter()
            .map(|row| {
                (
                    text(row, "/TotalCount"),
                    text(row, "/Active"),
                    text(row, "/Reclaimable"),
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("2", "1", "600B (60%)"),
                ("2", "1", "30B (75%)"),
                ("1", "0", "7B (100%)"),
                ("0", "0", "0B")
            ]
        );
    }
}
