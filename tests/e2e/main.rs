//! The shipped program end to end: real hosts out of namespaces, real sockets and disks, the real docker command.
//!
//! One binary. Each test has a [`bed`] of its own, made by `scripts/cluster` as a user would make it, and sees the
//! program only from outside: its command line, its API socket, its files and its log. Where the machine does not
//! allow it, a test says so on standard error and ends.

mod bed;
mod cli_table;
mod clients;
mod cluster;
mod containers;
mod crew;
mod daemon;
mod digests;
mod docker_run;
mod doors;
mod engine;
mod faults;
mod fence;
mod http;
mod identity;
#[expect(clippy::unwrap_used, reason = "a test without its image has failed")]
#[path = "../agent/image.rs"]
mod image;
mod images;
mod join;
mod native;
mod network;
mod node;
mod objects;
mod quorum;
mod readme;
mod rebalance;
mod refusals;
mod resources;
mod run;
mod sdk;
mod services;
mod stacks;
mod updates;
mod view;
mod volumes;
mod wait;
mod writes;
