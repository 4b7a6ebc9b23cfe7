//! What the rest of the node sees of raft: who leads, and how far each replica is.
//!
//! A leader is shown as one only when it can serve: when its first entry is committed and a quorum has
//! answered it of late. A leader that is cut off from its quorum ceases to be one here, though raft
//! knows of no other yet, so that its work of leading ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::metrics::RaftServerMetrics;
use openraft::{ChangeMembers, Instant as _, RaftMetrics, ServerState};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::config::Timings;
use super::log::Shared;
use super::look::Sight;
use super::types::{Epoch, LogRef, Types};
use super::{Inner, Running};
use crate::model::NodeId;

/// How often a leader's view of its followers is renewed while there is news.
const LEADING: Duration = Duration::from_millis(100);
/// How often while there is none.
const IDLE: Duration = Duration::from_millis(500);
/// How long a follower's view may be behind.
const FOLLOWING: Duration = Duration::from_millis(500);
/// How often a contact is told again while nothing else changes.
const CONTACT: Duration = Duration::from_secs(2);
/// Entries that a replica may be behind and still count as caught up. The busiest cluster writes
/// some thousand a second.
const CAUGHT_UP: u64 = 1000;

/// Who leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// Raft's term; a leader of a higher one replaces any of a lower.
    pub term: u64,
    /// The leader; `None` while there is none, or none that can serve.
    pub leader: Option<NodeId>,
    /// This node leads and can serve.
    pub me: bool,
}

/// Who holds a replica. The parts on followers are known to the leader only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replicas {
    /// Who votes; while they are being changed, both the old and the new.
    pub voters: BTreeSet<NodeId>,
    /// Who holds a replica without a vote.
    pub learners: BTreeSet<NodeId>,
    /// The voters are being changed.
    pub changing: bool,
    /// The last entry that each replica is known to hold.
    pub matched: BTreeMap<NodeId, u64>,
    /// When each replica answered last; told again every two seconds.
    pub last_contact: BTreeMap<NodeId, Instant>,
    /// The last entry of this log, as `(rank of its term, index)`: the newest log of several is the one
    /// where this is greatest. The rank is made of the epoch, the term and the beginning of the leader's
    /// ID, because terms of an older epoch count less, and two leaders may share one, one after the other.
    pub last_log: Option<(u64, u64)>,
    /// The last entry known to be committed.
    pub committed: Option<u64>,
}

impl Replicas {
    /// Replicas that answered within `recent`, which is three seconds at least, and hold nearly all that is
    /// committed: they may get a vote without holding up anything.
    pub fn caught_up(&self, now: Instant, recent: Duration) -> BTreeSet<NodeId> {
        let committed = self.committed.unwrap_or(0);
        self.matched
            .iter()
            .filter(|(_, matched)| **matched + CAUGHT_UP >= committed)
            .filter(|(node, _)| {
                let contact = self.last_contact.get(node);
                contact.is_some_and(|at| now.saturating_duration_since(*at) <= recent)
            })
            .map(|(node, _)| *node)
            .collect()
    }
}

impl Replicas {
    /// The voter that can take over from `me` soonest.
    fn successor(&self, me: NodeId) -> Option<NodeId> {
        let others = self.voters.iter().copied().filter(|voter| *voter != me);
        others.max_by_key(|voter| {
            let matched = self.matched.get(voter).copied();
            (self.last_contact.get(voter).copied(), matched)
        })
    }
}

/// Follows one raft instance until it ends, and shows what it does.
pub(super) async fn observe(inner: Arc<Inner>, running: Running) {
    let mut server = running.raft.server_metrics();
    let mut all = running.raft.metrics();
    let mut pulse = Pulse::default();
    let mut was_me = false;
    loop {
        if let Some(fatal) = all.borrow_watched().running_state.clone().err() {
            if !running.stop.is_cancelled() {
                let stopped = inner.stopped_by(fatal);
                tracing::error!(why = %stopped.why, "the store has stopped");
                inner.report_stop(stopped.why);
            }
            break;
        }
        let (leadership, replicas, leads) = {
            // The one is told of a change before the other: what it tells is what counts.
            let server = server.borrow_and_update();
            let all = all.borrow_watched();
            (
                leadership(
                    &server,
                    &all,
                    &inner.config.timings,
                    &mut pulse,
                    *running.sight.borrow(),
                ),
                replicas(&server, &all, &running.shared),
                server.state == ServerState::Leader,
            )
        };
        let me = leadership.me;
        let unfinished = replicas.changing;
        let voteless = me && !unfinished && !replicas.voters.contains(&inner.config.node);
        let successor = replicas.successor(inner.config.node);
        show(&inner.leadership, leadership);
        let news = show_replicas(&inner.replicas, replicas);
        if me && !was_me && unfinished {
            inner
                .tasks
                .spawn(finish_change(inner.clone(), running.clone()));
        }
        if voteless && let Some(successor) = successor {
            hand_over(&running, successor).await;
        }
        was_me = me;
        let ends = pulse.ends(&inner.config.timings);
        let idle = ends.into_iter().fold(Instant::now() + IDLE, Instant::min);
        let due = async {
            match leads {
                // Until a new leader can serve, every step of its way counts.
                true if !me => drop(timeout(LEADING, all.changed()).await),
                true if news => sleep(LEADING).await,
                true => sleep_until(idle).await,
                false => {
                    sleep(FOLLOWING).await;
                    // An error is seen above, or comes from `server` as well.
                    let _ = all.changed().await;
                }
            }
        };
        tokio::select! {
            biased;
            () = running.stop.cancelled() => break,
            changed = server.changed() => if changed.is_err() && all.changed().await.is_err() { break },
            () = due => {}
        }
    }
    show_nobody(&inner);
}

