//! A pull: from a name to an image that is whole, unpacked and kept.
//!
//! The tag is resolved by its registry, or by a peer when no registry can; all else goes by digest. Layers come three
//! at a time and are unpacked in their order while others still come. The name moves at the very end.

use std::sync::{Arc, PoisonError};

use futures_util::{StreamExt, stream};
use tokio::sync::OnceCell;
use tokio::task::JoinSet;
use tracing::info;

use super::auth::RegistryAuth;
use super::chain::{chain_ids, config_labels, document_labels, manifest_labels, source_label};
use super::config::ConfigFile;
use super::containerd::{Containerd, Lease};
use super::error::PullError;
use super::fetch::{Job, Wanted};
use super::manifest::{CONFIG_LIMIT, Descriptor, Document, MANIFEST_LIMIT, Manifest};
use super::platform::Platform;
use super::progress::{Progress, Step};
use super::reference::Reference;
use super::source::ASK_AT_ONCE;
use super::{Images, Inner};
use crate::model::{Digest, ImageConfig};
use crate::wire::content::{Answer, Question};

/// Layers that come at the same time, of all images together: Docker's number. Peers' connections count on it: that
/// many streams that are not read leave them room for all else.
pub(super) const LAYERS_AT_ONCE: usize = 3;

/// Names that are remembered.
const REMEMBERED: usize = 1024;

/// What a pull brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// The manifest of the platform.
    pub manifest: Digest,
    /// What the image says of containers.
    pub config: ImageConfig,
    /// The index that lists the manifest, when there is one: what the name stands for.
    pub index: Option<Digest>,
    /// The name stood for something else before, or for nothing, or not all of it was here.
    pub newer: bool,
}

impl Images {
    /// Pulls the image that `reference` names, for this machine unless another `platform` is given. What is here
    /// already is not fetched again, and an image that is named by its digest and is here is not asked for at all.
    pub async fn pull(
        &self,
        reference: &str,
        auth: Option<&RegistryAuth>,
        platform: Option<&Platform>,
        progress: &Progress,
    ) -> Result<Pulled, PullError> {
        let reference = reference.parse::<Reference>()?.or_latest();
        let name = reference.record();
        let pinned = async || match platform {
            None => self.0.pinned_here(&reference, &name).await,
            Some(_) => Ok(None),
        };
        if let Some(pulled) = pinned().await? {
            tell_end(&pulled, &reference, progress);
            return Ok(pulled);
        }
        let began = (self.0.clock)();
        let _turn = self.0.busy.on(name.clone()).await;
        // Of many that came at once, the first has pulled for all, or has waited in vain for all.
        if let Some(error) = self.0.reach.failure_since(&reference, began) {
            return Err(error);
        }
        if let Some(pulled) = pinned().await? {
            tell_end(&pulled, &reference, progress);
            return Ok(pulled);
        }
        // Boxed, so that those who wait for their turn, and those who find all done, take little memory.
        let pull = self.pull_all(reference.clone(), name.clone(), auth, platform, progress);
        let pulled = Box::pin(pull).await;
        self.0.reach.note(&reference, (self.0.clock)(), &pulled);
        pulled
    }

    /// Whether a registry did not answer a short time ago, so that what is here of it may be used at once.
    pub fn is_away(&self, reference: &Reference) -> bool {
        self.0.reach.is_away(reference, (self.0.clock)())
    }

    /// All of a pull, by whoever has the turn.
    async fn pull_all(
        &self,
        reference: Reference,
        name: String,
        auth: Option<&RegistryAuth>,
        platform: Option<&Platform>,
        progress: &Progress,
    ) -> Result<Pulled, PullError> {
        let lease = self.0.lease(&name).await?;
        let job = Arc::new(Job {
            inner: self.0.clone(),
            store: self.0.store.leased(&lease),
            reference,
            auth: auth.cloned(),
            progress: progress.clone(),
            repository: OnceCell::new(),
        });
        let pulled = job.run(&name, platform).await;
        match &pulled {
            Ok(pulled) => {
                self.0.store.end_lease(&lease, false).await?;
                if job.reference.digest().is_some() {
                    self.0.settle(name);
                }
                let shown = job.reference.familiar();
                info!(image = %shown, manifest = %pulled.manifest, newer = pulled.newer, "image pulled");
                tell_end(pulled, &job.reference, progress);
            }
            Err(PullError::DiskFull { .. }) => self.0.store.end_lease(&lease, true).await?,
            // Another attempt would come to the same end: what has come is of no use.
            Err(error) if !error.may_pass() => self.0.store.end_lease(&lease, false).await?,
            Err(_) => {
                if self.0.store.keeps_nothing(&lease).await? {
                    self.0.store.end_lease(&lease, false).await?;
                }
            }
        }
        pulled
    }
}

