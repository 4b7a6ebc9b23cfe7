//! What replicas ask of each other and answer: one envelope, with a version in front.
//!
//! The types are records of ours; they turn into openraft's only after [`Request::decode`] and
//! [`Append::into_openraft`] have found them possible, because openraft trusts its callers.

use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::command::Command;
use super::types::{Ballot, Blob, EntryRecord, Epoch, LogId, LogRef, PayloadRecord, Types};
use crate::wire::codec::{DecodeError, EncodeError};
use crate::wire::{decode, encode};

/// The version of the envelope that this build speaks.
const VERSION: u8 = 1;

/// Why bytes are no message. Nothing was done about them.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// The other side speaks another version.
    #[error(
        "the peer speaks version {0} of the replication protocol, this build version {VERSION}"
    )]
    Version(u8),
    /// They are no message.
    #[error("the message does not decode")]
    Malformed(#[source] DecodeError),
    /// They say what cannot be.
    #[error("the message is impossible: {0}")]
    Impossible(&'static str),
    /// The message cannot be written.
    #[error("the message cannot be encoded")]
    Encode(#[source] EncodeError),
}

/// A request, with the sender's epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) epoch: Epoch,
    pub(super) ask: Ask,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Ask {
    Append(Append),
    Vote(Candidacy),
    PreVote(Candidacy),
    Chunk(Chunk),
    TakeOver(TakeOver),
    /// Whether the asker's epoch is the newest; who asks.
    Epoch(crate::model::NodeId),
}

/// Entries of a leader; none in a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Append {
    pub(super) ballot: Ballot,
    pub(super) previous: Option<LogRef>,
    pub(super) committed: Option<LogRef>,
    pub(super) entries: Vec<EntryRecord>,
}

/// A candidate asks for a vote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Candidacy {
    pub(super) ballot: Ballot,
    pub(super) last: Option<LogRef>,
    /// The leader itself has asked it to run.
    pub(super) transfer: bool,
}

/// A piece of a leader's snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Chunk {
    pub(super) ballot: Ballot,
    pub(super) last: Option<LogRef>,
    /// Bytes before this piece.
    pub(super) offset: u64,
    /// Bytes of the whole.
    pub(super) total: u64,
    pub(super) data: Blob,
}

/// A leader names its successor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TakeOver {
    pub(super) ballot: Ballot,
    pub(super) to: crate::model::NodeId,
    pub(super) last: Option<LogRef>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer {
    Append(Appended),
    Vote(Granted),
    /// So many bytes of the snapshot have arrived.
    Received(u64),
    /// The snapshot is installed, or was not needed.
    Installed(Ballot),
    TakeOver {
        accepted: bool,
    },
    /// This replica lives in a newer epoch.
    Outdated(Epoch),
    /// It cannot be done, and why.
    Failed(String),
    /// This replica knows of no newer epoch than the asker's.
    Current,
}

/// What became of appended entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Appended {
    All,
    Upto(Option<LogRef>),
    Conflict,
    HigherVote(Ballot),
}

/// What became of a request for a vote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Granted {
    pub(super) ballot: Ballot,
    pub(super) last: Option<LogRef>,
    pub(super) granted: bool,
}

impl Request {
    /// The bytes to send.
    pub(super) fn encode(&self) -> Result<Vec<u8>, MessageError> {
        envelope(self)
    }

