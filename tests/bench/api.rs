//! What Docker's API costs on a cluster: lists, inspects, creates, executions from afar and the output of many tasks,
//! measured: a table for people and JSON lines for machines.
//!
//! Run by `scripts/bench api`. Nothing here passes or fails by time: a figure that misses its goal is shown as such and
//! the program still ends well; it fails only when something could not be measured.

mod args;
mod beside;
#[allow(dead_code, reason = "the peers' figures use the rest")]
mod chart;
#[allow(dead_code, reason = "the peers' figures use the rest")]
mod client;
mod creates;
#[allow(dead_code, reason = "the peers' figures use the rest")]
mod fleet;
mod lists;
#[allow(dead_code, reason = "the peers' figures use the rest")]
mod machine;
mod output;
mod reach;
mod report;
mod suite;
#[allow(dead_code, reason = "the peers' figures use the rest")]
mod swarm;
#[allow(dead_code, reason = "the peers' figures use the rest")]
mod watch;

/// The fixtures of the end-to-end tests, of which not all is of use here.
#[allow(dead_code, reason = "the end-to-end tests use the rest")]
#[path = "../e2e/bed.rs"]
mod bed;
#[allow(dead_code, reason = "the end-to-end tests use the rest")]
#[path = "../e2e/crew.rs"]
mod crew;
#[allow(dead_code, reason = "the end-to-end tests use the rest")]
#[path = "../e2e/http.rs"]
mod http;
#[expect(
    clippy::unwrap_used,
    reason = "a measurement without its image has failed"
)]
#[path = "../agent/image.rs"]
mod image;
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
        target: "api",
        title: "API",
        measurements: &[
            ("lists", lists::measure),
            ("creates", creates::measure),
            ("reach", reach::measure),
            ("output", output::measure),
        ],
    };
    suite.run(std::env::args().skip(1))
}
