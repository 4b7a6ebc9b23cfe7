//! Takes assignments, and owns one worker for each task.
//!
//! The only writer of what the leader said. At the start it lists what the runtime has under our labels: containers of
//! kept tasks are adopted; of others, what does not run is removed at once, and what runs is left alone until a
//! complete set of assignments says whose it is, because a ledger may have been lost and a leader may be away.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use rand::Rng;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{Instrument, debug, info, info_span, warn};

use super::stock::{HealthExec, Stock};
use super::work::{Backoff, Work};
use super::{AssignError, Shared};
use crate::agent::ledger::{Contents, Mark, Write};
use crate::agent::runtime::{Found, Runtime, RuntimeError};
use crate::agent::task::isolation;
use crate::agent::task::kept::{Kept, Order, Progress, Want};
use crate::agent::task::machine::Sight;
use crate::agent::task::plan::TASK_LABEL;
use crate::model::container::ContainerState;
use crate::model::{ContainerId, TaskId, TaskState, TaskStatus};
use crate::wire::assignment::{Assigned, Assignments};

/// Workers that have ended and were not struck off yet.
const ENDED: usize = 64;

/// Assignments on their way to the desk.
pub(super) struct Message {
    pub(super) assignments: Assignments,
    pub(super) reply: oneshot::Sender<Result<(), AssignError>>,
}

pub(super) struct Desk<R, S, H> {
    shared: Arc<Shared<R, S, H>>,
    mark: Mark,
    /// What is wanted of each task; its worker listens.
    orders: BTreeMap<TaskId, watch::Sender<Arc<Order>>>,
    /// Containers under our labels of which no task is known, and which run.
    strangers: BTreeMap<ContainerId, Option<TaskId>>,
    /// A complete set of assignments has come in this life.
    complete: bool,
    ended: mpsc::Receiver<TaskId>,
    ends: mpsc::Sender<TaskId>,
    /// The ledger held nothing.
    fresh: bool,
    /// The runtime has not said yet what it has.
    unlisted: Option<Backoff>,
    /// Since when the node has had no session.
    cut_off: watch::Receiver<Option<Instant>>,
}

