//! The wall clock: the one place that reads it.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::model::Timestamp;

/// Now. A clock before 1970 reads as 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "all other code is given the time"
)]
pub fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_nanos(i128::try_from(since.as_nanos()).unwrap_or(i128::MAX))
}
