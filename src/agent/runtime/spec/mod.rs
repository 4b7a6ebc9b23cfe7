//! What the kernel is to be told about a container: its OCI specification, made of the container's configuration.
//!
//! Pure, a function of values: [`HostFacts`] says what this machine can do, [`Place`] what was looked up for this one
//! container. Called by [`super::containerd`] when a container is made; it never touches a disk or a process.

pub mod capabilities;
mod mounts;
pub mod resources;
mod seccomp;
mod seccomp_default;
#[cfg(test)]
mod tests;
pub mod texts;
pub mod users;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    Linux, LinuxCapabilities, LinuxNamespace, LinuxNamespaceType, Process, Root, Spec, User,
};

use crate::model::container::{NetworkMode, ProcessConfig, Sharing};
use crate::model::{ContainerConfig, ContainerId};
pub use resources::HostDevice;
pub use users::{ResolvedUser, UserError};

/// Where the tiny init is inside a container that has one.
pub const INIT_PATH: &str = "/sbin/docker-init";

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Which control groups a machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupMode {
    /// The old hierarchies.
    V1,
    /// The old hierarchies, and the new one without controllers beside them.
    Hybrid,
    /// The new one.
    V2,
}

/// What this machine is and can do.
#[derive(Clone, Debug)]
pub struct HostFacts {
    /// Its control groups.
    pub cgroup: CgroupMode,
    /// Where containers' groups are made, absolute within each hierarchy.
    pub cgroup_parent: String,
    /// As Rust names it: `x86_64`, `aarch64`, …
    pub arch: String,
    /// Version of the kernel: the first two numbers.
    pub kernel: (u32, u32),
    /// Processors.
    pub cpus: usize,
    /// What this process may hand on.
    pub capabilities: BTreeSet<String>,
    /// Hard limits that this process cannot raise, by name without `RLIMIT_` in lower case; empty when it can.
    pub hard_limits: BTreeMap<String, u64>,
    /// What this process cannot go below.
    pub least_oom_score_adj: i32,
    /// The kernel filters system calls.
    pub seccomp: bool,
    /// The kernel has the calls of x32, 64-bit programs with short pointers.
    pub x32: bool,
    /// The kernel has AppArmor.
    pub apparmor: bool,
    /// Swap can be limited.
    pub swap_limit: bool,
    /// A mount can be made read-only with all that is mounted below it.
    pub read_only_below: bool,
    /// Our own program, for [`INIT_PATH`].
    pub helper: PathBuf,
}

/// What was looked up for one container.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// Who its process is.
    pub user: ResolvedUser,
    /// Where its `hostname`, `hosts` and `resolv.conf` are.
    pub files: PathBuf,
    /// First processes of the containers whose namespaces it joins.
    pub joined: BTreeMap<ContainerId, u32>,
    /// Devices beside the usual ones; for a privileged container all that the machine has.
    pub devices: Vec<HostDevice>,
}

/// Why there can be no such container. In Docker's words where it has any.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// There is nothing to run.
    #[error("no command specified")]
    NoCommand,
    /// A capability that the kernel does not know.
    #[error("invalid capability: \"{0}\"")]
    UnknownCapability(String),
    /// A capability that this machine cannot give.
    #[error("capability {0} is not available on this machine")]
    CapabilityNotHere(String),
    /// A filter is wanted and the kernel has none.
    #[error("seccomp is not enabled in your kernel, cannot run a custom seccomp profile")]
    NoSeccomp,
    /// A profile that cannot be read.
    #[error("decoding seccomp profile failed")]
    SeccompProfile(#[source] serde_json::Error),
    /// A profile that names an impossible kernel.
    #[error("seccomp profile: invalid kernel version \"{0}\"")]
    SeccompKernel(String),
    /// A profile of AppArmor is wanted and the kernel has none.
    #[error("AppArmor is not enabled in your kernel, cannot apply the profile \"{0}\"")]
    NoAppArmor(String),
    /// A volume that was not looked up before.
    #[error("volume {0} has no path on this machine")]
    VolumeWithoutPath(String),
    /// A target that is no place in the container.
    #[error("invalid mount config: invalid mount path: '{0}' mount path must be absolute")]
    RelativeTarget(String),
    /// A way of passing mounts on that there is not.
    #[error("invalid mount config for type \"bind\": invalid propagation mode: {0}")]
    Propagation(String),
    /// Read-only below is wanted and this machine cannot do it.
    #[error(
        "invalid mount config for type \"bind\": recursive read-only mounts need Linux 5.12 and runc 1.1"
    )]
    ReadOnlyBelow,
    /// Read-only below is wanted for a mount that is to follow the machine's.
    #[error(
        "invalid mount config for type \"bind\": ReadOnlyForceRecursive requires Propagation \"rprivate\""
    )]
    ReadOnlyPropagation,
    /// A limit of processes that there is not.
    #[error("invalid ulimit type: {0}")]
    UnknownUlimit(String),
    /// The soft limit is above the hard one.
    #[error("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")]
    SoftAboveHard {
        /// What was asked for.
        soft: i64,
        /// Up to where it may go.
        hard: i64,
    },
    /// A limit of resources that cannot be.
    #[error("{0}")]
    Limit(String),
    /// The container whose namespaces it is to join does not run.
    #[error("cannot join namespace of a non running container: {0}")]
    JoinedNotRunning(ContainerId),
}

