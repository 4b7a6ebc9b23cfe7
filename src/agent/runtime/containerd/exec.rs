//! Further processes in a container that runs.
//!
//! Streams are FIFOs in a directory of the execution. Our ends are open before the process is, so nothing waits for
//! us and nothing is lost; a stream that nobody wants goes to `/dev/null`, because a process without one fails when it
//! writes. An execution that nobody waits for ends with its container.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use containerd_client::services::v1::{
    DeleteProcessRequest, ExecProcessRequest, KillRequest, StartRequest, WaitRequest,
};
use nix::libc::SIGKILL;
use prost_types::Any;
use tokio::net::unix::pipe;
use tokio::time::sleep;

use super::super::spec::{self, ResolvedUser, SpecError, capabilities, users};
use super::super::{Failure, RuntimeError};
use super::attach::make_fifo;
use super::client::{START_DEADLINE, broken, failed, found, is_unreachable};
use super::folder::EXEC_PREFIX;
use super::rootfs::{Root, inside};
use super::words::translated;
use super::{Containerd, disk, image};
use crate::model::container::ProcessConfig;
use crate::model::{ContainerConfig, ContainerId};

const PROCESS_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";

/// Between two attempts to hear of an execution's end from a containerd that does not answer.
const RETRY: Duration = Duration::from_millis(200);

/// What is to be run in a container.
#[derive(Clone, Debug, Default)]
pub struct ExecSpec {
    /// The program. What is empty of user and directory is as of the container; its environment is added to the
    /// container's.
    pub process: ProcessConfig,
    /// It may do everything.
    pub privileged: bool,
    /// It is given input.
    pub stdin: bool,
    /// Its output is wanted.
    pub stdout: bool,
    /// Its error output is wanted; with a terminal it is part of the output.
    pub stderr: bool,
}

/// A process that runs in a container.
#[derive(Debug)]
pub struct Exec {
    runtime: Containerd,
    container: ContainerId,
    /// Its ID, unique in its container.
    pub id: String,
    /// Its process, as the machine counts.
    pub pid: u32,
    /// Its input, if it is given any; dropped, [`Exec::close_stdin`] ends it.
    pub stdin: Option<pipe::Sender>,
    /// Its output, if it is wanted: must be read, or the process stands still at some point.
    pub stdout: Option<pipe::Receiver>,
    /// Its error output, if it is wanted.
    pub stderr: Option<pipe::Receiver>,
}

/// The streams of an execution that is being made.
struct Streams {
    directory: PathBuf,
    stdin: Option<(pipe::Sender, pipe::Receiver)>,
    stdout: Option<(pipe::Receiver, pipe::Sender)>,
    stderr: Option<(pipe::Receiver, pipe::Sender)>,
}

impl Streams {
    fn open(directory: PathBuf, spec: &ExecSpec) -> std::io::Result<Self> {
        fs::create_dir(&directory)?;
        let both = |name: &str| {
            let path = directory.join(name);
            make_fifo(&path)?;
            // The reader first: a FIFO without one cannot be opened for writing. Both ends are held until the shim has
            // its own, so that neither sees an end of the stream too early.
            let reader = pipe::OpenOptions::new().open_receiver(&path)?;
            let writer = pipe::OpenOptions::new().open_sender(&path)?;
            Ok::<_, std::io::Error>((reader, writer))
        };
        let wanted = |wanted: bool, name: &str| wanted.then(|| both(name)).transpose();
        let stdin = wanted(spec.stdin, "stdin")?.map(|(reader, writer)| (writer, reader));
        let stdout = wanted(spec.stdout, "stdout")?;
        let stderr = wanted(spec.stderr && !spec.process.tty, "stderr")?;
        Ok(Self {
            stdin,
            stdout,
            stderr,
            directory,
        })
    }

    /// What the shim is told.
    fn path(&self, name: &str, wanted: bool) -> String {
        if wanted {
            self.directory.join(name).to_string_lossy().into_owned()
        } else {
            "/dev/null".to_owned()
        }
    }
}

