//! Proposing, reading and the bootstrap: what the leader's own work asks of its store.
//!
//! A leader that was elected a moment ago, or that was just cut off, refuses without naming another.
//! Such a refusal came before anything was written, so it is asked again for a while.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::ReadPolicy;
use openraft::errors::{
    ClientWriteError, ForwardToLeader, InitializeError, LinearizableReadError, RaftError,
};
use ring::rand::SystemRandom;
use tokio::time::{Instant, sleep, timeout_at};

use super::command::Command;
use super::log_file::Write;
use super::seal::fill;
use super::state::State;
use super::types::{Epoch, Types};
use super::{Running, Stopped, Store};
use crate::model::{NodeId, Proposal, Rejection};
use crate::wire::codec::EncodeError;
use crate::wire::limits::RAFT_FRAME;

/// How long a proposal or a read may take.
pub(super) const DEADLINE: Duration = Duration::from_secs(5);
/// How long to ask again while there is no leader: longer than an election.
const NO_LEADER: Duration = Duration::from_secs(2);
/// Between two attempts.
const RETRY: Duration = Duration::from_millis(20);
/// Longest proposal, in bytes: half of what a message between replicas may hold.
const MAX_PROPOSAL: usize = RAFT_FRAME / 2;

/// Why a proposal was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum ProposeError {
    /// Another node leads, or none. Nothing was written.
    #[error("this node does not lead the cluster")]
    NotLeader(Option<NodeId>),
    /// A guard did not hold. Nothing was changed.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// No quorum confirmed it within five seconds. Whether it takes effect is unknown.
    #[error("no quorum of managers answered in time")]
    NoQuorum,
    /// The leader changed while it was being written. Whether it takes effect is unknown.
    #[error("the leader changed before the write was confirmed")]
    LeaderChanged(Option<NodeId>),
    /// It is too long to be sent to followers. Nothing was written.
    #[error("the change is {0} bytes long, at most {MAX_PROPOSAL} are possible")]
    TooLong(usize),
    /// It cannot be encoded. Nothing was written.
    #[error("the change cannot be encoded")]
    Encode(#[source] EncodeError),
    /// The store is at an end. Whether it takes effect is unknown.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Why there is no answer to a read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Another node leads, or none.
    #[error("this node does not lead the cluster")]
    NotLeader(Option<NodeId>),
    /// No quorum confirmed within five seconds that this node still leads.
    #[error("no quorum of managers answered in time")]
    NoQuorum,
    /// The store is at an end.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Why no cluster was begun.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The replica belongs to a cluster already.
    #[error("this node is part of a cluster already")]
    AlreadyMember,
    /// The first proposal failed; the bootstrap may be repeated.
    #[error("the first write failed")]
    Propose(#[source] ProposeError),
    /// The store is at an end.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// What to do about openraft's referral to another leader.
enum Referral {
    Retry,
    To(Option<NodeId>),
}

impl Store {
    /// Makes this node the first and only voter of a new cluster, and writes `first`.
    ///
    /// May be repeated when it failed or when the process ended before it was done.
    pub async fn bootstrap(&self, first: Proposal) -> Result<(), BootstrapError> {
        let me = self.inner.config.node;
        let running = self.inner.running()?;
        if running.shared.epoch() == Epoch::default() && running.shared.is_pristine() {
            let mut id = [0; 8];
            fill(&SystemRandom::new(), &mut id);
            let epoch = Epoch {
                count: 1,
                id: u64::from_le_bytes(id),
            };
            let adopted = running.log.write(Write::Adopt(epoch)).await;
            adopted.map_err(|error| self.inner.stopped_by(error))?;
        }
        match running.raft.initialize(BTreeMap::from([(me, ())])).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
            Err(error) => return Err(self.inner.stopped_by(error).into()),
        }
        let alone = {
            let replicas = self.inner.replicas.subscribe();
            let deadline = Instant::now() + DEADLINE;
            let known = wait_until(replicas, deadline, |replicas| !replicas.voters.is_empty());
            known
                .await
                .is_some_and(|replicas| replicas.voters.len() == 1 && replicas.voters.contains(&me))
        };
        if !alone || self.inner.stage.state.borrow().cluster.is_some() {
            return Err(BootstrapError::AlreadyMember);
        }
        let written = self.propose(first).await;
        written.map_err(BootstrapError::Propose)?;
        // Who begins a cluster finds it led.
        let leadership = self.inner.leadership.subscribe();
        let _ = wait_until(leadership, Instant::now() + DEADLINE, |seen| seen.me).await;
        Ok(())
    }

    /// Writes a proposal: all of it, when every guard holds as it is applied, or nothing.
    ///
    /// Returns the store's version after it, within five seconds. [`Self::watch`] then shows it.
    pub async fn propose(&self, proposal: Proposal) -> Result<u64, ProposeError> {
        let started = Instant::now();
        let command = Command::of(&proposal).map_err(ProposeError::Encode)?;
        if command.len() > MAX_PROPOSAL {
            return Err(ProposeError::TooLong(command.len()));
        }
        loop {
            let running = self.inner.running()?;
            let write = running.raft.client_write(command.clone());
            let error = match timeout_at(started + DEADLINE, write).await {
                Err(_) => return Err(ProposeError::NoQuorum),
                Ok(Ok(response)) => return Ok(response.data.0?),
                Ok(Err(RaftError::Fatal(fatal))) => {
                    return Err(self.inner.stopped_by(fatal).into());
                }
                Ok(Err(RaftError::APIError(error))) => error,
            };
            match error {
                ClientWriteError::ForwardToLeader(forward) => {
                    match self.referral(&running, forward, started) {
                        Referral::To(leader) => return Err(ProposeError::NotLeader(leader)),
                        Referral::Retry => sleep(RETRY).await,
                    }
                }
                ClientWriteError::LogEntryDiscarded(forward) => {
                    return Err(ProposeError::LeaderChanged(forward.leader_id));
                }
                ClientWriteError::ChangeMembershipError(_)
                | ClientWriteError::PreconditionFailed(_) => {
                    return Err(self.inner.stopped_by(error).into());
                }
            }
        }
    }

    /// The state with everything that was acknowledged before the call. Only the leader can say.
    pub async fn read(&self) -> Result<Arc<State>, ReadError> {
        let started = Instant::now();
        let deadline = started + DEADLINE;
        loop {
            let running = self.inner.running()?;
            let confirmed = running.raft.ensure_linearizable(ReadPolicy::ReadIndex);
            let error = match timeout_at(deadline, confirmed).await {
                Err(_) => return Err(ReadError::NoQuorum),
                Ok(Ok(_)) => return Ok(self.inner.stage.state.borrow().clone()),
                Ok(Err(RaftError::Fatal(fatal))) => {
                    return Err(self.inner.stopped_by(fatal).into());
                }
                Ok(Err(RaftError::APIError(error))) => error,
            };
            match error {
                LinearizableReadError::ForwardToLeader(forward) => {
                    match self.referral(&running, forward, started) {
                        Referral::To(leader) => return Err(ReadError::NotLeader(leader)),
                        Referral::Retry => sleep(RETRY).await,
                    }
                }
                LinearizableReadError::QuorumNotEnough(_) => {
                    if Instant::now() + RETRY >= deadline {
                        return Err(ReadError::NoQuorum);
                    }
                    sleep(RETRY).await;
                }
            }
        }
    }

    fn referral(
        &self,
        running: &Running,
        forward: ForwardToLeader<Types>,
        started: Instant,
    ) -> Referral {
        let me = self.inner.config.node;
        match forward.leader_id.filter(|leader| *leader != me) {
            Some(leader) => Referral::To(Some(leader)),
            // A replica that cannot become a leader need not wait to be one.
            None if started.elapsed() > NO_LEADER || !votes(running, me) => Referral::To(None),
            None => Referral::Retry,
        }
    }
}

fn votes(running: &Running, me: NodeId) -> bool {
    running.raft.voter_ids().any(|voter| voter == me)
}

/// The first value that satisfies `condition`; `None` at the deadline.
pub(super) async fn wait_until<T: Clone>(
    mut receiver: tokio::sync::watch::Receiver<T>,
    deadline: Instant,
    condition: impl FnMut(&T) -> bool,
) -> Option<T> {
    let found = timeout_at(deadline, receiver.wait_for(condition)).await;
    found.ok()?.ok().map(|value| value.clone())
}
