//! What container a user's request is, laid over what its image says. Pure; Docker's rules and words.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::MakeError;
use crate::agent::logs;
use crate::agent::task::health::HealthPlan;
use crate::agent::task::plan::mounts::{self, VolumeRequest};
use crate::agent::task::plan::{
    MIN_MEMORY, PlanError, SHM_SIZE, STOP_GRACE, either, environment, hosts, signal_number, words,
};
use crate::agent::volumes::ANONYMOUS;
use crate::model::container::{
    ImageRef, LogConfig, Mount, MountSource, NetworkMode, ProcessConfig, Sharing,
};
use crate::model::standalone::{Joined, Wanted};
use crate::model::task_spec::{MountKind, MountSpec};
use crate::model::{ContainerConfig, ContainerId, ImageConfig};

/// Seconds that stand for ever: some hundred years.
const FOR_EVER: u64 = u32::MAX as u64;

/// Permissions of the root of a tmpfs when nobody says.
const TMPFS_MODE: u32 = 0o1777;

/// What of the output of a container without a log is kept for who is attached to it, bytes in each of two files.
const UNLOGGED: &str = "1m";

/// A container, and what has to be seen to for it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Planned {
    pub(super) config: ContainerConfig,
    pub(super) health: Option<HealthPlan>,
    pub(super) volumes: Vec<(usize, VolumeRequest)>,
    pub(super) make_binds: Vec<usize>,
    /// Docker's `Config`, completed.
    pub(super) shown: Map<String, Value>,
}

/// What else of the machine has a say.
pub(super) struct Surroundings<'a> {
    /// Another container by the name that the user has for it.
    pub(super) find: &'a dyn Fn(&str) -> Option<ContainerId>,
    /// What is mounted into it.
    pub(super) mounts_of: &'a dyn Fn(ContainerId) -> Vec<Mount>,
}

/// The container `id` that is to be called `name`.
pub(super) fn container(
    wanted: &Wanted,
    (name, id): (&str, ContainerId),
    (image, of_image): (&ImageRef, &ImageConfig),
    around: &Surroundings<'_>,
) -> Result<Planned, MakeError> {
    let invalid = |error: PlanError| MakeError::Invalid(words(&error));
    let stop_signal = signal(wanted, of_image)?;
    if (1..MIN_MEMORY).contains(&wanted.limits.memory) {
        return Err(invalid(PlanError::Memory));
    }
    let (entrypoint, command) = program(wanted, of_image)?;
    let mut asked = wanted.mounts.clone();
    asked.extend(borrowed(wanted, around)?);
    let mut all = mounts::of(&asked, image, of_image, id, None).map_err(invalid)?;
    for (_, volume) in all
        .volumes
        .iter_mut()
        .filter(|(_, volume)| volume.anonymous)
    {
        volume.labels.insert(ANONYMOUS.into(), String::new());
    }
    add_memory(wanted, &mut all.mounts)?;
    let mut labels = of_image.labels.clone();
    labels.extend(wanted.labels.clone());
    let network = match &wanted.network {
        Joined::Own => NetworkMode::None,
        Joined::Host => NetworkMode::Host,
        Joined::Container(other) => NetworkMode::Container(found(other, around)?),
    };
    let config = ContainerConfig {
        id,
        name: name.to_owned(),
        image: image.clone(),
        labels,
        process: process(wanted, of_image, (entrypoint, command), id),
        hostname: wanted.hostname.clone(),
        domainname: wanted.domainname.clone(),
        hosts: hosts(&wanted.hosts).map_err(invalid)?,
        dns: wanted.dns.clone(),
        mounts: all.mounts,
        read_only: wanted.read_only,
        shm_size: match wanted.shm_size {
            0 => SHM_SIZE,
            size => size,
        },
        security: wanted.security.clone(),
        limits: wanted.limits.clone(),
        ulimits: wanted.ulimits.clone(),
        sysctls: wanted.sysctls.clone(),
        pid: sharing(&wanted.pid, around)?,
        ipc: sharing(&wanted.ipc, around)?,
        network,
        init: wanted.init.unwrap_or_default(),
        stop_signal: stop_signal.to_owned(),
        stop_grace: grace(wanted.stop_timeout),
        log: log(&wanted.log)?,
    };
    let mut planned = Planned {
        health: HealthPlan::of(wanted.health.as_ref(), of_image.healthcheck.as_ref()),
        volumes: all.volumes,
        make_binds: all.make_binds,
        shown: Map::new(),
        config,
    };
    planned.shown = shown(wanted, of_image, &planned.config, (entrypoint, command));
    Ok(planned)
}

