//! Hosts that die under services of real containers: how long until replacements run, and until the next service does.
//!
//! A host dies with its cable pulled first, so that not even its kernel says that nobody listens any more.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::args::Options;
use crate::beside::{Beside, compare};
use crate::chart::{Figure, Goal};
use crate::crew;
use crate::fleet::Peer;
use crate::ground::{DEADLINE, Ground, tasks};
use crate::report::Report;
use crate::wait::secs;
use crate::watch;

/// Hosts of the bed in which one dies.
const HOSTS: usize = 5;

/// Tasks of the service that loses some.
const REPLICAS: usize = 20;

/// Replacements run within this, in milliseconds.
const REPLACED: f64 = 5_000.0;

/// A write is accepted again within this, in milliseconds.
const ACCEPTED: f64 = 1_000.0;

/// Between two new requests to each survivor.
const ATTEMPT_EVERY: Duration = Duration::from_millis(20);

/// Hosts that die: one that does not lead, and the leader's.
pub(crate) fn death(options: &Options, report: &mut Report) -> Result<(), String> {
    let repeats = options.size(2, 5);
    let count = repeats.to_string();
    let beside = Beside::run(
        &["death", "--only", "defaults", "--reps", &count],
        secs(1800),
    );
    let mut ground = Ground::up(HOSTS)?;
    for (who, leads) in [("worker", false), ("leader", true)] {
        let mut times = Vec::new();
        for _ in 0..repeats {
            times.push(die(&mut ground, leads)?.as_secs_f64() * 1e3);
        }
        let what = match leads {
            false => "a node dies → replacements running",
            true => "the leader's host dies → replacements running",
        };
        let is_it =
            |line: &Value| line["m"] == "death" && line["who"] == who && line["how"] == "power-off";
        let theirs = beside.times(is_it, "api_replaced_s", 1e3);
        let most = times.iter().copied().fold(0.0, f64::max);
        compare(report, what, "ms", times, theirs, None);
        let worst = Figure::value(format!("{what}: the slowest"), "ms", most);
        report.add(worst.goal(Goal::Most(REPLACED)));
    }
    report.note(format!(
        "{HOSTS} hosts, a service of {REPLICAS}; as soon as its cable is pulled the victim's daemon is killed; every \
         node of ours may lead, 3 of Swarm's 5 may"
    ));
    beside.note(report);
    Ok(())
}

fn die(ground: &mut Ground, leads: bool) -> Result<Duration, String> {
    ground.create(REPLICAS, &[])?;
    let leader = ground.fleet.leader();
    let others = ground.fleet.others(leader);
    let victim = match leads {
        true => leader,
        false => others[rand::random_range(0..others.len())].host,
    };
    let dead = ground.fleet.peer(victim)?;
    let others = ground.fleet.others(victim);
    let died = Instant::now();
    ground.fleet.bed.act("cut", victim);
    ground.fleet.kill(victim)?;
    let replaced = ground.until_elsewhere(&others, &dead.node, REPLICAS, died);
    let replaced = ground.fleet.runtime.block_on(replaced)?;
    ground.fleet.bed.act("heal", victim);
    ground.fleet.start(victim);
    ground.fleet.settle()?;
    ground.remove()?;
    Ok(replaced)
}

/// Leaders whose daemons are killed: until the next service is taken, and until it runs.
pub(crate) fn failover(options: &Options, report: &mut Report) -> Result<(), String> {
    let repeats = options.size(3, 10);
    let count = options.size(2, 5).to_string();
    let beside = Beside::run(&["failover", "--reps", &count], secs(900));
    let mut ground = Ground::up(3)?;
    let (mut accepted, mut running) = (Vec::new(), Vec::new());
    for number in 0..repeats {
        let leader = ground.fleet.leader();
        let survivors = ground.fleet.others(leader);
        let killed = ground.fleet.kill(leader)?;
        let next = next_service(&ground, &survivors, number, killed);
        let (taken, runs) = ground.fleet.runtime.block_on(next)?;
        accepted.push(taken.as_secs_f64() * 1e3);
        running.push(runs.as_secs_f64() * 1e3);
        ground.fleet.start(leader);
        ground.fleet.settle()?;
        ground.remove()?;
    }
    let theirs = beside.times(|line| line["m"] == "failover", "first_write_s", 1e3);
    let worst = accepted.iter().copied().fold(0.0, f64::max);
    let what = "kill -9 of the leader → next service accepted";
    compare(report, what, "ms", accepted, theirs.clone(), None);
    let worst = Figure::value(format!("{what}: the slowest"), "ms", worst);
    report.add(worst.goal(Goal::Most(ACCEPTED)));
    let what = "kill -9 of the leader → next service running";
    compare(report, what, "ms", running, theirs, None);
    report.note(
        "3 hosts; every 20 ms a new service of one task is asked of each survivor; Swarm is asked every 250 ms for \
         services of no task, so of it only the acceptance is known, which both ratios are to",
    );
    beside.note(report);
    Ok(())
}

/// When the first of many requests for a service was granted, and when a task of it ran.
async fn next_service(
    ground: &Ground,
    survivors: &[Peer],
    round: usize,
    since: Instant,
) -> Result<(Duration, Duration), String> {
    let mut attempts: JoinSet<Result<(usize, String), String>> = JoinSet::new();
    let (mut next, mut number) = (Instant::now(), 0);
    let mut last = String::from("nothing was said");
    while since.elapsed() < DEADLINE {
        tokio::select! {
            biased;
            Some(attempt) = attempts.join_next() => match attempt {
                Ok(Ok((host, id))) => {
                    let taken = since.elapsed();
                    return Ok((taken, until_runs(ground, host, &id, since).await?));
                }
                Ok(Err(reason)) => last = reason,
                Err(error) => last = error.to_string(),
            },
            () = watch::until(next) => {
                for peer in survivors {
                    number += 1;
                    let mut client = ground.fleet.client(peer.host);
                    let (host, name) = (peer.host, format!("next-{round}-{number}"));
                    attempts.spawn(async move {
                        let made = client.ask("POST", "/services/create", Some(&one(&name))).await?;
                        let id = made.json()?["ID"].as_str().unwrap_or_default().to_owned();
                        Ok((host, id))
                    });
                }
                next += ATTEMPT_EVERY;
            }
        }
    }
    Err(format!("no service was accepted in {DEADLINE:?}: {last}"))
}

/// A service of one task.
fn one(name: &str) -> Value {
    json!({
        "Name": name,
        "TaskTemplate": {
            "ContainerSpec": {"Image": crew::pinned(), "Args": ["sleep", "100000"], "StopSignal": "SIGKILL"},
            "Networks": [{"Target": "host"}],
        },
        "Mode": {"Replicated": {"Replicas": 1}},
    })
}

async fn until_runs(
    ground: &Ground,
    host: usize,
    id: &str,
    since: Instant,
) -> Result<Duration, String> {
    let mut client = ground.fleet.client(host);
    let look = async || {
        let tasks = tasks(&mut client).await?;
        let runs = tasks
            .iter()
            .any(|task| task.runs() && task.text("/ServiceID") == id);
        runs.then(|| since.elapsed())
            .ok_or_else(|| "it does not run".into())
    };
    watch::eventually(
        DEADLINE,
        Duration::from_millis(10),
        "the next service runs",
        look,
    )
    .await
}
