//! The measurements of one benchmark: which are asked for, one after another, into one report.
//!
//! Each benchmark's `main` is a list of them. A measurement that fails is told in the report and ends no other.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use crate::args::Options;
use crate::report::{self, Report};

/// A measurement: writes its figures into the report, or says why it has none.
pub(crate) type Measurement = fn(&Options, &mut Report) -> Result<(), String>;

/// All measurements of a benchmark.
pub(crate) struct Suite {
    /// What `scripts/bench` calls it.
    pub(crate) target: &'static str,
    /// What the report calls it.
    pub(crate) title: &'static str,
    /// In the order in which they run.
    pub(crate) measurements: &'static [(&'static str, Measurement)],
}

impl Suite {
    /// Measures what the arguments ask for.
    pub(crate) fn run(&self, arguments: impl Iterator<Item = String>) -> ExitCode {
        let names: Vec<&str> = self.measurements.iter().map(|(name, _)| *name).collect();
        let usage = |words: String| report::usage(self.target, &words, &names);
        let options = match Options::parse(arguments, &names) {
            Ok(options) => options,
            Err(words) => return usage(words),
        };
        let mut report = match Report::new(self.title, options.json.as_deref()) {
            Ok(report) => report,
            Err(words) => return usage(words),
        };
        report.opening(options.quick);
        for (name, measure) in self.measurements {
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
}

/// What a fixture complained of: it speaks by panicking, as a test may.
fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("it panicked without words").to_owned()
}
