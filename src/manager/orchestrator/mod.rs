//! Brings the tasks of a service to what the service asks for: how many, in which slots, on which nodes.
//!
//! The leader's loop calls [`orchestrate`] for each service that something has happened to. Each call looks at the
//! whole of the service and remembers nothing, so that it makes no difference what has happened, or to which leader.
//! What has ended is not replaced here, that is [`restart`](super::restart)'s, and what is out of date is not either,
//! that is the updater's: to both of them a slot with such a task in it is a slot that is taken.

mod global;
mod jobs;
mod replicated;
pub(crate) mod slots;

use super::draft::Draft;
use crate::model::service_spec::Mode;
use crate::model::task::record::StartRule;
use crate::model::{
    Node, NodeId, Service, ServiceId, ServiceSpec, Slot, Task, TaskId, TaskState, TaskStatus,
};

/// Whether a node is one that a service may run on, by the constraints and platforms of its spec alone: neither how the
/// node is nor what is left of it counts.
pub type Fits<'f> = &'f dyn Fn(&Node, &ServiceSpec) -> bool;

/// Brings a service's tasks to what it asks for: how many, in which slots, on which nodes. A service that is removed is
/// left to [`reap`](super::reaper::reap).
pub fn orchestrate(draft: &mut Draft<'_>, service: ServiceId, fits: Fits<'_>) {
    let Some(service) = draft.service(service) else {
        return;
    };
    if service.removed {
        return;
    }
    let mode = service.spec.mode.read();
    if mode.is_job() {
        jobs::forget_older(draft, &service);
    }
    match mode {
        Mode::Replicated { replicas } => replicated::reconcile(draft, &service, replicas),
        Mode::ReplicatedJob { concurrent, total } => {
            jobs::reconcile(draft, &service, concurrent, total);
        }
        Mode::Global | Mode::GlobalJob => global::reconcile(draft, &service, fits),
    }
}

/// How far the tasks of a service are to go.
pub(crate) fn target(service: &Service) -> TaskState {
    match service.spec.mode.read().is_job() {
        true => TaskState::Complete,
        false => TaskState::Running,
    }
}

/// Which run of a job it is.
pub(crate) fn iteration(service: &Service) -> Option<u64> {
    let is_job = service.spec.mode.read().is_job();
    is_job.then(|| service.job.map_or(0, |job| job.iteration))
}

/// Makes a task of what the service is now, which starts at once or when `start` has come true.
pub(crate) fn new_task(
    draft: &mut Draft<'_>,
    service: &Service,
    slot: Slot,
    start: Option<StartRule>,
) -> TaskId {
    let id = draft.new_id();
    let at = draft.now();
    let node: Option<NodeId> = match slot {
        Slot::Number(_) => None,
        Slot::Node(node) => Some(node),
    };
    let mut task = Task {
        id,
        meta: Default::default(),
        service: service.id,
        slot,
        spec_version: service.spec_version,
        iteration: iteration(service),
        node,
        desired: match start {
            Some(_) => TaskState::Ready,
            None => target(service),
        },
        status: TaskStatus {
            state: TaskState::Pending,
            at,
            message: TaskState::Pending.message().into(),
            ..TaskStatus::default()
        },
        start,
        generic_resources: Vec::new(),
        attachments: Vec::new(),
    };
    // The store sets them as well; until then they order the tasks of a slot.
    task.meta.created_at = at;
    task.meta.updated_at = at;
    draft.put_task(task);
    id
}

#[cfg(test)]
pub(crate) mod tests;
