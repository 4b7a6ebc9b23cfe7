//! Which images may go: when the user prunes, and when the disk fills up.
//!
//! What goes is decided by pure functions over what is here and what is in use; the rest of this file does it.

use std::collections::BTreeMap;

use super::Images;
use super::error::ImageError;
use super::local::LocalImage;
use super::names::{InUse, Removed};
use super::sample::SAMPLE;
use crate::model::{Digest, Timestamp};

/// Above this part of the disk, in percent, images that are not in use go.
const FULL: u64 = 85;

/// They go until it is below this.
const ROOM: u64 = 80;

/// An image that came or changed so lately stays: a task may be about to use it. Seconds.
const YOUNG: u64 = 600;

/// Which images the user wants gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PruneFilters {
    /// Only those without a name; all that are not in use otherwise.
    pub dangling: bool,
    /// Only those built before.
    pub until: Option<Timestamp>,
    /// Only those with all of these labels, `name` or `name=value`.
    pub labels: Vec<String>,
    /// None with one of these labels.
    pub not_labels: Vec<String>,
}

impl Default for PruneFilters {
    fn default() -> Self {
        Self {
            dangling: true,
            until: None,
            labels: Vec::new(),
            not_labels: Vec::new(),
        }
    }
}

/// What a pruning did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Each step.
    pub removed: Vec<Removed>,
    /// Bytes of unpacked layers that went.
    pub reclaimed: u64,
}

/// The file system that images lie on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Bytes in all.
    pub total: u64,
    /// Bytes that are free.
    pub free: u64,
}

/// Whether the user wants this image gone.
fn chosen(image: &LocalImage, filters: &PruneFilters, in_use: &InUse) -> bool {
    let has = |label: &String| {
        let (name, value) = label
            .split_once('=')
            .map_or((label.as_str(), None), |(name, value)| (name, Some(value)));
        let found = image.config.labels.get(name);
        found.is_some_and(|found| value.is_none_or(|value| value == found))
    };
    in_use.of(image.manifest).is_empty()
        && (!filters.dangling || image.tags.is_empty())
        && filters
            .until
            .is_none_or(|until| image.created.unwrap_or_default() < until)
        && filters.labels.iter().all(has)
        && !filters.not_labels.iter().any(has)
}

/// The images that go when the user prunes, by ID.
pub fn wanted_gone(images: &[LocalImage], filters: &PruneFilters, in_use: &InUse) -> Vec<Digest> {
    let gone = images.iter().filter(|image| chosen(image, filters, in_use));
    gone.map(|image| image.id).collect()
}

/// The images that go because the disk is full, by ID: none of those in use, neither young ones nor the one that is
/// built in, those without a name first, those that came longest ago next, until enough is freed. What images share is
/// counted for the last of those that hold it.
pub fn plan(images: &[LocalImage], in_use: &InUse, disk: Disk, now: Timestamp) -> Vec<Digest> {
    let used = disk.total.saturating_sub(disk.free);
    if disk.total == 0 || used.saturating_mul(100) < disk.total.saturating_mul(FULL) {
        return Vec::new();
    }
    let mut to_free = used.saturating_sub(disk.total / 100 * ROOM);
    let mut holders: BTreeMap<Digest, usize> = BTreeMap::new();
    for chain in images.iter().flat_map(|image| &image.chain) {
        *holders.entry(*chain).or_default() += 1;
    }
    let mut candidates: Vec<&LocalImage> = images
        .iter()
        .filter(|image| in_use.of(image.manifest).is_empty())
        .filter(|image| now.since(image.updated).as_secs() >= YOUNG)
        .filter(|image| !image.tags.iter().any(|tag| tag == SAMPLE))
        .collect();
    candidates.sort_by_key(|image| (!image.tags.is_empty(), image.updated, image.id));
    let mut gone = Vec::new();
    for image in candidates {
        if to_free == 0 {
            break;
        }
        let mut alone = 0;
        for chain in &image.chain {
            if let Some(count) = holders.get_mut(chain) {
                *count -= 1;
                alone += usize::from(*count == 0);
            }
        }
        // Its layers are not measured one by one here: those that only it holds are its share by number.
        let share = image.size.saturating_mul(alone as u64) / (image.chain.len().max(1) as u64);
        to_free = to_free.saturating_sub(share);
        gone.push(image.id);
    }
    gone
}

impl Images {
    /// Removes the images that `filters` choose and no container uses.
    pub async fn prune(
        &self,
        filters: &PruneFilters,
        in_use: &InUse,
    ) -> Result<Pruned, ImageError> {
        let images = self.list().await?;
        self.remove_all(&wanted_gone(&images, filters, in_use), in_use)
            .await
    }

    /// Removes images that nobody uses when the disk is full.
    pub async fn relieve(&self, in_use: &InUse, disk: Disk) -> Result<Pruned, ImageError> {
        let images = self.list().await?;
        let gone = plan(&images, in_use, disk, (self.0.clock)());
        if !gone.is_empty() {
            tracing::warn!(
                images = gone.len(),
                free = disk.free,
                total = disk.total,
                "disk is filling up, unused images go"
            );
        }
        self.remove_all(&gone, in_use).await
    }