impl<R: Runtime, S: Stock, H: HealthExec> Desk<R, S, H> {
    /// A desk with a worker for every kept task.
    pub(super) async fn open(
        shared: Arc<Shared<R, S, H>>,
        cut_off: watch::Receiver<Option<Instant>>,
        contents: Contents,
    ) -> Self {
        let (ends, ended) = mpsc::channel(ENDED);
        let listed = shared.runtime.list().await;
        let there = listed.iter().flatten().map(|found| found.id);
        if let Err(error) = shared.stock.restore(held(&contents, there)).await {
            warn!(%error, "what containers hold may not be let go when they end");
        }
        let mut desk = Self {
            shared,
            mark: contents.mark,
            orders: BTreeMap::new(),
            strangers: BTreeMap::new(),
            complete: false,
            ended,
            ends,
            fresh: contents.tasks.is_empty(),
            unlisted: None,
            cut_off,
        };
        let sights: Option<BTreeMap<ContainerId, Sight>> = listed.as_ref().ok().map(|found| {
            let sights = found.iter().map(|found| (found.id, sight(Some(found))));
            sights.collect()
        });
        let adopted = contents.tasks.len();
        for (task, kept) in contents.tasks {
            let seen = match (&sights, kept.progress.container) {
                (Some(sights), Some(id)) => sights.get(&id).copied().unwrap_or(Sight::Absent),
                (None, _) | (Some(_), None) => Sight::Unknown,
            };
            desk.employ(task, kept, seen);
        }
        info!(
            tasks = adopted,
            term = desk.mark.term,
            "went on with the tasks of the ledger"
        );
        desk.listed(listed);
        desk
    }

    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Message>) {
        loop {
            let blind = self.is_blind();
            let fence = fence_at(*self.cut_off.borrow_and_update(), &self.orders);
            let list_again = async {
                match &mut self.unlisted {
                    Some(backoff) => backoff.wait().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(task) = self.ended.recv() => {
                    self.orders.remove(&task);
                    self.shared.statuses.send_modify(|all| { all.remove(&task); });
                }
                message = inbox.recv(), if !blind => match message {
                    Some(Message { assignments, reply }) => {
                        let outcome = self.take(assignments).await;
                        // Who no longer waits has lost its session.
                        let _ = reply.send(outcome);
                    }
                    // Without a handle nobody can assign; what runs, runs on.
                    None => std::future::pending().await,
                },
                changed = self.cut_off.changed() => if changed.is_err() {
                    // Without a handle nobody can assign; what runs, runs on.
                    std::future::pending::<()>().await;
                },
                () = due(fence) => self.fence().await,
                () = list_again => {
                    let listed = self.shared.runtime.list().await;
                    self.listed(listed);
                }
            }
        }
    }

    /// Has those tasks stopped that may not run where nobody is heard of for so long.
    async fn fence(&mut self) {
        let Some(since) = *self.cut_off.borrow() else {
            return;
        };
        let mut fenced = BTreeMap::new();
        for (task, sender) in &self.orders {
            let order = sender.borrow().clone();
            if fences_at(since, &order).is_some_and(|at| at <= Instant::now()) {
                let fence = Order {
                    fenced: true,
                    ..Order::clone(&order)
                };
                fenced.insert(*task, fence);
            }
        }
        let writes = fenced.iter();
        let writes: Vec<_> = writes
            .map(|(task, order)| Write::Order(*task, order))
            .collect();
        if let Err(error) = self.shared.ledger.write(&writes).await {
            // They end all the same: after a new start they would be told again.
            warn!(%error, "that tasks are fenced off is not written down");
        }
        for (task, order) in fenced {
            info!(%task, "the node is cut off for too long; the task is to stop");
            if let Some(sender) = self.orders.get(&task) {
                sender.send_replace(Arc::new(order));
            }
        }
    }

    /// Whether new tasks may run here already without the desk knowing: nothing was kept, and the runtime has not
    /// said what it has.
    fn is_blind(&self) -> bool {
        self.fresh && self.unlisted.is_some()
    }

    /// Sorts what the runtime has: what belongs to no known task is a stranger.
    fn listed(&mut self, listed: Result<Vec<Found>, RuntimeError>) {
        let found = match listed {
            Ok(found) => found,
            Err(error) => {
                warn!(%error, "the runtime cannot say what it runs; asking again");
                self.unlisted.get_or_insert_default();
                return;
            }
        };
        self.unlisted = None;
        for container in found {
            let Some(label) = container.labels.get(TASK_LABEL) else {
                continue;
            };
            let task = label.parse::<TaskId>().ok();
            if task.is_some_and(|task| self.orders.contains_key(&task)) {
                continue;
            }
            let runs = matches!(container.state, Some(ContainerState::Running { .. }));
            if runs && !self.complete {
                info!(container = ?container.id, ?task, "found running, and of no known task");
                self.strangers.insert(container.id, task);
            } else {
                self.remove(container.id);
            }
        }
    }

    /// Removes a container that belongs to no task.
    fn remove(&self, id: ContainerId) {
        let shared = self.shared.clone();
        let removal = async move {
            let mut backoff = Backoff::default();
            loop {
                let removed = shared.runtime.remove(id).await;
                let removed = removed.map_err(|error| error.to_string());
                let outcome = match removed {
                    Ok(()) => shared.stock.release(id).await.map_err(|e| e.to_string()),
                    Err(error) => Err(error),
                };
                match outcome {
                    Ok(()) => return info!(container = ?id, "removed a container of no task"),
                    Err(error) => debug!(container = ?id, error, "cannot remove it yet"),
                }
                backoff.wait().await;
            }
        };
        let stop = self.shared.stop.clone();
        self.shared.tasks.spawn(async move {
            stop.run_until_cancelled(removal).await;
        });
    }

    /// Starts the worker of a task.
    fn employ(&mut self, task: TaskId, kept: Kept, seen: Sight) {
        let (sender, orders) = watch::channel(Arc::new(kept.order));
        self.shared.tell(task, &kept.progress.status);
        self.orders.insert(task, sender);
        let work = Box::new(Work::new(
            self.shared.clone(),
            task,
            orders,
            kept.progress,
            kept.made,
            seen,
        ));
        let stop = self.shared.stop.clone();
        let ends = self.ends.clone();
        // Boxed, for each future that holds another as an argument has room for it twice.
        let work = async move {
            if stop
                .run_until_cancelled(Box::pin(work.run()))
                .await
                .is_some()
            {
                // Nobody listens any more once the desk has stopped.
                let _ = ends.send(task).await;
            }
        };
        self.shared
            .tasks
            .spawn(work.instrument(info_span!("task", id = %task)));
    }

    /// Writes assignments down, then lets the workers know.
    async fn take(&mut self, assignments: Assignments) -> Result<(), AssignError> {
        let mark = Mark {
            term: assignments.term,
            generation: assignments.generation,
        };
        if mark < self.mark {
            info!(
                term = mark.term,
                generation = mark.generation,
                "older assignments refused"
            );
            return Err(AssignError::Older(mark));
        }
        if !assignments.complete && mark.term != self.mark.term {
            return Err(AssignError::Gap(mark));
        }
        let change = self.change(assignments);
        let mut writes = vec![Write::Mark(mark)];
        for (task, order) in &change.orders {
            writes.push(Write::Order(*task, order));
        }
        for (task, (kept, _)) in &change.new {
            writes.push(Write::Order(*task, &kept.order));
            writes.push(Write::Progress(*task, &kept.progress));
        }
        let written = self.shared.ledger.write(&writes).await;
        written.map_err(AssignError::Ledger)?;
        self.mark = mark;
        for (task, order) in change.orders {
            if let Some(sender) = self.orders.get(&task) {
                sender.send_replace(Arc::new(order));
            }
        }
        for (task, (kept, seen)) in change.new {
            if let Some(id) = kept.progress.container {
                self.strangers.remove(&id);
            }
            self.employ(task, kept, seen);
        }
        if change.complete {
            self.complete = true;
            for (id, _) in std::mem::take(&mut self.strangers) {
                self.remove(id);
            }
        }
        Ok(())
    }

    /// What assignments change here.
    fn change(&self, assignments: Assignments) -> Intake {
        let mut intake = Intake {
            complete: assignments.complete,
            ..Intake::default()
        };
        let mut named = BTreeSet::new();
        let removed: BTreeSet<TaskId> = assignments.removed.into_iter().collect();
        for assigned in assignments.tasks {
            let assigned = assigned.0;
            let task = assigned.task;
            if removed.contains(&task) {
                continue;
            }
            named.insert(task);
            match self.orders.get(&task) {
                Some(sender) => {
                    let mut order = Order::clone(&sender.borrow());
                    if order.raise(assigned.desired) {
                        intake.orders.insert(task, order);
                    }
                }
                None => {
                    intake.new.insert(task, self.accept(assigned));
                }
            }
        }
        for (task, sender) in &self.orders {
            let forgotten = intake.complete && !named.contains(task);
            if (forgotten || removed.contains(task)) && !sender.borrow().gone {
                let mut order = Order::clone(&sender.borrow());
                order.gone = true;
                intake.orders.insert(*task, order);
            }
        }
        intake
    }

    /// A task that is new here, with what is found of it.
    fn accept(&self, assigned: Assigned) -> (Kept, Sight) {
        let task = assigned.task;
        let state = assigned.observed.max(TaskState::Accepted);
        let found = self.strangers.iter().find(|(_, of)| **of == Some(task));
        // What has ended for the leader is not taken up again: what still runs of it goes.
        let found = found.filter(|_| !state.is_terminal());
        let order = Order {
            assigned,
            gone: false,
            fenced: false,
        };
        let fresh = || ContainerId::from_bytes(rand::rng().random());
        let (container, seen) = match found {
            Some((id, _)) => (Some(*id), Sight::Unknown),
            None if order.want() >= Want::Stop => (None, Sight::Absent),
            None => (Some(fresh()), Sight::Absent),
        };
        let progress = Progress {
            status: TaskStatus {
                state,
                at: self.shared.now(),
                message: state.message().into(),
                ..TaskStatus::default()
            },
            container,
            ..Progress::default()
        };
        let kept = Kept {
            order,
            progress,
            made: None,
        };
        (kept, seen)
    }
}

