//! What a container says: lines, as they are taken down and shown.

use bytes::Bytes;

use super::Timestamp;

/// One of a container's two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Origin {
    /// As it stands in the files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// One line that a container wrote, or a piece of one that is longer than 16 KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// When it was taken down. The pieces of one line share a time.
    pub at: Timestamp,
    /// Where it was written to.
    pub stream: Origin,
    /// The bytes, with the line's end when it has one.
    pub line: Bytes,
    /// The line goes on in the next one of this stream, or the container ended within it.
    pub partial: bool,
    /// What goes along with the container's lines by the options `labels`, `env` and `tag`, by name.
    pub details: Vec<(String, String)>,
}

/// Which lines are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadOptions {
    /// Goes on until the container has ended.
    pub follow: bool,
    /// Only so many at the end of what is there; all when `None`. Counted before the other choices, as Docker does.
    pub tail: Option<u64>,
    /// Only lines of this time or later.
    pub since: Option<Timestamp>,
    /// Ends at the first line after this time.
    pub until: Option<Timestamp>,
    /// Those of standard output.
    pub stdout: bool,
    /// Those of standard error.
    pub stderr: bool,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            follow: false,
            tail: None,
            since: None,
            until: None,
            stdout: true,
            stderr: true,
        }
    }
}
