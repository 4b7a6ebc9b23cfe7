//! What a restart policy says of a task: whether another one follows it, and how much later.
//!
//! How often a slot was restarted is counted in the tasks that are kept of it, and not remembered anywhere: whoever
//! leads, the count is the same. The reaper keeps as many as this needs.

use std::sync::Arc;
use std::time::Duration;

use crate::manager::draft::Draft;
use crate::model::task_spec::RestartPolicy;
use crate::model::{Service, Task, TaskState};

/// From the end to the next start when nothing is said.
const DELAY: Duration = Duration::from_secs(5);

/// Whether a state is an end that nobody had asked for.
pub(crate) fn ended_by_itself(state: TaskState) -> bool {
    matches!(
        state,
        TaskState::Complete | TaskState::Failed | TaskState::Rejected
    )
}

/// Whether another task may follow `task`, which is of the slot that `slot` lists, oldest first. One that has lost its
/// node, or was shut down, is not refused for want of attempts.
pub(crate) fn may_follow(
    draft: &Draft<'_>,
    service: &Service,
    slot: &[Arc<Task>],
    task: &Task,
) -> bool {
    let policy = policy(draft, service, task);
    let status = draft.status(task);
    let on_failure = match policy.condition.as_str() {
        "none" => return false,
        "on-failure" => true,
        _ => task.iteration.is_some(),
    };
    if on_failure && status.state == TaskState::Complete {
        return false;
    }
    let most = policy.max_attempts.unwrap_or(0);
    if most == 0 || !ended_by_itself(status.state) {
        return true;
    }
    let window = span(policy.window).unwrap_or(Duration::ZERO);
    let restarts = same_version(slot, task).into_iter().skip(1);
    let counted = restarts
        .filter(|restart| window.is_zero() || restart.meta.created_at.after(window) >= status.at);
    (counted.count() as u64) < most
}

/// From the end of `task` to the start of the one that follows it.
pub(crate) fn delay(draft: &Draft<'_>, service: &Service, task: &Task) -> Duration {
    span(policy(draft, service, task).delay).unwrap_or(DELAY)
}

/// What is written of a span of time; a negative one is none.
fn span(nanos: Option<i64>) -> Option<Duration> {
    let nanos = nanos.map(|nanos| u64::try_from(nanos).unwrap_or(0));
    nanos.map(Duration::from_nanos)
}

fn policy(draft: &Draft<'_>, service: &Service, task: &Task) -> RestartPolicy {
    let template = draft.template(service.id, task.spec_version);
    let spec = template.map_or(&service.spec.task_template, |template| &template.task);
    spec.restart_policy.clone().unwrap_or_default()
}

/// The tasks up to `task` that were made of the same version one after another, the first of which is no restart.
fn same_version<'t>(slot: &'t [Arc<Task>], task: &Task) -> Vec<&'t Arc<Task>> {
    let until = slot.iter().position(|other| other.id == task.id);
    let older = &slot[..until.map_or(0, |at| at + 1)];
    let begin = older
        .iter()
        .rposition(|other| other.spec_version != task.spec_version);
    older[begin.map_or(0, |at| at + 1)..].iter().collect()
}
