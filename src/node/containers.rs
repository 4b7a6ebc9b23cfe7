//! This machine's containers, as the API asks for them, answered by the runtime and the logs.
//!
//! Those of tasks of the cluster that this node is in, and those that users have made by themselves. What a task is to do
//! is the runner's; here nothing of it is begun, and what a user ends the runner sees ending. What a user's own container
//! is to do is decided in [`agent::standalone`](crate::agent::standalone).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, Stream, StreamExt, TryStreamExt};
use nix::libc::SIGKILL;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::engine::{Engine, EngineState, NOBODY, StandaloneContainers};
use super::execs::Execs;
use super::input;
use super::join::reason;
use crate::agent::logs::{self, Driver};
use crate::agent::runner::stock::StockError;
use crate::agent::runtime::containerd::{ArchiveError, Containerd, Look};
use crate::agent::runtime::{Failure, Runtime, RuntimeError};
use crate::agent::standalone::life::Phase;
use crate::agent::standalone::record::Record;
use crate::agent::standalone::{ActError, MakeError};
use crate::agent::task::health::{Answer, Health};
use crate::agent::vitals::Vital;
use crate::api::backend::containers::{
    Alone, Container, Containers, ExecView, ExecWanted, HealthView, Input, LogLines, Output,
    Streams,
};
use crate::api::backend::{Refusal, RefusalClass};
use crate::model::container::{ContainerState, Exit, PathStat};
use crate::model::limits::ResourceLimits;
use crate::model::log::{LogLine, ReadOptions};
use crate::model::signal::signal_number;
use crate::model::standalone::{RestartPolicy, WaitFor, Wanted};
use crate::model::stats::Stats;
use crate::model::{ContainerConfig, ContainerId, Digest, NodeId};

/// A container that was killed is gone within this, or something is wrong with the machine.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// What the API sees of this machine's containers.
#[derive(Clone, Debug)]
pub(super) struct LocalContainers {
    pub(super) engine: Arc<Engine>,
    pub(super) execs: Arc<Execs>,
    pub(super) node: Option<NodeId>,
}

impl LocalContainers {
    /// What runs this container.
    fn runtime(&self, id: ContainerId) -> Result<Containerd, Refusal> {
        if let Some(own) = self.own(id) {
            return Ok(own.runtime().clone());
        }
        self.engine.runtime().ok_or_else(|| {
            let words = match &*self.engine.state().borrow() {
                EngineState::Failed(why) => format!("no containers can be run: {why}"),
                EngineState::Starting | EngineState::Ready(_) => {
                    "containers are not to be had yet: try again in a moment".to_owned()
                }
            };
            Refusal::unavailable(words)
        })
    }

    /// Those that users have made, when this is one.
    fn own(&self, id: ContainerId) -> Option<StandaloneContainers> {
        self.engine.standalone().filter(|own| own.has(id))
    }

    /// For what can only be asked of those that users have made.
    fn of_user(&self, id: ContainerId) -> Result<StandaloneContainers, Refusal> {
        self.own(id).ok_or_else(|| no_such(id))
    }

    fn tell(&self, id: ContainerId, action: &str, more: &[(&str, String)]) {
        let config = self.runtime(id).ok();
        let config = config.and_then(|runtime| runtime.config(id).ok().flatten());
        if let Some(config) = config {
            self.engine.happenings.tell_of(&config, action, more);
        }
    }

    /// Its log; followed until `end`, without one as far as it goes now.
    fn read(
        folder: &Path,
        driver: Driver,
        options: ReadOptions,
        end: Option<BoxFuture<'static, ()>>,
    ) -> Result<LogLines, Refusal> {
        let follow = options.follow && end.is_some();
        let options = ReadOptions { follow, ..options };
        let ended = CancellationToken::new();
        let lines = logs::read(folder, driver, options, ended.clone());
        let lines = lines.map_err(|error| match error {
            logs::ReadError::Unreadable => {
                Refusal::new(RefusalClass::NotImplemented, error.to_string())
            }
            other => Refusal::internal(reason(&other)),
        })?;
        let lines = lines.map_err(|error| Refusal::internal(reason(&error)));
        if !follow {
            return Ok(lines.boxed());
        }
        let following = Following {
            lines: lines.boxed(),
            end,
            ended,
        };
        Ok(following.boxed())
    }
}

fn driver(config: &ContainerConfig) -> Driver {
    Driver::named(&config.log.driver).unwrap_or(Driver::JsonFile)
}

