//! The older parts of a log: `name.1` is the newest of them, `name.2` the next; compressed ones end in `.gz`.
//!
//! The writer moves each part one number up and puts a fresh file in the place of the one that is full. Every step
//! is a rename, so that a reader finds each part under its old or its new name. What a crash leaves half done is
//! completed or overwritten by the next rotation.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use flate2::{Compression, GzBuilder};
use serde::{Deserialize, Serialize};

use crate::model::Timestamp;

/// Who may read a log: root writes, its group reads, as with Docker.
const MODE: u32 = 0o640;

/// The forms in which one older part exists. Both, for a moment, when its compression has just ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Forms {
    pub(super) plain: bool,
    pub(super) squeezed: bool,
}

/// What is kept in the header of a compressed part. The first is Docker's.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Squeezed {
    /// When its last line was written.
    #[serde(rename = "lastTime")]
    pub(super) last: Option<Timestamp>,
    /// The number of the file that it was made from, so that who reads that one still finds its place.
    pub(super) inode: u64,
}

/// `name` with an ending.
pub(super) fn with(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

/// Where older part `number` lies, and where when it is compressed.
pub(super) fn older(path: &Path, number: u32) -> PathBuf {
    with(path, &format!(".{number}"))
}

/// Where older part `number` lies when it is compressed.
pub(super) fn older_squeezed(path: &Path, number: u32) -> PathBuf {
    with(path, &format!(".{number}.gz"))
}

/// The older parts that are there, by number.
pub(super) fn parts(path: &Path) -> io::Result<BTreeMap<u32, Forms>> {
    let mut parts = BTreeMap::<u32, Forms>::new();
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(parts);
    };
    for entry in fs::read_dir(dir)? {
        let entry = entry?.file_name();
        let ending = entry
            .as_encoded_bytes()
            .strip_prefix(name.as_encoded_bytes());
        let Some(ending) = ending.and_then(|ending| std::str::from_utf8(ending).ok()) else {
            continue;
        };
        let Some(number) = ending.strip_prefix('.') else {
            continue;
        };
        let (number, squeezed) = match number.strip_suffix(".gz") {
            Some(number) => (number, true),
            None => (number, false),
        };
        let canonical = |number: &u32| {
            number.to_string().len() == ending.len() - 1 - if squeezed { 3 } else { 0 }
        };
        let Some(number) = number.parse().ok().filter(|n| *n > 0 && canonical(n)) else {
            continue;
        };
        let forms = parts.entry(number).or_default();
        forms.plain |= !squeezed;
        forms.squeezed |= squeezed;
    }
    Ok(parts)
}

/// Opens the file that is written, and makes it when it is not there.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(MODE);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            options.open(path)
        }
        opened => opened,
    }
}

/// Makes the file at `path` older part 1 and puts an empty one in its place, which is returned. Of `max_files` files
/// in all the oldest goes. After an error everything that was there is there, perhaps under a higher number.
pub(super) fn rotate(path: &Path, max_files: u32) -> io::Result<File> {
    // Made before anything moves: on a full disk nothing has changed.
    let fresh_path = with(path, ".new");
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(MODE);
    let fresh = options.open(&fresh_path)?;
    fresh.set_len(0)?;
    for (number, forms) in parts(path)?.into_iter().rev() {
        let keep = number.checked_add(1).filter(|next| *next < max_files);
        for (is_there, name) in [
            (forms.squeezed, older_squeezed as fn(&Path, u32) -> PathBuf),
            (forms.plain, older),
        ] {
            match keep {
                _ if !is_there => {}
                Some(next) => fs::rename(name(path, number), name(path, next))?,
                None => fs::remove_file(name(path, number))?,
            }
        }
    }
    if max_files > 1 {
        fs::rename(path, older(path, 1))?;
    }
    fs::rename(&fresh_path, path)?;
    Ok(fresh)
}

/// Compresses older part `number`, whose last line was written at `last`. The plain one goes when the other is whole.
pub(super) fn squeeze(path: &Path, number: u32, last: Timestamp) -> io::Result<()> {
    let plain_path = older(path, number);
    let half = with(path, ".squeezing");
    let plain = File::open(&plain_path)?;
    let about = Squeezed {
        last: Some(last),
        inode: plain.metadata()?.ino(),
    };
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(MODE);
    let squeezed = options.open(&half).and_then(|file| {
        let out = BufWriter::with_capacity(32 << 10, file);
        let mut out = GzBuilder::new()
            .extra(serde_json::to_vec(&about)?)
            .write(out, Compression::fast());
        io::copy(&mut BufReader::with_capacity(32 << 10, plain), &mut out)?;
        out.finish()?
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?
            .sync_data()
    });
    if squeezed.is_err() {
        let _ = fs::remove_file(&half);
        return squeezed;
    }
    fs::rename(&half, older_squeezed(path, number))?;
    fs::remove_file(plain_path)
}

/// What a compressed part says of itself; nothing when it was made by others.
pub(super) fn about(file: &File) -> Squeezed {
    let decoder = GzDecoder::new(BufReader::with_capacity(512, file));
    let extra = decoder.header().and_then(|header| header.extra());
    extra
        .and_then(|extra| serde_json::from_slice(extra).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn parts_move_up_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        fs::write(&path, "1").unwrap();
        for (number, content) in (2..6).map(|n| (n, n.to_string())) {
            assert_eq!(rotate(&path, 3).unwrap().metadata().unwrap().len(), 0);
            fs::write(&path, content).unwrap();
            assert_eq!(text(&older(&path, 1)), (number - 1).to_string());
        }
        assert_eq!(text(&older(&path, 2)), "3");
        assert_eq!(parts(&path).unwrap().len(), 2);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_single_file_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        fs::write(&path, "old").unwrap();
        rotate(&path, 1).unwrap();
        assert_eq!(text(&path), "");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn compressed_parts_move_along_and_say_what_they_were() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        fs::write(&path, "first").unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        rotate(&path, 4).unwrap();
        let last = Timestamp::from_nanos(17);
        squeeze(&path, 1, last).unwrap();
        rotate(&path, 4).unwrap();
        let found = parts(&path).unwrap();
        let forms = |plain, squeezed| Forms { plain, squeezed };
        assert_eq!(
            found,
            [(1, forms(true, false)), (2, forms(false, true))].into()
        );
        let file = File::open(older_squeezed(&path, 2)).unwrap();
        let about = about(&file);
        assert_eq!((about.last, about.inode), (Some(last), inode));
        let mut content = String::new();
        let file = File::open(older_squeezed(&path, 2)).unwrap();
        GzDecoder::new(file).read_to_string(&mut content).unwrap();
        assert_eq!(content, "first");
    }

    #[test]
    fn other_files_are_no_parts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        for name in [
            "x.log",
            "x.log.new",
            "x.log.0",
            "x.log.01",
            "x.log.1.gz.old",
            "x.log.",
            "y.log.1",
            "x.log.+1",
        ] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(parts(&path).unwrap(), BTreeMap::new());
    }
}
