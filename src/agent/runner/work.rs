//! One task: asks the machine for the next action, performs it, and looks at what came of it.
//!
//! Each task has one of these, and nothing else touches its container, its progress or its status. An action is
//! written down first where the machine cannot find out by looking that it was done. What fails for a while is tried
//! again, less and less often; what is refused ends the task, in the runtime's words.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, timeout};
use tracing::{debug, info};

use super::Shared;
use super::desk::sight;
use super::stock::{HealthExec, Stock, StockError};
use crate::agent::ledger::{LedgerError, Write};
use crate::agent::runtime::spec::hostname;
use crate::agent::runtime::{Failure, Runtime, RuntimeError};
use crate::agent::task::health::{Checkup, Health};
use crate::agent::task::kept::{Made, Order, Progress, Want};
use crate::agent::task::machine::{self, Action, Seen, Sight, Step, Stopping};
use crate::agent::task::plan::{self, FileRequest, FilesError, Held, Planned, signal_number};
use crate::model::container::{Mount, MountSource, ProcessConfig};
use crate::model::{ContainerConfig, ContainerId, TaskId, TaskState, TaskStatus};

/// The first wait before an action is tried again; doubled each time, with jitter.
const RETRY_FIRST: Duration = Duration::from_millis(100);

/// The longest wait before an action is tried again.
const RETRY_MOST: Duration = Duration::from_secs(30);

/// How long secrets and configs are waited for before it is said that they are missing.
const COMES_SOON: Duration = Duration::from_secs(1);

/// How long a killed process may take to be gone before it is killed again.
const KILL_AGAIN: Duration = Duration::from_secs(10);

/// Signals as the kernel counts them.
const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

/// Waits that grow.
#[derive(Debug, Default)]
pub(super) struct Backoff(u32);

impl Backoff {
    /// Waits, and longer the next time.
    pub(super) async fn wait(&mut self) {
        let span = RETRY_FIRST.saturating_mul(1 << self.0.min(16));
        self.0 = self.0.saturating_add(1);
        let jitter = rand::rng().random_range(0.5..1.0);
        tokio::time::sleep(span.min(RETRY_MOST).mul_f64(jitter)).await;
    }
}

/// Why an action was not performed.
#[derive(Debug)]
pub(super) enum Hitch {
    /// It may work later.
    Later(String),
    /// It never will.
    Refused(String),
    /// The daemon stops.
    Closed,
}

impl From<LedgerError> for Hitch {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Closed => Self::Closed,
            other => Self::Later(other.to_string()),
        }
    }
}

impl From<RuntimeError> for Hitch {
    fn from(error: RuntimeError) -> Self {
        match error.failure {
            Failure::Refused => Self::Refused(error.message),
            Failure::Gone | Failure::Retry => Self::Later(error.message),
        }
    }
}

impl From<StockError> for Hitch {
    fn from(error: StockError) -> Self {
        match error.failure {
            Failure::Refused => Self::Refused(error.message),
            Failure::Gone | Failure::Retry => Self::Later(error.message),
        }
    }
}

/// What stays of a container's making for as long as its process runs.
pub(super) struct Manners {
    /// What asks it to end.
    signal: i32,
    /// How long it has from then on.
    grace: Duration,
    /// The program that asks for its health.
    pub(super) asks: Option<Box<ProcessConfig>>,
}

impl Manners {
    fn of(made: &Made) -> Self {
        let plan = made.health.as_ref();
        Self {
            signal: signal_number(&made.container.stop_signal).unwrap_or(SIGTERM),
            grace: made.container.stop_grace,
            asks: plan.map(|plan| Box::new(plan.process(&made.container))),
        }
    }
}

pub(super) struct Work<R, S, H> {
    pub(super) shared: Arc<Shared<R, S, H>>,
    pub(super) orders: watch::Receiver<Arc<Order>>,
    pub(super) progress: Progress,
    pub(super) seen: Seen,
    pub(super) checkup: Option<Checkup>,
    /// How its container is asked to end, and for its health, once its process has begun.
    pub(super) manners: Option<Manners>,
    /// When the next question for its health is due.
    pub(super) ask_at: Instant,
    /// When its process began, as far as this life knows.
    pub(super) began: Instant,
    /// When it has had enough time to end.
    pub(super) patience_ends: Instant,
    task: TaskId,
    /// Its container, until its process has begun: nobody makes it anew after that, and most tasks run.
    made: Option<Box<Made>>,
    /// `made` is on disk.
    made_is_kept: bool,
    /// Held from the making of its container until its process has begun.
    permit: Option<OwnedSemaphorePermit>,
    backoff: Backoff,
}

