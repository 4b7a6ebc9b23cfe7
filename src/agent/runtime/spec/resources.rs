//! How much of the machine a container may use, for the kernel: its control group, its devices, its processes' limits.
//!
//! Pure. Limits that cannot be are refused in Docker's words before anything is made of them.

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, LinuxMemory,
    LinuxPids, LinuxResources, PosixRlimit, PosixRlimitBuilder, PosixRlimitType,
};

use super::{HostFacts, Place, SpecError};
use crate::model::ContainerConfig;
use crate::model::limits::{ResourceLimits, Ulimit};

/// The least memory that Docker takes, bytes.
const LEAST_MEMORY: u64 = 6 << 20;

/// The period of a quota that is given as a number of cores, microseconds.
const CPU_PERIOD: u64 = 100_000;

/// A device of the machine, as it was found, for a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostDevice {
    /// Where it is in the container.
    pub path: String,
    /// A block device; a character device otherwise.
    pub block: bool,
    /// Its numbers.
    pub numbers: (i64, i64),
    /// Permissions of the node.
    pub mode: u32,
    /// Its owner.
    pub owner: (u32, u32),
    /// Some of `r`, `w` and `m`.
    pub permissions: String,
}

/// The limits of a container's control group.
pub(super) fn resources(
    config: &ContainerConfig,
    host: &HostFacts,
    place: &Place,
) -> Result<LinuxResources, SpecError> {
    let mut resources = limits(&config.limits, host)?;
    resources.set_devices(Some(if config.security.privileged {
        vec![rule(true, None, None, "rwm")]
    } else {
        device_rules(&place.devices)
    }));
    Ok(resources)
}

/// The limits alone, for an update of a container that runs.
pub fn limits(limits: &ResourceLimits, host: &HostFacts) -> Result<LinuxResources, SpecError> {
    let mut resources = LinuxResources::default();
    resources
        .set_devices(None)
        .set_memory(memory(limits, host)?)
        .set_cpu(cpu(limits, host)?);
    if limits.pids != 0 {
        let mut pids = LinuxPids::default();
        pids.set_limit(limits.pids.max(-1));
        resources.set_pids(Some(pids));
    }
    if limits.blkio_weight != 0 {
        if !(10..=1000).contains(&limits.blkio_weight) {
            let words = "Range of blkio weight is from 10 to 1000";
            return Err(SpecError::Limit(words.to_owned()));
        }
        let mut disk = LinuxBlockIo::default();
        disk.set_weight(Some(limits.blkio_weight));
        resources.set_block_io(Some(disk));
    }
    Ok(resources)
}

