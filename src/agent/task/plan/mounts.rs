//! What is mounted into a task's container: the spec's mounts and the image's own volumes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::PlanError;
use crate::model::container::{ImageRef, Mount, MountSource, ReadOnlyDepth};
use crate::model::task_spec::template::{TemplateContext, TemplateError, expand};
use crate::model::task_spec::{MountKind, MountSpec};
use crate::model::{ContainerId, ImageConfig};

/// Permissions of the root of a tmpfs when nobody says.
const TMPFS_MODE: u32 = 0o1777;

/// A volume that a container needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRequest {
    /// Its name; made from the container's ID when the user gave none.
    pub name: String,
    /// It goes when its container goes.
    pub anonymous: bool,
    /// What makes it; `local` when empty.
    pub driver: String,
    /// What the driver is told.
    pub options: BTreeMap<String, String>,
    /// Its labels when it is made.
    pub labels: BTreeMap<String, String>,
    /// A directory below its root; the root when empty.
    pub subpath: PathBuf,
    /// What the image has at `target` is not copied into it while it is empty.
    pub no_copy: bool,
    /// Where it is mounted.
    pub target: PathBuf,
}

/// What is mounted, and what has to be seen to for it.
#[derive(Debug)]
pub(in crate::agent) struct Mounts {
    pub(in crate::agent) mounts: Vec<Mount>,
    pub(in crate::agent) volumes: Vec<(usize, VolumeRequest)>,
    pub(in crate::agent) make_binds: Vec<usize>,
}

/// Docker's socket, by both of its names.
const DOCKER_SOCKETS: [&str; 2] = ["/var/run/docker.sock", "/run/docker.sock"];

/// All mounts, outer ones before what is mounted inside of them. Without a context no text is a template.
pub(in crate::agent) fn of(
    asked: &[MountSpec],
    image: &ImageRef,
    config: &ImageConfig,
    id: ContainerId,
    context: Option<&TemplateContext>,
) -> Result<Mounts, PlanError> {
    let mut all = Vec::new();
    let mut targets = BTreeSet::new();
    for mount in asked {
        let (mount, volume, make) = one(mount, id, all.len(), context)?;
        if mount.target.parent().is_none() {
            return Err(PlanError::Root);
        }
        if !targets.insert(mount.target.clone()) {
            return Err(PlanError::Duplicate(mount.target.display().to_string()));
        }
        all.push((mount, volume, make));
    }
    for target in &config.volumes {
        let target = absolute("volume", target).map_err(|error| {
            tracing::debug!(image = image.name, %error, "a volume of the image is no path");
            error
        })?;
        if targets.insert(target.clone()) {
            let request = VolumeRequest {
                name: anonymous(id, all.len()),
                anonymous: true,
                target,
                ..VolumeRequest::default()
            };
            all.push((volume_mount(&request, false), Some(request), false));
        }
    }
    all.sort_by_key(|(mount, ..)| mount.target.components().count());
    let mut found = Mounts {
        mounts: Vec::new(),
        volumes: Vec::new(),
        make_binds: Vec::new(),
    };
    for (at, (mount, volume, make)) in all.into_iter().enumerate() {
        found.mounts.push(mount);
        found.volumes.extend(volume.map(|request| (at, request)));
        found.make_binds.extend(make.then_some(at));
    }
    Ok(found)
}

/// Gives whoever binds Docker's socket our own, where Docker's is not there.
pub(super) fn give_own_socket(mounts: &mut [Mount], own: Option<&Path>) {
    let Some(own) = own else { return };
    for mount in mounts {
        if let MountSource::Bind { path, .. } = &mut mount.source
            && DOCKER_SOCKETS
                .iter()
                .any(|docker| Path::new(docker) == path)
        {
            *path = own.to_owned();
        }
    }
}

/// A name as Docker's anonymous volumes have: 64 digits, the same at each attempt for the same container.
fn anonymous(id: ContainerId, number: usize) -> String {
    format!("{:.56}{number:08x}", id.to_string())
}

