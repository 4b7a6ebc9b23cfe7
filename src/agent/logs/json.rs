//! The records of the `json-file` driver, byte for byte as Docker writes them: one JSON object a line,
//! `{"log":"text\n","stream":"stdout","attrs":{…},"time":"2026-11-23T10:29:37.5Z"}`.
//!
//! Pure. Text is escaped as Go's `encoding/json` does it: `<`, `>`, `&` and the two line separators of Unicode as
//! `\u…`, bytes that are no UTF-8 as U+FFFD, of which the file holds no more.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;

use super::stamp::{self, Stamp};
use super::{LogLine, Origin, Record};

/// Writes records.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    stamp: Stamp,
    /// The object behind `"attrs":`; empty for none.
    attributes: Vec<u8>,
}

impl Encoder {
    /// With what goes along with each line.
    pub(super) fn new(attributes: &BTreeMap<String, String>) -> Self {
        let mut object = Vec::new();
        for (name, value) in attributes {
            object.push(if object.is_empty() { b'{' } else { b',' });
            write_string(&mut object, name.as_bytes(), false);
            object.push(b':');
            write_string(&mut object, value.as_bytes(), false);
        }
        if !object.is_empty() {
            object.push(b'}');
        }
        Self {
            stamp: Stamp::default(),
            attributes: object,
        }
    }

    /// Appends `record` to `out`.
    pub(super) fn encode(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        // Go leaves out a log that is empty, and an empty piece in the middle does not exist.
        out.extend_from_slice(b"{\"log\":");
        write_string(out, record.text, record.ends());
        out.extend_from_slice(b",\"stream\":\"");
        out.extend_from_slice(record.origin.name().as_bytes());
        out.push(b'"');
        if !self.attributes.is_empty() {
            out.extend_from_slice(b",\"attrs\":");
            out.extend_from_slice(&self.attributes);
        }
        out.extend_from_slice(b",\"time\":\"");
        self.stamp.write(record.at, out);
        out.extend_from_slice(b"\"}\n");
    }
}

/// Appends `text`, and a line's end when there is one, as a JSON string.
fn write_string(out: &mut Vec<u8>, text: &[u8], line_end: bool) {
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        write_valid(out, chunk.valid());
        // Go replaces each byte on its own.
        for _ in chunk.invalid() {
            out.extend_from_slice(br"\ufffd");
        }
    }
    if line_end {
        out.extend_from_slice(br"\n");
    }
    out.push(b'"');
}

fn write_valid(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    let mut copied = 0;
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        let separator = byte == 0xe2 && bytes[at + 1] == 0x80 && bytes[at + 2] & 0xfe == 0xa8;
        let plain = byte >= 0x20 && !matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&');
        if plain && !separator {
            at += 1;
            continue;
        }
        out.extend_from_slice(&bytes[copied..at]);
        if separator {
            out.extend_from_slice(br"\u202");
            out.push(HEX[usize::from(bytes[at + 2] & 0xf)]);
            at += 3;
        } else {
            match byte {
                b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
                b'\n' => out.extend_from_slice(br"\n"),
                b'\r' => out.extend_from_slice(br"\r"),
                _ => {
                    out.extend_from_slice(br"\u00");
                    out.push(HEX[usize::from(byte >> 4)]);
                    out.push(HEX[usize::from(byte & 0xf)]);
                }
            }
            at += 1;
        }
        copied = at;
    }
    out.extend_from_slice(&bytes[copied..]);
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, default)]
    log: Cow<'a, str>,
    #[serde(borrow, default)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(default)]
    attrs: BTreeMap<String, String>,
}

