//! The log against a model of it: whatever is written, cut, purged, closed or lost with the power.

use std::collections::BTreeMap;
use std::sync::Arc;

use openraft::storage::{IOFlushed, RaftLogStorage, RaftLogStorageExt};
use openraft::{EntryPayload, RaftLogReader};
use proptest::prelude::*;
use tokio_util::task::TaskTracker;

use super::super::command::Command;
use super::super::fixtures::id;
use super::super::log::{Log, Shared};
use super::super::log_file::LogFile;
use super::super::memory_disk::MemoryDisk;
use super::super::types::{Entry, LogId, LogRef, Vote};
use super::super::writer::{Pace, Writer};

fn log_id(term: u64, index: u64) -> LogId {
    LogRef {
        term,
        node: id(1),
        index,
    }
    .into()
}

fn entry(term: u64, index: u64, bytes: usize) -> Entry {
    let mut bytes = vec![1; bytes.max(1)];
    bytes.extend(index.to_le_bytes());
    Entry {
        log_id: log_id(term, index),
        payload: EntryPayload::Normal(Command::from_bytes(bytes.into())),
    }
}

fn open(disk: &MemoryDisk, pace: Pace) -> Log {
    let disk: Arc<MemoryDisk> = Arc::new(disk.clone());
    let (file, contents) = LogFile::open(disk, id(1)).unwrap();
    let shared = Arc::new(Shared::new(file, contents));
    let writer = Writer::start(shared.clone(), pace, &TaskTracker::new()).unwrap();
    Log::new(shared, writer)
}

#[derive(Clone, Debug)]
enum Op {
    Append { count: u64, bytes: usize },
    Cut(prop::sample::Index),
    Purge(prop::sample::Index),
    Vote,
    Commit(prop::sample::Index),
    Reopen,
    Crash(u64),
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (1u64..40, prop_oneof![Just(10usize), Just(3000), Just(200_000)])
            .prop_map(|(count, bytes)| Op::Append { count, bytes }),
        2 => any::<prop::sample::Index>().prop_map(Op::Cut),
        2 => any::<prop::sample::Index>().prop_map(Op::Purge),
        2 => Just(Op::Vote),
        1 => any::<prop::sample::Index>().prop_map(Op::Commit),
        1 => Just(Op::Reopen),
        2 => any::<u64>().prop_map(Op::Crash),
    ]
}

/// What the log should hold.
#[derive(Clone, Debug, Default)]
struct Model {
    entries: BTreeMap<u64, Entry>,
    purged: Option<LogId>,
    vote: Option<Vote>,
    term: u64,
}

impl Model {
    fn next(&self) -> u64 {
        let last = self.entries.keys().last().copied();
        let last = last.or_else(|| self.purged.map(|purged| purged.index));
        last.map_or(0, |last| last + 1)
    }

    fn pick(&self, which: prop::sample::Index) -> Option<LogId> {
        let ids: Vec<LogId> = self.entries.values().map(|entry| entry.log_id).collect();
        (!ids.is_empty()).then(|| *which.get(&ids))
    }
}

async fn check(log: &mut Log, model: &Model) -> Result<(), TestCaseError> {
    let mut reader = log.get_log_reader().await;
    let expected: Vec<Entry> = model.entries.values().cloned().collect();
    prop_assert_eq!(&reader.try_get_log_entries(..).await.unwrap(), &expected);
    prop_assert_eq!(reader.read_vote().await.unwrap(), model.vote);
    let state = log.get_log_state().await.unwrap();
    prop_assert_eq!(state.last_purged_log_id, model.purged);
    let last = expected.last().map(|entry| entry.log_id).or(model.purged);
    prop_assert_eq!(state.last_log_id, last);
    if let (Some(first), Some(last)) = (expected.first(), expected.last()) {
        let (first, end) = (first.log_id.index, last.log_id.index + 1);
        let middle = first + (end - first) / 2;
        let some = reader.limited_get_log_entries(middle, end).await.unwrap();
        prop_assert!(!some.is_empty());
        let from = (middle - first) as usize;
        prop_assert_eq!(&some[..], &expected[from..from + some.len()]);
    }
    Ok(())
}

/// A log and what it should hold.
struct Pair {
    disk: MemoryDisk,
    pace: Pace,
    log: Log,
    model: Model,
}

