//! Docker's container objects, out: the line of a list, and the whole of an inspect.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::human;
use crate::api::backend::containers::{Container, HealthView};
use crate::model::container::{
    ContainerState, Exit, Mount, MountSource, NetworkMode, Security, Sharing,
};
use crate::model::plane::Place;
use crate::model::{ContainerConfig, Digest, Timestamp};

/// Before anything happened, as Docker writes it.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// One of `GET /containers/json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct SummaryDto {
    id: String,
    names: [String; 1],
    image: String,
    #[serde(rename = "ImageID")]
    image_id: String,
    command: String,
    created: i128,
    /// Ports that are published for it: none are in this version.
    ports: [u16; 0],
    #[serde(skip_serializing_if = "Option::is_none")]
    size_rw: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_root_fs: Option<u64>,
    labels: BTreeMap<String, String>,
    state: &'static str,
    status: String,
    host_config: Value,
    network_settings: Value,
    mounts: Vec<Value>,
}

impl SummaryDto {
    /// `container` at the time `now`.
    pub(in crate::api) fn of(
        container: &Container,
        images: &HashMap<Digest, Digest>,
        size: Option<u64>,
        now: Timestamp,
    ) -> Self {
        let config = &container.config;
        Self {
            id: config.id.to_string(),
            names: [format!("/{}", config.name)],
            image: config.image.name.clone(),
            image_id: image_id(config, images),
            command: config.process.args.join(" "),
            created: container.created.nanos() / 1_000_000_000,
            ports: [],
            size_rw: size,
            size_root_fs: size,
            labels: config.labels.clone(),
            state: state_word(container),
            status: status(container, now),
            host_config: json!({ "NetworkMode": mode(container) }),
            network_settings: json!({ "Networks": networks(container) }),
            mounts: mount_points(container),
        }
    }
}

/// `created`, `running`, `paused`, `restarting`, `removing` or `exited`.
pub(in crate::api) fn state_word(container: &Container) -> &'static str {
    if let Some(alone) = &container.standalone {
        if alone.removing {
            return "removing";
        }
        if alone.restarting {
            return "restarting";
        }
    }
    match &container.state {
        ContainerState::Created => "created",
        ContainerState::Running { paused: false, .. } => "running",
        ContainerState::Running { paused: true, .. } => "paused",
        ContainerState::Exited(_) => "exited",
    }
}

/// `Up 2 hours`, `Exited (0) 3 minutes ago`.
fn status(container: &Container, now: Timestamp) -> String {
    let up = || human::duration(now.since(container.started.unwrap_or(container.created)));
    let alone = container.standalone.as_deref();
    if alone.is_some_and(|alone| alone.removing) {
        return "Removal In Progress".to_owned();
    }
    match &container.state {
        ContainerState::Created => "Created".to_owned(),
        ContainerState::Running { paused: false, .. } => match &container.health {
            None => format!("Up {}", up()),
            Some(health) if health.status == "starting" => {
                format!("Up {} (health: starting)", up())
            }
            Some(health) => format!("Up {} ({})", up(), health.status),
        },
        ContainerState::Running { paused: true, .. } => format!("Up {} (Paused)", up()),
        ContainerState::Exited(exit) => {
            let ago = human::duration(now.since(exit.at));
            let word = match alone {
                Some(alone) if alone.restarting => "Restarting",
                Some(_) | None => "Exited",
            };
            format!("{word} ({}) {ago} ago", exit.code)
        }
    }
}

fn image_id(config: &ContainerConfig, images: &HashMap<Digest, Digest>) -> String {
    images
        .get(&config.image.manifest)
        .map(Digest::to_string)
        .unwrap_or_default()
}

fn network_mode(network: &NetworkMode) -> String {
    match network {
        NetworkMode::None => "none".to_owned(),
        NetworkMode::Host => "host".to_owned(),
        NetworkMode::Namespace(_) => "default".to_owned(),
        NetworkMode::Container(id) => format!("container:{id}"),
    }
}

fn networks(container: &Container) -> Value {
    match &container.config.network {
        NetworkMode::None | NetworkMode::Host => {
            let name = network_mode(&container.config.network);
            json!({ name.as_str(): endpoint(&name) })
        }
        NetworkMode::Container(_) => json!({}),
        NetworkMode::Namespace(_) => {
            let mut networks = Map::new();
            for place in &container.places {
                let shown = networks.entry(&place.name);
                let shown = shown.or_insert_with(|| {
                    let id = place.network.map(|id| id.to_string());
                    endpoint(&id.unwrap_or_else(|| place.name.clone()))
                });
                show(shown, place, &container.config);
            }
            networks.into()
        }
    }
}

