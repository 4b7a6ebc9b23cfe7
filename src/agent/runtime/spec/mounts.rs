//! What is mounted into a container: what every one has, its own three files in `/etc`, and what it was asked for.
//!
//! Pure. Whether a source exists is for the caller to see.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;

use super::{HostFacts, INIT_PATH, Place, SpecError};
use crate::model::ContainerConfig;
use crate::model::container::{Mount as Wanted, MountSource, NetworkMode, ReadOnlyDepth, Sharing};

/// Docker's, for containers that do not say how much shared memory they want, bytes.
const SHM_SIZE: u64 = 64 << 20;

const PROPAGATIONS: [&str; 6] = [
    "rprivate", "private", "rshared", "shared", "rslave", "slave",
];

/// All mounts in the order in which they are made: outer places first.
pub(super) fn mounts(
    config: &ContainerConfig,
    host: &HostFacts,
    place: &Place,
) -> Result<Vec<Mount>, SpecError> {
    let mut asked = Vec::new();
    for wanted in &config.mounts {
        if !wanted.target.is_absolute() {
            let target = wanted.target.display().to_string();
            return Err(SpecError::RelativeTarget(target));
        }
        asked.push(one(wanted, host)?);
    }
    let free = |mount: &Mount| {
        let mut targets = config.mounts.iter().map(|wanted| &wanted.target);
        !targets.any(|target| target == mount.destination())
    };
    let mut all: Vec<Mount> = usual(config, place);
    all.retain(free);
    let mut own: Vec<Mount> = files(config, place);
    if config.init {
        own.push(mount(INIT_PATH, "bind", &host.helper, &["bind", "ro"]));
    }
    own.retain(free);
    own.extend(asked);
    own.sort_by_key(|mount| mount.destination().components().count());
    all.extend(own);
    Ok(all)
}

/// How mounts below the root are passed on: as the most open of its binds needs it.
pub(super) fn root_propagation(config: &ContainerConfig) -> Option<String> {
    let asked = config
        .mounts
        .iter()
        .filter_map(|wanted| match &wanted.source {
            MountSource::Bind { propagation, .. } => Some(&**propagation),
            MountSource::Volume { .. }
            | MountSource::Tmpfs { .. }
            | MountSource::Dependency { .. } => None,
        });
    let asked: Vec<&str> = asked.collect();
    let has = |names: [&str; 2]| asked.iter().any(|name| names.contains(name));
    if has(["shared", "rshared"]) {
        Some("shared".to_owned())
    } else if has(["slave", "rslave"]) {
        Some("rslave".to_owned())
    } else {
        None
    }
}

fn mount(target: &str, kind: &str, source: impl Into<PathBuf>, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(target.into())
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(source.into()))
        .set_options(Some(options.iter().map(|o| (*o).to_owned()).collect()));
    mount
}

/// What every container has. Runtimes take `cgroup` for whichever kind of groups the machine has.
fn usual(config: &ContainerConfig, place: &Place) -> Vec<Mount> {
    let closed = !config.security.privileged;
    let sealed = ["nosuid", "noexec", "nodev"];
    let perhaps_ro = |options: &[&'static str]| {
        let ro = closed.then_some("ro");
        options.iter().copied().chain(ro).collect::<Vec<_>>()
    };
    let mut all = vec![
        mount("/proc", "proc", "proc", &sealed),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
        mount("/sys", "sysfs", "sysfs", &perhaps_ro(&sealed)),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &perhaps_ro(&sealed)),
    ];
    if config.ipc == Sharing::Own {
        let size = if config.shm_size == 0 {
            SHM_SIZE
        } else {
            config.shm_size
        };
        let size = format!("size={size}");
        all.push(mount("/dev/mqueue", "mqueue", "mqueue", &sealed));
        all.push(mount(
            "/dev/shm",
            "tmpfs",
            "shm",
            &["nosuid", "noexec", "nodev", "mode=1777", &size],
        ));
    } else {
        // Another's: what is there is there; a joined container's is bound by its path below its first process.
        let root = match &config.ipc {
            Sharing::Container(id) => place.joined.get(id).map(|pid| format!("/proc/{pid}/root")),
            Sharing::Own | Sharing::Host => None,
        };
        let root = root.unwrap_or_default();
        for name in ["/dev/mqueue", "/dev/shm"] {
            let source = format!("{root}{name}");
            all.push(mount(name, "bind", source, &["rbind", "rprivate"]));
        }
    }
    all
}

