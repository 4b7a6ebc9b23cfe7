//! Makes the machine match what it is assigned, and says how it goes.
//!
//! | file | does |
//! |---|---|
//! | [`desk`](self) | takes assignments, writes them down, owns one worker a task, adopts what is found at the start |
//! | `work` | one task: asks [`machine`](super::task::machine) for the next action and performs it |
//! | `watch` | waits for what may happen to a container that runs |
//! | [`stock`] | what a container needs besides the runtime |
//!
//! The node starts one [`Runner`] for its whole life, leader or not, hands it what the session brings, and sends
//! [`Runner::statuses`] to whoever leads. Everything is in the ledger before it is done, so the daemon may end at any
//! moment. Nothing is removed but by the leader's word.

mod desk;
pub mod stock;
#[cfg(test)]
mod tests;
mod watch;
mod work;

use std::fmt;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, oneshot, watch as channel};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::desk::{Desk, Message};
use self::stock::{HealthExec, Stock};
use super::ledger::{Contents, Ledger, LedgerError, Mark};
use super::runtime::Runtime;
use super::task::plan::{Held, NodeSelf};
use crate::model::{TaskId, TaskStatus, Timestamp};
use crate::wire::Json;
use crate::wire::assignment::{Assignments, Dependencies, Report};

/// Assignments that may wait; a session brings them one after another.
const QUEUE: usize = 16;

/// Reads the wall clock.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The last status of each task of the node. Cheap to clone, and to compare with an older one.
pub type Statuses = imbl::OrdMap<TaskId, TaskStatus>;

/// How a runner is to work.
#[derive(Clone, Debug)]
pub struct RunnerSettings {
    /// The node.
    pub node: NodeSelf,
    /// Containers that are made or started at once; more only makes each of them later.
    pub starts_at_once: usize,
}

/// What a runner works with.
pub struct Tools<R, S, H> {
    /// Runs containers.
    pub runtime: R,
    /// Has what they need.
    pub stock: S,
    /// Asks for their health.
    pub health: H,
    /// Where everything is written down.
    pub ledger: Ledger,
    /// What it held when it was opened.
    pub contents: Contents,
    /// The wall clock.
    pub clock: Clock,
}

impl<R, S, H> fmt::Debug for Tools<R, S, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tools").finish_non_exhaustive()
    }
}

/// Why assignments were not taken. None of them was.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AssignError {
    /// A later leader, or the same one later, has said otherwise.
    #[error("assignments of term {}, generation {} are older than what was taken", .0.term, .0.generation)]
    Older(Mark),
    /// They add to a set of this term that never came; the next session brings a complete one.
    #[error("assignments of term {}, generation {} do not follow a complete set of that term", .0.term, .0.generation)]
    Gap(Mark),
    /// They could not be written down.
    #[error("assignments cannot be written down")]
    Ledger(#[source] LedgerError),
    /// The daemon stops.
    #[error("the runner has stopped")]
    Stopped,
}

/// A handle of the runner.
#[derive(Clone, Debug)]
pub struct Runner {
    messages: mpsc::Sender<Message>,
    statuses: channel::Receiver<Statuses>,
    /// Since when the node has had no session.
    cut_off: channel::Sender<Option<Instant>>,
    /// The secrets and configs that were sent. In memory alone: a later life of the daemon gets them again.
    held: Arc<channel::Sender<Held>>,
}

/// Held while the node has a session with the leader.
#[derive(Debug)]
pub struct Contact(channel::Sender<Option<Instant>>);

impl Drop for Contact {
    fn drop(&mut self) {
        self.0.send_replace(Some(Instant::now()));
    }
}

