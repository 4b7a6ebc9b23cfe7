//! Changing who holds a replica, who votes and who leads. One change at a time.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use tokio::time::{Instant, sleep, timeout_at};

use super::client::wait_until;
use super::types::{Raft, Types};
use super::{Running, Stopped, Store};
use crate::model::NodeId;

/// How long a change may take. It goes on after that, and may still take effect.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long a successor may take to lead.
const TRANSFER: Duration = Duration::from_secs(2);
/// How long [`Store::campaign`] tries.
const CAMPAIGN: Duration = Duration::from_secs(2);
/// Between two attempts.
const RETRY: Duration = Duration::from_millis(50);

/// Why the replicas are as they were.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// Another node leads, or none.
    #[error("this node does not lead the cluster")]
    NotLeader(Option<NodeId>),
    /// It takes longer than ten seconds, and may still take effect.
    #[error("no quorum of managers answered in time")]
    NoQuorum,
    /// A new voter must hold a replica first: add it as a learner.
    #[error("node {0} holds no replica yet")]
    NotAReplica(NodeId),
    /// There must be a voter.
    #[error("a cluster needs a voter")]
    NoVoters,
    /// The node was removed from the cluster for good.
    #[error("node {0} was removed from this cluster")]
    Removed(NodeId),
    /// Neither the successor nor another took over; this node may lead on.
    #[error("node {0} did not take over in time")]
    NotTaken(NodeId),
    /// What openraft says.
    #[error("the replicas cannot be changed: {0}")]
    Refused(String),
    /// The store is at an end.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

type Written = openraft::raft::ClientWriteResponse<Types>;
type WriteError = RaftError<Types, ClientWriteError<Types>>;

impl Store {
    /// Gives `node` a replica without a vote. Returns when that is decided; the replica then fills in
    /// the background, see [`Self::replicas`].
    pub async fn add_learner(&self, node: NodeId) -> Result<(), ChangeError> {
        self.refuse_removed(node)?;
        self.change(|raft| async move { raft.add_learner(node, (), false).await })
            .await
    }

    /// Takes the replica of a node that does not vote.
    pub async fn remove_learner(&self, node: NodeId) -> Result<(), ChangeError> {
        self.change(|raft| async move {
            let nodes = ChangeMembers::RemoveNodes(BTreeSet::from([node]));
            raft.change_membership(nodes, false).await
        })
        .await
    }

    /// Makes exactly these the voters; each must hold a replica. Needs a quorum of the old voters and
    /// one of the new. Those that lose their vote keep their replica if `keep_as_learners`.
    ///
    /// A leader that is not among them steps down when it is done.
    pub async fn set_voters(
        &self,
        voters: BTreeSet<NodeId>,
        keep_as_learners: bool,
    ) -> Result<(), ChangeError> {
        if voters.is_empty() {
            return Err(ChangeError::NoVoters);
        }
        for voter in &voters {
            self.refuse_removed(*voter)?;
        }
        self.change(|raft| {
            let voters = voters.clone();
            async move {
                let voters = ChangeMembers::ReplaceAllVoters(voters);
                raft.change_membership(voters, keep_as_learners).await
            }
        })
        .await
    }

    /// Hands leadership to another voter and waits until it leads: some milliseconds. When it is too busy
    /// to take over, another voter may, and that is as good.
    pub async fn transfer(&self, to: NodeId) -> Result<(), ChangeError> {
        let running = self.inner.running()?;
        let leadership = self.inner.leadership.subscribe();
        let now = *leadership.borrow();
        if !now.me {
            return Err(ChangeError::NotLeader(now.leader));
        }
        let me = self.inner.config.node;
        if to == me {
            return Ok(());
        }
        if !running.raft.voter_ids().any(|voter| voter == to) {
            return Err(ChangeError::NotAReplica(to));
        }
        let asked = running.raft.trigger().transfer_leader(to).await;
        asked.map_err(|fatal| self.inner.stopped_by(fatal))?;
        let deadline = Instant::now() + TRANSFER;
        let taken = wait_until(leadership, deadline, |seen| {
            let other = seen.leader.filter(|leader| *leader != me);
            seen.term > now.term && other.is_some()
        });
        match taken.await {
            Some(_) => Ok(()),
            None => Err(ChangeError::NotTaken(to)),
        }
    }

    /// Asks for an election as soon as the others would allow one: for a voter that knows by other
    /// means that the leader is dead. Does nothing when a leader answers the others, or when this node
    /// does not vote. Returns when there is a new leader, or after two seconds.
    pub async fn campaign(&self) {
        let leadership = self.inner.leadership.subscribe();
        let before = *leadership.borrow();
        let deadline = Instant::now() + CAMPAIGN;
        while Instant::now() < deadline {
            let Ok(running) = self.inner.running() else {
                return;
            };
            // A pre-vote changes nothing while the others still trust their leader.
            if running.raft.trigger().elect(true).await.is_err() {
                return;
            }
            let pause = (Instant::now() + RETRY).min(deadline);
            let settled = wait_until(leadership.clone(), pause, |seen| {
                seen.term > before.term && seen.leader.is_some()
            });
            if settled.await.is_some() {
                return;
            }
        }
    }

    fn refuse_removed(&self, node: NodeId) -> Result<(), ChangeError> {
        match self.inner.stage.state.borrow().removed.contains_key(&node) {
            true => Err(ChangeError::Removed(node)),
            false => Ok(()),
        }
    }

    async fn change<F>(&self, change: impl Fn(Raft) -> F) -> Result<(), ChangeError>
    where
        F: Future<Output = Result<Written, WriteError>>,
    {
        let deadline = Instant::now() + DEADLINE;
        let Ok(_one_at_a_time) = timeout_at(deadline, self.inner.changing.lock()).await else {
            return Err(ChangeError::NoQuorum);
        };
        loop {
            let Running { raft, .. } = self.inner.running()?;
            let error = match timeout_at(deadline, change(raft)).await {
                Err(_) => return Err(ChangeError::NoQuorum),
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(RaftError::Fatal(fatal))) => {
                    return Err(self.inner.stopped_by(fatal).into());
                }
                Ok(Err(RaftError::APIError(error))) => error,
            };
            if !may_pass(&error, self.inner.config.node) || Instant::now() + RETRY >= deadline {
                return Err(refusal(error));
            }
            sleep(RETRY).await;
        }
    }
}

/// Whether the same request may succeed in a moment: a new leader is not established yet, or the
/// change before this one is not committed yet.
fn may_pass(error: &ClientWriteError<Types>, me: NodeId) -> bool {
    match error {
        ClientWriteError::ForwardToLeader(forward) => {
            forward.leader_id.is_none_or(|leader| leader == me)
        }
        ClientWriteError::ChangeMembershipError(error) => matches!(
            error,
            ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_)
        ),
        // A leader before had left a change half done, and it was completed in between.
        ClientWriteError::PreconditionFailed(_) => true,
        ClientWriteError::LogEntryDiscarded(_) => false,
    }
}

fn refusal(error: ClientWriteError<Types>) -> ChangeError {
    match error {
        ClientWriteError::ForwardToLeader(forward)
        | ClientWriteError::LogEntryDiscarded(forward) => ChangeError::NotLeader(forward.leader_id),
        ClientWriteError::ChangeMembershipError(ChangeMembershipError::LearnerNotFound(error)) => {
            ChangeError::NotAReplica(error.node_id)
        }
        ClientWriteError::ChangeMembershipError(ChangeMembershipError::InProgress(_)) => {
            ChangeError::NoQuorum
        }
        other => ChangeError::Refused(other.to_string()),
    }
}