fn files(config: &ContainerConfig, place: &Place) -> Vec<Mount> {
    let of_machine = config.network == NetworkMode::Host && config.hostname.is_empty();
    let names = [
        ("/etc/hostname", "hostname", !of_machine),
        ("/etc/hosts", "hosts", true),
        ("/etc/resolv.conf", "resolv.conf", true),
    ];
    let here = names.into_iter().filter(|(.., wanted)| *wanted);
    here.map(|(target, name, _)| {
        let source = place.files.join(name);
        mount(target, "bind", source, &["rbind", "rprivate"])
    })
    .collect()
}

fn one(wanted: &Wanted, host: &HostFacts) -> Result<Mount, SpecError> {
    let target = wanted.target.to_string_lossy();
    match &wanted.source {
        MountSource::Bind {
            path,
            propagation,
            non_recursive,
            depth,
        } => {
            let propagation = match &**propagation {
                "" => "rprivate",
                known if PROPAGATIONS.contains(&known) => known,
                other => return Err(SpecError::Propagation(other.to_owned())),
            };
            let kind = if *non_recursive { "bind" } else { "rbind" };
            let mut options = vec![kind, propagation];
            if wanted.read_only {
                options.push("ro");
                options.extend(below(*depth, propagation, host)?);
            }
            Ok(mount(&target, "bind", path, &options))
        }
        MountSource::Dependency { path } => {
            let options = ["bind", "rprivate", "ro", "nosuid", "nodev", "noexec"];
            Ok(mount(&target, "bind", path, &options))
        }
        MountSource::Volume { name, .. } => Err(SpecError::VolumeWithoutPath(name.clone())),
        MountSource::Tmpfs {
            size,
            mode,
            options,
        } => Ok(tmpfs(&target, wanted.read_only, *size, *mode, options)),
    }
}

/// What makes a read-only bind read-only below as well.
fn below(
    depth: ReadOnlyDepth,
    propagation: &str,
    host: &HostFacts,
) -> Result<Option<&'static str>, SpecError> {
    match depth {
        ReadOnlyDepth::Mount => Ok(None),
        ReadOnlyDepth::Possible => Ok(host.read_only_below.then_some("rro")),
        // What is mounted there later would not be read-only.
        ReadOnlyDepth::Whole if propagation != "rprivate" => Err(SpecError::ReadOnlyPropagation),
        ReadOnlyDepth::Whole if !host.read_only_below => Err(SpecError::ReadOnlyBelow),
        ReadOnlyDepth::Whole => Ok(Some("rro")),
    }
}

fn tmpfs(target: &str, read_only: bool, size: u64, mode: u32, given: &[String]) -> Mount {
    let opposite = |option: &str| match option.strip_prefix("no") {
        Some(positive) => positive.to_owned(),
        None => format!("no{option}"),
    };
    let usual = ["noexec", "nosuid", "nodev"].into_iter().filter(|usual| {
        let mut given = given.iter();
        !given.any(|option| option == usual || *option == opposite(usual))
    });
    let mut options: Vec<String> = usual.map(str::to_owned).collect();
    options.extend(given.iter().cloned());
    if size > 0 {
        options.push(format!("size={size}"));
    }
    if mode > 0 {
        options.push(format!("mode={mode:o}"));
    }
    if read_only {
        options.push("ro".to_owned());
    }
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    mount(target, "tmpfs", Path::new("tmpfs"), &options)
}