/// The place of a container in a network, without an address.
fn endpoint(network: &str) -> Value {
    json!({
        "IPAMConfig": null, "Links": null, "Aliases": null, "MacAddress": "", "DriverOpts": null, "GwPriority": 0,
        "NetworkID": network, "EndpointID": "", "Gateway": "", "IPAddress": "", "IPPrefixLen": 0,
        "IPv6Gateway": "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "DNSNames": null,
    })
}

/// Adds an address. The gateway is the one that its users are told; packets take the way through the machine.
fn show(endpoint: &mut Value, place: &Place, config: &ContainerConfig) {
    let gateway = place.subnet.at(1).map(|addr| addr.to_string());
    let gateway = gateway.unwrap_or_default();
    let (addr, bits) = (place.addr.to_string(), place.subnet.bits());
    match place.addr.is_ipv4() {
        true => {
            endpoint["IPAddress"] = addr.into();
            endpoint["IPPrefixLen"] = bits.into();
            endpoint["Gateway"] = gateway.into();
        }
        false => {
            endpoint["GlobalIPv6Address"] = addr.into();
            endpoint["GlobalIPv6PrefixLen"] = bits.into();
            endpoint["IPv6Gateway"] = gateway.into();
        }
    }
    if !place.aliases.is_empty() {
        endpoint["Aliases"] = place.aliases.clone().into();
    }
    let own = [config.name.clone(), config.id.short()];
    let names: Vec<String> = own.into_iter().chain(place.aliases.clone()).collect();
    endpoint["DNSNames"] = names.into();
}

/// A mount as Docker shows it; memory is shown among the host's settings alone.
fn mount_point(mount: &Mount) -> Option<Value> {
    let target = mount.target.to_string_lossy();
    match &mount.source {
        MountSource::Bind {
            path, propagation, ..
        } => Some(json!({
            "Type": "bind", "Source": path.to_string_lossy(), "Destination": target, "Mode": "",
            "RW": !mount.read_only,
            "Propagation": if propagation.is_empty() { "rprivate" } else { propagation },
        })),
        MountSource::Volume { name, .. } => Some(json!({
            "Type": "volume", "Name": name, "Source": "", "Destination": target, "Driver": "local",
            "Mode": "z", "RW": !mount.read_only, "Propagation": "",
        })),
        MountSource::Tmpfs { .. } | MountSource::Dependency { .. } => None,
    }
}

/// What is mounted; the volumes of one that its user made are known by their names.
fn mount_points(container: &Container) -> Vec<Value> {
    let Some(alone) = &container.standalone else {
        return container
            .config
            .mounts
            .iter()
            .filter_map(mount_point)
            .collect();
    };
    let both = alone.mounts.iter().zip(&container.config.mounts);
    let points = both.filter_map(|(named, placed)| {
        let mut point = mount_point(named)?;
        if let (MountSource::Volume { .. }, MountSource::Bind { path, .. }) =
            (&named.source, &placed.source)
        {
            point["Source"] = json!(path.to_string_lossy());
        }
        Some(point)
    });
    points.collect()
}

/// The network as its user named it.
fn mode(container: &Container) -> String {
    let asked = container.standalone.as_ref().and_then(|alone| {
        let mode = alone.wanted.host_config.get("NetworkMode")?.as_str()?;
        matches!(mode, "default" | "bridge").then(|| mode.to_owned())
    });
    asked.unwrap_or_else(|| network_mode(&container.config.network))
}

/// What was given is shown as it was given, all else as it is.
fn whole_host_config(container: &Container) -> Value {
    let mut all = host_config(&container.config);
    let (Some(alone), Some(fields)) = (&container.standalone, all.as_object_mut()) else {
        return all;
    };
    let given = alone.wanted.host_config.iter();
    let given = given.filter(|(_, value)| !value.is_null());
    let changeable = host_limits(&container.config);
    for (key, value) in given {
        if changeable.get(key).is_none() || !fields.contains_key(key) {
            fields.insert(key.clone(), value.clone());
        }
    }
    let restart = alone.wanted.restart;
    let log = &alone.wanted.log;
    let driver = if log.driver.is_empty() {
        "json-file"
    } else {
        log.driver.as_str()
    };
    for (key, value) in [
        ("NetworkMode", json!(mode(container))),
        ("AutoRemove", json!(alone.wanted.auto_remove)),
        (
            "RestartPolicy",
            json!({ "Name": restart.kind.name(), "MaximumRetryCount": restart.most }),
        ),
        (
            "LogConfig",
            json!({ "Type": driver, "Config": log.options }),
        ),
        ("Tmpfs", json!(alone.wanted.tmpfs)),
    ] {
        fields.insert(key.to_owned(), value);
    }
    all
}

