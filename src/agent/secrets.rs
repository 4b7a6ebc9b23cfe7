//! Secrets and configs of containers, as files in memory.
//!
//! One file system in memory for each container, mounted below the node's own directory where nobody but root comes; the
//! container's mounts are of its files. It goes with the container's process, and nothing of it was ever on a disk: where
//! the kernel can, it is not even swapped. What is mounted is asked of the kernel, never remembered, so a daemon that
//! begins anew finds what its last life has left.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::task::plan::FileRequest;
use crate::model::ContainerId;

/// Room beside the bytes of the files: each takes whole pages.
const ROOM: u64 = 1 << 20;

/// Where the files of this node's containers are. Clones are handles to the same.
#[derive(Clone, Debug)]
pub struct Secrets {
    root: PathBuf,
}

impl Secrets {
    /// Below `root`, which is made when it is needed.
    pub fn at(root: PathBuf) -> Self {
        Self { root }
    }

    fn place(&self, container: ContainerId) -> PathBuf {
        self.root.join(container.to_string())
    }

    /// Makes the files of a container, and says where they are. What was made for it before is gone.
    pub fn make(&self, container: ContainerId, files: &[FileRequest]) -> io::Result<Vec<PathBuf>> {
        self.wipe(container)?;
        if files.is_empty() {
            return Ok(Vec::new());
        }
        let place = self.place(container);
        let mut directory = fs::DirBuilder::new();
        directory.recursive(true).mode(0o700).create(&place)?;
        let bytes: u64 = files.iter().map(|file| file.content.len() as u64).sum();
        let pages = files.len() as u64 * 4096;
        let made = memory(&place, bytes + pages + ROOM).and_then(|()| {
            let numbered = files.iter().enumerate();
            let write = |(number, file)| write(&place, number, file);
            numbered.map(write).collect::<io::Result<Vec<PathBuf>>>()
        });
        if made.is_err() {
            // What it was tried for is the error that counts.
            let _ = self.wipe(container);
        }
        made
    }

    /// Takes the files of a container away. Good when there are none.
    pub fn wipe(&self, container: ContainerId) -> io::Result<()> {
        let place = self.place(container);
        loop {
            match umount2(&place, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
                // There may be more than one.
                Ok(()) => {}
                // Nothing is mounted there, or there is nothing at all.
                Err(Errno::EINVAL | Errno::ENOENT) => break,
                Err(error) => return Err(error.into()),
            }
        }
        match fs::remove_dir(&place) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Takes away what was left by containers that are gone.
    pub fn restore(&self, known: &BTreeSet<ContainerId>) -> io::Result<()> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let name = entry?.file_name();
            let container = name.to_string_lossy().parse::<ContainerId>().ok();
            if let Some(container) = container.filter(|id| !known.contains(id)) {
                self.wipe(container)?;
            }
        }
        Ok(())
    }
}

/// A file system in memory of this size, which is not swapped where the kernel (6.4) can do without.
fn memory(place: &Path, bytes: u64) -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let try_with = |more: &str| {
        let options = format!("mode=0700,size={bytes}{more}");
        mount(
            Some("skein-secrets"),
            place,
            Some("tmpfs"),
            flags,
            Some(options.as_str()),
        )
    };
    match try_with(",noswap") {
        Err(Errno::EINVAL) => Ok(try_with("")?),
        outcome => Ok(outcome?),
    }
}

fn write(place: &Path, number: usize, file: &FileRequest) -> io::Result<PathBuf> {
    let path = place.join(number.to_string());
    let mut options = fs::File::options();
    let mut open = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    open.write_all(file.content.bytes())?;
    chown(&path, Some(file.uid), Some(file.gid))?;
    // Last, and whatever the umask is.
    open.set_permissions(fs::Permissions::from_mode(file.mode & 0o7777))?;
    Ok(path)
}
