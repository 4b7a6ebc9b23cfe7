//! This machine's containers, as the API asks for them, answered by the runtime and the logs.
//!
//! Those of the cluster that this node is in: a node that is in none has no containers. What a task is to do is the
//! runner's; here nothing is begun, and what a user ends the runner sees ending.

use std::collections::HashMap;
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

use super::engine::{Engine, EngineState};
use super::execs::Execs;
use super::join::reason;
use crate::agent::logs::{self, Driver};
use crate::agent::runtime::containerd::{ArchiveError, Containerd, Look};
use crate::agent::runtime::{Failure, Runtime, RuntimeError};
use crate::api::backend::containers::{
    Container, Containers, ExecView, ExecWanted, Input, LogLines, Output, Streams,
};
use crate::api::backend::{Refusal, RefusalClass};
use crate::model::container::{Exit, PathStat};
use crate::model::limits::ResourceLimits;
use crate::model::log::{LogLine, ReadOptions};
use crate::model::signal::signal_number;
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
    fn runtime(&self) -> Result<Containerd, Refusal> {
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

    fn logs_of(
        runtime: &Containerd,
        config: &ContainerConfig,
        options: ReadOptions,
        there: bool,
    ) -> Result<LogLines, Refusal> {
        let id = config.id;
        let follow = options.follow && there;
        let options = ReadOptions { follow, ..options };
        let ended = CancellationToken::new();
        let lines = logs::read(&runtime.folder(id), driver(config), options, ended.clone());
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
        let runtime = runtime.clone();
        let end = async move {
            // Gone or ended, there is nothing more to come.
            let _ = runtime.wait(id).await;
        };
        let following = Following {
            lines: lines.boxed(),
            end: Some(end.boxed()),
            ended,
        };
        Ok(following.boxed())
    }
}

fn driver(config: &ContainerConfig) -> Driver {
    Driver::named(&config.log.driver).unwrap_or(Driver::JsonFile)
}

fn container(look: Look) -> Container {
    Container {
        log_path: logs::log_path(&look.folder, driver(&look.config)),
        config: look.config,
        state: look.state,
        created: look.created,
        started: look.started,
        folder: look.folder,
    }
}

#[async_trait]
impl Containers for LocalContainers {
    async fn list(&self) -> Result<Vec<Container>, Refusal> {
        let Some(runtime) = self.engine.runtime() else {
            return Ok(Vec::new());
        };
        let looks = runtime.look_around().await.map_err(refused)?;
        Ok(looks.into_iter().map(container).collect())
    }

    async fn look(&self, id: ContainerId) -> Result<Option<Container>, Refusal> {
        let Some(runtime) = self.engine.runtime() else {
            return Ok(None);
        };
        let look = runtime.look(id).await.map_err(refused)?;
        Ok(look.map(container))
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
        let (bytes, _files) = self.runtime()?.size(id).await.map_err(refused)?;
        Ok(bytes)
    }

    async fn logs(&self, id: ContainerId, options: ReadOptions) -> Result<LogLines, Refusal> {
        let runtime = self.runtime()?;
        let there = runtime.look(id).await.map_err(refused)?.is_some();
        // The log outlives its container.
        match runtime.config(id).map_err(refused)? {
            Some(config) => Self::logs_of(&runtime, &config, options, there),
            None => Err(no_such(id)),
        }
    }

    async fn attach(&self, id: ContainerId) -> Result<Option<Input>, Refusal> {
        let attached = self.runtime()?.attach(id).await.map_err(refused)?;
        Ok(attached.stdin.map(|pipe| Box::new(pipe) as Input))
    }

    async fn resize(&self, id: ContainerId, height: u32, width: u32) -> Result<(), Refusal> {
        let resized = self.runtime()?.resize(id, height, width).await;
        resized.map_err(refused)
    }

    async fn kill(&self, id: ContainerId, signal: i32) -> Result<(), Refusal> {
        self.runtime()?.signal(id, signal).await.map_err(refused)
    }

    async fn stop(
        &self,
        id: ContainerId,
        signal: Option<i32>,
        grace: Option<Option<Duration>>,
    ) -> Result<(), Refusal> {
        let runtime = self.runtime()?;
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

    async fn pause(&self, id: ContainerId) -> Result<(), Refusal> {
        self.runtime()?.pause(id).await.map_err(refused)
    }

    async fn resume(&self, id: ContainerId) -> Result<(), Refusal> {
        self.runtime()?.resume(id).await.map_err(refused)
    }

    async fn wait(&self, id: ContainerId) -> Result<Exit, Refusal> {
        self.runtime()?.wait(id).await.map_err(refused)
    }

    async fn update(&self, id: ContainerId, limits: ResourceLimits) -> Result<(), Refusal> {
        let updated = self.runtime()?.update(id, &limits).await;
        updated.map_err(refused)
    }

    async fn processes(&self, id: ContainerId) -> Result<Vec<u32>, Refusal> {
        self.runtime()?.top(id).await.map_err(refused)
    }

    async fn stats(&self, id: ContainerId) -> Result<Stats, Refusal> {
        self.runtime()?.stats(id).await.map_err(refused)
    }

    async fn stat_path(&self, id: ContainerId, path: &str) -> Result<PathStat, Refusal> {
        let stat = self.runtime()?.stat_path(id, path).await;
        stat.map_err(not_copied)
    }

    async fn archive_out(
        &self,
        id: ContainerId,
        path: &str,
    ) -> Result<(PathStat, Output), Refusal> {
        let packed = self.runtime()?.archive_out(id, path).await;
        let (stat, tar) = packed.map_err(not_copied)?;
        Ok((stat, Box::new(tar)))
    }

    async fn archive_in(&self, id: ContainerId, path: &str, tar: Output) -> Result<(), Refusal> {
        let unpacked = self.runtime()?.archive_in(id, path, tar).await;
        unpacked.map_err(not_copied)
    }

    async fn create_exec(&self, id: ContainerId, wanted: ExecWanted) -> Result<String, Refusal> {
        let node = self.node.ok_or_else(|| no_such(id))?;
        self.execs.note(node, id, wanted)
    }

    fn exec(&self, exec: &str) -> Result<ExecView, Refusal> {
        self.execs.view(exec)
    }

    async fn start_exec(&self, exec: &str, streams: bool) -> Result<Streams, Refusal> {
        self.execs.start(&self.runtime()?, exec, streams).await
    }

    async fn wait_exec(&self, exec: &str) {
        self.execs.end_of(exec).await;
    }

    async fn resize_exec(&self, exec: &str, height: u32, width: u32) -> Result<(), Refusal> {
        self.execs.resize(exec, height, width).await
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

fn not_copied(error: ArchiveError) -> Refusal {
    match error {
        ArchiveError::Runtime(error) => refused(error),
        ArchiveError::NoSuchPath { .. } => Refusal::not_found(error.to_string()),
        ArchiveError::NotADirectory => Refusal::invalid(error.to_string()),
        ArchiveError::Io(_) => Refusal::internal(reason(&error)),
    }
}