/// The same of what concerns its program.
fn whole_config(container: &Container) -> Value {
    let mut all = inner_config(&container.config);
    let (Some(alone), Some(fields)) = (&container.standalone, all.as_object_mut()) else {
        return all;
    };
    fields.remove("StopTimeout");
    fields.remove("StopSignal");
    for (key, value) in &alone.shown {
        fields.insert(key.clone(), value.clone());
    }
    all
}

/// How healthy it says that it is.
fn health(health: &HealthView) -> Value {
    let log = health.answers.iter().map(
        |(start, end, code)| json!({ "Start": start, "End": end, "ExitCode": code, "Output": "" }),
    );
    json!({
        "Status": health.status, "FailingStreak": health.failures, "Log": log.collect::<Vec<_>>(),
    })
}

/// `GET /containers/{id}/json`.
pub(in crate::api) fn inspect(
    container: &Container,
    images: &HashMap<Digest, Digest>,
    size: Option<u64>,
) -> Value {
    let config = &container.config;
    let (path, args) = match config.process.args.split_first() {
        Some((path, args)) => (path.as_str(), args),
        None => ("", &[][..]),
    };
    let file = |name: &str| container.folder.join(name).to_string_lossy().into_owned();
    let mut object = json!({
        "Id": config.id.to_string(),
        "Created": container.created,
        "Path": path,
        "Args": args,
        "State": state(container),
        "Image": image_id(config, images),
        "ResolvConfPath": file("resolv.conf"),
        "HostnamePath": file("hostname"),
        "HostsPath": file("hosts"),
        "LogPath": container.log_path.as_deref().map(|path| path.to_string_lossy()).unwrap_or_default(),
        "Name": format!("/{}", config.name),
        "RestartCount": container.standalone.as_ref().map_or(0, |alone| alone.restarts),
        "Driver": "overlayfs",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": config.security.apparmor,
        "ExecIDs": null,
        "HostConfig": whole_host_config(container),
        "GraphDriver": { "Name": "overlayfs", "Data": null },
        "Mounts": mount_points(container),
        "Config": whole_config(container),
        "NetworkSettings": {
            "Bridge": "", "SandboxID": "", "SandboxKey": "", "Ports": {}, "HairpinMode": false,
            "LinkLocalIPv6Address": "", "LinkLocalIPv6PrefixLen": 0, "SecondaryIPAddresses": null,
            "SecondaryIPv6Addresses": null, "EndpointID": "", "Gateway": "", "GlobalIPv6Address": "",
            "GlobalIPv6PrefixLen": 0, "IPAddress": "", "IPPrefixLen": 0, "IPv6Gateway": "", "MacAddress": "",
            "Networks": networks(container),
        },
    });
    if let (Some(size), Some(fields)) = (size, object.as_object_mut()) {
        fields.insert("SizeRw".to_owned(), json!(size));
        fields.insert("SizeRootFs".to_owned(), json!(size));
    }
    object
}

fn state(container: &Container) -> Value {
    let (pid, paused, exit) = match &container.state {
        ContainerState::Created => (0, false, None),
        ContainerState::Running { pid, paused } => (*pid, *paused, None),
        ContainerState::Exited(exit) => (0, false, Some(exit)),
    };
    let at = |time: Option<Timestamp>| time.map_or_else(|| NEVER.to_owned(), |at| at.to_string());
    let alone = container.standalone.as_deref();
    let exit = exit.or_else(|| alone?.last_exit.as_ref());
    let restarting = alone.is_some_and(|alone| alone.restarting);
    let runs = matches!(container.state, ContainerState::Running { .. });
    let mut object = json!({
        "Status": state_word(container),
        "Running": runs || restarting,
        "Paused": paused,
        "Restarting": restarting,
        "OOMKilled": !runs && exit.is_some_and(|exit| exit.oom),
        "Dead": false,
        "Pid": pid,
        "ExitCode": exit.filter(|_| !runs).map_or(0, |exit| exit.code),
        "Error": alone.map_or("", |alone| alone.error.as_str()),
        "StartedAt": at(container.started),
        "FinishedAt": at(exit.map(|exit: &Exit| exit.at)),
    });
    if let Some(view) = &container.health {
        object["Health"] = health(view);
    }
    object
}

