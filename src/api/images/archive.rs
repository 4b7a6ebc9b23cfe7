//! Archives of images: a request's body in, a response's body out, neither of them gathered here.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::header;
use axum::response::IntoResponse;
use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};
use tokio::io::{AsyncRead, AsyncReadExt, DuplexStream, ReadBuf};
use tokio_util::io::StreamReader;

use super::telling::telling;
use super::{Line, Told, check_platform, not_built};
use crate::api::backend::{ImageStore, Refusal};
use crate::api::call::Call;
use crate::api::error::Handled;

/// How long a client may send nothing of its archive: it may come from another machine, through a pipe.
const SILENCE: Duration = Duration::from_secs(600);

/// Bytes of an archive between who writes it and who sends it.
const PIPE: usize = 256 << 10;

/// `POST /images/load`.
pub(super) async fn load(
    images: Result<Arc<dyn ImageStore>, Refusal>,
    call: &Call,
    body: Body,
) -> Handled {
    let images = match images {
        _ if !call.params.text("platform").is_empty() => {
            let what = "load one platform of an archive alone: leave --platform out, and all of them are loaded";
            return refuse(body, not_built(what)).await;
        }
        Ok(images) => images,
        Err(refusal) => return refuse(body, refusal).await,
    };
    // Docker's daemon is quiet when it is not told.
    let quiet = call.params.text("quiet").is_empty() || call.params.flag("quiet");
    let archive = Lent::of(body);
    let load = |told: Told| async move {
        let told = match quiet {
            true => without_layers(told),
            false => told,
        };
        let loaded = images.load(Box::new(archive.clone()), told).await;
        if loaded.is_err() {
            archive.discard().await;
        }
        loaded
    };
    // Docker's command shows a failure only as a line.
    telling(call, false, load).await
}

/// Refuses what comes with a body that is not read. It is taken all the same: a client that is still sending when the
/// connection ends does not read the answer.
pub(super) async fn refuse(body: Body, refusal: Refusal) -> Handled {
    Lent::of(body).discard().await;
    Err(refusal)
}

/// The body of a request as bytes, for several who read one after another.
#[derive(Clone)]
struct Lent(Arc<Mutex<Pin<Box<dyn AsyncRead + Send>>>>);

impl Lent {
    fn of(body: Body) -> Self {
        let pieces = stream::unfold(body.into_data_stream(), next_piece);
        let reader = StreamReader::new(Box::pin(pieces));
        Self(Arc::new(Mutex::new(Box::pin(reader))))
    }

    /// Reads what is left of it, for a time.
    async fn discard(mut self) {
        let mut sink = tokio::io::sink();
        let rest = tokio::io::copy(&mut self, &mut sink);
        // Whatever comes of it, the answer is the same.
        let _ = tokio::time::timeout(SILENCE, rest).await;
    }
}

impl AsyncRead for Lent {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut reader = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reader.as_mut().poll_read(cx, buf)
    }
}

async fn next_piece(mut body: BodyDataStream) -> Option<(io::Result<Bytes>, BodyDataStream)> {
    let piece = match tokio::time::timeout(SILENCE, body.next()).await {
        Ok(piece) => piece?.map_err(io::Error::other),
        Err(_elapsed) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client sends nothing",
        )),
    };
    Some((piece, body))
}

fn without_layers(told: Told) -> Told {
    Told(Arc::new(move |line| match line {
        Line::Layer { .. } => {}
        line @ (Line::Said { .. } | Line::Stream(_) | Line::Aux(_)) => (told.0)(line),
    }))
}

/// `GET /images/get` and `GET /images/{name}/get`.
pub(super) async fn save(images: Arc<dyn ImageStore>, call: &Call, names: Vec<String>) -> Handled {
    if names.is_empty() {
        return Err(Refusal::invalid("no image is named that is to be saved"));
    }
    for wanted in call.params.all("platform") {
        for name in &names {
            check_platform(&images.inspect(name).await?.0, name, wanted)?;
        }
    }
    let (near, far) = tokio::io::duplex(PIPE);
    let work = Box::pin(async move { images.save(names, Box::new(far)).await });
    let mut saving = Saving {
        near,
        work: Some(work),
    };
    let first = saving.next().await.transpose()?;
    let rest = stream::unfold(saving, |mut saving| async move {
        let piece = saving.next().await?;
        Some((piece.map_err(io::Error::other), saving))
    });
    let body = Body::from_stream(stream::iter(first.map(Ok)).chain(rest));
    Ok(([(header::CONTENT_TYPE, "application/x-tar")], body).into_response())
}

/// An archive that is written as fast as its client reads, and no further.
struct Saving {
    near: DuplexStream,
    work: Option<BoxFuture<'static, Result<(), Refusal>>>,
}

impl Saving {
    async fn next(&mut self) -> Option<Result<Bytes, Refusal>> {
        let mut piece = BytesMut::with_capacity(PIPE);
        loop {
            let Some(work) = self.work.as_mut() else {
                let read = self.near.read_buf(&mut piece).await;
                return read.is_ok_and(|read| read > 0).then(|| Ok(piece.freeze()));
            };
            tokio::select! {
                biased;
                done = work => {
                    self.work = None;
                    if let Err(refusal) = done {
                        return Some(Err(refusal));
                    }
                }
                read = self.near.read_buf(&mut piece) => match read {
                    Ok(0) | Err(_) => {}
                    Ok(_) => return Some(Ok(piece.freeze())),
                },
            }
        }
    }
}