fn process(
    wanted: &Wanted,
    of_image: &ImageConfig,
    (entrypoint, command): (&[String], &[String]),
    id: ContainerId,
) -> ProcessConfig {
    ProcessConfig {
        args: entrypoint.iter().chain(command).cloned().collect(),
        env: environment::whole(&wanted.env, of_image, (&wanted.hostname, id), wanted.tty),
        cwd: either(&wanted.cwd, &of_image.working_dir),
        user: either(&wanted.user, &of_image.user),
        groups: wanted.groups.clone(),
        tty: wanted.tty,
        stdin: wanted.stdin,
    }
}

/// What asks it to end.
fn signal<'a>(wanted: &'a Wanted, image: &'a ImageConfig) -> Result<&'a str, MakeError> {
    let said = [&wanted.stop_signal, &image.stop_signal];
    let said = said.into_iter().find(|signal| !signal.is_empty());
    let signal = said.map_or("SIGTERM", String::as_str);
    match signal_number(signal) {
        Some(_) => Ok(signal),
        None => Err(MakeError::Invalid(format!("invalid signal: {signal}"))),
    }
}

/// How long a container has from its stop signal on.
pub(super) fn grace(seconds: Option<i64>) -> Duration {
    match seconds {
        None => STOP_GRACE,
        Some(seconds) => Duration::from_secs(u64::try_from(seconds).unwrap_or(FOR_EVER)),
    }
}

/// What stands before the arguments, and the arguments.
fn program<'a>(
    wanted: &'a Wanted,
    image: &'a ImageConfig,
) -> Result<(&'a [String], &'a [String]), MakeError> {
    let (entrypoint, command) = match &wanted.entrypoint {
        Some(own) if own.len() == 1 && own[0].is_empty() => (&[][..], &wanted.command),
        Some(own) if !own.is_empty() => (&own[..], &wanted.command),
        Some(_) | None if wanted.command.is_empty() => (&image.entrypoint[..], &image.cmd),
        Some(_) | None => (&image.entrypoint[..], &wanted.command),
    };
    match entrypoint.iter().chain(command).next() {
        Some(program) if !program.is_empty() => Ok((entrypoint, command)),
        Some(_) | None => Err(MakeError::Invalid("no command specified".into())),
    }
}

fn found(name: &str, around: &Surroundings<'_>) -> Result<ContainerId, MakeError> {
    (around.find)(name).ok_or_else(|| MakeError::NoSuchContainer(name.to_owned()))
}

fn sharing(with: &Joined, around: &Surroundings<'_>) -> Result<Sharing, MakeError> {
    Ok(match with {
        Joined::Own => Sharing::Own,
        Joined::Host => Sharing::Host,
        Joined::Container(name) => Sharing::Container(found(name, around)?),
    })
}

/// What other containers have mounted, where the request has nothing of its own.
fn borrowed(wanted: &Wanted, around: &Surroundings<'_>) -> Result<Vec<MountSpec>, MakeError> {
    let mut all: Vec<MountSpec> = Vec::new();
    for from in &wanted.volumes_from {
        let (name, mode) = from.split_once(':').unwrap_or((from, "rw"));
        if !matches!(mode, "rw" | "ro" | "z" | "Z") {
            return Err(MakeError::Invalid(format!(
                "invalid mode for volumes-from: {mode}"
            )));
        }
        for mount in (around.mounts_of)(found(name, around)?) {
            let target = mount.target.to_string_lossy().into_owned();
            let taken = |one: &MountSpec| one.target == target;
            if wanted.mounts.iter().any(taken) || wanted.tmpfs.contains_key(&target) {
                continue;
            }
            all.retain(|one| !taken(one));
            let (kind, source) = match mount.source {
                MountSource::Bind { path, .. } => {
                    (MountKind::Bind, path.to_string_lossy().into_owned())
                }
                MountSource::Volume { name, .. } => (MountKind::Volume, name),
                MountSource::Tmpfs { .. } | MountSource::Dependency { .. } => continue,
            };
            all.push(MountSpec {
                kind: Some(kind),
                source,
                target,
                read_only: mount.read_only || mode == "ro",
                ..MountSpec::default()
            });
        }
    }
    Ok(all)
}

