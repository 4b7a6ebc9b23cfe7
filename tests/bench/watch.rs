//! Letting time pass and looking again: the only place of the benchmark that sleeps.

use std::time::{Duration, Instant};

/// Returns at a moment.
pub(crate) async fn until(at: Instant) {
    tokio::time::sleep_until(at.into()).await;
}

/// Looks until `look` finds something, with this pause between two looks. The error says what was never found, and
/// the last reason why not.
pub(crate) async fn eventually<T>(
    deadline: Duration,
    pause: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> Result<T, String> {
    let begin = Instant::now();
    loop {
        let reason = match tokio::time::timeout(deadline, look()).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(reason)) => reason,
            Err(_) => "no answer".into(),
        };
        if begin.elapsed() >= deadline {
            return Err(format!("{what}: not after {deadline:?}: {reason}"));
        }
        tokio::time::sleep(pause).await;
    }
}
