//! Waiting for another process: the only place where these tests let time pass.

use std::time::{Duration, Instant};

/// Looks until `condition` holds and returns what it found. Fails with `what` after `deadline`.
#[track_caller]
pub(crate) fn eventually<T>(
    deadline: Duration,
    what: &str,
    mut condition: impl FnMut() -> Option<T>,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(start.elapsed() < deadline, "{what}: not after {deadline:?}");
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// The same for a question that has to be awaited.
pub(crate) async fn until<F: Future<Output = bool>>(
    deadline: Duration,
    what: &str,
    condition: impl Fn() -> F,
) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < deadline, "{what}: not after {deadline:?}");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}
