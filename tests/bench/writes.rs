//! Committed writes: how many in a second, and how long each takes, with three voters and real syncs.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use skein::cluster::store::Store;
use skein::cluster::store::measure::{WriteFigures, committed_writes, first_proposal, writes_to};

use crate::args::Options;
use crate::chart::{Figure, Goal};
use crate::fleet::{Fleet, runtime};
use crate::machine;
use crate::quic::{House, words};
use crate::report::Report;
use crate::wait::secs;

/// Replicas, all of which vote.
const VOTERS: usize = 3;

/// Writes of 64 clients in a second, at least.
const GOAL: f64 = 5000.0;

/// On a disk, and removed afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, String> {
        let folder = PathBuf::from(format!("/var/tmp/skein-writes-{}", std::process::id()));
        let made = std::fs::create_dir_all(&folder);
        made.map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Writes over QUIC, in memory, and through the API.
pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<(), String> {
    let runtime = runtime()?;
    let span = secs(options.size(3, 10));
    runtime.block_on(over_quic(span, report))?;
    for clients in [1, 64] {
        let folder = Folder::new()?;
        let cpu = machine::own_cpu();
        let writes = committed_writes(&folder.0, VOTERS as u64, clients, span);
        let figures = runtime.block_on(writes).map_err(words)?;
        add(
            report,
            "over memory",
            clients,
            &figures,
            machine::own_cpu() - cpu,
        );
    }
    drop(runtime);
    report.note("3 stores in one process with a directory each; CPU is of all three and the clients together");
    through_api(options.size(200, 1000), report)
}

fn add(report: &mut Report, how: &str, clients: u64, figures: &WriteFigures, cpu: Duration) {
    let who = if clients == 1 {
        "1 client".into()
    } else {
        format!("{clients} clients")
    };
    let what = format!("{how}, {who}: committed");
    let rate = Figure::value(what, "writes/s", figures.per_second);
    report.add(if clients > 1 {
        rate.goal(Goal::Least(GOAL))
    } else {
        rate
    });
    let each = figures.latencies.each();
    report.add(Figure::times(format!("{how}, {who}: one write"), each));
    let mean = cpu.as_secs_f64() * 1e6 / figures.latencies.count().max(1) as f64;
    report.add(Figure::value(
        format!("{how}, {who}: CPU of one write, mean"),
        "us",
        mean,
    ));
}

/// Three stores that reach each other over QUIC.
async fn over_quic(span: Duration, report: &mut Report) -> Result<(), String> {
    let folder = Folder::new()?;
    let house = House::up(VOTERS, Some(&folder.0)).await?;
    let ids: Vec<_> = house.nodes.iter().map(|node| node.id).collect();
    let leader: Store = house.nodes[0].store.clone().ok_or("it has a store")?;
    leader.bootstrap(first_proposal()).await.map_err(words)?;
    for follower in &ids[1..] {
        leader.add_learner(*follower).await.map_err(words)?;
    }
    let voters = ids.iter().copied().collect();
    leader.set_voters(voters, false).await.map_err(words)?;
    for (run, clients) in [(0, 1), (1, 64)] {
        let (cpu, bytes) = (machine::own_cpu(), house.bytes_sent());
        let figures = writes_to(&leader, run, clients, span)
            .await
            .map_err(words)?;
        let (cpu, bytes) = (machine::own_cpu() - cpu, house.bytes_sent() - bytes);
        add(report, "over QUIC", clients, &figures, cpu);
        let each = bytes as f64 / figures.latencies.count().max(1) as f64;
        let what = format!("over QUIC, {clients} clients: on the wire for one write, mean");
        report.add(Figure::value(what, "bytes", each));
    }
    house.down().await;
    Ok(())
}

/// One client that changes a node's label, on a bed, by the leader's socket and by a follower's.
fn through_api(count: usize, report: &mut Report) -> Result<(), String> {
    let fleet = Fleet::up(VOTERS)?;
    let leader = fleet.leader();
    let follower = fleet.others(leader)[0].host;
    for (role, host) in [("leader", leader), ("follower", follower)] {
        let before = cpu(&fleet);
        let spans = fleet.runtime.block_on(label(&fleet, host, count))?;
        let cpu = (cpu(&fleet) - before).as_secs_f64() * 1e6 / count as f64;
        let what = format!("POST /nodes/ID/update by the {role}'s socket, 1 client");
        report.add(Figure::times(what, &spans));
        let what = format!("a read and a write by the {role}'s socket: CPU of all daemons, mean");
        report.add(Figure::value(what, "us", cpu));
    }
    report.note(
        "through the API only one client is measured: 64 would need 64 objects, and a bed of 3 has 3 nodes to write to",
    );
    Ok(())
}

fn cpu(fleet: &Fleet) -> Duration {
    fleet
        .alive()
        .iter()
        .map(|peer| machine::cpu_of(peer.pid))
        .sum()
}

async fn label(fleet: &Fleet, host: usize, count: usize) -> Result<Vec<Duration>, String> {
    let mut client = fleet.client(host);
    let node = fleet.peer(host)?.node;
    let mut spans = Vec::new();
    for number in 0..count {
        let known = client.get(&format!("/nodes/{node}")).await?;
        let version = known["Version"]["Index"].as_u64().unwrap_or_default();
        let mut spec = known["Spec"].clone();
        spec["Labels"]["number"] = number.to_string().into();
        let path = format!("/nodes/{node}/update?version={version}");
        let begin = Instant::now();
        client.ask("POST", &path, Some(&spec)).await?.content()?;
        spans.push(begin.elapsed());
    }
    Ok(spans)
}
