//! What has become of the new tasks: which run, which have failed, and whether these are too many.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Round;
use crate::manager::restart::policy;
use crate::model::service::Watched;
use crate::model::service_spec::{FailureAction, UpdatePolicy};
use crate::model::{Slot, TaskId, TaskState, Timestamp};

/// What is seen in a slot that is watched.
enum Sight {
    /// Nothing that is to be watched.
    Gone,
    /// The new task is on its way.
    Begins,
    Runs,
    /// It has ended by itself, at this time by its node's clock.
    Ended(Timestamp),
}

impl Round<'_, '_> {
    /// Looks at all that is watched. When too many have failed, the task that was too many.
    pub(super) fn follow(&mut self) -> Option<TaskId> {
        let now = self.draft.now();
        let mut too_many = None;
        for mut one in std::mem::take(&mut self.status.watched) {
            // A time that is yet to come was told by another clock, or by this one before it was set back.
            one.since = one.since.map(|since| since.min(now));
            let has_failed = self.status.failed.contains(&one.slot);
            if !has_failed {
                match self.sight(&mut one) {
                    Sight::Gone => continue,
                    Sight::Begins => {}
                    Sight::Runs => one.since = one.since.or(Some(now)),
                    Sight::Ended(at) => {
                        if !self.is_early(&one, at) {
                            continue;
                        }
                        one.since = one.since.or(Some(now));
                        self.status.failed.insert(one.slot);
                        if self.is_too_many() {
                            too_many = too_many.or(Some(one.task));
                        }
                    }
                }
            }
            let span = match self.status.failed.contains(&one.slot) {
                true => self.policy.delay,
                false => self.span(),
            };
            if one.since.is_none_or(|since| now < since.after(span)) {
                self.status.watched.push(one);
            }
        }
        too_many
    }

    /// Takes up what was begun elsewhere: new tasks of the update before this one, and those that the restart policy
    /// has put in the place of old ones.
    pub(super) fn adopt(&mut self) {
        let watched = self.watched();
        for place in self.places.values() {
            let Some(new) = &place.clean else {
                continue;
            };
            let begins = self.draft.state_of(new) < TaskState::Running;
            let known = watched.contains(&place.slot) || self.status.failed.contains(&place.slot);
            if begins && place.is_new && place.dirty.is_empty() && !known {
                self.status.watched.push(Watched {
                    slot: place.slot,
                    task: new.id,
                    since: None,
                });
            }
        }
    }

    pub(super) fn watched(&self) -> BTreeSet<Slot> {
        self.status.watched.iter().map(|one| one.slot).collect()
    }

    /// Whether a slot counts among those that are replaced at a time.
    pub(super) fn is_in_flight(&self, one: &Watched) -> bool {
        let now = self.draft.now();
        one.since
            .is_none_or(|since| now < since.after(self.policy.delay))
    }

    /// How long a new task is watched from when it runs.
    pub(super) fn span(&self) -> Duration {
        let UpdatePolicy { delay, monitor, .. } = self.policy;
        match self.judges() {
            true if monitor > delay => monitor,
            true => delay.saturating_add(Duration::from_secs(1)),
            false => delay,
        }
    }

    /// Whether failures count.
    fn judges(&self) -> bool {
        let ignored = self.policy.failure_action == FailureAction::Continue;
        self.status.state.is_active() && !ignored
    }

    fn is_too_many(&self) -> bool {
        let part = self.status.failed.len() as f32 / self.status.dirty.max(1) as f32;
        self.judges() && part > self.policy.max_failure_ratio
    }

    /// Whether a task that ended at `at` did so while it was watched. Nobody may have looked since.
    fn is_early(&self, one: &Watched, at: Timestamp) -> bool {
        one.since.is_none_or(|since| {
            let until = since.after(self.span());
            self.draft.now() <= until || at <= until
        })
    }

    /// What is seen of the new task, or of the one that has taken its place because its node was lost.
    fn sight(&self, one: &mut Watched) -> Sight {
        let Some(place) = self.places.get(&one.slot) else {
            return Sight::Gone;
        };
        let task = self.draft.task(one.task);
        if let Some(task) = &task {
            let status = self.draft.status(task);
            if policy::ended_by_itself(status.state) {
                return Sight::Ended(status.at);
            }
        }
        let task = match task.filter(|task| self.draft.is_live(task)) {
            Some(task) => task,
            None => {
                let Some(heir) = &place.clean else {
                    return Sight::Gone;
                };
                (one.task, one.since) = (heir.id, None);
                heir.clone()
            }
        };
        match self.draft.state_of(&task) {
            TaskState::Running => Sight::Runs,
            _ => Sight::Begins,
        }
    }
}