impl Containerd {
    /// Runs a further process in a container. Refused in Docker's words when the container does not run, or the
    /// program cannot be run.
    pub async fn exec(
        &self,
        container: ContainerId,
        wanted: ExecSpec,
    ) -> Result<Exec, RuntimeError> {
        let inner = &self.inner;
        let (task, config) = inner.running(container).await?;
        let process = self.exec_process(&wanted, &config, task.pid).await?;
        let id = format!("{:032x}", rand::random::<u128>());
        let directory = inner.folder(container).join(&format!("{EXEC_PREFIX}{id}"));
        let streams = Streams::open(directory.clone(), &wanted);
        let streams = streams.map_err(disk("make the streams of an execution"))?;
        let tty = wanted.process.tty;
        let request = inner.client.request(ExecProcessRequest {
            container_id: container.to_string(),
            exec_id: id.clone(),
            terminal: tty,
            stdin: if wanted.stdin {
                streams.path("stdin", true)
            } else {
                String::new()
            },
            stdout: streams.path("stdout", wanted.stdout),
            stderr: if tty {
                String::new()
            } else {
                streams.path("stderr", wanted.stderr)
            },
            spec: Some(Any {
                type_url: PROCESS_TYPE.to_owned(),
                value: process,
            }),
        });
        let made = inner.client.tasks().exec(request).await;
        let started = match made {
            Ok(_) => self.start_exec(container, &id).await,
            Err(status) => Err(failed("make the execution")(status)),
        };
        let pid = match started {
            Ok(pid) => pid,
            Err(error) => {
                self.end_exec(container, &id).await;
                return Err(error);
            }
        };
        Ok(Exec {
            runtime: self.clone(),
            container,
            id,
            pid,
            stdin: streams.stdin.map(|(ours, _)| ours),
            stdout: streams.stdout.map(|(ours, _)| ours),
            stderr: streams.stderr.map(|(ours, _)| ours),
        })
    }

    async fn start_exec(&self, container: ContainerId, id: &str) -> Result<u32, RuntimeError> {
        let client = &self.inner.client;
        let request = client.request_within(
            START_DEADLINE,
            StartRequest {
                container_id: container.to_string(),
                exec_id: id.to_owned(),
            },
        );
        let started = client.tasks().start(request).await;
        started
            .map(|started| started.into_inner().pid)
            .map_err(|status| {
                let failure = if is_unreachable(&status) {
                    Failure::Retry
                } else {
                    Failure::Refused
                };
                let words = translated(status.message());
                broken(failure, words, status)
            })
    }

    /// The process for the shim, as JSON.
    async fn exec_process(
        &self,
        wanted: &ExecSpec,
        config: &ContainerConfig,
        first: u32,
    ) -> Result<Vec<u8>, RuntimeError> {
        let of_container = &config.process;
        let own = &wanted.process;
        let or = |own: &str, usual: &str| if own.is_empty() { usual } else { own }.to_owned();
        let mut env = of_container.env.clone();
        env.retain(|line| !own.env.iter().any(|other| name_of(other) == name_of(line)));
        env.extend(own.env.iter().cloned());
        let process = ProcessConfig {
            user: or(&own.user, &of_container.user),
            cwd: or(&own.cwd, &of_container.cwd),
            groups: of_container.groups.clone(),
            env,
            ..own.clone()
        };
        let user = self.user_now(&process, first).await?;
        let mut config = config.clone();
        config.security.privileged |= wanted.privileged;
        let refused = |error: SpecError| broken(Failure::Refused, error.to_string(), error);
        let host = &self.inner.host;
        let set = capabilities::resolve(&config.security, host).map_err(refused)?;
        let mut process = spec::process(&process, &user, &set, &config).map_err(refused)?;
        let limits = spec::resources::rlimits(&config.ulimits, host).map_err(refused)?;
        process.set_rlimits((!limits.is_empty()).then_some(limits));
        if !config.security.apparmor.is_empty() && config.security.apparmor != "unconfined" {
            process.set_apparmor_profile(Some(config.security.apparmor.clone()));
        }
        serde_json::to_vec(&process)
            .map_err(|error| broken(Failure::Refused, "encode the process", error))
    }

