//! What processes say, as Docker's clients take it: in frames that name the stream, or raw when there is a terminal.
//!
//! Pure. A frame is `[stream, 0, 0, 0]`, the length as four bytes, the highest first, and the bytes.

use bytes::{BufMut, Bytes, BytesMut};

use crate::model::Timestamp;
use crate::model::log::{LogLine, Origin};

/// Length of a frame's head, bytes.
pub(super) const FRAME_HEAD: usize = 8;

/// Of a stream in frames, for the header of the response.
pub(super) const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";

/// Of a stream without frames.
pub(super) const RAW: &str = "application/vnd.docker.raw-stream";

/// How output is written down for a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Format {
    /// In frames.
    pub(super) framed: bool,
    /// With its time in front.
    pub(super) timestamps: bool,
    /// With its details in front.
    pub(super) details: bool,
}

impl Format {
    /// The content type that Docker announces it with: clients before 1.42 know but one.
    pub(super) const fn content_type(self, knows_both: bool) -> &'static str {
        if self.framed && knows_both {
            MULTIPLEXED
        } else {
            RAW
        }
    }

    /// One line of a log.
    pub(super) fn line(self, line: &LogLine) -> Bytes {
        let mut text = BytesMut::with_capacity(line.line.len() + 48);
        if self.timestamps {
            text.put_slice(stamp(line.at).as_bytes());
            text.put_u8(b' ');
        }
        if self.details {
            let pairs = line.details.iter();
            text.put_slice(details(pairs.map(|(k, v)| (k.as_str(), v.as_str()))).as_bytes());
            text.put_u8(b' ');
        }
        text.put_slice(&line.line);
        if self.framed {
            frame(line.stream, &text)
        } else {
            text.freeze()
        }
    }
}

/// Bytes of one stream in a frame.
pub(super) fn frame(stream: Origin, bytes: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(FRAME_HEAD + bytes.len());
    let number = match stream {
        Origin::Stdout => 1,
        Origin::Stderr => 2,
    };
    framed.put_slice(&[number, 0, 0, 0]);
    framed.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    framed.put_slice(bytes);
    framed.freeze()
}

/// `k=v` pairs in the order of their keys, escaped as in the query of a URL.
pub(super) fn details<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut pairs: Vec<String> = pairs
        .map(|(key, value)| format!("{}={}", escaped(key), escaped(value)))
        .collect();
    pairs.sort_unstable();
    pairs.join(",")
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            b' ' => out.push('+'),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// A time with all its nine digits, so that lines stand below each other.
pub(super) fn stamp(at: Timestamp) -> String {
    match jiff::Timestamp::from_nanosecond(at.nanos()) {
        Ok(time) => format!("{time:.9}"),
        Err(_beyond) => at.to_string(),
    }
}

/// Takes frames out of a stream of them.
#[derive(Debug, Default)]
pub(super) struct Frames(BytesMut);

impl Frames {
    /// Adds what has come.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.0.put_slice(bytes);
    }

    /// The next frame that is complete: the number of its stream, and its bytes.
    pub(super) fn take(&mut self) -> Option<(u8, Bytes)> {
        let head: [u8; FRAME_HEAD] = self.0.first_chunk().copied()?;
        let [stream, _, _, _, a, b, c, d] = head;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if self.0.len() - FRAME_HEAD < length {
            return None;
        }
        let mut whole = self.0.split_to(FRAME_HEAD + length);
        Some((stream, whole.split_off(FRAME_HEAD).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(text: &str) -> LogLine {
        LogLine {
            at: Timestamp::from_nanos(1_700_000_000_120_000_000),
            stream: Origin::Stderr,
            line: Bytes::copy_from_slice(text.as_bytes()),
            partial: false,
            details: vec![("b".into(), "x y".into()), ("a".into(), "1=2,3".into())],
        }
    }

    #[test]
    fn a_line_has_its_time_then_its_details_then_its_text() {
        let format = Format {
            framed: false,
            timestamps: true,
            details: true,
        };
        assert_eq!(
            format.line(&line("hello\n")),
            "2023-11-14T22:13:20.120000000Z a=1%3D2%2C3,b=x+y hello\n"
        );
        assert_eq!(Format::default().line(&line("hello\n")), "hello\n");
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in(
            texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
            cut in 1usize..16,
        ) {
            let stream: Vec<u8> = texts.iter().flat_map(|text| frame(Origin::Stdout, text)).collect();
            let mut frames = Frames::default();
            let mut found = Vec::new();
            for piece in stream.chunks(cut) {
                frames.push(piece);
                while let Some((number, bytes)) = frames.take() {
                    prop_assert_eq!(number, 1);
                    found.push(bytes.to_vec());
                }
            }
            prop_assert_eq!(found, texts);
        }
    }
}
