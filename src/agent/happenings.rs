//! What happens on this machine, for `docker events`: kept for a while, and passed on.
//!
//! The rooms tell; the node shows it. Bounded: who is too slow loses what is oldest.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast;

use super::runner::Clock;
use crate::model::{ContainerConfig, Timestamp};

/// Events kept for those who ask what was; dockerd keeps as many.
const KEPT: usize = 256;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    /// `container`, `image` or `volume`.
    pub kind: &'static str,
    /// What, in Docker's words: `start`, `exec_create: ls`.
    pub action: String,
    /// To whom: an ID, or a name.
    pub actor: String,
    /// More of it.
    pub attributes: BTreeMap<String, String>,
    /// When. Rises strictly.
    pub at: Timestamp,
}

/// The recorder of one machine. Clones are the same one.
#[derive(Clone)]
pub struct Happenings {
    kept: Arc<Mutex<VecDeque<Happening>>>,
    live: broadcast::Sender<Happening>,
    clock: Clock,
}

impl fmt::Debug for Happenings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Happenings").finish_non_exhaustive()
    }
}

impl Happenings {
    /// One that has seen nothing yet.
    pub fn new(clock: Clock) -> Self {
        Self {
            kept: Arc::default(),
            live: broadcast::channel(KEPT).0,
            clock,
        }
    }

    /// Something has happened just now.
    pub fn tell(
        &self,
        kind: &'static str,
        action: impl Into<String>,
        actor: impl Into<String>,
        attributes: BTreeMap<String, String>,
    ) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let last = kept.back().map_or_else(Timestamp::default, |last| last.at);
        let happening = Happening {
            kind,
            action: action.into(),
            actor: actor.into(),
            attributes,
            at: (self.clock)().max(Timestamp::from_nanos(last.nanos() + 1)),
        };
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(happening.clone());
        // Nobody listening is no failure.
        let _ = self.live.send(happening);
    }

    /// Something has happened to a container.
    pub fn tell_of(
        &self,
        config: &ContainerConfig,
        action: impl Into<String>,
        more: &[(&str, String)],
    ) {
        let mut attributes = config.labels.clone();
        attributes.insert("image".into(), config.image.name.clone());
        attributes.insert("name".into(), config.name.clone());
        for (key, value) in more {
            attributes.insert((*key).into(), value.clone());
        }
        self.tell("container", action, config.id.to_string(), attributes);
    }

    /// What was at or after `since`, as far as it is kept, and what is to come.
    pub fn subscribe(
        &self,
        since: Option<Timestamp>,
    ) -> (Vec<Happening>, broadcast::Receiver<Happening>) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let live = self.live.subscribe();
        let past = since.map_or_else(Vec::new, |since| {
            let after = kept.iter().filter(|one| one.at >= since);
            after.cloned().collect()
        });
        (past, live)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_are_kept_in_order_and_all_are_passed_on() {
        let happenings = Happenings::new(Arc::new(|| Timestamp::from_nanos(7)));
        let (past, mut live) = happenings.subscribe(Some(Timestamp::default()));
        assert_eq!(past, []);
        for number in 0..=KEPT {
            happenings.tell("volume", "create", number.to_string(), BTreeMap::new());
        }
        let (past, _) = happenings.subscribe(Some(Timestamp::default()));
        assert_eq!((past.len(), &*past[0].actor), (KEPT, "1"));
        assert!(past.is_sorted_by(|one, next| one.at < next.at));
        let (later, _) = happenings.subscribe(Some(past[250].at));
        assert_eq!(later[..], past[250..]);
        // The oldest is lost to who did not listen in time.
        assert!(live.recv().await.is_err());
        assert_eq!(live.recv().await.unwrap().actor, "1");
    }
}
