//! Replaces tasks that are not what their service is now: so many slots at a time as its policy says, watched for
//! failures, paused or taken back when there are too many.
//!
//! The leader's loop calls [`update`] after the orchestrator, which says how many slots there are, and before the
//! restart policy, which replaces what fails. Each call looks at all slots anew; what cannot be seen in tasks is data
//! in the service's [`UpdateStatus`], so that a new leader goes on in the middle. Nothing here waits for a task by any
//! other means than looking again.
//!
//! ```text
//!   dirty slot ──replace──► in flight ──new task runs──► watched ──monitor is over──► done
//!                               └────── it ends too soon ──┴────► failed ──too many──► paused, or rolled back
//! ```

pub(crate) mod dirty;
mod places;
mod replace;
mod waits;
mod watch;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use self::places::Place;
use super::draft::Draft;
use super::orchestrator::Fits;
use crate::model::service::{UpdateState, UpdateStatus, Watched};
use crate::model::service_spec::{FailureAction, UpdatePolicy};
use crate::model::{Service, ServiceId, Slot, TaskId, TaskState};

/// Replaces tasks of older versions, as the update policy says; watches, pauses, rolls back. Jobs are not updated: they
/// run again.
pub fn update(draft: &mut Draft<'_>, service: ServiceId, fits: Fits<'_>) {
    let Some(service) = draft.service(service) else {
        return;
    };
    if service.removed || service.spec.mode.read().is_job() {
        return;
    }
    let places = places::of(draft, &service, fits);
    let Some(status) = begun(draft, &service, &places) else {
        return;
    };
    let config = match status.state.is_rollback() {
        true => service.spec.rollback_config.as_ref(),
        false => service.spec.update_config.as_ref(),
    };
    let policy = UpdatePolicy::read(config);
    let mut round = Round {
        draft,
        service,
        status,
        policy,
        places,
    };
    if round.go_on() == Outcome::RolledBack {
        let id = round.service.id;
        return update(draft, id, fits);
    }
    round.keep();
}

/// How the update of a service stands, which begins when something is dirty. `None` when there is nothing to be done.
fn begun(
    draft: &Draft<'_>,
    service: &Service,
    places: &BTreeMap<Slot, Place>,
) -> Option<UpdateStatus> {
    let dirty = places.values().filter(|place| place.is_dirty()).count() as u64;
    let Some(status) = &service.update else {
        return (dirty > 0).then(|| UpdateStatus {
            state: UpdateState::Updating,
            started_at: draft.now(),
            message: "update in progress".into(),
            dirty,
            ..UpdateStatus::default()
        });
    };
    let mut status = status.clone();
    // A user who asks for a rollback does not count what is to be done.
    if status.state.is_active() && status.dirty == 0 {
        status.dirty = dirty;
    }
    Some(status)
}

/// What one look at an update came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It is how its status says.
    Kept,
    /// The service is what it was before, which is to be looked at anew.
    RolledBack,
}

/// One look at the update of one service.
struct Round<'r, 'd> {
    draft: &'r mut Draft<'d>,
    service: Arc<Service>,
    status: UpdateStatus,
    policy: UpdatePolicy,
    places: BTreeMap<Slot, Place>,
}

impl Round<'_, '_> {
    fn go_on(&mut self) -> Outcome {
        if matches!(
            self.status.state,
            UpdateState::Paused | UpdateState::RollbackPaused
        ) {
            self.withdraw();
            self.tell_pause();
            return Outcome::Kept;
        }
        if let Some(failed) = self.follow() {
            return self.stop(failed);
        }
        self.hand_over();
        self.adopt();
        let left = self.begin_more();
        if self.status.state.is_active() && left == 0 && self.status.watched.is_empty() {
            self.complete();
        }
        Outcome::Kept
    }

