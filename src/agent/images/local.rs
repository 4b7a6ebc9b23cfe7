//! What is here: finding an image by what people call it, and what it says of itself.
//!
//! containerd's records are the only list; what their content says is remembered by digest, which never changes.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use serde_json::Value;

use super::chain::chain_ids;
use super::config::{ConfigFile, Step};
use super::containerd::records::Record;
use super::error::ImageError;
use super::manifest::{CONFIG_LIMIT, Descriptor, Document, Manifest};
use super::platform::Platform;
use super::reference::Reference;
use super::{Images, Inner};
use crate::model::{Digest, ImageConfig, Timestamp};

/// Images whose content is remembered.
const REMEMBERED: usize = 1024;

/// Questions for images at a time. Many tasks that come at once would each have a list of all images in memory.
pub(super) const LOOKUPS_AT_ONCE: usize = 4;

/// What a record is called whose image has lost its last name.
pub(super) const DANGLING: &str = "skein.dangling@";

/// What the content of a target says.
#[derive(Debug)]
pub(super) struct Facts {
    /// The manifest for this machine.
    pub(super) manifest_at: Digest,
    pub(super) manifest: Manifest,
    /// Its config.
    pub(super) file: ConfigFile,
    /// Bytes on disk of each unpacked layer, lowest first.
    pub(super) layers: Vec<u64>,
}

/// An image that is here, by all its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalImage {
    /// The digest of its config, which Docker calls the image's ID.
    pub id: Digest,
    /// The manifest for this machine.
    pub manifest: Digest,
    /// What its names stand for: an index, or the manifest.
    pub target: Descriptor,
    /// What it says of containers.
    pub config: ImageConfig,
    /// What it is built for.
    pub platform: Platform,
    /// When it was built.
    pub created: Option<Timestamp>,
    /// Its tags as people write them, `busybox:latest`; none when it dangles.
    pub tags: Vec<String>,
    /// Its repositories with the digest, `busybox@sha256:…`.
    pub digests: Vec<String>,
    /// What its layers are when unpacked, lowest first.
    pub diff_ids: Vec<Digest>,
    /// The names of its snapshots, lowest first; the last one is what a container is made on.
    pub chain: Vec<Digest>,
    /// Bytes on disk of each unpacked layer, lowest first.
    pub layer_sizes: Vec<u64>,
    /// Bytes on disk of all of them.
    pub size: u64,
    /// When one of its names last came to stand for it.
    pub updated: Timestamp,
}

/// Everything that an image says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Inspected {
    /// The image.
    pub image: LocalImage,
    /// Its config as it is written.
    pub json: Value,
}

/// A step that made an image, as `docker history` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryStep {
    /// The step.
    pub step: Step,
    /// Bytes on disk of the layer that it made; zero when it made none.
    pub size: u64,
    /// The image's ID and tags, at the last step.
    pub image: Option<(Digest, Vec<String>)>,
}

impl Images {
    /// The image that a name, a name with a digest, an ID or the first digits of one stand for here; `None` when
    /// there is none.
    pub async fn resolve(&self, reference: &str) -> Result<Option<LocalImage>, ImageError> {
        let _permit = self.0.lookups.acquire().await.ok();
        // Boxed, so that those who wait for a permit take little memory.
        Box::pin(async {
            let records = self.0.store.records().await?;
            let Some(target) = self.0.find(&records, reference).await? else {
                return Ok(None);
            };
            self.0.image(&records, &target).await
        })
        .await
    }

    /// Every image that is here, newest first.
    pub async fn list(&self) -> Result<Vec<LocalImage>, ImageError> {
        let records = self.0.store.records().await?;
        let mut found: BTreeMap<Digest, Found<'_>> = BTreeMap::new();
        for record in &records {
            match self.0.facts(&record.target).await {
                Ok(Some(facts)) => found
                    .entry(facts.manifest.config.digest)
                    .or_insert_with(|| (facts, Vec::new()))
                    .1
                    .push(record),
                Ok(None) => {}
                Err(ImageError::Damaged { name, .. }) => {
                    tracing::debug!(image = %name, "an image cannot be read and is not listed");
                }
                Err(error) => return Err(error),
            }
        }
        let images = found
            .values()
            .map(|(facts, named)| described(facts, &named[0].target, named));
        let mut images: Vec<LocalImage> = images.collect();
        images.sort_by_key(|image| (std::cmp::Reverse(image.created), image.id));
        Ok(images)
    }

