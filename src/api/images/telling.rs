//! Work that tells how far it is: a pull, a push, a load, as a stream of lines.
//!
//! The work goes on however slowly its client reads, and ends with the client. It is refused like any other request as
//! long as it has told nothing; after that its failure is the last line.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::http::header;
use axum::response::IntoResponse;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::{Line, Told};
use crate::api::backend::Refusal;
use crate::api::call::Call;
use crate::api::dto::progress::{failure, line};
use crate::api::error::{Handled, JSON};

/// Begins `work` and answers with what it tells. `may_refuse`: a failure before the first line has a status of its own.
pub(super) async fn telling<F>(
    call: &Call,
    may_refuse: bool,
    work: impl FnOnce(Told) -> F,
) -> Handled
where
    F: Future<Output = Result<(), Refusal>> + Send + 'static,
{
    let board = Arc::new(Board::default());
    let own = board.clone();
    let told = Told(Arc::new(move |line| own.put(line)));
    let mut telling = Telling {
        work: Some(call.begin(work(told))),
        board,
        failed: None,
        stop: call.stop.clone(),
    };
    let first = telling.next().await;
    if let Some(Err(refusal)) = first {
        return match may_refuse {
            true => Err(refusal),
            false => Ok(answer(Body::from(failure(&refusal.message)))),
        };
    }
    let lines = stream::unfold((first, telling), |(first, mut telling)| async move {
        let next = match first {
            Some(first) => Some(first),
            None => telling.next().await,
        };
        let line = next?.unwrap_or_else(|refusal| failure(&refusal.message));
        Some((Ok::<_, Infallible>(line), (None, telling)))
    });
    Ok(answer(Body::from_stream(lines)))
}

fn answer(body: Body) -> axum::response::Response {
    ([(header::CONTENT_TYPE, JSON)], body).into_response()
}

/// Lines that wait for the client. A layer's progress takes the place of its earlier one, so that there are never more
/// than a few lines of each layer.
#[derive(Debug, Default)]
struct Board {
    lines: Mutex<VecDeque<Line>>,
    news: Notify,
}

impl Board {
    fn put(&self, line: Line) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |earlier: &&mut Line| match (&**earlier, &line) {
            (
                Line::Layer { id, words, .. },
                Line::Layer {
                    id: of, words: now, ..
                },
            ) => (id, words) == (of, now),
            _ => false,
        };
        match lines.iter_mut().find(is_same) {
            Some(earlier) => *earlier = line,
            None => lines.push_back(line),
        }
        drop(lines);
        self.news.notify_one();
    }

    /// All lines as they are sent; `None` when there are none.
    fn take(&self) -> Option<Bytes> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.is_empty() {
            return None;
        }
        let mut all = BytesMut::new();
        for one in lines.drain(..) {
            all.extend_from_slice(&line(&one));
        }
        Some(all.freeze())
    }
}

/// Ends the work when it is dropped.
struct Telling {
    board: Arc<Board>,
    work: Option<AbortOnDropHandle<Result<(), Refusal>>>,
    /// How the work has failed. Told after all that it told itself.
    failed: Option<Refusal>,
    stop: CancellationToken,
}

impl Telling {
    /// What is told next; `None` at the end.
    async fn next(&mut self) -> Option<Result<Bytes, Refusal>> {
        loop {
            if let Some(lines) = self.board.take() {
                return Some(Ok(lines));
            }
            let Some(work) = self.work.as_mut() else {
                return self.failed.take().map(Err);
            };
            let ended = tokio::select! {
                biased;
                () = self.board.news.notified() => continue,
                ended = work => ended,
                () = self.stop.cancelled() => Ok(Err(Refusal::unavailable("the daemon stops"))),
            };
            let ended = ended.unwrap_or_else(|_broken| {
                Err(Refusal::internal("the daemon stopped in the midst of this"))
            });
            self.failed = ended.err();
            self.work = None;
        }
    }
}
