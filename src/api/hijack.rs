//! Connections that turn from HTTP into a conversation: attach and exec.
//!
//! With `Upgrade: tcp` the answer is a 101, and both directions are the conversation's. Without it only the output
//! comes, as an ordinary body. The conversation runs on the server's own tracker and ends with the daemon.

use std::future::Future;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWriteExt, copy_bidirectional, duplex};
use tokio_util::io::ReaderStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::backend::{Io, Refusal};
use super::call::{Stop, Workers};
use super::error::Handled;
use super::server::Patience;

/// Bytes between a conversation and a body.
const PIPE: usize = 64 << 10;

/// What a conversation needs of the request that it begins with.
pub(super) struct Hijack {
    upgrade: Option<hyper::upgrade::OnUpgrade>,
    workers: TaskTracker,
    stop: CancellationToken,
}

/// Whether a client asks for a connection of another kind.
pub(super) fn wants_upgrade(request: &Request) -> bool {
    request.headers().contains_key(header::UPGRADE)
}

impl Hijack {
    /// Takes it from a request, before its body is read.
    pub(super) fn of(request: &mut Request) -> Result<Self, Refusal> {
        let extensions = request.extensions();
        let workers = extensions.get::<Workers>().map(|workers| workers.0.clone());
        let stop = extensions.get::<Stop>().cloned().unwrap_or_default();
        if let Some(patience) = extensions.get::<Patience>() {
            patience.grant();
        }
        let upgrade = wants_upgrade(request).then(|| hyper::upgrade::on(request));
        Ok(Self {
            upgrade,
            workers: workers.ok_or_else(|| Refusal::internal("no conversation can be had here"))?,
            stop: stop.0,
        })
    }

    /// Whether the client is to get a 101.
    pub(super) const fn is_upgrade(&self) -> bool {
        self.upgrade.is_some()
    }

    /// Answers, and converses in the background.
    pub(super) fn converse<W>(
        self,
        content_type: &'static str,
        work: impl FnOnce(Box<dyn Io>) -> W + Send + 'static,
    ) -> Handled
    where
        W: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop;
        match self.upgrade {
            Some(upgrade) => {
                self.workers.spawn(async move {
                    match upgrade.await {
                        Ok(io) => {
                            let io: Box<dyn Io> = Box::new(TokioIo::new(io));
                            stop.run_until_cancelled(work(io)).await;
                        }
                        Err(error) => tracing::debug!(%error, "a conversation did not begin"),
                    }
                });
                Ok(switching(content_type))
            }
            None => {
                let (ours, theirs) = duplex(PIPE);
                self.workers.spawn(async move {
                    stop.run_until_cancelled(work(Box::new(theirs))).await;
                });
                let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(content_type))];
                let body = Body::from_stream(ReaderStream::new(ours));
                Ok((StatusCode::OK, kind, body).into_response())
            }
        }
    }

    /// Answers as another node did, and carries bytes between it and the client.
    pub(super) fn carry(self, far: hyper::upgrade::OnUpgrade, response: Response) -> Handled {
        let Some(near) = self.upgrade else {
            return Err(Refusal::internal(
                "a connection was upgraded that should not be",
            ));
        };
        let stop = self.stop;
        self.workers.spawn(async move {
            let (near, far) = match tokio::try_join!(near, far) {
                Ok(both) => both,
                Err(error) => {
                    tracing::debug!(%error, "a conversation did not begin");
                    return;
                }
            };
            let (mut near, mut far) = (TokioIo::new(near), TokioIo::new(far));
            let carried = stop.run_until_cancelled(copy_bidirectional(&mut near, &mut far));
            if let Some(Err(error)) = carried.await {
                tracing::debug!(%error, "a conversation broke off");
            }
            let _ = near.shutdown().await;
        });
        Ok(response)
    }

    /// Where work goes on that is not this request's alone.
    pub(super) const fn workers(&self) -> &TaskTracker {
        &self.workers
    }
}

fn switching(content_type: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CONNECTION, HeaderValue::from_static("Upgrade")),
        (header::UPGRADE, HeaderValue::from_static("tcp")),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}
