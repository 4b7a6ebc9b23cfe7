//! Waits until something in a directory changes: by inotify, or, where there is no more of that, by looking again.

use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::unix::AsyncFd;

/// Between two looks where nothing tells of changes.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Between two looks where changes are told of: file systems of other machines do not tell.
const LOOK_ANYWAY: Duration = Duration::from_secs(1);

/// A directory that is watched.
#[derive(Debug)]
pub(super) struct Watch {
    dir: PathBuf,
    events: Option<AsyncFd<Events>>,
}

#[derive(Debug)]
struct Events(Inotify);

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Watch {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.into(),
            events: None,
        }
    }

    /// Returns after the next change since the last call, or after a while. The first call returns at once: what
    /// changed before it is not known.
    pub(super) async fn changed(&mut self) {
        let Some(events) = &self.events else {
            self.events = begin(&self.dir);
            if self.events.is_none() {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            return;
        };
        let changed = async {
            let Ok(mut ready) = events.readable().await else {
                return;
            };
            // Emptied, whatever they say.
            while events.get_ref().0.read_events().is_ok() {}
            ready.clear_ready();
        };
        let _ = tokio::time::timeout(LOOK_ANYWAY, changed).await;
    }
}

#[expect(
    deprecated,
    reason = "what replaces it is unsafe code; the descriptor is owned by `Events` and never replaced"
)]
/// `None` when the directory is not there yet, or the machine's share of watches is used up.
fn begin(dir: &Path) -> Option<AsyncFd<Events>> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok()?;
    let changes = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
    inotify.add_watch(dir, changes).ok()?;
    AsyncFd::new(Events(inotify)).ok()
}
