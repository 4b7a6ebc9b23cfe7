//! What a name stands for, without a pull: clients ask before they create a service, so that all of its tasks are of one
//! digest.
//!
//! The registry's word counts. Where it has none (it does not answer, or has no such image for who asks), that of this
//! node counts, and then that of a peer which holds the image under that name. Nothing is written.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use super::auth::RegistryAuth;
use super::chain::digest_of;
use super::config::ConfigFile;
use super::error::PullError;
use super::manifest::{CONFIG_LIMIT, Descriptor, Document, MANIFEST_LIMIT};
use super::platform::Platform;
use super::reference::Reference;
use super::registry::Repository;
use super::source::ASK_AT_ONCE;
use super::{Images, Inner};
use crate::model::{Digest, NodeId};
use crate::wire::content::{Answer, Question};

/// How long a registry may take where no node of the cluster has the image.
const REGISTRY_DEADLINE: Duration = Duration::from_secs(15);

/// And where one has: a user who has loaded it by hand does not wait for a registry that is not there.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long peers may take to say whether they have it.
const PEERS_DEADLINE: Duration = Duration::from_secs(2);

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// The manifest, or the index of several.
    pub target: Descriptor,
    /// What it is built for.
    pub platforms: Vec<Platform>,
}

/// Who is asked for content.
enum Holder {
    Registry(Box<Repository>),
    Here,
    Peer(NodeId),
}

impl Images {
    /// What `reference` stands for, by its registry or by a node that holds it. Within about 20 s.
    pub async fn describe(
        &self,
        reference: &str,
        auth: Option<&RegistryAuth>,
    ) -> Result<Described, PullError> {
        let reference = reference.parse::<Reference>()?.or_latest();
        let held = self.0.holder(&reference).await;
        if let Some((holder, digest)) = &held
            && self.is_away(&reference)
        {
            return self.0.described(holder, *digest).await;
        }
        let patience = match held {
            Some(_) => PATIENCE,
            None => REGISTRY_DEADLINE,
        };
        let asked = timeout(patience, self.0.by_registry(&reference, auth)).await;
        let asked = asked.unwrap_or_else(|_| Err(silent(&reference)));
        self.0.reach.note(&reference, (self.0.clock)(), &asked);
        match (asked, held) {
            (Err(why), Some((holder, digest))) if why.leaves_it_open() => {
                self.0.described(&holder, digest).await.or(Err(why))
            }
            (asked, _) => asked,
        }
    }
}

impl Inner {
    async fn by_registry(
        &self,
        reference: &Reference,
        auth: Option<&RegistryAuth>,
    ) -> Result<Described, PullError> {
        let repository = self.registries.open(reference, auth).await?;
        let (digest, bytes) = repository.manifest(reference.digest()).await?;
        let holder = Holder::Registry(Box::new(repository));
        self.read(&holder, digest, &bytes).await
    }

    /// A node that has the image, this one first, and what it is there.
    async fn holder(&self, reference: &Reference) -> Option<(Holder, Digest)> {
        let name = reference.record();
        if let Some(digest) = reference.digest() {
            if self.store.known(digest).await.ok()?.is_some() {
                return Some((Holder::Here, digest));
            }
            let bad = Default::default();
            let asked = self.any_holder(digest, &bad);
            let holder = timeout(PEERS_DEADLINE, asked).await.ok()??;
            return Some((Holder::Peer(holder), digest));
        }
        if let Some(record) = self.store.record(&name).await.ok()? {
            return Some((Holder::Here, record.target.digest));
        }
        let answers = stream::iter(self.peers.live())
            .map(|node| {
                let question = Question::Name(name.clone());
                async move { (node, self.peers.ask(node, question).await) }
            })
            .buffer_unordered(ASK_AT_ONCE)
            .filter_map(|(node, answer)| async move {
                match answer {
                    Some(Answer::Name(Some(target))) => Some((Holder::Peer(node), target.digest)),
                    _ => None,
                }
            });
        let mut answers = Box::pin(answers);
        timeout(PEERS_DEADLINE, answers.next()).await.ok()?
    }

    async fn described(&self, holder: &Holder, digest: Digest) -> Result<Described, PullError> {
        let bytes = self.small(holder, digest, MANIFEST_LIMIT).await?;
        self.read(holder, digest, &bytes).await
    }

    /// What a manifest or an index says; of a manifest, its config is asked for as well.
    async fn read(
        &self,
        holder: &Holder,
        digest: Digest,
        bytes: &[u8],
    ) -> Result<Described, PullError> {
        let document = Document::parse(bytes)?;
        let target = Descriptor::new(document.media_type(), digest, bytes.len() as u64);
        let platforms = match document {
            Document::Index(index) => {
                let platforms = index.manifests.into_iter().filter_map(|one| one.platform);
                // What tells of an image is listed beside it, as if it were one.
                platforms.filter(|one| one.os != "unknown").collect()
            }
            Document::Manifest(manifest) => {
                let digest = manifest.config.digest;
                let bytes = self.small(holder, digest, CONFIG_LIMIT).await?;
                vec![ConfigFile::parse(digest, &bytes)?.platform]
            }
        };
        Ok(Described { target, platforms })
    }

    /// Content of at most so many bytes.
    async fn small(
        &self,
        holder: &Holder,
        digest: Digest,
        limit: u64,
    ) -> Result<Vec<u8>, PullError> {
        let cut = |_| PullError::Cut(digest);
        let mut bytes = Vec::new();
        match holder {
            Holder::Here => {
                let here = self.store.read_small(digest, limit).await?;
                bytes = here.ok_or(PullError::Cut(digest))?;
            }
            Holder::Peer(node) => {
                let content = self.peers.fetch(*node, digest, 0).await.map_err(cut)?;
                let mut limited = content.bytes.take(limit);
                limited.read_to_end(&mut bytes).await.map_err(cut)?;
            }
            Holder::Registry(repository) => {
                let mut pieces = repository.blob(digest, 0).await?.bytes;
                while let Some(piece) = pieces.next().await {
                    bytes.extend_from_slice(&piece.map_err(cut)?);
                    if bytes.len() as u64 > limit {
                        break;
                    }
                }
            }
        }
        match digest_of(&bytes) == digest {
            true => Ok(bytes),
            false => Err(PullError::WrongContent(digest)),
        }
    }
}

fn silent(reference: &Reference) -> PullError {
    PullError::Unreachable {
        url: format!("https://{}/v2/", reference.registry()),
        why: "context deadline exceeded".into(),
        source: None,
    }
}
