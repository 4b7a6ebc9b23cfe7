//! Brings one piece of content here, from wherever it is to be had, and goes on where an earlier attempt broke off.
//!
//! Whatever comes is written to containerd under its digest, and containerd compares: what is something else never
//! becomes content. A peer that sends something else is not asked again; a registry that does is an error.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::io::AsyncReadExt;
use tokio::sync::OnceCell;
use tokio::time::{Duration, Instant, sleep, timeout};
use tracing::{debug, warn};

use super::Inner;
use super::auth::RegistryAuth;
use super::containerd::Containerd;
use super::containerd::content::{PIECE, Writer};
use super::error::PullError;
use super::progress::{Progress, Step};
use super::reference::Reference;
use super::registry::Repository;
use super::source::{Claim, Source};
use crate::model::{Digest, NodeId};

/// Attempts in a row without a single byte before a registry is given up.
const ATTEMPTS: u32 = 5;

/// The pause after the first of them; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// How long a peer may be silent in the middle of content.
const PEER_SILENCE: Duration = Duration::from_secs(15);

/// How long to wait for containerd to notice that an earlier write has ended.
const LOCKED: Duration = Duration::from_secs(20);

/// What is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// Which content.
    pub(super) digest: Digest,
    /// Bytes, when that is known.
    pub(super) size: Option<u64>,
    /// Registries have manifests in another place than the rest.
    pub(super) manifest: bool,
    /// Progress is told about it.
    pub(super) layer: bool,
}

/// A pull that is under way.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) inner: Arc<Inner>,
    /// Holds everything until the name refers to it.
    pub(super) store: Containerd,
    pub(super) reference: Reference,
    pub(super) auth: Option<RegistryAuth>,
    pub(super) progress: Progress,
    pub(super) repository: OnceCell<Repository>,
}

/// How an attempt failed.
enum Failure {
    /// For good.
    Final(PullError),
    /// The other side; the next attempt may go elsewhere.
    Source(PullError),
}

impl<E: Into<PullError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Final(error.into())
    }
}

impl Job {
    /// The repository, asked for the first time when it is needed the first time.
    pub(super) async fn repository(&self) -> Result<&Repository, PullError> {
        let open = || {
            self.inner
                .registries
                .open(&self.reference, self.auth.as_ref())
        };
        self.repository.get_or_try_init(open).await
    }

    /// Makes sure that the content is here, with these labels, and kept by the lease.
    pub(super) async fn obtain(
        &self,
        wanted: Wanted,
        labels: &BTreeMap<String, String>,
    ) -> Result<(), PullError> {
        let _turn = self.inner.busy.on(wanted.digest.to_string()).await;
        if self.store.known(wanted.digest).await?.is_some() {
            self.store.keep(wanted.digest).await?;
            self.store.label(wanted.digest, labels).await?;
            self.tell(wanted, Step::Downloaded);
            return Ok(());
        }
        let mut bad = BTreeSet::new();
        loop {
            let failed = match self.inner.source(wanted.digest, &mut bad).await {
                Source::Peer(node) => match self.take_from_peer(node, wanted, labels).await {
                    Err(Failure::Source(error)) => {
                        warn!(peer = %node, digest = %wanted.digest, %error, "a peer failed to send content");
                        bad.insert(node);
                        continue;
                    }
                    other => other,
                },
                Source::Registry(claim) => {
                    let done = self.take_from_registry(&claim, wanted, labels).await;
                    match done {
                        // The peers that were not asked because there are too many of them may have it.
                        Err(Failure::Source(error)) => {
                            match self.inner.any_holder(wanted.digest, &bad).await {
                                Some(node) => self
                                    .take_from_peer(node, wanted, labels)
                                    .await
                                    .map_err(|_| Failure::Final(error)),
                                None => Err(Failure::Final(error)),
                            }
                        }
                        other => other,
                    }
                }
            };
            return match failed {
                Ok(()) => {
                    self.tell(wanted, Step::Downloaded);
                    Ok(())
                }
                Err(Failure::Final(error) | Failure::Source(error)) => Err(error),
            };
        }
    }

    fn tell(&self, wanted: Wanted, step: Step) {
        if wanted.layer {
            self.progress.layer(wanted.digest, step);
        }
    }

