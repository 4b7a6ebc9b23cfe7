//! Namespaces of containers, each kept by a file that it is mounted on.
//!
//! The file is named as the container, and its path is what the runtime is given. A namespace is made before anything
//! is put into it, and its file is taken away last, so that a file is there for as long as anything of the container
//! is. A thread changes its namespace only when it ends with that work: it is never one that carries tasks.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{NSFS_MAGIC, statfs};

use super::LinkError;
use crate::model::ContainerId;

/// This thread's own namespace, as a file. `/proc/self` would be that of the process' first thread.
const OWN: &str = "/proc/thread-self/ns/net";

/// The namespace of this thread.
pub(super) fn own() -> io::Result<File> {
    File::open(OWN)
}

/// Does work in a namespace, on a thread that ends with it, and waits for it.
pub(super) fn inside<T: Send>(
    namespace: &File,
    work: impl FnOnce() -> Result<T, LinkError> + Send,
) -> Result<T, LinkError> {
    on_a_thread(|| {
        setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)
            .map_err(|errno| LinkError::kernel("enter a namespace")(errno.into()))?;
        work()
    })
}

fn on_a_thread<T: Send>(
    work: impl FnOnce() -> Result<T, LinkError> + Send,
) -> Result<T, LinkError> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("namespace".into());
        let thread = thread
            .spawn_scoped(scope, work)
            .map_err(LinkError::kernel("start a thread"))?;
        thread.join().unwrap_or(Err(LinkError::Broken))
    })
}

/// Where a container's is kept.
pub(super) fn path(folder: &Path, container: ContainerId) -> PathBuf {
    folder.join(container.to_string())
}

/// Opens a container's namespace, and makes it when it is not there. Whatever else is at its place, an empty file of an
/// attempt that was broken off or of a machine that was started again, is what it is mounted on.
pub(super) fn ensure(folder: &Path, container: ContainerId) -> Result<File, LinkError> {
    let path = path(folder, container);
    let what = || format!("make the namespace {}", path.display());
    if !is_namespace(&path) {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(LinkError::kernel(what()))?;
        on_a_thread(|| mount_new(&path).map_err(LinkError::kernel(what())))?;
    }
    File::open(&path).map_err(LinkError::kernel(what()))
}

fn mount_new(path: &Path) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let none: Option<&str> = None;
    mount(Some(OWN), path, none, MsFlags::MS_BIND, none)?;
    Ok(())
}

fn is_namespace(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == NSFS_MAGIC)
}

/// Takes a container's namespace from its file, as often as it is mounted there, and the file away.
pub(super) fn remove(folder: &Path, container: ContainerId) -> Result<(), LinkError> {
    let path = path(folder, container);
    let what = || format!("remove the namespace {}", path.display());
    loop {
        match umount2(&path, MntFlags::MNT_DETACH) {
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => break,
            Err(errno) => return Err(LinkError::kernel(what())(errno.into())),
        }
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(LinkError::kernel(what())(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The containers that have a file.
pub(super) fn list(folder: &Path) -> Result<BTreeSet<ContainerId>, LinkError> {
    let what = || format!("list {}", folder.display());
    let mut all = BTreeSet::new();
    for entry in fs::read_dir(folder).map_err(LinkError::kernel(what()))? {
        let entry = entry.map_err(LinkError::kernel(what()))?;
        let name = entry.file_name();
        all.extend(
            name.to_str()
                .and_then(|name| name.parse::<ContainerId>().ok()),
        );
    }
    Ok(all)
}