    /// Everything that an image says of itself.
    pub async fn inspect(&self, reference: &str) -> Result<Inspected, ImageError> {
        let missing = || ImageError::NoSuchImage(shown(reference));
        let image = self.resolve(reference).await?.ok_or_else(missing)?;
        let bytes = self.0.store.read_small(image.id, CONFIG_LIMIT).await?;
        let damaged = |error: serde_json::Error| damaged(reference, error);
        let json = serde_json::from_slice(&bytes.ok_or_else(missing)?).map_err(damaged)?;
        Ok(Inspected { image, json })
    }

    /// The steps that made an image, last one first.
    pub async fn history(&self, reference: &str) -> Result<Vec<HistoryStep>, ImageError> {
        let records = self.0.store.records().await?;
        let missing = || ImageError::NoSuchImage(shown(reference));
        let target = self
            .0
            .find(&records, reference)
            .await?
            .ok_or_else(missing)?;
        let image = self.0.image(&records, &target).await?.ok_or_else(missing)?;
        let facts = self.0.facts(&target).await?.ok_or_else(missing)?;
        let mut layers = facts.layers.iter();
        let sized = facts.file.history.iter().map(|step| {
            let size = if step.empty_layer {
                0
            } else {
                layers.next().copied().unwrap_or(0)
            };
            HistoryStep {
                step: step.clone(),
                size,
                image: None,
            }
        });
        let mut steps: Vec<HistoryStep> = sized.collect();
        steps.reverse();
        if let Some(last) = steps.first_mut() {
            last.image = Some((image.id, image.tags));
        }
        Ok(steps)
    }
}

/// A name as Docker says it where it finds none: with its tag.
pub(super) fn shown(reference: &str) -> String {
    let parsed = reference.parse::<Reference>();
    parsed.map_or_else(
        |_| reference.to_string(),
        |parsed| parsed.or_latest().familiar(),
    )
}

pub(super) fn damaged(
    name: &str,
    error: impl std::error::Error + Send + Sync + 'static,
) -> ImageError {
    ImageError::Damaged {
        name: name.into(),
        source: Box::new(error),
    }
}

/// The digits of an ID or of its beginning, when a text may be one.
fn id_digits(text: &str) -> Option<&str> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let good = (1..=64).contains(&digits.len())
        && digits
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    good.then_some(digits)
}

/// An image that was found, and the records that name it.
type Found<'a> = (Arc<Facts>, Vec<&'a Record>);

/// The image that a target is, with the names that these records give it.
fn described(facts: &Facts, target: &Descriptor, named: &[&Record]) -> LocalImage {
    let (mut tags, mut digests, mut updated) = (Vec::new(), Vec::new(), Timestamp::default());
    for record in named {
        updated = updated.max(record.updated);
        if record.name.starts_with(DANGLING) {
            continue;
        }
        if let Ok(name) = record.name.parse::<Reference>() {
            tags.extend(name.tag().is_some().then(|| name.familiar()));
            digests.push(name.at(record.target.digest).familiar());
        }
    }
    tags.sort();
    digests.sort();
    digests.dedup();
    LocalImage {
        id: facts.manifest.config.digest,
        manifest: facts.manifest_at,
        target: target.clone(),
        config: facts.file.config.clone(),
        platform: facts.file.platform.clone(),
        created: facts.file.created,
        tags,
        digests,
        chain: chain_ids(&facts.file.diff_ids),
        diff_ids: facts.file.diff_ids.clone(),
        size: facts.layers.iter().sum(),
        layer_sizes: facts.layers.clone(),
        updated,
    }
}

impl Inner {
    /// What `text` stands for: first as a name, then as an ID.
    pub(super) async fn find(
        &self,
        records: &[Record],
        text: &str,
    ) -> Result<Option<Descriptor>, ImageError> {
        let parsed = text.parse::<Reference>();
        if let Ok(reference) = &parsed
            && let Some(target) = self.find_name(records, reference).await?
        {
            return Ok(Some(target));
        }
        let Some(digits) = id_digits(text) else {
            return match parsed {
                Ok(_) => Ok(None),
                Err(error) => Err(error.into()),
            };
        };
        let mut found: BTreeMap<Digest, Descriptor> = BTreeMap::new();
        for record in records {
            let Ok(Some(facts)) = self.facts(&record.target).await else {
                continue;
            };
            let id = facts.manifest.config.digest;
            let names = [id, record.target.digest, facts.manifest_at];
            let is_it = |name: &Digest| name.hex().starts_with(digits);
            if is_it(&id) || (digits.len() == 64 && names.iter().any(is_it)) {
                found.entry(id).or_insert_with(|| record.target.clone());
            }
        }
        match found.len() {
            0 | 1 => Ok(found.into_values().next()),
            _ => Err(ImageError::Ambiguous(digits.into())),
        }
    }

