//! Who votes: a pure decision over the eligible nodes.
//!
//! The leader asks [`next_step`] again whenever something may have changed, does the one step that it
//! is told, and asks again, until nothing is left. Nothing is remembered between two calls.
//!
//! | eligible nodes alive | voters | standbys (learners that are caught up) |
//! |---|---|---|
//! | 1 | 1 | – |
//! | 2 | 1 | 1 |
//! | 3, 4 | 3 | up to 2 |
//! | 5 and more | 5 | up to 2 |
//!
//! A node that an operator made a manager always votes while it is alive, and one that was made a
//! worker never does, so that there may be more voters than that, or an even number of them. The
//! leader keeps its vote. Voters are spread over zones; apart from that, who votes goes on voting.
//!
//! *Invariant*: a set of voters is proposed only while most of the present voters live, and only with
//! new voters that are caught up, and most of it lives. So a quorum is never given away.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use crate::model::{NodeId, Role};

/// A voter that was not seen for this long is replaced, or the voters become fewer.
pub const REPLACE_AFTER: Duration = Duration::from_secs(3);
/// A node gets a replica after it was seen for this long without a break.
pub const SETTLE: Duration = Duration::from_secs(1);
/// A voter gives way to a node of another zone that was seen for this long.
pub const IMPROVE_AFTER: Duration = Duration::from_secs(30);
/// How long a dead voter's vote waits for a replacement that is catching up.
pub const CATCH_UP: Duration = Duration::from_secs(5);
/// A learner that was not seen for this long loses its replica.
pub const FORGET_AFTER: Duration = Duration::from_secs(30);
/// Learners that stand by, at most.
pub const STANDBYS: usize = 2;

/// What is known of an eligible node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// It is seen.
    pub alive: bool,
    /// How long it was not; zero when it is alive.
    pub unseen_for: Duration,
    /// What an operator made it.
    pub pinned: Option<Role>,
    /// Where it fails together with others.
    pub zone: String,
    /// How long it was seen without a break; zero when it is not.
    pub available_for: Duration,
}

/// What the leader knows when it decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumView {
    /// The leader.
    pub me: NodeId,
    /// Who votes.
    pub voters: BTreeSet<NodeId>,
    /// Who holds a replica without a vote.
    pub learners: BTreeSet<NodeId>,
    /// Whose replica holds nearly everything.
    pub caught_up: BTreeSet<NodeId>,
    /// All eligible nodes.
    pub candidates: BTreeMap<NodeId, Candidate>,
}

/// The one thing to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuorumStep {
    /// Give this node a replica.
    AddLearner(NodeId),
    /// Take this node's replica.
    RemoveLearner(NodeId),
    /// Make these the voters. Who is no longer one keeps its replica for now.
    SetVoters(BTreeSet<NodeId>),
    /// Nothing: everything is as it should be.
    Settled,
    /// Nothing yet.
    Wait(QuorumWait),
}

/// Why nothing is done yet although something is left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuorumWait {
    /// Most voters are not seen: nothing can be decided.
    NoQuorum,
    /// A voter was not seen just now, and may be back in a moment.
    Unseen(NodeId),
    /// A replica is being filled.
    CatchingUp(NodeId),
    /// A node has come just now, and may go again.
    Settling(NodeId),
    /// The leader has no vote any more, and another will lead.
    SteppingDown,
    /// The leader is to lose its vote, and nobody else can have one.
    NobodyElse,
}

impl fmt::Display for QuorumWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoQuorum => f.write_str("most managers are not reachable"),
            Self::Unseen(node) => write!(f, "manager {node} was not seen for a moment"),
            Self::CatchingUp(node) => write!(f, "node {node} is taking its copy of the state"),
            Self::Settling(node) => write!(f, "node {node} has come a moment ago"),
            Self::SteppingDown => f.write_str("another manager takes over"),
            Self::NobodyElse => f.write_str("no other node can be a manager"),
        }
    }
}

/// Why a node stays a manager, or stays in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuorumRefusal {
    /// Nobody else could decide anything.
    #[error("attempting to demote the last manager of the swarm")]
    LastManager,
    /// Too few of the voters are reachable to do without it.
    #[error("can't remove member from the raft: this would result in a loss of quorum")]
    LosesQuorum,
}

