//! Starts a [`Term`] when this node is elected and ends it, whole, when it no longer leads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use imbl::OrdMap;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::status::{News, StatusBoard};
use super::term::{LeaderContext, Term};
use super::{dispatch, voters, work};
use crate::cluster::membership::{Liveness, Peers};
use crate::cluster::store::State;
use crate::model::{Node, NodeId};

/// The least time between two looks at the board for news of nodes.
const BOARD_REST: Duration = Duration::from_millis(5);

/// The present term's work; `None` while another node leads.
pub type CurrentTerm = watch::Receiver<Option<Arc<Term>>>;

/// Follows the store's leadership until `stop`.
pub async fn run(
    context: LeaderContext,
    current: watch::Sender<Option<Arc<Term>>>,
    stop: CancellationToken,
) {
    let mut leadership = context.store.leadership();
    loop {
        let seen = *leadership.borrow_and_update();
        if seen.me {
            let token = stop.child_token();
            let (term, news) = Term::new(seen.term, context.clone(), token.clone());
            info!(term = seen.term, "this node leads");
            start(&term, news);
            current.send_replace(Some(term.clone()));
            let lost = leadership.wait_for(|now| !now.me || now.term != seen.term);
            let _ = stop.run_until_cancelled(lost).await;
            token.cancel();
            current.send_replace(None);
            term.tracker.close();
            term.tracker.wait().await;
            info!(term = seen.term, "this node no longer leads");
        } else {
            let _ = stop.run_until_cancelled(leadership.changed()).await;
        }
        if stop.is_cancelled() || leadership.has_changed().is_err() {
            return;
        }
    }
}

fn start(term: &Arc<Term>, news: mpsc::Receiver<(NodeId, News)>) {
    spawn(term, voters::keep(term.clone()));
    spawn(term, keep_board(term.clone(), news));
    spawn(term, dispatch::route(term.clone()));
    spawn(term, work::keep(term.clone()));
}

/// Work of this term, which ends with it.
fn spawn(term: &Arc<Term>, work: impl Future<Output = ()> + Send + 'static) {
    let token = term.token.clone();
    term.tracker
        .spawn(async move { token.run_until_cancelled(work).await });
}

/// Owns the status board: feeds it, and publishes what it says.
async fn keep_board(term: Arc<Term>, mut news: mpsc::Receiver<(NodeId, News)>) {
    let mut board = StatusBoard::new();
    let mut states = term.context.store.watch();
    let mut peers = term.context.peers.clone();
    let mut verdicts = Verdicts::new();
    let mut members = OrdMap::new();
    loop {
        let now = Instant::now();
        seat(&mut board, &mut members, &mut states, now);
        let seen = peers.borrow_and_update().clone();
        for (node, word) in gossip_news(&seen, &mut verdicts) {
            board.handle(node, word, now);
        }
        publish(&term, &board, now);
        let timeout = board
            .poll_timeout(now)
            .unwrap_or_else(|| now + super::status::RETURN_GRACE);
        tokio::select! {
            biased;
            item = news.recv() => {
                let Some(first) = item else { return };
                // All of a large cluster come at once, and each look at the whole board costs what it is long.
                sleep_until(now + BOARD_REST).await;
                let now = Instant::now();
                seat(&mut board, &mut members, &mut states, now);
                let mut next = Some(first);
                while let Some((node, word)) = next {
                    board.handle(node, word, now);
                    next = news.try_recv().ok();
                }
            }
            changed = states.changed() => if changed.is_err() { return },
            changed = peers.changed() => if changed.is_err() { return },
            () = sleep_until(timeout) => {}
        }
    }
}

/// Puts the members on the board, when they are others than before.
fn seat(
    board: &mut StatusBoard,
    members: &mut OrdMap<NodeId, Arc<Node>>,
    states: &mut watch::Receiver<Arc<State>>,
    now: Instant,
) {
    let nodes = &states.borrow_and_update().nodes;
    if !nodes.ptr_eq(members) {
        board.set_nodes(nodes.keys().copied(), now);
        members.clone_from(nodes);
    }
}

/// Gossip's last verdict on each node, and since when it holds.
type Verdicts = BTreeMap<NodeId, (Liveness, Instant)>;

/// What gossip has found out since `verdicts` was last brought up to date.
///
/// A verdict is news once: a node that restarts opens its session before gossip has noticed that it lives, and the old
/// verdict must not be held against it.
fn gossip_news(peers: &Peers, verdicts: &mut Verdicts) -> Vec<(NodeId, News)> {
    let mut news = Vec::new();
    for (node, view) in &peers.nodes {
        let verdict = (view.liveness, view.since);
        if verdicts.insert(*node, verdict) != Some(verdict) {
            let word = match view.liveness {
                Liveness::Alive => News::Heard,
                Liveness::Dead => News::Dead,
            };
            news.push((*node, word));
        }
    }
    verdicts.retain(|node, _| peers.nodes.contains_key(node));
    news
}

fn publish(term: &Term, board: &StatusBoard, now: Instant) {
    let statuses = board.statuses(now);
    term.statuses.send_if_modified(|published| {
        let changed = **published != statuses;
        if changed {
            for (node, status) in &statuses {
                let before = published.get(node).map(|old| old.state);
                if before != Some(status.state) {
                    info!(%node, from = ?before, to = ?status.state, why = status.message, "node state changed");
                }
            }
            *published = Arc::new(statuses);
        }
        changed
    });
}
