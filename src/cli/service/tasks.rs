//! Tables of tasks: `service ps`, `stack ps`, `node ps`.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::Value;

use crate::cli::client::{Client, ClientError, encode};
use crate::cli::human::{capital, cut, natural, short, span};
use crate::cli::output::complain;
use crate::cli::registry::without_digest;
use crate::cli::rows::{Column, list, number, query, row, show};
use crate::cli::swarm::text;
use crate::cli::{Exit, output, values};
use crate::node::clock;

/// The columns of docker's table.
const COLUMNS: [Column; 8] = [
    ("ID", "ID"),
    ("NAME", "Name"),
    ("IMAGE", "Image"),
    ("NODE", "Node"),
    ("DESIRED STATE", "DesiredState"),
    ("CURRENT STATE", "CurrentState"),
    ("ERROR", "Error"),
    ("PORTS", "Ports"),
];

/// Longest error that is shown whole.
const ERROR_WIDTH: usize = 30;

/// How tasks are shown.
#[derive(Clone, Debug, Default, Args)]
pub(in crate::cli) struct TaskArgs {
    /// Only tasks that fit: id, name, node, desired-state
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = values::filter)]
    filter: Vec<(String, String)>,
    /// table, json, a template, or `table` and a template
    #[arg(long)]
    format: Option<String>,
    /// IDs in place of names
    #[arg(long)]
    no_resolve: bool,
    /// Whole IDs, images and errors
    #[arg(long)]
    no_trunc: bool,
    /// IDs alone
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct PsArgs {
    #[command(flatten)]
    show: TaskArgs,
    /// Services, by name, ID, or the beginning of an ID
    #[arg(required = true, value_name = "SERVICE")]
    services: Vec<String>,
}

/// `skein service ps`: what is not there is told after what is.
pub(super) async fn run(client: &Client, args: &PsArgs) -> anyhow::Result<()> {
    let (mut ids, mut failed) = (Vec::new(), false);
    for name in &args.services {
        match super::find(client, name).await {
            Ok(service) => ids.push(("service".to_owned(), text(&service, "/ID").to_owned())),
            Err(error @ ClientError::Refused { status: 404, .. }) => {
                failed = true;
                complain(&error.into());
            }
            Err(error) => return Err(error.into()),
        }
    }
    if !ids.is_empty() {
        print(client, ids, &args.show).await?;
    }
    match failed {
        true => Err(Exit(1).into()),
        false => Ok(()),
    }
}

/// Shows the tasks that fit `filters` and what the user wants of them.
pub(in crate::cli) async fn print(
    client: &Client,
    mut filters: Vec<(String, String)>,
    args: &TaskArgs,
) -> anyhow::Result<()> {
    filters.extend(args.filter.iter().cloned());
    let tasks: Vec<Value> = client.get(&format!("/tasks?{}", query(&filters))).await?;
    if args.quiet && args.format.is_none() {
        for task in &tasks {
            let id = text(task, "/ID");
            output::say(if args.no_trunc { id } else { short(id) });
        }
        return Ok(());
    }
    let names = match args.no_resolve {
        true => Names::default(),
        false => Names::of(client, &tasks).await?,
    };
    let now = clock::now().secs();
    let rows = rows(&tasks, &names, args.no_trunc, now);
    show(args.format.as_deref(), &COLUMNS, &rows)
}

/// What services and nodes are called.
#[derive(Debug, Default)]
struct Names(BTreeMap<String, String>);

impl Names {
    async fn of(client: &Client, tasks: &[Value]) -> Result<Self, ClientError> {
        let mut names = BTreeMap::new();
        for (field, path, name) in [
            ("/ServiceID", "services", "/Spec/Name"),
            ("/NodeID", "nodes", "/Description/Hostname"),
        ] {
            for task in tasks {
                let id = text(task, field);
                if id.is_empty() || names.contains_key(id) {
                    continue;
                }
                let found = client.find(&format!("/{path}/{}", encode(id))).await?;
                let called = found.as_ref().map_or(id, |found| text(found, name));
                names.insert(id.to_owned(), called.to_owned());
            }
        }
        Ok(Self(names))
    }

    fn get<'a>(&'a self, id: &'a str) -> &'a str {
        self.0.get(id).map_or(id, String::as_str)
    }
}

