//! What becomes of a task whose node is cut off from the cluster, by the label `skein.isolation` of its service.
//!
//! Without it a task runs on: a node that lost its leader is most often right to go on working. With
//! `skein.isolation=stop:30s` it is stopped once the node has had no session for so long, because for some services two
//! of a kind are worse than none. Only says when; the runner's desk keeps the time and stops the task.

use std::collections::BTreeMap;
use std::time::Duration;

/// The label.
pub const LABEL: &str = "skein.isolation";

/// What a task is told that was stopped for this.
pub const WORDS: &str =
    "the node was cut off from the cluster for longer than skein.isolation allows";

/// How long a node may be cut off until tasks with these labels of their service are to stop; `None` is for ever, which
/// is also so where the label says something that nobody understands.
pub fn patience(labels: &BTreeMap<String, String>) -> Option<Duration> {
    labels
        .get(LABEL)?
        .trim()
        .strip_prefix("stop:")
        .and_then(span)
}

/// A span of time as Go writes it: `90s`, `1m30s`, `1.5h`.
fn span(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut sum = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|one: char| !(one.is_ascii_digit() || one == '.'))?;
        let (number, behind) = rest.split_at(digits);
        let end = behind.find(|one: char| one.is_ascii_digit() || one == '.');
        let (unit, next) = behind.split_at(end.unwrap_or(behind.len()));
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let number: f64 = number.parse().ok()?;
        sum = sum.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = next;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(value: &str) -> Option<Duration> {
        patience(&[(LABEL.to_owned(), value.to_owned())].into())
    }

    #[test]
    fn a_label_says_how_long() {
        for (value, millis) in [
            ("stop:30s", 30_000),
            ("stop:1m30s", 90_000),
            ("stop:1.5h", 5_400_000),
            ("stop:250ms", 250),
            (" stop:0s ", 0),
        ] {
            assert_eq!(told(value), Some(Duration::from_millis(millis)), "{value}");
        }
    }

    #[test]
    fn without_words_that_are_understood_a_task_runs_on() {
        for value in [
            "",
            "run",
            "stop",
            "stop:",
            "stop:30",
            "stop:s",
            "stop:-3s",
            "stop:3y",
            "stop:1..2s",
            "stop:99999999999999999999h",
        ] {
            assert_eq!(told(value), None, "{value}");
        }
        assert_eq!(patience(&BTreeMap::new()), None);
    }
}
