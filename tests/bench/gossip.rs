//! Gossip: how soon all have heard of a change, and what a large cluster costs.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use skein::cluster::membership::bench::{Cluster, InMemory};
use skein::cluster::membership::facts;
use skein::model::facts::{LeaderHint, key};

use crate::args::Options;
use crate::chart::{Figure, Goal};
use crate::fleet::runtime;
use crate::machine;
use crate::quic::{House, words};
use crate::report::Report;
use crate::wait::secs;
use crate::watch;

/// Nodes of the cluster in which a change is to be seen.
const NODES: usize = 30;

/// All have seen it within this, in milliseconds.
const GOAL: f64 = 300.0;

/// Over QUIC, in memory, and in a crowd.
pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<(), String> {
    let changes = options.size(20, 100);
    let runtime = runtime()?;
    runtime.block_on(over_quic(changes, options, report))?;
    runtime.block_on(in_memory(changes, report))?;
    runtime.block_on(crowd(options, report))?;
    report.note(
        "each node is whole but for the part that is named; all share this process and its cores. In memory, a message \
         is in the receiver's queue at once; nothing is encrypted",
    );
    Ok(())
}

async fn over_quic(changes: usize, options: &Options, report: &mut Report) -> Result<(), String> {
    let begin = Instant::now();
    let house = House::up(NODES, None).await?;
    let deaths = house.count_deaths();
    let all_known = |peers: &skein::cluster::membership::Peers| peers.alive().count() == NODES;
    house.until_all("all nodes to know all", all_known).await?;
    let what = format!("{NODES} nodes over QUIC: start → all know all");
    report.add(Figure::times(what, &[begin.elapsed()]));
    let mut spans = Vec::new();
    for change in 1..=changes as u64 {
        // Somewhere between two rounds.
        let pause = Duration::from_millis(rand::random_range(300..600));
        watch::until(Instant::now() + pause).await;
        let teller = &house.nodes[change as usize % NODES];
        let hint = LeaderHint {
            term: change,
            leader: teller.id,
        };
        let begin = Instant::now();
        teller
            .membership
            .publish(key::LEADER, facts::json(&hint))
            .await;
        teller.membership.push().await;
        let seen = |peers: &skein::cluster::membership::Peers| peers.leader() == Some(hint);
        house.until_all("a change to be seen by all", seen).await?;
        spans.push(begin.elapsed());
    }
    let figure = Figure::times(
        format!("{NODES} nodes over QUIC: a change → seen by all"),
        &spans,
    );
    report.add(figure.goal(Goal::P99(GOAL)));
    let (cpu, bytes, begin) = (machine::own_cpu(), house.bytes_sent(), Instant::now());
    watch::until(begin + secs(options.size(10, 30))).await;
    let share = begin.elapsed().as_secs_f64() * NODES as f64;
    let cpu = (machine::own_cpu() - cpu).as_secs_f64() / share * 100.0;
    let bytes = (house.bytes_sent() - bytes) as f64 / share;
    let what = format!("{NODES} quiet nodes over QUIC: CPU of one");
    report.add(Figure::value(what, "% of a core", cpu));
    let what = format!("{NODES} quiet nodes over QUIC: UDP payload sent by one");
    report.add(Figure::value(what, "bytes/s", bytes));
    let deaths = deaths.load(Ordering::Relaxed) as f64;
    let what =
        format!("{NODES} nodes over QUIC: live ones held for dead, by all, in all this time");
    report.add(Figure::value(what, "deaths", deaths).goal(Goal::Most(0.0)));
    house.down().await;
    Ok(())
}

async fn in_memory(changes: usize, report: &mut Report) -> Result<(), String> {
    let (cluster, _) = Cluster::start(InMemory::default(), NODES)
        .await
        .map_err(words)?;
    let spans = cluster.spread_each(changes).await.map_err(words)?;
    let what = format!("{NODES} nodes in memory: a change → seen by all");
    report.add(Figure::times(what, &spans).goal(Goal::P99(GOAL)));
    cluster.stop().await;
    Ok(())
}

async fn crowd(options: &Options, report: &mut Report) -> Result<(), String> {
    let size = options.size(200, 1000);
    let cpu = machine::own_cpu();
    let (cluster, converged) = Cluster::start(InMemory::default(), size)
        .await
        .map_err(words)?;
    let cpu = machine::own_cpu() - cpu;
    let what = format!("{size} nodes in memory: start → all know all");
    report.add(Figure::times(what, &[converged]));
    let what = format!("{size} nodes in memory: CPU of one until all know all");
    report.add(Figure::value(
        what,
        "ms",
        cpu.as_secs_f64() * 1e3 / size as f64,
    ));
    // The windows of the failure detector have filled, and the rhythm is that of the size.
    watch::until(Instant::now() + secs(options.size(10, 60))).await;
    let idle = cluster.idle(secs(options.size(10, 30))).await;
    let what = format!("{size} quiet nodes in memory: CPU of one");
    report.add(Figure::value(what, "% of a core", idle.cpu * 100.0));
    let what = format!("{size} quiet nodes in memory: gossip sent by one");
    report.add(Figure::value(what, "bytes/s", idle.bytes));
    let what = format!("{size} quiet nodes in memory: messages sent by one");
    report.add(Figure::value(what, "1/s", idle.messages));
    let spans = cluster
        .spread_each(options.size(5, 10))
        .await
        .map_err(words)?;
    let what = format!("{size} nodes in memory: a change → seen by all");
    report.add(Figure::times(what, &spans));
    cluster.stop().await;
    Ok(())
}
