//! Figures: what was measured, how often, what it should be, and whether it is.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

/// What a figure should be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// The median, or the only value, is at most this.
    Median(f64),
    /// 99 in 100 are at most this.
    P99(f64),
    /// None is above this.
    Most(f64),
    /// The median, or the only value, is at least this.
    Least(f64),
}

/// Samples of one quantity.
#[derive(Debug)]
pub(crate) struct Figure {
    /// What, in words.
    pub(crate) what: String,
    /// Of what.
    pub(crate) unit: &'static str,
    /// Ascending.
    samples: Vec<f64>,
    /// What it should be, if anything was said of that.
    pub(crate) goal: Option<Goal>,
}

impl Figure {
    /// Times, in milliseconds.
    pub(crate) fn times(what: impl Into<String>, spans: &[Duration]) -> Self {
        let samples = spans.iter().map(|span| span.as_secs_f64() * 1e3).collect();
        Self::samples(what, "ms", samples)
    }

    /// Any samples.
    pub(crate) fn samples(
        what: impl Into<String>,
        unit: &'static str,
        mut samples: Vec<f64>,
    ) -> Self {
        samples.sort_by(f64::total_cmp);
        Self {
            what: what.into(),
            unit,
            samples,
            goal: None,
        }
    }

    /// One number.
    pub(crate) fn value(what: impl Into<String>, unit: &'static str, value: f64) -> Self {
        Self::samples(what, unit, vec![value])
    }

    /// The same with a goal.
    pub(crate) fn goal(self, goal: Goal) -> Self {
        Self {
            goal: Some(goal),
            ..self
        }
    }

    /// The sample that so many in a hundred do not exceed; not a number when there are none.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.samples.len() * percent).div_ceil(100).max(1);
        self.samples.get(rank - 1).copied().unwrap_or(f64::NAN)
    }

    /// Whether it is what it should be; `None` without a goal. Nothing measured is no success.
    pub(crate) fn is_met(&self) -> Option<bool> {
        let most = self.percentile(100);
        self.goal.map(|goal| match goal {
            Goal::Median(limit) => self.percentile(50) <= limit,
            Goal::P99(limit) => self.percentile(99) <= limit,
            Goal::Most(limit) => most <= limit,
            Goal::Least(limit) => self.percentile(50) >= limit,
        })
    }

    /// One row of the table.
    pub(crate) fn row(&self) -> String {
        let many = self.samples.len() > 1;
        let cell = |percent| match many {
            true => number(self.percentile(percent)),
            false => String::new(),
        };
        let goal = self.goal.map(|goal| goal.to_string()).unwrap_or_default();
        let met = match self.is_met() {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "",
        };
        format!(
            "| {} | {} | {} | {} | {} | {} | {goal} | {met} |",
            self.what,
            self.unit,
            self.samples.len(),
            number(self.percentile(50)),
            cell(99),
            cell(100),
        )
    }

    /// The same for machines, with every sample.
    pub(crate) fn json(&self) -> Value {
        json!({
            "what": self.what,
            "unit": self.unit,
            "n": self.samples.len(),
            "p50": self.percentile(50),
            "p99": self.percentile(99),
            "max": self.percentile(100),
            "goal": self.goal.map(|goal| goal.to_string()),
            "met": self.is_met(),
            "samples": self.samples,
        })
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Median(limit) => write!(f, "p50 ≤ {}", number(*limit)),
            Self::P99(limit) => write!(f, "p99 ≤ {}", number(*limit)),
            Self::Most(limit) => write!(f, "≤ {}", number(*limit)),
            Self::Least(limit) => write!(f, "≥ {}", number(*limit)),
        }
    }
}

/// Three digits, or all of those before the point.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
