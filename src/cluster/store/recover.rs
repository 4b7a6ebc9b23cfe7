//! A new beginning after a lost quorum: one survivor becomes the only voter, with all that it holds.
//!
//! Every entry of its log is applied, those included of which it did not learn whether they were
//! committed. A new epoch begins, so that nodes of the old one cannot mix their past into it: when
//! they come back, they take a copy of this replica.
//!
//! A recovery that is interrupted has either happened or not: the new snapshot has a name of its own,
//! and one transaction of the log moves it into the new epoch.

use std::sync::Arc;

use openraft::Membership;
use ring::rand::SystemRandom;

use super::Store;
use super::config::StoreConfig;
use super::disk::{Directory, Disk};
use super::fault::FileFault;
use super::log_file::{Lazy, Write};
use super::machine::apply;
use super::open::Files;
use super::seal::fill;
use super::snapshot::Image;
use super::types::{Ballot, Epoch, LogRef, StoredMembership};
use crate::model::NodeId;

/// Bytes of entries that are read at once.
const BATCH: usize = 4 << 20;

/// Why nothing was recovered. The replica is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] FileFault),
    /// There is no replica, or one that never held anything.
    #[error("{} holds no replica of a cluster: recover on a node that was a manager", .0.display())]
    NothingHere(std::path::PathBuf),
}

/// What a recovery kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The node that is now the only voter.
    pub node: NodeId,
    /// The store's version: the last write that survived.
    pub version: u64,
    /// Members of the cluster, this node included.
    pub members: usize,
    /// Who voted before.
    pub voters_before: Vec<NodeId>,
}

/// Makes the replica in `config.dir` the beginning of a new epoch, with this node as its only voter.
///
/// On one survivor only: each recovery begins an epoch of its own, and of two the one that is not joined
/// is lost. The daemon must not run. Blocks for as long as the disk takes: some seconds at most.
pub fn recover(config: &StoreConfig) -> Result<Recovered, RecoverError> {
    if !Store::exists(&config.dir) {
        return Err(RecoverError::NothingHere(config.dir.clone()));
    }
    recover_on(config, Arc::new(Directory::new(&config.dir)))
}

/// As [`recover`], with the files wherever `disk` keeps them.
pub(crate) fn recover_on(
    config: &StoreConfig,
    disk: Arc<dyn Disk>,
) -> Result<Recovered, RecoverError> {
    let files = Files::open(disk, config)?;
    let recovered = recover_files(config, &files);
    files.log.close();
    recovered
}

fn recover_files(config: &StoreConfig, files: &Files) -> Result<Recovered, RecoverError> {
    let mut image = files
        .snapshots
        .newest_image(files.contents.epoch)?
        .unwrap_or_default();
    replay(files, &mut image)?;
    let Some(last) = image.meta.last_log_id.map(LogRef::from) else {
        return Err(RecoverError::NothingHere(config.dir.clone()));
    };
    let voters_before = image.meta.last_membership.voter_ids().collect();
    let voted = files.contents.vote.map_or(0, |vote| vote.term);
    let at = LogRef {
        term: voted.max(last.term) + 1,
        node: config.node,
        index: last.index + 1,
    };
    let alone = Membership::new_with_defaults(vec![[config.node].into()], [config.node]);
    image.meta.last_log_id = Some(at.into());
    image.meta.last_membership = StoredMembership::new(Some(at.into()), alone);
    let epoch = next_epoch(files.contents.epoch);
    let path = files.snapshots.path(epoch, at.index);
    let content = image
        .encode()
        .map_err(|error| FileFault::damaged(&path, error.to_string()))?;
    files.snapshots.add(epoch, at.index, &content)?;
    let vote = Ballot {
        term: at.term,
        node: config.node,
        committed: false,
    };
    let restart = Write::Restart(epoch, at, vote);
    files.log.write(&[restart], Lazy::default())?;
    files.snapshots.drop_other_epochs(epoch)?;
    Ok(Recovered {
        node: config.node,
        version: image.state.version,
        members: image.state.nodes.len(),
        voters_before,
    })
}

/// Applies every entry of the log that the image does not hold yet.
pub(super) fn replay(files: &Files, image: &mut Image) -> Result<(), FileFault> {
    let end = files.contents.last.map_or(0, |last| last.index + 1);
    let mut next = image.meta.last_log_id.map_or(0, |last| last.index + 1);
    while next < end {
        let entries = files.log.read(next, end, BATCH)?;
        if entries.is_empty() {
            let path = files.log.path();
            return Err(FileFault::damaged(path, format!("entry {next} is missing")));
        }
        for entry in entries {
            next = entry.log_id.index + 1;
            apply(image, entry, &mut Vec::new())
                .map_err(|error| FileFault::damaged(files.log.path(), error.to_string()))?;
        }
    }
    Ok(())
}

fn next_epoch(epoch: Epoch) -> Epoch {
    let mut id = [0; 8];
    fill(&SystemRandom::new(), &mut id);
    Epoch {
        count: epoch.count + 1,
        id: u64::from_le_bytes(id),
    }
}