/// Says what a pull brought.
fn tell_end(pulled: &Pulled, reference: &Reference, progress: &Progress) {
    progress.tell("", Step::Digest(pulled.index.unwrap_or(pulled.manifest)));
    let words = if pulled.newer {
        "Downloaded newer image"
    } else {
        "Image is up to date"
    };
    let shown = reference.familiar();
    progress.tell("", Step::Status(format!("Status: {words} for {shown}")));
}

impl Inner {
    /// Remembers that a pull came to its end.
    fn settle(&self, name: String) {
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        if settled.len() >= REMEMBERED {
            settled.pop_first();
        }
        settled.insert(name);
    }

    fn is_settled(&self, name: &str) -> bool {
        let settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        settled.contains(name)
    }

    /// The image of a name with a digest, when it has been pulled by that name in this life and is still whole: then
    /// there is nothing to ask, to write or to keep. Each task that starts comes here, so it costs two questions and
    /// no disk. The first pull of a life goes all the way, for an earlier life may have ended in the middle of one.
    async fn pinned_here(
        &self,
        reference: &Reference,
        name: &str,
    ) -> Result<Option<Pulled>, PullError> {
        let digest = reference.digest().filter(|_| self.is_settled(name));
        let Some(digest) = digest else {
            return Ok(None);
        };
        // Boxed, so that those who wait for a permit take little memory.
        let _permit = self.lookups.acquire().await.ok();
        Box::pin(self.whole_here(digest, name)).await
    }

    /// The image of a settled name, when its record still stands for `digest` and its layers are unpacked.
    async fn whole_here(&self, digest: Digest, name: &str) -> Result<Option<Pulled>, PullError> {
        let Some(record) = self.store.record(name).await? else {
            return Ok(None);
        };
        // What cannot be read is pulled again, which says why.
        let Ok(Some(facts)) = self.facts(&record.target).await else {
            return Ok(None);
        };
        let top = chain_ids(&facts.file.diff_ids).last().copied();
        let unpacked = match top {
            Some(top) => self.store.is_unpacked(top).await?,
            None => true,
        };
        let is_index = record.target.digest != facts.manifest_at;
        let other_platform = is_index && !Platform::host().runs(&facts.file.platform);
        if record.target.digest != digest || !unpacked || other_platform {
            return Ok(None);
        }
        Ok(Some(Pulled {
            manifest: facts.manifest_at,
            config: facts.file.config.clone(),
            index: is_index.then_some(digest),
            newer: false,
        }))
    }

    /// What keeps the parts of the image `name` until the name does. It outlives an attempt that fails, for a day, so
    /// that the next one finds them.
    pub(super) async fn lease(&self, name: &str) -> Result<Lease, super::containerd::StoreError> {
        const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 3600);
        let mut id = super::chain::digest_of(name.as_bytes()).hex();
        id.truncate(32);
        let now = (self.clock)();
        let half_a_day_ago =
            crate::model::Timestamp::from_nanos(now.nanos() - DAY.as_nanos() as i128 / 2);
        self.store
            .lease(&format!("skein-{id}"), half_a_day_ago, now.after(DAY))
            .await
    }

    /// A manifest or an index that is here.
    pub(super) async fn document(
        &self,
        digest: Digest,
    ) -> Result<Option<(Document, u64)>, PullError> {
        match self.store.read_small(digest, MANIFEST_LIMIT).await? {
            Some(bytes) => Ok(Some((Document::parse(&bytes)?, bytes.len() as u64))),
            None => Ok(None),
        }
    }

    /// Unpacks one layer, unless it is.
    pub(super) async fn unpack(
        &self,
        store: &Containerd,
        layer: &Descriptor,
        chain: (Option<Digest>, Digest),
        diff: Digest,
    ) -> Result<(), PullError> {
        let (below, chain) = chain;
        let _turn = self.busy.on(format!("chain {chain}")).await;
        if store.is_unpacked(chain).await? {
            return Ok(store.keep_chain(chain).await?);
        }
        let found = store.unpack_layer(layer, below, chain).await?;
        if found != diff.to_string() {
            store.drop_layer(chain).await?;
            return Err(PullError::WrongDiff {
                layer: layer.digest,
                found,
                wanted: diff,
            });
        }
        Ok(store.commit_layer(chain).await?)
    }
}