/// When the next task is to stop because the node is cut off.
fn fence_at(
    cut_off: Option<Instant>,
    orders: &BTreeMap<TaskId, watch::Sender<Arc<Order>>>,
) -> Option<Instant> {
    let since = cut_off?;
    let orders = orders.values();
    let times = orders.filter_map(|order| fences_at(since, &order.borrow()));
    times.min()
}

/// When one task is; `None` when it is never, or is to end anyway.
fn fences_at(since: Instant, order: &Order) -> Option<Instant> {
    if order.want() >= Want::Stop {
        return None;
    }
    let patience = isolation::patience(&order.assigned.service_labels)?;
    since.checked_add(patience)
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The paths that containers have mounted: those of kept tasks, and those that are there and of which nothing is known.
fn held(
    contents: &Contents,
    there: impl Iterator<Item = ContainerId>,
) -> BTreeMap<ContainerId, Option<Vec<PathBuf>>> {
    let mut held: BTreeMap<_, _> = there.map(|id| (id, None)).collect();
    let kept = contents.tasks.values();
    for kept in kept.filter(|kept| !kept.progress.cleared) {
        if let Some(made) = &kept.made
            && kept.progress.container == Some(made.container.id)
        {
            held.insert(made.container.id, Some(made.container.binds().collect()));
        }
    }
    held
}

/// What assignments change.
#[derive(Default)]
struct Intake {
    complete: bool,
    orders: BTreeMap<TaskId, Order>,
    new: BTreeMap<TaskId, (Kept, Sight)>,
}

/// How a container looks to the machine.
pub(super) fn sight(found: Option<&Found>) -> Sight {
    match found.map(|found| &found.state) {
        None => Sight::Absent,
        Some(None) => Sight::Ruin,
        Some(Some(ContainerState::Created)) => Sight::Created,
        Some(Some(ContainerState::Running { pid, .. })) => Sight::Running { pid: *pid },
        Some(Some(ContainerState::Exited(exit))) => Sight::Exited(*exit),
    }
}
