//! A task on this node, as pure decisions: what container it is, what comes next, and whether it is healthy.
//!
//! | file | decides |
//! |---|---|
//! | [`plan`] | the container that a spec and an image make |
//! | [`machine`] | the one next action, of what is kept and what is seen |
//! | [`health`] | when a container is asked, and what the answers mean |
//! | [`isolation`] | when a task is to stop because its node is cut off |
//! | [`kept`] | what the ledger keeps of a task |
//!
//! Nothing here touches a clock, a disk or a container: that is the runner's work ([`super::runner`]).

pub mod health;
pub mod isolation;
pub mod kept;
pub mod machine;
pub mod plan;