/// How healthy a container is, as Docker writes it.
pub(super) const fn health_word(health: Health) -> &'static str {
    match health {
        Health::Starting => "starting",
        Health::Healthy => "healthy",
        Health::Unhealthy => "unhealthy",
    }
}

fn health_view(vital: Vital) -> HealthView {
    let code = |answer| match answer {
        Answer::Exited(code) => code,
        Answer::TimedOut | Answer::Failed => -1,
    };
    let answers = vital.answers.into_iter();
    HealthView {
        status: health_word(vital.health),
        failures: vital.failures,
        answers: answers
            .map(|(asked, at, answer)| (asked, at, code(answer)))
            .collect(),
    }
}

impl LocalContainers {
    fn of_task(&self, look: Look) -> Container {
        let id = look.config.id;
        Container {
            log_path: logs::log_path(&look.folder, driver(&look.config)),
            health: self.engine.vitals.of(look.config.id).map(health_view),
            config: look.config,
            state: look.state,
            created: look.created,
            started: look.started,
            folder: look.folder,
            places: self.engine.places(id),
            standalone: None,
        }
    }

    /// One that its user made. What is written down holds; what runs is seen.
    fn of_record(&self, record: Record, look: Option<Look>, folder: PathBuf) -> Container {
        let life = record.life;
        let seen = look.map(|look| look.state);
        let state = match (life.phase, seen) {
            (Phase::Running, Some(state @ ContainerState::Running { .. })) => state,
            // It has ended just now, which is not written down yet.
            (Phase::Running, _) => ContainerState::Running {
                pid: 0,
                paused: false,
            },
            _ => match (life.started, life.exit) {
                (Some(_), Some(exit)) => ContainerState::Exited(exit),
                (Some(_) | None, _) => ContainerState::Created,
            },
        };
        let id = record.config.id;
        let shown = Driver::named(&record.wanted.log.driver).unwrap_or(Driver::JsonFile);
        Container {
            log_path: logs::log_path(&folder, shown),
            health: self.engine.vitals.of(record.config.id).map(health_view),
            config: record.config,
            state,
            created: record.created,
            started: life.started,
            folder,
            places: self.engine.places(id),
            standalone: Some(Box::new(Alone {
                wanted: record.wanted,
                shown: record.shown,
                mounts: record.mounts,
                restarting: life.phase == Phase::Restarting,
                removing: life.phase == Phase::Removing,
                restarts: life.restarts,
                error: life.error,
                last_exit: life.exit,
            })),
        }
    }
}

#[async_trait]
impl Containers for LocalContainers {
    async fn list(&self) -> Result<Vec<Container>, Refusal> {
        let mut all = Vec::new();
        if let Some(runtime) = self.engine.runtime() {
            let looks = runtime.look_around().await.map_err(refused)?;
            all.extend(looks.into_iter().map(|look| self.of_task(look)));
        }
        let Some(own) = self.engine.standalone() else {
            return Ok(all);
        };
        let records = own.list();
        if records.is_empty() {
            return Ok(all);
        }
        let looks = own.runtime().look_around().await.map_err(refused)?;
        let looks = looks.into_iter().map(|look| (look.config.id, look));
        let mut looks: HashMap<ContainerId, Look> = looks.collect();
        all.extend(records.into_iter().map(|record| {
            let id = record.config.id;
            self.of_record(record, looks.remove(&id), own.runtime().folder(id))
        }));
        Ok(all)
    }

    async fn look(&self, id: ContainerId) -> Result<Option<Container>, Refusal> {
        if let Some(own) = self.own(id) {
            let look = own.runtime().look(id).await.map_err(refused)?;
            let folder = own.runtime().folder(id);
            let record = own.look(id);
            return Ok(record.map(|record| self.of_record(record, look, folder)));
        }
        let Some(runtime) = self.engine.runtime() else {
            return Ok(None);
        };
        let look = runtime.look(id).await.map_err(refused)?;
        Ok(look.map(|look| self.of_task(look)))
    }

    async fn image_ids(&self) -> HashMap<Digest, Digest> {
        let Some(images) = self.engine.images() else {
            return HashMap::new();
        };
        // Without an answer the IDs are left out.
        let images = images.list().await.unwrap_or_default();
        let ids = images.into_iter().map(|image| (image.manifest, image.id));
        ids.collect()
    }

    async fn size(&self, id: ContainerId) -> Result<u64, Refusal> {
        let (bytes, _files) = self.runtime(id)?.size(id).await.map_err(refused)?;
        Ok(bytes)
    }

