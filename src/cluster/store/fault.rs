//! What can be wrong with the store's files, in words that say what to do about it.
//!
//! Every error of a file names the file. [`super::OpenError`] and the running store report these.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file of the store cannot be used. Nothing of it was changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FileFault {
    /// Another process has it open, or another store of this one.
    #[error(
        "{} is in use by another process: stop the other daemon, or give this one another --data-root",
        .path.display()
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file is not what was written.
    #[error("{} is damaged ({what}): {}", .path.display(), WHAT_TO_DO)]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
    /// The file has gone back to an earlier state: what it acknowledged since is not there.
    #[error(
        "{} has lost writes that were acknowledged (it ends at {found}, {expected} was reached): {}",
        .path.display(), WHAT_TO_DO
    )]
    Reverted {
        /// The file.
        path: PathBuf,
        /// The last write that it acknowledged.
        expected: u64,
        /// The last write that it holds.
        found: u64,
    },
    /// A file is missing that the others need.
    #[error("{} is missing: {}", .path.display(), WHAT_TO_DO)]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A newer build wrote it.
    #[error(
        "{} has format {found}, this build knows up to {known}: start a build at least as new as the one that wrote it",
        .path.display()
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest known one.
        known: u32,
    },
    /// It was written by another node: a data directory was copied.
    #[error(
        "{} belongs to node {owner}, this is node {node}: a node keeps its own data directory; remove it and join as a new node",
        .path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Who wrote it.
        owner: crate::model::NodeId,
        /// Who opened it.
        node: crate::model::NodeId,
    },
    /// The keys in it are themselves sealed, in a way that this build cannot open.
    #[error("{} is sealed by means {by} that this build does not know: start a newer build", .path.display())]
    Sealed {
        /// The file.
        path: PathBuf,
        /// How it says it is sealed.
        by: u8,
    },
    /// The disk has no room left.
    #[error(
        "no space left on the disk of {}: free some space and start again; nothing that was acknowledged is lost",
        .path.display()
    )]
    DiskFull {
        /// The file.
        path: PathBuf,
    },
    /// The system refuses to read or write it.
    #[error("{} cannot be read or written", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: Arc<io::Error>,
    },
}

/// What helps against a file that cannot be trusted.
const WHAT_TO_DO: &str = "if other managers live, stop the daemon, remove the store's directory and start it again, \
     and it gets a new copy from them; otherwise restore the whole directory from a backup";

impl FileFault {
    /// The fault behind an error of the system.
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            io::ErrorKind::UnexpectedEof => Self::Damaged {
                path,
                what: "it is too short".into(),
            },
            io::ErrorKind::InvalidData => Self::Damaged {
                path,
                what: source.to_string(),
            },
            _ => Self::Io {
                path,
                source: Arc::new(source),
            },
        }
    }

    pub(super) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            what: what.into(),
        }
    }

    /// The form in which openraft carries it.
    pub(super) fn to_io(&self) -> io::Error {
        io::Error::other(self.clone())
    }
}
