//! The histogram that openraft counts the sizes of its batches with, in a few hundred bytes.
//!
//! openraft builds some of them for each node whether anybody reads them or not, and the published crate of this name
//! computes 27 MB of tables, for precisions that nobody asks for, when it builds the first: more than all the rest of
//! an idle node. This one takes its place (`[patch.crates-io]`). It has what openraft calls, and counts by the number
//! of bits of a value: a percentile is right to a factor of two. When a release of the published crate makes only the
//! table that is asked for, this folder can go.

use std::fmt;
use std::marker::PhantomData;

/// Values of each length in bits, 0 to 64.
const BUCKETS: usize = 65;

/// Counts values. `T` is data of time slots, of which openraft has none.
#[derive(Clone, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: Box<[u64; BUCKETS]>,
    slots: PhantomData<T>,
}

impl<T> Histogram<T> {
    /// One that has counted nothing.
    pub fn new() -> Self {
        Self {
            counts: Box::new([0; BUCKETS]),
            slots: PhantomData,
        }
    }

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts a value `count` times.
    pub fn record_n(&mut self, value: u64, count: u64) {
        let bucket = &mut self.counts[(u64::BITS - value.leading_zeros()) as usize];
        *bucket = bucket.saturating_add(count);
    }

    /// How many values were counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// A value that `share` (0 to 1) of all are not above: the greatest of its length in bits. 0 when there is none.
    pub fn percentile(&self, share: f64) -> u64 {
        let wanted = (self.total() as f64 * share).ceil().max(1.0);
        let mut below = 0.0;
        for (bits, count) in self.counts.iter().enumerate() {
            below += *count as f64;
            if below >= wanted {
                return u64::MAX.checked_shr(u64::BITS - bits as u32).unwrap_or(0);
            }
        }
        0
    }

    /// The percentiles that openraft shows.
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.total(),
            p0_1: self.percentile(0.001),
            p1: self.percentile(0.01),
            p5: self.percentile(0.05),
            p10: self.percentile(0.1),
            p50: self.percentile(0.5),
            p90: self.percentile(0.9),
            p99: self.percentile(0.99),
            p99_9: self.percentile(0.999),
        }
    }
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Histogram<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.percentile_stats(), f)
    }
}

/// Some percentiles of what a [`Histogram`] has counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the percentile that it is named after")]
pub struct PercentileStats {
    /// How many values were counted.
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            samples, p50, p99, ..
        } = self;
        write!(f, "[samples: {samples}, P50: {p50}, P99: {p99}]")
    }
}

/// Named histograms, shown one a line.
#[derive(Clone, Debug)]
pub struct AsciiChart<T = ()>(Vec<(String, Histogram<T>)>);

impl<T> AsciiChart<T> {
    /// One that shows nothing.
    pub fn new() -> Self {
        Self(Vec::new())
    }

    /// With one more.
    #[must_use]
    pub fn add(mut self, name: &str, histogram: Histogram<T>) -> Self {
        self.0.push((name.to_owned(), histogram));
        self
    }

    /// How it is shown.
    pub fn compact(&self) -> &Self {
        self
    }

    /// How it is shown.
    pub fn detailed(&self) -> &Self {
        self
    }
}

impl<T> Default for AsciiChart<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Display for AsciiChart<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = self.0.iter();
        lines.try_for_each(|(name, histogram)| {
            writeln!(f, "{name} {}", histogram.percentile_stats())
        })
    }
}