    /// Who a process is by the container's files as they are at this moment.
    async fn user_now(
        &self,
        process: &ProcessConfig,
        first: u32,
    ) -> Result<ResolvedUser, RuntimeError> {
        let read = inside(Root::Process(first), || {
            Ok((image::users("/etc/passwd")?, image::users("/etc/group")?))
        });
        let (passwd, group) = read.await.map_err(disk("read the container's users"))?;
        let user = users::resolve(&process.user, &process.groups, &passwd, &group);
        user.map_err(|error| broken(Failure::Refused, error.to_string(), error))
    }

    /// Removes what is left of an execution that has ended, or never began.
    async fn end_exec(&self, container: ContainerId, id: &str) {
        let client = &self.inner.client;
        let request = client.request(DeleteProcessRequest {
            container_id: container.to_string(),
            exec_id: id.to_owned(),
        });
        if let Err(status) = found(client.tasks().delete_process(request).await) {
            tracing::debug!(?container, exec = id, %status, "an execution was not deleted");
        }
        let directory = self
            .inner
            .folder(container)
            .join(&format!("{EXEC_PREFIX}{id}"));
        // Goes with the container otherwise.
        let _ = fs::remove_dir_all(directory);
    }
}

impl Exec {
    /// Waits until the process has ended: 0 to 255, 128 and more after a signal. [`Failure::Gone`] when its container
    /// vanished with it. What it wrote can still be read afterwards.
    pub async fn wait(&self) -> Result<i32, RuntimeError> {
        let client = &self.runtime.inner.client;
        loop {
            let request = client.endless_request(WaitRequest {
                container_id: self.container.to_string(),
                exec_id: self.id.clone(),
            });
            match client.tasks().wait(request).await {
                Ok(answer) => {
                    let code = answer.into_inner().exit_status;
                    self.runtime.end_exec(self.container, &self.id).await;
                    return Ok(i32::try_from(code).unwrap_or(255));
                }
                Err(status) if is_unreachable(&status) => {
                    // The answer is lost as well when the container is.
                    self.runtime
                        .inner
                        .running(self.container)
                        .await
                        .map(drop)
                        .or_else(|error| match error.failure {
                            Failure::Retry => Ok(()),
                            Failure::Refused | Failure::Gone => Err(error),
                        })?;
                    sleep(RETRY).await;
                }
                Err(status) => return Err(failed("wait for the execution")(status)),
            }
        }
    }

    /// Says how large its terminal is, in characters.
    pub async fn resize(&self, height: u32, width: u32) -> Result<(), RuntimeError> {
        let inner = &self.runtime.inner;
        inner.resize(self.container, &self.id, height, width).await
    }

    /// Ends its input, after what was written, once [`Exec::stdin`] has been dropped.
    pub async fn close_stdin(&self) -> Result<(), RuntimeError> {
        self.runtime
            .inner
            .close_stdin(self.container, &self.id)
            .await
    }

    /// Kills it. Good when it has ended.
    pub async fn kill(&self) -> Result<(), RuntimeError> {
        let client = &self.runtime.inner.client;
        let request = client.request(KillRequest {
            container_id: self.container.to_string(),
            exec_id: self.id.clone(),
            signal: u32::try_from(SIGKILL).unwrap_or(9),
            all: false,
        });
        let killed = found(client.tasks().kill(request).await);
        killed.map(drop).map_err(failed("kill the execution"))
    }
}

fn name_of(line: &str) -> &str {
    line.split('=').next().unwrap_or_default()
}
