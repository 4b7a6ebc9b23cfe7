//! What a logger takes: lines a second, CPU time and memory. `cargo bench --bench logger [lines]`.
//!
//! Prints figures and asserts only that nothing was lost. The writer is this program, through a pipe, as a container.
#![expect(clippy::print_stdout, reason = "a benchmark prints")]

#[path = "../logs/shim.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod shim;

use std::fs;
use std::io::Write as _;
use std::time::Instant;

use skein::agent::logs::{Driver, log_path};

const LINE: &[u8] =
    b"a line of about the length that programs write: 2026-11-23 level=info status=ok\n";

fn main() {
    let lines = std::env::args().find_map(|argument| argument.parse().ok());
    let lines: u64 = lines.unwrap_or(1_000_000);
    for (driver, together) in [
        (Driver::JsonFile, 1),
        (Driver::JsonFile, 50),
        (Driver::Local, 1),
        (Driver::Local, 50),
        (Driver::None, 50),
    ] {
        let mut container = shim::Container::start(driver.name(), &[("compress", "false")]);
        let chunk = LINE.repeat(together);
        let begun = Instant::now();
        for _ in 0..lines / together as u64 {
            container
                .stdout()
                .write_all(&chunk)
                .expect("the logger reads");
        }
        let wrote = begun.elapsed();
        let private = container.private_kib();
        container.close();
        let took = begun.elapsed();
        let kept = log_path(&container.dir, driver)
            .map(|path| fs::metadata(path).expect("there is a log").len());
        let rate = lines as f64 / took.as_secs_f64();
        println!(
            "{:10} {together:3} lines a write: {rate:9.0} lines/s, written in {wrote:.2?}, private {private} KiB, \
             file {} MB",
            driver.name(),
            kept.unwrap_or(0) >> 20,
        );
        if driver == Driver::JsonFile {
            let path = log_path(&container.dir, driver).expect("it has a file");
            let text = fs::read(path).expect("it can be read");
            let kept = text.iter().filter(|byte| **byte == b'\n').count() as u64;
            assert_eq!(
                kept,
                lines / together as u64 * together as u64,
                "nothing is lost"
            );
        }
    }
}