    async fn logs(&self, id: ContainerId, options: ReadOptions) -> Result<LogLines, Refusal> {
        if let Some(own) = self.own(id) {
            let record = own.look(id).ok_or_else(|| no_such(id))?;
            let driver = Driver::named(&record.wanted.log.driver).unwrap_or(Driver::JsonFile);
            let end = match record.life.phase.is_active() {
                true => Some(end_of(&own, id, WaitFor::NextExit)?),
                false => None,
            };
            return Self::read(&own.runtime().folder(id), driver, options, end);
        }
        let runtime = self.runtime(id)?;
        let there = runtime.look(id).await.map_err(refused)?.is_some();
        // The log outlives its container.
        let config = runtime.config(id).map_err(refused)?;
        let config = config.ok_or_else(|| no_such(id))?;
        let folder = runtime.folder(id);
        let end = async move {
            // Gone or ended, there is nothing more to come.
            let _ = runtime.wait(id).await;
        };
        Self::read(
            &folder,
            driver(&config),
            options,
            there.then(|| end.boxed()),
        )
    }

    async fn listen(&self, id: ContainerId, options: ReadOptions) -> Result<LogLines, Refusal> {
        let Some(own) = self.own(id) else {
            return self.logs(id, options).await;
        };
        let record = own.look(id).ok_or_else(|| no_such(id))?;
        let end = end_of(&own, id, WaitFor::NextExit)?;
        let folder = own.runtime().folder(id);
        Self::read(&folder, driver(&record.config), options, Some(end))
    }

    async fn attach(&self, id: ContainerId) -> Result<Option<Input>, Refusal> {
        if let Some(own) = self.own(id) {
            let record = own.look(id).ok_or_else(|| no_such(id))?;
            return Ok(input::of_user(own, &record));
        }
        let attached = self.runtime(id)?.attach(id).await.map_err(refused)?;
        Ok(attached.stdin.map(|pipe| Box::new(pipe) as Input))
    }

    async fn resize(&self, id: ContainerId, height: u32, width: u32) -> Result<(), Refusal> {
        let resized = self.runtime(id)?.resize(id, height, width).await;
        resized.map_err(refused)?;
        let size = [("height", height.to_string()), ("width", width.to_string())];
        self.tell(id, "resize", &size);
        Ok(())
    }

    async fn kill(&self, id: ContainerId, signal: i32) -> Result<(), Refusal> {
        if let Some(own) = self.own(id) {
            return own.kill(id, signal).await.map_err(not_done);
        }
        let sent = self.runtime(id)?.signal(id, signal).await;
        sent.map_err(refused)?;
        self.tell(id, "kill", &[("signal", signal.to_string())]);
        Ok(())
    }

    async fn stop(
        &self,
        id: ContainerId,
        signal: Option<i32>,
        grace: Option<Option<Duration>>,
    ) -> Result<(), Refusal> {
        if let Some(own) = self.own(id) {
            let stopped = own.stop(id, signal, grace).await;
            return stopped.map(drop).map_err(not_done);
        }
        stop_task(&self.runtime(id)?, id, signal, grace).await?;
        self.tell(id, "stop", &[]);
        Ok(())
    }

    async fn pause(&self, id: ContainerId) -> Result<(), Refusal> {
        self.runtime(id)?.pause(id).await.map_err(refused)?;
        self.tell(id, "pause", &[]);
        Ok(())
    }

    async fn resume(&self, id: ContainerId) -> Result<(), Refusal> {
        self.runtime(id)?.resume(id).await.map_err(refused)?;
        self.tell(id, "unpause", &[]);
        Ok(())
    }

    async fn create(&self, wanted: Wanted) -> Result<ContainerId, Refusal> {
        let own = self.engine.machine()?.standalone;
        own.create(wanted).await.map_err(not_made)
    }

    async fn start(&self, id: ContainerId) -> Result<bool, Refusal> {
        self.of_user(id)?.start(id).await.map_err(not_done)
    }

    async fn restart(
        &self,
        id: ContainerId,
        signal: Option<i32>,
        grace: Option<Option<Duration>>,
    ) -> Result<(), Refusal> {
        let restarted = self.of_user(id)?.restart(id, signal, grace).await;
        restarted.map_err(not_done)
    }

    async fn remove(&self, id: ContainerId, volumes: bool) -> Result<(), Refusal> {
        self.of_user(id)?
            .remove(id, volumes)
            .await
            .map_err(not_done)
    }