    async fn take_from_peer(
        &self,
        node: NodeId,
        wanted: Wanted,
        labels: &BTreeMap<String, String>,
    ) -> Result<(), Failure> {
        let Some(mut feed) = self.feed(wanted).await? else {
            return Ok(());
        };
        let failed = |error: io::Error| {
            Failure::Source(PullError::Unreachable {
                url: format!("peer {node}"),
                why: error.to_string(),
                source: Some(Box::new(error)),
            })
        };
        let fetched = self
            .inner
            .peers
            .fetch(node, wanted.digest, feed.writer.offset())
            .await;
        let mut content = fetched.map_err(failed)?;
        if wanted.size.is_some_and(|size| size != content.size) {
            return Err(Failure::Source(PullError::WrongContent(wanted.digest)));
        }
        feed.size = content.size;
        loop {
            let read = timeout(PEER_SILENCE, content.bytes.read_buf(&mut feed.buffer)).await;
            let error = match read {
                Ok(Ok(0)) => break,
                Ok(Ok(_)) => {
                    feed.flush(self, PIECE).await?;
                    continue;
                }
                Ok(Err(error)) => error,
                Err(_) => io::ErrorKind::TimedOut.into(),
            };
            feed.keep(self).await?;
            return Err(failed(error));
        }
        debug!(peer = %node, digest = %wanted.digest, bytes = feed.size, "content came from a peer");
        let wrong = |error| match error {
            Failure::Final(error @ (PullError::WrongContent(_) | PullError::Cut(_))) => {
                Failure::Source(error)
            }
            other => other,
        };
        feed.finish(self, labels).await.map_err(wrong)
    }

    async fn take_from_registry(
        &self,
        claim: &Claim,
        wanted: Wanted,
        labels: &BTreeMap<String, String>,
    ) -> Result<(), Failure> {
        self.repository().await.map_err(Failure::Source)?;
        let (mut failures, mut had, mut fresh) = (0, 0, false);
        loop {
            let (done, bytes) = self.try_registry(claim, wanted, labels).await;
            let error = match done {
                // What an earlier attempt left may have been wrong: once more, from the beginning.
                Err(Failure::Final(PullError::WrongContent(_))) if bytes.resumed && !fresh => {
                    fresh = true;
                    continue;
                }
                Err(Failure::Source(error)) => error,
                other => return other,
            };
            failures = if bytes.upto > had { 1 } else { failures + 1 };
            had = had.max(bytes.upto);
            if failures >= ATTEMPTS || !error.may_pass() {
                return Err(Failure::Source(error));
            }
            debug!(digest = %wanted.digest, %error, "a download broke off and is tried again");
            sleep(FIRST_PAUSE * 2u32.pow(failures - 1)).await;
        }
    }

    async fn try_registry(
        &self,
        claim: &Claim,
        wanted: Wanted,
        labels: &BTreeMap<String, String>,
    ) -> (Result<(), Failure>, Reach) {
        let mut seen = Reach::default();
        let done = self.stream_blob(claim, wanted, labels, &mut seen).await;
        (done, seen)
    }

    async fn stream_blob(
        &self,
        claim: &Claim,
        wanted: Wanted,
        labels: &BTreeMap<String, String>,
        seen: &mut Reach,
    ) -> Result<(), Failure> {
        let repository = self.repository().await.map_err(Failure::Source)?;
        let Some(mut feed) = self.feed(wanted).await? else {
            return Ok(());
        };
        if wanted.manifest {
            let (_, bytes) = repository
                .manifest(Some(wanted.digest))
                .await
                .map_err(Failure::Source)?;
            feed.writer.restart();
            feed.size = bytes.len() as u64;
            feed.buffer.extend_from_slice(&bytes);
            return feed.finish(self, labels).await;
        }
        let offset = feed.writer.offset();
        if wanted.size != Some(offset) || offset == 0 {
            let mut blob = repository
                .blob(wanted.digest, offset)
                .await
                .map_err(Failure::Source)?;
            seen.resumed = blob.resumed;
            if !blob.resumed {
                feed.writer.restart();
            }
            while let Some(piece) = blob.bytes.next().await {
                match piece {
                    Ok(piece) => feed.buffer.extend_from_slice(&piece),
                    Err(error) => {
                        feed.keep(self).await?;
                        seen.upto = feed.writer.offset();
                        return Err(broken(wanted.digest, error));
                    }
                }
                feed.flush(self, PIECE).await?;
                seen.upto = feed.writer.offset();
                claim.advance(seen.upto);
            }
        } else {
            seen.resumed = true;
        }
        match feed.finish(self, labels).await {
            Err(Failure::Final(error @ PullError::Cut(_))) => Err(Failure::Source(error)),
            other => other,
        }
    }