/// The specification of a container.
pub fn oci_spec(
    config: &ContainerConfig,
    host: &HostFacts,
    place: &Place,
) -> Result<Spec, SpecError> {
    let capabilities = capabilities::resolve(&config.security, host)?;
    let mut root = Root::default();
    root.set_path("rootfs".into())
        .set_readonly(Some(config.read_only));
    let mut spec = Spec::default();
    spec.set_version("1.0.2".to_owned())
        .set_root(Some(root))
        .set_process(Some(container_process(config, host, place, &capabilities)?))
        .set_mounts(Some(mounts::mounts(config, host, place)?))
        .set_linux(Some(linux(config, host, place, &capabilities)?));
    if own_uts(config) {
        spec.set_hostname(Some(hostname(config)));
    } else {
        spec.set_hostname(None);
    }
    Ok(spec)
}

/// What `hostname` says in a container.
pub fn hostname(config: &ContainerConfig) -> String {
    if config.hostname.is_empty() {
        config.id.short()
    } else {
        config.hostname.clone()
    }
}

/// A container on the machine's network has the machine's name too, unless it was given one.
fn own_uts(config: &ContainerConfig) -> bool {
    config.network != NetworkMode::Host || !config.hostname.is_empty()
}

fn container_process(
    config: &ContainerConfig,
    host: &HostFacts,
    place: &Place,
    capabilities: &BTreeSet<String>,
) -> Result<Process, SpecError> {
    let mut process = process(&config.process, &place.user, capabilities, config)?;
    if config.init {
        let mut args = vec![INIT_PATH.to_owned(), "--".to_owned()];
        args.extend(config.process.args.iter().cloned());
        process.set_args(Some(args));
    }
    let limits = resources::rlimits(&config.ulimits, host)?;
    process.set_rlimits((!limits.is_empty()).then_some(limits));
    let score = config.limits.oom_score_adj;
    if score != 0 {
        process.set_oom_score_adj(Some(score.max(host.least_oom_score_adj)));
    }
    let profile = &config.security.apparmor;
    if !profile.is_empty() && profile != "unconfined" {
        if !host.apparmor {
            return Err(SpecError::NoAppArmor(profile.clone()));
        }
        process.set_apparmor_profile(Some(profile.clone()));
    }
    Ok(process)
}

/// A process of `config`'s container, its first or one that is executed in it later.
pub fn process(
    wanted: &ProcessConfig,
    user: &ResolvedUser,
    capabilities: &BTreeSet<String>,
    config: &ContainerConfig,
) -> Result<Process, SpecError> {
    if wanted.args.first().is_none_or(String::is_empty) {
        return Err(SpecError::NoCommand);
    }
    let mut who = User::default();
    who.set_uid(user.uid).set_gid(user.gid);
    who.set_additional_gids((!user.groups.is_empty()).then(|| user.groups.clone()));
    let known: HashSetOfCapabilities = capabilities
        .iter()
        .filter_map(|name| name.trim_start_matches("CAP_").parse().ok())
        .collect();
    let mut set = LinuxCapabilities::default();
    set.set_bounding(Some(known.clone()))
        .set_effective(Some(known.clone()))
        .set_permitted(Some(known))
        .set_inheritable(None)
        .set_ambient(None);
    let cwd = if wanted.cwd.is_empty() {
        "/"
    } else {
        &wanted.cwd
    };
    let mut process = Process::default();
    process
        .set_terminal(Some(wanted.tty))
        .set_user(who)
        .set_args(Some(wanted.args.clone()))
        .set_env(Some(environment(wanted, user, config)))
        .set_cwd(Path::new("/").join(cwd))
        .set_capabilities(Some(set))
        .set_rlimits(None)
        .set_no_new_privileges(Some(config.security.no_new_privileges));
    Ok(process)
}

type HashSetOfCapabilities = std::collections::HashSet<oci_spec::runtime::Capability>;

