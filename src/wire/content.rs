//! What nodes ask each other about the content of images: who has it, who fetches it, and for the bytes themselves.
//!
//! One question and one answer on each stream; after the answer to a [`Question::Fetch`] come the raw bytes.

use serde::{Deserialize, Serialize};

use crate::model::{Digest, NodeId};

/// A question to a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// How far it is with this content.
    Content {
        /// Which.
        digest: Digest,
        /// The asker is about to fetch it from a registry, unless somebody else does.
        claim: bool,
    },
    /// What an image's name stands for there; canonical.
    Name(String),
    /// The bytes.
    Fetch {
        /// Of which content.
        digest: Digest,
        /// From where on.
        offset: u64,
    },
}

/// What a peer answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// How far it is with some content.
    Content {
        /// How far.
        held: Held,
        /// Somebody else who said that it would fetch it.
        claimed_by: Option<NodeId>,
    },
    /// What a name stands for; `None` when it is unknown there.
    Name(Option<Target>),
    /// The size of the content, whose bytes from the offset on follow; `None`, and nothing follows, when it is not there.
    Fetch(Option<u64>),
}

/// How far a peer is with some content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Held {
    /// It neither has nor fetches it.
    No,
    /// It fetches it.
    Coming {
        /// Bytes that are there.
        bytes: u64,
        /// It is sure that nobody else fetches it: who asks now leaves it to this node.
        settled: bool,
    },
    /// It has it.
    Here {
        /// Bytes.
        size: u64,
    },
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// An index's or a manifest's.
    pub media_type: String,
    /// Its SHA-256.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{decode, encode};

    #[test]
    fn questions_and_answers_travel() {
        let digest = Digest::from_bytes([7; 32]);
        for question in [
            Question::Content {
                digest,
                claim: true,
            },
            Question::Name("docker.io/library/busybox:latest".into()),
            Question::Fetch {
                digest,
                offset: u64::MAX,
            },
        ] {
            assert_eq!(
                decode::<Question>(&encode(&question).unwrap()).unwrap(),
                question
            );
        }
        let answer = Answer::Content {
            held: Held::Coming {
                bytes: 5,
                settled: true,
            },
            claimed_by: Some(NodeId::from_bits(9)),
        };
        assert_eq!(decode::<Answer>(&encode(&answer).unwrap()).unwrap(), answer);
    }
}