/// `--tmpfs`: after all else, for nothing else is mounted inside of it by a request.
fn add_memory(wanted: &Wanted, mounts: &mut Vec<Mount>) -> Result<(), MakeError> {
    for (target, options) in &wanted.tmpfs {
        if !target.starts_with('/') {
            return Err(MakeError::Invalid(format!(
                "invalid mount path: '{target}' mount path must be absolute"
            )));
        }
        if mounts
            .iter()
            .any(|mount| mount.target.as_os_str() == target.as_str())
        {
            return Err(MakeError::Invalid(format!(
                "Duplicate mount point: {target}"
            )));
        }
        let options: Vec<String> = options
            .split(',')
            .filter(|option| !option.is_empty())
            .map(str::to_owned)
            .collect();
        let says_mode = options.iter().any(|option| option.starts_with("mode="));
        mounts.push(Mount {
            target: target.into(),
            read_only: false,
            source: MountSource::Tmpfs {
                size: 0,
                mode: if says_mode { 0 } else { TMPFS_MODE },
                options,
            },
        });
    }
    Ok(())
}

/// Who is attached hears what a container says through its log, so one without a log has a small one all the same.
fn log(wanted: &LogConfig) -> Result<LogConfig, MakeError> {
    let checked = logs::check(&wanted.driver, &wanted.options);
    checked.map_err(|error| MakeError::Invalid(error.to_string()))?;
    if wanted.driver != "none" {
        return Ok(wanted.clone());
    }
    let options = [
        ("max-size", UNLOGGED),
        ("max-file", "2"),
        ("compress", "false"),
    ];
    let options = options.map(|(key, value)| (key.to_owned(), value.to_owned()));
    Ok(LogConfig {
        driver: "local".into(),
        options: BTreeMap::from(options),
    })
}