/// What a line of the file says, without its end; `None` when it is no record: torn by a crash, or not ours.
pub(super) fn decode(line: &[u8]) -> Option<LogLine> {
    let line: Line<'_> = serde_json::from_slice(line).ok()?;
    let stream = match line.stream.as_ref() {
        "stderr" => Origin::Stderr,
        _ => Origin::Stdout,
    };
    Some(LogLine {
        at: stamp::parse(&line.time)?,
        stream,
        partial: !line.log.ends_with('\n'),
        line: Bytes::from(line.log.into_owned()),
        details: line.attrs.into_iter().collect(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::agent::logs::Part;
    use crate::model::Timestamp;

    const AT: Timestamp = Timestamp::from_nanos(1_700_000_000_500_000_000);

    fn record(text: &[u8]) -> Record<'_> {
        Record {
            at: AT,
            origin: Origin::Stdout,
            text,
            part: None,
        }
    }

    fn encoded(encoder: &mut Encoder, record: &Record<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        encoder.encode(record, &mut out);
        out
    }

    #[track_caller]
    fn writes(text: &[u8], expected: &str) {
        let out = encoded(&mut Encoder::default(), &record(text));
        let expected = format!(
            "{{\"log\":\"{expected}\\n\",\"stream\":\"stdout\",\"time\":\"2023-11-14T22:13:20.5Z\"}}\n"
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn text_is_escaped_as_go_does() {
        writes(b"plain \xc3\xa4 \xf0\x9f\x90\xb3", "plain ä 🐳");
        writes(
            b"\"\\<a>&\t\r\n\x1b\x7f\0",
            "\\\"\\\\\\u003ca\\u003e\\u0026\\u0009\\r\\n\\u001b\u{7f}\\u0000",
        );
        writes(
            "\u{2028}x\u{2029}\u{202a}".as_bytes(),
            "\\u2028x\\u2029\u{202a}",
        );
        writes(b"\xff\xe2\x80|\xc3", "\\ufffd\\ufffd\\ufffd|\\ufffd");
    }

    #[test]
    fn attributes_stand_before_the_time() {
        let attributes = [("b", "<2>"), ("a", "1")].map(|(k, v)| (k.into(), v.into()));
        let out = encoded(&mut Encoder::new(&attributes.into()), &record(b"x"));
        let expected = "{\"log\":\"x\\n\",\"stream\":\"stdout\",\"attrs\":{\"a\":\"1\",\"b\":\"\\u003c2\\u003e\"},\
            \"time\":\"2023-11-14T22:13:20.5Z\"}\n";
        assert_eq!(String::from_utf8(out.clone()).unwrap(), expected);
        let line = decode(out.trim_ascii_end()).unwrap();
        assert_eq!(line.details[1], ("b".into(), "<2>".into()));
    }

    #[test]
    fn only_a_lines_last_piece_has_its_end() {
        let part = |ordinal, last| {
            Some(Part {
                id: 1,
                ordinal,
                last,
            })
        };
        for (part, expected) in [(part(1, false), "x"), (part(2, true), "x\n")] {
            let record = Record {
                part,
                ..record(b"x")
            };
            let line = decode(encoded(&mut Encoder::default(), &record).trim_ascii_end()).unwrap();
            assert_eq!(line.line, expected);
            assert_eq!(line.partial, !expected.ends_with('\n'));
        }
    }

    #[test]
    fn what_is_no_record_is_none() {
        for bad in [
            "",
            "{",
            "{}",
            "null",
            "{\"log\":\"x\",\"time\":\"soon\"}",
            "\0\0\0",
        ] {
            assert_eq!(decode(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn records_round_trip(text in prop::collection::vec(any::<u8>(), 0..200), nanos in 0_i64..i64::MAX) {
            let record = Record { at: Timestamp::from_nanos(i128::from(nanos)), ..record(&text) };
            let out = encoded(&mut Encoder::default(), &record);
            prop_assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
            let line = decode(out.trim_ascii_end()).unwrap();
            prop_assert_eq!(line.at, record.at);
            if let Ok(valid) = std::str::from_utf8(&text) {
                prop_assert_eq!(line.line, format!("{valid}\n"));
            }
        }

        #[test]
        fn nothing_that_is_read_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}
