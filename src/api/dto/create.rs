//! `POST /containers/create`, in: Docker's `Config` and `HostConfig` as a container that is wanted.
//!
//! Pure. What is not understood, or cannot be had here, is refused in a sentence where leaving it out would change what
//! the container is; nothing is dropped in silence.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::api::backend::{Refusal, RefusalClass};
use crate::model::container::{DnsConfig, LogConfig, Seccomp, Security};
use crate::model::image::Healthcheck;
use crate::model::limits::{Device, ResourceLimits, Ulimit};
use crate::model::standalone::{Joined, RestartKind, RestartPolicy, Wanted};
use crate::model::task_spec::{BindOptions, MountKind, MountSpec, VolumeOptions};

/// Docker's `ContainerCreateRequest`, as far as it has to be understood.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(in crate::api) struct CreateDto {
    hostname: String,
    domainname: String,
    user: String,
    tty: bool,
    open_stdin: bool,
    stdin_once: bool,
    env: Vec<String>,
    cmd: Value,
    entrypoint: Value,
    healthcheck: Option<Healthcheck>,
    image: String,
    volumes: BTreeMap<String, Value>,
    working_dir: String,
    network_disabled: bool,
    mac_address: String,
    labels: BTreeMap<String, String>,
    stop_signal: String,
    stop_timeout: Option<i64>,
    host_config: HostConfigDto,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct HostConfigDto {
    binds: Vec<String>,
    log_config: LogConfigDto,
    network_mode: String,
    port_bindings: BTreeMap<String, Value>,
    publish_all_ports: bool,
    restart_policy: RestartPolicyDto,
    auto_remove: bool,
    volume_driver: String,
    volumes_from: Vec<String>,
    annotations: BTreeMap<String, String>,
    cap_add: Vec<String>,
    cap_drop: Vec<String>,
    cgroupns_mode: String,
    dns: Vec<String>,
    dns_options: Vec<String>,
    dns_search: Vec<String>,
    extra_hosts: Vec<String>,
    group_add: Vec<String>,
    ipc_mode: String,
    links: Vec<String>,
    oom_score_adj: i32,
    pid_mode: String,
    privileged: bool,
    readonly_rootfs: bool,
    security_opt: Vec<String>,
    storage_opt: BTreeMap<String, String>,
    tmpfs: BTreeMap<String, String>,
    uts_mode: String,
    userns_mode: String,
    shm_size: i64,
    sysctls: BTreeMap<String, String>,
    runtime: String,
    init: Option<bool>,
    mounts: Vec<MountSpec>,
    masked_paths: Option<Vec<String>>,
    readonly_paths: Option<Vec<String>>,
    memory: i64,
    memory_reservation: i64,
    memory_swap: i64,
    memory_swappiness: Option<i64>,
    nano_cpus: i64,
    cpu_shares: i64,
    cpu_period: i64,
    cpu_quota: i64,
    cpu_realtime_period: i64,
    cpu_realtime_runtime: i64,
    cpuset_cpus: String,
    cpuset_mems: String,
    blkio_weight: u16,
    blkio_weight_device: Vec<Value>,
    blkio_device_read_bps: Vec<Value>,
    blkio_device_write_bps: Vec<Value>,
    #[serde(rename = "BlkioDeviceReadIOps")]
    blkio_device_read_iops: Vec<Value>,
    #[serde(rename = "BlkioDeviceWriteIOps")]
    blkio_device_write_iops: Vec<Value>,
    cgroup_parent: String,
    devices: Vec<DeviceDto>,
    device_cgroup_rules: Vec<String>,
    device_requests: Vec<DeviceRequestDto>,
    kernel_memory: i64,
    oom_kill_disable: Option<bool>,
    pids_limit: Option<i64>,
    ulimits: Vec<UlimitDto>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct LogConfigDto {
    r#type: String,
    config: BTreeMap<String, String>,
}

/// Docker's restart policy.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(in crate::api) struct RestartPolicyDto {
    name: String,
    maximum_retry_count: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct DeviceDto {
    path_on_host: String,
    path_in_container: String,
    cgroup_permissions: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct DeviceRequestDto {
    driver: String,
    capabilities: Vec<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct UlimitDto {
    name: String,
    soft: i64,
    hard: i64,
}

/// What this version has not.
fn cannot(what: &str) -> Refusal {
    Refusal::new(
        RefusalClass::NotImplemented,
        format!("{what} is not something that skein can give a container in this version"),
    )
}

impl CreateDto {
    /// The container that is asked for, and what the user is to be warned of. `raw` is the request as it came.
    pub(in crate::api) fn wanted(
        self,
        name: &str,
        raw: &Map<String, Value>,
    ) -> Result<(Wanted, Vec<String>), Refusal> {
        let host = self.host_config;
        host.refuse_what_is_not_here()?;
        if !self.mac_address.is_empty() {
            return Err(cannot(
                "an address of the user's own choice (--mac-address)",
            ));
        }
        let network = host.network(self.network_disabled)?;
        let warnings = host.warnings(&network)?;
        let restart = host.restart()?;
        let mounts = host.mounts(&self.volumes)?;
        let object = |key: &str| raw.get(key).and_then(Value::as_object).cloned();
        let mut config = raw.clone();
        config.retain(|key, _| key != "HostConfig" && key != "NetworkingConfig");
        let wanted = Wanted {
            name: name.to_owned(),
            image: self.image,
            command: words(&self.cmd)?.unwrap_or_default(),
            entrypoint: words(&self.entrypoint)?,
            env: env(self.env)?,
            cwd: self.working_dir,
            user: self.user,
            groups: host.group_add.clone(),
            tty: self.tty,
            stdin: self.open_stdin,
            stdin_once: self.stdin_once,
            labels: self.labels,
            hostname: self.hostname,
            domainname: self.domainname,
            hosts: host.hosts()?,
            dns: host.dns()?,
            mounts,
            volumes_from: host.volumes_from.clone(),
            tmpfs: host.tmpfs.clone(),
            read_only: host.readonly_rootfs,
            shm_size: amount(host.shm_size, "SHM size")?,
            security: host.security()?,
            limits: host.limits()?,
            ulimits: host.ulimits.iter().map(UlimitDto::limit).collect(),
            sysctls: host.sysctls.clone(),
            pid: joined(&host.pid_mode, "PID mode")?,
            ipc: joined(&host.ipc_mode, "IPC mode")?,
            network,
            init: host.init,
            stop_signal: self.stop_signal,
            stop_timeout: self.stop_timeout,
            log: LogConfig {
                driver: host.log_config.r#type.clone(),
                options: host.log_config.config.clone(),
            },
            health: self.healthcheck,
            restart,
            auto_remove: host.auto_remove,
            host_config: object("HostConfig").unwrap_or_default(),
            config,
        };
        if wanted.image.is_empty() {
            return Err(Refusal::invalid(
                "config cannot be empty in order to create a container",
            ));
        }
        Ok((wanted, warnings))
    }
}

impl RestartPolicyDto {
    /// Whether it says anything.
    pub(in crate::api) const fn is_said(&self) -> bool {
        !self.name.is_empty()
    }

    /// The policy, or Docker's words.
    pub(in crate::api) fn read(&self) -> Result<RestartPolicy, Refusal> {
        let kind = match &*self.name {
            "" | "no" => RestartKind::No,
            "on-failure" => RestartKind::OnFailure,
            "always" => RestartKind::Always,
            "unless-stopped" => RestartKind::UnlessStopped,
            other => {
                return Err(Refusal::invalid(format!(
                    "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or \
                     'unless-stopped'"
                )));
            }
        };
        let most = u32::try_from(self.maximum_retry_count).map_err(|_negative| {
            Refusal::invalid("invalid restart policy: maximum retry count cannot be negative")
        })?;
        if most > 0 && kind != RestartKind::OnFailure {
            return Err(Refusal::invalid(
                "invalid restart policy: maximum retry count can only be used with 'on-failure'",
            ));
        }
        Ok(RestartPolicy { kind, most })
    }
}

impl UlimitDto {
    fn limit(&self) -> Ulimit {
        Ulimit {
            name: self.name.clone(),
            soft: self.soft,
            hard: self.hard,
        }
    }
}

impl HostConfigDto {
    /// What is mounted: as it is said, and a volume of its own in each place of `volumes` where nothing is.
    fn mounts(&self, volumes: &BTreeMap<String, Value>) -> Result<Vec<MountSpec>, Refusal> {
        let mut mounts = self.mounts.clone();
        for bind in &self.binds {
            mounts.push(of_bind(bind)?);
        }
        for target in volumes.keys() {
            // `-v a:/b` without a source stands in both lists.
            let clean = |path: &str| path.trim_end_matches('/').to_owned();
            if mounts.iter().any(|one| clean(&one.target) == clean(target)) {
                continue;
            }
            mounts.push(MountSpec {
                kind: Some(MountKind::Volume),
                target: target.clone(),
                ..MountSpec::default()
            });
        }
        Ok(mounts)
    }

    /// The first of those things that no container of ours has.
    fn asked_in_vain(&self) -> Option<&'static str> {
        let per_device = [
            &self.blkio_weight_device,
            &self.blkio_device_read_bps,
            &self.blkio_device_write_bps,
            &self.blkio_device_read_iops,
            &self.blkio_device_write_iops,
        ];
        let given = |paths: &Option<Vec<String>>| paths.is_some();
        let all = [
            (
                !self.links.is_empty(),
                "a link to another container (--link)",
            ),
            (
                !matches!(&*self.volume_driver, "" | "local"),
                "a volume of another driver (--volume-driver)",
            ),
            (
                !matches!(&*self.userns_mode, "" | "host"),
                "a user namespace of its own (--userns)",
            ),
            (!self.uts_mode.is_empty(), "the machine's host name (--uts)"),
            (
                !matches!(&*self.cgroupns_mode, "" | "private"),
                "the machine's control groups (--cgroupns)",
            ),
            (
                !self.cgroup_parent.is_empty(),
                "a place among control groups (--cgroup-parent)",
            ),
            (
                !self.storage_opt.is_empty(),
                "a storage option (--storage-opt)",
            ),
            (
                !self.device_cgroup_rules.is_empty(),
                "a rule for devices (--device-cgroup-rule)",
            ),
            (
                per_device.iter().any(|list| !list.is_empty()),
                "a limit for one device (--blkio-weight-device, --device-…)",
            ),
            (
                self.cpu_realtime_period != 0 || self.cpu_realtime_runtime != 0,
                "real-time processor shares (--cpu-rt-…)",
            ),
            (!self.annotations.is_empty(), "an annotation (--annotation)"),
            (
                given(&self.masked_paths) || given(&self.readonly_paths),
                "another choice of hidden system paths (systempaths)",
            ),
            (
                self.kernel_memory > 0,
                "a limit of kernel memory (--kernel-memory)",
            ),
        ];
        let first = all.into_iter().find(|(is_asked, _)| *is_asked);
        first.map(|(_, what)| what)
    }

    fn refuse_what_is_not_here(&self) -> Result<(), Refusal> {
        if let Some(what) = self.asked_in_vain() {
            return Err(cannot(what));
        }
        if !matches!(
            &*self.runtime,
            "" | "runc" | "crun" | "io.containerd.runc.v2"
        ) {
            return Err(Refusal::invalid(format!(
                "unknown or invalid runtime name: {}",
                self.runtime
            )));
        }
        if let Some(request) = self.device_requests.first() {
            let capabilities: Vec<String> = request
                .capabilities
                .iter()
                .map(|all| format!("[{}]", all.join(" ")))
                .collect();
            return Err(Refusal::internal(format!(
                "could not select device driver \"{}\" with capabilities: [{}]",
                request.driver,
                capabilities.join(" ")
            )));
        }
        Ok(())
    }

    fn network(&self, disabled: bool) -> Result<Joined, Refusal> {
        if disabled {
            return Ok(Joined::Own);
        }
        match &*self.network_mode {
            "" | "default" | "bridge" | "none" => Ok(Joined::Own),
            "host" => Ok(Joined::Host),
            other => match other.strip_prefix("container:") {
                Some("") => Err(Refusal::invalid(
                    "Invalid network mode: invalid container format container:<name|id>",
                )),
                Some(name) => Ok(Joined::Container(name.to_owned())),
                None => Err(cannot(&format!("a place in network {other} (--network)"))),
            },
        }
    }

    /// What the user is to know of how it reaches others.
    fn warnings(&self, network: &Joined) -> Result<Vec<String>, Refusal> {
        let mut warnings = Vec::new();
        if *network == Joined::Own && self.network_mode != "none" {
            warnings.push(
                "this version of skein wires no network for a container that is run by itself: it reaches nobody but \
                 itself; use --network host to reach others"
                    .to_owned(),
            );
        }
        self.check_ports(network, &mut warnings)?;
        Ok(warnings)
    }

    fn restart(&self) -> Result<RestartPolicy, Refusal> {
        let restart = self.restart_policy.read()?;
        if self.auto_remove && restart.kind != RestartKind::No {
            return Err(Refusal::invalid(
                "can't create 'AutoRemove' container with restart policy",
            ));
        }
        Ok(restart)
    }

    fn check_ports(&self, network: &Joined, warnings: &mut Vec<String>) -> Result<(), Refusal> {
        if self.port_bindings.is_empty() && !self.publish_all_ports {
            return Ok(());
        }
        match network {
            Joined::Host => {
                let words = "Published ports are discarded when using host network mode";
                warnings.push(words.to_owned());
                Ok(())
            }
            Joined::Container(_) => Err(Refusal::invalid(
                "conflicting options: port publishing and the container type network mode",
            )),
            Joined::Own => Err(cannot(
                "a published port (-p) on a network of its own; use --network host",
            )),
        }
    }

    fn hosts(&self) -> Result<Vec<String>, Refusal> {
        let line = |entry: &String| match entry.split_once(':') {
            Some((_, "host-gateway")) => Err(cannot("the address host-gateway (--add-host)")),
            Some((name, address)) if !name.is_empty() => {
                let address = address.trim_start_matches('[').trim_end_matches(']');
                Ok(format!("{address} {name}"))
            }
            Some(_) | None => Err(Refusal::invalid(format!(
                "bad format for add-host: \"{entry}\""
            ))),
        };
        self.extra_hosts.iter().map(line).collect()
    }

    fn dns(&self) -> Result<DnsConfig, Refusal> {
        let server = |text: &String| {
            let wrong = |_| Refusal::invalid(format!("{text} is not an ip address"));
            text.trim().parse().map_err(wrong)
        };
        Ok(DnsConfig {
            servers: self.dns.iter().map(server).collect::<Result<_, _>>()?,
            search: self.dns_search.clone(),
            options: self.dns_options.clone(),
        })
    }

    fn security(&self) -> Result<Security, Refusal> {
        let mut security = Security {
            privileged: self.privileged,
            cap_add: self.cap_add.iter().map(|name| capability(name)).collect(),
            cap_drop: self.cap_drop.iter().map(|name| capability(name)).collect(),
            ..Security::default()
        };
        for option in &self.security_opt {
            if matches!(&**option, "no-new-privileges" | "no-new-privileges:true") {
                security.no_new_privileges = true;
                continue;
            }
            let (key, value) = option
                .split_once('=')
                .or_else(|| option.split_once(':'))
                .ok_or_else(|| {
                    Refusal::invalid(format!("invalid --security-opt 1: \"{option}\""))
                })?;
            match (key, value) {
                ("no-new-privileges", value) => {
                    let read = value.parse();
                    security.no_new_privileges = read.map_err(|_not_a_truth| {
                        Refusal::invalid(format!("invalid --security-opt 2: \"{option}\""))
                    })?;
                }
                ("seccomp", "unconfined") => security.seccomp = Seccomp::Unconfined,
                ("seccomp", "builtin") => security.seccomp = Seccomp::Default,
                ("seccomp", profile) => security.seccomp = Seccomp::Profile(profile.to_owned()),
                ("apparmor", profile) => security.apparmor = profile.to_owned(),
                ("label", "disable") => {}
                ("label", _) => return Err(cannot("a label of SELinux (--security-opt label)")),
                _ => {
                    return Err(Refusal::invalid(format!(
                        "invalid --security-opt 2: \"{option}\""
                    )));
                }
            }
        }
        Ok(security)
    }

    fn limits(&self) -> Result<ResourceLimits, Refusal> {
        if self.nano_cpus > 0 && (self.cpu_period > 0 || self.cpu_quota != 0) {
            return Err(Refusal::invalid(
                "Conflicting options: Nano CPUs and CPU Period or Quota cannot both be set",
            ));
        }
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let nano_cpus = amount(self.nano_cpus, "CPUs")?;
        if nano_cpus > cpus as u64 * 1_000_000_000 {
            return Err(Refusal::invalid(format!(
                "Range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
            )));
        }
        let memory = amount(self.memory, "memory limit")?;
        let least = |swap: i64| u64::try_from(swap).is_ok_and(|swap| swap > 0 && swap < memory);
        if least(self.memory_swap) {
            return Err(Refusal::invalid(
                "Minimum memoryswap limit should be larger than memory limit, see usage",
            ));
        }
        if memory == 0 && self.memory_swap > 0 {
            return Err(Refusal::invalid(
                "You should always set the Memory limit when using Memoryswap limit, see usage",
            ));
        }
        Ok(ResourceLimits {
            memory,
            memory_reservation: amount(self.memory_reservation, "memory reservation")?,
            memory_swap: self.memory_swap,
            swappiness: self
                .memory_swappiness
                .and_then(|swappiness| u64::try_from(swappiness).ok()),
            nano_cpus,
            cpu_shares: amount(self.cpu_shares, "CPU shares")?,
            cpu_period: amount(self.cpu_period, "CPU period")?,
            cpu_quota: self.cpu_quota,
            cpuset_cpus: self.cpuset_cpus.clone(),
            cpuset_mems: self.cpuset_mems.clone(),
            pids: self.pids_limit.unwrap_or_default().max(0),
            blkio_weight: self.blkio_weight,
            oom_score_adj: self.oom_score_adj,
            oom_kill_disable: self.oom_kill_disable.unwrap_or_default(),
            devices: self.devices.iter().map(DeviceDto::device).collect(),
        })
    }
}

impl DeviceDto {
    fn device(&self) -> Device {
        Device {
            host: self.path_on_host.clone(),
            container: self.path_in_container.clone(),
            permissions: self.cgroup_permissions.clone(),
        }
    }
}

fn amount(number: i64, what: &str) -> Result<u64, Refusal> {
    u64::try_from(number)
        .map_err(|_negative| Refusal::invalid(format!("the {what} cannot be less than 0")))
}

fn capability(name: &str) -> String {
    let name = name.trim().to_ascii_uppercase();
    match name == "ALL" || name.starts_with("CAP_") {
        true => name,
        false => format!("CAP_{name}"),
    }
}

fn joined(mode: &str, what: &str) -> Result<Joined, Refusal> {
    match mode {
        "" | "private" | "shareable" => Ok(Joined::Own),
        "host" => Ok(Joined::Host),
        other => match other.strip_prefix("container:") {
            Some(name) if !name.is_empty() => Ok(Joined::Container(name.to_owned())),
            Some(_) | None => Err(Refusal::invalid(format!("invalid {what}: {other}"))),
        },
    }
}

/// Go's `strslice`: a list, or one word.
fn words(value: &Value) -> Result<Option<Vec<String>>, Refusal> {
    let wrong = || Refusal::invalid("invalid JSON: a command is a list of texts");
    match value {
        Value::Null => Ok(None),
        Value::String(word) => Ok(Some(vec![word.clone()])),
        Value::Array(all) => {
            let word = |word: &Value| word.as_str().map(str::to_owned).ok_or_else(wrong);
            all.iter().map(word).collect::<Result<_, _>>().map(Some)
        }
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => Err(wrong()),
    }
}

fn env(all: Vec<String>) -> Result<Vec<String>, Refusal> {
    match all
        .iter()
        .find(|entry| entry.is_empty() || entry.starts_with('='))
    {
        Some(entry) => Err(Refusal::invalid(format!(
            "invalid environment variable: {entry}"
        ))),
        None => Ok(all),
    }
}

/// `source:target[:options]`, the source a path or a volume's name.
fn of_bind(bind: &str) -> Result<MountSpec, Refusal> {
    let invalid = || Refusal::invalid(format!("invalid volume specification: '{bind}'"));
    let parts: Vec<&str> = bind.split(':').collect();
    let (source, target, options) = match parts[..] {
        [target] => ("", target, ""),
        [source, target] => (source, target, ""),
        [source, target, options] => (source, target, options),
        _ => return Err(invalid()),
    };
    if !target.starts_with('/') || (source.is_empty() && parts.len() > 1) {
        return Err(invalid());
    }
    if target.trim_end_matches('/').is_empty() {
        return Err(Refusal::invalid(format!(
            "invalid volume specification: '{bind}': invalid specification: destination can't be '/'"
        )));
    }
    let is_path = source.starts_with('/');
    let mut mount = MountSpec {
        kind: Some(if is_path {
            MountKind::Bind
        } else {
            MountKind::Volume
        }),
        source: source.to_owned(),
        target: target.to_owned(),
        ..MountSpec::default()
    };
    let mut of_bind = BindOptions {
        create_mountpoint: true,
        ..BindOptions::default()
    };
    let mut of_volume = VolumeOptions::default();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => mount.read_only = true,
            // Labels of SELinux mean nothing where there is none, as in Docker.
            "rw" | "z" | "Z" | "cached" | "delegated" | "consistent" => {}
            "nocopy" if !is_path => of_volume.no_copy = true,
            "rprivate" | "private" | "rshared" | "shared" | "rslave" | "slave" if is_path => {
                option.clone_into(&mut of_bind.propagation);
            }
            other => {
                return Err(Refusal::invalid(format!(
                    "invalid volume specification: '{bind}': invalid mode: {other}"
                )));
            }
        }
    }
    if is_path {
        mount.bind_options = Some(of_bind);
    } else {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        if !source.bytes().all(plain) {
            return Err(Refusal::invalid(format!(
                "create {source}: \"{source}\" includes invalid characters for a local volume name, only \
                 \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
            )));
        }
        mount.volume_options = Some(of_volume);
    }
    Ok(mount)
}

#[cfg(test)]
mod tests;
