//! How long a cluster of three takes no write after its leader was killed.
//!
//! Every 20 ms a new request goes to each survivor; all of them wait side by side, so the first that is acknowledged
//! is the first that could have been. Beside it is watched when a survivor names another leader.

use std::time::{Duration, Instant};

use futures_util::future::{join, join_all, select_ok};

use crate::args::Options;
use crate::chart::{Figure, Goal};
use crate::fleet::{Fleet, Peer};
use crate::report::Report;
use crate::wait::secs;
use crate::watch;

/// A write is accepted again within this, in milliseconds.
const GOAL: f64 = 1000.0;

/// Between two looks at who leads.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Kills leaders.
pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<(), String> {
    let mut fleet = Fleet::up(3)?;
    let (mut elected, mut accepted) = (Vec::new(), Vec::new());
    for number in 0..options.size(5, 20) {
        let leader = fleet.leader();
        let survivors = fleet.others(leader);
        let node = survivors[0].node.clone();
        // At a random point between two heartbeats.
        let at = Instant::now() + Duration::from_millis(rand::random_range(0..250));
        fleet.runtime.block_on(watch::until(at));
        let dead = fleet.peer(leader)?;
        let killed = fleet.kill(leader)?;
        let label = format!("failover-{number}");
        let write = fleet.first_write(&survivors, &node, &label, killed);
        let named = until_another(&fleet, &survivors, &dead, killed);
        let (write, named) = fleet.runtime.block_on(join(write, named));
        accepted.push(write?);
        elected.push(named?);
        let check = is_kept(&fleet, &survivors, &node, &label);
        fleet.runtime.block_on(check)?;
        fleet.start(leader);
        fleet.settle()?;
    }
    report.add(Figure::times(
        "kill -9 of the leader → a survivor names another",
        &elected,
    ));
    let figure = Figure::times("kill -9 of the leader → next write acknowledged", &accepted);
    report.add(figure.goal(Goal::P99(GOAL)));
    report.note("the bed is 3 hosts; each acknowledged write was found on both survivors");
    Ok(())
}

/// When the first of the survivors names another leader than the dead one.
async fn until_another(
    fleet: &Fleet,
    survivors: &[Peer],
    dead: &Peer,
    since: Instant,
) -> Result<Duration, String> {
    let looks = survivors.iter().map(|survivor| {
        let mut client = fleet.client(survivor.host);
        Box::pin(async move {
            let look = async || match client.get("/skein/status").await?["Leader"].as_str() {
                Some(leader) if leader != dead.node => Ok(since.elapsed()),
                other => Err(format!("{other:?} leads")),
            };
            watch::eventually(secs(60), LOOK_EVERY, "another leader is named", look).await
        })
    });
    select_ok(looks).await.map(|(took, _)| took)
}

/// Fails unless each host shows the label.
async fn is_kept(fleet: &Fleet, hosts: &[Peer], node: &str, label: &str) -> Result<(), String> {
    let reads = hosts.iter().map(|host| async move {
        let node = fleet
            .client(host.host)
            .get(&format!("/nodes/{node}"))
            .await?;
        let kept = node["Spec"]["Labels"][label] == "done";
        kept.then_some(())
            .ok_or_else(|| format!("{label} was acknowledged and is lost"))
    });
    join_all(reads).await.into_iter().collect()
}
