//! Times and sizes in Docker's words. Pure.

use jiff::Timestamp;

/// A span as docker says it: `About a minute`, `3 hours`, `2 weeks`.
pub(super) fn span(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match (seconds, minutes, hours) {
        (..1, ..) => "Less than a second".into(),
        (1, ..) => "1 second".into(),
        (..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".into(),
        (_, ..60, _) => format!("{minutes} minutes"),
        _ if (seconds + 1800) / 3600 == 1 => "About an hour".into(),
        _ => match (seconds + 1800) / 3600 {
            hours @ ..48 => format!("{hours} hours"),
            hours @ ..336 => format!("{} days", hours / 24),
            hours @ ..1440 => format!("{} weeks", hours / 24 / 7),
            hours @ ..17520 => format!("{} months", hours / 24 / 30),
            hours => format!("{} years", hours / 24 / 365),
        },
    }
}

/// `3 hours ago` for a time as the API writes it, in Unix seconds or RFC 3339; empty when it is none.
pub(super) fn ago(then: &str, now: i64) -> String {
    seconds_of(then).map_or_else(String::new, |then| format!("{} ago", span(now - then)))
}

/// Unix seconds of a time as the API writes it; `None` for none and for Go's zero time.
pub(super) fn seconds_of(text: &str) -> Option<i64> {
    let parsed: Timestamp = text.parse().ok()?;
    let seconds = parsed.as_second();
    (seconds > -62_000_000_000).then_some(seconds)
}

/// Unix seconds as `2026-01-02 03:04:05 +0000 UTC`.
pub(super) fn date(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(
        |_| String::new(),
        |time| time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
    )
}

/// Bytes in thousands: `1.23MB`.
pub(super) fn decimal(bytes: f64) -> String {
    size(bytes, 1000.0, 3, &["B", "kB", "MB", "GB", "TB", "PB"])
}

/// Bytes in thousands, a digit finer: `1.234MB`.
pub(super) fn fine(bytes: f64) -> String {
    size(bytes, 1000.0, 4, &["B", "kB", "MB", "GB", "TB", "PB"])
}

/// Bytes in powers of two: `1.5GiB`.
pub(super) fn binary(bytes: f64) -> String {
    size(bytes, 1024.0, 4, &["B", "KiB", "MiB", "GiB", "TiB", "PiB"])
}

/// Go's `%.{digits}g` with a unit.
fn size(bytes: f64, base: f64, digits: usize, units: &[&str]) -> String {
    let (mut value, mut unit) = (bytes.max(0.0), 0);
    while value >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    let whole = if value < 1.0 {
        1
    } else {
        value.log10() as usize + 1
    };
    let text = format!("{value:.*}", digits.saturating_sub(whole));
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{text}{}", units[unit])
}

/// The first twelve characters of an ID, without `sha256:`.
pub(super) fn short(id: &str) -> &str {
    let id = id.strip_prefix("sha256:").unwrap_or(id);
    id.get(..12).unwrap_or(id)
}

/// The text, or its beginning and `…` when it is longer than `width`.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut kept: String = text.chars().take(width.saturating_sub(1)).collect();
    kept.push('…');
    kept
}

/// With its first letter in upper case.
pub(super) fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars
        .next()
        .map(|first| first.to_uppercase().chain(chars).collect())
        .unwrap_or_default()
}

/// A name as docker sorts it: numbers in it count as numbers.
pub(super) fn natural(name: &str) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let letters = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (word, after) = rest.split_at(letters);
        let digits = after
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(after.len());
        let (number, after) = after.split_at(digits);
        parts.push((word.to_owned(), number.parse().unwrap_or_default()));
        rest = after;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_dockers() {
        for (seconds, words) in [
            (-3, "Less than a second"),
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (150, "2 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (47 * 3600, "47 hours"),
            (72 * 3600, "3 days"),
            (15 * 86_400, "2 weeks"),
            (90 * 86_400, "3 months"),
            (800 * 86_400, "2 years"),
        ] {
            assert_eq!(span(seconds), words, "{seconds}");
        }
        assert_eq!(ago("1970-01-01T00:00:10.5Z", 70), "About a minute ago");
        assert_eq!(ago("0001-01-01T00:00:00Z", 70), "");
        assert_eq!(date(0), "1970-01-01 00:00:00 +0000 UTC");
    }

    #[test]
    fn sizes_are_dockers() {
        for (bytes, thousands, twos) in [
            (0.0, "0B", "0B"),
            (999.0, "999B", "999B"),
            (1500.0, "1.5kB", "1.465KiB"),
            (1_234_567.0, "1.23MB", "1.177MiB"),
            (1_073_741_824.0, "1.07GB", "1GiB"),
            (123_456_789.0, "123MB", "117.7MiB"),
        ] {
            assert_eq!(
                (decimal(bytes).as_str(), binary(bytes).as_str()),
                (thousands, twos)
            );
        }
    }

    #[test]
    fn totals_have_a_digit_more() {
        assert_eq!(
            (fine(2_048_123.0).as_str(), fine(1500.0).as_str()),
            ("2.048MB", "1.5kB")
        );
    }

    #[test]
    fn words_are_cut_and_sorted() {
        assert_eq!(short("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!((short("ü"), capital("ready").as_str()), ("ü", "Ready"));
        assert_eq!(
            (cut("abc", 3), cut("äöüx", 3)),
            ("abc".into(), "äö…".into())
        );
        let mut names = ["node10", "node2", "a", "node1"];
        names.sort_by_key(|name| natural(name));
        assert_eq!(names, ["a", "node1", "node2", "node10"]);
    }
}
