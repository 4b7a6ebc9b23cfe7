//! Services created: one after another and by many clients at once, and how long until the first container runs.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::args::Options;
use crate::beside::{Beside, compare};
use crate::chart::Figure;
use crate::client::Client;
use crate::crew;
use crate::fleet::Fleet;
use crate::report::Report;
use crate::wait::secs;
use crate::watch;

/// Clients at once.
const CLIENTS: usize = 16;

/// Between two looks for the first container.
const LOOK_EVERY: Duration = Duration::from_millis(5);

fn spec(name: &str, replicas: usize) -> Value {
    json!({
        "Name": name,
        "Mode": {"Replicated": {"Replicas": replicas}},
        "TaskTemplate": {
            "ContainerSpec": {
                "Image": crew::pinned(), "Args": ["sleep", "100000"], "StopSignal": "SIGKILL",
            },
            "Networks": [{"Target": "host"}],
        },
    })
}

/// With one, three and five managers.
pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<(), String> {
    let arguments: &[&str] = if options.quick {
        &["rate", "--quick"]
    } else {
        &["rate"]
    };
    let beside = Beside::run(arguments, secs(400));
    for managers in options.size(vec![3], vec![1, 3, 5]) {
        let fleet = Fleet::up(managers)?;
        let leader = fleet.leader();
        let others = fleet.others(leader);
        let mut who = vec![("leader", leader)];
        who.extend(others.first().map(|peer| ("follower", peer.host)));
        for (role, host) in who {
            let count = options.size(50, 300);
            let rate = fleet
                .runtime
                .block_on(serial(&mut fleet.client(host), role, count))?;
            let what = format!("{managers} managers, {role}: creates of one client");
            let is_it = |line: &Value| {
                line["m"] == "rate"
                    && line["managers"] == managers
                    && line["via"] == role
                    && line["clients"] == 1
            };
            let theirs = beside.times(is_it, "per_s", 1.0);
            compare(report, &what, "/s", vec![rate], theirs, None);
        }
        let rate = many(&fleet, leader, options.size(10, 50))?;
        let what = format!("{managers} managers, leader: creates of {CLIENTS} clients");
        report.add(Figure::value(what, "/s", rate));
        if managers == 3 {
            first_container(&fleet, leader, options.size(5, 20), report)?;
        }
    }
    report.note("services without replicas, each by POST /services/create over an open connection");
    beside.note(report);
    Ok(())
}

async fn serial(client: &mut Client, role: &str, count: usize) -> Result<f64, String> {
    let begin = Instant::now();
    for number in 0..count {
        let spec = spec(&format!("serial-{role}-{number}"), 0);
        let made = client.ask("POST", "/services/create", Some(&spec)).await?;
        made.content()?;
    }
    Ok(count as f64 / begin.elapsed().as_secs_f64())
}

fn many(fleet: &Fleet, host: usize, each: usize) -> Result<f64, String> {
    fleet.runtime.block_on(async {
        let begin = Instant::now();
        let mut clients = JoinSet::new();
        for who in 0..CLIENTS {
            let mut client = fleet.client(host);
            clients.spawn(async move { serial(&mut client, &format!("many{who}"), each).await });
        }
        while let Some(ended) = clients.join_next().await {
            ended.map_err(|error| error.to_string())??;
        }
        Ok((CLIENTS * each) as f64 / begin.elapsed().as_secs_f64())
    })
}

fn first_container(
    fleet: &Fleet,
    host: usize,
    count: usize,
    report: &mut Report,
) -> Result<(), String> {
    for peer in fleet.alive() {
        crew::give_image(&fleet.bed, peer.host);
    }
    let mut spans = Vec::new();
    for number in 0..=count {
        let name = format!("first-{number}");
        let mut client = fleet.client(host);
        let took = fleet.runtime.block_on(async {
            let begin = Instant::now();
            let spec = spec(&name, 1);
            let made = client.ask("POST", "/services/create", Some(&spec)).await?;
            made.content()?;
            let path = format!("/tasks?filters=%7B%22service%22%3A%5B%22{name}%22%5D%7D");
            let look = async || {
                let tasks = client.get(&path).await?;
                let runs = tasks[0]["Status"]["State"] == "running";
                runs.then(|| begin.elapsed())
                    .ok_or_else(|| tasks[0]["Status"].to_string())
            };
            let took = watch::eventually(secs(60), LOOK_EVERY, "it runs", look).await?;
            let path = format!("/services/{name}");
            client.ask("DELETE", &path, None).await?.content()?;
            Ok::<_, String>(took)
        })?;
        // The first makes what all later ones find.
        if number > 0 {
            spans.push(took);
        }
    }
    report.add(Figure::times("create → first container running", &spans));
    Ok(())
}
