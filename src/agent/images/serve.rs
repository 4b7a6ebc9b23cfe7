//! What peers are told and given.

use futures_util::stream::BoxStream;
use tokio::time::Instant;

use super::Images;
use super::containerd::StoreError;
use crate::model::{Digest, NodeId};
use crate::wire::content::{Answer, Held, Question, Target};

impl Images {
    /// What the peer `from` is answered. The bytes that follow the answer to a [`Question::Fetch`] are
    /// [`blob`](Self::blob)'s.
    pub async fn answer(&self, from: NodeId, question: &Question) -> Result<Answer, StoreError> {
        Ok(match question {
            Question::Content { digest, claim } => {
                // Marked before the look, so that of two that claim one knows of the other.
                let now = Instant::now();
                let (held, claimed_by) = self.0.claims().answer(from, *digest, *claim, now);
                match self.0.store.known(*digest).await? {
                    Some(known) => Answer::Content {
                        held: Held::Here { size: known.size },
                        claimed_by: None,
                    },
                    None => Answer::Content { held, claimed_by },
                }
            }
            Question::Name(name) => {
                let record = self.0.store.record(name).await?;
                Answer::Name(record.map(|record| Target {
                    media_type: record.target.media_type,
                    digest: record.target.digest,
                    size: record.target.size,
                }))
            }
            Question::Fetch { digest, .. } => {
                let known = self.0.store.known(*digest).await?;
                Answer::Fetch(known.map(|known| known.size))
            }
        })
    }

    /// The bytes of some content from `offset` on, for peers.
    pub async fn blob(
        &self,
        digest: Digest,
        offset: u64,
    ) -> Result<BoxStream<'static, Result<bytes::Bytes, StoreError>>, StoreError> {
        self.0.store.read(digest, offset).await
    }
}
