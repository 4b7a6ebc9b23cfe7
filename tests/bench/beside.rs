//! Figures of ours and of Docker Swarm's in one table, with what one is of the other.

use std::time::Duration;

use serde_json::Value;

use crate::chart::{Figure, Goal};
use crate::report::Report;
use crate::swarm::Peer;

/// What Swarm's harness measured, or why it did not.
pub(crate) struct Beside(Result<(String, Vec<Value>), String>);

impl Beside {
    /// Runs a part of the harness.
    pub(crate) fn run(arguments: &[&str], deadline: Duration) -> Self {
        Self(Peer::find().and_then(|peer| {
            let lines = peer.run(arguments, deadline)?;
            Ok((peer.version, lines))
        }))
    }

    /// A field of those lines for which `is_it` holds, times `factor`.
    pub(crate) fn times(
        &self,
        is_it: impl Fn(&Value) -> bool,
        field: &str,
        factor: f64,
    ) -> Vec<f64> {
        let lines = self.0.iter().flat_map(|(_, lines)| lines);
        let lines = lines.filter(|line| is_it(line));
        let found = lines.filter_map(|line| line[field].as_f64());
        found.map(|value| value * factor).collect()
    }

    /// Says which Swarm it was, or why there was none.
    pub(crate) fn note(&self, report: &mut Report) {
        report.note(match &self.0 {
            Ok((version, _)) => format!("Swarm is {version}, measured just before"),
            Err(reason) => format!("without Docker Swarm beside it: {reason}"),
        });
    }
}

/// Adds ours, and where there are theirs those and the ratio of the medians, which is to be at most `most`.
pub(crate) fn compare(
    report: &mut Report,
    what: &str,
    unit: &'static str,
    ours: Vec<f64>,
    theirs: Vec<f64>,
    most: Option<f64>,
) {
    let ours = Figure::samples(what, unit, ours);
    let median = ours.percentile(50);
    report.add(ours);
    if theirs.is_empty() {
        return;
    }
    let theirs = Figure::samples(format!("Swarm: {what}"), unit, theirs);
    let ratio = median / theirs.percentile(50);
    report.add(theirs);
    let ratio = Figure::value(format!("ratio: {what}"), "×", ratio);
    report.add(match most {
        Some(most) => ratio.goal(Goal::Most(most)),
        None => ratio,
    });
}
