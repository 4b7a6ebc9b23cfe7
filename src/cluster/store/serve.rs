//! Answering other replicas.
//!
//! A request is believed as far as its sender can be: it speaks for itself only, it is of this cluster's
//! present epoch, and what it says is possible. A leader of a newer epoch makes this replica begin
//! again from nothing, because what it holds belongs to a past that was given up.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use openraft::raft::AppendEntriesResponse;
use tokio::time::{Instant, timeout};

use super::log::Shared;
use super::log_file::{LogFile, Write};
use super::look::Sight;
use super::network::CHUNK;
use super::rpc::{Answer, Appended, Ask, Chunk, Granted, MessageError, Request};
use super::snapshot::{Image, MAX_CONTENT};
use super::types::{Ballot, Epoch, LogId, LogRef, Snapshot};
use super::{Inner, Running, Stopped, Store};
use crate::model::NodeId;

/// How long an answer may take. Installing a snapshot is the longest of them.
const DEADLINE: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HandleError {
    /// It is no request, or one that cannot be.
    #[error("a request for the raft log was refused")]
    Message(#[from] MessageError),
    /// The sender speaks for another node.
    #[error("node {from} spoke for node {speaker}")]
    Impostor {
        /// Who sent it.
        from: NodeId,
        /// Whom it names.
        speaker: NodeId,
    },
    /// The sender was removed from the cluster.
    #[error("node {0} was removed from this cluster")]
    Removed(NodeId),
    /// The disk or raft gave no answer within thirty seconds.
    #[error("the store gave no answer in time")]
    TimedOut,
    /// The store is at an end.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// A snapshot of which some pieces have arrived.
#[derive(Debug)]
pub(super) struct Receiving {
    ballot: Ballot,
    last: Option<LogRef>,
    total: u64,
    content: BytesMut,
}

impl Store {
    /// Answers a request that `from` sent over its [`RaftLink`](super::RaftLink). `from` is who the
    /// connection belongs to, and must be a member that may hold a replica.
    pub async fn handle(&self, from: NodeId, request: &[u8]) -> Result<Vec<u8>, HandleError> {
        let request = Request::decode(request)?;
        let speaker = request.speaker();
        if speaker != from {
            return Err(HandleError::Impostor { from, speaker });
        }
        if self.inner.stage.state.borrow().removed.contains_key(&from) {
            return Err(HandleError::Removed(from));
        }
        let answer = match timeout(DEADLINE, self.inner.answer(request)).await {
            Ok(answer) => answer?,
            Err(_) => return Err(HandleError::TimedOut),
        };
        Ok(answer.encode()?)
    }
}

impl Inner {
    async fn answer(self: &Arc<Self>, request: Request) -> Result<Answer, HandleError> {
        let running = self.running()?;
        let mine = running.shared.epoch();
        if request.epoch < mine {
            return Ok(Answer::Outdated(mine));
        }
        if let Ask::Epoch(_) = request.ask {
            return Ok(Answer::Current);
        }
        let running = if request.epoch == mine {
            let sight = *running.sight.borrow();
            if sight == Sight::Outdated || sight == Sight::Blind && request.is_of_candidate() {
                let why = "this replica does not know whether its epoch is the present one";
                return Ok(Answer::Failed(why.into()));
            }
            running
        } else if request.is_of_leader() {
            self.enter(request.epoch).await?
        } else {
            let why = "this replica has not entered that epoch yet";
            return Ok(Answer::Failed(why.into()));
        };
        match request.ask {
            Ask::Append(append) => {
                let response = running.raft.append_entries(append.into_openraft()?).await;
                let response = response.map_err(|error| self.stopped_by(error))?;
                if !matches!(response, AppendEntriesResponse::HigherVote(_)) {
                    running.heard.send_replace(Some(Instant::now()));
                }
                Ok(Answer::Append(Appended::of(response)))
            }
            Ask::Vote(candidacy) => {
                let response = running.raft.vote(candidacy.into_openraft()?).await;
                let response = response.map_err(|error| self.stopped_by(error))?;
                Ok(Answer::Vote(Granted::of(response)))
            }
            Ask::PreVote(candidacy) => {
                let response = running.raft.pre_vote(candidacy.into_openraft()?).await;
                let response = response.map_err(|error| self.stopped_by(error))?;
                Ok(Answer::Vote(Granted::of(response)))
            }
            Ask::TakeOver(take_over) => {
                let response = running
                    .raft
                    .handle_transfer_leader(take_over.into_openraft())
                    .await;
                let response = response.map_err(|error| self.stopped_by(error))?;
                Ok(Answer::TakeOver {
                    accepted: response.is_ok(),
                })
            }
            Ask::Chunk(chunk) => self.receive(&running, chunk).await,
            Ask::Epoch(_) => Ok(Answer::Current),
        }
    }

    async fn receive(&self, running: &Running, chunk: Chunk) -> Result<Answer, HandleError> {
        let ballot = chunk.ballot;
        let content = {
            let mut receiving = self.receiving.lock().await;
            match add(&mut receiving, chunk)? {
                Some(content) => content,
                None => {
                    let received = receiving.as_ref().map_or(0, |held| held.content.len());
                    return Ok(Answer::Received(received as u64));
                }
            }
        };
        let image = Image::decode(&content).map_err(|error| {
            tracing::warn!(%error, leader = %ballot.node, "a snapshot was refused");
            MessageError::Impossible("a snapshot that does not decode")
        })?;
        check_possible(running, ballot, image.meta.last_log_id)?;
        let snapshot = Snapshot {
            meta: image.meta,
            snapshot: content,
        };
        let response = running
            .raft
            .install_full_snapshot(ballot.into(), snapshot)
            .await;
        let response = response.map_err(|error| self.stopped_by(error))?;
        Ok(Answer::Installed(response.vote.into()))
    }

    /// Leaves what this replica holds, if it holds anything, and begins again in a newer epoch.
    async fn enter(self: &Arc<Self>, epoch: Epoch) -> Result<Running, HandleError> {
        let _life = self.life.lock().await;
        let running = self.running()?;
        let mine = running.shared.epoch();
        if mine >= epoch {
            // Another request was faster, perhaps from an even newer epoch.
            return match mine == epoch {
                true => Ok(running),
                false => Err(MessageError::Impossible("an epoch that has passed").into()),
            };
        }
        let pristine = running.shared.is_pristine();
        let write = match pristine {
            true => Write::Adopt(epoch),
            false => Write::Reset(epoch),
        };
        if pristine {
            let adopted = running.log.write(write).await;
            adopted.map_err(|error| self.stopped_by(error))?;
            return Ok(running);
        }
        tracing::warn!(
            from = mine.count,
            to = epoch.count,
            "the cluster was recovered without this node: its replica is replaced by the leader's"
        );
        self.begin_again(running, write).await?;
        Ok(self.running()?)
    }

    /// Ends the raft instance, writes `write` into its log and starts another. The caller holds `life`.
    async fn begin_again(self: &Arc<Self>, running: Running, write: Write) -> Result<(), Stopped> {
        *self.running.write().unwrap_or_else(PoisonError::into_inner) = None;
        *self.receiving.lock().await = None;
        running.stop.cancel();
        if let Err(error) = running.raft.shutdown().await {
            tracing::warn!(%error, "raft did not end cleanly");
        }
        let fail = |why: String| {
            self.report_stop(why.clone());
            Stopped { why }
        };
        let reset = running.log.write(write).await;
        reset.map_err(|error| fail(error.to_string()))?;
        running.log.close().await;
        drop(running);
        let sealer = Some(self.sealer.clone());
        let opened = LogFile::open_with(self.disk.clone(), self.config.node, sealer);
        let (log, contents) = opened.map_err(|fault| fail(fault.to_string()))?;
        let dropped = self.snapshots.drop_other_epochs(contents.epoch);
        dropped.map_err(|fault| fail(fault.to_string()))?;
        let shared = Arc::new(Shared::new(log, contents));
        let started = self.run(shared).await;
        started.map_err(|error| fail(error.to_string()))
    }
}

/// Adds a piece; returns the whole once it is complete. A piece that does not follow the last one is an
/// error, and the sender begins again with the first.
fn add(receiving: &mut Option<Receiving>, chunk: Chunk) -> Result<Option<Bytes>, MessageError> {
    if chunk.total > MAX_CONTENT as u64 || chunk.data.0.len() > CHUNK {
        return Err(MessageError::Impossible("a snapshot that is too long"));
    }
    if chunk.offset == 0 {
        *receiving = Some(Receiving {
            ballot: chunk.ballot,
            last: chunk.last,
            total: chunk.total,
            content: BytesMut::new(),
        });
    }
    let follows = |held: &Receiving| {
        held.ballot == chunk.ballot
            && held.last == chunk.last
            && held.total == chunk.total
            && held.content.len() as u64 == chunk.offset
            && chunk.offset + chunk.data.0.len() as u64 <= chunk.total
    };
    let Some(held) = receiving.as_mut().filter(|held| follows(held)) else {
        *receiving = None;
        return Err(MessageError::Impossible(
            "a piece of a snapshot that does not follow the one before",
        ));
    };
    held.content.extend_from_slice(&chunk.data.0);
    if (held.content.len() as u64) < held.total {
        return Ok(None);
    }
    Ok(receiving.take().map(|held| held.content.freeze()))
}

/// openraft takes a snapshot for granted that its leader cannot have; it is refused here.
fn check_possible(
    running: &Running,
    ballot: Ballot,
    last: Option<LogId>,
) -> Result<(), MessageError> {
    let Some(last) = last.map(LogRef::from) else {
        return Err(MessageError::Impossible("a snapshot of nothing"));
    };
    if !ballot.committed {
        return Err(MessageError::Impossible("a snapshot of a candidate"));
    }
    if (last.term, last.node) > (ballot.term, ballot.node) {
        return Err(MessageError::Impossible(
            "a snapshot of a term after the leader's",
        ));
    }
    let committed = running.raft.watch_commit_progress().get().map(LogRef::from);
    match committed {
        Some(committed) if last > committed && last.index <= committed.index => Err(
            MessageError::Impossible("a snapshot that contradicts what is committed here"),
        ),
        _ => Ok(()),
    }
}
