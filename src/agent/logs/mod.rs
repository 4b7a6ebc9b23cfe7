//! What containers say: written by a process of our own beside each container, read back from its files.
//!
//! [`logger`] is that process. It is started by the container's shim, outlives this daemon and containerd, and writes
//! with one of four drivers, in Docker's formats. [`options`] decides which options a driver takes. [`reader`] reads
//! while and after the container runs; it shares no memory with the writer, only the files.
//!
//! | file | holds |
//! |---|---|
//! | `pieces` | bytes → lines, and pieces of lines that are too long |
//! | `stamp` | time → RFC 3339 text |
//! | `json`, `local` | one record as bytes, and back |
//! | `file`, `rotation` | the file that grows, and its older parts |
//! | `journald` | the journal, as writer and as reader |
//! | `guard` | a second process, so that neither can be killed to the container's harm |
//! | `attributes` | labels, variables and the tag that go along with each line |
//!
//! Nothing here decides how long logs are kept once the container is removed.

mod attributes;
mod file;
mod guard;
mod journald;
mod json;
mod local;
pub mod logger;
pub mod options;
mod pieces;
pub mod reader;
mod rotation;
mod stamp;

use std::path::{Path, PathBuf};

use crate::model::Timestamp;

pub use crate::model::log::{LogLine, Origin, ReadOptions};
pub use options::{Driver, LogOptions, OptionError, check};
pub use reader::{Lines, ReadError, read};

/// Where the system's journal takes messages.
pub const JOURNAL: &str = "/run/systemd/journal/socket";

/// Name of the file in a container's directory that tells the logger what to do: the container's configuration, JSON.
pub const CONFIG_FILE: &str = "config.json";

/// Why a driver cannot be used on this machine as it is.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// There is no journal to write to.
    #[error("journald is not enabled on this host")]
    NoJournal,
}

/// Whether `driver` works on this machine; asked before a container is made, whose start fails with these words.
pub fn available(driver: Driver) -> Result<(), Unavailable> {
    match driver {
        Driver::Journald if !Path::new(JOURNAL).exists() => Err(Unavailable::NoJournal),
        Driver::Journald | Driver::JsonFile | Driver::Local | Driver::None => Ok(()),
    }
}

/// The newest file that `driver` writes for the container with this directory; `None` when it writes none. The
/// directory has the container's ID as its name.
pub fn log_path(dir: &Path, driver: Driver) -> Option<PathBuf> {
    match driver {
        Driver::JsonFile => {
            let id = dir.file_name().unwrap_or_default().to_string_lossy();
            Some(dir.join(format!("{id}-json.log")))
        }
        Driver::Local => Some(dir.join("local-logs").join("container.log")),
        Driver::None | Driver::Journald => None,
    }
}

/// A piece of output on its way into a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record<'a> {
    at: Timestamp,
    origin: Origin,
    /// Without the line's end.
    text: &'a [u8],
    /// `None` for a whole line.
    part: Option<Part>,
}

/// Which piece of a line that is cut into several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    /// The same for all pieces of one line, and for no other line of this container.
    id: u64,
    /// Counts from 1.
    ordinal: u32,
    /// The line ends here.
    last: bool,
}

impl Record<'_> {
    /// Whether the line ends with this piece.
    fn ends(&self) -> bool {
        self.part.is_none_or(|part| part.last)
    }
}
