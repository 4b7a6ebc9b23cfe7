//! Times as `since` and `until` give them. Pure.

use crate::api::backend::Refusal;
use crate::model::Timestamp;

/// Reads `seconds[.nanoseconds]`, RFC 3339, or a span such as `24h` before `now`; empty is `None`.
pub(in crate::api) fn parse_until(
    name: &str,
    text: &str,
    now: Timestamp,
) -> Result<Option<Timestamp>, Refusal> {
    // A span of jiff's may be of many kinds; Go's begins with a number and ends with one of its units.
    let is_span = text.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && text.ends_with(['h', 'm', 's'])
        && !text.contains(' ');
    match text.parse::<jiff::SignedDuration>() {
        Ok(span) if is_span => Ok(Some(Timestamp::from_nanos(now.nanos() - span.as_nanos()))),
        _ => parse_time(name, text),
    }
}

/// Reads `seconds[.nanoseconds]` or RFC 3339; empty is `None`.
pub(in crate::api) fn parse_time(name: &str, text: &str) -> Result<Option<Timestamp>, Refusal> {
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = parse_decimal(text).or_else(|| {
        let time: jiff::Timestamp = text.parse().ok()?;
        Some(time.as_nanosecond())
    });
    match parsed {
        Some(nanos) => Ok(Some(Timestamp::from_nanos(nanos))),
        None => Err(Refusal::invalid(format!(
            "invalid {name} time {text:?}: give Unix seconds, with or without a fraction, or RFC 3339"
        ))),
    }
}

fn parse_decimal(text: &str) -> Option<i128> {
    let (secs, fraction) = text.split_once('.').unwrap_or((text, ""));
    let secs: i64 = secs.parse().ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanos: i128 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    Some(i128::from(secs) * 1_000_000_000 + nanos)
}

/// As [`parse_time`] reads it.
pub(in crate::api) fn decimal(time: Timestamp) -> String {
    let nanos = time.nanos().rem_euclid(1_000_000_000);
    format!("{}.{nanos:09}", time.secs())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_read_as_dockers_client_sends_them() {
        for (text, nanos) in [
            ("0", Some(0)),
            ("1136073600.000000001", Some(1_136_073_600_000_000_001)),
            ("1136073600.5", Some(1_136_073_600_500_000_000)),
            ("1136073600.0000000019", Some(1_136_073_600_000_000_001)),
            ("2006-01-01T00:00:00Z", Some(1_136_073_600_000_000_000)),
            ("2006-01-01T01:00:00+01:00", Some(1_136_073_600_000_000_000)),
            ("yesterday", None),
            ("1.x", None),
            ("1.é", None),
        ] {
            let time = parse_time("since", text);
            assert_eq!(time.ok().flatten().map(Timestamp::nanos), nanos, "{text}");
        }
        assert_eq!(parse_time("since", "").unwrap(), None);
    }

    #[test]
    fn spans_end_now() {
        let now = Timestamp::from_nanos(10_000_000_000_000);
        for (text, secs) in [
            ("24h", Some(10_000 - 86_400)),
            ("1h30m", Some(10_000 - 5_400)),
            ("1.5h", Some(10_000 - 5_400)),
            ("90s", Some(9_910)),
            ("5000", Some(5_000)),
            ("1970-01-01T00:00:10Z", Some(10)),
            ("a week", None),
            ("2h ago", None),
        ] {
            let time = parse_until("until", text, now);
            assert_eq!(time.ok().flatten().map(Timestamp::secs), secs, "{text}");
        }
        assert_eq!(parse_until("until", "", now).unwrap(), None);
    }

    proptest! {
        #[test]
        fn times_round_trip(nanos in any::<i64>()) {
            let time = Timestamp::from_nanos(nanos.into());
            prop_assume!(nanos >= 0);
            prop_assert_eq!(parse_time("since", &decimal(time)).unwrap(), Some(time));
        }

        #[test]
        fn no_time_panics(text: String) {
            let _ = parse_time("until", &text);
            let _ = parse_until("until", &text, Timestamp::from_nanos(0));
        }
    }
}
