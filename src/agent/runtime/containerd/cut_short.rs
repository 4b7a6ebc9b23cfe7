//! What is left where a containerd was killed in the middle of a start.
//!
//! Its shim ends a step that it was on when nobody waits for it any more. So a bundle may be in the way of the next
//! start, a process may have ended at the door of its program, and one that went through may pass for one that waits.
//! The runtime's start asks here. Looks at the machine, not at containerd, which has forgotten it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use crate::model::{ContainerId, Timestamp};

/// The directory of containerd's bundles, within its state directory.
const BUNDLES: &str = "io.containerd.runtime.v2.task";

/// Where the shim has the tool below keep its containers.
const CONTAINERS: &str = "/run/containerd/runc";

/// A younger bundle may belong to a start that nobody waits for any more and that goes on.
const SETTLED: Duration = Duration::from_secs(1);

/// The bundle that is in the way of a container's task, when containerd says that this is so.
///
/// A containerd that is killed before the shim has begun to work finds the bundle when it comes back, and 1.6 cannot
/// remove it: its shim does not delete what was never made. From then on it refuses every task of that name.
pub(super) fn bundle_in_the_way(said: &str, namespace: &str, id: ContainerId) -> Option<PathBuf> {
    let (_, rest) = said.split_once("mkdir ")?;
    let (path, _) = rest.split_once(": file exists")?;
    let path = Path::new(path);
    let ours: PathBuf = [BUNDLES, namespace, &id.to_string()].iter().collect();
    (path.is_absolute() && path.ends_with(ours)).then(|| path.to_owned())
}

/// Removes a bundle that nobody works in; whether it is gone.
pub(super) fn clear_bundle(bundle: &Path, now: Timestamp) -> io::Result<bool> {
    let made = match fs::metadata(bundle) {
        Ok(meta) => i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    if now.since(Timestamp::from_nanos(made)) < SETTLED || is_worked_in(&bundle.canonicalize()?)? {
        return Ok(false);
    }
    match umount2(&bundle.join("rootfs"), MntFlags::MNT_DETACH) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(error) => return Err(error.into()),
    }
    fs::remove_dir_all(bundle)?;
    Ok(true)
}

/// Whether a process has this directory as its own, as shims have their bundle.
fn is_worked_in(directory: &Path) -> io::Result<bool> {
    for process in fs::read_dir("/proc")? {
        let own = fs::read_link(process?.path().join("cwd"));
        if own.is_ok_and(|own| own == directory) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The door at which a container's first process waits until it is started. Who starts it opens the door and then takes
/// it away.
fn door(namespace: &str, id: ContainerId) -> PathBuf {
    let container = Path::new(CONTAINERS).join(namespace).join(id.to_string());
    container.join("exec.fifo")
}

/// Whether a process that has ended did not come to its program: who opened the door was killed, and the process ended
/// for that.
pub(super) fn never_began(namespace: &str, id: ContainerId) -> bool {
    door(namespace, id).exists()
}

/// Whether a process that is said to wait has begun: who opened the door was killed before it was taken away. Takes it
/// away, so that the process passes for what it is.
pub(super) fn has_begun(namespace: &str, id: ContainerId, pid: u32) -> io::Result<bool> {
    if is_waiting(&fs::read(format!("/proc/{pid}/cmdline"))?) {
        return Ok(false);
    }
    match fs::remove_file(door(namespace, id)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(true),
    }
}

/// Whether a process of this command line is still the tool's own.
fn is_waiting(command: &[u8]) -> bool {
    let program = command.split(|byte| *byte == 0).next().unwrap_or_default();
    let name = program.rsplit(|byte| *byte == b'/').next();
    matches!(name, Some(b"runc" | b"crun" | b""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> ContainerId {
        "ab".repeat(32).parse().unwrap()
    }

    #[test]
    fn only_the_containers_own_bundle_is_in_its_way() {
        let path = format!("/run/containerd/{BUNDLES}/space/{}", id());
        let found = |said: &str| bundle_in_the_way(said, "space", id());
        let said = |path: &str| format!("failed to start shim: mkdir {path}: file exists: unknown");
        assert_eq!(found(&said(&path)), Some(PathBuf::from(&path)));
        assert_eq!(found(&said(&format!("{path}/work"))), None);
        assert_eq!(found(&said(&path.replace("space", "other"))), None);
        assert_eq!(found(&said(&format!("/etc/{}", id()))), None);
        assert_eq!(found(&said(path.trim_start_matches('/'))), None);
        assert_eq!(
            found(&format!("mkdir {path}: no space left on device")),
            None
        );
    }

    #[test]
    fn a_bundle_goes_when_it_is_settled_and_nobody_works_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let bundle = directory.path().join("bundle");
        fs::create_dir_all(bundle.join("rootfs")).unwrap();
        fs::write(bundle.join("config.json"), "{}").unwrap();
        let now = Timestamp::from_nanos(
            i128::from(fs::metadata(&bundle).unwrap().mtime()) * 1_000_000_000,
        );
        let later = now.after(SETTLED * 3);
        assert!(!clear_bundle(&bundle, now).unwrap(), "it is young");
        let mut worker = std::process::Command::new("sleep")
            .arg("60")
            .current_dir(&bundle)
            .spawn()
            .unwrap();
        assert!(!clear_bundle(&bundle, later).unwrap(), "it is worked in");
        worker.kill().unwrap();
        worker.wait().unwrap();
        assert!(clear_bundle(&bundle, later).unwrap());
        assert!(!bundle.exists());
        assert!(
            clear_bundle(&bundle, later).unwrap(),
            "what is gone is gone"
        );
    }

    #[test]
    fn a_process_that_waits_is_the_tools_own() {
        assert!(is_waiting(b"runc\0init\0"));
        assert!(is_waiting(b"/usr/bin/crun\0create\0"));
        assert!(is_waiting(b""), "it ends");
        assert!(!is_waiting(b"sh\0-c\0runc\0"));
        assert!(!is_waiting(b"/bin/runcible\0"));
    }
}
