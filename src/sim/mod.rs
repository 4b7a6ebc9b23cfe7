//! The simulated cluster: real cores, a virtual clock, and everything around them made to fail by seed.
//!
//! | real | simulated |
//! |---|---|
//! | the store: openraft, redb, seals, snapshots | disks in memory that lose, tear and delay what is not synced |
//! | the quorum's decisions, the leader's work, admission with real keys and certificates | the network, with sessions, calls and forwarded requests over it |
//! | the agent's session and its search for the leader | gossip and the failure detector, late and sometimes wrong |
//! | the agent's runner, with its ledger's records | containers, images, the ledger's file |
//! | | wall clocks, which go wrong |
//!
//! Not simulated: QUIC and its handshakes (certificates are issued and read here, and nobody checks them on the way),
//! chitchat, the API's HTTP, and the composition root, which [`node`] and [`world`] imitate. A machine that stands
//! still ([`network::Network::pause`]) sends and hears nothing, but its timers run on. A daemon that is killed loses
//! its disk and its network at once; what is left of its tasks ends a moment later, unseen.
//!
//! [`storm`], [`one_by_one`], [`each_step`] and [`lessons`] are what happens; [`invariants`] are what must hold
//! afterwards, one file each, over the [`history`] that everything writes; [`converge`] is what must come true once the
//! faults have ended. [`lying_disks`] does what no cluster survives, to show that it is found.
//!
//! # Seeds
//!
//! A run follows from its seed. Each runs in a process of its own, on one thread: timers are virtual, and all chance,
//! that inside of openraft, tokio and the standard library included, is drawn from the seed ([`entropy`]). Two runs of
//! a seed with the same program write the same history; a test shows it. The order of events follows from the whole
//! program, so a seed means nothing for another version of it. What differs between two runs: signatures and nonces.
//!
//! `SKEIN_SEED=n cargo test --lib sim::` runs one seed, with `RUST_LOG` if it is set; `SKEIN_SEEDS=n` runs so many of
//! each kind, from `SKEIN_FROM` on. `scripts/sim` does that.

mod client;
mod clock;
mod converge;
mod customer;
mod dice;
mod each_step;
mod entropy;
mod faults;
mod gossip;
mod history;
mod host;
mod invariants;
mod keys;
mod lessons;
mod lying_disks;
mod machine;
mod network;
mod node;
mod one_by_one;
mod operator;
mod pipe;
mod record;
mod runner;
mod services;
mod storm;
mod tests;
mod tripwire;
mod work;
mod world;