impl<R: Runtime, S: Stock, H: HealthExec> Work<R, S, H> {
    pub(super) fn new(
        shared: Arc<Shared<R, S, H>>,
        task: TaskId,
        orders: watch::Receiver<Arc<Order>>,
        progress: Progress,
        made: Option<Made>,
        container: Sight,
    ) -> Self {
        // What was decided for a container that has been given up since is decided anew.
        let made = made.filter(|made| Some(made.container.id) == progress.container);
        let now = Instant::now();
        let mut work = Self {
            shared,
            orders,
            progress,
            seen: Seen {
                gathered: made.is_some(),
                ..Seen::default()
            },
            checkup: None,
            manners: made.as_ref().map(Manners::of),
            ask_at: now,
            began: now,
            patience_ends: now,
            task,
            made_is_kept: made.is_some(),
            made: made.map(Box::new),
            permit: None,
            backoff: Backoff::default(),
        };
        work.sees(container);
        work
    }

    /// Works until the task is forgotten or the daemon stops.
    pub(super) async fn run(mut self: Box<Self>) {
        loop {
            let order = self.orders.borrow_and_update().clone();
            let action = machine::next(&order, &self.progress, &self.seen);
            debug!(?action, "next");
            let outcome = match &action {
                Action::Forget => match Box::pin(self.forget()).await {
                    Ok(()) => return,
                    Err(error) => Err(error.into()),
                },
                other => self.perform(other, &order).await,
            };
            let outcome = match outcome {
                Err(Hitch::Refused(words)) => Box::pin(self.refused(&action, &order, words)).await,
                other => other,
            };
            match outcome {
                Ok(()) if action == Action::Look => {}
                Ok(()) => self.backoff = Backoff::default(),
                Err(Hitch::Later(words) | Hitch::Refused(words)) => {
                    Box::pin(self.later(words, order.want())).await;
                }
                // The daemon stops: nothing more can be written, so nothing more is done.
                Err(Hitch::Closed) => std::future::pending().await,
            }
        }
    }

    async fn forget(&self) -> Result<(), LedgerError> {
        self.shared.ledger.write(&[Write::Forget(self.task)]).await
    }

    /// Most tasks are watched nearly all the time, so what is done rarely is boxed: a worker takes no more memory than
    /// watching does.
    async fn perform(&mut self, action: &Action, order: &Order) -> Result<(), Hitch> {
        match action {
            Action::Look => Box::pin(self.look()).await,
            Action::Gather => Box::pin(self.gather(order)).await,
            // Many may wait for their turn, and take no more memory than those who watch.
            Action::Create => match self.has_turn().await {
                true => Box::pin(self.create(order.want())).await,
                false => Ok(()),
            },
            Action::Start => match self.has_turn().await {
                true => Box::pin(self.start()).await,
                false => Ok(()),
            },
            Action::Watch => self.watch(order.want()).await,
            Action::Stop => Box::pin(self.stop(order)).await,
            Action::Kill => Box::pin(self.kill()).await,
            Action::Condemn(doom) => {
                let doom = Some(*doom);
                let progress = self.progress.clone();
                Box::pin(self.keep(Progress { doom, ..progress })).await
            }
            Action::Clear => Box::pin(self.clear(order.want())).await,
            Action::Rest | Action::Forget => {
                self.permit = None;
                self.otherwise(order.want()).await;
                Ok(())
            }
            Action::Rise(step) => Box::pin(self.rise(step, order.want())).await,
        }
    }

    /// What came of an action that will never work. Only making and beginning a container can be refused for good.
    async fn refused(
        &mut self,
        action: &Action,
        order: &Order,
        words: String,
    ) -> Result<(), Hitch> {
        match action {
            Action::Gather | Action::Create | Action::Start => {
                match machine::refused(self.progress.status.state, &words) {
                    Action::Rise(step) => self.rise(&step, order.want()).await,
                    _ => Err(Hitch::Later(words)),
                }
            }
            _ => Err(Hitch::Later(words)),
        }
    }

    /// Says why it does not get further, and waits a while, or until something else is wanted.
    async fn later(&mut self, words: String, want: Want) {
        debug!(why = words, "not now");
        self.permit = None;
        if self.seen.container != Sight::Absent {
            self.seen.container = Sight::Unknown;
        }
        if self.progress.status.err != words && !self.progress.status.state.is_terminal() {
            let status = TaskStatus {
                err: words,
                ..self.status(self.progress.status.state)
            };
            self.shared.tell(self.task, &status);
            self.progress.status = status;
        }
        let mut backoff = std::mem::take(&mut self.backoff);
        tokio::select! {
            () = backoff.wait() => {}
            () = self.otherwise(want) => {}
        }
        self.backoff = backoff;
    }

