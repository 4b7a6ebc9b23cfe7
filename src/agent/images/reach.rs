//! Which registries did not answer: so that of many who want an image at once only one waits in vain, and what is here
//! is not held up by a registry that is not.
//!
//! A registry that answers again is found by the next pull that asks it; nothing here keeps a user's pull from asking.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::error::PullError;
use super::reference::Reference;
use crate::model::Timestamp;

/// For so long what is here is used without asking a registry that did not answer.
const AWAY: Duration = Duration::from_secs(60);

/// Registries that are remembered.
const REMEMBERED: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Reach(Mutex<BTreeMap<String, Away>>);

/// When a registry did not answer, and in what words that was told.
#[derive(Clone, Debug)]
struct Away {
    at: Timestamp,
    url: String,
    why: String,
}

impl Reach {
    /// Notes how a pull ended.
    pub(super) fn note<T>(&self, of: &Reference, now: Timestamp, ended: &Result<T, PullError>) {
        let mut away = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match ended {
            Ok(_) => {
                away.remove(of.registry());
            }
            Err(PullError::Unreachable { url, why, .. }) => {
                if away.len() >= REMEMBERED {
                    away.pop_first();
                }
                let (url, why) = (url.clone(), why.clone());
                away.insert(of.registry().to_owned(), Away { at: now, url, why });
            }
            Err(_) => {}
        }
    }

    /// The failure of a pull from the same registry that ended since `began`.
    pub(super) fn failure_since(&self, of: &Reference, began: Timestamp) -> Option<PullError> {
        let away = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Away { url, why, .. } = away.get(of.registry()).filter(|away| away.at > began)?;
        Some(PullError::Unreachable {
            url: url.clone(),
            why: why.clone(),
            source: None,
        })
    }

    /// Whether the registry did not answer a short time ago.
    pub(super) fn is_away(&self, of: &Reference, now: Timestamp) -> bool {
        let away = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = away.get(of.registry());
        found.is_some_and(|away| now.since(away.at) < AWAY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_away_until_it_answers_or_time_has_passed() {
        let reach = Reach::default();
        let at = |secs: u64| Timestamp::from_nanos(0).after(Duration::from_secs(secs));
        let of = |name: &str| name.parse::<Reference>().unwrap();
        let (web, other) = (of("r.example/web"), of("s.example/web"));
        let silent: Result<(), _> = Err(PullError::Unreachable {
            url: "u".into(),
            why: "i/o timeout".into(),
            source: None,
        });
        reach.note(&web, at(100), &silent);
        assert!(reach.is_away(&of("r.example/db"), at(159)));
        assert!(!reach.is_away(&web, at(160)));
        assert!(!reach.is_away(&other, at(100)));
        let words = reach.failure_since(&web, at(99)).unwrap().to_string();
        assert_eq!(words, "Get \"u\": i/o timeout");
        assert!(
            reach.failure_since(&web, at(100)).is_none(),
            "it came later"
        );
        reach.note(&web, at(110), &Ok(()));
        assert!(!reach.is_away(&web, at(111)));
    }
}
