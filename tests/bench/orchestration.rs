//! What services cost, from the leader's decisions to real containers, measured: a table for people and JSON lines for
//! machines.
//!
//! Run by `scripts/bench orchestration`. Nothing here passes or fails by time: a figure that misses its goal is shown
//! as such and the program still ends well; it fails only when something could not be measured.

mod allocator;
mod args;
mod beside;
#[allow(dead_code, reason = "the peers' figures use the rest")]
mod chart;
#[allow(dead_code, reason = "the peers' figures use the rest")]
mod client;
mod crowd;
#[allow(dead_code, reason = "the peers' figures use the rest")]
mod fleet;
mod ground;
mod losses;
#[allow(dead_code, reason = "the peers' figures use the rest")]
mod machine;
mod manager;
mod report;
mod rollout;
mod scheduler;
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
    let mut arguments = std::env::args().skip(1).peekable();
    // Silent unless `RUST_LOG` asks for something.
    let words = tracing_subscriber::EnvFilter::from_default_env();
    let log = tracing_subscriber::fmt().with_env_filter(words);
    log.with_writer(std::io::stderr).init();
    if arguments.next_if(|first| first == manager::ROLE).is_some() {
        return manager::main(arguments);
    }
    let suite = Suite {
        target: "orchestration",
        title: "Orchestration",
        measurements: &[
            ("scheduler", scheduler::measure),
            ("manager", manager::measure),
            ("deploy", rollout::deploy),
            ("update", rollout::update),
            ("death", losses::death),
            ("failover", losses::failover),
        ],
    };
    suite.run(arguments)
}
