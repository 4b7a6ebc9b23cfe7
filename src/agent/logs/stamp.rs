//! Time as text, the way Go's `RFC3339Nano` writes it: UTC, nanoseconds without trailing zeros.
//!
//! The logger writes one for each line, so the part down to the second is kept from line to line.

use crate::model::Timestamp;

/// Writes times. Remembers the last second.
#[derive(Debug, Default)]
pub(super) struct Stamp {
    second: Option<i64>,
    /// `2026-11-23T10:29:37`
    text: String,
}

impl Stamp {
    /// Appends `at` to `out`.
    pub(super) fn write(&mut self, at: Timestamp, out: &mut Vec<u8>) {
        let second = at.secs();
        if self.second != Some(second) {
            let whole = Timestamp::from_nanos(i128::from(second) * 1_000_000_000);
            self.text = whole.to_string();
            self.text.pop();
            self.second = Some(second);
        }
        out.extend_from_slice(self.text.as_bytes());
        let mut nanos = at.nanos().rem_euclid(1_000_000_000) as u32;
        if nanos != 0 {
            let mut digits = *b".000000000";
            let mut used = 1;
            for place in (1..digits.len()).rev() {
                let digit = (nanos % 10) as u8;
                digits[place] += digit;
                nanos /= 10;
                if used == 1 && digit != 0 {
                    used = place + 1;
                }
            }
            out.extend_from_slice(&digits[..used]);
        }
        out.push(b'Z');
    }
}

/// The time that `text` says, in any zone; `None` when it is none.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let time: jiff::Timestamp = text.parse().ok()?;
    Some(Timestamp::from_nanos(time.as_nanosecond()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(stamp: &mut Stamp, nanos: i128) -> String {
        let mut out = Vec::new();
        stamp.write(Timestamp::from_nanos(nanos), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn zeros_at_the_end_are_left_out() {
        let mut stamp = Stamp::default();
        let second = 1_700_000_000_000_000_000;
        for (nanos, expected) in [
            (0, "2023-11-14T22:13:20Z"),
            (1, "2023-11-14T22:13:20.000000001Z"),
            (120_000_000, "2023-11-14T22:13:20.12Z"),
            (999_999_999, "2023-11-14T22:13:20.999999999Z"),
            (1_000_000_000, "2023-11-14T22:13:21Z"),
            (-1, "2023-11-14T22:13:19.999999999Z"),
        ] {
            assert_eq!(text(&mut stamp, second + nanos), expected);
        }
    }

    proptest! {
        #[test]
        fn times_round_trip(times in prop::collection::vec(0_i64..4_000_000_000_000_000_000, 1..5)) {
            let mut stamp = Stamp::default();
            for time in times {
                let text = text(&mut stamp, i128::from(time));
                prop_assert_eq!(parse(&text), Some(Timestamp::from_nanos(i128::from(time))));
            }
        }
    }
}
