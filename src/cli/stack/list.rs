//! `skein stack ls`, `ps`, `services`, `rm`: what belongs to a stack by its label.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use serde_json::Value;
use tokio::time::Instant;

use super::NAMESPACE;
use crate::cli::client::Client;
use crate::cli::human::natural;
use crate::cli::output::say;
use crate::cli::rows::{Column, Listing, only, query, row, show};
use crate::cli::service::{list as service_list, tasks as service_tasks};
use crate::cli::swarm::text;

/// How long tasks may take to end when somebody waits for them.
const REMOVAL: Duration = Duration::from_secs(300);

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(200);

/// The columns of docker's table.
const COLUMNS: [Column; 2] = [("NAME", "Name"), ("SERVICES", "Services")];

/// List the stacks
#[derive(Clone, Debug, Args)]
#[command(
    visible_alias = "list",
    after_help = "Examples:\n  skein stack ls\n  skein stack ls --format '{{.Name}}'"
)]
pub(in crate::cli) struct LsArgs {
    /// table, json, a template, or `table` and a template
    #[arg(long)]
    format: Option<String>,
}

/// Does it.
pub(super) async fn stacks(client: &Client, args: &LsArgs) -> anyhow::Result<()> {
    let target = format!("/services?{}", only("label", NAMESPACE));
    let services: Vec<Value> = client.get(&target).await?;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for service in &services {
        let labels = &service["Spec"]["Labels"];
        *counts
            .entry(labels[NAMESPACE].as_str().unwrap_or_default())
            .or_default() += 1;
    }
    let mut names: Vec<&str> = counts.keys().copied().collect();
    names.sort_by_key(|name| natural(name));
    let rows: Vec<Value> = names
        .iter()
        .map(|name| {
            row([
                ("Name", (*name).to_owned()),
                ("Services", counts[name].to_string()),
                ("Orchestrator", "Swarm".to_owned()),
            ])
        })
        .collect();
    show(args.format.as_deref(), &COLUMNS, &rows)
}

fn label(stack: &str) -> (String, String) {
    ("label".to_owned(), format!("{NAMESPACE}={stack}"))
}

/// List the tasks of a stack
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Examples:\n  skein stack ps web\n  skein stack ps --filter desired-state=running web"
)]
pub(in crate::cli) struct PsArgs {
    #[command(flatten)]
    tasks: service_tasks::TaskArgs,
    /// The stack
    stack: String,
}

/// Does it.
pub(super) async fn tasks(client: &Client, args: &PsArgs) -> anyhow::Result<()> {
    must_be(client, &args.stack).await?;
    service_tasks::print(client, vec![label(&args.stack)], &args.tasks).await
}

async fn must_be(client: &Client, stack: &str) -> anyhow::Result<()> {
    let target = format!("/services?{}", query(&[label(stack)]));
    let services: Vec<Value> = client.get(&target).await?;
    anyhow::ensure!(!services.is_empty(), "nothing found in stack: {stack}");
    Ok(())
}

/// List the services of a stack
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Examples:\n  skein stack services web\n  skein stack services --filter name=web_db web"
)]
pub(in crate::cli) struct ServicesArgs {
    #[command(flatten)]
    listing: Listing,
    /// The stack
    stack: String,
}

/// Does it.
pub(super) async fn services(client: &Client, args: &ServicesArgs) -> anyhow::Result<()> {
    let mut filters = vec![label(&args.stack)];
    filters.extend(args.listing.filter.iter().cloned());
    let rows = service_list::rows(client, &query(&filters)).await?;
    anyhow::ensure!(!rows.is_empty(), "nothing found in stack: {}", args.stack);
    args.listing.show("ID", &service_list::COLUMNS, &rows)
}

/// Remove stacks with all that belongs to them
#[derive(Clone, Debug, Args)]
#[command(visible_aliases = ["remove", "down"], after_help = "Examples:\n  skein stack rm web\n  skein stack rm --detach=false web")]
pub(in crate::cli) struct RmArgs {
    /// Do not wait until the tasks have ended
    #[arg(long, short, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true")]
    detach: bool,
    /// The stacks
    #[arg(required = true, value_name = "STACK")]
    stacks: Vec<String>,
}

/// Does it.
pub(super) async fn remove(client: &Client, args: &RmArgs) -> anyhow::Result<()> {
    for stack in &args.stacks {
        let filter = query(&[label(stack)]);
        let mut any = false;
        for (collection, word, name, id) in [
            ("services", "service", "/Spec/Name", "/ID"),
            ("secrets", "secret", "/Spec/Name", "/ID"),
            ("configs", "config", "/Spec/Name", "/ID"),
            ("networks", "network", "/Name", "/Id"),
        ] {
            let found: Vec<Value> = client.get(&format!("/{collection}?{filter}")).await?;
            for one in &found {
                any = true;
                say(format!("Removing {word} {}", text(one, name)));
                client
                    .delete(&format!("/{collection}/{}", text(one, id)))
                    .await?;
            }
        }
        if !any {
            say(format!("Nothing found in stack: {stack}"));
        } else if !args.detach {
            until_gone(client, &filter, stack).await?;
        }
    }
    Ok(())
}

async fn until_gone(client: &Client, filter: &str, stack: &str) -> anyhow::Result<()> {
    let start = Instant::now();
    let ended = [
        "complete", "shutdown", "failed", "rejected", "orphaned", "remove",
    ];
    loop {
        let tasks: Vec<Value> = client.get(&format!("/tasks?{filter}")).await?;
        let left = tasks
            .iter()
            .filter(|task| !ended.contains(&text(task, "/Status/State")))
            .count();
        if left == 0 {
            return Ok(());
        }
        anyhow::ensure!(
            start.elapsed() < REMOVAL,
            "{left} tasks of {stack} have not ended within {} s: see `skein status` for machines that are away",
            REMOVAL.as_secs()
        );
        tokio::time::sleep(INTERVAL).await;
    }
}
