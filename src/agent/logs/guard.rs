//! Two processes where one could be killed: the guard, which only holds the container's outputs open, and the writer,
//! which reads them.
//!
//! ```text
//! shim ── guard ── writer     the writer is killed: the guard starts another
//!                             the guard is killed: the writer splits, and is the guard of its other half
//! ```
//!
//! A container whose output nobody holds open is killed by its next word. No shim starts a logger twice, so we do.
//! Killed at the same moment, both are gone, and only the container's own end is left.
//!
//! The logger calls this before it has read anything. The guard allocates nothing, reads nothing and knows no log.

use std::io::{PipeReader, pipe};
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

/// The first wait before a writer is replaced; doubled for each that does not last.
const PAUSE_FIRST: Duration = Duration::from_millis(10);

/// The longest wait: a container that says much stands still meanwhile.
const PAUSE_MOST: Duration = Duration::from_secs(1);

/// What this process is from now on.
#[derive(Debug)]
pub(super) enum Post {
    /// It has to write.
    Writer {
        /// Hung up once the guard is gone. `None` when there could be no guard.
        guard: Option<PipeReader>,
        /// How the writer before it ended, in words. What it had read and not written is lost.
        replaces: Option<String>,
    },
    /// It was the guard of a writer that has written everything.
    Relieved,
}

/// Splits this process in two. It must have no other threads.
pub(super) fn split() -> Post {
    let mut replaces = None;
    let mut pause = PAUSE_FIRST;
    loop {
        let alone = |replaces| Post::Writer {
            guard: None,
            replaces,
        };
        let Ok((guard, held)) = pipe() else {
            return alone(replaces);
        };
        let writer = match twin() {
            Ok(ForkResult::Child) => {
                drop(held);
                return Post::Writer {
                    guard: Some(guard),
                    replaces,
                };
            }
            Ok(ForkResult::Parent { child }) => child,
            // A writer without a guard is better than none.
            Err(_) => return alone(replaces),
        };
        drop(guard);
        match end_of(writer) {
            None => return Post::Relieved,
            Some(words) => replaces = Some(words),
        }
        drop(held);
        sleep(pause);
        pause = (pause * 2).min(PAUSE_MOST);
    }
}

#[expect(unsafe_code, reason = "a process is split, which no safe call does")]
fn twin() -> nix::Result<ForkResult> {
    // SAFETY: the logger has one thread, so the child finds no lock held and no state half changed.
    unsafe { fork() }
}

/// Waits for a writer: how it ended, in words; `None` when it had written everything.
fn end_of(writer: Pid) -> Option<String> {
    loop {
        match waitpid(writer, None) {
            Ok(WaitStatus::Exited(_, 0)) => return None,
            Ok(WaitStatus::Exited(_, code)) => return Some(format!("it failed with {code}")),
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                return Some(format!("it was killed by {signal}"));
            }
            Ok(_) | Err(Errno::EINTR) => {}
            // It is nobody's child any more: there is nothing to wait for.
            Err(_) => return Some("it vanished".into()),
        }
    }
}