/// What to do next.
pub fn next_step(view: &QuorumView) -> QuorumStep {
    use QuorumStep::{SetVoters, Wait};
    if !view.voters.contains(&view.me) {
        return Wait(QuorumWait::SteppingDown);
    }
    if !view.has_quorum(&view.voters) {
        return Wait(QuorumWait::NoQuorum);
    }
    let present = view.present();
    let ready = present
        .iter()
        .copied()
        .filter(|node| view.is_ready(*node))
        .collect();
    let ideal = view.choose(&present);
    let target = view.choose(&ready);
    if target.is_empty() {
        return Wait(QuorumWait::NobodyElse);
    }
    if target == view.voters {
        return view.care_for_learners(&present, &ideal);
    }
    let lost = view.longest_lost(&present);
    if lost.is_none()
        && let Some(unseen) = view.voters.iter().find(|voter| !view.is_alive(**voter))
    {
        return Wait(QuorumWait::Unseen(*unseen));
    }
    if let Some(unseen_for) = lost
        && unseen_for < REPLACE_AFTER + CATCH_UP
        && let Some(replacement) = ideal.difference(&ready).next()
    {
        return match view.learners.contains(replacement) {
            true => Wait(QuorumWait::CatchingUp(*replacement)),
            false => QuorumStep::AddLearner(*replacement),
        };
    }
    match view.has_quorum(&target) {
        true => SetVoters(target),
        false => Wait(QuorumWait::NoQuorum),
    }
}

/// Whether `node` may become a worker by an operator's will.
pub fn may_demote(view: &QuorumView, node: NodeId) -> Result<(), QuorumRefusal> {
    let another = view
        .candidates
        .keys()
        .any(|other| *other != node && view.is_alive(*other) && view.may_vote(*other));
    if !another {
        return Err(QuorumRefusal::LastManager);
    }
    match view.has_quorum(&view.voters) {
        true => Ok(()),
        false => Err(QuorumRefusal::LosesQuorum),
    }
}

/// Whether the cluster may shut `node` out at once, whatever it does at the moment.
pub fn may_remove(view: &QuorumView, node: NodeId) -> Result<(), QuorumRefusal> {
    if !view.voters.contains(&node) {
        return Ok(());
    }
    may_demote(view, node)?;
    let left = view
        .voters
        .iter()
        .filter(|voter| **voter != node && view.is_alive(**voter));
    match left.count() > view.voters.len() / 2 {
        true => Ok(()),
        false => Err(QuorumRefusal::LosesQuorum),
    }
}

impl QuorumView {
    fn is_alive(&self, node: NodeId) -> bool {
        node == self.me || self.candidates.get(&node).is_some_and(|seen| seen.alive)
    }

    fn has_quorum(&self, voters: &BTreeSet<NodeId>) -> bool {
        let alive = voters.iter().filter(|voter| self.is_alive(**voter));
        alive.count() > voters.len() / 2
    }

    fn pinned(&self, node: NodeId) -> Option<Role> {
        self.candidates.get(&node).and_then(|seen| seen.pinned)
    }

    fn may_vote(&self, node: NodeId) -> bool {
        self.candidates.contains_key(&node) && self.pinned(node) != Some(Role::Worker)
    }

    fn unseen_for(&self, node: NodeId) -> Duration {
        match self.candidates.get(&node) {
            _ if self.is_alive(node) => Duration::ZERO,
            Some(seen) => seen.unseen_for,
            None => Duration::MAX,
        }
    }

    fn available_for(&self, node: NodeId) -> Duration {
        match self.candidates.get(&node) {
            Some(seen) if self.is_alive(node) => seen.available_for,
            _ => Duration::ZERO,
        }
    }

    /// Nodes that count: those that are there to stay, and voters that may be back in a moment.
    fn present(&self) -> BTreeSet<NodeId> {
        let counts = |node: &NodeId| {
            if !self.may_vote(*node) {
                return false;
            }
            let replica = self.voters.contains(node) || self.learners.contains(node);
            match self.is_alive(*node) {
                true => replica || self.available_for(*node) >= SETTLE,
                false => self.voters.contains(node) && self.unseen_for(*node) < REPLACE_AFTER,
            }
        };
        self.candidates.keys().copied().filter(counts).collect()
    }

    /// Whether a vote can be this node's at once.
    fn is_ready(&self, node: NodeId) -> bool {
        let caught_up = self.learners.contains(&node) && self.caught_up.contains(&node);
        self.voters.contains(&node) || (caught_up && self.is_alive(node))
    }