    async fn rename(&self, id: ContainerId, name: &str) -> Result<(), Refusal> {
        self.of_user(id)?.rename(id, name).await.map_err(not_done)
    }

    async fn set_restart(&self, id: ContainerId, restart: RestartPolicy) -> Result<(), Refusal> {
        let own = self.of_user(id)?;
        let limits = own.look(id).ok_or_else(|| no_such(id))?.config.limits;
        let limited = own.limit(id, limits, Some(restart)).await;
        limited.map_err(not_done)
    }

    async fn export(&self, id: ContainerId) -> Result<Output, Refusal> {
        let exported = self.runtime(id)?.export(id).await;
        let tar = exported.map_err(not_copied)?;
        self.tell(id, "export", &[]);
        Ok(Box::new(tar))
    }

    async fn wait(
        &self,
        id: ContainerId,
        what: WaitFor,
    ) -> Result<BoxFuture<'static, Result<Exit, Refusal>>, Refusal> {
        if let Some(own) = self.own(id) {
            let ended = own.wait(id, what).map_err(not_done)?;
            return Ok(async move { ended.await.map_err(not_done) }.boxed());
        }
        let runtime = self.runtime(id)?;
        Ok(async move { runtime.wait(id).await.map_err(refused) }.boxed())
    }

    async fn update(&self, id: ContainerId, limits: ResourceLimits) -> Result<(), Refusal> {
        let own = self.own(id);
        let runs = match &own {
            Some(own) => own
                .look(id)
                .is_some_and(|one| one.life.phase == Phase::Running),
            None => true,
        };
        if runs {
            let updated = self.runtime(id)?.update(id, &limits).await;
            updated.map_err(refused)?;
        }
        match own {
            Some(own) => own.limit(id, limits, None).await.map_err(not_done),
            None => {
                self.tell(id, "update", &[]);
                Ok(())
            }
        }
    }

    async fn processes(&self, id: ContainerId) -> Result<Vec<u32>, Refusal> {
        self.runtime(id)?.top(id).await.map_err(refused)
    }

    async fn stats(&self, id: ContainerId) -> Result<Stats, Refusal> {
        self.runtime(id)?.stats(id).await.map_err(refused)
    }

    async fn stat_path(&self, id: ContainerId, path: &str) -> Result<PathStat, Refusal> {
        let stat = self.runtime(id)?.stat_path(id, path).await;
        stat.map_err(not_copied)
    }

    async fn archive_out(
        &self,
        id: ContainerId,
        path: &str,
    ) -> Result<(PathStat, Output), Refusal> {
        let packed = self.runtime(id)?.archive_out(id, path).await;
        let (stat, tar) = packed.map_err(not_copied)?;
        Ok((stat, Box::new(tar)))
    }

    async fn archive_in(&self, id: ContainerId, path: &str, tar: Output) -> Result<(), Refusal> {
        let unpacked = self.runtime(id)?.archive_in(id, path, tar).await;
        unpacked.map_err(not_copied)
    }

    async fn create_exec(&self, id: ContainerId, wanted: ExecWanted) -> Result<String, Refusal> {
        let command = wanted.process.args.join(" ");
        // A node that is in no cluster has no ID yet, and nobody asks it from elsewhere.
        let exec = self.execs.note(self.node.unwrap_or(NOBODY), id, wanted)?;
        let more = [("execID", exec.clone())];
        self.tell(id, &format!("exec_create: {command}"), &more);
        Ok(exec)
    }

    fn exec(&self, exec: &str) -> Result<ExecView, Refusal> {
        self.execs.view(exec)
    }

    async fn start_exec(&self, exec: &str, streams: bool) -> Result<Streams, Refusal> {
        let view = self.execs.view(exec)?;
        let id = view.container;
        let (engine, own) = (self.clone(), exec.to_owned());
        let end = move |code: i32| {
            let more = [("execID", own), ("exitCode", code.to_string())];
            engine.tell(id, "exec_die", &more);
        };
        let runtime = self.runtime(id)?;
        let begun = self.execs.start(&runtime, exec, streams, end).await?;
        let command = view.wanted.process.args.join(" ");
        let more = [("execID", exec.to_owned())];
        self.tell(id, &format!("exec_start: {command}"), &more);
        Ok(begun)
    }

    async fn wait_exec(&self, exec: &str) {
        self.execs.end_of(exec).await;
    }

    async fn resize_exec(&self, exec: &str, height: u32, width: u32) -> Result<(), Refusal> {
        self.execs.resize(exec, height, width).await
    }
}

