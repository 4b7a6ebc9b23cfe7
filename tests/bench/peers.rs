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
mod machine;
mod quic;
mod report;
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

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use args::Options;
use report::Report;

/// A measurement: writes its figures into the report, or says why it has none.
type Measurement = fn(&Options, &mut Report) -> Result<(), String>;

/// All of them, in the order in which they run.
const MEASUREMENTS: [(&str, Measurement); 8] = [
    ("join", join::measure),
    ("failover", failover::measure),
    ("death", death::measure),
    ("falsedeath", falsedeath::measure),
    ("attrition", attrition::measure),
    ("writes", writes::measure),
    ("gossip", gossip::measure),
    ("idle", idle::measure),
];

fn main() -> ExitCode {
    let names = MEASUREMENTS.map(|(name, _)| name);
    let options = match Options::parse(std::env::args().skip(1), &names) {
        Ok(options) => options,
        Err(words) => return report::usage(&words, &names),
    };
    let mut report = match Report::new(options.json.as_deref()) {
        Ok(report) => report,
        Err(words) => return report::usage(&words, &names),
    };
    report.opening(options.quick);
    for (name, measure) in MEASUREMENTS {
        if !options.wants(name) {
            continue;
        }
        report.begin(name);
        let outcome = catch_unwind(AssertUnwindSafe(|| measure(&options, &mut report)));
        report.end(match outcome {
            Ok(outcome) => outcome,
            Err(panic) => Err(words_of(&*panic)),
        });
    }
    report.close()
}

/// What a fixture complained of: it speaks by panicking, as a test may.
fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("it panicked without words").to_owned()
}
