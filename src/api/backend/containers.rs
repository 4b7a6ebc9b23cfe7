//! The seam to what runs on this machine: its containers, and further processes in them.
//!
//! The node implements it over its runtime. Every method speaks of this machine alone; where a container is, is the
//! API's to find out. A refusal has Docker's words.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use serde_json::{Map, Value};
use tokio::io::{AsyncRead, AsyncWrite};

use super::Refusal;
use crate::model::container::{ContainerState, Exit, Mount, PathStat, ProcessConfig};
use crate::model::limits::ResourceLimits;
use crate::model::log::{LogLine, ReadOptions};
use crate::model::plane::Place;
use crate::model::standalone::{RestartPolicy, WaitFor, Wanted};
use crate::model::stats::Stats;
use crate::model::{ContainerConfig, ContainerId, Digest, Timestamp};

/// A container of this machine, at one moment.
#[derive(Clone, Debug)]
pub struct Container {
    /// What it was made from.
    pub config: ContainerConfig,
    /// How far it is.
    pub state: ContainerState,
    /// When it was made.
    pub created: Timestamp,
    /// When its process began, if it has.
    pub started: Option<Timestamp>,
    /// The newest file of its log, where the driver has one.
    pub log_path: Option<PathBuf>,
    /// Its directory on this machine.
    pub folder: PathBuf,
    /// How healthy it says that it is; `None` when it is not asked.
    pub health: Option<HealthView>,
    /// Where it is reached.
    pub places: Vec<Place>,
    /// What else is known of one that its user has made by itself.
    pub standalone: Option<Box<Alone>>,
}

/// How healthy a container says that it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthView {
    /// `starting`, `healthy` or `unhealthy`.
    pub status: &'static str,
    /// Failures in a row.
    pub failures: u32,
    /// The last answers: when it was asked, when it answered, and the code.
    pub answers: Vec<(Timestamp, Timestamp, i32)>,
}

/// A container that its user has made by itself.
#[derive(Clone, Debug, Default)]
pub struct Alone {
    /// As it was asked for.
    pub wanted: Wanted,
    /// Docker's `Config`, completed with what the image says.
    pub shown: Map<String, Value>,
    /// What is mounted into it, with its volumes by their names.
    pub mounts: Vec<Mount>,
    /// It has ended, and is to begin again.
    pub restarting: bool,
    /// It is being removed.
    pub removing: bool,
    /// How often it has begun again by itself.
    pub restarts: u32,
    /// Why it could not begin; empty when it could.
    pub error: String,
    /// How it ended the last time, also while it runs again.
    pub last_exit: Option<Exit>,
}

/// A further process that somebody wants in a container.
#[derive(Clone, Debug, Default)]
pub struct ExecWanted {
    /// The program. What is empty of user and directory is as of the container.
    pub process: ProcessConfig,
    /// It may do everything.
    pub privileged: bool,
    /// It is given input.
    pub stdin: bool,
    /// Its output is wanted.
    pub stdout: bool,
    /// Its error output is wanted.
    pub stderr: bool,
}

/// A further process, wanted, running or ended.
#[derive(Clone, Debug)]
pub struct ExecView {
    /// Where.
    pub container: ContainerId,
    /// What was wanted.
    pub wanted: ExecWanted,
    /// Its process, as the machine counts; zero before it runs.
    pub pid: u32,
    /// It has not been begun yet, nor tried to.
    pub may_begin: bool,
    /// It runs.
    pub running: bool,
    /// What it ended with.
    pub exit_code: Option<i32>,
}

/// Bytes that come.
pub type Output = Box<dyn AsyncRead + Send + Unpin>;

/// Where bytes go.
pub type Input = Box<dyn AsyncWrite + Send + Unpin>;

/// The streams of a process that has begun.
#[derive(Default)]
pub struct Streams {
    /// Its input; dropped, it ends.
    pub stdin: Option<Input>,
    /// Its output.
    pub stdout: Option<Output>,
    /// Its error output.
    pub stderr: Option<Output>,
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams")
            .field("stdin", &self.stdin.is_some())
            .field("stdout", &self.stdout.is_some())
            .field("stderr", &self.stderr.is_some())
            .finish()
    }
}

/// Lines of a log; ends after an error.
pub type LogLines = BoxStream<'static, Result<LogLine, Refusal>>;

