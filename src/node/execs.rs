//! Further processes in this machine's containers: wanted, begun once, and remembered for a while after their end.
//!
//! In memory alone: whoever wanted one is attached to it through this daemon, so none outlives it. The node's
//! [`LocalContainers`](super::containers::LocalContainers) keeps one book for the daemon's life.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::BoxFuture;
use rand::Rng;
use tokio::io::AsyncWrite;
use tokio::net::unix::pipe;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::agent::runtime::containerd::{Containerd, Exec, ExecSpec};
use crate::api::backend::Refusal;
use crate::api::backend::containers::{ExecView, ExecWanted, Streams};
use crate::model::{ContainerId, NodeId};

use super::containers::refused;

/// Most that are remembered; the oldest that have ended, or were never begun, give way.
const MOST: usize = 1024;

/// For how long one is remembered that has ended, or was never begun.
const KEEP: Duration = Duration::from_secs(300);

/// The book.
#[derive(Debug)]
pub(super) struct Execs {
    entries: Mutex<HashMap<String, Entry>>,
    tracker: TaskTracker,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Entry {
    view: ExecView,
    exec: Option<Arc<Exec>>,
    over: CancellationToken,
    touched: Instant,
}

impl Entry {
    fn is_over(&self) -> bool {
        !self.view.running
    }
}

impl Execs {
    pub(super) fn new(tracker: TaskTracker, stop: CancellationToken) -> Self {
        Self {
            entries: Mutex::default(),
            tracker,
            stop,
        }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes one down; its ID ends with the node's, so that every node knows where it is.
    pub(super) fn note(
        &self,
        node: NodeId,
        container: ContainerId,
        wanted: ExecWanted,
    ) -> Result<String, Refusal> {
        let mut entries = self.entries();
        let now = Instant::now();
        entries.retain(|_, entry| !entry.is_over() || now - entry.touched < KEEP);
        if entries.len() >= MOST {
            let oldest = entries.iter().filter(|(_, entry)| entry.is_over());
            let oldest = oldest.min_by_key(|(_, entry)| entry.touched);
            let Some(id) = oldest.map(|(id, _)| id.clone()) else {
                let words = format!("{MOST} processes run by exec on this node: end some first");
                return Err(Refusal::unavailable(words));
            };
            entries.remove(&id);
        }
        let id = format!("{:032x}{:032x}", rand::rng().random::<u128>(), node.bits());
        let view = ExecView {
            container,
            wanted,
            pid: 0,
            may_begin: true,
            running: false,
            exit_code: None,
        };
        let entry = Entry {
            view,
            exec: None,
            over: CancellationToken::new(),
            touched: now,
        };
        entries.insert(id.clone(), entry);
        Ok(id)
    }

    pub(super) fn view(&self, id: &str) -> Result<ExecView, Refusal> {
        let entries = self.entries();
        let entry = entries.get(id).ok_or_else(|| no_such(id))?;
        Ok(entry.view.clone())
    }

    /// Begins one that has not begun yet.
    pub(super) async fn start(
        self: &Arc<Self>,
        runtime: &Containerd,
        id: &str,
        streams: bool,
        ended: impl FnOnce(i32) + Send + 'static,
    ) -> Result<Streams, Refusal> {
        let (container, wanted) = {
            let mut entries = self.entries();
            let entry = entries.get_mut(id).ok_or_else(|| no_such(id))?;
            if !entry.view.may_begin {
                let words = format!("Error: Exec command {id} has already run");
                return Err(Refusal::conflict(words));
            }
            entry.view.may_begin = false;
            (entry.view.container, entry.view.wanted.clone())
        };
        let spec = ExecSpec {
            process: wanted.process,
            privileged: wanted.privileged,
            stdin: wanted.stdin && streams,
            stdout: wanted.stdout && streams,
            stderr: wanted.stderr && streams,
        };
        let mut exec = match runtime.exec(container, spec).await {
            Ok(exec) => exec,
            Err(error) => {
                self.note_end(id, Some(error.exit_code()));
                return Err(refused(error));
            }
        };
        let (stdin, stdout, stderr) = (exec.stdin.take(), exec.stdout.take(), exec.stderr.take());
        let exec = Arc::new(exec);
        if let Some(entry) = self.entries().get_mut(id) {
            entry.view.running = true;
            entry.view.pid = exec.pid;
            entry.exec = Some(exec.clone());
        }
        let (book, own, process) = (self.clone(), id.to_owned(), exec.clone());
        self.tracker.spawn(async move {
            let Some(code) = book.stop.run_until_cancelled(process.wait()).await else {
                return;
            };
            let code = code.inspect_err(|error| debug!(exec = own, %error, "its end is not known"));
            let code = code.ok();
            ended(code.unwrap_or_default());
            book.note_end(&own, code);
        });
        Ok(Streams {
            stdin: stdin.map(|pipe| Box::new(ExecInput::new(pipe, exec)) as _),
            stdout: stdout.map(|pipe| Box::new(pipe) as _),
            stderr: stderr.map(|pipe| Box::new(pipe) as _),
        })
    }

    fn note_end(&self, id: &str, code: Option<i32>) {
        if let Some(entry) = self.entries().get_mut(id) {
            entry.view.running = false;
            entry.view.exit_code = code;
            entry.exec = None;
            entry.over.cancel();
            entry.touched = Instant::now();
        }
    }

    /// Waits until it is known how it ended.
    pub(super) async fn end_of(&self, id: &str) {
        let over = self.entries().get(id).map(|entry| entry.over.clone());
        if let Some(over) = over {
            over.cancelled().await;
        }
    }

    pub(super) async fn resize(&self, id: &str, height: u32, width: u32) -> Result<(), Refusal> {
        let exec = {
            let entries = self.entries();
            let entry = entries.get(id).ok_or_else(|| no_such(id))?;
            entry.exec.clone()
        };
        // Docker's client tries again for as long as there is no process yet.
        let exec = exec.ok_or_else(|| Refusal::not_found(format!("exec {id} is not running")))?;
        exec.resize(height, width).await.map_err(refused)
    }
}

fn no_such(id: &str) -> Refusal {
    Refusal::not_found(format!("No such exec instance: {id}"))
}

/// The input of an execution: shut down, it ends for the process as well.
struct ExecInput {
    pipe: Option<pipe::Sender>,
    exec: Arc<Exec>,
    closing: Option<BoxFuture<'static, io::Result<()>>>,
}

impl ExecInput {
    fn new(pipe: pipe::Sender, exec: Arc<Exec>) -> Self {
        Self {
            pipe: Some(pipe),
            exec,
            closing: None,
        }
    }
}

impl AsyncWrite for ExecInput {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.pipe.as_mut() {
            Some(pipe) => Pin::new(pipe).poll_write(cx, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pipe = None;
        let exec = self.exec.clone();
        let closing = self.closing.get_or_insert_with(|| {
            Box::pin(async move { exec.close_stdin().await.map_err(io::Error::other) })
        });
        let closed = ready!(closing.as_mut().poll(cx));
        self.closing = Some(Box::pin(std::future::ready(Ok(()))));
        Poll::Ready(closed)
    }
}
