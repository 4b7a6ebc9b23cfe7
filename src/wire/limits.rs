//! How much of everything: each bound on what a peer may make this node do or keep.

use std::time::Duration;

/// Longest [`Hello`](super::hello::Hello) frame.
pub const HELLO_FRAME: usize = 16 << 10;

/// Longest gossip message: chitchat's own limit, a UDP payload.
pub const GOSSIP_MESSAGE: usize = 65_507;

/// Longest raft frame: a snapshot chunk or a batch of entries.
pub const RAFT_FRAME: usize = 16 << 20;

/// Longest session frame.
pub const SESSION_FRAME: usize = 4 << 20;

/// Longest control frame: a spec is at most a few MiB.
pub const CONTROL_FRAME: usize = 8 << 20;

/// Longest question about content, or its answer: a name and a digest.
pub const CONTENT_FRAME: usize = 16 << 10;

/// Longest join request or reply: two certificates and some words.
pub const JOIN_FRAME: usize = 64 << 10;

/// Streams that a peer may have open at once. quinn allocates for each permitted one.
pub const PEER_STREAMS: u32 = 100;

/// Streams of a connection that only joins.
pub const JOIN_STREAMS: u32 = 1;

/// Handshakes that strangers may have under way at once, over all sources.
pub const HANDSHAKES_IN_FLIGHT: usize = 64;

/// How long a stranger may take from the first packet to its whole request.
pub const JOIN_DEADLINE: Duration = Duration::from_secs(10);

/// Wrong join secrets that one source address may try in [`JOIN_WINDOW`].
pub const JOIN_FAILURES: u32 = 10;

/// The window of [`JOIN_FAILURES`].
pub const JOIN_WINDOW: Duration = Duration::from_secs(60);

/// How long a dial may take, over all addresses of a peer.
pub const DIAL_DEADLINE: Duration = Duration::from_secs(3);

/// How long a control request may wait for the leader's reply.
pub const CONTROL_DEADLINE: Duration = Duration::from_secs(10);

/// An idle connection is closed after this.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection in use is kept alive by a packet this often.
pub const KEEP_ALIVE: Duration = Duration::from_secs(10);
