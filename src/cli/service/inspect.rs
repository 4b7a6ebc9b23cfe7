//! `skein service inspect`.

use clap::Args;
use serde_json::Value;

use crate::cli::client::{Client, encode};
use crate::cli::inspect::show;
use crate::cli::output::say;
use crate::cli::rows::{list, number};
use crate::cli::swarm::text;

/// Show services in full
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Examples:\n  skein service inspect web\n  skein service inspect --pretty web"
)]
pub(in crate::cli) struct InspectArgs {
    /// Services, by name, ID, or the beginning of an ID
    #[arg(required = true, value_name = "SERVICE")]
    services: Vec<String>,
    /// json or a template
    #[arg(long, short)]
    format: Option<String>,
    /// For people
    #[arg(long, conflicts_with = "format")]
    pretty: bool,
}

/// Does it.
pub(super) async fn run(client: &Client, args: &InspectArgs) -> anyhow::Result<()> {
    let mut found = Vec::new();
    for name in &args.services {
        let target = format!("/services/{}?insertDefaults=true", encode(name));
        let body = client.get_text(&target).await?;
        found.push(String::from_utf8_lossy(&body).trim().to_owned());
    }
    if !args.pretty {
        return show(&found, args.format.as_deref());
    }
    for one in &found {
        say(pretty(&serde_json::from_str(one)?));
    }
    Ok(())
}

/// The parts of a service that people look for.
fn pretty(service: &Value) -> String {
    let mut lines = vec![
        format!("ID:\t\t{}", text(service, "/ID")),
        format!("Name:\t\t{}", text(service, "/Spec/Name")),
    ];
    pairs(&mut lines, "Labels:", &service["Spec"]["Labels"]);
    mode(&mut lines, service);
    if let Some(update) = service.get("UpdateStatus") {
        lines.push("UpdateStatus:".into());
        for field in ["State", "StartedAt", "CompletedAt", "Message"] {
            let value = text(update, &format!("/{field}"));
            if !value.is_empty() {
                lines.push(format!(" {field}:\t{value}"));
            }
        }
    }
    let task = &service["Spec"]["TaskTemplate"];
    lines.push("Placement:".into());
    for constraint in list(task, "/Placement/Constraints") {
        lines.push(format!(
            " Constraints:\t{}",
            constraint.as_str().unwrap_or("")
        ));
    }
    for name in ["UpdateConfig", "RollbackConfig"] {
        if let Some(config) = service["Spec"].get(name) {
            lines.push(format!("{name}:"));
            lines.extend(policy(config));
        }
    }
    container(&mut lines, task);
    let endpoint = &service["Endpoint"]["Spec"];
    lines.push(format!("Endpoint Mode:\t{}", text(endpoint, "/Mode")));
    for port in list(service, "/Endpoint/Ports") {
        lines.push(format!(
            " PublishedPort = {}\n  Protocol = {}\n  TargetPort = {}\n  PublishMode = {}",
            number(port, "/PublishedPort"),
            text(port, "/Protocol"),
            number(port, "/TargetPort"),
            text(port, "/PublishMode"),
        ));
    }
    lines.join("\n")
}

fn pairs(lines: &mut Vec<String>, heading: &str, map: &Value) {
    let Some(map) = map.as_object().filter(|map| !map.is_empty()) else {
        return;
    };
    lines.push(heading.to_owned());
    for (key, value) in map {
        lines.push(format!(" {key}={}", value.as_str().unwrap_or_default()));
    }
}

fn mode(lines: &mut Vec<String>, service: &Value) {
    let mode = &service["Spec"]["Mode"];
    let name = mode
        .as_object()
        .and_then(|mode| mode.keys().next())
        .map_or("Replicated", String::as_str);
    lines.push(format!("Service Mode:\t{name}"));
    if mode["Replicated"].is_object() {
        lines.push(format!(
            " Replicas:\t{}",
            number(mode, "/Replicated/Replicas")
        ));
    }
    if mode["ReplicatedJob"].is_object() {
        let job = &mode["ReplicatedJob"];
        lines.push(format!(
            " Max Concurrent:\t{}",
            number(job, "/MaxConcurrent")
        ));
        lines.push(format!(
            " Total Completions:\t{}",
            number(job, "/TotalCompletions")
        ));
    }
}

fn policy(config: &Value) -> Vec<String> {
    let seconds = |field: &str| number(config, field) as f64 / 1e9;
    let ratio = config["MaxFailureRatio"].as_f64().unwrap_or_default();
    vec![
        format!(" Parallelism:\t{}", number(config, "/Parallelism")),
        format!(" Delay:\t\t{}s", seconds("/Delay")),
        format!(" On failure:\t{}", text(config, "/FailureAction")),
        format!(" Monitoring Period: {}s", seconds("/Monitor")),
        format!(" Max failure ratio: {ratio}"),
        format!(" Update order:      {}", text(config, "/Order")),
    ]
}

fn container(lines: &mut Vec<String>, task: &Value) {
    let spec = &task["ContainerSpec"];
    let words = |field: &str| -> Vec<&str> {
        let values = list(spec, field).iter();
        values.filter_map(Value::as_str).collect()
    };
    lines.push("ContainerSpec:".into());
    lines.push(format!(" Image:\t\t{}", text(spec, "/Image")));
    for (name, field) in [
        ("Command", "/Command"),
        ("Args", "/Args"),
        ("Env", "/Env"),
        ("Hosts", "/Hosts"),
    ] {
        let words = words(field);
        if !words.is_empty() {
            lines.push(format!(" {name}:\t\t{}", words.join(" ")));
        }
    }
    for (name, field) in [
        ("Dir", "/Dir"),
        ("User", "/User"),
        ("Hostname", "/Hostname"),
    ] {
        let value = text(spec, field);
        if !value.is_empty() {
            lines.push(format!(" {name}:\t\t{value}"));
        }
    }
    for mount in list(spec, "/Mounts") {
        lines.push(format!(
            "Mount:\n Target:\t{}\n  Source:\t{}\n  ReadOnly:\t{}\n  Type:\t\t{}",
            text(mount, "/Target"),
            text(mount, "/Source"),
            mount["ReadOnly"] == true,
            text(mount, "/Type"),
        ));
    }
    for (name, field, of) in [
        ("Secrets", "/Secrets", "/SecretName"),
        ("Configs", "/Configs", "/ConfigName"),
    ] {
        for one in list(spec, field) {
            let target = text(one, "/File/Name");
            lines.push(format!(
                "{name}:\n Target:\t{target}\n  Source:\t{}",
                text(one, of)
            ));
        }
    }
    let resources = &task["Resources"];
    lines.push("Resources:".into());
    for part in ["Reservations", "Limits"] {
        let (cpus, memory) = (
            number(resources, &format!("/{part}/NanoCPUs")),
            number(resources, &format!("/{part}/MemoryBytes")),
        );
        if cpus > 0 {
            lines.push(format!(" {part}: CPU {}", cpus as f64 / 1e9));
        }
        if memory > 0 {
            let memory = crate::cli::human::binary(memory as f64);
            lines.push(format!(" {part}: Memory {memory}"));
        }
    }
}
