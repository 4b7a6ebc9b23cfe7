//! What container a task is: its spec, laid over what its image says.
//!
//! Called by the runner once the image is known; the answer is kept in the ledger, so that a moved tag or a changed
//! default never changes a container that exists. Looks nothing up: volumes, binds and networks are named here and
//! found by the runner. An error rejects the task and is shown to the user: Docker's words where it has some.

pub(in crate::agent) mod environment;
mod files;
pub(in crate::agent) mod mounts;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;

use super::health::HealthPlan;
use crate::agent::logs;
use crate::model::container::{
    DnsConfig, ImageRef, LogConfig, NetworkMode, ProcessConfig, Seccomp, Security, Sharing,
};
use crate::model::limits::{ResourceLimits, Ulimit};
pub use crate::model::signal::signal_number;
use crate::model::task_spec::template::{TemplateContext, TemplateError, expand};
use crate::model::task_spec::{ContainerSpec, Driver, Privileges, TaskSpec};
use crate::model::{ContainerConfig, ContainerId, ImageConfig, NodeId, Platform};
use crate::wire::assignment::Assigned;

pub use self::files::{FileRequest, FilesError, Held, files};
pub use self::mounts::VolumeRequest;

/// Marks a container as a task's, with its ID.
pub const TASK_LABEL: &str = "com.docker.swarm.task.id";

/// How long a container has from its stop signal on when its spec does not say.
pub(in crate::agent) const STOP_GRACE: Duration = Duration::from_secs(10);

/// Size of `/dev/shm`, bytes, as Docker has it.
pub(in crate::agent) const SHM_SIZE: u64 = 64 << 20;

/// The least memory that Docker limits a container to, bytes.
pub(in crate::agent) const MIN_MEMORY: u64 = 6 << 20;

/// What a container may say of the node that it is on, and what the node adds to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeSelf {
    /// The node.
    pub node: NodeId,
    /// What the machine is called.
    pub hostname: String,
    /// What the machine is.
    pub platform: Platform,
    /// Where output goes when nobody says.
    pub log: LogConfig,
    /// Whether containers have a tiny init when nobody says.
    pub init: bool,
    /// What a container gets that binds Docker's socket; `None` where that is somebody else's.
    pub socket: Option<PathBuf>,
}

/// A container, and what the runner has to see to for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// The container; its volumes are named, its network is not wired.
    pub container: ContainerConfig,
    /// How its health is asked, if it is.
    pub health: Option<HealthPlan>,
    /// Its volumes: which of its mounts, and what volume.
    pub volumes: Vec<(usize, VolumeRequest)>,
    /// Its binds whose path is made when it is missing: which of its mounts.
    pub make_binds: Vec<usize>,
}