    /// Returns once something else than `want` is wanted.
    pub(super) async fn otherwise(&mut self, want: Want) {
        if self
            .orders
            .wait_for(|order| order.want() != want)
            .await
            .is_err()
        {
            // The desk has stopped, and all of its workers are about to.
            std::future::pending().await
        }
    }

    /// Writes progress down, then goes by it.
    async fn keep(&mut self, progress: Progress) -> Result<(), Hitch> {
        let write = [Write::Progress(self.task, &progress)];
        self.shared.ledger.write(&write).await?;
        self.progress = progress;
        Ok(())
    }

    /// Its container; the machine asks for nothing that needs one before it is bound.
    fn container(&self) -> Result<ContainerId, Hitch> {
        let unbound = || Hitch::Later("the task has no container".into());
        self.progress.container.ok_or_else(unbound)
    }

    /// Takes note of how its container is.
    pub(super) fn sees(&mut self, container: Sight) {
        let begun = self.progress.status.state >= TaskState::Starting;
        self.seen.container = match container {
            // Made by a life that did not come to write down as what: nobody knows how to end it, or to ask its health.
            Sight::Created if self.made.is_none() && !begun => Sight::Ruin,
            container => container,
        };
        if !matches!(container, Sight::Running { .. }) {
            return;
        }
        // Should it be made once more after all, it is decided anew.
        self.made_is_kept = false;
        let plan = self.made.take().and_then(|made| made.health);
        let Some(plan) = plan.filter(|_| self.checkup.is_none()) else {
            return;
        };
        let age = self.progress.started.map(|at| self.shared.now().since(at));
        let age = age.unwrap_or_default();
        let now = Instant::now();
        self.began = now.checked_sub(age).unwrap_or(now);
        let health = match self.progress.status.state {
            TaskState::Running => Health::Healthy,
            _ => Health::Starting,
        };
        let checkup = Checkup::new(plan, health);
        self.ask_at = now + checkup.pause(age);
        self.seen.health = Some(health);
        self.checkup = Some(checkup);
    }

    async fn look(&mut self) -> Result<(), Hitch> {
        let found = self.shared.runtime.inspect(self.container()?).await?;
        self.sees(sight(found.as_ref()));
        Ok(())
    }

    /// Gathers what the container needs; gives up as soon as it is no longer wanted.
    async fn gather(&mut self, order: &Order) -> Result<(), Hitch> {
        let id = self.container()?;
        if self.seen.container == Sight::Ruin {
            return self.rename(id).await;
        }
        let shared = self.shared.clone();
        let gathering = gather(&shared, order, id);
        let made = tokio::select! {
            made = gathering => made?,
            () = unwanted(&mut self.orders) => return Ok(()),
        };
        self.manners = Some(Manners::of(&made));
        self.made = Some(Box::new(made));
        self.seen.gathered = true;
        Ok(())
    }

    /// Waits until it may make or begin its container; `false` when it is to end meanwhile.
    async fn has_turn(&mut self) -> bool {
        if self.permit.is_none() {
            let starts = self.shared.starts.clone();
            self.permit = tokio::select! {
                permit = starts.acquire_owned() => permit.ok(),
                () = unwanted(&mut self.orders) => return false,
            };
        }
        true
    }

    async fn create(&mut self, want: Want) -> Result<(), Hitch> {
        let id = self.container()?;
        let Some(made) = &self.made else {
            self.seen.gathered = false;
            return Ok(());
        };
        let writes = [
            Write::Progress(self.task, &self.progress),
            Write::Made(self.task, made),
        ];
        let is_kept = self.made_is_kept;
        let kept = async {
            match is_kept {
                true => Ok(()),
                false => self.shared.ledger.write(&writes).await,
            }
        };
        // At the same time: its name was bound before, so a life that is cut short finds the one without the other.
        let (kept, created) = tokio::join!(kept, self.shared.runtime.create(&made.container));
        kept?;
        self.made_is_kept = true;
        match created {
            Ok(()) => {
                self.sees(Sight::Created);
                if want < Want::Run {
                    self.permit = None;
                }
                Ok(())
            }
            Err(error) if error.failure == Failure::Refused => Err(error.into()),
            Err(error) => {
                self.rename(id).await?;
                Err(error.into())
            }
        }
    }

