//! Between an agent and its containerd: counts the calls as they pass, and tells at the one that was chosen.
//!
//! What it counts are HTTP/2 streams, which are gRPC calls: each begins with headers from the client, and is over with
//! the last frame of the server.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What a client says before its first frame.
const PREFACE: usize = 24;

/// A frame's length, kind, flags and stream.
const HEADER: usize = 9;

const HEADERS: u8 = 1;
const DATA: u8 = 0;
const END_OF_STREAM: u8 = 1;

/// At which moment of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// It is made, and containerd does not know it.
    Before,
    /// containerd has it.
    During,
    /// containerd has answered, and who asked does not know it.
    After,
}

/// What is waited for.
#[derive(Clone, Copy, Debug)]
struct Plan {
    moment: Moment,
    left: usize,
}

#[derive(Debug)]
struct Watch {
    plan: Mutex<Option<Plan>>,
    tell: mpsc::Sender<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watch {
    /// Whether this moment of a call is the one that was chosen; then it is told.
    fn is_it(&self, moment: Moment) -> bool {
        let mut plan = lock(&self.plan);
        match &mut *plan {
            Some(chosen) if chosen.moment == moment && chosen.left == 0 => {
                *plan = None;
                // One is chosen at a time, and taken before the next.
                let _ = self.tell.try_send(());
                true
            }
            Some(chosen) if chosen.moment == moment => {
                chosen.left -= 1;
                false
            }
            Some(_) | None => false,
        }
    }
}

/// The proxy. It ends with this.
pub(crate) struct Proxy {
    watch: Arc<Watch>,
    reached: mpsc::Receiver<()>,
    stop: CancellationToken,
    /// What passes now.
    connections: Arc<Mutex<CancellationToken>>,
}

impl Proxy {
    /// Listens on `at` for what is meant for `to`.
    pub(crate) fn start(at: &PathBuf, to: PathBuf) -> Self {
        let listener = UnixListener::bind(at).unwrap();
        let (tell, reached) = mpsc::channel(1);
        let proxy = Self {
            watch: Arc::new(Watch {
                plan: Mutex::default(),
                tell,
            }),
            reached,
            stop: CancellationToken::new(),
            connections: Arc::default(),
        };
        let (watch, stop) = (proxy.watch.clone(), proxy.stop.clone());
        let connections = proxy.connections.clone();
        let tasks = TaskTracker::new();
        let accepting = tasks.clone();
        tasks.spawn(async move {
            while let Some(Ok((client, _))) = stop.run_until_cancelled(listener.accept()).await {
                // containerd may be away: the client is told by a closed connection.
                let Ok(server) = UnixStream::connect(&to).await else {
                    continue;
                };
                let passing = pass(client, server, watch.clone());
                let stop = lock(&connections).clone();
                accepting.spawn(async move { stop.run_until_cancelled(passing).await });
            }
        });
        proxy
    }

    /// Chooses the `left`-th call from now on, at this moment of it.
    pub(crate) fn choose(&self, moment: Moment, left: usize) {
        *lock(&self.watch.plan) = Some(Plan { moment, left });
    }

    /// Chooses nothing any more. Whether what was chosen had come, and was not waited for.
    pub(crate) fn forget(&mut self) -> bool {
        lock(&self.watch.plan).take();
        self.reached.try_recv().is_ok()
    }

    /// Waits for what was chosen. Nothing passes any more on that connection.
    pub(crate) async fn reached(&mut self) {
        self.reached.recv().await;
    }

    /// Closes all connections, which a containerd that is gone does for itself.
    pub(crate) fn hang_up(&self) {
        std::mem::take(&mut *lock(&self.connections)).cancel();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.cancel();
        self.hang_up();
    }
}

async fn pass(client: UnixStream, server: UnixStream, watch: Arc<Watch>) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = copy(from_client, to_server, PREFACE, &watch) => {}
        () = copy(from_server, to_client, 0, &watch) => {}
    }
}

/// Copies frame by frame, until either end closes.
async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, preface: usize, watch: &Watch) {
    let is_client = preface > 0;
    let mut frame = vec![0; preface];
    if from.read_exact(&mut frame).await.is_err() || to.write_all(&frame).await.is_err() {
        return;
    }
    loop {
        frame.resize(HEADER, 0);
        if from.read_exact(&mut frame).await.is_err() {
            return;
        }
        let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]) as usize;
        let (kind, last) = (frame[3], frame[4] & END_OF_STREAM != 0);
        frame.resize(HEADER + length, 0);
        if from.read_exact(&mut frame[HEADER..]).await.is_err() {
            return;
        }
        let before = match (is_client, kind, last) {
            (true, HEADERS, _) => Some(Moment::Before),
            (false, HEADERS | DATA, true) => Some(Moment::After),
            _ => None,
        };
        if before.is_some_and(|moment| watch.is_it(moment)) {
            return std::future::pending().await;
        }
        if to.write_all(&frame).await.is_err() {
            return;
        }
        if is_client && kind == DATA && last && watch.is_it(Moment::During) {
            return std::future::pending().await;
        }
    }
}
