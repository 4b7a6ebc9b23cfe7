//! When a node asks for its next certificate. Pure: times and a random number in, a time out.

use std::time::Duration;

use super::ca::BACKDATING;
use crate::model::Timestamp;

/// Earliest point of renewal, as a part of the certificate's life.
const EARLIEST: f64 = 0.5;

/// Latest point of renewal, as a part of the certificate's life.
const LATEST: f64 = 0.8;

/// When to renew a certificate of this validity: at a random point between 50 and 80 % of its life, so that nodes that
/// joined together do not all ask together.
///
/// `random` lies in `0..1`; what is outside is clamped. Life is counted from the issue, an hour after `not_before`,
/// else a certificate of the shortest permitted life (one hour) would be due as soon as it is issued.
pub fn renew_at(not_before: Timestamp, not_after: Timestamp, random: f64) -> Timestamp {
    let issued = not_before.after(BACKDATING);
    let start = if issued < not_after {
        issued
    } else {
        not_before
    };
    let random = if random.is_nan() {
        0.0
    } else {
        random.clamp(0.0, 1.0)
    };
    let life = not_after.since(start);
    let wait = life.as_secs_f64() * (EARLIEST + (LATEST - EARLIEST) * random);
    start.after(Duration::from_secs_f64(wait))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: i128 = 3_600_000_000_000;

    proptest! {
        #[test]
        fn the_point_lies_between_half_and_four_fifths_of_the_life(
            issued in 0i128..4_000_000_000, hours in 1i128..100_000, random in 0.0f64..=1.0
        ) {
            let issued = Timestamp::from_nanos(issued * 1_000_000_000);
            let not_before = Timestamp::from_nanos(issued.nanos() - HOUR);
            let not_after = Timestamp::from_nanos(issued.nanos() + hours * HOUR);
            let at = renew_at(not_before, not_after, random).nanos() - issued.nanos();
            // A microsecond for the floating point.
            prop_assert!(at >= hours * HOUR / 2 - 1000, "{at}");
            prop_assert!(at <= hours * HOUR * 4 / 5 + 1000, "{at}");
        }

        #[test]
        fn no_numbers_panic(a: i64, b: i64, random: f64) {
            let (a, b) = (Timestamp::from_nanos(a.into()), Timestamp::from_nanos(b.into()));
            let _ = renew_at(a, b, random);
        }
    }

    #[test]
    fn the_random_number_spreads_the_point() {
        let not_before = Timestamp::from_nanos(0);
        let not_after = Timestamp::from_nanos(91 * HOUR);
        let hours = |random| (renew_at(not_before, not_after, random).nanos() + 1000) / HOUR;
        assert_eq!((hours(0.0), hours(0.5), hours(1.0)), (46, 59, 73));
        assert_eq!(hours(f64::NAN), 46);
    }
}