/// What comes when a user's container has ended.
fn end_of(
    own: &StandaloneContainers,
    id: ContainerId,
    what: WaitFor,
) -> Result<BoxFuture<'static, ()>, Refusal> {
    let ended = own.wait(id, what).map_err(not_done)?;
    Ok(ended.map(drop).boxed())
}

/// Ends the container of a task; its runner sees it.
async fn stop_task(
    runtime: &Containerd,
    id: ContainerId,
    signal: Option<i32>,
    grace: Option<Option<Duration>>,
) -> Result<(), Refusal> {
    let look = runtime.look(id).await.map_err(refused)?;
    let config = look.ok_or_else(|| no_such(id))?.config;
    let signal = signal.or_else(|| signal_number(&config.stop_signal));
    let grace = grace.unwrap_or(Some(config.stop_grace));
    runtime
        .signal(id, signal.unwrap_or(nix::libc::SIGTERM))
        .await
        .map_err(refused)?;
    let ended = runtime.wait(id);
    let ended = match grace {
        None => ended.await.map(Some),
        Some(grace) => timeout(grace, ended)
            .await
            .map_or(Ok(None), |end| end.map(Some)),
    };
    if ended.map_err(refused)?.is_some() {
        return Ok(());
    }
    runtime.signal(id, SIGKILL).await.map_err(refused)?;
    match timeout(KILL_DEADLINE, runtime.wait(id)).await {
        Ok(ended) => ended.map(drop).map_err(refused),
        Err(_elapsed) => Err(Refusal::internal(format!(
            "container {id} did not end within {} s of SIGKILL",
            KILL_DEADLINE.as_secs()
        ))),
    }
}

/// A log that is followed until its container has ended.
struct Following {
    lines: BoxStream<'static, Result<LogLine, Refusal>>,
    end: Option<BoxFuture<'static, ()>>,
    ended: CancellationToken,
}

impl Stream for Following {
    type Item = Result<LogLine, Refusal>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(end) = self.end.as_mut()
            && end.poll_unpin(cx).is_ready()
        {
            self.end = None;
            self.ended.cancel();
        }
        self.lines.poll_next_unpin(cx)
    }
}

fn no_such(id: ContainerId) -> Refusal {
    Refusal::not_found(format!("No such container: {id}"))
}

/// A failure of the runtime in the API's classes.
pub(super) fn refused(error: RuntimeError) -> Refusal {
    let class = match error.failure {
        Failure::Gone => RefusalClass::NotFound,
        Failure::Refused => RefusalClass::Conflict,
        Failure::Retry => RefusalClass::Internal,
    };
    Refusal::new(class, error.message.clone())
}

/// Why a container was not made, in the API's classes.
fn not_made(error: MakeError) -> Refusal {
    let class = match &error {
        MakeError::Invalid(_) => RefusalClass::Invalid,
        MakeError::NoSuchImage(_) | MakeError::NoSuchContainer(_) => RefusalClass::NotFound,
        MakeError::NameTaken { .. } => RefusalClass::Conflict,
        MakeError::Runtime(RuntimeError { failure, .. })
        | MakeError::Supplies(StockError { failure, .. }) => match failure {
            Failure::Refused => RefusalClass::Invalid,
            Failure::Gone | Failure::Retry => RefusalClass::Internal,
        },
        MakeError::Disk(_) => RefusalClass::Internal,
        MakeError::Stopping => RefusalClass::Unavailable,
    };
    Refusal::new(class, error.to_string())
}

/// Why something was not done to a container that its user made.
fn not_done(error: ActError) -> Refusal {
    let class = match error {
        ActError::NoSuch(_) => RefusalClass::NotFound,
        ActError::Conflict(_) => RefusalClass::Conflict,
        ActError::Invalid(_) | ActError::Refused(_) => RefusalClass::Invalid,
        ActError::Runtime(error) => return refused(error),
        ActError::Disk(_) => RefusalClass::Internal,
        ActError::Stopping => RefusalClass::Unavailable,
    };
    Refusal::new(class, error.to_string())
}

fn not_copied(error: ArchiveError) -> Refusal {
    match error {
        ArchiveError::Runtime(error) => refused(error),
        ArchiveError::NoSuchPath { .. } => Refusal::not_found(error.to_string()),
        ArchiveError::NotADirectory => Refusal::invalid(error.to_string()),
        ArchiveError::Io(_) => Refusal::internal(reason(&error)),
    }
}
