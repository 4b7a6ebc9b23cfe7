//! Whether anyone is held for dead who is not: every core busy, and daemons stopped for a second at random.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use nix::sys::signal::Signal;

use crate::args::Options;
use crate::chart::{Figure, Goal};
use crate::fleet::{self, Fleet, Peer, signal};
use crate::report::Report;
use crate::view::NodeView;
use crate::wait::secs;
use crate::watch;

/// Hosts of the bed.
const HOSTS: usize = 5;

/// How long a daemon is stopped.
const PAUSE: Duration = secs(1);

/// Between two looks at one host.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// What one host wrongly believed: each time that another's state turned to dead.
#[derive(Default)]
struct Seen {
    wrong: usize,
    looks: usize,
    believed: BTreeMap<String, bool>,
}

/// Pauses and watches.
pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<(), String> {
    let fleet = Fleet::up(HOSTS)?;
    let span = secs(options.size(30, 300));
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let over = AtomicBool::new(false);
    let (pauses, seen) = std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| spin(&over));
        }
        let end = Instant::now() + span;
        let watching = async {
            let peers = fleet.alive();
            let watched = join_all(peers.iter().map(|peer| observe(&fleet, peer, end)));
            let listed = list(&fleet, end);
            join(watched, listed).await
        };
        let outcome = fleet.runtime.block_on(join(disturb(&fleet, end), watching));
        over.store(true, Ordering::Relaxed);
        outcome
    });
    let (watched, listed) = seen;
    let wrong: usize = watched.iter().map(|seen| seen.wrong).sum();
    let looks: usize = watched.iter().map(|seen| seen.looks).sum();
    let what = format!("wrong verdicts on all hosts in {} s", span.as_secs());
    report.add(Figure::value(what, "deaths", wrong as f64).goal(Goal::Most(0.0)));
    let what = "nodes shown as Down by the leader";
    report.add(Figure::value(what, "deaths", listed.wrong as f64).goal(Goal::Most(0.0)));
    report.add(Figure::value(
        "daemons stopped for 1 s",
        "times",
        pauses? as f64,
    ));
    report.note(format!(
        "the bed is {HOSTS} hosts, {cores} threads spin; each host was asked {} times, the list of nodes was read {} \
         times",
        looks / HOSTS,
        listed.looks
    ));
    let judged: Vec<String> = (1..=HOSTS)
        .flat_map(|host| verdicts(&fleet.bed.log(host), host))
        .collect();
    if !judged.is_empty() {
        report.note(format!("from the logs: {}", judged.join("; ")));
    }
    fleet.settle()
}

/// The lines in which a daemon says that it takes another for dead.
fn verdicts(log: &str, host: usize) -> Vec<String> {
    let lines = log
        .lines()
        .filter(|line| line.contains("member judged") && line.contains("Dead"));
    lines
        .map(|line| format!("host {host}: {}", line.trim()))
        .collect()
}

fn spin(over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        std::hint::spin_loop();
    }
}

/// Stops one daemon after another for a second, with pauses of up to two.
async fn disturb(fleet: &Fleet, end: Instant) -> Result<usize, String> {
    let peers = fleet.alive();
    let mut pauses = 0;
    while Instant::now() + PAUSE < end {
        let victim = &peers[rand::random_range(0..peers.len())];
        signal(victim, Signal::SIGSTOP)?;
        watch::until(Instant::now() + PAUSE).await;
        signal(victim, Signal::SIGCONT)?;
        pauses += 1;
        let rest = Duration::from_millis(rand::random_range(0..2000));
        watch::until(Instant::now() + rest).await;
    }
    Ok(pauses)
}

impl Seen {
    /// Takes in who is believed to be alive; the turn to dead counts.
    fn look(&mut self, states: impl Iterator<Item = (String, bool)>) {
        self.looks += 1;
        for (node, alive) in states {
            let before = self.believed.insert(node, alive).unwrap_or(true);
            self.wrong += usize::from(before && !alive);
        }
    }
}

async fn observe(fleet: &Fleet, peer: &Peer, end: Instant) -> Seen {
    let (mut client, mut seen) = (fleet.client(peer.host), Seen::default());
    while Instant::now() < end {
        if let Ok(status) = client.get("/skein/status").await {
            seen.look(fleet::peers(&status));
        }
        watch::until(Instant::now() + LOOK_EVERY).await;
    }
    seen
}

/// Reads the list of nodes of whichever host answers.
async fn list(fleet: &Fleet, end: Instant) -> Seen {
    let mut seen = Seen::default();
    let hosts = fleet.alive();
    let mut turn = hosts.iter().cycle();
    while Instant::now() < end {
        let Some(peer) = turn.next() else { break };
        let mut client = fleet.client(peer.host);
        let answer = tokio::time::timeout(secs(3), fleet::nodes(&mut client)).await;
        if let Ok(Ok(nodes)) = answer {
            seen.look(
                nodes
                    .iter()
                    .map(|node| (node.id().to_owned(), !NodeView::is_down(node))),
            );
        }
        watch::until(Instant::now() + LOOK_EVERY).await;
    }
    seen
}
