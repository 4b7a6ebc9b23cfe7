//! Whether a task is what its service is now.
//!
//! Versions alone do not tell: what a user changes of a service may concern none of its tasks, as its labels, or the
//! number of replicas. What a task was made of is its template.

use std::collections::BTreeMap;

use crate::manager::draft::Draft;
use crate::manager::orchestrator::Fits;
use crate::model::task_spec::Placement;
use crate::model::{Service, Task, TaskSpec, TaskState};

/// How a version of a service differs from what the service is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Difference {
    /// In nothing that its tasks are made of.
    Nothing,
    /// In the credentials for the registry, which a task needs until it has its image.
    Credentials,
    /// In the constraints: a task that is where it may be may stay. It may lack the credentials as well.
    Constraints { credentials: bool },
    /// In more than that.
    More,
}

/// What is known of the versions of a service, each of which is compared once.
pub(super) struct Versions<'s> {
    service: &'s Service,
    known: BTreeMap<u64, Difference>,
}

impl<'s> Versions<'s> {
    pub(super) fn of(service: &'s Service) -> Self {
        let known = BTreeMap::from([(service.spec_version, Difference::Nothing)]);
        Self { service, known }
    }

    /// Whether a task is to be replaced.
    pub(super) fn is_dirty(&mut self, draft: &Draft<'_>, task: &Task, fits: Fits<'_>) -> bool {
        let service = self.service;
        let known = self.known.entry(task.spec_version);
        let state = draft.state_of(task);
        let pulled = (TaskState::Ready..=TaskState::Running).contains(&state);
        match known.or_insert_with(|| difference(draft, service, task.spec_version)) {
            Difference::Nothing => false,
            Difference::Credentials => !pulled,
            Difference::Constraints { credentials } => {
                let node = task.node.and_then(|id| draft.view.state.nodes.get(&id));
                let stays = node.is_some_and(|node| fits(node, &service.spec));
                !stays || *credentials && !pulled
            }
            Difference::More => true,
        }
    }
}

/// Whether a task was made of something else than what its service is now.
pub(crate) fn differs(draft: &Draft<'_>, service: &Service, task: &Task) -> bool {
    task.spec_version != service.spec_version
        && difference(draft, service, task.spec_version) != Difference::Nothing
}

fn difference(draft: &Draft<'_>, service: &Service, version: u64) -> Difference {
    let Some(made_of) = draft.template(service.id, version) else {
        return Difference::More;
    };
    let asked = &service.spec.task_template;
    if made_of.endpoint != service.spec.endpoint_spec {
        return Difference::More;
    }
    let credentials = made_of.registry_auth != service.registry_auth;
    if made_of.task == *asked {
        return match credentials {
            true => Difference::Credentials,
            false => Difference::Nothing,
        };
    }
    let is_same = without_constraints(&made_of.task) == without_constraints(asked);
    match is_same {
        true => Difference::Constraints { credentials },
        false => Difference::More,
    }
}

/// A spec that says nothing of where it may run beside what else its placement asks for.
fn without_constraints(spec: &TaskSpec) -> TaskSpec {
    let placement = spec.placement.clone().unwrap_or_default();
    TaskSpec {
        placement: Some(Placement {
            constraints: Vec::new(),
            ..placement
        }),
        ..spec.clone()
    }
}
