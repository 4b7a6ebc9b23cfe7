//! Mounts on volumes' directories, as the kernel has them: what is mounted is asked for, never remembered.

use std::fs;
use std::io;
use std::net::ToSocketAddrs as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::options::MountPlan;

/// Mounts what `plan` says on `target`; why not, in words.
pub(super) fn apply(plan: MountPlan, target: &Path) -> Result<(), String> {
    let plan = match plan.host().map(|host| (host, 0).to_socket_addrs()) {
        None => plan,
        Some(Ok(mut addresses)) => match addresses.next() {
            Some(address) => plan.with_address(address.ip()),
            None => return Err("error resolving passed in network volume address".into()),
        },
        Some(Err(error)) => {
            return Err(format!(
                "error resolving passed in network volume address: {error}"
            ));
        }
    };
    let failed = |error: Errno| plan.words(target, &error.desc().to_lowercase());
    let data = Some(plan.data.as_str()).filter(|data| !data.is_empty());
    let kind = Some(plan.kind.as_str());
    mount(Some(&plan.device), target, kind, plan.flags, data).map_err(failed)?;
    let nothing: Option<&str> = None;
    let change = |flags| mount(nothing, target, nothing, flags, nothing);
    let mut changed = Ok(());
    if !plan.propagation.is_empty() {
        changed = change(plan.propagation);
    }
    // A bind mount takes its other flags only afterwards.
    let others = MsFlags::MS_BIND | MsFlags::MS_REC;
    if plan.flags.contains(MsFlags::MS_BIND) && !(plan.flags & !others).is_empty() {
        changed = changed.and_then(|()| change(plan.flags | MsFlags::MS_REMOUNT));
    }
    changed.map_err(|error| {
        let _ = undo(target);
        failed(error)
    })
}

/// Shows the directory that is open as `number` of this process at `target` as well.
pub(super) fn show(number: i32, target: &Path) -> io::Result<()> {
    let source = format!("/proc/self/fd/{number}");
    let nothing: Option<&str> = None;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    Ok(mount(
        Some(source.as_str()),
        target,
        nothing,
        flags,
        nothing,
    )?)
}

/// Undoes all mounts on `target`; good when there is none. One that is still used vanishes from the tree and ends with
/// its last user.
pub(super) fn undo(target: &Path) -> io::Result<()> {
    while is_mounted(target)? {
        umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?;
    }
    Ok(())
}

/// Whether something is mounted right there.
pub(super) fn is_mounted(target: &Path) -> io::Result<bool> {
    Ok(below(target)?.iter().any(|mounted| mounted == target))
}

/// Where something is mounted at `target` or below it, the deepest last.
pub(super) fn below(target: &Path) -> io::Result<Vec<PathBuf>> {
    let table = fs::read("/proc/self/mountinfo")?;
    let lines = table.split(|byte| *byte == b'\n');
    let points = lines.filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    let points = points.map(|point| PathBuf::from(std::ffi::OsString::from_vec(plain(point))));
    let mut points: Vec<PathBuf> = points.filter(|point| point.starts_with(target)).collect();
    points.sort();
    Ok(points)
}

/// Without the table's escapes: `\040` is a space.
fn plain(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = field;
    while let Some((first, more)) = rest.split_first() {
        let digits = more.first_chunk::<3>().filter(|_| *first == b'\\');
        let number = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match number.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &more[3..];
            }
            None => {
                out.push(*first);
                rest = more;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_escapes_are_undone() {
        assert_eq!(plain(br"/a\040b\134c\"), br"/a b\c\");
        assert!(is_mounted(Path::new("/proc")).unwrap());
        assert!(!is_mounted(Path::new("/proc/self")).unwrap());
    }
}