    /// Begins to write, or to go on. `None` when the content has come by another way.
    async fn feed(&self, wanted: Wanted) -> Result<Option<Feed>, PullError> {
        let begun = Instant::now();
        loop {
            match self
                .store
                .write(wanted.digest, wanted.size.unwrap_or(0))
                .await
            {
                Err(error) if error.is_locked() && begun.elapsed() < LOCKED => {
                    sleep(Duration::from_millis(50)).await
                }
                Err(error) => return Err(error.into()),
                Ok(None) => {
                    self.store.keep(wanted.digest).await?;
                    return Ok(None);
                }
                Ok(Some(writer)) => {
                    return Ok(Some(Feed {
                        wanted,
                        size: wanted.size.unwrap_or(u64::MAX),
                        writer,
                        buffer: BytesMut::with_capacity(2 * PIECE),
                    }));
                }
            }
        }
    }
}

/// How far an attempt came.
#[derive(Clone, Copy, Debug, Default)]
struct Reach {
    upto: u64,
    resumed: bool,
}

/// An error in the middle of a registry's bytes.
fn broken(digest: Digest, error: io::Error) -> Failure {
    let wrong = error.get_ref().is_some_and(|inner| {
        inner
            .downcast_ref::<oci_client::errors::DigestError>()
            .is_some()
    });
    match wrong {
        // A whole answer with the wrong digest: what is missing at its end is a digest of something else too.
        true => Failure::Final(PullError::WrongContent(digest)),
        false => Failure::Source(PullError::Unreachable {
            url: digest.to_string(),
            why: super::registry::network_words(&digest.to_string(), &error),
            source: Some(Box::new(error)),
        }),
    }
}

/// Bytes on their way into containerd.
struct Feed {
    wanted: Wanted,
    /// Bytes there are to be.
    size: u64,
    writer: Writer,
    buffer: BytesMut,
}

impl Feed {
    /// Sends on what has gathered, when it is at least `least` bytes.
    async fn flush(&mut self, job: &Job, least: usize) -> Result<(), Failure> {
        while !self.buffer.is_empty() && self.buffer.len() >= least {
            let piece: Bytes = self.buffer.split_to(self.buffer.len().min(PIECE)).freeze();
            if self.writer.offset() + piece.len() as u64 > self.size {
                job.store.abort(self.wanted.digest).await?;
                return Err(Failure::Final(PullError::WrongContent(self.wanted.digest)));
            }
            self.writer.push(piece).await?;
            job.tell(
                self.wanted,
                Step::Downloading(self.writer.offset(), self.size),
            );
        }
        Ok(())
    }

    /// Writes all that has come before the source failed, so that the next attempt goes on after it.
    async fn keep(&mut self, job: &Job) -> Result<(), Failure> {
        self.flush(job, 1).await?;
        Ok(self.writer.settle().await?)
    }

    /// Says that all has come, and lets containerd compare.
    async fn finish(mut self, job: &Job, labels: &BTreeMap<String, String>) -> Result<(), Failure> {
        self.flush(job, 1).await?;
        let digest = self.wanted.digest;
        if self
            .wanted
            .size
            .is_some_and(|size| self.writer.offset() < size)
        {
            return Err(Failure::Final(PullError::Cut(digest)));
        }
        job.tell(self.wanted, Step::Verifying);
        match self.writer.commit(labels).await {
            Err(error) if error.is_mismatch() => {
                job.store.abort(digest).await?;
                Err(Failure::Final(match self.wanted.manifest {
                    true => PullError::WrongManifest(digest),
                    false => PullError::WrongContent(digest),
                }))
            }
            Err(error) => Err(error.into()),
            Ok(()) => Ok(()),
        }
    }
}
