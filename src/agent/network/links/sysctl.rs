//! Switches of the kernel's networking, which are files below `/proc/sys/net`.
//!
//! The files are those of the namespace of the thread that opens them, so that whoever calls this is on a thread of
//! which that is known. A switch is read first and written only when it differs: a write to some of them has effects of
//! its own. They are never assumed: a new namespace has some from the machine's, some from the kernel.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::LinkError;

const ROOT: &str = "/proc/sys/net";

/// Sets a switch of this thread's namespace, given as the path below `/proc/sys/net`.
pub(super) fn set(name: &str, value: &str) -> Result<(), LinkError> {
    let path = Path::new(ROOT).join(name);
    write(&path, value).map_err(LinkError::kernel(format!(
        "set {} to {value}",
        path.display()
    )))
}

/// As [`set`], where the kernel has such a switch: one without IPv6 has none of its.
pub(super) fn set_if_any(name: &str, value: &str) -> Result<(), LinkError> {
    match Path::new(ROOT).join(name).exists() {
        true => set(name, value),
        false => Ok(()),
    }
}

/// Has this thread's namespace pass on IPv4 packets.
pub(super) fn forward_v4() -> Result<(), LinkError> {
    set("ipv4/ip_forward", "1")
}

/// Has this thread's namespace pass on IPv6 packets. A machine that does so ignores what routers announce, and would
/// lose its own way out, unless its interfaces are told to listen all the same.
pub(super) fn forward_v6() -> Result<(), LinkError> {
    let root = Path::new(ROOT).join("ipv6/conf");
    let all = root.join("all/forwarding");
    if read(&all).is_ok_and(|value| value == "1") {
        return Ok(());
    }
    let listens = |path: &PathBuf| read(path).is_ok_and(|value| value == "1");
    let interfaces = fs::read_dir(&root).map_err(LinkError::kernel("list switches of IPv6"))?;
    for path in interfaces
        .flatten()
        .map(|entry| entry.path().join("accept_ra"))
        .filter(listens)
    {
        write(&path, "2").map_err(LinkError::kernel(format!("set {} to 2", path.display())))?;
    }
    set("ipv6/conf/all/forwarding", "1")
}

fn read(path: &Path) -> io::Result<String> {
    Ok(fs::read_to_string(path)?.trim_end().to_owned())
}

fn write(path: &Path, value: &str) -> io::Result<()> {
    match read(path)? == value {
        true => Ok(()),
        false => fs::write(path, value),
    }
}
