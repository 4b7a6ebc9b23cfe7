//! The work of the elected leader.
