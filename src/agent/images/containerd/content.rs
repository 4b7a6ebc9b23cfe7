//! Content by digest: what is here, reading it, and writing it so that a broken write goes on where it ended.

use std::collections::BTreeMap;

use bytes::Bytes;
use containerd_client::services::v1::{
    AbortRequest, AddResourceRequest, Info, InfoRequest, ListContentRequest, ReadContentRequest,
    Resource, UpdateRequest, WriteAction, WriteContentRequest, WriteContentResponse,
};
use containerd_client::tonic::{Status, Streaming};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, stream};
use prost_types::FieldMask;
use tokio::sync::mpsc;

use super::{Containerd, StoreError, maybe};
use crate::model::Digest;

/// Pieces under way to containerd for one write.
const IN_FLIGHT: usize = 4;

/// Bytes of content that are sent at once: gRPC takes 16 MiB at most, and less is copied more often.
pub const PIECE: usize = 1 << 20;

/// What containerd knows of some content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Which.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

fn known(info: Info) -> Option<Known> {
    Some(Known {
        digest: info.digest.parse().ok()?,
        size: u64::try_from(info.size).ok()?,
        labels: info.labels.into_iter().collect(),
    })
}

/// The name of a write that is under way.
fn write_ref(digest: Digest) -> String {
    format!("skein-{digest}")
}

impl Containerd {
    /// Whether some content is here, and what is known of it.
    pub async fn known(&self, digest: Digest) -> Result<Option<Known>, StoreError> {
        let request = self.ask(InfoRequest {
            digest: digest.to_string(),
        });
        let answer = self.content().info(request).await;
        let answer = maybe(answer.map_err(|status| StoreError::new("look up content", status)))?;
        Ok(answer.and_then(|answer| known(answer.into_inner().info?)))
    }

    /// All content that is here.
    pub async fn all_known(&self) -> Result<Vec<Known>, StoreError> {
        let words = |status| StoreError::new("list content", status);
        let request = self.ask(ListContentRequest {
            filters: Vec::new(),
        });
        let mut answers = self
            .content()
            .list(request)
            .await
            .map_err(words)?
            .into_inner();
        let mut all = Vec::new();
        while let Some(answer) = answers.message().await.map_err(words)? {
            all.extend(answer.info.into_iter().filter_map(known));
        }
        Ok(all)
    }

    /// Adds labels to content that is here.
    pub async fn label(
        &self,
        digest: Digest,
        labels: &BTreeMap<String, String>,
    ) -> Result<(), StoreError> {
        if labels.is_empty() {
            return Ok(());
        }
        let paths = labels.keys().map(|key| format!("labels.{key}")).collect();
        let info = Info {
            digest: digest.to_string(),
            labels: labels.clone().into_iter().collect(),
            ..Info::default()
        };
        let request = self.ask(UpdateRequest {
            info: Some(info),
            update_mask: Some(FieldMask { paths }),
        });
        let answer = self.content().update(request).await;
        answer
            .map(drop)
            .map_err(|status| StoreError::new("label content", status))
    }

    /// Lets this connection's lease keep content that is here already.
    pub async fn keep(&self, digest: Digest) -> Result<(), StoreError> {
        let Some(lease) = &self.lease else {
            return Ok(());
        };
        let request = self.ask(AddResourceRequest {
            id: lease.to_str().unwrap_or_default().into(),
            resource: Some(Resource {
                id: digest.to_string(),
                r#type: "content".into(),
            }),
        });
        match self.leases().add_resource(request).await {
            Ok(_) => Ok(()),
            Err(status) => {
                let error = StoreError::new("lease content", status);
                if error.is_there() { Ok(()) } else { Err(error) }
            }
        }
    }