/// Rows as docker has them: by name, the youngest of a slot first, its forerunners hanging below.
fn rows(tasks: &[Value], names: &Names, whole: bool, now: i64) -> Vec<Value> {
    let name = |task: &Value| {
        let service = names.get(text(task, "/ServiceID"));
        match number(task, "/Slot") {
            0 => format!("{service}.{}", text(task, "/NodeID")),
            slot => format!("{service}.{slot}"),
        }
    };
    let mut named: Vec<(String, &Value)> = tasks.iter().map(|task| (name(task), task)).collect();
    named.sort_by(|(a, one), (b, other)| {
        let by_name = natural(a).cmp(&natural(b));
        by_name.then_with(|| text(other, "/CreatedAt").cmp(text(one, "/CreatedAt")))
    });
    let mut before = "";
    let mut rows = Vec::with_capacity(named.len());
    for (name, task) in &named {
        let shown = match before == name {
            true => format!(" \\_ {name}"),
            false => name.clone(),
        };
        before = name;
        rows.push(task_row(task, shown, names, whole, now));
    }
    rows
}

fn task_row(task: &Value, name: String, names: &Names, whole: bool, now: i64) -> Value {
    let id = text(task, "/ID");
    let image = text(task, "/Spec/ContainerSpec/Image");
    let error = text(task, "/Status/Err");
    let since = crate::cli::human::seconds_of(text(task, "/Status/Timestamp")).unwrap_or(now);
    let state = capital(text(task, "/Status/State"));
    let ports: Vec<String> = list(task, "/Status/PortStatus/Ports")
        .iter()
        .map(|port| {
            let (published, target) = (number(port, "/PublishedPort"), number(port, "/TargetPort"));
            format!("*:{published}->{target}/{}", text(port, "/Protocol"))
        })
        .collect();
    let error = match (error, whole) {
        ("", _) => String::new(),
        (error, true) => format!("\"{error}\""),
        (error, false) => format!("\"{}\"", cut(error, ERROR_WIDTH)),
    };
    row([
        ("ID", if whole { id } else { short(id) }.to_owned()),
        ("Name", name),
        (
            "Image",
            if whole { image } else { without_digest(image) }.to_owned(),
        ),
        ("Node", names.get(text(task, "/NodeID")).to_owned()),
        ("DesiredState", capital(text(task, "/DesiredState"))),
        (
            "CurrentState",
            format!("{state} {} ago", span(now - since).to_lowercase()),
        ),
        ("Error", error),
        ("Ports", ports.join(",")),
    ])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn forerunners_hang_below_the_youngest() {
        let task = |id: &str, slot: i64, at: &str, error: &str| {
            json!({
                "ID": id, "ServiceID": "s", "NodeID": "n", "Slot": slot, "CreatedAt": at, "DesiredState": "running",
                "Spec": {"ContainerSpec": {"Image": "a:1@sha256:b"}},
                "Status": {"State": "running", "Timestamp": "1970-01-01T00:00:00Z", "Err": error},
            })
        };
        let names = Names(BTreeMap::from([
            ("s".to_owned(), "web".to_owned()),
            ("n".to_owned(), "node1".to_owned()),
        ]));
        let tasks = [
            task(
                "old",
                2,
                "2026-01-01T00:00:00Z",
                "task: non-zero exit (137) and more than that",
            ),
            task("tenth", 10, "2026-01-01T00:00:00Z", ""),
            task("new", 2, "2026-01-02T00:00:00Z", ""),
        ];
        let rows = rows(&tasks, &names, false, 90);
        let column = |field: &str| -> Vec<String> {
            rows.iter()
                .map(|row| text(row, &format!("/{field}")).to_owned())
                .collect()
        };
        assert_eq!(column("Name"), ["web.2", " \\_ web.2", "web.10"]);
        assert_eq!(column("ID"), ["new", "old", "tenth"]);
        assert_eq!(column("Error")[1], "\"task: non-zero exit (137) and…\"");
        assert_eq!(column("Image")[0], "a:1");
        assert_eq!(column("CurrentState")[0], "Running about a minute ago");
        assert_eq!(column("Node")[0], "node1");
    }
}