/// This machine's containers.
#[async_trait]
pub trait Containers: Send + Sync + 'static {
    /// All, in no order.
    async fn list(&self) -> Result<Vec<Container>, Refusal>;

    /// One; `None` when there is none.
    async fn look(&self, id: ContainerId) -> Result<Option<Container>, Refusal>;

    /// The IDs of the images that are here, by their manifests.
    async fn image_ids(&self) -> HashMap<Digest, Digest>;

    /// What it has written to its file system, bytes.
    async fn size(&self, id: ContainerId) -> Result<u64, Refusal>;

    /// What it has said, and with `follow` says until it ends.
    async fn logs(&self, id: ContainerId, options: ReadOptions) -> Result<LogLines, Refusal>;

    /// Its input, where it is given any.
    async fn attach(&self, id: ContainerId) -> Result<Option<Input>, Refusal>;

    /// How large its terminal is, in characters.
    async fn resize(&self, id: ContainerId, height: u32, width: u32) -> Result<(), Refusal>;

    /// Sends a signal to its first process.
    async fn kill(&self, id: ContainerId, signal: i32) -> Result<(), Refusal>;

    /// Asks it to end with its own stop signal or this one, and kills it after its own grace period or this one; a
    /// grace of `None` inside waits for ever. Returns when it has ended.
    async fn stop(
        &self,
        id: ContainerId,
        signal: Option<i32>,
        grace: Option<Option<Duration>>,
    ) -> Result<(), Refusal>;

    /// Holds it.
    async fn pause(&self, id: ContainerId) -> Result<(), Refusal>;

    /// Lets it go on.
    async fn resume(&self, id: ContainerId) -> Result<(), Refusal>;

    /// Makes one on this machine; it does not run yet.
    async fn create(&self, wanted: Wanted) -> Result<ContainerId, Refusal>;

    /// Begins one that was made so; whether it did not run already.
    async fn start(&self, id: ContainerId) -> Result<bool, Refusal>;

    /// Stops one that was made so, and begins it again.
    async fn restart(
        &self,
        id: ContainerId,
        signal: Option<i32>,
        grace: Option<Option<Duration>>,
    ) -> Result<(), Refusal>;

    /// Removes one that was made so, killed if it runs, and its anonymous volumes when that is wanted.
    async fn remove(&self, id: ContainerId, volumes: bool) -> Result<(), Refusal>;

    /// Gives one that was made so another name.
    async fn rename(&self, id: ContainerId, name: &str) -> Result<(), Refusal>;

    /// Gives one that was made so another policy.
    async fn set_restart(&self, id: ContainerId, restart: RestartPolicy) -> Result<(), Refusal>;

    /// Its whole file system as a tar stream.
    async fn export(&self, id: ContainerId) -> Result<Output, Refusal>;

    /// What it says from now on, until its process has ended, or the next one has when none runs.
    async fn listen(&self, id: ContainerId, options: ReadOptions) -> Result<LogLines, Refusal>;

    /// Begins to wait now; what is given back says how it ended when that has come about.
    async fn wait(
        &self,
        id: ContainerId,
        what: WaitFor,
    ) -> Result<BoxFuture<'static, Result<Exit, Refusal>>, Refusal>;

    /// Gives it other limits.
    async fn update(&self, id: ContainerId, limits: ResourceLimits) -> Result<(), Refusal>;

    /// Its processes, as the machine counts.
    async fn processes(&self, id: ContainerId) -> Result<Vec<u32>, Refusal>;

    /// What it uses.
    async fn stats(&self, id: ContainerId) -> Result<Stats, Refusal>;

    /// What a path in it is.
    async fn stat_path(&self, id: ContainerId, path: &str) -> Result<PathStat, Refusal>;

    /// A path in it as a tar stream.
    async fn archive_out(&self, id: ContainerId, path: &str)
    -> Result<(PathStat, Output), Refusal>;

    /// Unpacks a tar stream into a directory in it.
    async fn archive_in(&self, id: ContainerId, path: &str, tar: Output) -> Result<(), Refusal>;

    /// Notes that a process is wanted in a container that runs; its ID has this node's at its end.
    async fn create_exec(&self, id: ContainerId, wanted: ExecWanted) -> Result<String, Refusal>;

    /// A process that was wanted here.
    fn exec(&self, exec: &str) -> Result<ExecView, Refusal>;

    /// Begins it, once. Without `streams` what it says is lost.
    async fn start_exec(&self, exec: &str, streams: bool) -> Result<Streams, Refusal>;

    /// Waits until it is known how it ended; returns at once when there is no such process.
    async fn wait_exec(&self, exec: &str);

    /// How large its terminal is, in characters.
    async fn resize_exec(&self, exec: &str, height: u32, width: u32) -> Result<(), Refusal>;
}
