//! Cuts a stream of bytes into lines, and lines that are too long into pieces, as Docker does.
//!
//! Pure: the logger feeds what it reads and is handed records. A line is kept back until its end has come, 16 KiB are
//! there, or the stream has ended.

use super::{Origin, Part, Record};
use crate::model::Timestamp;

/// A line with more bytes before its end is cut into pieces of this size.
pub(super) const PIECE: usize = 16 << 10;

/// One of a container's outputs, on its way.
#[derive(Debug)]
pub(super) struct Pieces {
    origin: Origin,
    /// The beginning of a line, or of the next piece of one; shorter than [`PIECE`].
    held: Vec<u8>,
    /// The line of which a piece is out already: when it began, and its last piece.
    cut: Option<(Timestamp, Part)>,
}

impl Pieces {
    pub(super) const fn new(origin: Origin) -> Self {
        Self {
            origin,
            held: Vec::new(),
            cut: None,
        }
    }

    /// Takes the next bytes. `now` is asked once for each record.
    pub(super) fn feed(
        &mut self,
        mut bytes: &[u8],
        mut now: impl FnMut() -> Timestamp,
        mut emit: impl FnMut(Record<'_>),
    ) {
        loop {
            let room = PIECE - self.held.len();
            let window = &bytes[..bytes.len().min(room)];
            if let Some(end) = window.iter().position(|byte| *byte == b'\n') {
                self.emit(&bytes[..end], Some(true), &mut now, &mut emit);
                bytes = &bytes[end + 1..];
            } else if bytes.len() >= room {
                self.emit(&bytes[..room], Some(false), &mut now, &mut emit);
                bytes = &bytes[room..];
            } else {
                self.held.extend_from_slice(bytes);
                return;
            }
        }
    }

    /// Holds nothing back any more, not even that a line was begun.
    pub(super) fn forget(&mut self) {
        *self = Self::new(self.origin);
    }

    /// Nothing more comes for now: hands out what is held of a line as a piece, for who converses with the container sees
    /// its prompt before the line has ended.
    pub(super) fn flush(
        &mut self,
        mut now: impl FnMut() -> Timestamp,
        mut emit: impl FnMut(Record<'_>),
    ) {
        if !self.held.is_empty() {
            self.emit(&[], Some(false), &mut now, &mut emit);
        }
    }

    /// The stream has ended: hands out what is held of a line without an end.
    pub(super) fn finish(
        &mut self,
        mut now: impl FnMut() -> Timestamp,
        mut emit: impl FnMut(Record<'_>),
    ) {
        if !self.held.is_empty() {
            self.emit(&[], None, &mut now, &mut emit);
        }
        self.cut = None;
    }

    /// Hands out what is held and `more`. `ended`: whether the line ends here; `None` at the end of the stream.
    fn emit(
        &mut self,
        more: &[u8],
        ended: Option<bool>,
        now: &mut impl FnMut() -> Timestamp,
        emit: &mut impl FnMut(Record<'_>),
    ) {
        let last = ended == Some(true);
        let (at, part) = match (self.cut, last) {
            (None, true) => (now(), None),
            (None, false) => {
                let at = now();
                // A line of 16 KiB takes longer than a nanosecond: the time tells the lines of a container apart.
                let part = Part {
                    id: at.nanos() as u64,
                    ordinal: 1,
                    last,
                };
                (at, Some(part))
            }
            (Some((at, part)), _) => {
                let ordinal = part.ordinal.saturating_add(1);
                (
                    at,
                    Some(Part {
                        ordinal,
                        last,
                        ..part
                    }),
                )
            }
        };
        self.cut = part.filter(|_| !last).map(|part| (at, part));
        let text = if self.held.is_empty() {
            more
        } else {
            self.held.extend_from_slice(more);
            &self.held
        };
        emit(Record {
            at,
            origin: self.origin,
            text,
            part,
        });
        self.held.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_prompt_is_handed_out_before_its_line_has_ended() {
        let mut pieces = Pieces::new(Origin::Stdout);
        let mut out = Vec::new();
        let mut take = |record: Record<'_>| out.push((record.text.to_vec(), record.ends()));
        let clock = Timestamp::default;
        pieces.feed(b"a\n/ # ", clock, &mut take);
        pieces.flush(clock, &mut take);
        pieces.flush(clock, &mut take);
        pieces.feed(b"ls\n", clock, &mut take);
        pieces.finish(clock, &mut take);
        let whole = |text: &str| (text.as_bytes().to_vec(), true);
        assert_eq!(out, [whole("a"), (b"/ # ".to_vec(), false), whole("ls")]);
    }

    /// Each piece: its text, whether the line ends there, its ordinal (0: whole), its time.
    fn cut(chunks: &[&[u8]]) -> Vec<(Vec<u8>, bool, u32, i128)> {
        let mut pieces = Pieces::new(Origin::Stdout);
        let mut clock = 0;
        let mut out = Vec::new();
        let mut tick = || {
            clock += 1;
            Timestamp::from_nanos(clock)
        };
        let mut take = |record: Record<'_>| {
            let ordinal = record.part.map_or(0, |part| part.ordinal);
            out.push((
                record.text.to_vec(),
                record.ends(),
                ordinal,
                record.at.nanos(),
            ));
        };
        for chunk in chunks {
            pieces.feed(chunk, &mut tick, &mut take);
        }
        pieces.finish(&mut tick, &mut take);
        out
    }

    #[test]
    fn lines_are_cut_at_their_ends() {
        assert_eq!(
            cut(&[b"a\n\nbc", b"d\ne"]),
            [
                (b"a".to_vec(), true, 0, 1),
                (b"".to_vec(), true, 0, 2),
                (b"bcd".to_vec(), true, 0, 3),
                (b"e".to_vec(), false, 1, 4),
            ]
        );
    }

    #[test]
    fn a_long_line_is_cut_into_pieces_of_one_time() {
        let long = vec![b'x'; 2 * PIECE];
        assert_eq!(
            cut(&[&long, b"\nshort\n"]),
            [
                (vec![b'x'; PIECE], false, 1, 1),
                (vec![b'x'; PIECE], false, 2, 1),
                (b"".to_vec(), true, 3, 1),
                (b"short".to_vec(), true, 0, 2),
            ]
        );
        let fits = [vec![b'x'; PIECE - 1], b"\n".to_vec()].concat();
        assert_eq!(cut(&[&fits]), [(vec![b'x'; PIECE - 1], true, 0, 1)]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_however_it_arrives(
            lines in prop::collection::vec((0_usize..40_000, any::<u8>()), 0..8),
            sizes in prop::collection::vec(1_usize..70_000, 1..8),
            ended: bool,
        ) {
            let mut bytes = Vec::new();
            for (length, byte) in &lines {
                bytes.extend(std::iter::repeat_n(if *byte == b'\n' { b'x' } else { *byte }, *length));
                bytes.push(b'\n');
            }
            if !ended {
                bytes.pop();
            }
            let mut rest = bytes.as_slice();
            let mut chunks = Vec::new();
            for size in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (chunk, more) = rest.split_at((*size).min(rest.len()));
                chunks.push(chunk);
                rest = more;
            }
            let pieces = cut(&chunks);
            let mut again = Vec::new();
            for (text, ends, _, _) in &pieces {
                prop_assert!(text.len() <= PIECE);
                again.extend_from_slice(text);
                if *ends {
                    again.push(b'\n');
                }
            }
            prop_assert_eq!(again, bytes.clone());
            prop_assert_eq!(cut(&[&bytes]), pieces);
        }
    }
}
