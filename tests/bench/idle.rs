//! What a node costs when nothing happens: memory, processor, and bytes on the wire.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::args::Options;
use crate::chart::{Figure, Goal};
use crate::fleet::{self, Fleet, Peer};
use crate::machine;
use crate::report::Report;
use crate::run::{bounded, run};
use crate::wait::secs;
use crate::watch;

/// From the moment when all is settled to the first count.
const SETTLE: Duration = secs(30);

/// A daemon's resident memory, in MB.
const MEMORY: f64 = 25.0;

/// Its share of a core, in percent.
const PROCESSOR: f64 = 0.5;

/// What was counted of one host.
#[derive(Clone, Copy)]
struct Count {
    cpu: Duration,
    sent: f64,
    received: f64,
}

/// Clusters of three sizes.
pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<(), String> {
    for size in options.size(vec![3, 10], vec![3, 10, 30]) {
        quiet(size, options, report)?;
    }
    report.note(format!(
        "counted from {} s after the cluster had settled; bytes are those of the host's cable, headers included; a \
         voter that leads is counted as leader only",
        SETTLE.as_secs()
    ));
    Ok(())
}

fn quiet(size: usize, options: &Options, report: &mut Report) -> Result<(), String> {
    let fleet = Fleet::up(size)?;
    let span = secs(options.size(20, 60));
    fleet
        .runtime
        .block_on(watch::until(Instant::now() + SETTLE));
    let roles = fleet.runtime.block_on(roles(&fleet))?;
    let (before, begin) = (count(&fleet)?, Instant::now());
    fleet.runtime.block_on(watch::until(begin + span));
    let (after, elapsed) = (count(&fleet)?, begin.elapsed().as_secs_f64());
    let mut memory = Vec::new();
    let mut by_role: BTreeMap<&str, Vec<[f64; 3]>> = BTreeMap::new();
    for peer in fleet.alive() {
        let (Some(before), Some(after)) = (before.get(&peer.host), after.get(&peer.host)) else {
            return Err(format!("host {} was not counted", peer.host));
        };
        let cpu = (after.cpu - before.cpu).as_secs_f64() / elapsed * 100.0;
        let wire = [after.sent - before.sent, after.received - before.received];
        let [sent, received] = wire.map(|bytes| bytes / elapsed);
        let role = roles
            .get(&peer.node)
            .copied()
            .unwrap_or("without a replica");
        by_role.entry(role).or_default().push([cpu, sent, received]);
        memory.push(machine::resident_mb(peer.pid));
    }
    let what = format!("{size} nodes: resident memory of a daemon");
    report.add(Figure::samples(what, "MB", memory).goal(Goal::Most(MEMORY)));
    for (role, counts) in by_role {
        let of = |at: usize| counts.iter().map(|count| count[at]).collect();
        let what = format!("{size} nodes, {role}: CPU");
        report.add(Figure::samples(what, "% of a core", of(0)).goal(Goal::Most(PROCESSOR)));
        report.add(Figure::samples(
            format!("{size} nodes, {role}: sent"),
            "bytes/s",
            of(1),
        ));
        report.add(Figure::samples(
            format!("{size} nodes, {role}: received"),
            "bytes/s",
            of(2),
        ));
    }
    Ok(())
}

/// What each node is to the quorum, by ID.
async fn roles(fleet: &Fleet) -> Result<BTreeMap<String, &'static str>, String> {
    let leader = fleet.leader_now().await?;
    let status = fleet.client(leader).get("/skein/status").await?;
    let mut roles = BTreeMap::new();
    for (field, role) in [("Learners", "standby"), ("Voters", "voter")] {
        let nodes = status[field].as_array().into_iter().flatten();
        roles.extend(
            nodes
                .filter_map(Value::as_str)
                .map(|node| (node.to_owned(), role)),
        );
    }
    roles.extend(
        status["Leader"]
            .as_str()
            .map(|node| (node.to_owned(), "leader")),
    );
    Ok(roles)
}

impl Fleet {
    /// The host of the leader, without waiting for one.
    async fn leader_now(&self) -> Result<usize, String> {
        let first = self.alive().first().map_or(1, |peer| peer.host);
        let nodes = fleet::nodes(&mut self.client(first)).await?;
        let mut leaders = nodes.iter().filter(|node| node.leads());
        let leader = leaders.next().ok_or("nobody leads")?;
        Ok(leader.host())
    }
}

fn count(fleet: &Fleet) -> Result<BTreeMap<usize, Count>, String> {
    let wire = wire(fleet)?;
    let count = |peer: &Peer| {
        let (sent, received) = wire.get(&peer.host).copied()?;
        let cpu = machine::cpu_of(peer.pid);
        Some((
            peer.host,
            Count {
                cpu,
                sent,
                received,
            },
        ))
    };
    Ok(fleet.alive().iter().filter_map(count).collect())
}

/// Bytes that each host has sent and received so far, at the other end of its cable.
fn wire(fleet: &Fleet) -> Result<BTreeMap<usize, (f64, f64)>, String> {
    let folder = fleet.bed.folder(1);
    let bed = folder
        .parent()
        .and_then(Path::file_name)
        .unwrap_or_default();
    let lan = format!("skein-{}-lan", bed.to_string_lossy());
    let mut command = bounded(secs(10), "ip");
    command.args(["-n", &lan, "-s", "-j", "link", "show"]);
    let text = run(&mut command).result()?;
    let links: Vec<Value> = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let count = |link: &Value| {
        let host = link["ifname"].as_str()?.strip_prefix('h')?.parse().ok()?;
        let bytes = |way: &str| link["stats64"][way]["bytes"].as_f64();
        Some((host, (bytes("rx")?, bytes("tx")?)))
    };
    Ok(links.iter().filter_map(count).collect())
}