/// Why a spec and an image make no container.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The spec has no container.
    #[error("ContainerSpec: image reference must be provided")]
    NoContainer,
    /// Neither says what to run.
    #[error("no command specified")]
    NoCommand,
    /// A template that cannot be expanded.
    #[error("failed to expand {0}")]
    Template(&'static str, #[source] TemplateError),
    /// A mount without a kind, or of one that no node of ours has.
    #[error("invalid mount config for type {0:?}: mount type unknown or not supported")]
    MountKind(String),
    /// A mount lacks a field.
    #[error("invalid mount config for type {0:?}: field {1} must not be empty")]
    MountField(&'static str, &'static str),
    /// A path that must be absolute.
    #[error(
        "invalid mount config for type {0:?}: invalid mount path: '{1}' mount path must be absolute"
    )]
    MountPath(&'static str, String),
    /// A path below a volume that leads out of it.
    #[error(
        "invalid mount config for type \"volume\": subpath must be a relative path within the volume"
    )]
    Subpath,
    /// A mount in place of the whole container.
    #[error("invalid mount config: invalid specification: destination can't be '/'")]
    Root,
    /// Two mounts at one place.
    #[error("Duplicate mount point: {0}")]
    Duplicate(String),
    /// An owner of a secret or a config that is no number.
    #[error("string to {0} conversion failed: {1:?}")]
    Owner(&'static str, String),
    /// A template that is no text.
    #[error("{0} {1} is a template and no text")]
    NoText(&'static str, String),
    /// A line for `/etc/hosts` without an address.
    #[error("invalid IP address in add-host: {0:?}")]
    Host(String),
    /// A name server that is no address.
    #[error("{0} is not an ip address")]
    NameServer(String),
    /// Less memory than a container needs.
    #[error("Minimum memory limit allowed is 6MB")]
    Memory,
    /// A mode or a profile that cannot be read.
    #[error("invalid seccomp profile: {0}")]
    Seccomp(String),
    /// A mode that there is not.
    #[error("invalid AppArmor mode: {0:?}")]
    AppArmor(String),
    /// A log driver or an option of it that there is not.
    #[error("{0}")]
    Log(String),
    /// A signal that there is not.
    #[error("invalid signal: {0}")]
    Signal(String),
}

/// The container `id` of a task.
pub fn container(
    assigned: &Assigned,
    image: &ImageRef,
    config: &ImageConfig,
    node: &NodeSelf,
    id: ContainerId,
) -> Result<Planned, PlanError> {
    let spec = assigned
        .spec
        .container_spec
        .as_ref()
        .ok_or(PlanError::NoContainer)?;
    let context = template_context(assigned, node);
    let hostname =
        expand(&spec.hostname, &context).map_err(|e| PlanError::Template("hostname", e))?;
    let stop_signal = [&spec.stop_signal, &config.stop_signal]
        .into_iter()
        .find(|signal| !signal.is_empty())
        .map_or("SIGTERM", String::as_str);
    signal_number(stop_signal).ok_or_else(|| PlanError::Signal(stop_signal.into()))?;
    let mut mounts = mounts::of(&spec.mounts, image, config, id, Some(&context))?;
    mounts::give_own_socket(&mut mounts.mounts, node.socket.as_deref());
    let process = ProcessConfig {
        args: arguments(spec, config)?,
        env: environment::of(assigned, spec, config, (&hostname, id), &context)?,
        cwd: either(&spec.dir, &config.working_dir),
        user: either(&spec.user, &config.user),
        groups: spec.groups.clone(),
        tty: spec.tty,
        stdin: spec.open_stdin,
    };
    let container = ContainerConfig {
        id,
        name: assigned.name(),
        image: image.clone(),
        labels: labels(assigned, spec, config, node),
        process,
        hostname,
        domainname: String::new(),
        hosts: hosts(&spec.hosts)?,
        dns: dns(spec)?,
        mounts: mounts.mounts,
        read_only: spec.read_only,
        shm_size: SHM_SIZE,
        security: security(spec)?,
        limits: limits(&assigned.spec, spec)?,
        ulimits: ulimits(spec),
        sysctls: spec.sysctls.clone(),
        pid: Sharing::Own,
        ipc: Sharing::Own,
        network: NetworkMode::None,
        init: spec.init.unwrap_or(node.init),
        stop_signal: stop_signal.into(),
        stop_grace: grace(spec),
        log: log(assigned, node)?,
    };
    Ok(Planned {
        health: HealthPlan::of(spec.healthcheck.as_ref(), config.healthcheck.as_ref()),
        container,
        volumes: mounts.volumes,
        make_binds: mounts.make_binds,
    })
}

/// How long a container has from its stop signal on.
pub fn grace(spec: &ContainerSpec) -> Duration {
    spec.stop_grace_period.map_or(STOP_GRACE, |nanos| {
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
    })
}

/// An error with its cause, as one line for the user.
pub fn words(error: &PlanError) -> String {
    match error {
        PlanError::Template(_, source) => format!("{error}: {source}"),
        other => other.to_string(),
    }
}

/// What templates in the spec of a task may name.
pub fn template_context(assigned: &Assigned, node: &NodeSelf) -> TemplateContext {
    TemplateContext {
        service_id: assigned.service.id.to_string(),
        service_name: assigned.service.name.clone(),
        service_labels: assigned.service_labels.clone(),
        node_id: node.node.to_string(),
        node_hostname: node.hostname.clone(),
        architecture: node.platform.architecture.clone(),
        os: node.platform.os.clone(),
        task_id: assigned.task.to_string(),
        task_name: assigned.name(),
        task_slot: assigned.slot.to_string(),
        inside: None,
    }
}

pub(in crate::agent) fn either(first: &str, second: &str) -> String {
    if first.is_empty() { second } else { first }.to_owned()
}

fn arguments(spec: &ContainerSpec, config: &ImageConfig) -> Result<Vec<String>, PlanError> {
    let (entrypoint, cmd) = match (spec.command.is_empty(), spec.args.is_empty()) {
        (false, _) => (&spec.command, &spec.args),
        (true, false) => (&config.entrypoint, &spec.args),
        (true, true) => (&config.entrypoint, &config.cmd),
    };
    let all: Vec<String> = entrypoint.iter().chain(cmd).cloned().collect();
    match all.first() {
        Some(program) if !program.is_empty() => Ok(all),
        Some(_) | None => Err(PlanError::NoCommand),
    }
}

fn labels(
    assigned: &Assigned,
    spec: &ContainerSpec,
    config: &ImageConfig,
    node: &NodeSelf,
) -> std::collections::BTreeMap<String, String> {
    let mut labels = config.labels.clone();
    labels.extend(spec.labels.clone());
    for (key, value) in [
        ("com.docker.swarm.task", String::new()),
        (TASK_LABEL, assigned.task.to_string()),
        ("com.docker.swarm.task.name", assigned.name()),
        ("com.docker.swarm.node.id", node.node.to_string()),
        (
            "com.docker.swarm.service.id",
            assigned.service.id.to_string(),
        ),
        (
            "com.docker.swarm.service.name",
            assigned.service.name.clone(),
        ),
    ] {
        labels.insert(key.into(), value);
    }
    labels
}

pub(in crate::agent) fn hosts(lines: &[String]) -> Result<Vec<(IpAddr, Vec<String>)>, PlanError> {
    let host = |line: &String| {
        let mut words = line.split_whitespace();
        let address = words.next().and_then(|word| word.parse().ok());
        match (address, words.next()) {
            (Some(address), Some(name)) => Ok((address, vec![name.to_owned()])),
            (Some(_) | None, _) => Err(PlanError::Host(line.clone())),
        }
    };
    lines.iter().map(host).collect()
}

fn dns(spec: &ContainerSpec) -> Result<DnsConfig, PlanError> {
    let Some(dns) = &spec.dns_config else {
        return Ok(DnsConfig::default());
    };
    let server = |text: &String| {
        let wrong = |_| PlanError::NameServer(text.clone());
        text.trim().parse().map_err(wrong)
    };
    Ok(DnsConfig {
        servers: dns
            .nameservers
            .iter()
            .map(server)
            .collect::<Result<_, _>>()?,
        search: dns.search.clone(),
        options: dns.options.clone(),
    })
}

fn security(spec: &ContainerSpec) -> Result<Security, PlanError> {
    let privileges = spec.privileges.clone().unwrap_or_default();
    Ok(Security {
        privileged: false,
        cap_add: spec
            .capability_add
            .iter()
            .map(|it| capability(it))
            .collect(),
        cap_drop: spec
            .capability_drop
            .iter()
            .map(|it| capability(it))
            .collect(),
        no_new_privileges: privileges.no_new_privileges,
        seccomp: seccomp(&privileges)?,
        apparmor: match privileges.app_armor.as_ref().map_or("", |o| &o.mode) {
            "" | "default" => String::new(),
            "disabled" => "unconfined".into(),
            other => return Err(PlanError::AppArmor(other.into())),
        },
    })
}

/// A capability as the kernel names it.
pub(in crate::agent) fn capability(name: &str) -> String {
    let name = name.trim().to_ascii_uppercase();
    match name == "ALL" || name.starts_with("CAP_") {
        true => name,
        false => format!("CAP_{name}"),
    }
}

fn seccomp(privileges: &Privileges) -> Result<Seccomp, PlanError> {
    let Some(options) = &privileges.seccomp else {
        return Ok(Seccomp::Default);
    };
    match options.mode.as_str() {
        "" | "default" => Ok(Seccomp::Default),
        "unconfined" => Ok(Seccomp::Unconfined),
        "custom" => {
            let wrong = |what: String| PlanError::Seccomp(what);
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(&options.profile)
                .map_err(|error| wrong(error.to_string()))?;
            let text = String::from_utf8(bytes).map_err(|error| wrong(error.to_string()))?;
            Ok(Seccomp::Profile(text))
        }
        other => Err(PlanError::Seccomp(format!("unknown mode {other:?}"))),
    }
}

fn limits(task: &TaskSpec, spec: &ContainerSpec) -> Result<ResourceLimits, PlanError> {
    let limit = task.resources.as_ref().and_then(|all| all.limits.clone());
    let limit = limit.unwrap_or_default();
    let memory = u64::try_from(limit.memory_bytes).unwrap_or(0);
    if memory > 0 && memory < MIN_MEMORY {
        return Err(PlanError::Memory);
    }
    let oom_score_adj = spec.oom_score_adj.clamp(-1000, 1000);
    Ok(ResourceLimits {
        memory,
        nano_cpus: u64::try_from(limit.nano_cpus).unwrap_or(0),
        pids: limit.pids.max(0),
        oom_score_adj: i32::try_from(oom_score_adj).unwrap_or(0),
        ..ResourceLimits::default()
    })
}

fn ulimits(spec: &ContainerSpec) -> Vec<Ulimit> {
    let limit = |limit: &crate::model::task_spec::UlimitSpec| Ulimit {
        name: limit.name.clone(),
        soft: limit.soft,
        hard: limit.hard,
    };
    spec.ulimits.iter().map(limit).collect()
}

fn log(assigned: &Assigned, node: &NodeSelf) -> Result<LogConfig, PlanError> {
    let named = |driver: &&Driver| !driver.name.is_empty() || !driver.options.is_empty();
    let said = [&assigned.spec.log_driver, &assigned.log_driver];
    let log = match said.into_iter().flatten().find(named) {
        Some(driver) => LogConfig {
            driver: either(&driver.name, &node.log.driver),
            options: driver.options.clone(),
        },
        None => node.log.clone(),
    };
    let checked = logs::check(&log.driver, &log.options);
    checked.map_err(|error| PlanError::Log(error.to_string()))?;
    Ok(log)
}

#[cfg(test)]
mod tests;
