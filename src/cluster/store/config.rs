//! How a replica is set up: where its files are, and how patient it is.

use std::path::PathBuf;
use std::time::Duration;

use openraft::{Config, ConfigError, SnapshotPolicy};

use crate::model::NodeId;

/// Entries that are kept although a snapshot holds them, for followers that are a little behind.
const KEPT_FOR_SLOW_FOLLOWERS: u64 = 500;
/// Entries in one message to a follower, at most; they are limited in bytes besides.
const ENTRIES_PER_MESSAGE: u64 = 512;
/// How long openraft waits before it asks an unreachable peer again: grows to this.
const BACK_OFF: &str = "100ms 200ms 400ms ...800ms";

/// What a [`Store`](super::Store) is opened with.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The directory of its files; made when it is missing.
    pub dir: PathBuf,
    /// This node.
    pub node: NodeId,
    /// How patient it is.
    pub timings: Timings,
    /// Entries between two snapshots. [`StoreConfig::SNAPSHOT_EVERY`] unless a test wants fewer.
    pub snapshot_every: u64,
}

impl StoreConfig {
    /// Entries between two snapshots: some megabytes of log.
    pub const SNAPSHOT_EVERY: u64 = 10_000;

    /// The usual setup.
    pub fn new(dir: PathBuf, node: NodeId) -> Self {
        Self {
            dir,
            node,
            timings: Timings::default(),
            snapshot_every: Self::SNAPSHOT_EVERY,
        }
    }

    pub(super) fn raft(&self) -> Result<Config, ConfigError> {
        Config {
            cluster_name: "skein".into(),
            heartbeat_interval: millis(self.timings.heartbeat),
            election_timeout_min: millis(self.timings.election_min),
            election_timeout_max: millis(self.timings.election_max),
            enable_pre_vote: Some(true),
            // A follower whose disk was set back (a restored or copied directory) is brought up again; openraft would
            // panic on the leader otherwise.
            allow_log_reversion: Some(true),
            // The state is in memory: a restarted leader must learn what was committed by being elected.
            enable_leader_restore: Some(false),
            max_payload_entries: ENTRIES_PER_MESSAGE,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_every),
            max_in_snapshot_log_to_keep: KEPT_FOR_SLOW_FOLLOWERS.min(self.snapshot_every),
            replication_lag_threshold: self.snapshot_every + KEPT_FOR_SLOW_FOLLOWERS,
            backoff: BACK_OFF.into(),
            ..Config::default()
        }
        .validate()
    }
}

/// How patient a replica is, in whole milliseconds.
///
/// A follower that hears nothing for `election_max` no longer trusts its leader, and asks for an
/// election after a random time between `election_min` and `election_max` more. A dead leader is thus
/// replaced after `election_max + election_min` to `2 × election_max`, and some milliseconds; a leader
/// that stalls for less than that keeps its place.
///
/// Heartbeats are most of what an idle leader and its voters do, so they are as rare as the election
/// allows: one may be lost without anybody doubting the leader, and the time that a longer heartbeat
/// adds to an election is what it takes off, since the last one was longer ago when a leader dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// Between two heartbeats of an idle leader.
    pub heartbeat: Duration,
    /// The shortest wait before an election; well above `heartbeat`.
    pub election_min: Duration,
    /// The longest wait before an election; above `election_min`.
    pub election_max: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(250),
            election_min: Duration::from_millis(270),
            election_max: Duration::from_millis(350),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
