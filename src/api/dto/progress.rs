//! Docker's lines of progress: one JSON value each, as pulls, pushes and loads send them.

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use crate::api::backend::images::Line;

/// Width of the bar.
const BAR: usize = 50;

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    stream: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress_detail: Option<Detail>,
    #[serde(skip_serializing_if = "String::is_empty")]
    progress: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_detail: Option<ErrorDetail<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    aux: Option<&'a Value>,
}

#[derive(Serialize)]
struct Detail {
    #[serde(skip_serializing_if = "is_none")]
    current: u64,
    #[serde(skip_serializing_if = "is_none")]
    total: u64,
}

#[derive(Serialize)]
struct ErrorDetail<'a> {
    message: &'a str,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_none(count: &u64) -> bool {
    *count == 0
}

/// A line as it is sent.
pub(in crate::api) fn line(line: &Line) -> Bytes {
    let message = match line {
        Line::Said { id, words } => Message {
            status: words,
            id,
            ..Message::default()
        },
        Line::Layer { id, words, of } => Message {
            status: words,
            id,
            progress_detail: Some(Detail {
                current: of.0,
                total: of.1,
            }),
            progress: bar(of.0, of.1),
            ..Message::default()
        },
        Line::Stream(stream) => Message {
            stream,
            ..Message::default()
        },
        Line::Aux(value) => Message {
            aux: Some(value),
            ..Message::default()
        },
    };
    encode(&message)
}

/// A failure in the middle, as the last line.
pub(in crate::api) fn failure(words: &str) -> Bytes {
    encode(&Message {
        error_detail: Some(ErrorDetail { message: words }),
        error: words,
        ..Message::default()
    })
}

fn encode(message: &Message<'_>) -> Bytes {
    // Texts and numbers alone: there is nothing in it that could not be written.
    let mut text = serde_json::to_vec(message).unwrap_or_default();
    text.extend_from_slice(b"\r\n");
    text.into()
}

/// What a terminal shows: a bar, and the bytes.
fn bar(current: u64, total: u64) -> String {
    if total == 0 {
        return match current {
            0 => String::new(),
            current => format!("{:>8}", human(current)),
        };
    }
    let done = (u128::from(current) * 100 / u128::from(total) / 2) as usize;
    let done = done.min(BAR);
    let bar = format!("[{}>{}] ", "=".repeat(done), " ".repeat(BAR - done));
    match current <= total {
        true => format!("{bar}{:>8}/{}", human(current), human(total)),
        false => format!("{bar}{:>8}", human(current)),
    }
}

/// Bytes as Docker writes them: four digits, powers of a thousand.
fn human(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let (mut size, mut unit) = (bytes as f64, 0);
    while size >= 1000.0 && unit + 1 < UNITS.len() {
        size /= 1000.0;
        unit += 1;
    }
    let decimals = match size {
        size if size >= 999.95 => 0,
        size if size >= 99.995 => 1,
        size if size >= 9.9995 => 2,
        _ => 3,
    };
    let text = format!("{size:.decimals$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{text}{}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_dockers_to_the_byte() {
        let layer = |words: &str, of| Line::Layer {
            id: "0123456789ab".into(),
            words: words.into(),
            of,
        };
        for (given, sent) in [
            (
                Line::Said {
                    id: "latest".into(),
                    words: "Pulling from library/busybox".into(),
                },
                r#"{"status":"Pulling from library/busybox","id":"latest"}"#.to_owned(),
            ),
            (
                layer("Pulling fs layer", (0, 0)),
                r#"{"status":"Pulling fs layer","progressDetail":{},"id":"0123456789ab"}"#.into(),
            ),
            (
                layer("Downloading", (1_500_000, 2_220_094)),
                format!(
                    r#"{{"status":"Downloading","progressDetail":{{"current":1500000,"total":2220094}},"progress":"[{}>{}]    1.5MB/2.22MB","id":"0123456789ab"}}"#,
                    "=".repeat(33),
                    " ".repeat(17)
                ),
            ),
            (
                Line::Stream("Loaded image: a:b\n".into()),
                r#"{"stream":"Loaded image: a:b\n"}"#.into(),
            ),
        ] {
            let text = line(&given);
            assert_eq!(text, format!("{sent}\r\n"));
        }
        assert_eq!(
            failure("no"),
            &b"{\"errorDetail\":{\"message\":\"no\"},\"error\":\"no\"}\r\n"[..]
        );
    }

    #[test]
    fn sizes_have_four_digits() {
        for (bytes, words) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1_234_567, "1.235MB"),
            (123_456_789, "123.5MB"),
            (u64::MAX, "18.45EB"),
        ] {
            assert_eq!(human(bytes), words);
        }
        assert_eq!(bar(0, 0), "");
        assert_eq!(bar(u64::MAX, 1).matches('=').count(), BAR);
    }
}
