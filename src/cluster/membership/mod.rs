//! Who is there: gossip, liveness, and the facts that each node tells of itself.
