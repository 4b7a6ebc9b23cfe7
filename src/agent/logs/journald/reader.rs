//! Reads a container's lines back from the journal, by `journalctl`, which systemd brings along.
//!
//! Its `export` format holds any bytes: fields as `NAME=value`, or as `NAME`, a length and the value, and an empty line
//! behind each entry.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::stream::{Stream, unfold};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStdout, Command};
use tokio_util::sync::CancellationToken;

use crate::agent::logs::reader::Choice;
use crate::agent::logs::stamp;
use crate::agent::logs::{LogLine, Origin, ReadError, ReadOptions};
use crate::model::Timestamp;

/// After the container has ended, the journal is read until it was silent for so long.
const SILENCE: Duration = Duration::from_millis(500);

/// No entry is longer.
const MAX_ENTRY: usize = 8 << 20;

struct Reading {
    dir: String,
    options: ReadOptions,
    ended: CancellationToken,
    /// `None` before the first line is asked for.
    source: Option<(Child, ChildStdout)>,
    buffer: BytesMut,
    over: bool,
}

/// The lines of the container with this directory.
pub(in crate::agent::logs) fn lines(
    dir: &Path,
    options: ReadOptions,
    ended: CancellationToken,
) -> impl Stream<Item = Result<LogLine, ReadError>> + use<> {
    let reading = Reading {
        dir: dir
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        options,
        ended,
        source: None,
        buffer: BytesMut::new(),
        over: false,
    };
    unfold(reading, |mut reading| async {
        let line = reading
            .next()
            .await
            .map_err(|source| ReadError::Journal { source });
        reading.over |= line.is_err();
        Some((line.transpose()?, reading))
    })
}

impl Reading {
    async fn next(&mut self) -> io::Result<Option<LogLine>> {
        while !self.over {
            while let Some(entry) = take_entry(&mut self.buffer)? {
                let Some(line) = line(entry) else {
                    continue;
                };
                match self.options.choose(&line) {
                    Choice::Show => return Ok(Some(line)),
                    Choice::Pass => {}
                    Choice::End => {
                        self.over = true;
                        return Ok(None);
                    }
                }
            }
            self.over = !self.fill().await?;
        }
        Ok(None)
    }

    /// Reads more; `false` at the end.
    async fn fill(&mut self) -> io::Result<bool> {
        let (child, stdout) = match &mut self.source {
            Some(source) => source,
            None => {
                let mut command = Command::new("journalctl");
                command.args(arguments(&self.dir, &self.options));
                let mut child = command
                    .stdin(Stdio::null())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::null())
                    .kill_on_drop(true)
                    .spawn()?;
                let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
                self.source.insert((child, stdout))
            }
        };
        let read = tokio::select! {
            read = stdout.read_buf(&mut self.buffer) => Some(read?),
            () = self.ended.cancelled(), if self.options.follow => None,
        };
        let read = match read {
            Some(read) => read,
            None => match tokio::time::timeout(SILENCE, stdout.read_buf(&mut self.buffer)).await {
                Ok(read) => read?,
                Err(_) => return Ok(false),
            },
        };
        if read > 0 {
            return Ok(true);
        }
        let status = child.wait().await?;
        // It is content to find nothing, and says so with 1.
        if status.code().is_none_or(|code| code > 1) {
            return Err(io::Error::other(format!("it ended with {status}")));
        }
        Ok(false)
    }
}

/// What `journalctl` is asked.
fn arguments(id: &str, options: &ReadOptions) -> Vec<String> {
    let mut arguments: Vec<String> = ["--quiet", "--no-pager", "--all", "--output=export"]
        .map(String::from)
        .into();
    if options.follow {
        arguments.push("--follow".into());
    }
    match options.tail {
        Some(tail) => arguments.push(format!("--lines={tail}")),
        None if options.follow => arguments.push("--no-tail".into()),
        None => {}
    }
    if let Some(since) = options.since {
        arguments.push(format!("--since=@{}", since.secs()));
    }
    arguments.push(format!("CONTAINER_ID_FULL={id}"));
    arguments
}

