//! The files of one log, opened so that together they are the log at one moment, although it is rotated meanwhile.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::agent::logs::rotation::{self, Squeezed, older, older_squeezed};
use crate::model::Timestamp;

/// How often the files are opened again when they moved meanwhile.
const ATTEMPTS: usize = 100;

/// The clock of file times runs in steps, behind the clock of lines by less than this.
const CLOCK_STEP_NANOS: i128 = 1_000_000_000;

/// One file of a log.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) file: File,
    /// It is compressed.
    pub(super) squeezed: bool,
    /// Of the file that was written, even when this is a compressed copy of it; 0 when that is not known.
    pub(super) inode: u64,
    /// All its lines are of this time or before; `None` when that is not known, or it is still written.
    pub(super) last: Option<Timestamp>,
}

/// What lies where: a name's number, whether it is compressed, its file.
type Names = BTreeSet<(u32, bool, u64)>;

/// The files of the log at `path`, the oldest first. None at all when there is no log yet.
pub(super) fn open(path: &Path) -> io::Result<Vec<Part>> {
    for _ in 1..ATTEMPTS {
        let before = names(path)?;
        let parts = open_all(path, &before)?;
        let is_whole = parts.iter().flatten().count() == parts.len();
        if is_whole
            && names(path)? == before
            && (before.is_empty() || before.first().is_some_and(|first| first.0 == 0))
        {
            return Ok(parts.into_iter().flatten().rev().collect());
        }
    }
    // It is rotated faster than it can be opened. Files only move to higher numbers, in which order they are opened
    // here: one may be met twice, none is passed over.
    let parts = open_all(path, &names(path)?)?;
    let mut met = BTreeSet::new();
    let parts = parts.into_iter().flatten();
    let mut parts: Vec<Part> = parts.filter(|part| met.insert(part.inode)).collect();
    parts.reverse();
    Ok(parts)
}

fn names(path: &Path) -> io::Result<Names> {
    let mut names = Names::new();
    let mut add = |number, squeezed, path: &Path| match fs::metadata(path) {
        Ok(metadata) => {
            names.insert((number, squeezed, metadata.ino()));
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    add(0, false, path)?;
    let parts = match rotation::parts(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
        parts => parts?,
    };
    for (number, forms) in parts {
        // With both there, the plain one is about to go; it is whole until then.
        if forms.plain {
            add(number, false, &older(path, number))?;
        } else {
            add(number, true, &older_squeezed(path, number))?;
        }
    }
    Ok(names)
}

/// Opens each, by rising number; `None` for one that has moved away.
fn open_all(path: &Path, names: &Names) -> io::Result<Vec<Option<Part>>> {
    let open = |(number, squeezed, inode): &(u32, bool, u64)| {
        let path = match (number, squeezed) {
            (0, _) => path.to_path_buf(),
            (number, true) => older_squeezed(path, *number),
            (number, false) => older(path, *number),
        };
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let metadata = file.metadata()?;
        if metadata.ino() != *inode {
            return Ok(None);
        }
        let mut part = Part {
            file,
            squeezed: *squeezed,
            inode: *inode,
            last: None,
        };
        if *squeezed {
            let Squeezed { last, inode } = rotation::about(&part.file);
            io::Seek::rewind(&mut part.file)?;
            (part.last, part.inode) = (last, inode);
        } else if *number > 0 {
            let changed = i128::from(metadata.mtime()) * 1_000_000_000;
            let changed = changed + i128::from(metadata.mtime_nsec()) + CLOCK_STEP_NANOS;
            part.last = Some(Timestamp::from_nanos(changed));
        }
        Ok(Some(part))
    };
    names.iter().map(open).collect()
}