    /// The content from `offset` on, piece by piece.
    pub async fn read(
        &self,
        digest: Digest,
        offset: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, StoreError>>, StoreError> {
        let words = |status| StoreError::new("read content", status);
        let request = self.stream(ReadContentRequest {
            digest: digest.to_string(),
            offset: i64::try_from(offset).unwrap_or(i64::MAX),
            size: 0,
        });
        let answers = self
            .content()
            .read(request)
            .await
            .map_err(words)?
            .into_inner();
        let pieces =
            answers.map(move |piece| piece.map(|piece| Bytes::from(piece.data)).map_err(words));
        Ok(pieces.boxed())
    }

    /// The whole content, when it is here and no longer than `limit` bytes.
    pub async fn read_small(
        &self,
        digest: Digest,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(known) = self.known(digest).await? else {
            return Ok(None);
        };
        if known.size > limit {
            let status = Status::out_of_range("it is longer than such content is");
            return Err(StoreError::new("read content", status));
        }
        let Some(mut pieces) = maybe(self.read(digest, 0).await)? else {
            return Ok(None);
        };
        let mut whole = Vec::new();
        while let Some(piece) = pieces.next().await {
            whole.extend_from_slice(&piece?);
        }
        Ok(Some(whole))
    }

    /// Begins to write content of this digest, or goes on with a write that broke off. `None` when it is here already.
    pub async fn write(&self, digest: Digest, size: u64) -> Result<Option<Writer>, StoreError> {
        let words = |status| StoreError::new("write content", status);
        let (requests, queue) = mpsc::channel(IN_FLIGHT);
        let total = i64::try_from(size).unwrap_or(i64::MAX);
        let message = WriteContentRequest {
            r#ref: write_ref(digest),
            total,
            expected: digest.to_string(),
            ..WriteContentRequest::default()
        };
        let first = WriteContentRequest {
            action: WriteAction::Stat.into(),
            ..message.clone()
        };
        let queue = stream::unfold(queue, |mut queue| async {
            queue.recv().await.map(|request| (request, queue))
        });
        let queue = stream::iter([first]).chain(queue);
        let status = async {
            let mut answers = self.content().write(self.stream(queue)).await?.into_inner();
            let status = answers.message().await?;
            let status = status.ok_or_else(|| Status::aborted("it answers nothing"))?;
            Ok((answers, u64::try_from(status.offset).unwrap_or(0)))
        };
        match status.await.map_err(words) {
            Err(error) if error.is_there() => Ok(None),
            Err(error) => Err(error),
            Ok((answers, offset)) => Ok(Some(Writer {
                message,
                requests,
                answers,
                offset,
                asked: 0,
            })),
        }
    }

    /// Writes content that is at hand, with its labels.
    pub async fn write_small(
        &self,
        digest: Digest,
        bytes: &[u8],
        labels: &BTreeMap<String, String>,
    ) -> Result<(), StoreError> {
        match self.write(digest, bytes.len() as u64).await? {
            None => {
                self.keep(digest).await?;
                self.label(digest, labels).await
            }
            Some(mut writer) => {
                writer.restart();
                for piece in bytes.chunks(PIECE) {
                    writer.push(Bytes::copy_from_slice(piece)).await?;
                }
                writer.commit(labels).await
            }
        }
    }

    /// Throws away what a broken write has left.
    pub async fn abort(&self, digest: Digest) -> Result<(), StoreError> {
        let request = self.ask(AbortRequest {
            r#ref: write_ref(digest),
        });
        let answer = self.content().abort(request).await;
        maybe(answer.map_err(|status| StoreError::new("abort a write", status))).map(drop)
    }
}

/// A write that is under way. When it is dropped, what was written stays, and the next one goes on there.
#[derive(Debug)]
pub struct Writer {
    message: WriteContentRequest,
    requests: mpsc::Sender<WriteContentRequest>,
    answers: Streaming<WriteContentResponse>,
    offset: u64,
    /// Pieces whose answer was not read yet.
    asked: usize,
}

impl Writer {
    /// Bytes that are written: the next piece begins there.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Forgets what was written: the next piece is the first.
    pub const fn restart(&mut self) {
        self.offset = 0;
    }

    /// The next piece, of at most [`PIECE`] bytes.
    pub async fn push(&mut self, data: Bytes) -> Result<(), StoreError> {
        let length = data.len() as u64;
        let request = WriteContentRequest {
            action: WriteAction::Write.into(),
            offset: self.at(),
            data: data.into(),
            ..self.message.clone()
        };
        self.send(request).await?;
        self.offset += length;
        self.asked += 1;
        if self.asked >= IN_FLIGHT {
            self.answer().await?;
        }
        Ok(())
    }

    /// Waits until everything is written, so that the next write goes on after it.
    pub async fn settle(&mut self) -> Result<(), StoreError> {
        while self.asked > 0 {
            self.answer().await?;
        }
        Ok(())
    }

    /// Says that it is whole. containerd compares size and digest; on a mismatch nothing is kept but what was
    /// written, which is to be [aborted](Containerd::abort).
    pub async fn commit(mut self, labels: &BTreeMap<String, String>) -> Result<(), StoreError> {
        self.settle().await?;
        let request = WriteContentRequest {
            action: WriteAction::Commit.into(),
            offset: self.at(),
            labels: labels.clone().into_iter().collect(),
            ..self.message.clone()
        };
        self.send(request).await?;
        self.asked = 1;
        match self.answer().await {
            Err(error) if error.is_there() => Ok(()),
            other => other,
        }
    }

    fn at(&self) -> i64 {
        i64::try_from(self.offset).unwrap_or(i64::MAX)
    }

    async fn send(&mut self, request: WriteContentRequest) -> Result<(), StoreError> {
        if self.requests.send(request).await.is_ok() {
            return Ok(());
        }
        // containerd ended the stream: its last answer says why.
        loop {
            self.answer().await?;
        }
    }

    async fn answer(&mut self) -> Result<(), StoreError> {
        let words = |status| StoreError::new("write content", status);
        let ended = || words(Status::unavailable("the stream ended early"));
        self.answers
            .message()
            .await
            .map_err(words)?
            .ok_or_else(ended)?;
        self.asked = self.asked.saturating_sub(1);
        Ok(())
    }
}