fn memory(limits: &ResourceLimits, host: &HostFacts) -> Result<Option<LinuxMemory>, SpecError> {
    let refuse = |words: &str| Err(SpecError::Limit(words.to_owned()));
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let set = |bytes: u64| (bytes > 0).then(|| signed(bytes));
    if limits.memory > 0 && limits.memory < LEAST_MEMORY {
        return refuse("Minimum memory limit allowed is 6MB");
    }
    if limits.memory_swap > 0 && limits.memory == 0 {
        return refuse(
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        );
    }
    if limits.memory_swap > 0 && limits.memory_swap < signed(limits.memory) {
        return refuse("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if limits.memory > 0 && limits.memory_reservation > limits.memory {
        return refuse(
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        );
    }
    if limits.swappiness.is_some_and(|much| much > 100) {
        return refuse(
            "invalid value for memory swappiness: valid memory swappiness range is 0-100",
        );
    }
    let swap = match limits.memory_swap {
        _ if !host.swap_limit => None,
        0 if limits.memory > 0 => Some(signed(limits.memory).saturating_mul(2)),
        0 => None,
        bytes => Some(bytes),
    };
    let mut memory = LinuxMemory::default();
    memory
        .set_limit(set(limits.memory))
        .set_reservation(set(limits.memory_reservation))
        .set_swap(swap)
        .set_disable_oom_killer(limits.oom_kill_disable.then_some(true));
    if host.cgroup != super::CgroupMode::V2 {
        memory.set_swappiness(limits.swappiness);
    }
    Ok((memory != LinuxMemory::default()).then_some(memory))
}

fn cpu(limits: &ResourceLimits, host: &HostFacts) -> Result<Option<LinuxCpu>, SpecError> {
    let cpus = host.cpus as u64;
    if limits.nano_cpus > cpus * 1_000_000_000 {
        return Err(SpecError::Limit(format!(
            "range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        )));
    }
    if limits.nano_cpus > 0 && (limits.cpu_quota != 0 || limits.cpu_period != 0) {
        let words = "Conflicting options: Nano CPUs and CPU Period or Quota cannot both be set.";
        return Err(SpecError::Limit(words.to_owned()));
    }
    let mut cpu = LinuxCpu::default();
    if limits.nano_cpus > 0 {
        let quota = limits.nano_cpus / (1_000_000_000 / CPU_PERIOD);
        // The kernel takes no quota under a millisecond.
        let quota = i64::try_from(quota.max(1000)).unwrap_or(i64::MAX);
        cpu.set_period(Some(CPU_PERIOD)).set_quota(Some(quota));
    }
    if limits.cpu_period > 0 {
        if !(1000..=1_000_000).contains(&limits.cpu_period) {
            let words = "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)";
            return Err(SpecError::Limit(words.to_owned()));
        }
        cpu.set_period(Some(limits.cpu_period));
    }
    if limits.cpu_quota != 0 {
        if (1..1000).contains(&limits.cpu_quota) {
            let words = "CPU cfs quota can not be less than 1ms (i.e. 1000)";
            return Err(SpecError::Limit(words.to_owned()));
        }
        cpu.set_quota(Some(limits.cpu_quota));
    }
    let text = |value: &str| (!value.is_empty()).then(|| value.to_owned());
    cpu.set_shares((limits.cpu_shares > 0).then(|| limits.cpu_shares.clamp(2, 262_144)))
        .set_cpus(text(&limits.cpuset_cpus))
        .set_mems(text(&limits.cpuset_mems));
    Ok((cpu != LinuxCpu::default()).then_some(cpu))
}

fn rule(
    allow: bool,
    kind: Option<LinuxDeviceType>,
    numbers: Option<(Option<i64>, Option<i64>)>,
    access: &str,
) -> LinuxDeviceCgroup {
    let (major, minor) = numbers.unwrap_or_default();
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(allow)
        .set_typ(kind)
        .set_major(major)
        .set_minor(minor)
        .set_access(Some(access.to_owned()));
    rule
}

/// Nodes of all kinds may be made; used may be the usual ones (null, zero, full, random, terminals) and those that
/// were asked for.
fn device_rules(devices: &[HostDevice]) -> Vec<LinuxDeviceCgroup> {
    use LinuxDeviceType::{B, C};
    let usual = [
        (1, Some(3)),
        (1, Some(5)),
        (1, Some(7)),
        (1, Some(8)),
        (1, Some(9)),
        (5, Some(0)),
        (5, Some(1)),
        (5, Some(2)),
        (136, None),
    ];
    let mut rules = vec![
        rule(false, None, None, "rwm"),
        rule(true, Some(C), None, "m"),
        rule(true, Some(B), None, "m"),
    ];
    for (major, minor) in usual {
        rules.push(rule(true, Some(C), Some((Some(major), minor)), "rwm"));
    }
    for device in devices {
        let kind = if device.block { B } else { C };
        let (major, minor) = device.numbers;
        let numbers = Some((Some(major), Some(minor)));
        rules.push(rule(true, Some(kind), numbers, &device.permissions));
    }
    rules
}

/// The nodes to be made for these devices.
pub(super) fn nodes(devices: &[HostDevice]) -> Vec<LinuxDevice> {
    let node = |device: &HostDevice| {
        let kind = if device.block {
            LinuxDeviceType::B
        } else {
            LinuxDeviceType::C
        };
        let mut node = LinuxDevice::default();
        node.set_path(device.path.clone().into())
            .set_typ(kind)
            .set_major(device.numbers.0)
            .set_minor(device.numbers.1)
            .set_file_mode(Some(device.mode & 0o7777))
            .set_uid(Some(device.owner.0))
            .set_gid(Some(device.owner.1));
        node
    };
    devices.iter().map(node).collect()
}

/// Limits of a container's processes, no higher than this process may hand on.
pub fn rlimits(ulimits: &[Ulimit], host: &HostFacts) -> Result<Vec<PosixRlimit>, SpecError> {
    let most = |name: &str| host.hard_limits.get(name).copied().unwrap_or(u64::MAX);
    // A negative limit is none, as for ulimit(1).
    let value = |limit: i64| u64::try_from(limit).unwrap_or(u64::MAX);
    ulimits
        .iter()
        .map(|ulimit| {
            let name = ulimit.name.trim().to_ascii_lowercase();
            let kind = rlimit_type(&name)?;
            let (soft, hard) = (value(ulimit.soft), value(ulimit.hard));
            if soft > hard {
                return Err(SpecError::SoftAboveHard {
                    soft: ulimit.soft,
                    hard: ulimit.hard,
                });
            }
            let hard = hard.min(most(&name));
            let limit = PosixRlimitBuilder::default()
                .typ(kind)
                .hard(hard)
                .soft(soft.min(hard));
            limit
                .build()
                .map_err(|error| SpecError::Limit(error.to_string()))
        })
        .collect()
}

fn rlimit_type(name: &str) -> Result<PosixRlimitType, SpecError> {
    Ok(match name {
        "cpu" => PosixRlimitType::RlimitCpu,
        "fsize" => PosixRlimitType::RlimitFsize,
        "data" => PosixRlimitType::RlimitData,
        "stack" => PosixRlimitType::RlimitStack,
        "core" => PosixRlimitType::RlimitCore,
        "rss" => PosixRlimitType::RlimitRss,
        "nproc" => PosixRlimitType::RlimitNproc,
        "nofile" => PosixRlimitType::RlimitNofile,
        "memlock" => PosixRlimitType::RlimitMemlock,
        "as" => PosixRlimitType::RlimitAs,
        "locks" => PosixRlimitType::RlimitLocks,
        "sigpending" => PosixRlimitType::RlimitSigpending,
        "msgqueue" => PosixRlimitType::RlimitMsgqueue,
        "nice" => PosixRlimitType::RlimitNice,
        "rtprio" => PosixRlimitType::RlimitRtprio,
        "rttime" => PosixRlimitType::RlimitRttime,
        _ => return Err(SpecError::UnknownUlimit(name.to_owned())),
    })
}