fn inner_config(config: &ContainerConfig) -> Value {
    let process = &config.process;
    let hostname = if config.hostname.is_empty() {
        config.id.short()
    } else {
        config.hostname.clone()
    };
    json!({
        "Hostname": hostname,
        "Domainname": config.domainname,
        "User": process.user,
        "AttachStdin": false,
        "AttachStdout": false,
        "AttachStderr": false,
        "Tty": process.tty,
        "OpenStdin": process.stdin,
        "StdinOnce": false,
        "Env": process.env,
        "Cmd": process.args,
        "Image": config.image.name,
        "Volumes": null,
        "WorkingDir": process.cwd,
        "Entrypoint": null,
        "OnBuild": null,
        "Labels": config.labels,
        "StopSignal": config.stop_signal,
        "StopTimeout": config.stop_grace.as_secs(),
    })
}

fn host_config(config: &ContainerConfig) -> Value {
    let security: &Security = &config.security;
    let log = &config.log;
    let mut object = json!({
        "Binds": null,
        "ContainerIDFile": "",
        "LogConfig": {
            "Type": if log.driver.is_empty() { "json-file" } else { log.driver.as_str() },
            "Config": log.options,
        },
        "NetworkMode": network_mode(&config.network),
        "PortBindings": {},
        "RestartPolicy": { "Name": "no", "MaximumRetryCount": 0 },
        "AutoRemove": false,
        "VolumeDriver": "",
        "VolumesFrom": null,
        "CapAdd": security.cap_add,
        "CapDrop": security.cap_drop,
        "CgroupnsMode": "private",
        "Dns": config.dns.servers,
        "DnsOptions": config.dns.options,
        "DnsSearch": config.dns.search,
        "ExtraHosts": config.hosts.iter()
            .flat_map(|(ip, names)| names.iter().map(move |name| format!("{name}:{ip}")))
            .collect::<Vec<_>>(),
        "GroupAdd": config.process.groups,
    });
    let limits = host_limits(config);
    if let (Some(all), Value::Object(limits)) = (object.as_object_mut(), limits) {
        all.extend(limits);
    }
    object
}

/// The second half: the namespaces, and how much of the machine it may use.
fn host_limits(config: &ContainerConfig) -> Value {
    let limits = &config.limits;
    let security = &config.security;
    let ulimits = config.ulimits.iter();
    let ulimits = ulimits.map(|one| json!({"Name": one.name, "Soft": one.soft, "Hard": one.hard}));
    json!({
        "IpcMode": sharing(&config.ipc, "private"),
        "PidMode": sharing(&config.pid, ""),
        "Privileged": security.privileged,
        "PublishAllPorts": false,
        "ReadonlyRootfs": config.read_only,
        "SecurityOpt": security.no_new_privileges.then_some(["no-new-privileges"]),
        "UTSMode": "",
        "UsernsMode": "",
        "ShmSize": config.shm_size,
        "Sysctls": config.sysctls,
        "Runtime": "runc",
        "Isolation": "",
        "Init": config.init,
        "Tmpfs": tmpfs(&config.mounts),
        "Memory": limits.memory,
        "MemoryReservation": limits.memory_reservation,
        "MemorySwap": limits.memory_swap,
        "MemorySwappiness": limits.swappiness,
        "NanoCpus": limits.nano_cpus,
        "CpuShares": limits.cpu_shares,
        "CpuPeriod": limits.cpu_period,
        "CpuQuota": limits.cpu_quota,
        "CpusetCpus": limits.cpuset_cpus,
        "CpusetMems": limits.cpuset_mems,
        "BlkioWeight": limits.blkio_weight,
        "OomScoreAdj": limits.oom_score_adj,
        "OomKillDisable": limits.oom_kill_disable,
        "PidsLimit": (limits.pids != 0).then_some(limits.pids),
        "Ulimits": ulimits.collect::<Vec<_>>(),
        "Devices": limits.devices.iter().map(|device| json!({
            "PathOnHost": device.host, "PathInContainer": device.container, "CgroupPermissions": device.permissions,
        })).collect::<Vec<_>>(),
    })
}

fn sharing(with: &Sharing, own: &str) -> String {
    match with {
        Sharing::Own => own.to_owned(),
        Sharing::Host => "host".to_owned(),
        Sharing::Container(id) => format!("container:{id}"),
    }
}

fn tmpfs(mounts: &[Mount]) -> BTreeMap<String, String> {
    let memory = mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Tmpfs { options, .. } => Some((
            mount.target.to_string_lossy().into_owned(),
            options.join(","),
        )),
        MountSource::Bind { .. } | MountSource::Volume { .. } | MountSource::Dependency { .. } => {
            None
        }
    });
    memory.collect()
}
