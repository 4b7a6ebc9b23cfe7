//! openraft's way to other replicas: each call is one request and one answer over the [`RaftLink`].
//!
//! An answer that cannot be is an error here, never handed on. A peer that cannot be reached is
//! reported so, and openraft waits longer each time before it asks again.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use tokio::sync::watch;
use tokio::time::Instant;

use super::log::Shared;
use super::look::{self, Sight};
use super::rpc::{Answer, Append, Appended, Ask, Candidacy, Chunk, Request, TakeOver};
use super::types::{Blob, LogId, LogRef, Snapshot, Types, Vote};
use crate::model::NodeId;

/// How long entries may take to be written by a follower. A slow disk is not a dead peer.
const APPEND_DEADLINE: Duration = Duration::from_secs(1);
/// How long one piece of a snapshot may take.
const CHUNK_DEADLINE: Duration = Duration::from_secs(5);
/// How long the last piece may take: the snapshot is written and installed before the answer.
const INSTALL_DEADLINE: Duration = Duration::from_secs(30);
/// Between two heartbeats to a replica without a vote. Nothing depends on them but when it was last heard.
const VOTELESS_HEARTBEAT: Duration = Duration::from_secs(1);
/// Bytes of a piece: far below [`RAFT_FRAME`](crate::wire::limits::RAFT_FRAME).
pub(super) const CHUNK: usize = 1 << 20;

/// Why a call over the link came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The peer was not reached: no address, no connection, or the connection was lost.
    #[error("the peer cannot be reached: {0}")]
    Unreachable(String),
    /// It was reached, perhaps, and gave no answer in time.
    #[error("the peer gave no answer in time")]
    TimedOut,
    /// It refused, in its words.
    #[error("the peer refused: {0}")]
    Refused(String),
}

/// How replicas reach each other; the peer's [`Store::handle`](super::Store::handle) is at the other end.
pub trait RaftLink: Send + Sync + 'static {
    /// Sends `request` to `to` and waits for its answer, at most for `deadline`.
    ///
    /// A call that is dropped should not abort a dial under way: the next call needs it.
    fn call(
        &self,
        to: NodeId,
        request: Vec<u8>,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Vec<u8>, LinkError>>;
}

/// The replicas that are known to have no vote. Who is not among them is sent every heartbeat.
#[derive(Clone, Debug, Default)]
pub(super) struct Voteless(Arc<RwLock<BTreeSet<NodeId>>>);

impl Voteless {
    /// These it is.
    pub(super) fn set(&self, nodes: BTreeSet<NodeId>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = nodes;
    }

    fn contains(&self, node: NodeId) -> bool {
        let nodes = self.0.read().unwrap_or_else(PoisonError::into_inner);
        nodes.contains(&node)
    }
}

/// Makes clients for openraft.
pub(super) struct Network {
    pub(super) node: NodeId,
    pub(super) link: Arc<dyn RaftLink>,
    pub(super) shared: Arc<Shared>,
    pub(super) sight: watch::Sender<Sight>,
    pub(super) voteless: Voteless,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: NodeId, _node: &()) -> Peer {
        Peer {
            node: self.node,
            target,
            link: self.link.clone(),
            shared: self.shared.clone(),
            sight: self.sight.clone(),
            beat: None,
        }
    }

    async fn new_heartbeat_client(&mut self, target: NodeId, node: &()) -> Peer {
        let beat = Beat {
            voteless: self.voteless.clone(),
            sent: None,
        };
        Peer {
            beat: Some(beat),
            ..self.new_client(target, node).await
        }
    }
}

/// The way to one replica.
pub(super) struct Peer {
    node: NodeId,
    target: NodeId,
    link: Arc<dyn RaftLink>,
    shared: Arc<Shared>,
    sight: watch::Sender<Sight>,
    /// Of a client for heartbeats.
    beat: Option<Beat>,
}

/// Which heartbeats to send: all of them to a voter, few to others.
struct Beat {
    voteless: Voteless,
    sent: Option<Instant>,
}

impl Beat {
    /// Whether the heartbeat that is due now is sent.
    fn is_due(&mut self, target: NodeId, now: Instant) -> bool {
        let recent = |sent: Instant| now.duration_since(sent) < VOTELESS_HEARTBEAT;
        if self.voteless.contains(target) && self.sent.is_some_and(recent) {
            return false;
        }
        self.sent = Some(now);
        true
    }
}

type RpcResult<T> = Result<T, RPCError<Types>>;

