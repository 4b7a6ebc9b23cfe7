//! Lists and inspects, by the leader's socket and by a follower's.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::args::Options;
use crate::chart::{Figure, Goal};
use crate::client::Client;
use crate::fleet::Fleet;
use crate::report::Report;
use crate::wait::secs;
use crate::watch;

/// Services that the tasks are of.
const SERVICES: usize = 100;

/// Milliseconds that dockerd 20.10 takes for 500 tasks, on the leader and on a follower.
const SWARM: [f64; 2] = [7.0, 11.0];

/// An inspect on a follower, milliseconds.
const INSPECT: f64 = 5.0;

/// 500 tasks, then 5,000.
pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<(), String> {
    let fleet = Fleet::up(3)?;
    let leader = fleet.leader();
    let follower = fleet.others(leader)[0].host;
    let mut services = Vec::new();
    for tasks in [500, 5000] {
        let each = tasks / SERVICES;
        services = fleet
            .runtime
            .block_on(prepare(&mut fleet.client(leader), services, each))?;
        for (at, (who, host)) in [("leader", leader), ("follower", follower)]
            .into_iter()
            .enumerate()
        {
            let mut client = fleet.client(host);
            for path in ["/services", "/services?status=true", "/tasks", "/nodes"] {
                let count = options.size(20, 50);
                let spans = fleet.runtime.block_on(ask(&mut client, path, count))?;
                let figure = Figure::times(format!("{tasks} tasks, {who}: GET {path}"), &spans);
                report.add(match (path, tasks) {
                    ("/tasks", 500) => figure.goal(Goal::Median(SWARM[at])),
                    _ => figure,
                });
            }
            let path = format!("/services/{}", services[SERVICES / 2]);
            let count = options.size(200, 1000);
            let spans = fleet.runtime.block_on(ask(&mut client, &path, count))?;
            let what = format!("{tasks} tasks, {who}: GET /services/ID");
            report.add(Figure::times(what, &spans).goal(Goal::P99(INSPECT)));
        }
    }
    report.note(format!(
        "3 managers, {SERVICES} services whose tasks fit no node and wait; one connection, answers read whole"
    ));
    Ok(())
}

/// Brings services to `each` tasks, which all wait.
async fn prepare(
    client: &mut Client,
    services: Vec<String>,
    each: usize,
) -> Result<Vec<String>, String> {
    let mut ids = Vec::new();
    for number in 0..SERVICES {
        let spec = json!({
            "Name": format!("list-{number}"),
            "Labels": {"com.docker.stack.namespace": "lists"},
            "Mode": {"Replicated": {"Replicas": each}},
            "TaskTemplate": {
                "ContainerSpec": {"Image": crate::crew::pinned(), "Args": ["sleep", "100000"], "Env": ["A=1", "B=2"]},
                "Placement": {"Constraints": ["node.labels.none==such"]},
                "Networks": [{"Target": "host"}],
            },
        });
        match services.get(number) {
            None => {
                let made = client.ask("POST", "/services/create", Some(&spec)).await?;
                let id = made.json()?["ID"].as_str().unwrap_or_default().to_owned();
                ids.push(id);
            }
            Some(id) => {
                let known = client.get(&format!("/services/{id}")).await?;
                let version = known["Version"]["Index"].as_u64().unwrap_or_default();
                let path = format!("/services/{id}/update?version={version}");
                client.ask("POST", &path, Some(&spec)).await?.content()?;
                ids.push(id.clone());
            }
        }
    }
    let wanted = SERVICES * each;
    let look = async || {
        let tasks = client.get("/tasks").await?;
        let count = tasks.as_array().map_or(0, Vec::len);
        let waits = tasks.to_string().matches("no suitable node").count();
        (count == wanted && waits >= wanted)
            .then_some(())
            .ok_or_else(|| format!("{count} tasks of {wanted}, of which {waits} wait"))
    };
    let pause = Duration::from_millis(200);
    watch::eventually(secs(120), pause, "all tasks are there", look).await?;
    Ok(ids)
}

async fn ask(client: &mut Client, path: &str, count: usize) -> Result<Vec<Duration>, String> {
    let mut spans = Vec::new();
    for _ in 0..count {
        let begin = Instant::now();
        client.ask("GET", path, None).await?.content()?;
        spans.push(begin.elapsed());
    }
    Ok(spans)
}