impl Job {
    async fn run(
        self: &Arc<Self>,
        name: &str,
        platform: Option<&Platform>,
    ) -> Result<Pulled, PullError> {
        let before = self.store.record(name).await?;
        let (target, document) = self.target().await?;
        // Not before: a name that cannot be had is told in no other words than the error's.
        let shown = self.reference.tag().map(String::from);
        let shown = shown.or_else(|| self.reference.digest().map(|digest| digest.to_string()));
        let from = Step::PullingFrom(self.reference.path().to_string());
        self.progress.tell(shown.unwrap_or_default(), from);
        let (manifest_at, manifest, index) = self.manifest(&target, document, platform).await?;
        let file = self.config(&manifest).await?;
        if let Some(wanted) =
            platform.filter(|wanted| index.is_none() && !wanted.runs(&file.platform))
        {
            return Err(PullError::WrongPlatform {
                name: self.reference.familiar(),
                found: Box::new(file.platform),
                wanted: Box::new(wanted.clone()),
            });
        }
        let fetched = self.layers(&manifest, &file).await?;

        let snapshotter = self.store.snapshotter();
        let labels = config_labels(snapshotter, &file.diff_ids);
        self.store.label(manifest.config.digest, &labels).await?;
        self.store
            .label(manifest_at, &manifest_labels(&manifest))
            .await?;
        if let Some(index) = &index {
            let labels = document_labels(index, |digest| digest == manifest_at);
            self.store.label(target.digest, &labels).await?;
        }
        let newer = fetched || before.is_none_or(|before| before.target.digest != target.digest);
        self.inner.point(name, &target).await?;
        // Another platform of it may have been the only one here.
        self.inner.forget(target.digest);
        Ok(Pulled {
            manifest: manifest_at,
            config: file.config,
            index: index.map(|_| target.digest),
            newer,
        })
    }

    /// What the name stands for.
    async fn target(&self) -> Result<(Descriptor, Document), PullError> {
        if let Some(digest) = self.reference.digest() {
            return self.document(digest, None).await;
        }
        let asked = match self.repository().await {
            Ok(repository) => repository.manifest(None).await,
            Err(error) => Err(error),
        };
        let (digest, bytes) = match asked {
            Ok(answer) => answer,
            Err(error) if error.leaves_it_open() => {
                return match self.named_by_peer().await {
                    Some((digest, size)) => self.document(digest, Some(size)).await,
                    None => Err(error),
                };
            }
            Err(error) => return Err(error),
        };
        let document = Document::parse(&bytes)?;
        let _turn = self.inner.busy.on(digest.to_string()).await;
        self.store
            .write_small(digest, &bytes, &Default::default())
            .await?;
        Ok((
            Descriptor::new(document.media_type(), digest, bytes.len() as u64),
            document,
        ))
    }

    /// What a peer knows by the name.
    async fn named_by_peer(&self) -> Option<(Digest, u64)> {
        let (peers, name) = (&self.inner.peers, self.reference.record());
        let answers = stream::iter(peers.live())
            .map(|node| {
                let question = Question::Name(name.clone());
                async move { (node, peers.ask(node, question).await) }
            })
            .buffer_unordered(ASK_AT_ONCE)
            .filter_map(|(node, answer)| async move {
                match answer {
                    Some(Answer::Name(Some(target))) => Some((node, target)),
                    _ => None,
                }
            });
        let (node, target) = Box::pin(answers).next().await?;
        info!(image = %self.reference.familiar(), peer = %node, "no registry has the image, a peer does");
        Some((target.digest, target.size))
    }

