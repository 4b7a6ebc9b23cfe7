//! What the leader's decisions cost, measured: a table for people and JSON lines for machines.
//!
//! Run by `scripts/bench orchestration`. Nothing here passes or fails by time: a figure that misses its goal is shown
//! as such and the program still ends well; it fails only when something could not be measured.

mod allocator;
mod args;
#[allow(dead_code, reason = "the peers' figures use the rest")]
mod chart;
#[allow(dead_code, reason = "the peers' figures use the rest")]
mod machine;
mod report;
mod scheduler;
mod suite;

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
        target: "orchestration",
        title: "Orchestration",
        measurements: &[("scheduler", scheduler::measure)],
    };
    suite.run(std::env::args().skip(1))
}