    async fn find_name(
        &self,
        records: &[Record],
        reference: &Reference,
    ) -> Result<Option<Descriptor>, ImageError> {
        let name = reference.record();
        if let Some(record) = records.iter().find(|record| record.name == name) {
            return Ok(Some(record.target.clone()));
        }
        let Some(digest) = reference.digest() else {
            return Ok(None);
        };
        let prefix = reference.repository();
        let same_repository = records.iter().filter(|record| {
            let rest = record.name.strip_prefix(&prefix);
            rest.is_some_and(|rest| rest.starts_with([':', '@']))
        });
        for record in same_repository {
            if record.target.digest == digest {
                return Ok(Some(record.target.clone()));
            }
            if let Ok(Some(facts)) = self.facts(&record.target).await
                && facts.manifest_at == digest
            {
                return Ok(Some(record.target.clone()));
            }
        }
        Ok(None)
    }

    /// The image that a target is, with all its names. `None` when its content is not here.
    pub(super) async fn image(
        &self,
        records: &[Record],
        target: &Descriptor,
    ) -> Result<Option<LocalImage>, ImageError> {
        let Some(facts) = self.facts(target).await? else {
            return Ok(None);
        };
        let id = facts.manifest.config.digest;
        let mut named = Vec::new();
        for record in records {
            let same = record.target.digest == target.digest
                || matches!(self.facts(&record.target).await, Ok(Some(facts)) if facts.manifest.config.digest == id);
            if same {
                named.push(record);
            }
        }
        Ok(Some(described(&facts, target, &named)))
    }

    /// What the content of a target says. `None` when it is not all here.
    pub(super) async fn facts(
        &self,
        target: &Descriptor,
    ) -> Result<Option<Arc<Facts>>, ImageError> {
        let known = self
            .facts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&target.digest)
            .cloned();
        if let Some(facts) = known {
            return Ok(Some(facts));
        }
        let Some(facts) = self.read_facts(target).await? else {
            return Ok(None);
        };
        let facts = Arc::new(facts);
        let mut all = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= REMEMBERED {
            all.pop_first();
        }
        all.insert(target.digest, facts.clone());
        Ok(Some(facts))
    }

    /// Forgets what was read of a target, whose content may go.
    pub(super) fn forget(&self, target: Digest) {
        self.facts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&target);
    }

    async fn read_facts(&self, target: &Descriptor) -> Result<Option<Facts>, ImageError> {
        let name = target.digest.to_string();
        let broken = |error| damaged(&name, error);
        let Some((document, _)) = self.document(target.digest).await.map_err(broken)? else {
            return Ok(None);
        };
        let (manifest_at, manifest) = match document {
            Document::Manifest(manifest) => (target.digest, manifest),
            Document::Index(index) => match self.manifest_here(&index.manifests).await? {
                Some(found) => found,
                None => return Ok(None),
            },
        };
        let id = manifest.config.digest;
        let Some(bytes) = self.store.read_small(id, CONFIG_LIMIT).await? else {
            return Ok(None);
        };
        let file = ConfigFile::parse(id, &bytes).map_err(|error| damaged(&name, error))?;
        let mut layers = Vec::new();
        for chain in chain_ids(&file.diff_ids) {
            layers.push(self.store.unpacked_size(chain).await?);
        }
        Ok(Some(Facts {
            manifest_at,
            manifest,
            file,
            layers,
        }))
    }

    /// Of an index, the manifest for this machine when it is here, or else any that is.
    async fn manifest_here(
        &self,
        entries: &[Descriptor],
    ) -> Result<Option<(Digest, Manifest)>, ImageError> {
        let own = Platform::host().choose(entries);
        for entry in own.into_iter().chain(entries) {
            let broken = |error| damaged(&entry.digest.to_string(), error);
            if let Some((Document::Manifest(manifest), _)) =
                self.document(entry.digest).await.map_err(broken)?
            {
                return Ok(Some((entry.digest, manifest)));
            }
        }
        Ok(None)
    }
}
