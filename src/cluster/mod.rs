//! What makes many nodes one: connections, gossip, the replicated store, and who votes.

pub mod frames;
pub mod membership;
pub mod quorum;
pub mod store;
pub mod transport;