/// Takes the first entry off `buffer`, without the empty line behind it; `None` when it is not whole yet.
fn take_entry(buffer: &mut BytesMut) -> io::Result<Option<Bytes>> {
    let mut at = 0;
    while let Some(length) = buffer[at..].iter().position(|byte| *byte == b'\n') {
        let line = &buffer[at..at + length];
        let next = at + length + 1;
        if line.is_empty() {
            let entry = buffer.split_to(at).freeze();
            buffer.advance(1);
            return Ok(Some(entry));
        }
        if line.contains(&b'=') {
            at = next;
            continue;
        }
        let Some(value) = buffer[next..].first_chunk() else {
            break;
        };
        let value = u64::from_le_bytes(*value);
        let end = usize::try_from(value)
            .ok()
            .and_then(|value| (next + 9).checked_add(value));
        at = match end {
            Some(end) if end <= buffer.len() => end,
            Some(end) if end <= MAX_ENTRY => break,
            Some(_) | None => return Err(io::ErrorKind::InvalidData.into()),
        };
    }
    if buffer.len() > MAX_ENTRY {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(None)
}

/// What an entry says; `None` when it is not a container's line.
fn line(mut entry: Bytes) -> Option<LogLine> {
    let mut at = None;
    let mut taken = None;
    let mut stream = Origin::Stdout;
    let mut partial = false;
    let mut text = None;
    while !entry.is_empty() {
        let end = entry.iter().position(|byte| *byte == b'\n')?;
        let mut field = entry.split_to(end);
        entry.advance(1);
        let value = match field.iter().position(|byte| *byte == b'=') {
            Some(equals) => {
                let value = field.split_off(equals + 1);
                field.truncate(equals);
                value
            }
            None => {
                let length = usize::try_from(entry.try_get_u64_le().ok()?).ok()?;
                let value = (length < entry.len()).then(|| entry.split_to(length))?;
                entry.advance(1);
                value
            }
        };
        let words = std::str::from_utf8(&value).unwrap_or_default();
        match field.as_ref() {
            b"MESSAGE" => text = Some(value),
            b"PRIORITY" if words == "3" => stream = Origin::Stderr,
            b"CONTAINER_PARTIAL_MESSAGE" => partial = words == "true",
            b"SYSLOG_TIMESTAMP" => taken = stamp::parse(words),
            b"__REALTIME_TIMESTAMP" => {
                let micros: i128 = words.parse().ok()?;
                at = Some(Timestamp::from_nanos(micros.checked_mul(1000)?));
            }
            _ => {}
        }
    }
    let text = text?;
    Some(LogLine {
        at: taken.or(at)?,
        stream,
        line: if partial {
            text
        } else {
            [text.as_ref(), b"\n"].concat().into()
        },
        partial,
        details: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ENTRIES: &[u8] = b"__REALTIME_TIMESTAMP=1700000000000001\nPRIORITY=3\nMESSAGE=a=b\n\n\
        __REALTIME_TIMESTAMP=1700000000000002\nSYSLOG_TIMESTAMP=2023-11-14T22:13:20.5Z\nPRIORITY=6\n\
        MESSAGE\n\x05\0\0\0\0\0\0\0x\n\n\xffy\nCONTAINER_PARTIAL_MESSAGE=true\n\n";

    #[test]
    fn entries_are_taken_apart_however_they_arrive() {
        for size in [1, 2, 7, 1000] {
            let mut buffer = BytesMut::new();
            let mut lines = Vec::new();
            for chunk in ENTRIES.chunks(size) {
                buffer.extend_from_slice(chunk);
                while let Some(entry) = take_entry(&mut buffer).unwrap() {
                    lines.push(line(entry).unwrap());
                }
            }
            assert!(buffer.is_empty());
            let seen: Vec<_> = lines
                .iter()
                .map(|line| {
                    (
                        line.at.to_string(),
                        line.stream,
                        line.line.as_ref(),
                        line.partial,
                    )
                })
                .collect();
            assert_eq!(
                seen,
                [
                    (
                        "2023-11-14T22:13:20.000001Z".into(),
                        Origin::Stderr,
                        &b"a=b\n"[..],
                        false
                    ),
                    (
                        "2023-11-14T22:13:20.5Z".into(),
                        Origin::Stdout,
                        &b"x\n\n\xffy"[..],
                        true
                    ),
                ]
            );
        }
    }

    #[test]
    fn journalctl_is_asked_for_one_container() {
        let options = ReadOptions {
            follow: true,
            since: Some(Timestamp::from_nanos(5_500_000_000)),
            ..ReadOptions::default()
        };
        let asked = arguments("ab", &options).join(" ");
        assert_eq!(
            asked,
            "--quiet --no-pager --all --output=export --follow --no-tail --since=@5 CONTAINER_ID_FULL=ab"
        );
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut buffer = BytesMut::from(bytes.as_slice());
            while let Ok(Some(entry)) = take_entry(&mut buffer) {
                let _ = line(entry);
            }
        }
    }
}