fn one(
    spec: &MountSpec,
    id: ContainerId,
    number: usize,
    context: Option<&TemplateContext>,
) -> Result<(Mount, Option<VolumeRequest>, bool), PlanError> {
    let source = expanded(&spec.source, context)?;
    let target = expanded(&spec.target, context)?;
    let mount = |target, source| Mount {
        target,
        read_only: spec.read_only,
        source,
    };
    match spec.kind {
        Some(MountKind::Bind) => {
            if source.is_empty() {
                return Err(PlanError::MountField("bind", "Source"));
            }
            let options = spec.bind_options.clone().unwrap_or_default();
            let bind = MountSource::Bind {
                path: absolute("bind", &source)?,
                propagation: options.propagation,
                non_recursive: options.non_recursive,
                depth: match (
                    options.read_only_force_recursive,
                    options.read_only_non_recursive,
                ) {
                    (true, _) => ReadOnlyDepth::Whole,
                    (false, true) => ReadOnlyDepth::Mount,
                    (false, false) => ReadOnlyDepth::Possible,
                },
            };
            let mount = mount(absolute("bind", &target)?, bind);
            Ok((mount, None, options.create_mountpoint))
        }
        Some(MountKind::Tmpfs) => {
            let options = spec.tmpfs_options.clone().unwrap_or_default();
            let words = options.options.iter().map(|words| words.join("="));
            let tmpfs = MountSource::Tmpfs {
                size: u64::try_from(options.size_bytes).unwrap_or(0),
                mode: match options.mode {
                    0 => TMPFS_MODE,
                    mode => mode,
                },
                options: words.collect(),
            };
            Ok((mount(absolute("tmpfs", &target)?, tmpfs), None, false))
        }
        Some(MountKind::Volume) => {
            let request = VolumeRequest {
                anonymous: source.is_empty(),
                name: match source.is_empty() {
                    true => anonymous(id, number),
                    false => source,
                },
                ..volume(spec, absolute("volume", &target)?, context)?
            };
            Ok((volume_mount(&request, spec.read_only), Some(request), false))
        }
        None => Err(PlanError::MountKind(String::new())),
        Some(kind @ (MountKind::Image | MountKind::Npipe | MountKind::Cluster)) => {
            Err(PlanError::MountKind(format!("{kind:?}").to_lowercase()))
        }
    }
}

fn expanded(text: &str, context: Option<&TemplateContext>) -> Result<String, PlanError> {
    let wrong = |error: TemplateError| PlanError::Template("mount", error);
    match context {
        Some(context) => expand(text, context).map_err(wrong),
        None => Ok(text.to_owned()),
    }
}

/// The volume that a mount asks for, but for its name.
fn volume(
    spec: &MountSpec,
    target: PathBuf,
    context: Option<&TemplateContext>,
) -> Result<VolumeRequest, PlanError> {
    let options = spec.volume_options.clone().unwrap_or_default();
    let driver = options.driver_config.unwrap_or_default();
    let texts = |map: BTreeMap<String, String>| {
        let pairs = map
            .into_iter()
            .map(|(key, value)| Ok((key, expanded(&value, context)?)));
        pairs.collect::<Result<BTreeMap<_, _>, PlanError>>()
    };
    Ok(VolumeRequest {
        driver: driver.name,
        options: texts(driver.options)?,
        labels: texts(options.labels)?,
        subpath: within(&options.subpath)?,
        no_copy: options.no_copy,
        target,
        ..VolumeRequest::default()
    })
}

fn volume_mount(request: &VolumeRequest, read_only: bool) -> Mount {
    Mount {
        target: request.target.clone(),
        read_only,
        source: MountSource::Volume {
            name: request.name.clone(),
            subpath: request.subpath.clone(),
            no_copy: request.no_copy,
        },
    }
}

/// The path `text`, clean: no `.`, no doubled slash, and `..` taken at its word.
pub(super) fn absolute(kind: &'static str, text: &str) -> Result<PathBuf, PlanError> {
    if text.is_empty() {
        return Err(PlanError::MountField(kind, "Target"));
    }
    if !text.starts_with('/') {
        return Err(PlanError::MountPath(kind, text.into()));
    }
    let mut clean = PathBuf::from("/");
    for part in Path::new(text).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    Ok(clean)
}

fn within(subpath: &str) -> Result<PathBuf, PlanError> {
    let path = Path::new(subpath);
    let plain = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    match path.components().all(plain) {
        true => Ok(path.into()),
        false => Err(PlanError::Subpath),
    }
}
