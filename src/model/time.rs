//! Points in time as values; who needs "now" is given it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Nanoseconds since the Unix epoch, UTC. Written as RFC 3339 with nanoseconds where people read it.
///
/// The default is Go's zero time, `0001-01-01T00:00:00Z`, which Docker's API shows for "never".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i128);

/// Go's zero time in nanoseconds before the epoch.
const GO_ZERO: i128 = -62_135_596_800 * 1_000_000_000;

impl Default for Timestamp {
    fn default() -> Self {
        Self(GO_ZERO)
    }
}

impl Timestamp {
    /// The time `nanos` nanoseconds after the epoch.
    pub const fn from_nanos(nanos: i128) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the epoch.
    pub const fn nanos(self) -> i128 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down; the nearest that there is for a time beyond all calendars, which a
    /// peer may well name.
    pub const fn secs(self) -> i64 {
        let secs = self.0.div_euclid(1_000_000_000);
        if secs > i64::MAX as i128 {
            i64::MAX
        } else if secs < i64::MIN as i128 {
            i64::MIN
        } else {
            secs as i64
        }
    }

    /// How long after `earlier` this is; zero when it is not, and at most some 584 years.
    pub fn since(self, earlier: Self) -> Duration {
        let nanos = self
            .0
            .saturating_sub(earlier.0)
            .clamp(0, i128::from(u64::MAX));
        Duration::from_nanos(nanos as u64)
    }

    /// This time and `span` more.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span.as_nanos() as i128))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_nanosecond(self.0) {
            Ok(time) => fmt::Display::fmt(&time, f),
            Err(_) => f.write_str("0001-01-01T00:00:00Z"),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
            let time: jiff::Timestamp = text.parse().map_err(serde::de::Error::custom)?;
            Ok(Self(time.as_nanosecond()))
        } else {
            i128::deserialize(deserializer).map(Self)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_gos_zero() {
        assert_eq!(Timestamp::default().to_string(), "0001-01-01T00:00:00Z");
    }

    #[test]
    fn json_keeps_nanoseconds() {
        let time = Timestamp::from_nanos(1_700_000_000_123_456_789);
        let json = serde_json::to_string(&time).unwrap();
        assert_eq!(json, "\"2023-11-14T22:13:20.123456789Z\"");
        assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), time);
    }

    #[test]
    fn times_beyond_all_calendars_do_not_overflow() {
        let (first, last) = (Timestamp(i128::MIN), Timestamp(i128::MAX));
        assert_eq!(last.since(first), Duration::from_nanos(u64::MAX));
        assert_eq!(first.since(last), Duration::ZERO);
        assert_eq!((first.secs(), last.secs()), (i64::MIN, i64::MAX));
        assert_eq!(last.after(Duration::MAX), last);
        assert_eq!(Timestamp(-1).secs(), -1);
    }
}
