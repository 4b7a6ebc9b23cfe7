//! How many tasks of a service run, are to run and have completed: Docker's `ServiceStatus`. Pure.

use crate::api::backend::ClusterView;
use crate::api::dto::service::ServiceStatus;
use crate::model::service_spec::Mode;
use crate::model::{Service, TaskState};

/// The tasks of `service`, counted as Docker counts them; of a job only those of its present run.
pub(super) fn status(view: &ClusterView, service: &Service) -> ServiceStatus {
    let mode = service.spec.mode.read();
    let mut status = ServiceStatus {
        desired_tasks: match mode {
            Mode::Replicated { replicas } => replicas,
            Mode::ReplicatedJob { concurrent, .. } => concurrent,
            Mode::Global | Mode::GlobalJob => 0,
        },
        ..ServiceStatus::default()
    };
    let run = service.job.filter(|_| mode.is_job());
    let run = run.map(|job| job.iteration);
    for task in view.state.work.tasks_of(service.id) {
        if mode.is_job() && task.iteration != run {
            continue;
        }
        let state = view.status_of(task).state;
        let completed = state == TaskState::Complete;
        let to_run = task.desired == TaskState::Running;
        let to_complete = task.desired == TaskState::Complete && !completed;
        status.completed_tasks += u64::from(mode.is_job() && completed);
        status.running_tasks += u64::from(state == TaskState::Running);
        status.desired_tasks += u64::from(mode.is_global() && (to_run || to_complete));
    }
    status
}