    /// Begins with as many slots as may be begun with; how many are left.
    fn begin_more(&mut self) -> usize {
        let watched = self.watched();
        let mut dirty: Vec<&Place> = self
            .places
            .values()
            .filter(|place| place.is_dirty() && !place.is_handed_over(self.draft))
            .filter(|place| !self.status.failed.contains(&place.slot))
            .filter(|place| !watched.contains(&place.slot))
            .collect();
        // What does not run loses nothing.
        dirty.sort_by_key(|place| (place.runs(self.draft), place.slot));
        let most = self.policy.parallelism.unwrap_or(u64::MAX);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let in_flight = self.status.watched.iter();
        let in_flight = in_flight.filter(|one| self.is_in_flight(one)).count();
        let ready = places::Ready::new(self.draft, self.policy.order);
        let (now, later): (Vec<&Place>, Vec<&Place>) = dirty
            .into_iter()
            .partition(|place| ready.can_begin(self.draft, place));
        let room = most.saturating_sub(in_flight);
        let left = later.len() + now.len().saturating_sub(room);
        for place in now.into_iter().take(room) {
            let task = replace::replace(self.draft, &self.service, place, self.policy.order);
            self.status.watched.push(Watched {
                slot: place.slot,
                task,
                since: None,
            });
        }
        self.tell_waits(later.len());
        left
    }

    /// Too many new tasks have failed, `task` the last of them.
    fn stop(&mut self, task: TaskId) -> Outcome {
        let why = format!("due to failure or early termination of task {task}");
        let rolls_back = self.policy.failure_action == FailureAction::Rollback;
        let goes_back = self.status.state.is_rollback();
        let previous = self.service.previous.as_ref();
        if let Some(previous) = previous.filter(|_| rolls_back && !goes_back) {
            let previous = previous.clone();
            let mut service = Service::clone(&self.service);
            service.spec = previous.spec;
            service.registry_auth = previous.registry_auth;
            service.spec_version += 1;
            service.previous = None;
            service.update = Some(UpdateStatus {
                state: UpdateState::RollbackStarted,
                started_at: self.status.started_at,
                message: format!("update rolled back {why}"),
                ..UpdateStatus::default()
            });
            self.draft.put_service(service);
            return Outcome::RolledBack;
        }
        (self.status.state, self.status.message) = match goes_back {
            true => (
                UpdateState::RollbackPaused,
                format!("rollback paused {why}"),
            ),
            false => (UpdateState::Paused, format!("update paused {why}")),
        };
        self.status.watched.clear();
        self.withdraw();
        self.tell_pause();
        Outcome::Kept
    }

    fn complete(&mut self) {
        let (state, message) = match self.status.state.is_rollback() {
            true => (UpdateState::RollbackCompleted, "rollback completed"),
            false => (UpdateState::Completed, "update completed"),
        };
        self.status.state = state;
        self.status.message = message.into();
        self.status.completed_at = Some(self.draft.now());
    }

    /// Ends old tasks whose new one runs.
    fn hand_over(&mut self) {
        for place in self.places.values() {
            if place.is_handed_over(self.draft) {
                for old in &place.dirty {
                    self.draft.want(old.id, TaskState::Shutdown);
                }
            }
        }
    }

    /// Leaves each slot to the one task that runs in it: the new one, else the youngest of the old ones.
    fn withdraw(&mut self) {
        for place in self.places.values() {
            let wanted = place.dirty.iter().chain(&place.spent).chain(&place.clean);
            let mut running = wanted
                .clone()
                .rev()
                .filter(|task| self.draft.state_of(task) == TaskState::Running);
            let Some(kept) = running.next().map(|task| task.id) else {
                continue;
            };
            for task in wanted.filter(|task| task.id != kept) {
                self.draft.want(task.id, TaskState::Shutdown);
            }
        }
    }

    /// Writes down what has changed.
    fn keep(self) {
        if self.service.update.as_ref() != Some(&self.status) {
            let mut service = Service::clone(&self.service);
            service.update = Some(self.status);
            self.draft.put_service(service);
        }
    }
}