/// The environment as it was asked for, and what every container has.
fn environment(
    wanted: &ProcessConfig,
    user: &ResolvedUser,
    config: &ContainerConfig,
) -> Vec<String> {
    let own = [
        ("PATH", DEFAULT_PATH.to_owned()),
        ("HOSTNAME", hostname(config)),
        ("TERM", "xterm".to_owned()),
        ("HOME", user.home.clone()),
    ];
    let has = |name: &str| {
        let mut names = wanted.env.iter().filter_map(|line| line.split_once('='));
        names.any(|(given, _)| given == name)
    };
    let mut all: Vec<String> = own
        .into_iter()
        .filter(|(name, value)| !has(name) && !value.is_empty())
        .filter(|(name, _)| *name != "TERM" || wanted.tty)
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    all.extend(wanted.env.iter().cloned());
    all
}

fn linux(
    config: &ContainerConfig,
    host: &HostFacts,
    place: &Place,
    capabilities: &BTreeSet<String>,
) -> Result<Linux, SpecError> {
    let security = &config.security;
    let seccomp = if security.privileged {
        None
    } else {
        seccomp::filter(&security.seccomp, capabilities, host)?
    };
    let paths = |all: &[&str]| {
        let closed = !security.privileged;
        closed.then(|| all.iter().map(|path| (*path).to_owned()).collect())
    };
    let devices = resources::nodes(&place.devices);
    let group = Path::new("/")
        .join(&host.cgroup_parent)
        .join(config.id.to_string());
    let mut linux = Linux::default();
    linux
        .set_sysctl(Some(sysctls(config)))
        .set_resources(Some(resources::resources(config, host, place)?))
        .set_cgroups_path(Some(group))
        .set_namespaces(Some(namespaces(config, host, place)?))
        .set_devices((!devices.is_empty()).then_some(devices))
        .set_seccomp(seccomp)
        .set_masked_paths(paths(&MASKED))
        .set_readonly_paths(paths(&READ_ONLY))
        .set_rootfs_propagation(mounts::root_propagation(config));
    Ok(linux)
}

fn sysctls(config: &ContainerConfig) -> HashMap<String, String> {
    let mut all = HashMap::new();
    if matches!(
        config.network,
        NetworkMode::None | NetworkMode::Namespace(_)
    ) {
        // Ports and pings are free for all inside: there is nobody else in there.
        all.insert("net.ipv4.ip_unprivileged_port_start".into(), "0".into());
        all.insert("net.ipv4.ping_group_range".into(), "0 2147483647".into());
    }
    // Not the field of the specification, which older runtimes ignore.
    if own_uts(config) && !config.domainname.is_empty() {
        all.insert("kernel.domainname".into(), config.domainname.clone());
    }
    let given = config.sysctls.iter();
    all.extend(given.map(|(name, value)| (name.clone(), value.clone())));
    all
}

fn namespaces(
    config: &ContainerConfig,
    host: &HostFacts,
    place: &Place,
) -> Result<Vec<LinuxNamespace>, SpecError> {
    let of = |kind, path: Option<PathBuf>| {
        let mut namespace = LinuxNamespace::default();
        namespace.set_typ(kind).set_path(path);
        namespace
    };
    let joined = |id: &ContainerId, name: &str| match place.joined.get(id) {
        Some(pid) => Ok(Some(PathBuf::from(format!("/proc/{pid}/ns/{name}")))),
        None => Err(SpecError::JoinedNotRunning(*id)),
    };
    let mut all = vec![of(LinuxNamespaceType::Mount, None)];
    if own_uts(config) {
        all.push(of(LinuxNamespaceType::Uts, None));
    }
    let shared = [
        (LinuxNamespaceType::Pid, "pid", &config.pid),
        (LinuxNamespaceType::Ipc, "ipc", &config.ipc),
    ];
    for (kind, name, sharing) in shared {
        match sharing {
            Sharing::Own => all.push(of(kind, None)),
            Sharing::Host => {}
            Sharing::Container(id) => all.push(of(kind, joined(id, name)?)),
        }
    }
    let network = LinuxNamespaceType::Network;
    match &config.network {
        NetworkMode::None => all.push(of(network, None)),
        NetworkMode::Host => {}
        NetworkMode::Namespace(path) => all.push(of(network, Some(path.clone()))),
        NetworkMode::Container(id) => all.push(of(network, joined(id, "net")?)),
    }
    if host.cgroup == CgroupMode::V2 && !config.security.privileged {
        all.push(of(LinuxNamespaceType::Cgroup, None));
    }
    Ok(all)
}
