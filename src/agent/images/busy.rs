//! One at a time for each name: two pulls of the same content at once share what the first brings.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;

/// What is being worked on.
#[derive(Default)]
pub(super) struct Busy(Mutex<BTreeMap<String, Weak<tokio::sync::Mutex<()>>>>);

impl Busy {
    /// Waits until nobody else works on `name`. The work is over when the guard is dropped.
    pub(super) async fn on(&self, name: String) -> OwnedMutexGuard<()> {
        let lock = {
            let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            names.retain(|_, lock| lock.strong_count() > 0);
            let lock = names.get(&name).and_then(Weak::upgrade).unwrap_or_default();
            names.insert(name, Arc::downgrade(&lock));
            lock
        };
        lock.lock_owned().await
    }
}

impl fmt::Debug for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Busy")
    }
}
