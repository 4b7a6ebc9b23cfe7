//! Numbers that end connections and streams, and what they mean in words.
//!
//! Both sides of a connection know this table, so that a refusal reads the same on the side that refuses
//! and on the side that is refused. A number is never given another meaning: builds of different age meet.

use std::fmt;

use quinn::VarInt;

/// Why a connection was closed by one of its sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum CloseCode {
    /// Nothing to say: the side that closed is done.
    Done = 0,
    /// The process stops.
    Stopping = 1,
    /// Nobody used the connection for a while. No stream of the other side was open, so none was begun.
    Unused = 2,
    /// Another connection of the same pair serves instead. As with `Unused`, nothing was begun on it.
    Spare = 3,
    /// No certificate was shown where one is needed, or it is not what it should be.
    Identity = 4,
    /// The hello does not fit: another protocol version, another node than the certificate's, nonsense.
    Hello = 5,
    /// The node was removed from the cluster.
    Removed = 6,
    /// A living process with the same node's key is known already.
    Twin = 7,
    /// The node dialled itself.
    Oneself = 8,
    /// More than this node takes at the moment.
    Busy = 9,
    /// Too slow: a deadline passed.
    TooSlow = 10,
    /// The owner asked for it: `Transport::drop_peer`.
    Dropped = 11,
}

impl CloseCode {
    const ALL: [Self; 12] = [
        Self::Done,
        Self::Stopping,
        Self::Unused,
        Self::Spare,
        Self::Identity,
        Self::Hello,
        Self::Removed,
        Self::Twin,
        Self::Oneself,
        Self::Busy,
        Self::TooSlow,
        Self::Dropped,
    ];

    /// The code that goes on the wire.
    pub(super) const fn on_wire(self) -> VarInt {
        VarInt::from_u32(self as u32)
    }

    /// The meaning of a code from the wire; `None` for one of a later build.
    pub(super) fn from_wire(code: VarInt) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.on_wire() == code)
    }

    /// Whether nothing that this side began on the connection can have reached the other side's rooms.
    pub(super) const fn nothing_was_begun(self) -> bool {
        matches!(self, Self::Unused | Self::Spare)
    }
}

/// Why a stream was reset or is not read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum StreamCode {
    /// The side that reset it gave up; also what a dropped stream says.
    Given = 0,
    /// The first byte names no kind of stream that this build knows, or one that goes the other way.
    UnknownKind = 1,
    /// As many streams of this kind are open as this node takes, or its queue is full.
    Busy = 2,
    /// The peer opens streams of this kind faster than it may.
    TooOften = 3,
    /// A frame is longer than its kind allows.
    TooLong = 4,
    /// The bytes are not what the kind carries.
    Malformed = 5,
    /// A deadline passed.
    TooSlow = 6,
    /// The node stops.
    Stopping = 7,
    /// The peer may not open streams of this kind.
    Forbidden = 8,
}

impl StreamCode {
    const ALL: [Self; 9] = [
        Self::Given,
        Self::UnknownKind,
        Self::Busy,
        Self::TooOften,
        Self::TooLong,
        Self::Malformed,
        Self::TooSlow,
        Self::Stopping,
        Self::Forbidden,
    ];

    /// The code that goes on the wire.
    pub(super) const fn on_wire(self) -> VarInt {
        VarInt::from_u32(self as u32)
    }

    /// The meaning of a code from the wire; one of a later build counts as [`Self::Given`].
    pub(super) fn from_wire(code: VarInt) -> Self {
        Self::ALL
            .into_iter()
            .find(|known| known.on_wire() == code)
            .unwrap_or(Self::Given)
    }
}

impl fmt::Display for StreamCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Given => "it gave the stream up",
            Self::UnknownKind => "it does not know this kind of stream",
            Self::Busy => "it has too many streams of this kind under way",
            Self::TooOften => "streams of this kind were opened too often",
            Self::TooLong => "a frame was longer than allowed",
            Self::Malformed => "it could not read what was sent",
            Self::TooSlow => "it waited too long",
            Self::Stopping => "it is stopping",
            Self::Forbidden => "this node may not open streams of this kind",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_survive_the_wire() {
        for code in CloseCode::ALL {
            assert_eq!(CloseCode::from_wire(code.on_wire()), Some(code));
        }
        for code in StreamCode::ALL {
            assert_eq!(StreamCode::from_wire(code.on_wire()), code);
        }
        assert_eq!(CloseCode::from_wire(VarInt::from_u32(4000)), None);
        assert_eq!(
            StreamCode::from_wire(VarInt::from_u32(4000)),
            StreamCode::Given
        );
    }

    #[test]
    fn only_unused_connections_promise_that_nothing_was_begun() {
        let safe: Vec<CloseCode> = CloseCode::ALL
            .into_iter()
            .filter(|code| code.nothing_was_begun())
            .collect();
        assert_eq!(safe, [CloseCode::Unused, CloseCode::Spare]);
    }
}
