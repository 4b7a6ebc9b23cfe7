//! The API over real HTTP on a real unix socket, against a node that is made up.

mod docker;
mod events;
pub(crate) mod fake;
mod forward;
mod garbage;
pub(crate) mod http;
mod nodes;
mod swarm;
mod system;
mod world;
