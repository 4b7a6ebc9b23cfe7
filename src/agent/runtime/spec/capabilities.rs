//! Which capabilities a container has: Docker's fourteen, more, fewer, or all that this machine can give.
//!
//! Pure. Names are always in the kernel's form, `CAP_…`, in upper case.

use std::collections::BTreeSet;

use super::{HostFacts, SpecError};
use crate::model::container::Security;

/// Every capability there is, by its number in the kernel.
pub const ALL: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// What a container has when nothing is said: Docker's list.
pub const DEFAULT: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// The capabilities that the set bits of a mask, as in `/proc/self/status`, stand for.
pub fn of_mask(mask: u64) -> BTreeSet<String> {
    let set = ALL
        .iter()
        .enumerate()
        .filter(|(bit, _)| mask >> bit & 1 == 1);
    set.map(|(_, name)| (*name).to_owned()).collect()
}

/// What a container has. A name is taken with and without `CAP_`, in any case. What this machine cannot give itself is
/// left out of `ALL` and of the privileged, and refused when it is asked for by name.
pub fn resolve(security: &Security, host: &HostFacts) -> Result<BTreeSet<String>, SpecError> {
    if security.privileged {
        return Ok(host.capabilities.clone());
    }
    let add = names(&security.cap_add)?;
    let drop = names(&security.cap_drop)?;
    let mut set: BTreeSet<String> = if add.contains("ALL") {
        host.capabilities.clone()
    } else if drop.contains("ALL") {
        BTreeSet::new()
    } else {
        let own = DEFAULT.iter().map(|name| (*name).to_owned());
        own.filter(|name| host.capabilities.contains(name))
            .collect()
    };
    set.retain(|name| !drop.contains(name));
    for name in add.into_iter().filter(|name| name != "ALL") {
        if !host.capabilities.contains(&name) {
            return Err(SpecError::CapabilityNotHere(name));
        }
        set.insert(name);
    }
    Ok(set)
}

fn names(wanted: &[String]) -> Result<BTreeSet<String>, SpecError> {
    wanted
        .iter()
        .map(|name| {
            let upper = name.trim().to_ascii_uppercase();
            if upper == "ALL" {
                return Ok(upper);
            }
            let full = if upper.starts_with("CAP_") {
                upper
            } else {
                format!("CAP_{upper}")
            };
            ALL.contains(&&*full)
                .then_some(full)
                .ok_or_else(|| SpecError::UnknownCapability(name.clone()))
        })
        .collect()
}