impl Pair {
    async fn append(&mut self, count: u64, bytes: usize) {
        let next = self.model.next();
        let entries: Vec<Entry> = (next..next + count)
            .map(|index| entry(self.model.term, index, bytes))
            .collect();
        let held = entries
            .iter()
            .map(|entry| (entry.log_id.index, entry.clone()));
        self.model.entries.extend(held);
        self.log.blocking_append(entries).await.unwrap();
    }

    async fn vote(&mut self) {
        self.model.term += 1;
        let vote = Vote::new(self.model.term, id(1));
        self.model.vote = Some(vote);
        self.log.save_vote(&vote).await.unwrap();
    }

    async fn crash(&mut self, mut random: u64) {
        // A purge alone may be lost with the power, and nothing else that was acknowledged.
        self.vote().await;
        let next = self.model.next();
        if self.pace == Pace::Threaded {
            // May or may not reach the disk before the power goes.
            let lost = [next, next + 1].map(|index| entry(self.model.term, index, 5000));
            self.log.append(lost, IOFlushed::noop()).await.unwrap();
        }
        self.disk.crash(|| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            random >> 63 == 1
        });
        self.log.close().await;
        self.log = open(&self.disk, self.pace);
        let state = self.log.get_log_state().await.unwrap();
        if state.last_log_id.is_some_and(|last| last.index >= next) {
            let last = self.model.entries.values().last();
            let last = last.map(|entry| entry.log_id).or(self.model.purged);
            self.log.truncate_after(last).await.unwrap();
        }
    }

    async fn reopen(&mut self) -> Result<(), TestCaseError> {
        let committed = self.log.read_committed().await.unwrap();
        self.log.close().await;
        self.log = open(&self.disk, self.pace);
        prop_assert_eq!(self.log.read_committed().await.unwrap(), committed);
        Ok(())
    }

    async fn apply(&mut self, op: Op) -> Result<(), TestCaseError> {
        match op {
            Op::Append { count, bytes } => self.append(count, bytes).await,
            Op::Vote => self.vote().await,
            Op::Crash(seed) => self.crash(seed).await,
            Op::Reopen => self.reopen().await?,
            Op::Cut(which) => {
                if let Some(last) = self.model.pick(which) {
                    self.model.term += 1;
                    self.model.entries.retain(|index, _| *index <= last.index);
                    self.log.truncate_after(Some(last)).await.unwrap();
                }
            }
            Op::Purge(which) => {
                if let Some(upto) = self.model.pick(which) {
                    self.model.entries.retain(|index, _| *index > upto.index);
                    self.model.purged = Some(upto);
                    self.log.purge(upto).await.unwrap();
                }
            }
            Op::Commit(which) => {
                let upto = self.model.pick(which);
                if upto.is_some() {
                    self.log.save_committed(upto).await.unwrap();
                }
            }
        }
        Ok(())
    }
}

async fn run(ops: Vec<Op>, pace: Pace) -> Result<(), TestCaseError> {
    let disk = MemoryDisk::default();
    let mut pair = Pair {
        log: open(&disk, pace),
        disk,
        pace,
        model: Model::default(),
    };
    for op in ops {
        pair.apply(op).await?;
        check(&mut pair.log, &pair.model).await?;
    }
    pair.log.close().await;
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn it_holds_what_was_written(ops in prop::collection::vec(any_op(), 1..25)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(run(ops.clone(), Pace::Inline))?;
        runtime.block_on(run(ops, Pace::Threaded))?;
    }
}

#[tokio::test]
async fn entries_leave_memory_and_are_read_from_the_file() {
    let disk = MemoryDisk::default();
    let mut log = open(&disk, Pace::Threaded);
    for first in (0..5000).step_by(500) {
        let entries: Vec<Entry> = (first..first + 500)
            .map(|index| entry(1, index, 10))
            .collect();
        log.blocking_append(entries).await.unwrap();
    }
    assert!(log.shared.in_memory() <= 1024, "{}", log.shared.in_memory());
    let mut reader = log.get_log_reader().await;
    let all = reader.try_get_log_entries(0..5000).await.unwrap();
    assert!(
        all.iter()
            .zip(0..)
            .all(|(entry, index)| entry.log_id.index == index)
    );
    assert_eq!(all.len(), 5000);
    let across = reader.try_get_log_entries(3900..4100).await.unwrap();
    assert_eq!(across.len(), 200);
    log.close().await;
    assert!(reader.try_get_log_entries(0..10).await.is_err());
}
