//! A container's standard streams.
//!
//! Output always goes to our logger, so that it is neither lost nor stuck while no daemon runs. Without input the shim
//! starts the logger itself (`binary://`), and with a terminal too: the shim copies the console to it. A container
//! with input and no terminal is the exception: with `binary://` the shim connects no input, so its streams are FIFOs,
//! and the logger is started by us, reads them, and outlives us as it would outlive the shim's.
//!
//! Who attaches writes to the FIFO `stdin`, whose other end the shim holds, and follows the log for the output.

use std::io;
use std::path::Path;
use std::process::Stdio as Null;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tokio::net::unix::pipe;

use super::super::{Failure, RuntimeError};
use super::client::{broken, said};
use super::folder::Folder;
use super::start::logger_uri;
use super::{Containerd, disk};
use crate::model::{ContainerConfig, ContainerId};

/// What the shim is told to connect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stdio {
    pub(super) stdin: String,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// Somebody who is attached to a container: its input. Its output is followed in its log.
#[derive(Debug)]
pub struct Attached {
    /// What is written here is read by the container; `None` when it is not given input. Closing it does not close the
    /// container's input.
    pub stdin: Option<pipe::Sender>,
    /// It has a terminal.
    pub tty: bool,
}

/// Where a container's streams go, with all that must be there before its task.
pub(super) fn stdio(
    config: &ContainerConfig,
    folder: &Folder,
    helper: &Path,
) -> Result<Stdio, RuntimeError> {
    let (tty, stdin) = (config.process.tty, config.process.stdin);
    let logger = logger_uri(helper, folder.path());
    let fifo = |name: &str| {
        let path = folder.join(name);
        make_fifo(&path).map_err(disk("make a FIFO for the container"))?;
        Ok::<String, RuntimeError>(path.to_string_lossy().into_owned())
    };
    let input = if stdin { fifo("stdin")? } else { String::new() };
    if !stdin || tty {
        return Ok(Stdio {
            stdin: input,
            stderr: if tty { String::new() } else { logger.clone() },
            stdout: logger,
        });
    }
    let io = Stdio {
        stdin: input,
        stdout: fifo("stdout")?,
        stderr: fifo("stderr")?,
    };
    start_reader(folder, helper)
        .map_err(|error| broken(Failure::Retry, "start the logger of the container", error))?;
    Ok(io)
}

/// Starts our logger on the FIFOs of a container. Nobody waits for it: it ends with its container, or when that does
/// not come.
fn start_reader(folder: &Folder, helper: &Path) -> io::Result<()> {
    let mut command = tokio::process::Command::new(helper);
    command
        .args(["logger-fifos".as_ref(), folder.path()])
        .stdin(Null::null())
        .stdout(Null::null())
        .stderr(Null::null())
        .current_dir("/")
        .process_group(0)
        .kill_on_drop(false);
    command.spawn().map(drop)
}

/// Makes a FIFO that only we and the shim open; good when it is there.
pub(super) fn make_fifo(path: &Path) -> io::Result<()> {
    match mkfifo(path, Mode::from_bits_truncate(0o600)) {
        Ok(()) | Err(nix::errno::Errno::EEXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl Containerd {
    /// Attaches to a container that runs.
    pub async fn attach(&self, id: ContainerId) -> Result<Attached, RuntimeError> {
        let (_, config) = self.inner.running(id).await?;
        let stdin = if config.process.stdin {
            let path = self.inner.folder(id).join("stdin");
            let sender = pipe::OpenOptions::new().open_sender(path);
            // Nobody on the other end: its process has just ended.
            Some(sender.map_err(|_| said(Failure::Gone, not_running(id)))?)
        } else {
            None
        };
        Ok(Attached {
            stdin,
            tty: config.process.tty,
        })
    }
}

/// Docker's words for what can only be done to a container that runs.
pub(super) fn not_running(id: ContainerId) -> String {
    format!("container {id} is not running")
}