    /// The request in these bytes.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let request: Self = open(bytes)?;
        let (ballot, places) = match &request.ask {
            Ask::Append(append) => (append.ballot, [append.previous, append.committed]),
            Ask::Vote(candidacy) | Ask::PreVote(candidacy) => {
                (candidacy.ballot, [candidacy.last, None])
            }
            Ask::Chunk(chunk) => (chunk.ballot, [chunk.last, None]),
            Ask::TakeOver(take_over) => (take_over.ballot, [take_over.last, None]),
            Ask::Epoch(_) => return Ok(request),
        };
        check_plausible(Some(ballot), places)?;
        Ok(request)
    }

    /// The node that the request speaks for; only it may send it.
    pub(super) fn speaker(&self) -> crate::model::NodeId {
        match &self.ask {
            Ask::Append(append) => append.ballot.node,
            Ask::Vote(candidacy) | Ask::PreVote(candidacy) => candidacy.ballot.node,
            Ask::Chunk(chunk) => chunk.ballot.node,
            Ask::TakeOver(take_over) => take_over.ballot.node,
            Ask::Epoch(node) => *node,
        }
    }

    /// Whether an election is held with it.
    pub(super) fn is_of_candidate(&self) -> bool {
        matches!(&self.ask, Ask::Vote(_) | Ask::PreVote(_) | Ask::TakeOver(_))
    }

    /// Whether a leader sent it.
    pub(super) fn is_of_leader(&self) -> bool {
        matches!(&self.ask, Ask::Append(_) | Ask::Chunk(_))
    }
}

impl Answer {
    /// The bytes to send.
    pub(super) fn encode(&self) -> Result<Vec<u8>, MessageError> {
        envelope(self)
    }

    /// The answer in these bytes.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let answer: Self = open(bytes)?;
        let (ballot, place) = match &answer {
            Self::Append(Appended::HigherVote(ballot)) | Self::Installed(ballot) => {
                (Some(*ballot), None)
            }
            Self::Append(Appended::Upto(upto)) => (None, *upto),
            Self::Vote(granted) => (Some(granted.ballot), granted.last),
            Self::Append(Appended::All | Appended::Conflict)
            | Self::Received(_)
            | Self::TakeOver { .. }
            | Self::Outdated(_)
            | Self::Failed(_)
            | Self::Current => (None, None),
        };
        check_plausible(ballot, [place, None])?;
        Ok(answer)
    }
}

/// Raft counts on from the terms and indices that it is told.
fn check_plausible(
    ballot: Option<Ballot>,
    places: [Option<LogRef>; 2],
) -> Result<(), MessageError> {
    let ballot = ballot.is_none_or(|ballot| ballot.is_plausible());
    let places = places.iter().flatten().all(LogRef::is_plausible);
    match ballot && places {
        true => Ok(()),
        false => Err(MessageError::Impossible(
            "a term or an index beyond all measure",
        )),
    }
}

fn envelope<T: Serialize>(message: &T) -> Result<Vec<u8>, MessageError> {
    let mut bytes = encode(message).map_err(MessageError::Encode)?;
    bytes.insert(0, VERSION);
    Ok(bytes)
}

fn open<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, MessageError> {
    match bytes.split_first() {
        Some((&VERSION, body)) => decode(body).map_err(MessageError::Malformed),
        Some((version, _)) => Err(MessageError::Version(*version)),
        None => Err(MessageError::Impossible("it is empty")),
    }
}

impl Append {
    pub(super) fn of(request: AppendEntriesRequest<Types>) -> Self {
        Self {
            ballot: request.vote.into(),
            previous: request.prev_log_id.map(Into::into),
            committed: request.leader_commit.map(Into::into),
            entries: request.entries.into_iter().map(Into::into).collect(),
        }
    }

