//! What the flags of `skein run` ask for, in docker's JSON of `POST /containers/create`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};

use crate::cli::parts::ports::range;
use crate::cli::parts::{mounts, networks, small};
use crate::cli::service::environment;
use crate::cli::swarm::text;
use crate::cli::values;

/// The flags.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct BodyFlags {
    #[command(flatten)]
    limits: Limits,
    /// Further line of the hosts file
    #[arg(long, value_parser = small::host, value_name = "HOST:IP")]
    add_host: Vec<String>,
    /// Add a Linux capability
    #[arg(long)]
    cap_add: Vec<String>,
    /// Drop a Linux capability
    #[arg(long)]
    cap_drop: Vec<String>,
    /// Device of this machine, PATH[:PATH[:rwm]]
    #[arg(long)]
    device: Vec<String>,
    /// DNS server
    #[arg(long)]
    dns: Vec<std::net::IpAddr>,
    /// DNS option
    #[arg(long)]
    dns_option: Vec<String>,
    /// DNS search domain
    #[arg(long)]
    dns_search: Vec<String>,
    /// Overwrite the image's entrypoint
    #[arg(long)]
    entrypoint: Option<String>,
    /// Environment variable
    #[arg(long, short, value_name = "KEY[=VALUE]")]
    env: Vec<String>,
    /// File of environment variables
    #[arg(long, value_name = "PATH")]
    env_file: Vec<PathBuf>,
    /// Further group of the user
    #[arg(long)]
    group_add: Vec<String>,
    /// Command that tells whether it is healthy
    #[arg(long)]
    health_cmd: Option<String>,
    /// Time between two checks
    #[arg(long, value_parser = values::nanos)]
    health_interval: Option<i64>,
    /// Failures in a row that make it unhealthy
    #[arg(long)]
    health_retries: Option<i64>,
    /// Time in which failures do not count yet
    #[arg(long, value_parser = values::nanos)]
    health_start_period: Option<i64>,
    /// Longest that one check may take
    #[arg(long, value_parser = values::nanos)]
    health_timeout: Option<i64>,
    /// No check, whatever the image says
    #[arg(long)]
    no_healthcheck: bool,
    /// Hostname
    #[arg(long, short = 'h')]
    hostname: Option<String>,
    /// Run an init that forwards signals and reaps processes
    #[arg(long)]
    init: bool,
    /// Give it what is typed
    #[arg(long, short)]
    pub(super) interactive: bool,
    /// Whose shared memory it uses
    #[arg(long)]
    ipc: Option<String>,
    /// Label
    #[arg(long, short, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Logging driver
    #[arg(long)]
    log_driver: Option<String>,
    /// Option of the logging driver
    #[arg(long, value_name = "KEY=VALUE")]
    log_opt: Vec<String>,
    /// Volume, bind or tmpfs
    #[arg(long, value_parser = mounts::mount)]
    mount: Vec<Value>,
    /// Network
    #[arg(long, alias = "net", value_parser = networks::attachment)]
    network: Vec<Value>,
    /// Further name of the container on the network
    #[arg(long)]
    network_alias: Vec<String>,
    /// Whose processes it sees
    #[arg(long)]
    pid: Option<String>,
    /// With all rights
    #[arg(long)]
    privileged: bool,
    /// Published port
    #[arg(long, short, value_name = "[IP:]PUBLISHED:TARGET")]
    publish: Vec<String>,
    /// Publish all ports that the image exposes
    #[arg(long, short = 'P')]
    publish_all: bool,
    /// Expose a port
    #[arg(long)]
    expose: Vec<String>,
    /// Mount the root filesystem read-only
    #[arg(long)]
    read_only: bool,
    /// When it is restarted: no, on-failure[:COUNT], always, unless-stopped
    #[arg(long, default_value = "no", value_parser = restart)]
    restart: Value,
    /// Remove it when it has ended
    #[arg(long)]
    pub(super) rm: bool,
    /// Security option
    #[arg(long)]
    security_opt: Vec<String>,
    /// Signal that asks it to stop
    #[arg(long)]
    stop_signal: Option<String>,
    /// Seconds between asking and killing
    #[arg(long, allow_negative_numbers = true)]
    stop_timeout: Option<i64>,
    /// Kernel setting
    #[arg(long, value_name = "KEY=VALUE")]
    sysctl: Vec<String>,
    /// Filesystem in memory, PATH[:OPTIONS]
    #[arg(long)]
    tmpfs: Vec<String>,
    /// Give it a terminal
    #[arg(long, short)]
    pub(super) tty: bool,
    /// User, name|uid[:group|gid]
    #[arg(long, short)]
    user: Option<String>,
    /// Whose hostname it has
    #[arg(long)]
    uts: Option<String>,
    /// Volume or bind, SOURCE:TARGET[:ro]
    #[arg(long, short)]
    volume: Vec<String>,
    /// Working directory
    #[arg(long, short)]
    workdir: Option<String>,
    /// The image
    image: String,
    /// Its command and arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// What it may use.
