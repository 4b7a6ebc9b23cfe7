//! The one next action for a task, of what is kept of it and what is seen of its container.
//!
//! ```text
//!            assigned → accepted → preparing ──────────────→ ready → starting ──────────→ running
//!   actions:                       gather, create            (waits)  start, health checks  watch
//!   ends:    asked to end, anywhere → shutdown │ refused before starting → rejected
//!            ended by itself: code 0 → complete, other code, unhealthy or lost → failed
//! ```
//!
//! The runner performs the action, writes down and looks at what came of it, and asks again. A state is risen to only
//! along [`transitions`](crate::model::task::transitions) of the agent. No memory beyond its two arguments, so a
//! runner that begins anew after a crash comes to the same decisions.

use crate::model::TaskState;
use crate::model::container::Exit;
use crate::model::task::transitions::{Writer, writer_of};

use super::health::Health;
use super::kept::{Doom, Order, Progress, Want};

/// What Docker reports of a container that ended while nobody could see its exit code.
const LOST: i32 = 255;

/// What is seen of a task's container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sight {
    /// Nobody has looked yet.
    #[default]
    Unknown,
    /// There is none.
    Absent,
    /// The rest of an attempt that did not come to its end.
    Ruin,
    /// It is made, and has not begun.
    Created,
    /// It runs.
    Running {
        /// Its first process.
        pid: u32,
    },
    /// It has ended.
    Exited(Exit),
}

/// How far the end of a container is that was asked for, in this life of the daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stopping {
    /// Not begun.
    #[default]
    No,
    /// It has its stop signal, and some time.
    Signalled,
    /// Its time is over.
    Overdue,
    /// It was killed.
    Killed,
}

/// What the runner has seen in this life of the daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its container.
    pub container: Sight,
    /// Its image and volumes are there, and its container is decided.
    pub gathered: bool,
    /// How healthy it is; `None` when it is not asked.
    pub health: Option<Health>,
    /// How far its end is.
    pub stopping: Stopping,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Look at the container.
    Look,
    /// Fetch the image, find the volumes, decide on the container.
    Gather,
    /// Make the container, and write down what it is.
    Create,
    /// Begin its process.
    Start,
    /// Wait until it ends, its health is known, its time is over, or something else is wanted.
    Watch,
    /// Write down that it has to end, then send the stop signal.
    Stop,
    /// End it.
    Kill,
    /// Write down why it has to end.
    Condemn(Doom),
    /// Remove the container and release what it used.
    Clear,
    /// Strike it from the ledger.
    Forget,
    /// Nothing, until something else is wanted.
    Rest,
    /// Go to the next state.
    Rise(Step),
}

/// A step up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// To where.
    pub to: TaskState,
    /// Why it failed; empty otherwise.
    pub err: String,
    /// What its process ended with.
    pub exit_code: Option<i32>,
}

/// The next action.
pub fn next(order: &Order, progress: &Progress, seen: &Seen) -> Action {
    let want = order.want();
    let state = progress.status.state;
    if state.is_terminal() {
        return match want {
            Want::Prepare | Want::Run | Want::Stop => Action::Rest,
            Want::Remove | Want::Forget if !progress.cleared => Action::Clear,
            Want::Remove => Action::Rest,
            Want::Forget => Action::Forget,
        };
    }
    let container = match progress.container {
        Some(_) => seen.container,
        None => Sight::Absent,
    };
    let asked = want >= Want::Stop;
    match container {
        Sight::Unknown => Action::Look,
        Sight::Running { .. } if asked || progress.doom.is_some() => end(seen),
        Sight::Exited(exit) if asked => {
            rise(state, TaskState::Shutdown, order.why(), Some(exit.code))
        }
        Sight::Exited(exit) => ended(state, progress.doom, exit),
        Sight::Running { .. } => run(state, seen),
        Sight::Absent | Sight::Ruin | Sight::Created if asked => {
            rise(state, TaskState::Shutdown, order.why(), None)
        }
        // It was condemned while it ran, and what is there has not begun: the machine was off.
        Sight::Created if progress.doom.is_some() && state >= TaskState::Starting => {
            prepare(state, seen)
        }
        Sight::Created => begin(state, want),
        Sight::Absent | Sight::Ruin => prepare(state, seen),
    }
}

