//! What this machine is: read once when the runtime connects, from `/proc` and `/sys`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use super::super::spec::{CgroupMode, HostFacts, capabilities};

const SYS_RESOURCE: &str = "CAP_SYS_RESOURCE";

/// The facts of this machine and this process.
pub(super) fn facts(helper: &Path, cgroup_parent: &str) -> HostFacts {
    let own = own_capabilities();
    let may_raise = own.contains(SYS_RESOURCE);
    let cgroup = cgroup_mode();
    HostFacts {
        cgroup,
        cgroup_parent: cgroup_parent.to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        kernel: kernel(&read("/proc/sys/kernel/osrelease")),
        cpus: online(&read("/sys/devices/system/cpu/online")),
        capabilities: own,
        hard_limits: if may_raise {
            BTreeMap::new()
        } else {
            hard_limits()
        },
        least_oom_score_adj: if may_raise {
            -1000
        } else {
            read("/proc/self/oom_score_adj").trim().parse().unwrap_or(0)
        },
        seccomp: Path::new("/proc/sys/kernel/seccomp/actions_avail").exists(),
        x32: has_x32(),
        apparmor: read("/sys/module/apparmor/parameters/enabled").starts_with('Y'),
        swap_limit: match cgroup {
            CgroupMode::V2 => true,
            CgroupMode::V1 | CgroupMode::Hybrid => {
                Path::new("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists()
            }
        },
        // Asked of the program that makes containers, which is not known yet.
        read_only_below: false,
        helper: helper.to_owned(),
    }
}

/// Whether the kernel has the calls of x32; yes when it cannot be asked. A child asks, for a filter that this process is
/// under may kill whoever does.
#[cfg(target_arch = "x86_64")]
fn has_x32() -> bool {
    use nix::libc::{_exit, SYS_getpid, syscall};
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    /// Marks a call as one of x32.
    const X32: nix::libc::c_long = 0x4000_0000;
    #[expect(
        unsafe_code,
        reason = "no safe call asks for a call that may not be there"
    )]
    // SAFETY: the child does nothing but a call of the kernel that changes nothing, and its end.
    let forked = unsafe {
        match fork() {
            Ok(ForkResult::Child) => _exit(i32::from(syscall(X32 | SYS_getpid) < 0)),
            forked => forked,
        }
    };
    match forked {
        Ok(ForkResult::Parent { child }) => !matches!(
            waitpid(child, None),
            Ok(WaitStatus::Exited(_, 1) | WaitStatus::Signaled(..))
        ),
        Ok(ForkResult::Child) | Err(_) => true,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn has_x32() -> bool {
    false
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn cgroup_mode() -> CgroupMode {
    let is_new =
        |path: &str| statfs(path).is_ok_and(|fs| fs.filesystem_type() == CGROUP2_SUPER_MAGIC);
    if is_new("/sys/fs/cgroup") {
        CgroupMode::V2
    } else if is_new("/sys/fs/cgroup/unified") {
        CgroupMode::Hybrid
    } else {
        CgroupMode::V1
    }
}

fn own_capabilities() -> BTreeSet<String> {
    let status = read("/proc/self/status");
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    let both = mask("CapBnd:").unwrap_or(0) & mask("CapPrm:").unwrap_or(0);
    capabilities::of_mask(both)
}

fn hard_limits() -> BTreeMap<String, u64> {
    let all = [
        ("as", Resource::RLIMIT_AS),
        ("core", Resource::RLIMIT_CORE),
        ("cpu", Resource::RLIMIT_CPU),
        ("data", Resource::RLIMIT_DATA),
        ("fsize", Resource::RLIMIT_FSIZE),
        ("locks", Resource::RLIMIT_LOCKS),
        ("memlock", Resource::RLIMIT_MEMLOCK),
        ("msgqueue", Resource::RLIMIT_MSGQUEUE),
        ("nice", Resource::RLIMIT_NICE),
        ("nofile", Resource::RLIMIT_NOFILE),
        ("nproc", Resource::RLIMIT_NPROC),
        ("rss", Resource::RLIMIT_RSS),
        ("rtprio", Resource::RLIMIT_RTPRIO),
        ("rttime", Resource::RLIMIT_RTTIME),
        ("sigpending", Resource::RLIMIT_SIGPENDING),
        ("stack", Resource::RLIMIT_STACK),
    ];
    all.into_iter()
        .filter_map(|(name, kind)| Some((name.to_owned(), getrlimit(kind).ok()?.1)))
        .collect()
}

/// The first two numbers of a kernel's name.
fn kernel(release: &str) -> (u32, u32) {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || parts.next().and_then(|part| part.parse().ok()).unwrap_or(0);
    (next(), next())
}

/// How many processors a list such as `0-3,8` names; one when it cannot be read.
fn online(list: &str) -> usize {
    let ranges = list.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        Some(last.checked_sub(first)? + 1)
    });
    ranges.sum::<usize>().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_and_lists_of_processors_are_read() {
        assert_eq!(kernel("6.18.44-fc-v595\n"), (6, 18));
        assert_eq!(kernel(""), (0, 0));
        assert_eq!(online("0-3,8\n"), 5);
        assert_eq!(online("0"), 1);
        assert_eq!(online(""), 1);
    }
}
