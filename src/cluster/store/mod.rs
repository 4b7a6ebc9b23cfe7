//! The replicated store: a raft log on disk and the state that it makes.