/// The step of a task whose container is impossible, in Docker's words.
pub fn refused(state: TaskState, words: &str) -> Action {
    match state < TaskState::Starting {
        true => rise(state, TaskState::Rejected, words, None),
        false => rise(state, TaskState::Failed, words, None),
    }
}

/// Whether a step has to be on disk before it is told and before anything follows. The others are found again by
/// looking: what is being prepared is prepared again.
pub fn must_be_kept(to: TaskState, want: Want) -> bool {
    match to {
        // Written as its process begins.
        TaskState::Preparing | TaskState::Starting => false,
        TaskState::Ready => want < Want::Run,
        _ => true,
    }
}

/// A step, if it is the agent's to take. Another is our own mistake: the task stays where it is, where people see it.
fn rise(from: TaskState, to: TaskState, err: &str, exit_code: Option<i32>) -> Action {
    if writer_of(from, to) != Some(Writer::Agent) {
        debug_assert!(false, "{from} → {to} is no step of the agent");
        return Action::Rest;
    }
    Action::Rise(Step {
        to,
        err: err.into(),
        exit_code,
    })
}

/// One step towards `to`.
fn climb(from: TaskState) -> Action {
    let to = match from {
        TaskState::New | TaskState::Pending | TaskState::Assigned => TaskState::Accepted,
        TaskState::Accepted => TaskState::Preparing,
        TaskState::Preparing => TaskState::Ready,
        TaskState::Ready => TaskState::Starting,
        TaskState::Starting => TaskState::Running,
        TaskState::Running
        | TaskState::Complete
        | TaskState::Shutdown
        | TaskState::Failed
        | TaskState::Rejected
        | TaskState::Remove
        | TaskState::Orphaned => return Action::Rest,
    };
    rise(from, to, "", None)
}

fn prepare(state: TaskState, seen: &Seen) -> Action {
    match state {
        TaskState::Preparing | TaskState::Ready if seen.gathered => Action::Create,
        TaskState::Preparing | TaskState::Ready => Action::Gather,
        TaskState::Starting | TaskState::Running => rise(
            state,
            TaskState::Failed,
            &exit_words(LOST, None, false),
            Some(LOST),
        ),
        _ => climb(state),
    }
}

fn begin(state: TaskState, want: Want) -> Action {
    match state {
        TaskState::Ready if want < Want::Run => Action::Rest,
        TaskState::Starting => Action::Start,
        // It ran, and what is there has not begun: the machine was off.
        TaskState::Running => prepare(state, &Seen::default()),
        _ => climb(state),
    }
}

fn run(state: TaskState, seen: &Seen) -> Action {
    match (state, seen.health) {
        (_, Some(Health::Unhealthy)) => Action::Condemn(Doom::Unhealthy),
        (TaskState::Running, _) | (TaskState::Starting, Some(Health::Starting)) => Action::Watch,
        _ => climb(state),
    }
}

fn end(seen: &Seen) -> Action {
    match seen.stopping {
        Stopping::No => Action::Stop,
        Stopping::Overdue => Action::Kill,
        Stopping::Signalled | Stopping::Killed => Action::Watch,
    }
}

fn ended(state: TaskState, doom: Option<Doom>, exit: Exit) -> Action {
    match (state, exit.code) {
        (TaskState::Starting | TaskState::Running, 0) if doom.is_none() => {
            rise(state, TaskState::Complete, "", Some(0))
        }
        (TaskState::Starting | TaskState::Running, code) => rise(
            state,
            TaskState::Failed,
            &exit_words(code, doom, exit.oom),
            Some(code),
        ),
        // It has ended, so it had begun.
        _ => climb(state),
    }
}

/// Docker's words for an end.
fn exit_words(code: i32, doom: Option<Doom>, oom: bool) -> String {
    let why = match doom {
        Some(Doom::Unhealthy) => ": dockerexec: unhealthy container",
        None if oom => ": out of memory",
        None => "",
    };
    format!("task: non-zero exit ({code}){why}")
}

#[cfg(test)]
mod tests;