/// What an instance that has ended knows: nothing any more.
fn show_nobody(inner: &Inner) {
    let term = inner.leadership.borrow().term;
    let nobody = Leadership {
        term,
        leader: None,
        me: false,
    };
    show(&inner.leadership, nobody);
}

fn show<T: PartialEq>(sender: &tokio::sync::watch::Sender<T>, value: T) {
    sender.send_if_modified(|shown| {
        let differs = *shown != value;
        if differs {
            *shown = value;
        }
        differs
    });
}

/// Who waits for replicas is not woken by every sign of life of an idle follower. Returns whether more has changed
/// than who was heard.
fn show_replicas(sender: &tokio::sync::watch::Sender<Replicas>, replicas: Replicas) -> bool {
    let mut news = false;
    sender.send_if_modified(|shown| {
        let idle = Replicas {
            last_contact: shown.last_contact.clone(),
            ..replicas.clone()
        };
        let stale = |(node, at): (&NodeId, &Instant)| {
            let told = shown.last_contact.get(node);
            told.is_none_or(|told| *at >= *told + CONTACT)
        };
        news = *shown != idle;
        let differs = news || replicas.last_contact.iter().any(stale);
        if differs {
            *shown = replicas;
        }
        differs
    });
    news
}

/// Completes a change of voters that a leader before has left half done.
async fn finish_change(inner: Arc<Inner>, running: Running) {
    let finish = async {
        let _one_at_a_time = inner.changing.lock().await;
        let members = running
            .raft
            .server_metrics()
            .borrow_watched()
            .membership_config
            .clone();
        if members.get_joint_config().len() < 2 {
            return;
        }
        let nothing = ChangeMembers::AddVoterIds(BTreeSet::new());
        if let Err(error) = running.raft.change_membership(nothing, true).await {
            tracing::info!(%error, "an unfinished change of voters is left to a later leader");
        }
    };
    tokio::select! {
        () = running.stop.cancelled() => {}
        () = finish => {}
    }
}

/// A leader without a vote hands over; openraft would let it lead on.
async fn hand_over(running: &Running, successor: NodeId) {
    tracing::info!(%successor, "this node has no vote any more: another takes over");
    if let Err(error) = running.raft.trigger().transfer_leader(successor).await {
        tracing::debug!(%error, "raft has ended");
    }
}

/// When a leader last knew that it leads: a quorum answered it, or it needed none.
#[derive(Default)]
struct Pulse {
    term: u64,
    felt: Option<Instant>,
}

impl Pulse {
    fn feel(&mut self, term: u64, at: Option<Instant>) {
        if self.term != term {
            *self = Self { term, felt: None };
        }
        self.felt = self.felt.max(at);
    }

    /// When the node leads no more if it does not feel it again; `None` when it never did.
    fn ends(&self, timings: &Timings) -> Option<Instant> {
        // By then the others have elected another, if they are not as busy as this machine.
        let patience = 3 * timings.election_max;
        self.felt.map(|felt| felt + patience)
    }
}

fn leadership(
    server: &RaftServerMetrics<Types>,
    all: &RaftMetrics<Types>,
    timings: &Timings,
    pulse: &mut Pulse,
    sight: Sight,
) -> Leadership {
    let me = server.id;
    let term = server.vote.leader_id.term;
    if server.state != ServerState::Leader || sight == Sight::Outdated {
        return Leadership {
            term,
            leader: server.current_leader.filter(|leader| *leader != me),
            me: false,
        };
    }
    let established = all.cluster_committed.as_ref().is_some_and(|last| {
        let written_in = last.leader_id;
        written_in.term == term && written_in.node_id == me
    });
    let now = Instant::now();
    let alone = server
        .membership_config
        .voter_ids()
        .all(|voter| voter == me);
    let acked = all.last_quorum_acked.map(|acked| acked.elapsed());
    let felt = match alone {
        true => Some(now),
        false => acked.and_then(|ago| now.checked_sub(ago)),
    };
    pulse.feel(term, felt);
    let serves = established && pulse.ends(timings).is_some_and(|ends| now < ends);
    Leadership {
        term,
        leader: serves.then_some(me),
        me: serves,
    }
}

fn replicas(
    server: &RaftServerMetrics<Types>,
    all: &RaftMetrics<Types>,
    shared: &Shared,
) -> Replicas {
    let membership = server.membership_config.membership();
    let now = Instant::now();
    let matched = all.replication.iter().flatten();
    let contacts = all.heartbeat.iter().flatten();
    Replicas {
        voters: membership.voter_ids().collect(),
        learners: membership.learner_ids().collect(),
        changing: membership.get_joint_config().len() > 1,
        matched: matched
            .filter_map(|(node, matched)| Some((*node, matched.as_ref()?.index)))
            .collect(),
        last_contact: contacts
            .filter_map(|(node, at)| Some((*node, now.checked_sub(at.as_ref()?.elapsed())?)))
            .collect(),
        last_log: shared
            .last()
            .map(|last| (rank(shared.epoch(), last), last.index)),
        committed: all.local_committed.as_ref().map(|last| last.index),
    }
}

/// Terms in raft's order, as one number: 8 bits of the epoch, 40 of the term, 16 of the leader's ID.
fn rank(epoch: Epoch, last: LogRef) -> u64 {
    let epoch = epoch.count.min(0xff);
    (epoch << 56) | (last.term << 16) | (last.node.bits() >> 112) as u64
}
