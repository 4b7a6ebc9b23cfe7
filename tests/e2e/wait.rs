//! Waiting for another process: the only place where tests let time pass.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// Between two looks. Short against every deadline, long against the cost of a look.
const INTERVAL: Duration = Duration::from_millis(50);

/// A deadline in seconds.
pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Looks until `condition` holds and returns what it found. Fails with `what` and the last reason why not.
#[track_caller]
pub(crate) fn eventually<T>(
    deadline: Duration,
    what: &str,
    condition: impl FnMut() -> Result<T, String>,
) -> T {
    match until(deadline, condition) {
        Ok(found) => found,
        Err(reason) => panic!("{what}: not after {deadline:?}: {reason}"),
    }
}

/// Looks until `condition` holds and returns what it found, or the last reason why not.
pub(crate) fn until<T>(
    deadline: Duration,
    mut condition: impl FnMut() -> Result<T, String>,
) -> Result<T, String> {
    let start = Instant::now();
    loop {
        match condition() {
            Err(reason) if start.elapsed() >= deadline => return Err(reason),
            Err(_) => sleep(INTERVAL),
            found => return found,
        }
    }
}

/// Looks for the whole of `period` and fails as soon as `condition` does not hold.
#[track_caller]
pub(crate) fn holds_for(
    period: Duration,
    what: &str,
    mut condition: impl FnMut() -> Result<(), String>,
) {
    let start = Instant::now();
    while start.elapsed() < period {
        if let Err(reason) = condition() {
            panic!("{what}: {reason} after {:?}", start.elapsed());
        }
        sleep(INTERVAL);
    }
}