#[derive(Clone, Debug, Default, Args)]
struct Limits {
    /// Share of the processors against others
    #[arg(long, short)]
    cpu_shares: Option<i64>,
    /// Most CPUs
    #[arg(long, value_parser = values::cpus)]
    cpus: Option<i64>,
    /// CPUs that it may use, such as 0-3
    #[arg(long)]
    cpuset_cpus: Option<String>,
    /// Most memory
    #[arg(long, short, value_parser = values::bytes)]
    memory: Option<i64>,
    /// Memory that it is to have
    #[arg(long, value_parser = values::bytes)]
    memory_reservation: Option<i64>,
    /// Preference of the kernel when memory runs out
    #[arg(long, allow_negative_numbers = true)]
    oom_score_adj: Option<i64>,
    /// Most processes
    #[arg(long, allow_negative_numbers = true)]
    pids_limit: Option<i64>,
    /// Size of its shared memory
    #[arg(long, value_parser = values::bytes)]
    shm_size: Option<i64>,
    /// Limit of its processes
    #[arg(long, value_parser = small::ulimit)]
    ulimit: Vec<Value>,
}

/// `on-failure:3` and its like.
fn restart(text: &str) -> Result<Value, String> {
    let (name, count) = text.split_once(':').unwrap_or((text, "0"));
    let count: i64 = count
        .parse()
        .map_err(|_| "maximum retry count must be an integer".to_owned())?;
    match name {
        "no" | "always" | "unless-stopped" if count == 0 => {}
        "on-failure" => {}
        _ => return Err("give no, on-failure[:COUNT], always or unless-stopped".into()),
    }
    Ok(json!({"Name": name, "MaximumRetryCount": count}))
}

/// The body of the request.
pub(super) fn body(flags: &BodyFlags) -> anyhow::Result<Value> {
    let (exposed, bindings) = ports(flags).map_err(anyhow::Error::msg)?;
    let mut body = json!({
        "Image": flags.image,
        "Env": environment(&flags.env_file, &flags.env)?,
        "Labels": small::map(&flags.label),
        "Tty": flags.tty,
        "OpenStdin": flags.interactive,
        "ExposedPorts": exposed,
        "HostConfig": host_config(flags, bindings).map_err(anyhow::Error::msg)?,
        "NetworkingConfig": {"EndpointsConfig": endpoints(flags)},
    });
    if !flags.command.is_empty() {
        body["Cmd"] = flags.command.clone().into();
    }
    for (field, value) in [
        ("Hostname", &flags.hostname),
        ("User", &flags.user),
        ("WorkingDir", &flags.workdir),
        ("StopSignal", &flags.stop_signal),
    ] {
        if let Some(value) = value {
            body[field] = value.as_str().into();
        }
    }
    if let Some(seconds) = flags.stop_timeout {
        body["StopTimeout"] = seconds.into();
    }
    if let Some(entrypoint) = &flags.entrypoint {
        // Nothing takes away what the image has.
        body["Entrypoint"] = json!([entrypoint]);
    }
    if let Some(health) = health(flags) {
        body["Healthcheck"] = health;
    }
    Ok(body)
}

fn health(flags: &BodyFlags) -> Option<Value> {
    if flags.no_healthcheck {
        return Some(json!({"Test": ["NONE"]}));
    }
    let mut health = Map::new();
    if let Some(command) = &flags.health_cmd {
        health.insert("Test".into(), json!(["CMD-SHELL", command]));
    }
    for (field, value) in [
        ("Interval", flags.health_interval),
        ("Timeout", flags.health_timeout),
        ("Retries", flags.health_retries),
        ("StartPeriod", flags.health_start_period),
    ] {
        if let Some(value) = value {
            health.insert(field.into(), value.into());
        }
    }
    (!health.is_empty()).then(|| health.into())
}

