//! Services of real containers: how long until all of one runs, and until all of it is replaced, beside Docker Swarm.

use std::time::Duration;

use serde_json::Value;

use crate::args::Options;
use crate::beside::{Beside, compare};
use crate::crew::TaskView;
use crate::ground::{Ground, SERVICE};
use crate::report::Report;
use crate::wait::secs;

/// Of Swarm's time, at most so much: containers on the host's network.
const CREATE: f64 = 0.7;

/// Of Swarm's time for a rolling update that stops first, at most so much.
const UPDATE: f64 = 0.35;

/// Tasks of the services that are created.
const REPLICAS: [usize; 3] = [10, 50, 100];

/// Tasks of the service that is updated.
const UPDATED: usize = 20;

/// At a time.
const PARALLELISM: &str = "5";

/// Services that are created, on one node and on three.
pub(crate) fn deploy(options: &Options, report: &mut Report) -> Result<(), String> {
    let repeats = options.size(1, 3);
    let mut arguments = vec!["deploy", "--net", "host", "--nodes", "1", "--nodes", "3"];
    let count = repeats.to_string();
    arguments.extend(["--reps", &count]);
    let beside = Beside::run(&arguments, secs(1200));
    for hosts in [1, 3] {
        let ground = Ground::up(hosts)?;
        for replicas in REPLICAS {
            let (mut times, mut cpus) = (Vec::new(), Vec::new());
            for _ in 0..repeats {
                let took = ground.create(replicas, &[])?;
                evenly(&ground, hosts, replicas)?;
                times.push(took.time.as_secs_f64() * 1e3);
                cpus.push(took.cpu.as_secs_f64() * 1e3 / replicas as f64);
                ground.remove()?;
            }
            let on = if hosts == 1 {
                "1 node".into()
            } else {
                format!("{hosts} nodes")
            };
            let is_it = |line: &Value| {
                line["m"] == "deploy" && line["nodes"] == hosts && line["R"] == replicas
            };
            let what = format!("{replicas} replicas on {on}: create → all running");
            let theirs = beside.times(is_it, "api_all_s", 1e3);
            compare(report, &what, "ms", times, theirs, Some(CREATE));
            let what = format!("{replicas} replicas on {on}: CPU of a replica");
            let theirs = beside.times(is_it, "hosts_cpu_s", 1e3 / replicas as f64);
            compare(report, &what, "ms", cpus, theirs, None);
        }
    }
    report.note(
        "both by `docker service create --detach --network host` of busybox's sleep, the image already there; all \
         running is by GET /tasks, looked at every 50 ms; CPU is that of everything on the hosts, the looks included",
    );
    beside.note(report);
    Ok(())
}

/// A service lies on all hosts alike, or what was measured is another thing.
fn evenly(ground: &Ground, hosts: usize, replicas: usize) -> Result<(), String> {
    let spread = ground.spread()?;
    let most = replicas.div_ceil(hosts);
    let even = spread.len() == hosts && spread.values().all(|count| *count <= most);
    even.then_some(())
        .ok_or_else(|| format!("the tasks lie unevenly: {spread:?}"))
}

/// Services whose tasks are all replaced.
pub(crate) fn update(options: &Options, report: &mut Report) -> Result<(), String> {
    let repeats = options.size(2, 5);
    let count = repeats.to_string();
    let beside = Beside::run(&["update", "--reps", &count], secs(1200));
    let ground = Ground::up(3)?;
    let mut number = 0;
    for (order, most) in [("stop-first", Some(UPDATE)), ("start-first", None)] {
        let policy = [
            "--update-parallelism",
            PARALLELISM,
            "--update-delay",
            "0s",
            "--update-order",
            order,
        ];
        ground.create(UPDATED, &policy)?;
        let mut times = Vec::new();
        for _ in 0..repeats {
            number += 1;
            let took = replace(&ground, number)?;
            times.push(took.as_secs_f64() * 1e3);
            completed(&ground)?;
        }
        ground.remove()?;
        let what = format!("update of {UPDATED}, {order}: all new running");
        let is_it = |line: &Value| line["m"] == "update" && line["order"] == order;
        let theirs = beside.times(is_it, "new_all_s", 1e3);
        compare(report, &what, "ms", times, theirs, most);
    }
    report.note(format!(
        "3 nodes, parallelism {PARALLELISM}, no delay, --env-add; Swarm's containers are on its default bridge, which \
         its harness does not let one choose here, ours on the host's network"
    ));
    beside.note(report);
    Ok(())
}

fn replace(ground: &Ground, number: usize) -> Result<Duration, String> {
    let variable = format!("V={number}");
    let mut arguments = vec!["service", "update", "--detach", "--no-resolve-image"];
    arguments.extend(["--env-add", &variable, SERVICE]);
    let is_new = |task: &&TaskView| {
        let environment = task.0["Spec"]["ContainerSpec"]["Env"].as_array();
        let mut environment = environment.into_iter().flatten();
        task.runs() && environment.any(|one| *one == *variable)
    };
    let took = ground.change(&arguments, |tasks| {
        let new = tasks.iter().filter(is_new).count();
        (new == UPDATED, format!("{new} of {UPDATED} are new"))
    })?;
    Ok(took.time)
}

/// Waits until the update has ended, so that the next is an update of its own.
fn completed(ground: &Ground) -> Result<(), String> {
    let look = async || {
        let service = ground
            .fleet
            .client(1)
            .get(&format!("/services/{SERVICE}"))
            .await?;
        let state = service["UpdateStatus"]["State"]
            .as_str()
            .unwrap_or_default();
        (state == "completed")
            .then_some(())
            .ok_or_else(|| format!("it is {state:?}"))
    };
    let pause = Duration::from_millis(50);
    let ended = crate::watch::eventually(secs(60), pause, "the update has ended", look);
    ground.fleet.runtime.block_on(ended)
}
