//! What containers cost, measured on a real containerd: a table for people and JSON lines for machines.
//!
//! Run by `scripts/bench runtime`. Nothing here passes or fails by time: a figure that misses its goal is shown as such
//! and the program still ends well; it fails only when something could not be measured. The agent is inside this
//! process, or in processes of this program; containerd is a private one, as the tests of containers have.
#![expect(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    clippy::print_stderr,
    reason = "the fixtures of the tests fail where they stand, or say why they do not run"
)]

mod args;
mod assign;
#[allow(dead_code, reason = "the peers' figures use the rest")]
mod chart;
mod lan;
mod life;
#[allow(dead_code, reason = "the peers' figures use the rest")]
mod machine;
mod pull;
#[allow(dead_code, reason = "the peers' figures use the rest")]
mod quic;
mod report;
mod suite;
mod takedown;

/// The fixtures of the containers' tests, of which not all is of use here.
#[allow(dead_code, reason = "the tests of containers use the rest")]
#[path = "../agent/agent.rs"]
mod agent;
#[allow(dead_code, reason = "the tests of containers use the rest")]
#[path = "../agent/bed.rs"]
mod bed;
#[path = "../agent/image.rs"]
mod image;
#[path = "../agent/left.rs"]
mod left;

/// The fixtures of the images' tests.
#[allow(dead_code, reason = "the tests of images use the rest")]
#[path = "../images/make.rs"]
mod make;
#[allow(dead_code, reason = "the tests of images use the rest")]
#[path = "../images/proxy.rs"]
mod proxy;
#[allow(dead_code, reason = "the tests of images use the rest")]
#[path = "../images/wait.rs"]
mod wait;
#[allow(dead_code, reason = "the tests of images use the rest")]
#[path = "../images/world.rs"]
mod world;

use std::process::ExitCode;

use suite::Suite;

fn main() -> ExitCode {
    let begun = std::time::Instant::now();
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|first| first == life::ROLE).is_some() {
        return life::main(begun, arguments);
    }
    // Silent unless `RUST_LOG` asks for something.
    let words = tracing_subscriber::EnvFilter::from_default_env();
    let log = tracing_subscriber::fmt().with_env_filter(words);
    log.with_writer(std::io::stderr).init();
    let suite = Suite {
        target: "runtime",
        title: "Containers",
        measurements: &[
            ("assign", assign::measure),
            ("life", life::measure),
            ("pull", pull::measure),
            ("logger", takedown::measure),
        ],
    };
    suite.run(arguments)
}
