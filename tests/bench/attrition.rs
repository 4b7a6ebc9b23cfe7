//! Five nodes lose one after another, down to one, and nothing that was acknowledged.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rand::seq::SliceRandom as _;
use serde_json::Value;

use crate::args::Options;
use crate::chart::{Figure, Goal};
use crate::fleet::{Fleet, Peer};
use crate::report::Report;
use crate::wait::secs;
use crate::watch;

/// Hosts at first.
const HOSTS: usize = 5;

/// Between two deaths.
const APART: Duration = secs(10);

/// Writes after each death.
const WRITES: usize = 5;

/// The cluster is back within this, by itself or by command, in milliseconds.
const BACK: f64 = 10_000.0;

/// How long a survivor is given to go on by itself before it is asked to recover.
const ALONE: Duration = secs(5);

/// Of all rounds.
#[derive(Default)]
struct Losses {
    /// Kill to next acknowledged write, by the number that is left.
    accepted: [Vec<Duration>; HOSTS],
    /// The last death: the survivor held the vote.
    alone: Vec<Duration>,
    /// The last death: `skein recover` to the next acknowledged write.
    recovered: Vec<Duration>,
    writes: usize,
    lost: usize,
}

/// Loses clusters.
pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<(), String> {
    let mut losses = Losses::default();
    let rounds = options.size(2, 6);
    for round in 0..rounds {
        lose(&mut losses, round % 2 == 0)?;
    }
    for (left, spans) in losses.accepted.iter().enumerate().rev() {
        if !spans.is_empty() {
            let what = format!("killed, {left} left → next write acknowledged");
            report.add(Figure::times(what, spans).goal(Goal::Most(APART.as_secs_f64() * 1e3)));
        }
    }
    let what = "last but one killed, the survivor had the vote → next write";
    add(report, what, &losses.alone);
    let what = "last but one killed, `skein recover` → next write";
    add(report, what, &losses.recovered);
    let what = format!("acknowledged writes that were lost, of {}", losses.writes);
    report.add(Figure::value(what, "writes", losses.lost as f64).goal(Goal::Most(0.0)));
    report.note(format!(
        "{rounds} clusters of {HOSTS}, killed in random order {} s apart; the last but one is by turns the one with \
         the vote and the other",
        APART.as_secs()
    ));
    Ok(())
}

fn add(report: &mut Report, what: &str, spans: &[Duration]) {
    if !spans.is_empty() {
        report.add(Figure::times(what, spans).goal(Goal::Most(BACK)));
    }
}

/// One cluster, to the last. `kill_vote` says which of the last two goes.
fn lose(losses: &mut Losses, kill_vote: bool) -> Result<(), String> {
    let mut fleet = Fleet::up(HOSTS)?;
    let mut order: Vec<usize> = (1..=HOSTS).collect();
    order.shuffle(&mut rand::rng());
    // Each is written to, but the labels lie on a node that is never asked.
    let node = fleet.peer(order[0])?.node;
    let mut acknowledged = Vec::new();
    let mut next = Instant::now();
    for victim in &order[..HOSTS - 2] {
        fleet.runtime.block_on(watch::until(next));
        next = Instant::now() + APART;
        let killed = fleet.kill(*victim)?;
        let took = write(&fleet, &node, &mut acknowledged, killed)?;
        losses.accepted[fleet.alive().len()].push(took);
    }
    fleet.runtime.block_on(watch::until(next));
    let leader = fleet.leader();
    let (first, second) = (order[HOSTS - 2], order[HOSTS - 1]);
    let other = if leader == first { second } else { first };
    let killed = fleet.kill(if kill_vote { leader } else { other })?;
    if kill_vote {
        losses
            .recovered
            .push(recover(&fleet, other, &node, &mut acknowledged)?);
    } else {
        losses
            .alone
            .push(write(&fleet, &node, &mut acknowledged, killed)?);
    }
    losses.writes += acknowledged.len();
    let survivors = fleet.alive();
    let missing = missing(&fleet, &survivors, &node, &acknowledged);
    losses.lost += fleet.runtime.block_on(missing)?;
    Ok(())
}

/// Writes a few times through any survivor. Returns when the first was acknowledged.
fn write(
    fleet: &Fleet,
    node: &str,
    acknowledged: &mut Vec<String>,
    since: Instant,
) -> Result<Duration, String> {
    let (survivors, mut first) = (fleet.alive(), None);
    for _ in 0..WRITES {
        let label = format!("write-{}", acknowledged.len());
        let write = fleet.first_write(&survivors, node, &label, since);
        let took = fleet.runtime.block_on(write)?;
        first.get_or_insert(took);
        acknowledged.push(label);
    }
    first.ok_or_else(|| "nothing was written".into())
}

/// Lets the survivor find out that it has no vote, then recovers it. Returns the time since the command began.
fn recover(
    fleet: &Fleet,
    host: usize,
    node: &str,
    acknowledged: &mut Vec<String>,
) -> Result<Duration, String> {
    fleet.runtime.block_on(watch::until(Instant::now() + ALONE));
    let refusal = fleet.bed.skein(
        host,
        &["node", "update", "--label-add", "too-late=done", node],
    );
    if refusal.succeeded() {
        return Err("a node without the vote took a write".into());
    }
    let begin = Instant::now();
    fleet.bed.skein(host, &["recover"]).result()?;
    write(fleet, node, acknowledged, begin)
}

/// How many of the acknowledged writes any of these hosts does not show.
async fn missing(
    fleet: &Fleet,
    hosts: &[Peer],
    node: &str,
    acknowledged: &[String],
) -> Result<usize, String> {
    let reads = hosts
        .iter()
        .map(|host| async move { fleet.client(host.host).get(&format!("/nodes/{node}")).await });
    let nodes: Vec<Value> = join_all(reads)
        .await
        .into_iter()
        .collect::<Result<_, _>>()?;
    let is_kept = |label: &&String| {
        let labels = nodes
            .iter()
            .map(|node| &node["Spec"]["Labels"][label.as_str()]);
        labels.into_iter().all(|value| value == "done")
    };
    let kept = acknowledged.iter().filter(is_kept).count();
    Ok(acknowledged.len() - kept)
}
