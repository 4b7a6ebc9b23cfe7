//! The API over real HTTP on a real unix socket, against a node that is made up.

mod abuse;
mod containers;
mod disks;
mod docker;
mod docker_services;
mod events;
pub(crate) mod fake;
pub(crate) mod fake_containers;
mod forward;
mod garbage;
pub(crate) mod http;
mod images;
mod nodes;
mod objects;
mod objects_world;
mod services;
mod stacks;
mod swarm;
mod system;
mod tasks;
mod volumes;
mod whole;
mod work;
mod world;