    /// How long the voter is gone that is gone longest. A voter that lives but may not vote any more
    /// does not count: its vote still helps until it is replaced.
    fn longest_lost(&self, present: &BTreeSet<NodeId>) -> Option<Duration> {
        self.voters
            .iter()
            .filter(|voter| !present.contains(voter))
            .map(|voter| match self.is_alive(*voter) {
                true => Duration::MAX,
                false => self.unseen_for(*voter),
            })
            .max()
    }

    /// The best voters among `pool`.
    fn choose(&self, pool: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
        let wanted = |node: &NodeId| *node == self.me || self.pinned(*node) == Some(Role::Manager);
        let mut chosen: BTreeSet<NodeId> = pool.iter().copied().filter(wanted).collect();
        let base = match pool.len() {
            0 => return chosen,
            1 | 2 => 1,
            3 | 4 => 3,
            _ => 5,
        };
        let mut size = base.max(chosen.len());
        if size.is_multiple_of(2) && pool.len() > size {
            size += 1;
        }
        while chosen.len() < size {
            let zones: BTreeSet<&str> = chosen.iter().map(|node| self.zone(*node)).collect();
            let best = pool
                .difference(&chosen)
                .max_by_key(|node| self.worth(**node, &zones));
            match best.copied() {
                Some(best) => chosen.insert(best),
                None => break,
            };
        }
        chosen
    }

    /// What makes a node a better voter beside those of `zones`, in order of weight.
    fn worth(
        &self,
        node: NodeId,
        zones: &BTreeSet<&str>,
    ) -> (bool, bool, bool, bool, Duration, Reverse<NodeId>) {
        let votes = self.voters.contains(&node);
        let spreads = !zones.contains(self.zone(node));
        let lasting = votes || self.available_for(node) >= IMPROVE_AFTER;
        (
            spreads && lasting,
            votes,
            spreads,
            self.is_ready(node),
            self.available_for(node),
            Reverse(node),
        )
    }

    fn zone(&self, node: NodeId) -> &str {
        self.candidates
            .get(&node)
            .map_or("", |seen| seen.zone.as_str())
    }

    /// With the voters as they should be now: fills replicas of voters to be and of standbys, and takes
    /// the superfluous ones.
    fn care_for_learners(
        &self,
        present: &BTreeSet<NodeId>,
        ideal: &BTreeSet<NodeId>,
    ) -> QuorumStep {
        let to_vote: BTreeSet<NodeId> = ideal.difference(&self.voters).copied().collect();
        let standbys = self.standbys(present, ideal);
        let wanted: BTreeSet<NodeId> = to_vote.union(&standbys).copied().collect();
        let without = |node: &&NodeId| !self.learners.contains(node);
        if let Some(node) = to_vote.iter().chain(&standbys).find(without) {
            return QuorumStep::AddLearner(*node);
        }
        let extra = self
            .learners
            .difference(&wanted)
            .find(|node| self.is_superfluous(**node, wanted.len()));
        if let Some(node) = extra {
            return QuorumStep::RemoveLearner(*node);
        }
        if let Some(node) = to_vote.first() {
            return QuorumStep::Wait(QuorumWait::CatchingUp(*node));
        }
        if let Some(node) = self.voters.iter().find(|voter| !self.is_alive(**voter)) {
            return QuorumStep::Wait(QuorumWait::Unseen(*node));
        }
        let settling = self
            .candidates
            .keys()
            .find(|node| self.may_vote(**node) && self.is_alive(**node) && !present.contains(node));
        match settling {
            Some(node) => QuorumStep::Wait(QuorumWait::Settling(*node)),
            None => QuorumStep::Settled,
        }
    }

    fn standbys(&self, present: &BTreeSet<NodeId>, ideal: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
        let mut free: Vec<NodeId> = present
            .iter()
            .copied()
            .filter(|node| !ideal.contains(node) && !self.voters.contains(node))
            .collect();
        free.sort_by_key(|node| {
            let learns = self.learners.contains(node);
            Reverse((learns, self.available_for(*node), Reverse(*node)))
        });
        free.into_iter().take(STANDBYS).collect()
    }

    /// Whether a learner that is not wanted is to lose its replica now. A dead one keeps it for a while,
    /// unless another is to have it.
    fn is_superfluous(&self, node: NodeId, wanted: usize) -> bool {
        if self.is_alive(node) || !self.may_vote(node) {
            return true;
        }
        let unseen = self.unseen_for(node);
        let replaced = self.learners.len() > wanted.max(STANDBYS);
        unseen >= FORGET_AFTER || (unseen >= REPLACE_AFTER && replaced)
    }
}

#[cfg(test)]
mod tests;