    /// openraft's form, if the entries follow each other and the leader may have written them.
    pub(super) fn into_openraft(self) -> Result<AppendEntriesRequest<Types>, MessageError> {
        let impossible = |what| Err(MessageError::Impossible(what));
        if !self.ballot.committed {
            return impossible("entries of a candidate");
        }
        let mut previous = self.previous;
        for entry in &self.entries {
            let next = previous.map_or(0, |previous| previous.index + 1);
            if entry.at.index != next {
                return impossible("entries with a gap");
            }
            if previous.is_some_and(|previous| entry.at < previous) {
                return impossible("entries of a falling term");
            }
            if let PayloadRecord::Command(blob) = &entry.payload
                && !Command::from_bytes(blob.0.clone()).is_known()
            {
                return impossible(
                    "an entry of a format that this build does not know: upgrade it",
                );
            }
            previous = Some(entry.at);
        }
        if previous
            .is_some_and(|last| (last.term, last.node) > (self.ballot.term, self.ballot.node))
        {
            return impossible("entries of a term after the leader's");
        }
        let mut entries = Vec::with_capacity(self.entries.len());
        for entry in self.entries {
            match entry.into_entry() {
                Some(entry) => entries.push(entry),
                None => return impossible("an entry with an empty membership"),
            }
        }
        Ok(AppendEntriesRequest {
            vote: self.ballot.into(),
            prev_log_id: self.previous.map(Into::into),
            entries,
            leader_commit: self.committed.map(Into::into),
        })
    }
}

impl Appended {
    pub(super) fn of(response: AppendEntriesResponse<Types>) -> Self {
        match response {
            AppendEntriesResponse::Success => Self::All,
            AppendEntriesResponse::PartialSuccess(upto) => Self::Upto(upto.map(Into::into)),
            AppendEntriesResponse::Conflict => Self::Conflict,
            AppendEntriesResponse::HigherVote(vote) => Self::HigherVote(vote.into()),
        }
    }

    /// openraft's form, if it can be an answer to entries from `previous` to `last`.
    pub(super) fn into_openraft(
        self,
        previous: Option<LogId>,
        last: Option<LogId>,
    ) -> Result<AppendEntriesResponse<Types>, MessageError> {
        match self {
            Self::All => Ok(AppendEntriesResponse::Success),
            Self::Upto(upto) => {
                let upto = upto.map(LogId::from);
                if upto < previous || upto > last {
                    return Err(MessageError::Impossible(
                        "more was acknowledged than was sent",
                    ));
                }
                Ok(AppendEntriesResponse::PartialSuccess(upto))
            }
            Self::Conflict if previous.is_none() => {
                Err(MessageError::Impossible("a conflict with nothing"))
            }
            Self::Conflict => Ok(AppendEntriesResponse::Conflict),
            Self::HigherVote(ballot) => Ok(AppendEntriesResponse::HigherVote(ballot.into())),
        }
    }
}

impl Candidacy {
    pub(super) fn of(request: VoteRequest<Types>) -> Self {
        Self {
            ballot: request.vote.into(),
            last: request.last_log_id.map(Into::into),
            transfer: request.leadership_transfer,
        }
    }

    /// openraft's form, if it is a candidate that asks.
    pub(super) fn into_openraft(self) -> Result<VoteRequest<Types>, MessageError> {
        if self.ballot.committed {
            return Err(MessageError::Impossible("a leader asks for votes"));
        }
        let mut request = VoteRequest::new(self.ballot.into(), self.last.map(Into::into));
        request.leadership_transfer = self.transfer;
        Ok(request)
    }
}

impl Granted {
    pub(super) fn of(response: VoteResponse<Types>) -> Self {
        Self {
            ballot: response.vote.into(),
            last: response.last_log_id.map(Into::into),
            granted: response.vote_granted,
        }
    }

    pub(super) fn into_openraft(self) -> VoteResponse<Types> {
        VoteResponse {
            vote: self.ballot.into(),
            vote_granted: self.granted,
            last_log_id: self.last.map(Into::into),
        }
    }
}

impl TakeOver {
    pub(super) fn of(request: &TransferLeaderRequest<Types>) -> Self {
        Self {
            ballot: (*request.from_leader()).into(),
            to: *request.to_node_id(),
            last: request.last_log_id().copied().map(Into::into),
        }
    }

    pub(super) fn into_openraft(self) -> TransferLeaderRequest<Types> {
        TransferLeaderRequest::new(self.ballot.into(), self.to, self.last.map(Into::into))
    }
}

#[cfg(test)]
mod tests;
