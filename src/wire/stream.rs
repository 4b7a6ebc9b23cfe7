//! Kinds of streams: the first byte of each stream says what it carries.

use super::limits;

/// What a stream between two members carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum StreamKind {
    /// Both sides introduce themselves; the first stream of a connection.
    Hello = 1,
    /// One gossip message that is too long for a datagram (one way).
    Gossip = 2,
    /// One raft request and its reply.
    Raft = 3,
    /// An agent's session with the leader, as long as both live.
    Session = 4,
    /// One request to the leader and its reply.
    Control = 5,
    /// One HTTP request of Docker's API that belongs to another node, and its response.
    Api = 6,
    /// One question about the content of images and its answer, and the bytes.
    Content = 7,
}

impl StreamKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Hello,
        Self::Gossip,
        Self::Raft,
        Self::Session,
        Self::Control,
        Self::Api,
        Self::Content,
    ];

    /// The kind that a first byte announces.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }

    /// The longest frame, in bytes, that a reader of this kind takes.
    ///
    /// `Api` carries HTTP and no frames; its bodies are limited where they are read.
    pub const fn max_frame(self) -> usize {
        match self {
            Self::Hello => limits::HELLO_FRAME,
            Self::Gossip => limits::GOSSIP_MESSAGE,
            Self::Raft => limits::RAFT_FRAME,
            Self::Session => limits::SESSION_FRAME,
            Self::Control | Self::Api => limits::CONTROL_FRAME,
            Self::Content => limits::CONTENT_FRAME,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_name_kinds() {
        for kind in StreamKind::ALL {
            assert_eq!(StreamKind::from_byte(kind as u8), Some(kind));
        }
        assert_eq!(StreamKind::from_byte(0), None);
        assert_eq!(StreamKind::from_byte(200), None);
    }
}
