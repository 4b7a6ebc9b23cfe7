//! What a cluster of peers can do, measured: a table for people and JSON lines for machines.
//!
//! Run by `scripts/bench peers`. Nothing here passes or fails by time: a figure that misses its goal is shown as such
//! and the program still ends well; it fails only when something could not be measured. Hosts are made as the
//! end-to-end tests make them, out of the same files; some figures come from nodes inside this process, and say so.

mod args;
mod attrition;
mod chart;
mod client;
mod death;
mod failover;
mod falsedeath;
mod fleet;
mod gossip;
mod idle;
mod join;
#[allow(dead_code, reason = "the figures of services use the rest")]
mod machine;
mod quic;
mod report;
mod suite;
mod swarm;
mod watch;
mod writes;

/// The fixtures of the end-to-end tests, of which not all is of use here.
#[allow(dead_code, reason = "the end-to-end tests use the rest")]
#[path = "../e2e/bed.rs"]
mod bed;
#[allow(dead_code, reason = "the end-to-end tests use the rest")]
#[path = "../e2e/http.rs"]
mod http;
#[allow(dead_code, reason = "the end-to-end tests use the rest")]
#[path = "../e2e/run.rs"]
mod run;
#[allow(dead_code, reason = "the end-to-end tests use the rest")]
#[path = "../e2e/view.rs"]
mod view;
#[allow(dead_code, reason = "the end-to-end tests use the rest")]
#[path = "../e2e/wait.rs"]
mod wait;

use std::process::ExitCode;

use suite::Suite;

fn main() -> ExitCode {
    let suite = Suite {
        target: "peers",
        title: "Peers",
        measurements: &[
            ("join", join::measure),
            ("failover", failover::measure),
            ("death", death::measure),
            ("falsedeath", falsedeath::measure),
            ("attrition", attrition::measure),
            ("writes", writes::measure),
            ("gossip", gossip::measure),
            ("idle", idle::measure),
        ],
    };
    suite.run(std::env::args().skip(1))
}
