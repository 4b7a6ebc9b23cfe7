//! A proposal on its way through the log: encoded once by its proposer, decoded where it is applied.
//!
//! In between it is copied as bytes: to disks, to followers, out of the log again. It begins with a
//! format version; objects inside are JSON, so that fields may be added to them.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::types::Blob;
use crate::model::{
    Change, Cluster, Dependency, DependencyId, Expect, Network, NetworkId, Node, NodeId, Proposal,
    Service, ServiceId, Task, TaskId, Template, Timestamp,
};
use crate::wire::codec::{DecodeError, EncodeError};
use crate::wire::{Json, decode, encode};

/// The format that this build writes, and the newest that it reads.
const FORMAT: u8 = 1;

/// Why a command is not understood. Nothing of it was applied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// A newer build wrote it.
    #[error("an entry has format {0}, this build knows up to {FORMAT}: upgrade this node")]
    Format(u8),
    /// It is damaged.
    #[error("an entry of the log is malformed")]
    Malformed(#[source] DecodeError),
}

/// An encoded [`Proposal`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Command(Blob);

impl Command {
    /// Encodes a proposal.
    pub(super) fn of(proposal: &Proposal) -> Result<Self, EncodeError> {
        let mut bytes = vec![FORMAT];
        bytes.extend(encode(&ProposalRecord {
            at: proposal.at,
            changes: proposal.changes.iter().map(ChangeRecord::of).collect(),
        })?);
        Ok(Self::from_bytes(bytes.into()))
    }

    /// Bytes that were [`Self::into_bytes`] once, on any node.
    pub(super) fn from_bytes(bytes: Bytes) -> Self {
        Self(Blob(bytes))
    }

    pub(super) fn into_bytes(self) -> Bytes {
        self.0.0
    }

    /// Length in bytes.
    pub(super) fn len(&self) -> usize {
        self.0.0.len()
    }

    /// Whether this build knows the format. A follower refuses what it could not apply.
    pub(super) fn is_known(&self) -> bool {
        self.0.0.first() == Some(&FORMAT)
    }

