//! Names of images that are here: giving them, moving them, taking them away.
//!
//! An image that loses its last name because the name moves on stays, without a name, until it is removed or pruned:
//! containers may be made of it. One whose last name is removed goes, with all that no other image shares.

use std::collections::BTreeMap;

use super::containerd::StoreError;
use super::containerd::records::Record;
use super::error::ImageError;
use super::local::{DANGLING, LocalImage, shown};
use super::manifest::Descriptor;
use super::reference::Reference;
use super::{Images, Inner};
use crate::model::Digest;

/// Which images containers are made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InUse(pub BTreeMap<Digest, Vec<User>>);

/// A container that is made of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The first 12 digits of its ID.
    pub container: String,
    /// Its process runs.
    pub running: bool,
}

impl InUse {
    /// The containers that are made of this manifest.
    pub fn of(&self, manifest: Digest) -> &[User] {
        self.0.get(&manifest).map_or(&[], Vec::as_slice)
    }
}

/// What a removal did, one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// A name was taken away.
    Untagged(String),
    /// An image or a layer has gone.
    Deleted(Digest),
}

impl Images {
    /// Gives the image `reference` the name `new`, which may stand for another one until then.
    pub async fn tag(&self, reference: &str, new: &str) -> Result<(), ImageError> {
        let name = new.parse::<Reference>()?.or_latest();
        if name.digest().is_some() {
            return Err(ImageError::TagWithDigest);
        }
        let records = self.0.store.records().await?;
        let found = self.0.find(&records, reference).await?;
        let target = found.ok_or_else(|| ImageError::NoSuchImage(shown(reference)))?;
        Ok(self.0.point(&name.record(), &target).await?)
    }

    /// Takes a name away, and the image with its last name; an ID takes the image away with all its names, when that
    /// is one or `force` is set. Refused while containers of `in_use` are made of it, unless forced, and even then
    /// while one of them runs and the image is named by its ID.
    pub async fn remove(
        &self,
        reference: &str,
        force: bool,
        in_use: &InUse,
    ) -> Result<Vec<Removed>, ImageError> {
        let records = self.0.store.records().await?;
        let missing = || ImageError::NoSuchImage(shown(reference));
        let target = self
            .0
            .find(&records, reference)
            .await?
            .ok_or_else(missing)?;
        let image = self.0.image(&records, &target).await?.ok_or_else(missing)?;
        let own = self.0.names_of(&records, &image).await?;
        let named = reference
            .parse::<Reference>()
            .ok()
            .map(|reference| reference.record());
        let by_name: Vec<&Record> = own
            .iter()
            .copied()
            .filter(|record| Some(&record.name) == named.as_ref())
            .collect();
        let by_digest = named.as_ref().is_some_and(|named| named.contains('@'));
        let taken = match by_name.is_empty() && !by_digest {
            true => {
                refuse_id(reference, &image, own.len(), force, in_use)?;
                own.clone()
            }
            false => {
                // The digest of a name that has a tag too names the image as a whole within its repository.
                let by_name = if by_name.is_empty() {
                    own.clone()
                } else {
                    by_name
                };
                if by_name.len() == own.len() {
                    refuse_name(reference, &image, force, in_use)?;
                }
                by_name
            }
        };
        let last = taken.len() == own.len();
        self.0.take(&taken, &image, last).await
    }
}

/// Refuses to remove an image by its ID.
fn refuse_id(
    reference: &str,
    image: &LocalImage,
    names: usize,
    force: bool,
    in_use: &InUse,
) -> Result<(), ImageError> {
    let mut short = image.id.hex();
    short.truncate(12);
    let conflict = |kind: &str, why: String| {
        Err(ImageError::Conflict(format!(
            "unable to delete {short} ({kind}) - {why}"
        )))
    };
    let users = in_use.of(image.manifest);
    if let Some(user) = users.iter().find(|user| user.running) {
        let why = format!(
            "image is being used by running container {}",
            user.container
        );
        return conflict("cannot be forced", why);
    }
    if let Some(user) = users.first().filter(|_| !force) {
        let why = format!(
            "image is being used by stopped container {}",
            user.container
        );
        return conflict("must be forced", why);
    }
    if names > 1 && !force && !reference.is_empty() {
        return conflict(
            "must be forced",
            "image is referenced in multiple repositories".into(),
        );
    }
    Ok(())
}

/// Refuses to remove an image by its last name.
fn refuse_name(
    reference: &str,
    image: &LocalImage,
    force: bool,
    in_use: &InUse,
) -> Result<(), ImageError> {
    let users = in_use.of(image.manifest);
    match users.first() {
        Some(user) if !force => {
            let mut short = image.id.hex();
            short.truncate(12);
            let container = &user.container;
            let reference = shown(reference);
            Err(ImageError::Conflict(format!(
                "unable to remove repository reference \"{reference}\" (must force) - container {container} is using its referenced image {short}"
            )))
        }
        _ => Ok(()),
    }
}

impl Inner {
    /// Lets a name stand for `target`. What it stood for before keeps a record of its own when this was its last one.
    pub(super) async fn point(&self, name: &str, target: &Descriptor) -> Result<(), StoreError> {
        let before = self.store.record(name).await?;
        let moved = before.filter(|before| before.target.digest != target.digest);
        if let Some(before) = moved {
            let records = self.store.records().await?;
            let elsewhere = |record: &Record| {
                record.name != name && record.target.digest == before.target.digest
            };
            if !records.iter().any(elsewhere) {
                let dangling = format!("{DANGLING}{}", before.target.digest);
                self.store
                    .set_record(&dangling, &before.target, &BTreeMap::new())
                    .await?;
            }
        }
        self.store
            .set_record(name, target, &BTreeMap::new())
            .await?;
        // It has a name again.
        self.store
            .remove_record(&format!("{DANGLING}{}", target.digest), false)
            .await
    }

    /// The records of an image.
    pub(super) async fn names_of<'a>(
        &self,
        records: &'a [Record],
        image: &LocalImage,
    ) -> Result<Vec<&'a Record>, ImageError> {
        let mut own = Vec::new();
        for record in records {
            let facts = self.facts(&record.target).await.ok().flatten();
            if facts.is_some_and(|facts| facts.manifest.config.digest == image.id) {
                own.push(record);
            }
        }
        Ok(own)
    }

    /// Takes names of an image away, its `last` ones or not, and says what has gone.
    pub(super) async fn take(
        &self,
        taken: &[&Record],
        image: &LocalImage,
        last: bool,
    ) -> Result<Vec<Removed>, ImageError> {
        let mut removed = Vec::new();
        for (at, record) in taken.iter().enumerate() {
            let now = last && at + 1 == taken.len();
            self.store.remove_record(&record.name, now).await?;
            if let Ok(name) = record.name.parse::<Reference>()
                && !record.name.starts_with(DANGLING)
            {
                removed.push(Removed::Untagged(name.familiar()));
                if last && name.tag().is_some() {
                    removed.push(Removed::Untagged(name.at(record.target.digest).familiar()));
                }
            }
        }
        if !last {
            return Ok(removed);
        }
        for record in taken {
            self.forget(record.target.digest);
        }
        removed.push(Removed::Deleted(image.id));
        for chain in image.chain.iter().rev() {
            if !self.store.is_unpacked(*chain).await? {
                removed.push(Removed::Deleted(*chain));
            }
        }
        Ok(removed)
    }
}
