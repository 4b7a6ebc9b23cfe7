//! Serves the API on a socket, or one forwarded request on a stream. Bounds what a client may hold.
//!
//! Knows nothing of routes. Started by the node; ends when its token is cancelled, within [`DRAIN`] for requests
//! that are under way.

use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as StdStream;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::backend::Io;
use super::call::{Stop, Workers};

/// Connections that are served at once. A stuck client holds one, and those that idle cost little, so there are many.
pub const CONNECTIONS: usize = 1536;

/// Connections beyond those that are told so at once; others are just closed.
const REFUSALS: usize = 32;

/// How long a client may take to send a request's head, and how long a connection may idle between requests.
pub const HEADER_DEADLINE: Duration = Duration::from_secs(30);

/// Largest head of a request, in bytes.
pub const HEADER_BYTES: usize = 64 << 10;

/// How long a client may refuse to read what it asked for.
pub const WRITE_DEADLINE: Duration = Duration::from_secs(60);

/// How long requests that are under way may go on after the stop.
pub const DRAIN: Duration = Duration::from_secs(3);

/// Before the next try when the process is out of files.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a refused client is listened to.
const REFUSAL_DEADLINE: Duration = Duration::from_secs(1);

/// Told to a client beyond [`CONNECTIONS`].
const REFUSAL: &str = "{\"message\":\"this node serves as many API connections as it can; close some, or try again later\"}\n";

/// Accepts and serves until `stop`. Connections live on `tasks`; wait for those to see the last one end.
pub async fn serve(
    listener: UnixListener,
    router: Router,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    serve_at_most(CONNECTIONS, listener, router, tasks, stop).await;
}

async fn serve_at_most(
    limit: usize,
    listener: UnixListener,
    router: Router,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let router = router.layer(Extension(Workers(tasks.clone())));
    let places = Arc::new(Semaphore::new(limit));
    let refusals = Arc::new(Semaphore::new(REFUSALS));
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection to the API socket cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if let Ok(place) = places.clone().try_acquire_owned() {
            let served = serve_client(stream, router.clone(), stop.clone());
            tasks.spawn(hold(place, served));
        } else {
            tracing::warn!(limit, "an API connection is one too many");
            if let Ok(place) = refusals.clone().try_acquire_owned() {
                tasks.spawn(hold(place, refuse(stream)));
            }
        }
    }
}

/// Serves the HTTP requests of one stream from another node until it ends.
pub async fn serve_stream(io: impl Io + 'static, router: Router, tasks: TaskTracker) {
    serve_connection(io, router, tasks, CancellationToken::new()).await;
}

/// Serves the HTTP requests of one connection until it ends, or until [`DRAIN`] after `stop`. What goes on without the
/// connection lives on `tasks`.
pub async fn serve_connection(
    io: impl Io + 'static,
    router: Router,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let router = router.layer(Extension(Workers(tasks)));
    converse(io, router, stop, false).await;
}

/// Serves a local client. One that has closed its sending half still gets its answer, as from Docker's daemon; one
/// that has closed both is gone, and what was done for it alone ends.
async fn serve_client(stream: UnixStream, router: Router, stop: CancellationToken) {
    match second_look(&stream) {
        Ok(second) => tokio::select! {
            () = converse(stream, router, stop, true) => {}
            () = hung_up(second) => {}
        },
        // Out of files: without a second look at the socket, a closed half must do as a sign.
        Err(_none_left) => converse(stream, router, stop, false).await,
    }
}

/// Another handle of the same socket.
fn second_look(stream: &UnixStream) -> io::Result<UnixStream> {
    let fd = stream.as_fd().try_clone_to_owned()?;
    UnixStream::from_std(StdStream::from(fd))
}

/// Comes true when both halves of a socket are closed.
async fn hung_up(socket: UnixStream) {
    while let Ok(ready) = socket.ready(Interest::WRITABLE).await {
        if ready.is_write_closed() {
            return;
        }
        // Forgets that it can be written to, so that the next change is what wakes.
        let _ = socket.try_io(Interest::WRITABLE, || {
            io::Result::<()>::Err(io::ErrorKind::WouldBlock.into())
        });
    }
}

/// Serves the requests of one connection.
pub(super) async fn converse(
    io: impl Io + 'static,
    router: Router,
    stop: CancellationToken,
    half_close: bool,
) {
    let patience = Patience::default();
    let router = router
        .layer(Extension(Stop(stop.clone())))
        .layer(Extension(patience.clone()));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE)
        .max_buf_size(HEADER_BYTES)
        .half_close(half_close)
        .serve_connection(
            TokioIo::new(Guarded::new(io, patience)),
            TowerToHyperService::new(router),
        )
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        biased;
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(DRAIN, connection).await {
                Ok(ended) => ended,
                Err(_elapsed) => return,
            }
        }
        ended = connection.as_mut() => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an API connection broke off");
    }
}

/// Does `work` and keeps its place until it is through.
pub(super) async fn hold(_place: OwnedSemaphorePermit, work: impl Future<Output = ()>) {
    work.await;
}

/// Says why and listens until the client has read it; a socket that is closed with unread data would reset.
async fn refuse(mut stream: UnixStream) {
    let talk = async {
        let head = format!(
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n",
            REFUSAL.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(REFUSAL.as_bytes()).await?;
        stream.shutdown().await?;
        let mut sink = [0; 1024];
        while stream.read(&mut sink).await? > 0 {}
        io::Result::Ok(())
    };
    let _ = tokio::time::timeout(REFUSAL_DEADLINE, talk).await;
}

/// Whether a client may stand still for as long as it likes: granted to whoever sits at a terminal.
#[derive(Clone, Debug, Default)]
pub(super) struct Patience(Arc<AtomicBool>);

impl Patience {
    /// From now on, for this connection.
    pub(super) fn grant(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_granted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A stream whose reader on the other side must not stand still for longer than [`WRITE_DEADLINE`].
struct Guarded<T> {
    inner: T,
    stuck: Option<Pin<Box<Sleep>>>,
    patience: Patience,
}

impl<T: Unpin> Guarded<T> {
    const fn new(inner: T, patience: Patience) -> Self {
        Self {
            inner,
            stuck: None,
            patience,
        }
    }

    /// Passes `progress` on; when there was none for too long, an error.
    fn judge<R>(
        &mut self,
        progress: Poll<io::Result<R>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<R>> {
        if progress.is_ready() || self.patience.is_granted() {
            self.stuck = None;
            return progress;
        }
        let stuck = self.stuck.get_or_insert_with(|| {
            Box::pin(tokio::time::sleep_until(Instant::now() + WRITE_DEADLINE))
        });
        ready!(stuck.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client does not read",
        )))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Guarded<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Guarded<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.judge(progress, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.judge(progress, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.inner).poll_flush(cx);
        self.judge(progress, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.judge(progress, cx)
    }
}

#[cfg(test)]
mod tests;
