//! The files that a task's secrets and configs become: where, whose, and with which bytes.
//!
//! Pure. A secret without a path of its own is below `/run/secrets`, a config below the root, as in Docker. Templates are
//! expanded here, because what they name is the container's.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use imbl::OrdMap;

use super::mounts::absolute;
use super::{NodeSelf, PlanError, template_context};
use crate::model::dependency::Payload;
use crate::model::task_spec::template::{Inside, TemplateContext, expand};
use crate::model::task_spec::{DependencyReference, FileTarget};
use crate::model::{ContainerConfig, Dependency, DependencyId, DependencyKind};
use crate::wire::assignment::Assigned;

/// Where secrets are that are named without a path.
const SECRETS: &str = "/run/secrets";

/// The secrets and configs that a node has. Cheap to clone.
pub type Held = OrdMap<DependencyId, Arc<Dependency>>;

/// A file that a container needs, in memory and nowhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRequest {
    /// Where it is mounted.
    pub target: PathBuf,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its permissions.
    pub mode: u32,
    /// What it holds.
    pub content: Payload,
}

/// Why there are no files yet, or never will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilesError {
    /// The leader has not sent these yet: what they are, and what they are called.
    Missing(String),
    /// They are impossible.
    Plan(PlanError),
}

impl From<PlanError> for FilesError {
    fn from(error: PlanError) -> Self {
        Self::Plan(error)
    }
}

impl fmt::Display for FilesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(what) => write!(f, "{what} has not come from the leader yet"),
            Self::Plan(error) => f.write_str(&super::words(error)),
        }
    }
}

/// The files of a task's container.
pub fn files(
    assigned: &Assigned,
    container: &ContainerConfig,
    held: &Held,
    node: &NodeSelf,
) -> Result<Vec<FileRequest>, FilesError> {
    let spec = assigned.spec.container_spec.as_ref();
    let named = spec.into_iter().flat_map(|spec| spec.dependencies());
    let mut found = Vec::new();
    for one in named {
        let Some(file) = one.file else {
            // For the runtime alone, and ours takes none.
            continue;
        };
        let id = one.id.parse::<DependencyId>().ok();
        let dependency = id.and_then(|id| held.get(&id));
        let missing = || FilesError::Missing(format!("{} {}", one.kind.name(), one.name));
        found.push((one, file, dependency.ok_or_else(missing)?));
    }
    let context = TemplateContext {
        inside: Some(inside(&found, container)),
        ..template_context(assigned, node)
    };
    let mut files: Vec<FileRequest> = Vec::new();
    for (one, file, dependency) in found {
        let request = FileRequest {
            target: target(one.kind, &file.name)?,
            uid: owner("uid", &file.uid)?,
            gid: owner("gid", &file.gid)?,
            mode: file.mode,
            content: content(dependency, &context)?,
        };
        let mut taken = container.mounts.iter().map(|mount| &mount.target);
        let mut others = files.iter().map(|other| &other.target);
        if taken.any(|other| *other == request.target)
            || others.any(|other| *other == request.target)
        {
            let target = request.target.display().to_string();
            return Err(PlanError::Duplicate(target).into());
        }
        files.push(request);
    }
    Ok(files)
}

type Found<'a> = (DependencyReference<'a>, &'a FileTarget, &'a Arc<Dependency>);

fn inside(found: &[Found<'_>], container: &ContainerConfig) -> Inside {
    let of = |kind: DependencyKind| {
        let of_kind = found.iter().filter(|(one, ..)| one.kind == kind);
        of_kind
            .map(|(_, file, dependency)| (file.name.clone(), dependency.spec.data.clone()))
            .collect()
    };
    let env = container.process.env.iter();
    let env = env.filter_map(|entry| entry.split_once('='));
    Inside {
        secrets: of(DependencyKind::Secret),
        configs: of(DependencyKind::Config),
        env: env
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect::<BTreeMap<_, _>>(),
    }
}

fn target(kind: DependencyKind, name: &str) -> Result<PathBuf, PlanError> {
    let base = match kind {
        DependencyKind::Secret => Path::new(SECRETS),
        DependencyKind::Config => Path::new("/"),
    };
    // An absolute name stands for itself.
    let target = absolute(kind.name(), &base.join(name).to_string_lossy())?;
    match target.parent() {
        Some(_) => Ok(target),
        None => Err(PlanError::Root),
    }
}

fn owner(what: &'static str, text: &str) -> Result<u32, PlanError> {
    match text {
        "" => Ok(0),
        text => text
            .parse()
            .map_err(|_| PlanError::Owner(what, text.into())),
    }
}

fn content(dependency: &Dependency, context: &TemplateContext) -> Result<Payload, PlanError> {
    let (kind, spec) = (dependency.kind.name(), &dependency.spec);
    if !spec.is_template() {
        return Ok(spec.data.clone());
    }
    let text = std::str::from_utf8(spec.data.bytes());
    let text = text.map_err(|_| PlanError::NoText(kind, spec.name.clone()))?;
    let expanded = expand(text, context).map_err(|error| PlanError::Template(kind, error))?;
    Ok(Payload::new(expanded.into_bytes()))
}