fn host_config(flags: &BodyFlags, bindings: Value) -> Result<Value, String> {
    let limits = &flags.limits;
    let network = flags
        .network
        .first()
        .map_or("default", |network| text(network, "/Target"));
    let mut host = json!({
        "Binds": binds(&flags.volume)?,
        "Mounts": flags.mount,
        "PortBindings": bindings,
        "PublishAllPorts": flags.publish_all,
        "NetworkMode": network,
        "RestartPolicy": flags.restart,
        "AutoRemove": flags.rm,
        "CapAdd": flags.cap_add,
        "CapDrop": flags.cap_drop,
        "Dns": flags.dns,
        "DnsOptions": flags.dns_option,
        "DnsSearch": flags.dns_search,
        "ExtraHosts": flags.add_host,
        "GroupAdd": flags.group_add,
        "Privileged": flags.privileged,
        "ReadonlyRootfs": flags.read_only,
        "SecurityOpt": flags.security_opt,
        "Sysctls": small::map(&flags.sysctl),
        "Ulimits": limits.ulimit,
        "Devices": flags.device.iter().map(|device| self::device(device)).collect::<Vec<Value>>(),
        "Tmpfs": tmpfs(&flags.tmpfs),
        "LogConfig": {"Type": flags.log_driver.clone().unwrap_or_default(), "Config": small::map(&flags.log_opt)},
    });
    for (field, value) in [
        ("CpuShares", limits.cpu_shares),
        ("NanoCpus", limits.cpus),
        ("Memory", limits.memory),
        ("MemoryReservation", limits.memory_reservation),
        ("OomScoreAdj", limits.oom_score_adj),
        ("PidsLimit", limits.pids_limit),
        ("ShmSize", limits.shm_size),
    ] {
        if let Some(value) = value {
            host[field] = value.into();
        }
    }
    for (field, value) in [
        ("CpusetCpus", &limits.cpuset_cpus),
        ("IpcMode", &flags.ipc),
        ("PidMode", &flags.pid),
        ("UTSMode", &flags.uts),
    ] {
        if let Some(value) = value {
            host[field] = value.as_str().into();
        }
    }
    if flags.init {
        host["Init"] = true.into();
    }
    Ok(host)
}

/// A source that is a path is this machine's.
fn binds(volumes: &[String]) -> Result<Vec<String>, String> {
    let bind = |volume: &String| match volume.split_once(':') {
        Some((source, rest)) if source.starts_with('.') => {
            let path = std::path::absolute(source).map_err(|error| format!("{source}: {error}"))?;
            Ok(format!(
                "{}:{rest}",
                path.components().collect::<PathBuf>().display()
            ))
        }
        Some(("", _)) => Err(format!("invalid volume specification: {volume}")),
        _ => Ok(volume.clone()),
    };
    volumes.iter().map(bind).collect()
}

fn device(text: &str) -> Value {
    let mut parts = text.split(':');
    let host = parts.next().unwrap_or_default();
    let inside = parts.next().unwrap_or(host);
    json!({
        "PathOnHost": host,
        "PathInContainer": inside,
        "CgroupPermissions": parts.next().unwrap_or("rwm"),
    })
}

fn tmpfs(all: &[String]) -> BTreeMap<&str, &str> {
    all.iter()
        .map(|one| one.split_once(':').unwrap_or((one.as_str(), "")))
        .collect()
}

