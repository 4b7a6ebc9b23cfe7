//! Keeps the quorum healthy: carries out what [`quorum`] decides, one step at a time.
//!
//! Also writes each node's role into its object once it is true, and ends root rotations: the two
//! other things that follow from who is alive.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::rotation;
use super::term::{LeaderContext, Term};
use crate::cluster::membership::{Liveness, Peers};
use crate::cluster::quorum::{self, Candidate, QuorumStep, QuorumView};
use crate::cluster::store::{Replicas, State};
use crate::model::facts::Phase;
use crate::model::{Change, Expect, Node, NodeId, Role, Standing};

/// The quorum is looked at this often even when nothing happens, since time alone changes verdicts.
const TICK: Duration = Duration::from_millis(500);

/// After news, this long is waited for more, so that a burst costs one look.
const SETTLE: Duration = Duration::from_millis(50);

/// A learner this few entries behind the leader's last has caught up.
const CAUGHT_UP: u64 = 100;

/// Runs until the term ends.
pub(super) async fn keep(term: Arc<Term>) {
    let context = &term.context;
    let mut states = context.store.watch();
    let mut peers = context.peers.clone();
    let mut replicas = context.store.replicas();
    let mut last = QuorumStep::Settled;
    loop {
        let state = states.borrow_and_update().clone();
        let seen = peers.borrow_and_update().clone();
        let held = replicas.borrow_and_update().clone();
        tidy(&term, &state, &seen, &held).await;
        let step = quorum::next_step(&view(&term, &state, &seen, &held, Instant::now()));
        if step != last {
            debug!(?step, "quorum");
            last = step.clone();
        }
        carry_out(context, step).await;
        let again = tokio::time::sleep(TICK);
        tokio::select! {
            changed = states.changed() => if changed.is_err() { return },
            changed = peers.changed() => if changed.is_err() { return },
            changed = replicas.changed() => if changed.is_err() { return },
            () = again => continue,
        }
        tokio::time::sleep(SETTLE).await;
    }
}

/// What the decision needs to know, out of the three sources.
pub(super) fn view(
    term: &Term,
    state: &State,
    peers: &Peers,
    replicas: &Replicas,
    now: Instant,
) -> QuorumView {
    let last = replicas.last_log.map_or(0, |(_, index)| index);
    let caught_up = replicas
        .matched
        .iter()
        .filter(|(_, index)| **index + CAUGHT_UP >= last)
        .map(|(node, _)| *node)
        .collect();
    let candidates = state
        .nodes
        .values()
        .filter(|node| node.standing == Standing::Eligible || replicas.voters.contains(&node.id))
        .map(|node| (node.id, candidate(term, node, peers, now)))
        .collect();
    QuorumView {
        me: term.context.node,
        voters: replicas.voters.clone(),
        learners: replicas.learners.clone(),
        caught_up,
        candidates,
    }
}

/// What is known of one node. One that gossip has not heard of at all counts as unseen since the term began: it may
/// have died before this node started, and then nobody will ever speak of it.
fn candidate(term: &Term, node: &Node, peers: &Peers, now: Instant) -> Candidate {
    let seen = peers.nodes.get(&node.id);
    let alive = node.id == term.context.node
        || seen.is_some_and(|view| {
            view.liveness == Liveness::Alive && view.facts.phase != Phase::Left
        });
    let since = seen.map_or(term.began, |view| view.since);
    let standing_for = now.saturating_duration_since(since);
    let restarting = seen.is_some_and(|view| view.facts.phase == Phase::Restarting);
    let pinned = match node.standing {
        Standing::Worker => Some(Role::Worker),
        Standing::Eligible => node.pinned,
    };
    Candidate {
        alive,
        unseen_for: if alive || restarting {
            Duration::ZERO
        } else {
            standing_for
        },
        pinned,
        zone: node.spec.labels.get("zone").cloned().unwrap_or_default(),
        available_for: if alive { standing_for } else { Duration::ZERO },
    }
}

async fn carry_out(context: &LeaderContext, step: QuorumStep) {
    let store = &context.store;
    let outcome = match &step {
        QuorumStep::AddLearner(node) => store.add_learner(*node).await,
        QuorumStep::RemoveLearner(node) => store.remove_learner(*node).await,
        QuorumStep::SetVoters(voters) => store.set_voters(voters.clone(), true).await,
        QuorumStep::Settled | QuorumStep::Wait(_) => return,
    };
    match outcome {
        Ok(()) => info!(?step, "quorum changed"),
        Err(error) => warn!(?step, error = %error, "quorum change failed"),
    }
}

/// Writes down roles and standings that have become true, and ends a rotation that has reached every live node.
async fn tidy(term: &Term, state: &State, peers: &Peers, replicas: &Replicas) {
    let mut changes: Vec<Change> = state
        .nodes
        .values()
        .filter_map(|node| {
            let role = if replicas.voters.contains(&node.id) {
                Role::Manager
            } else {
                Role::Worker
            };
            // Who is demoted keeps its replica for as long as its vote counts.
            let standing = match node.pinned {
                Some(Role::Worker) if role == Role::Worker => Standing::Worker,
                Some(_) | None => node.standing,
            };
            ((role, standing) != (node.role, node.standing)).then(|| {
                let next = Node {
                    role,
                    standing,
                    ..Node::clone(node)
                };
                Change::PutNode(Expect::Version(node.meta.version), Box::new(next))
            })
        })
        .collect();
    let alive: BTreeSet<NodeId> = peers
        .nodes
        .keys()
        .copied()
        .filter(|node| peers.is_alive(*node))
        .chain([term.context.node])
        .collect();
    changes.extend(rotation::finish(state, &alive));
    if changes.is_empty() {
        return;
    }
    if let Err(error) = term.commit(changes).await {
        debug!(error = %error, "roles are written down later");
    }
}
