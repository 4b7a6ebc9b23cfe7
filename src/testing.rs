//! What the tests of several rooms share. Test builds only.

use std::time::Duration;

/// Lets time pass in which something must *not* happen, or moves a paused clock on. Never a way to wait for something
/// to happen: that is what `until` and `eventually` are for.
pub(crate) async fn let_pass(time: Duration) {
    tokio::time::sleep(time).await;
}