/// Docker's `Config` as an inspect shows it: what was given, and what the image says beside.
fn shown(
    wanted: &Wanted,
    image: &ImageConfig,
    config: &ContainerConfig,
    (entrypoint, command): (&[String], &[String]),
) -> Map<String, Value> {
    let mut all = wanted.config.clone();
    let env = wanted.env.iter().filter(|entry| entry.contains('='));
    let env: Vec<&String> = env.chain(environment::beside(&wanted.env, image)).collect();
    let hostname = match wanted.hostname.as_str() {
        "" => config.id.short(),
        name => name.to_owned(),
    };
    let or_none = |words: &[String]| match words {
        [] => Value::Null,
        words => json!(words),
    };
    for (key, value) in [
        ("Hostname", json!(hostname)),
        ("User", json!(config.process.user)),
        ("WorkingDir", json!(config.process.cwd)),
        ("Env", json!(env)),
        ("Cmd", or_none(command)),
        ("Entrypoint", or_none(entrypoint)),
        ("Labels", json!(config.labels)),
        ("Image", json!(wanted.image)),
    ] {
        all.insert(key.to_owned(), value);
    }
    let mut add = |key: &str, names: &[String]| {
        let own = all.get(key).and_then(Value::as_object).cloned();
        let mut own = own.unwrap_or_default();
        for name in names {
            own.entry(name.clone()).or_insert_with(|| json!({}));
        }
        if !own.is_empty() {
            all.insert(key.to_owned(), Value::Object(own));
        }
    };
    add("ExposedPorts", &image.exposed_ports);
    add("Volumes", &image.volumes);
    if wanted.stop_signal.is_empty() && !image.stop_signal.is_empty() {
        all.insert("StopSignal".into(), json!(image.stop_signal));
    }
    if wanted.health.is_none()
        && let Some(check) = &image.healthcheck
    {
        all.insert("Healthcheck".into(), json!(check));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Digest;

    fn image() -> ImageConfig {
        ImageConfig {
            entrypoint: vec!["/entry".into()],
            cmd: vec!["serve".into()],
            env: vec!["PATH=/bin".into(), "A=image".into()],
            user: "web".into(),
            working_dir: "/srv".into(),
            volumes: vec!["/data".into()],
            ..ImageConfig::default()
        }
    }

    fn plan(wanted: &Wanted) -> Result<Planned, MakeError> {
        let reference = ImageRef {
            name: "app".into(),
            manifest: Digest::from_bytes([1; 32]),
        };
        let id = ContainerId::from_bytes([7; 32]);
        let other = ContainerId::from_bytes([8; 32]);
        let around = Surroundings {
            find: &|name| (name == "other").then_some(other),
            mounts_of: &|_| {
                vec![Mount {
                    target: "/lent".into(),
                    read_only: false,
                    source: MountSource::Volume {
                        name: "lent".into(),
                        subpath: Default::default(),
                        no_copy: false,
                    },
                }]
            },
        };
        container(wanted, ("me", id), (&reference, &image()), &around)
    }

    #[track_caller]
    fn runs(entrypoint: Option<&[&str]>, command: &[&str], expected: &[&str]) {
        let own = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        let wanted = Wanted {
            entrypoint: entrypoint.map(own),
            command: own(command),
            ..Wanted::default()
        };
        match plan(&wanted) {
            Ok(planned) => assert_eq!(planned.config.process.args, expected),
            Err(error) => assert_eq!(
                (error.to_string().as_str(), expected),
                ("no command specified", &[][..])
            ),
        }
    }

    #[test]
    fn the_program_is_the_users_before_the_images() {
        runs(None, &[], &["/entry", "serve"]);
        runs(None, &["x"], &["/entry", "x"]);
        runs(Some(&["/own"]), &[], &["/own"]);
        runs(Some(&["/own"]), &["x"], &["/own", "x"]);
        runs(Some(&[""]), &["x"], &["x"]);
        runs(Some(&[""]), &[], &[]);
    }

    #[test]
    fn an_inspect_shows_what_was_given_and_what_the_image_says_beside() {
        let wanted = Wanted {
            image: "app".into(),
            env: vec!["A=mine".into(), "B".into()],
            config: Map::from_iter([("AttachStdout".to_owned(), json!(true))]),
            ..Wanted::default()
        };
        let planned = plan(&wanted).unwrap();
        assert_eq!(planned.shown["Env"], json!(["A=mine", "PATH=/bin"]));
        assert_eq!(planned.shown["AttachStdout"], json!(true));
        assert_eq!(planned.shown["Volumes"], json!({"/data": {}}));
        assert_eq!(planned.shown["Hostname"], json!("070707070707"));
        assert_eq!(planned.config.process.env[0], "PATH=/bin");
        assert_eq!(planned.volumes[0].1.labels.len(), 1);
    }

    #[test]
    fn mounts_of_others_come_along_and_memory_has_its_options() {
        let wanted = Wanted {
            volumes_from: vec!["other:ro".into()],
            tmpfs: BTreeMap::from([("/tmp".into(), "size=1m,mode=700".into())]),
            ..Wanted::default()
        };
        let planned = plan(&wanted).unwrap();
        let lent = planned
            .config
            .mounts
            .iter()
            .find(|mount| mount.target.ends_with("lent"));
        assert!(lent.unwrap().read_only);
        let memory = &planned.config.mounts.last().unwrap().source;
        let options = vec!["size=1m".to_owned(), "mode=700".to_owned()];
        assert_eq!(
            memory,
            &MountSource::Tmpfs {
                size: 0,
                mode: 0,
                options
            }
        );
        for (wanted, expected) in [
            (
                Wanted {
                    volumes_from: vec!["nobody".into()],
                    ..Wanted::default()
                },
                "No such container: nobody",
            ),
            (
                Wanted {
                    network: Joined::Container("nobody".into()),
                    ..Wanted::default()
                },
                "No such container: nobody",
            ),
            (
                Wanted {
                    stop_signal: "SIGNOPE".into(),
                    ..Wanted::default()
                },
                "invalid signal: SIGNOPE",
            ),
        ] {
            assert_eq!(plan(&wanted).unwrap_err().to_string(), expected);
        }
    }
}