    /// Gives the container another ID after an attempt that failed, as what is below may still hold something of the
    /// old one; it keeps the old one as long as that cannot be cleared away.
    async fn rename(&mut self, old: ContainerId) -> Result<(), Hitch> {
        self.seen.container = Sight::Unknown;
        self.shared.runtime.remove(old).await?;
        self.shared.stock.release(old).await?;
        let fresh = ContainerId::from_bytes(rand::rng().random());
        let container = Some(fresh);
        let progress = self.progress.clone();
        self.keep(Progress {
            container,
            ..progress
        })
        .await?;
        self.made = None;
        self.made_is_kept = false;
        self.manners = None;
        self.seen = Seen {
            container: Sight::Absent,
            ..Seen::default()
        };
        Ok(())
    }

    async fn start(&mut self) -> Result<(), Hitch> {
        let id = self.container()?;
        // First: a machine that is switched off may lose the container and must not lose that it began.
        let write = [Write::Progress(self.task, &self.progress)];
        self.shared.ledger.write(&write).await?;
        let started = self.shared.runtime.start(id).await;
        self.permit = None;
        match started {
            Ok(started) => {
                self.progress.started = Some(started.at);
                self.sees(Sight::Running { pid: started.pid });
                if self.checkup.is_some() {
                    // It stays at starting for a while: people may already look at its process.
                    let status = self.status(self.progress.status.state);
                    self.shared.tell(self.task, &status);
                    self.progress.status = status;
                }
                Ok(())
            }
            Err(error) if error.failure == Failure::Gone => {
                self.sees(Sight::Absent);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Sends the stop signal. When that was begun in an earlier life, it goes on with what is left of its time.
    async fn stop(&mut self, order: &Order) -> Result<(), Hitch> {
        let id = self.container()?;
        let now = self.shared.now();
        if self.progress.stopping.is_none() {
            let stopping = Some(now);
            let progress = self.progress.clone();
            self.keep(Progress {
                stopping,
                ..progress
            })
            .await?;
        }
        let (signal, grace) = self.manners(order);
        let passed = self.progress.stopping.map(|since| now.since(since));
        let left = grace.saturating_sub(passed.unwrap_or_default());
        // What it is asked meanwhile it still answers.
        self.shared.stock.retire(id).await;
        info!(signal, grace = ?left, "asked its process to end");
        self.signal(id, signal).await?;
        self.seen.stopping = Stopping::Signalled;
        self.patience_ends = Instant::now() + left;
        Ok(())
    }

    /// The stop signal, and how long it has from then on.
    fn manners(&self, order: &Order) -> (i32, Duration) {
        if let Some(manners) = &self.manners {
            return (manners.signal, manners.grace);
        }
        // Adopted without a record of its making: the image's own signal is not known.
        let spec = order
            .assigned
            .spec
            .container_spec
            .clone()
            .unwrap_or_default();
        let signal = signal_number(&spec.stop_signal).unwrap_or(SIGTERM);
        (signal, plan::grace(&spec))
    }

    async fn kill(&mut self) -> Result<(), Hitch> {
        let id = self.container()?;
        self.signal(id, SIGKILL).await?;
        self.seen.stopping = Stopping::Killed;
        self.patience_ends = Instant::now() + KILL_AGAIN;
        Ok(())
    }

    async fn signal(&mut self, id: ContainerId, signal: i32) -> Result<(), Hitch> {
        match self.shared.runtime.signal(id, signal).await {
            Err(error) if error.failure == Failure::Gone => {
                self.sees(Sight::Absent);
                Ok(())
            }
            outcome => Ok(outcome?),
        }
    }

    async fn clear(&mut self, want: Want) -> Result<(), Hitch> {
        if let Some(id) = self.progress.container {
            self.shared.runtime.remove(id).await?;
            self.shared.stock.release(id).await?;
        }
        self.seen = Seen {
            container: Sight::Absent,
            ..Seen::default()
        };
        if want == Want::Forget {
            // It is struck from the ledger next; a life that does not come to that clears again.
            self.progress.cleared = true;
            return Ok(());
        }
        let cleared = true;
        let progress = self.progress.clone();
        self.keep(Progress {
            cleared,
            ..progress
        })
        .await
    }

    async fn rise(&mut self, step: &Step, want: Want) -> Result<(), Hitch> {
        let status = TaskStatus {
            err: step.err.clone(),
            exit_code: step.exit_code,
            ..self.status(step.to)
        };
        let from = self.progress.status.state;
        let progress = Progress {
            status,
            ..self.progress.clone()
        };
        if machine::must_be_kept(step.to, want) {
            self.keep(progress).await?;
        } else {
            self.progress = progress;
        }
        info!(%from, to = %step.to, err = step.err, "task moved");
        if let Some(id) = self
            .progress
            .container
            .filter(|_| step.to == TaskState::Running)
        {
            self.shared.stock.serve(id);
        }
        self.shared.tell(self.task, &self.progress.status);
        if step.to.is_terminal() {
            self.permit = None;
            if let Some(id) = self.progress.container {
                self.shared.stock.fell(id);
                self.shared.stock.wipe(id);
            }
        }
        Ok(())
    }

    /// The status in `state` as of now: never before an earlier one, should the clock have been set back.
    fn status(&self, state: TaskState) -> TaskStatus {
        let last = &self.progress.status;
        let (pid, is_there) = match self.seen.container {
            Sight::Running { pid } => (pid, true),
            Sight::Created | Sight::Exited(_) => (0, true),
            Sight::Unknown | Sight::Absent | Sight::Ruin => (0, false),
        };
        let container = self.progress.container.filter(|_| is_there);
        TaskStatus {
            state,
            at: self
                .shared
                .now()
                .max(last.at.after(Duration::from_nanos(1))),
            message: state.message().into(),
            container: container.or(last.container),
            pid,
            ..TaskStatus::default()
        }
    }
}

/// Returns once the task is to end.
async fn unwanted(orders: &mut watch::Receiver<Arc<Order>>) {
    if orders
        .wait_for(|order| order.want() >= Want::Stop)
        .await
        .is_err()
    {
        std::future::pending().await
    }
}

/// Decides on the container, and has everything ready that it needs.
async fn gather<R: Runtime, S: Stock, H: HealthExec>(
    shared: &Shared<R, S, H>,
    order: &Order,
    id: ContainerId,
) -> Result<Made, Hitch> {
    let assigned = &order.assigned;
    let reference = assigned.spec.container_spec.as_ref();
    let reference = reference.map_or("", |spec| spec.image.as_str());
    let (image, config) = shared
        .stock
        .image(reference, &assigned.registry_auth)
        .await?;
    let planned = plan::container(assigned, &image, &config, &shared.settings.node, id);
    let Planned {
        mut container,
        health,
        volumes,
        make_binds,
    } = planned.map_err(|error| Hitch::Refused(plan::words(&error)))?;
    for (at, mount) in container.mounts.iter().enumerate() {
        if let MountSource::Bind { path, .. } = &mount.source {
            shared.stock.bind(path, make_binds.contains(&at)).await?;
        }
    }
    for (at, wanted) in &volumes {
        let path = shared.stock.volume(id, &image, wanted).await?;
        if let Some(mount) = container.mounts.get_mut(*at) {
            mount.source = MountSource::Bind {
                path,
                propagation: String::new(),
                non_recursive: false,
                depth: Default::default(),
            };
        }
    }
    let files = files(shared, order, &container).await?;
    let paths = shared.stock.files(id, &files).await?;
    let mounts = files.into_iter().zip(paths).map(|(file, path)| Mount {
        target: file.target,
        read_only: true,
        source: MountSource::Dependency { path },
    });
    container.mounts.extend(mounts);
    let wired = shared.stock.network(id, assigned).await?;
    container.network = wired.mode;
    if let Some(addr) = wired.address {
        let name = hostname(&container);
        container.hosts.push((addr, vec![name]));
    }
    Ok(Made { container, health })
}

/// The files of its secrets and configs. They come before the task does, but for a daemon that has begun anew and has
/// not met the leader yet: they are waited for a little, then it is said what is missing.
async fn files<R, S, H>(
    shared: &Shared<R, S, H>,
    order: &Order,
    container: &ContainerConfig,
) -> Result<Vec<FileRequest>, Hitch> {
    let mut held = shared.held.subscribe();
    let look = |held: &Held| plan::files(&order.assigned, container, held, &shared.settings.node);
    let are_there = |held: &Held| !matches!(look(held), Err(FilesError::Missing(_)));
    // Whether they have come is seen below.
    let _ = timeout(COMES_SOON, held.wait_for(are_there)).await;
    let now = held.borrow().clone();
    look(&now).map_err(|error| match error {
        FilesError::Missing(_) => Hitch::Later(error.to_string()),
        FilesError::Plan(_) => Hitch::Refused(error.to_string()),
    })
}