    async fn remove_all(&self, ids: &[Digest], in_use: &InUse) -> Result<Pruned, ImageError> {
        let mut pruned = Pruned::default();
        for id in ids {
            let id = id.to_string();
            let Some(image) = self.resolve(&id).await? else {
                continue;
            };
            match self.remove(&id, true, in_use).await {
                Ok(removed) => {
                    let gone = removed.contains(&Removed::Deleted(image.id));
                    pruned.reclaimed += if gone {
                        self.gone_size(&image, &removed)
                    } else {
                        0
                    };
                    pruned.removed.extend(removed);
                }
                // A container has come in between.
                Err(ImageError::Conflict(_) | ImageError::NoSuchImage(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(pruned)
    }

    /// Bytes of the layers that have gone.
    fn gone_size(&self, image: &LocalImage, removed: &[Removed]) -> u64 {
        let is_gone = |chain: &Digest| removed.contains(&Removed::Deleted(*chain));
        let gone = image
            .chain
            .iter()
            .zip(&image.layer_sizes)
            .filter(|(chain, _)| is_gone(chain));
        gone.map(|(_, size)| size).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::manifest::Descriptor;
    use super::super::names::User;
    use super::super::platform::Platform;
    use super::*;
    use crate::model::ImageConfig;

    fn image(n: u8, tags: &[&str], updated: i128, chain: &[u8], size: u64) -> LocalImage {
        let digest = |n: u8| Digest::from_bytes([n; 32]);
        LocalImage {
            id: digest(n),
            manifest: digest(n),
            target: Descriptor::default(),
            config: ImageConfig {
                labels: [("kind".to_string(), format!("k{n}"))].into(),
                ..ImageConfig::default()
            },
            platform: Platform::default(),
            created: Some(Timestamp::from_nanos(updated)),
            tags: tags.iter().map(|tag| tag.to_string()).collect(),
            digests: Vec::new(),
            diff_ids: Vec::new(),
            chain: chain.iter().map(|n| digest(*n)).collect(),
            layer_sizes: vec![size / chain.len().max(1) as u64; chain.len()],
            size,
            updated: Timestamp::from_nanos(updated),
        }
    }

    fn used(n: u8) -> InUse {
        let user = User {
            container: "c".into(),
            running: false,
        };
        InUse([(Digest::from_bytes([n; 32]), vec![user])].into())
    }

    fn ids(digests: Vec<Digest>) -> Vec<u8> {
        digests
            .into_iter()
            .map(|digest| digest.bytes()[0])
            .collect()
    }

    const LATER: Timestamp = Timestamp::from_nanos(10_000_000_000_000);

    #[test]
    fn the_oldest_go_until_there_is_room() {
        let images = [
            image(1, &["a:1"], 3, &[1], 10),
            image(2, &["b:1"], 2, &[2], 10),
            image(3, &[], 9, &[3], 3),
            image(4, &[SAMPLE], 0, &[4], 50),
            image(5, &["new:1"], LATER.nanos() - 1, &[5], 50),
        ];
        let plan_at = |free: u64, in_use: &InUse| {
            ids(plan(&images, in_use, Disk { total: 100, free }, LATER))
        };
        assert!(plan_at(16, &InUse::default()).is_empty());
        assert_eq!(plan_at(14, &InUse::default()), [3, 2]);
        assert_eq!(plan_at(14, &used(2)), [3, 1]);
        assert_eq!(plan_at(0, &InUse::default()), [3, 2, 1]);
        assert!(
            ids(plan(
                &images,
                &InUse::default(),
                Disk { total: 0, free: 0 },
                LATER
            ))
            .is_empty()
        );
    }

    #[test]
    fn what_is_shared_is_freed_by_the_last_holder() {
        let images = [
            image(1, &["a:1"], 1, &[9, 1], 20),
            image(2, &["b:1"], 2, &[9, 2], 20),
            image(3, &["c:1"], 3, &[3], 20),
        ];
        let gone = ids(plan(
            &images,
            &InUse::default(),
            Disk {
                total: 100,
                free: 5,
            },
            LATER,
        ));
        assert_eq!(
            gone,
            [1, 2],
            "10 by the first, 20 by the second: 15 were to be freed"
        );
    }

    #[test]
    fn the_users_filters_choose() {
        let images = [image(1, &[], 5, &[1], 1), image(2, &["b:1"], 6, &[2], 1)];
        let gone =
            |filters: &PruneFilters, in_use: &InUse| ids(wanted_gone(&images, filters, in_use));
        let default = PruneFilters::default();
        assert_eq!(gone(&default, &InUse::default()), [1]);
        assert!(gone(&default, &used(1)).is_empty());
        let all = PruneFilters {
            dangling: false,
            ..default
        };
        assert_eq!(gone(&all, &InUse::default()), [1, 2]);
        let until = PruneFilters {
            until: Some(Timestamp::from_nanos(6)),
            ..all.clone()
        };
        assert_eq!(gone(&until, &InUse::default()), [1]);
        let label = PruneFilters {
            labels: vec!["kind=k2".into()],
            ..all.clone()
        };
        assert_eq!(gone(&label, &InUse::default()), [2]);
        let not = PruneFilters {
            not_labels: vec!["kind".into()],
            ..all
        };
        assert!(gone(&not, &InUse::default()).is_empty());
    }

    proptest! {
        #[test]
        fn what_is_in_use_never_goes(free in 0u64..100, user in 0u8..6, sizes in prop::collection::vec(0u64..40, 6)) {
            let images: Vec<LocalImage> =
                (0u8..6).map(|n| image(n, &["x"], i128::from(n), &[n, 9], sizes[usize::from(n)])).collect();
            let gone = ids(plan(&images, &used(user), Disk { total: 100, free }, LATER));
            prop_assert!(!gone.contains(&user));
            prop_assert!(free <= 15 || gone.is_empty());
        }
    }
}
