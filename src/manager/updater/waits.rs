//! What an update waits for, in words, and when it is worth another look.

use super::Round;
use crate::model::Timestamp;

impl Round<'_, '_> {
    /// Says why it stands still.
    pub(super) fn tell_pause(&mut self) {
        let message = self.status.message.clone();
        self.draft.wait(self.service.id, None, message);
    }

    /// Says what it waits for; `held_up` slots cannot be begun with.
    pub(super) fn tell_waits(&mut self, held_up: usize) {
        let id = self.service.id;
        if held_up > 0 {
            let what = format!("{held_up} slots of the update wait for a node to be ready");
            self.draft.wait(id, None, what);
        }
        let watched = self.status.watched.iter();
        let begun = watched.filter(|one| one.since.is_none()).count();
        if begun > 0 {
            let what = format!("{begun} new tasks of the update to run");
            self.draft.wait(id, None, what);
        }
        let now = self.draft.now();
        for (span, what) in [
            (self.policy.delay, "the update delay"),
            (self.span(), "new tasks are watched for failures"),
        ] {
            let ends = self.status.watched.iter().filter_map(|one| one.since);
            let ends = ends.map(|since| since.after(span));
            let next: Option<Timestamp> = ends.filter(|end| *end > now).min();
            if next.is_some() {
                self.draft.wait(id, next, what);
            }
        }
    }
}