impl Peer {
    async fn ask(&self, ask: Ask, action: RPCTypes, deadline: Duration) -> RpcResult<Answer> {
        let request = Request {
            epoch: self.shared.epoch(),
            ask,
        };
        let bytes = request.encode().map_err(|e| network(&e))?;
        let answer = match self.link.call(self.target, bytes, deadline).await {
            Ok(answer) => answer,
            Err(LinkError::TimedOut) => {
                return Err(RPCError::Timeout(Timeout {
                    action,
                    id: self.node,
                    target: self.target,
                    timeout: deadline,
                }));
            }
            // A peer that refuses will refuse again: ask less often.
            Err(error @ (LinkError::Unreachable(_) | LinkError::Refused(_))) => {
                return Err(RPCError::Unreachable(Unreachable::new(&error)));
            }
        };
        match Answer::decode(&answer).map_err(|e| network(&e))? {
            Answer::Failed(why) => Err(RPCError::Unreachable(Unreachable::from_string(why))),
            Answer::Outdated(epoch) => {
                look::outdated(&self.sight);
                Err(RPCError::Unreachable(Unreachable::from_string(format!(
                    "node {} belongs to the cluster as it was recovered later (epoch {}): this replica is outdated",
                    self.target, epoch.count,
                ))))
            }
            answer => Ok(answer),
        }
    }

    async fn ask_for_vote(&self, ask: Ask, deadline: Duration) -> RpcResult<VoteResponse<Types>> {
        match self.ask(ask, RPCTypes::Vote, deadline).await? {
            Answer::Vote(granted) => Ok(granted.into_openraft()),
            other => Err(unexpected(&other)),
        }
    }

    async fn send_snapshot(
        &self,
        ballot: super::types::Ballot,
        last: Option<LogRef>,
        content: Bytes,
    ) -> RpcResult<SnapshotResponse<Types>> {
        let total = content.len() as u64;
        let mut offset = 0;
        loop {
            let end = content.len().min(offset + CHUNK);
            let deadline = match end == content.len() {
                true => INSTALL_DEADLINE,
                false => CHUNK_DEADLINE,
            };
            let chunk = Ask::Chunk(Chunk {
                ballot,
                last,
                offset: offset as u64,
                total,
                data: Blob(content.slice(offset..end)),
            });
            match self.ask(chunk, RPCTypes::InstallSnapshot, deadline).await? {
                Answer::Installed(ballot) => return Ok(SnapshotResponse::new(ballot.into())),
                Answer::Received(received) if received == end as u64 && received < total => {
                    offset = end;
                }
                other => return Err(unexpected(&other)),
            }
        }
    }
}

fn network<E: std::error::Error + 'static>(error: &E) -> RPCError<Types> {
    RPCError::Network(NetworkError::new(error))
}

fn unexpected(answer: &Answer) -> RPCError<Types> {
    RPCError::Network(NetworkError::from_string(format!(
        "the peer answered another question: {answer:?}"
    )))
}

impl RaftNetworkV2<Types> for Peer {
    type SnapshotData = Bytes;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> RpcResult<AppendEntriesResponse<Types>> {
        if let Some(beat) = &mut self.beat
            && !beat.is_due(self.target, Instant::now())
        {
            // openraft makes nothing of a heartbeat that fails; it must not take this one for answered.
            let left_out =
                NetworkError::from_string("left out: it is for a replica without a vote");
            return Err(RPCError::Network(left_out));
        }
        let previous: Option<LogId> = request.prev_log_id;
        let last = request
            .entries
            .last()
            .map(|entry| entry.log_id)
            .or(previous);
        let deadline = match request.entries.is_empty() {
            true => option.hard_ttl(),
            false => APPEND_DEADLINE.max(option.hard_ttl()),
        };
        let ask = Ask::Append(Append::of(request));
        match self.ask(ask, RPCTypes::AppendEntries, deadline).await? {
            Answer::Append(appended) => {
                Appended::into_openraft(appended, previous, last).map_err(|e| network(&e))
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> RpcResult<VoteResponse<Types>> {
        let ask = Ask::Vote(Candidacy::of(request));
        self.ask_for_vote(ask, option.hard_ttl()).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> RpcResult<VoteResponse<Types>> {
        let ask = Ask::PreVote(Candidacy::of(request));
        self.ask_for_vote(ask, option.hard_ttl()).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let last = snapshot.meta.last_log_id.map(Into::into);
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = self.send_snapshot(vote.into(), last, snapshot.snapshot) => Ok(sent?),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> RpcResult<TransferLeaderResponse<Types>> {
        let take_over = TakeOver::of(&request);
        let ask = Ask::TakeOver(take_over);
        match self
            .ask(ask, RPCTypes::TransferLeader, option.hard_ttl())
            .await?
        {
            Answer::TakeOver { accepted: true } => Ok(Ok(())),
            Answer::TakeOver { accepted: false } => Ok(Err(TransferLeaderError::LogNotFlushed {
                expected: request.last_log_id().copied(),
                actual: None,
            })),
            other => Err(unexpected(&other)),
        }
    }
}
