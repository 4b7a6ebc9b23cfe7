//! The input of a container that its user made: given before it runs, as `docker run -i` does, it waits for the process.
//!
//! When who gives it has ended, so has the input of a container that is given any but once.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::io::AsyncWrite;
use tokio::net::unix::pipe;

use super::engine::StandaloneContainers;
use crate::agent::standalone::record::Record;
use crate::api::backend::containers::Input;

/// Who gives input to a container.
struct Giver {
    /// Comes when there is a process to give it to.
    opening: Option<BoxFuture<'static, io::Result<pipe::Sender>>>,
    pipe: Option<pipe::Sender>,
    /// Ends the container's input, for one that is given any but once.
    closing: Option<BoxFuture<'static, io::Result<()>>>,
}

/// The input of a container; `None` when it takes none.
pub(super) fn of_user(own: StandaloneContainers, record: &Record) -> Option<Input> {
    if !record.config.process.stdin {
        return None;
    }
    let id = record.config.id;
    let once = record.wanted.stdin_once && !record.config.process.tty;
    let closer = own.clone();
    let closing = async move {
        let closed = closer.runtime().close_stdin(id).await;
        closed.map_err(io::Error::other)
    };
    let opening = async move {
        if !own.until_it_runs(id).await {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let attached = own.runtime().attach(id).await;
        let stdin = attached.map_err(io::Error::other)?.stdin;
        stdin.ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    };
    Some(Box::new(Giver {
        opening: Some(opening.boxed()),
        pipe: None,
        closing: once.then(|| closing.boxed()),
    }))
}

impl Giver {
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(opening) = &mut self.opening {
            let opened = ready!(opening.poll_unpin(cx));
            self.opening = None;
            self.pipe = Some(opened?);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Giver {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(cx))?;
        match self.pipe.as_mut() {
            Some(pipe) => Pin::new(pipe).poll_write(cx, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Nobody may end the input of a process that does not run yet.
        ready!(self.poll_open(cx))?;
        self.pipe = None;
        let Some(closing) = &mut self.closing else {
            return Poll::Ready(Ok(()));
        };
        let closed = ready!(closing.poll_unpin(cx));
        self.closing = None;
        Poll::Ready(closed)
    }
}
