//! How long it takes until a killed node is known dead on all others.

use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};

use crate::args::Options;
use crate::chart::{Figure, Goal};
use crate::fleet::{self, Fleet, Peer};
use crate::report::Report;
use crate::view::NodeView;
use crate::wait::secs;
use crate::watch;

/// Hosts of the bed.
const HOSTS: usize = 5;

/// It is known within this, in milliseconds.
const GOAL: f64 = 2500.0;

/// Between two looks at one host.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Kills nodes, whichever.
pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<(), String> {
    let mut fleet = Fleet::up(HOSTS)?;
    let (mut first, mut all, mut down) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.size(6, 20) {
        let victim = rand::random_range(1..=HOSTS);
        let at = Instant::now() + Duration::from_millis(rand::random_range(0..250));
        fleet.runtime.block_on(watch::until(at));
        let dead = fleet.peer(victim)?;
        let others = fleet.others(victim);
        let killed = fleet.kill(victim)?;
        let known = async {
            let known = others
                .iter()
                .map(|other| until_known(&fleet, other, &dead, killed));
            join_all(known).await
        };
        let shown = until_down(&fleet, &others, &dead, killed);
        let (known, shown) = fleet.runtime.block_on(join(known, shown));
        let known = known.into_iter().collect::<Result<Vec<_>, _>>()?;
        first.extend(known.iter().min());
        all.extend(known.iter().max());
        down.push(shown?);
        fleet.start(victim);
        fleet.settle()?;
    }
    report.add(Figure::times(
        "kill -9 of a node → known dead on one other",
        &first,
    ));
    let figure = Figure::times("kill -9 of a node → known dead on all others", &all);
    report.add(figure.goal(Goal::P99(GOAL)));
    report.add(Figure::times(
        "kill -9 of a node → Down in the list of nodes",
        &down,
    ));
    report.note(format!(
        "the bed is {HOSTS} hosts; the victim is any, the leader too"
    ));
    Ok(())
}

async fn until_known(
    fleet: &Fleet,
    other: &Peer,
    dead: &Peer,
    since: Instant,
) -> Result<Duration, String> {
    let mut client = fleet.client(other.host);
    let look = async || {
        let status = client.get("/skein/status").await?;
        let alive = fleet::living(&status).contains(&dead.node);
        (!alive)
            .then(|| since.elapsed())
            .ok_or_else(|| "alive".into())
    };
    let what = format!("host {} knows that host {} is dead", other.host, dead.host);
    watch::eventually(secs(60), LOOK_EVERY, &what, look).await
}

async fn until_down(
    fleet: &Fleet,
    others: &[Peer],
    dead: &Peer,
    since: Instant,
) -> Result<Duration, String> {
    let mut client = fleet.client(others[0].host);
    let look = async || {
        let nodes = fleet::nodes(&mut client).await?;
        let mut nodes = nodes.iter().filter(|node| node.id() == dead.node);
        let down = nodes.any(NodeView::is_down);
        down.then(|| since.elapsed())
            .ok_or_else(|| "it is not shown as Down".into())
    };
    let what = format!("host {} is Down", dead.host);
    watch::eventually(secs(60), LOOK_EVERY, &what, look).await
}