impl Runner {
    /// Adopts what runs, goes on with every task that is kept, and waits for assignments. Returns at once when the
    /// runtime does not answer: tasks are then taken up one by one, as soon as it does.
    pub async fn start<R: Runtime, S: Stock, H: HealthExec>(
        settings: RunnerSettings,
        tools: Tools<R, S, H>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let (messages, inbox) = mpsc::channel(QUEUE);
        let known = tools.contents.tasks.iter();
        let known = known.map(|(task, kept)| (*task, kept.progress.status.clone()));
        let (told, statuses) = channel::channel(known.collect());
        let held = Arc::new(channel::channel(Held::new()).0);
        let shared = Arc::new(Shared {
            starts: Arc::new(Semaphore::new(settings.starts_at_once.max(1))),
            settings,
            runtime: tools.runtime,
            stock: tools.stock,
            health: tools.health,
            ledger: tools.ledger,
            clock: tools.clock,
            statuses: told,
            held: held.clone(),
            tasks: tasks.clone(),
            stop: stop.clone(),
        });
        let (cut_off, isolation) = channel::channel(Some(Instant::now()));
        let desk = Desk::open(shared, isolation, tools.contents).await;
        tasks.spawn(async move {
            stop.run_until_cancelled(desk.run(inbox)).await;
        });
        Self {
            messages,
            statuses,
            cut_off,
            held,
        }
    }

    /// The node has a session, until this is dropped. Before the first, it is cut off.
    pub fn contact(&self) -> Contact {
        self.cut_off.send_replace(None);
        Contact(self.cut_off.clone())
    }

    /// Takes secrets and configs for tasks that are assigned next. They are never on disk.
    pub fn keep(&self, news: Dependencies) {
        self.held.send_modify(|held| {
            if news.complete {
                held.clear();
            }
            for id in &news.removed {
                held.remove(id);
            }
            held.extend(news.kept.into_iter().map(|one| (one.0.id, Arc::new(one.0))));
        });
    }

    /// Takes assignments. They are on disk when this returns.
    pub async fn assign(&self, assignments: Assignments) -> Result<(), AssignError> {
        let (reply, outcome) = oneshot::channel();
        let message = Message { assignments, reply };
        let sent = self.messages.send(message).await;
        sent.map_err(|_| AssignError::Stopped)?;
        outcome.await.map_err(|_| AssignError::Stopped)?
    }

    /// The status of every task, as it changes.
    pub fn statuses(&self) -> channel::Receiver<Statuses> {
        self.statuses.clone()
    }
}

/// Statuses in one report at most: some hundred KiB, far below the longest frame.
const REPORT: usize = 1000;

/// What to tell a leader: all of `now` at the beginning of a session, then what differs from what was told last. In
/// parts that fit a frame; nothing when there is nothing to tell.
pub fn reports(told: Option<&Statuses>, now: &Statuses) -> Vec<Report> {
    let changed = now.iter().filter(|(task, status)| {
        let before = told.and_then(|told| told.get(*task));
        before != Some(*status)
    });
    let changed: Vec<_> = changed
        .map(|(task, status)| (*task, Json(status.clone())))
        .collect();
    let mut reports: Vec<Report> = changed
        .chunks(REPORT)
        .map(|part| Report {
            complete: false,
            statuses: part.to_vec(),
        })
        .collect();
    if told.is_none() {
        match reports.last_mut() {
            Some(last) => last.complete = true,
            None => reports.push(Report {
                complete: true,
                statuses: Vec::new(),
            }),
        }
    }
    reports
}

/// What the desk and all workers share.
struct Shared<R, S, H> {
    settings: RunnerSettings,
    runtime: R,
    stock: S,
    health: H,
    ledger: Ledger,
    clock: Clock,
    starts: Arc<Semaphore>,
    statuses: channel::Sender<Statuses>,
    held: Arc<channel::Sender<Held>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl<R, S, H> Shared<R, S, H> {
    fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Tells what was seen of a task.
    fn tell(&self, task: TaskId, status: &TaskStatus) {
        self.statuses.send_modify(|all| {
            all.insert(task, status.clone());
        });
    }
}