/// Exposed ports and where they are published.
fn ports(flags: &BodyFlags) -> Result<(Value, Value), String> {
    let (mut exposed, mut bindings) = (json!({}), json!({}));
    for port in &flags.expose {
        let (ports, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        for port in range(ports)? {
            exposed[format!("{port}/{protocol}")] = json!({});
        }
    }
    for text in &flags.publish {
        let (rest, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (rest, target) = rest.rsplit_once(':').unwrap_or(("", rest));
        let (address, published) = match rest.rsplit_once(':') {
            Some((address, published)) => (address.trim_matches(['[', ']']), published),
            None => ("", rest),
        };
        let targets: Vec<u16> = range(target)?.collect();
        let published: Vec<String> = match published {
            "" => vec![String::new(); targets.len()],
            // One port out of several is chosen by the daemon.
            several if targets.len() == 1 => vec![several.to_owned()],
            several => range(several)?.map(|port| port.to_string()).collect(),
        };
        if published.len() != targets.len() {
            return Err(format!(
                "invalid ranges specified for container and host Ports: {text}"
            ));
        }
        for (target, published) in targets.iter().zip(published) {
            let key = format!("{target}/{protocol}");
            exposed[&key] = json!({});
            let binding = json!({"HostIp": address, "HostPort": published});
            match bindings[&key].as_array_mut() {
                Some(list) => list.push(binding),
                None => bindings[&key] = json!([binding]),
            }
        }
    }
    Ok((exposed, bindings))
}

fn endpoints(flags: &BodyFlags) -> Value {
    let mut all = json!({});
    for (at, network) in flags.network.iter().enumerate() {
        let name = text(network, "/Target");
        let mut aliases: Vec<Value> = network["Aliases"].as_array().cloned().unwrap_or_default();
        if at == 0 {
            aliases.extend(
                flags
                    .network_alias
                    .iter()
                    .map(|alias| alias.as_str().into()),
            );
        }
        let mut endpoint = json!({});
        if !aliases.is_empty() {
            endpoint["Aliases"] = aliases.into();
        }
        if let Some(options) = network.get("DriverOpts") {
            endpoint["DriverOpts"] = options.clone();
        }
        for (key, field) in [
            ("/Endpoint/ip", "IPv4Address"),
            ("/Endpoint/ip6", "IPv6Address"),
        ] {
            if let Some(address) = network.pointer(key) {
                endpoint["IPAMConfig"][field] = address.clone();
            }
        }
        all[name] = endpoint;
    }
    all
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    #[command(disable_help_flag = true)]
    struct Run {
        #[command(flatten)]
        flags: BodyFlags,
    }

    fn made(line: &str) -> Result<Value, String> {
        let words = std::iter::once("run".to_owned()).chain(shlex::split(line).unwrap_or_default());
        let run = Run::try_parse_from(words).map_err(|error| error.to_string())?;
        body(&run.flags).map_err(|error| error.to_string())
    }

    #[test]
    fn each_flag_has_its_field() {
        for (flags, pointer, value) in [
            ("", "/Image", json!("image")),
            ("-e A=1", "/Env", json!(["A=1"])),
            ("-l a=b", "/Labels", json!({"a": "b"})),
            ("--entrypoint sh", "/Entrypoint", json!(["sh"])),
            (
                "-p 8080:80",
                "/HostConfig/PortBindings",
                json!({"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}),
            ),
            (
                "-p 127.0.0.1:53:53/udp",
                "/HostConfig/PortBindings/53~1udp/0/HostIp",
                json!("127.0.0.1"),
            ),
            ("-p 80", "/ExposedPorts", json!({"80/tcp": {}})),
            ("-v data:/d:ro", "/HostConfig/Binds", json!(["data:/d:ro"])),
            (
                "--mount type=tmpfs,dst=/t",
                "/HostConfig/Mounts/0/Type",
                json!("tmpfs"),
            ),
            (
                "--tmpfs /t:size=1m",
                "/HostConfig/Tmpfs",
                json!({"/t": "size=1m"}),
            ),
            (
                "--restart on-failure:3",
                "/HostConfig/RestartPolicy",
                json!({"Name": "on-failure", "MaximumRetryCount": 3}),
            ),
            ("--rm", "/HostConfig/AutoRemove", json!(true)),
            (
                "--network name=n,alias=x",
                "/NetworkingConfig/EndpointsConfig/n/Aliases",
                json!(["x"]),
            ),
            ("--network host", "/HostConfig/NetworkMode", json!("host")),
            (
                "--cpus 1.5 -m 64m",
                "/HostConfig/NanoCpus",
                json!(1_500_000_000),
            ),
            (
                "--device /dev/x",
                "/HostConfig/Devices/0/CgroupPermissions",
                json!("rwm"),
            ),
            ("--privileged", "/HostConfig/Privileged", json!(true)),
            ("-it", "/OpenStdin", json!(true)),
            ("-h name", "/Hostname", json!("name")),
            (
                "--health-cmd true",
                "/Healthcheck/Test",
                json!(["CMD-SHELL", "true"]),
            ),
        ] {
            let body = made(&format!("{flags} image")).unwrap();
            assert_eq!(body.pointer(pointer), Some(&value), "{flags}");
        }
    }

    #[test]
    fn words_behind_the_image_are_its_command() {
        assert_eq!(
            made("image sh -c x").unwrap()["Cmd"],
            json!(["sh", "-c", "x"])
        );
        for flags in [
            "-p x",
            "-p 1-2:1-3",
            "--restart sometimes",
            "-v :/x",
            "--cpus many",
        ] {
            assert!(made(&format!("{flags} image")).is_err(), "{flags}");
        }
    }
}
