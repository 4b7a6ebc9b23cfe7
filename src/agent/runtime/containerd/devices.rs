//! Devices of the machine that a container is to have.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use super::super::spec::HostDevice;
use super::super::{Failure, RuntimeError};
use super::client::broken;
use crate::model::ContainerConfig;
use crate::model::limits::Device;

/// What is not a device of the machine but of whoever mounted it.
const NOT_HANDED_ON: [&str; 7] = [
    "pts",
    "shm",
    "fd",
    "mqueue",
    ".lxc",
    ".lxd-mounts",
    "console",
];

/// All devices that a container was promised.
pub(super) fn of_container(config: &ContainerConfig) -> Result<Vec<HostDevice>, RuntimeError> {
    let mut all = Vec::new();
    if config.security.privileged {
        // A device that goes away while one looks is simply not there.
        let _ = walk(Path::new("/dev"), "/dev", "rwm", &mut all);
        return Ok(all);
    }
    for device in &config.limits.devices {
        add(device, &mut all).map_err(|error| {
            let (host, words) = (
                &device.host,
                "error gathering device information while adding custom device",
            );
            let why = match error.kind() {
                io::ErrorKind::NotFound => "no such file or directory".to_owned(),
                _ => error.to_string(),
            };
            broken(
                Failure::Refused,
                format!("{words} \"{host}\": {why}"),
                error,
            )
        })?;
    }
    Ok(all)
}

fn add(device: &Device, all: &mut Vec<HostDevice>) -> io::Result<()> {
    let target = if device.container.is_empty() {
        &device.host
    } else {
        &device.container
    };
    let permissions = if device.permissions.is_empty() {
        "rwm"
    } else {
        &device.permissions
    };
    let source = fs::canonicalize(&device.host)?;
    if source.is_dir() {
        return walk(&source, target, permissions, all);
    }
    match node(&source, target, permissions)? {
        Some(device) => {
            all.push(device);
            Ok(())
        }
        None => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a device node",
        )),
    }
}

fn walk(from: &Path, to: &str, permissions: &str, all: &mut Vec<HostDevice>) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if NOT_HANDED_ON.contains(&&*name) {
            continue;
        }
        let (path, target) = (entry.path(), format!("{to}/{name}"));
        if entry.file_type()?.is_dir() {
            walk(&path, &target, permissions, all)?;
        } else if let Some(device) = node(&path, &target, permissions)? {
            all.push(device);
        }
    }
    Ok(())
}

/// The device at a path; `None` when there is something else.
fn node(path: &Path, target: &str, permissions: &str) -> io::Result<Option<HostDevice>> {
    let meta = fs::symlink_metadata(path)?;
    let kind = meta.file_type();
    if !kind.is_block_device() && !kind.is_char_device() {
        return Ok(None);
    }
    let number = |part: u64| i64::try_from(part).unwrap_or(0);
    Ok(Some(HostDevice {
        path: target.to_owned(),
        block: kind.is_block_device(),
        numbers: (
            number(nix::sys::stat::major(meta.rdev())),
            number(nix::sys::stat::minor(meta.rdev())),
        ),
        mode: meta.permissions().mode(),
        owner: (meta.uid(), meta.gid()),
        permissions: permissions.to_owned(),
    }))
}
