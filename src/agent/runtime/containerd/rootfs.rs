//! Work inside a container's root file system, where no path leads out of it.
//!
//! A thread of its own is confined to the root, in a mount namespace that goes with the thread: whatever happens to
//! this process, no mount is left behind. There a symbolic link of the container resolves as it does for the container.

use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use containerd_client::types::Mount;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{chdir, chroot};
use tokio::sync::oneshot;

/// Which root.
#[derive(Clone, Debug)]
pub(super) enum Root {
    /// Of a container that does not run: what its snapshot is mounted by, and an empty directory to mount it on.
    Mounts(Vec<Mount>, PathBuf),
    /// Of a container that runs, by its first process.
    Process(u32),
}

/// Does `work` inside `root`. It must not touch anything but files: it is blocking, and its directory tree is not ours.
pub(super) async fn inside<T: Send + 'static>(
    root: Root,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    on_a_thread(move || confine(&root).and_then(|()| work())).await
}

/// Does `work` with a snapshot mounted at `target`, which is where only `work` sees it. It is blocking; all else of
/// the machine is as it is for everybody.
pub(super) async fn beside<T: Send + 'static>(
    mounts: Vec<Mount>,
    target: PathBuf,
    work: impl FnOnce(&Path) -> T + Send + 'static,
) -> io::Result<T> {
    on_a_thread(move || {
        alone()?;
        for one in &mounts {
            mount_snapshot(one, &target)?;
        }
        chdir("/")?;
        Ok(work(&target))
    })
    .await
}

/// On a thread that ends with the work, and takes its mounts with it.
async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (tell, told) = oneshot::channel();
    thread::Builder::new()
        .name("rootfs".to_owned())
        .spawn(move || {
            // Whoever asked may have gone.
            let _ = tell.send(work());
        })?;
    match told.await {
        Ok(result) => result,
        Err(_) => Err(io::Error::other(
            "the work inside a container's root was broken off",
        )),
    }
}

/// Confines this thread to the root, for ever.
pub(super) fn confine(root: &Root) -> io::Result<()> {
    alone()?;
    let place = match root {
        Root::Process(pid) => PathBuf::from(format!("/proc/{pid}/root")),
        Root::Mounts(mounts, target) => {
            for one in mounts {
                mount_snapshot(one, target)?;
            }
            target.clone()
        }
    };
    chdir(&place)?;
    chroot(".")?;
    chdir("/")?;
    Ok(())
}

/// Gives this thread mounts, and a directory that it is in, of its own.
fn alone() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS)?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    Ok(())
}

fn mount_snapshot(one: &Mount, target: &Path) -> io::Result<()> {
    let mut flags = MsFlags::empty();
    let mut data = Vec::new();
    for option in &one.options {
        match &**option {
            "ro" => flags |= MsFlags::MS_RDONLY,
            "bind" => flags |= MsFlags::MS_BIND,
            "rbind" => flags |= MsFlags::MS_BIND | MsFlags::MS_REC,
            "rw" => {}
            lower if lower.starts_with("lowerdir=") => data.push(shortened(lower)?),
            other => data.push(other.to_owned()),
        }
    }
    let data = data.join(",");
    let data = (!data.is_empty()).then_some(&*data);
    mount(Some(&*one.source), target, Some(&*one.r#type), flags, data)?;
    Ok(())
}

/// Lower directories as paths from their common parent, which becomes this thread's directory: the kernel takes one
/// page of options, and an image may have a hundred layers.
fn shortened(option: &str) -> io::Result<String> {
    let paths: Vec<&Path> = option["lowerdir=".len()..]
        .split(':')
        .map(Path::new)
        .collect();
    let Some(common) = paths.first().and_then(|path| path.ancestors().nth(2)) else {
        return Ok(option.to_owned());
    };
    let relative: Option<Vec<&str>> = paths
        .iter()
        .map(|path| path.strip_prefix(common).ok()?.to_str())
        .collect();
    let Some(relative) = relative else {
        return Ok(option.to_owned());
    };
    chdir(common)?;
    Ok(format!("lowerdir={}", relative.join(":")))
}