    /// The proposal.
    pub(super) fn proposal(&self) -> Result<Proposal, CommandError> {
        let (format, body) = match self.0.0.split_first() {
            Some((format, body)) => (*format, body),
            None => (0, &[][..]),
        };
        if format != FORMAT {
            return Err(CommandError::Format(format));
        }
        let record: ProposalRecord<'_> = decode(body).map_err(CommandError::Malformed)?;
        let changes = record.changes.into_iter();
        Ok(Proposal {
            at: record.at,
            changes: changes.map(ChangeRecord::into_change).collect(),
        })
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command of {:?}", self.0)
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[derive(Serialize, Deserialize)]
struct ProposalRecord<'a> {
    at: Timestamp,
    changes: Vec<ChangeRecord<'a>>,
}

/// An object in its frame: borrowed on the way in, owned on the way out.
type Object<'a, T> = Json<Cow<'a, T>>;

/// [`Change`] with its objects as JSON. Kinds are only ever added at the end.
#[derive(Serialize, Deserialize)]
#[allow(
    clippy::large_enum_variant,
    reason = "most are services and tasks, and each lives for a moment"
)]
enum ChangeRecord<'a> {
    PutCluster(Expect, Object<'a, Cluster>),
    PutNode(Expect, Object<'a, Node>),
    RemoveNode(Expect, NodeId),
    PutService(Expect, Object<'a, Service>),
    RemoveService(Expect, ServiceId),
    PutTemplate(ServiceId, u64, Object<'a, Template>),
    PutTask(Expect, Object<'a, Task>),
    RemoveTask(Expect, TaskId),
    PutDependency(Expect, Object<'a, Dependency>),
    RemoveDependency(Expect, DependencyId),
    PutNetwork(Expect, Object<'a, Network>),
    RemoveNetwork(Expect, NetworkId),
}

impl<'a> ChangeRecord<'a> {
    fn of(change: &'a Change) -> Self {
        fn object<T: Clone>(object: &T) -> Object<'_, T> {
            Json(Cow::Borrowed(object))
        }
        match change {
            Change::PutCluster(expect, cluster) => Self::PutCluster(*expect, object(cluster)),
            Change::PutNode(expect, node) => Self::PutNode(*expect, object(node)),
            Change::RemoveNode(expect, node) => Self::RemoveNode(*expect, *node),
            Change::PutService(expect, service) => Self::PutService(*expect, object(service)),
            Change::RemoveService(expect, id) => Self::RemoveService(*expect, *id),
            Change::PutTemplate(service, version, template) => {
                Self::PutTemplate(*service, *version, object(template))
            }
            Change::PutTask(expect, task) => Self::PutTask(*expect, object(task)),
            Change::RemoveTask(expect, id) => Self::RemoveTask(*expect, *id),
            Change::PutDependency(expect, one) => Self::PutDependency(*expect, object(one)),
            Change::RemoveDependency(expect, id) => Self::RemoveDependency(*expect, *id),
            Change::PutNetwork(expect, network) => Self::PutNetwork(*expect, object(network)),
            Change::RemoveNetwork(expect, id) => Self::RemoveNetwork(*expect, *id),
        }
    }

    fn into_change(self) -> Change {
        fn object<T: Clone>(object: Object<'_, T>) -> Box<T> {
            Box::new(object.0.into_owned())
        }
        match self {
            Self::PutCluster(expect, cluster) => Change::PutCluster(expect, object(cluster)),
            Self::PutNode(expect, node) => Change::PutNode(expect, object(node)),
            Self::RemoveNode(expect, node) => Change::RemoveNode(expect, node),
            Self::PutService(expect, service) => Change::PutService(expect, object(service)),
            Self::RemoveService(expect, id) => Change::RemoveService(expect, id),
            Self::PutTemplate(service, version, template) => {
                Change::PutTemplate(service, version, object(template))
            }
            Self::PutTask(expect, task) => Change::PutTask(expect, object(task)),
            Self::RemoveTask(expect, id) => Change::RemoveTask(expect, id),
            Self::PutDependency(expect, one) => Change::PutDependency(expect, object(one)),
            Self::RemoveDependency(expect, id) => Change::RemoveDependency(expect, id),
            Self::PutNetwork(expect, network) => Change::PutNetwork(expect, object(network)),
            Self::RemoveNetwork(expect, id) => Change::RemoveNetwork(expect, id),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cluster::store::fixtures;

    #[test]
    fn proposals_come_back_as_they_went() {
        let proposal = Proposal {
            at: Timestamp::from_nanos(7),
            changes: vec![
                Change::PutCluster(Expect::Absent, Box::new(fixtures::cluster())),
                Change::PutNode(Expect::Version(3), Box::new(fixtures::node(9))),
                Change::RemoveNode(Expect::Version(4), NodeId::from_bits(1)),
                Change::PutDependency(Expect::Absent, Box::new(fixtures::secret(3))),
                Change::RemoveDependency(Expect::Version(4), fixtures::secret(4).id),
                Change::PutNetwork(Expect::Absent, Box::new(fixtures::mesh(5))),
                Change::RemoveNetwork(Expect::Version(4), fixtures::mesh(6).id),
            ],
        };
        let command = Command::of(&proposal).unwrap();
        assert!(command.is_known());
        assert_eq!(command.proposal().unwrap(), proposal);
    }

    #[test]
    fn a_newer_format_is_named() {
        let command = Command::from_bytes(Bytes::from_static(&[FORMAT + 1, 0]));
        assert!(!command.is_known());
        assert!(matches!(
            command.proposal(),
            Err(CommandError::Format(found)) if found == FORMAT + 1
        ));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = Command::from_bytes(bytes.into()).proposal();
        }
    }
}
