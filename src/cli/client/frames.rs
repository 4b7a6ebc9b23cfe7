//! Takes apart what containers say: frames of one output each, and lines of JSON. Pure.

use hyper::body::Bytes;

/// Which output a frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Output {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
    /// The daemon's own words.
    Daemon,
}

/// Longest frame that is believed; the daemon's are far shorter.
const FRAME_LIMIT: usize = 64 << 20;

/// What was not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the daemon's answer is not understood: it is not in frames")]
pub(in crate::cli) struct NoFrame;

/// Puts frames together from pieces of any length.
#[derive(Debug, Default)]
pub(in crate::cli) struct Frames {
    rest: Vec<u8>,
}

impl Frames {
    /// Takes a piece.
    pub(in crate::cli) fn push(&mut self, piece: &[u8]) {
        self.rest.extend_from_slice(piece);
    }

    /// The next whole frame.
    pub(in crate::cli) fn next(&mut self) -> Result<Option<(Output, Vec<u8>)>, NoFrame> {
        let Some(&[kind, 0, 0, 0, a, b, c, d]) = self.rest.first_chunk::<8>() else {
            return match self.rest.len() {
                0..8 => Ok(None),
                _ => Err(NoFrame),
            };
        };
        let output = match kind {
            0 | 1 => Output::Out,
            2 => Output::Err,
            3 => Output::Daemon,
            _ => return Err(NoFrame),
        };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > FRAME_LIMIT {
            return Err(NoFrame);
        }
        if self.rest.len() < 8 + length {
            return Ok(None);
        }
        let frame = self.rest[8..8 + length].to_vec();
        self.rest.drain(..8 + length);
        Ok(Some((output, frame)))
    }
}

/// Puts lines together from pieces of any length.
#[derive(Debug, Default)]
pub(in crate::cli) struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// Takes a piece.
    pub(in crate::cli) fn push(&mut self, piece: &Bytes) {
        self.rest.extend_from_slice(piece);
    }

    /// The next whole line without its end; empty lines are passed over.
    pub(in crate::cli) fn next(&mut self) -> Option<String> {
        loop {
            let end = self.rest.iter().position(|byte| *byte == b'\n')?;
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(line.trim_ascii()).into_owned();
            if !line.is_empty() {
                return Some(line);
            }
        }
    }

    /// What came after the last line's end.
    pub(in crate::cli) fn rest(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.rest);
        let text = String::from_utf8_lossy(rest.trim_ascii()).into_owned();
        (!text.is_empty()).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, text: &[u8]) -> Vec<u8> {
        let length = u32::try_from(text.len()).unwrap();
        let mut frame = vec![kind, 0, 0, 0];
        frame.extend(length.to_be_bytes());
        frame.extend(text);
        frame
    }

    proptest! {
        #[test]
        fn however_it_is_cut_the_frames_are_the_same(
            texts in prop::collection::vec((1u8..4, prop::collection::vec(any::<u8>(), 0..20)), 0..6),
            cut in 1usize..9,
        ) {
            let whole: Vec<u8> = texts.iter().flat_map(|(kind, text)| frame(*kind, text)).collect();
            let mut frames = Frames::default();
            let mut found = Vec::new();
            for piece in whole.chunks(cut) {
                frames.push(piece);
                while let Some((_, text)) = frames.next().unwrap() {
                    found.push(text);
                }
            }
            let texts: Vec<Vec<u8>> = texts.into_iter().map(|(_, text)| text).collect();
            prop_assert_eq!(found, texts);
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let mut frames = Frames::default();
            frames.push(&bytes);
            while let Ok(Some(_)) = frames.next() {}
        }
    }

    #[test]
    fn what_is_no_frame_is_told() {
        let mut frames = Frames::default();
        frames.push(b"plain text, not framed");
        assert_eq!(frames.next(), Err(NoFrame));
        frames = Frames::default();
        frames.push(&frame(9, b"x"));
        assert_eq!(frames.next(), Err(NoFrame));
    }

    #[test]
    fn lines_come_whole() {
        let mut lines = Lines::default();
        lines.push(&Bytes::from_static(b"{\"a\":1}\n\n{\"b\""));
        assert_eq!(lines.next().as_deref(), Some("{\"a\":1}"));
        assert_eq!(lines.next(), None);
        lines.push(&Bytes::from_static(b":2}\r\nend"));
        assert_eq!(lines.next().as_deref(), Some("{\"b\":2}"));
        assert_eq!((lines.next(), lines.rest().as_deref()), (None, Some("end")));
    }
}
