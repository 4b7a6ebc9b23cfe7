//! The records of the `local` driver, as Docker writes them: a length, a protobuf message, the length again, both
//! lengths four bytes, the highest first.
//!
//! ```text
//! message LogEntry  { string source = 1; int64 time_nano = 2; bytes line = 3; bool partial = 4;
//!                     Partial partial_log_metadata = 5; repeated Attr attrs = 6; }
//! message Partial   { bool last = 1; string id = 2; int32 ordinal = 3; }
//! message Attr      { string key = 1; string value = 2; }
//! ```
//!
//! The length behind a record lets a reader walk backwards from the end of the file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use bytes::Bytes;
use prost::Message;

use super::{LogLine, Origin, Record};
use crate::model::Timestamp;

/// Bytes of each of the two lengths.
pub(super) const LENGTH: usize = 4;

/// No message is longer: 16 KiB of text and what goes along with it, of which environments can hold much.
pub(super) const MAX_MESSAGE: usize = 4 << 20;

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(string, tag = "1")]
    source: String,
    #[prost(int64, tag = "2")]
    time_nano: i64,
    #[prost(bytes = "bytes", tag = "3")]
    line: Bytes,
    #[prost(bool, tag = "4")]
    partial: bool,
    #[prost(message, optional, tag = "5")]
    partial_log_metadata: Option<Partial>,
    #[prost(message, repeated, tag = "6")]
    attrs: Vec<Attr>,
}

#[derive(Clone, PartialEq, Message)]
struct Partial {
    #[prost(bool, tag = "1")]
    last: bool,
    #[prost(string, tag = "2")]
    id: String,
    #[prost(int32, tag = "3")]
    ordinal: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Attr {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// Writes records.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    entry: Entry,
}

impl Encoder {
    /// With what goes along with each line.
    pub(super) fn new(attributes: &BTreeMap<String, String>) -> Self {
        let attrs = attributes.iter().map(|(key, value)| Attr {
            key: key.clone(),
            value: value.clone(),
        });
        Self {
            entry: Entry {
                attrs: attrs.collect(),
                ..Entry::default()
            },
        }
    }

    /// Appends `record` to `out`.
    pub(super) fn encode(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        let entry = &mut self.entry;
        entry.source.clear();
        entry.source.push_str(record.origin.name());
        entry.time_nano = i64::try_from(record.at.nanos()).unwrap_or(i64::MAX);
        entry.line = Bytes::copy_from_slice(record.text);
        entry.partial = record.part.is_some();
        entry.partial_log_metadata = record.part.map(|part| Partial {
            last: part.last,
            id: format!("{:016x}", part.id),
            ordinal: i32::try_from(part.ordinal).unwrap_or(i32::MAX),
        });
        let length = (entry.encoded_len() as u32).to_be_bytes();
        out.extend_from_slice(&length);
        entry.encode_raw(out);
        out.extend_from_slice(&length);
    }
}

/// The length that `bytes` begin with; `None` when they are too few, or it is no length of a record.
pub(super) fn length(bytes: &[u8]) -> Option<usize> {
    let length = bytes.first_chunk::<LENGTH>()?;
    let length = u32::from_be_bytes(*length) as usize;
    (1..=MAX_MESSAGE).contains(&length).then_some(length)
}

/// What the record that `bytes` begin with says, and its bytes in all; `None` when it is torn or none.
pub(super) fn decode(bytes: &[u8]) -> Option<(LogLine, usize)> {
    let length = length(bytes)?;
    let (message, rest) = bytes[LENGTH..].split_at_checked(length)?;
    if self::length(rest) != Some(length) {
        return None;
    }
    let entry = Entry::decode(message).ok()?;
    let stream = match entry.source.as_str() {
        "stdout" => Origin::Stdout,
        "stderr" => Origin::Stderr,
        _ => return None,
    };
    let goes_on = |part: &Partial| !part.last;
    let partial = entry.partial && entry.partial_log_metadata.as_ref().is_none_or(goes_on);
    let line = if partial {
        entry.line
    } else {
        Bytes::from([entry.line.as_ref(), b"\n"].concat())
    };
    let details = entry.attrs.into_iter().map(|attr| (attr.key, attr.value));
    let line = LogLine {
        at: Timestamp::from_nanos(entry.time_nano.into()),
        stream,
        line,
        partial,
        details: details.collect(),
    };
    Some((line, length + 2 * LENGTH))
}

/// Where the last whole record of the first `size` bytes of `file` ends. Reads lengths only: two at the end, or all when
/// the end is torn.
pub(super) fn end_of_last_record(file: &File, size: u64) -> io::Result<u64> {
    let both = 2 * LENGTH as u64;
    let mut field = [0; LENGTH];
    let mut length_at = |at: u64| {
        file.read_exact_at(&mut field, at)?;
        io::Result::Ok(length(&field).map(|length| length as u64))
    };
    if size >= both
        && let Some(length) = length_at(size - both / 2)?
        && let Some(start) = size.checked_sub(length + both)
        && length_at(start)? == Some(length)
    {
        return Ok(size);
    }
    let mut end = 0;
    while size - end >= both
        && let Some(length) = length_at(end)?
        && end + length + both <= size
        && length_at(end + length + both / 2)? == Some(length)
    {
        end += length + both;
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::agent::logs::Part;

    fn encoded(record: &Record<'_>) -> Vec<u8> {
        let attributes = [("tag".to_string(), "x".to_string())].into();
        let mut out = Vec::new();
        Encoder::new(&attributes).encode(record, &mut out);
        out
    }

    #[test]
    fn a_record_is_dockers() {
        let record = Record {
            at: Timestamp::from_nanos(300),
            origin: Origin::Stdout,
            text: b"hi",
            part: None,
        };
        let mut out = Vec::new();
        Encoder::default().encode(&record, &mut out);
        assert_eq!(
            out,
            b"\0\0\0\x0f\x0a\x06stdout\x10\xac\x02\x1a\x02hi\0\0\0\x0f"
        );
    }

    proptest! {
        #[test]
        fn records_round_trip(
            text in prop::collection::vec(any::<u8>(), 0..100),
            nanos in 0_i64..i64::MAX,
            part in prop::option::of((any::<u64>(), 1_u32..9, any::<bool>())),
            stderr: bool,
        ) {
            let part = part.map(|(id, ordinal, last)| Part { id, ordinal, last });
            let record = Record {
                at: Timestamp::from_nanos(nanos.into()),
                origin: if stderr { Origin::Stderr } else { Origin::Stdout },
                text: &text,
                part,
            };
            let bytes = encoded(&record);
            let (line, used) = decode(&bytes).unwrap();
            prop_assert_eq!(used, bytes.len());
            prop_assert_eq!(line.at, record.at);
            prop_assert_eq!(line.stream, record.origin);
            prop_assert_eq!(line.partial, !record.ends());
            let mut text = text.clone();
            if record.ends() {
                text.push(b'\n');
            }
            prop_assert_eq!(line.line, text);
            for cut in 0..bytes.len() {
                prop_assert_eq!(decode(&bytes[..cut]), None);
            }
        }

        #[test]
        fn nothing_that_is_read_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode(&bytes);
        }
    }
}
