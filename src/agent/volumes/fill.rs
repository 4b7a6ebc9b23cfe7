//! Copies an image's content into a volume that is empty, and finds directories within a volume.
//!
//! Paths of an image or a container are looked up within its root: a symbolic link in them leads nowhere else. What is
//! copied is never followed: links are copied as links.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{
    FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown, lchown, symlink,
};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, SFlag, mknod};

/// The directory at `path` as someone sees it whose root is `root`. An error when there is none.
pub(super) fn open_within(root: &Path, path: &Path) -> io::Result<OwnedFd> {
    let root = File::open(root)?;
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let path = if path.as_os_str().is_empty() {
        Path::new("/")
    } else {
        path
    };
    Ok(openat2(&root, path, how)?)
}

/// Whether there is nothing in a directory.
pub(super) fn is_empty(dir: &Path) -> io::Result<bool> {
    Ok(fs::read_dir(dir)?.next().is_none())
}

/// Copies the directory that is open as `from`, with its owner, mode and times, onto the directory `to`.
pub(super) fn copy(from: &OwnedFd, to: &Path) -> io::Result<()> {
    let from = PathBuf::from(format!("/proc/self/fd/{}/", from.as_raw_fd()));
    let metadata = fs::metadata(&from)?;
    let mut linked = BTreeMap::new();
    copy_content(&from, to, &mut linked)?;
    dress(to, &metadata)
}

/// Files with several names that were copied, by what they are in the source.
type Linked = BTreeMap<(u64, u64), PathBuf>;

fn copy_content(from: &Path, to: &Path, linked: &mut Linked) -> io::Result<()> {
    // Directories that are still to be copied, without recursion: an image decides how deep they are.
    let mut left: Vec<(PathBuf, PathBuf)> = vec![(from.into(), to.into())];
    let mut made: Vec<(PathBuf, Metadata)> = Vec::new();
    while let Some((from, to)) = left.pop() {
        let mut names: Vec<OsString> = Vec::new();
        for entry in fs::read_dir(&from)? {
            names.push(entry?.file_name());
        }
        for name in names {
            let (source, copy) = (from.join(&name), to.join(&name));
            let metadata = fs::symlink_metadata(&source)?;
            if metadata.is_dir() {
                fs::create_dir(&copy)?;
                made.push((copy.clone(), metadata));
                left.push((source, copy));
            } else {
                copy_other(&source, &copy, &metadata, linked)?;
            }
        }
    }
    // From within to without: filling a directory changes its time.
    made.iter()
        .rev()
        .try_for_each(|(dir, metadata)| dress(dir, metadata))
}

fn copy_other(from: &Path, to: &Path, metadata: &Metadata, linked: &mut Linked) -> io::Result<()> {
    let kind = metadata.file_type();
    if kind.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
        return lchown(to, Some(metadata.uid()), Some(metadata.gid()));
    }
    if metadata.nlink() > 1 {
        let file = (metadata.dev(), metadata.ino());
        if let Some(first) = linked.get(&file) {
            return fs::hard_link(first, to);
        }
        linked.insert(file, to.into());
    }
    if kind.is_file() {
        fs::copy(from, to)?;
    } else if kind.is_socket() {
        // It would have no listener.
        return Ok(());
    } else {
        let kind = SFlag::from_bits_truncate(metadata.mode() & SFlag::S_IFMT.bits());
        mknod(to, kind, Mode::from_bits_truncate(0o600), metadata.rdev())?;
    }
    dress(to, metadata)
}

/// Gives `path`, which is no symbolic link, the owner, mode and times of another.
fn dress(path: &Path, like: &Metadata) -> io::Result<()> {
    chown(path, Some(like.uid()), Some(like.gid()))?;
    // After the owner, whose change takes setuid away.
    fs::set_permissions(path, Permissions::from_mode(like.mode() & 0o7777))?;
    if like.is_file() || like.is_dir() {
        let times = fs::FileTimes::new().set_modified(like.modified()?);
        File::open(path)?.set_times(times)?;
    }
    Ok(())
}

/// Bytes of all files below `dir`, each counted once; nothing that is mounted there.
pub(super) fn size(dir: &Path) -> io::Result<u64> {
    let device = fs::metadata(dir)?.dev();
    let mut counted = std::collections::BTreeSet::new();
    let mut left = vec![dir.to_path_buf()];
    let mut bytes = 0;
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                // It is being worked in.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata?,
            };
            if metadata.dev() != device {
                continue;
            }
            if metadata.is_dir() {
                left.push(entry.path());
            } else if metadata.nlink() == 1 || counted.insert(metadata.ino()) {
                bytes += metadata.len();
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_copied_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("a/file"), "text").unwrap();
        fs::hard_link(from.join("a/file"), from.join("a/b/same")).unwrap();
        fs::set_permissions(from.join("a/file"), Permissions::from_mode(0o4751)).unwrap();
        fs::set_permissions(&from, Permissions::from_mode(0o1777)).unwrap();
        symlink("/etc/passwd", from.join("link")).unwrap();
        nix::unistd::mkfifo(&from.join("pipe"), Mode::S_IRUSR).unwrap();
        let source = open_within(dir.path(), Path::new("/from")).unwrap();
        copy(&source, &to).unwrap();
        let file = fs::metadata(to.join("a/file")).unwrap();
        let same = fs::metadata(to.join("a/b/same")).unwrap();
        assert_eq!((file.mode() & 0o7777, file.ino()), (0o4751, same.ino()));
        assert_eq!(
            file.modified().unwrap(),
            fs::metadata(from.join("a/file"))
                .unwrap()
                .modified()
                .unwrap()
        );
        assert_eq!(
            fs::read_link(to.join("link")).unwrap(),
            Path::new("/etc/passwd")
        );
        assert!(
            fs::symlink_metadata(to.join("pipe"))
                .unwrap()
                .file_type()
                .is_fifo()
        );
        assert_eq!(fs::metadata(&to).unwrap().mode() & 0o7777, 0o1777);
        assert_eq!(size(&to).unwrap(), 4 + "/etc/passwd".len() as u64);
    }

    #[test]
    fn links_do_not_lead_out() {
        let dir = tempfile::tempdir().unwrap();
        let (root, secret) = (dir.path().join("root"), dir.path().join("secret"));
        fs::create_dir_all(root.join("inner")).unwrap();
        fs::create_dir(&secret).unwrap();
        symlink(&secret, root.join("absolute")).unwrap();
        symlink("../secret", root.join("relative")).unwrap();
        symlink("/inner", root.join("within")).unwrap();
        for path in ["absolute", "relative", "../secret", "missing"] {
            assert!(open_within(&root, Path::new(path)).is_err(), "{path}");
        }
        for path in ["inner", "within", "/inner", "../inner", ""] {
            assert!(open_within(&root, Path::new(path)).is_ok(), "{path}");
        }
    }
}