    /// A manifest or an index of this digest, fetched if it is not here.
    async fn document(
        &self,
        digest: Digest,
        size: Option<u64>,
    ) -> Result<(Descriptor, Document), PullError> {
        let wanted = Wanted {
            digest,
            size,
            manifest: true,
            layer: false,
        };
        self.obtain(wanted, &Default::default()).await?;
        let (document, size) = self
            .inner
            .document(digest)
            .await?
            .ok_or(PullError::Cut(digest))?;
        Ok((
            Descriptor::new(document.media_type(), digest, size),
            document,
        ))
    }

    /// The manifest for the platform, and the index that it was chosen from.
    async fn manifest(
        &self,
        target: &Descriptor,
        document: Document,
        platform: Option<&Platform>,
    ) -> Result<(Digest, Manifest, Option<Document>), PullError> {
        let index = match document {
            Document::Manifest(manifest) => return Ok((target.digest, manifest, None)),
            Document::Index(index) => index,
        };
        let wanted = platform.cloned().unwrap_or_else(Platform::host);
        let Some(chosen) = wanted.choose(&index.manifests) else {
            return Err(PullError::NoPlatform(wanted));
        };
        let digest = chosen.digest;
        match self.document(digest, Some(chosen.size)).await?.1 {
            Document::Manifest(manifest) => Ok((digest, manifest, Some(Document::Index(index)))),
            Document::Index(_) => Err(PullError::NoPlatform(wanted)),
        }
    }

    async fn config(&self, manifest: &Manifest) -> Result<ConfigFile, PullError> {
        let digest = manifest.config.digest;
        let wanted = Wanted {
            digest,
            size: Some(manifest.config.size),
            manifest: false,
            layer: false,
        };
        self.obtain(wanted, &Default::default()).await?;
        let bytes = self.store.read_small(digest, CONFIG_LIMIT).await?;
        let file = ConfigFile::parse(digest, &bytes.ok_or(PullError::Cut(digest))?)?;
        file.check_layers(manifest.layers.len())?;
        Ok(file)
    }

    /// Fetches and unpacks the layers; whether any of them was missing.
    async fn layers(
        self: &Arc<Self>,
        manifest: &Manifest,
        file: &ConfigFile,
    ) -> Result<bool, PullError> {
        let chain = chain_ids(&file.diff_ids);
        let places = self.inner.places.clone();
        let mut coming = JoinSet::new();
        let mut here = vec![false; manifest.layers.len()];
        let mut missing = vec![true; manifest.layers.len()];
        for (at, layer) in manifest.layers.iter().enumerate() {
            let unpacked = self.store.is_unpacked(chain[at]).await?;
            missing[at] = !unpacked || self.store.known(layer.digest).await?.is_none();
            let first = if missing[at] {
                Step::PullingLayer
            } else {
                Step::AlreadyExists
            };
            self.progress.layer(layer.digest, first);
            let wanted = Wanted {
                digest: layer.digest,
                size: Some(layer.size),
                manifest: false,
                layer: missing[at],
            };
            let (job, places) = (self.clone(), places.clone());
            coming.spawn(async move {
                let _place = places.acquire_owned().await;
                let labels = source_label(job.reference.registry(), job.reference.path());
                (at, job.obtain(wanted, &labels).await)
            });
        }
        for (at, layer) in manifest.layers.iter().enumerate() {
            while !here[at] {
                let Some(done) = coming.join_next().await else {
                    break;
                };
                let Ok((arrived, result)) = done else {
                    return Err(PullError::Cut(layer.digest));
                };
                result?;
                here[arrived] = true;
            }
            let below = at.checked_sub(1).map(|below| chain[below]);
            if missing[at] {
                self.progress
                    .layer(layer.digest, Step::Extracting(0, layer.size));
            }
            self.inner
                .unpack(&self.store, layer, (below, chain[at]), file.diff_ids[at])
                .await?;
            if missing[at] {
                self.progress
                    .layer(layer.digest, Step::Extracting(layer.size, layer.size));
                self.progress.layer(layer.digest, Step::Complete);
            }
        }
        Ok(missing.contains(&true))
    }
}
