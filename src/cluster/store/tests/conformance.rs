//! openraft's own suite, on our log and state machine, over real files.

use std::sync::Arc;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;
use tokio::sync::{broadcast, watch};
use tokio_util::task::TaskTracker;

use super::super::disk::Directory;
use super::super::log::{Log, Shared};
use super::super::machine::{Machine, Stage};
use super::super::open::Files;
use super::super::types::Types;
use super::super::writer::{Pace, Writer};
use super::super::{StoreConfig, disk::Disk, memory_disk::MemoryDisk};
use crate::model::NodeId;

impl From<u64> for NodeId {
    fn from(number: u64) -> Self {
        Self::from_bits(number.into())
    }
}

struct Build {
    pace: Pace,
}

impl StoreBuilder<Types, Log, Machine, TempDir> for Build {
    async fn build(&self) -> Result<(TempDir, Log, Machine), StorageError<Types>> {
        let dir = TempDir::new().unwrap();
        let disk: Arc<dyn Disk> = match self.pace {
            Pace::Threaded => Arc::new(Directory::new(dir.path())),
            Pace::Inline | Pace::Virtual => Arc::new(MemoryDisk::default()),
        };
        let config = StoreConfig::new(dir.path().into(), NodeId::from_bits(1));
        let files = Files::open(disk, &config).unwrap();
        let shared = Arc::new(Shared::new(files.log, files.contents));
        let writer = Writer::start(shared.clone(), self.pace, &TaskTracker::new()).unwrap();
        let stage = Stage {
            state: watch::Sender::default(),
            events: broadcast::Sender::new(16),
        };
        let machine = Machine::new(shared.clone(), files.snapshots, stage, self.pace);
        Ok((dir, Log::new(shared, writer), machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_and_thread_conform() {
    let build = Build {
        pace: Pace::Threaded,
    };
    Suite::test_all(build).await.unwrap();
}

#[tokio::test]
async fn memory_without_thread_conforms() {
    Suite::test_all(Build { pace: Pace::Inline }).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn memory_with_a_virtual_writer_conforms() {
    let pace = Pace::Virtual;
    Suite::test_all(Build { pace }).await.unwrap();
}
