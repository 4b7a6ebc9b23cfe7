//! Skein makes Linux machines work as one Docker host.
//!
//! This page is the map of the house; ARCHITECTURE.md walks through it.
//!
//! | room | holds |
//! |---|---|
//! | [`model`] | ids, objects, specs, states: values only |
//! | [`wire`] | frames, codec, messages, versions, limits |
//! | [`identity`] | root, certificates, join tokens, who is let in |
//! | [`cluster`] | transport (quinn), membership (chitchat), store (openraft, redb), quorum |
//! | [`manager`] | the leader's work |
//! | [`agent`] | every node's own work |
//! | [`api`] | Docker's HTTP API on a unix socket |
//! | [`node`] | builds one node out of these and runs it |
//! | [`config`] | how the daemon is to run |
//! | `footprint` | how much of the program's code stays in memory |
//! | [`cli`] | the command line, a client of the socket |
//! | `sim` | test builds only: whole clusters under a virtual clock |
//!
//! Imports point one way: `model ← wire ← identity, cluster ← manager | agent | api ← node ← cli`.

pub mod agent;
pub mod api;
pub mod cli;
pub mod cluster;
pub mod config;
mod footprint;
pub mod identity;
pub mod manager;
pub mod model;
pub mod node;
#[cfg(test)]
mod sim;
pub mod wire;

#[cfg(test)]
mod testing;

// Suites that `tests/` shares with the rooms name this crate from outside.
#[cfg(test)]
extern crate self as skein;
