//! The state machine as openraft sees it: applies entries to the [`State`] and makes snapshots.
//!
//! The state lives in memory; what is durable is the log and the newest snapshot, from which it is made
//! again at the start. A client that was told its version finds it in [`super::Store::watch`]: the
//! state is published before anybody is answered.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use tokio::sync::{broadcast, watch};

use super::fault::FileFault;
use super::log::Shared;
use super::snapshot::{Image, Snapshots};
use super::state::{State, StateEvent};
use super::types::{Entry, LogId, Outcome, Snapshot, SnapshotMeta, StoredMembership, Types};
use super::writer::Pace;
use crate::model::Rejection;

/// Where the state is shown to this process.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    pub(super) state: watch::Sender<Arc<State>>,
    pub(super) events: broadcast::Sender<StateEvent>,
}

/// The state machine of one replica.
#[derive(Debug)]
pub(crate) struct Machine {
    image: Image,
    shared: Arc<Shared>,
    snapshots: Snapshots,
    stage: Stage,
    pace: Pace,
}

impl Machine {
    pub(super) fn new(shared: Arc<Shared>, snapshots: Snapshots, stage: Stage, pace: Pace) -> Self {
        Self {
            image: Image::default(),
            shared,
            snapshots,
            stage,
            pace,
        }
    }

    fn apply_entry(
        &mut self,
        entry: Entry,
        events: &mut Vec<StateEvent>,
    ) -> Result<Outcome, io::Error> {
        let at = entry.log_id;
        let outcome = apply(&mut self.image, entry, events).map_err(|what| {
            FileFault::damaged(
                self.shared.file.path(),
                format!("entry {}: {what}", at.index),
            )
            .to_io()
        })?;
        Ok(outcome)
    }

    fn publish(&self, events: Vec<StateEvent>) {
        let state = Arc::new(self.image.state.clone());
        self.stage.state.send_replace(state);
        for event in events {
            // Nobody may be listening.
            let _ = self.stage.events.send(event);
        }
    }
}

/// Applies one entry to an image. An error means that this build does not understand the entry.
pub(super) fn apply(
    image: &mut Image,
    entry: Entry,
    events: &mut Vec<StateEvent>,
) -> Result<Outcome, super::command::CommandError> {
    let outcome = match entry.payload {
        EntryPayload::Blank => Ok(image.state.version),
        EntryPayload::Normal(command) => apply_command(&mut image.state, &command, events)?,
        EntryPayload::Membership(membership) => {
            image.meta.last_membership = StoredMembership::new(Some(entry.log_id), membership);
            Ok(image.state.version)
        }
    };
    image.meta.last_log_id = Some(entry.log_id);
    Ok(Outcome(outcome))
}

fn apply_command(
    state: &mut State,
    command: &super::command::Command,
    events: &mut Vec<StateEvent>,
) -> Result<Result<u64, Rejection>, super::command::CommandError> {
    Ok(state.apply(command.proposal()?, events))
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = Bytes;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let meta = &self.image.meta;
        Ok((meta.last_log_id, meta.last_membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        let mut events = Vec::new();
        let mut waiting = Vec::new();
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let outcome = self.apply_entry(entry, &mut events)?;
            waiting.extend(responder.map(|responder| (responder, outcome)));
        }
        self.publish(events);
        for (responder, outcome) in waiting {
            responder.send(outcome);
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            image: self.image.clone(),
            shared: self.shared.clone(),
            snapshots: self.snapshots.clone(),
            pace: self.pace,
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        content: Bytes,
    ) -> Result<(), io::Error> {
        let image = Image::decode(&content).map_err(io::Error::other)?;
        if image.meta != *meta {
            return Err(io::Error::other("the snapshot is not the announced one"));
        }
        let index = meta.last_log_id.map_or(0, |last| last.index);
        let epoch = self.shared.epoch();
        let newest = self.snapshots.newest_index(epoch);
        if newest.map_err(|fault| fault.to_io())? != Some(index) {
            let snapshots = self.snapshots.clone();
            off_the_loop(self.pace, move || snapshots.save(epoch, index, &content)).await?;
        }
        let events = image.state.changes_since(&self.image.state);
        self.image = image;
        self.publish(events);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let newest = self
            .snapshots
            .newest(self.shared.epoch())
            .map_err(|fault| fault.to_io())?;
        let Some((_, content)) = newest else {
            return Ok(None);
        };
        let meta = Image::decode(&content).map_err(io::Error::other)?.meta;
        Ok(Some(Snapshot {
            meta,
            snapshot: content,
        }))
    }
}

/// Makes one snapshot of the state as it was when this was made.
#[derive(Debug)]
pub(crate) struct Builder {
    image: Image,
    shared: Arc<Shared>,
    snapshots: Snapshots,
    pace: Pace,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let image = self.image.clone();
        let meta = image.meta.clone();
        let index = meta.last_log_id.map_or(0, |last| last.index);
        let (epoch, snapshots) = (self.shared.epoch(), self.snapshots.clone());
        let content = off_the_loop(self.pace, move || {
            let path = snapshots.path(epoch, index);
            let content = image
                .encode()
                .map_err(|error| FileFault::damaged(&path, error.to_string()))?;
            snapshots.save(epoch, index, &content)?;
            Ok(content)
        })
        .await?;
        Ok(Snapshot {
            meta,
            snapshot: content,
        })
    }
}

/// Runs work that waits for the disk where it holds up nobody; right here in a simulation.
async fn off_the_loop<T: Send + 'static>(
    pace: Pace,
    work: impl FnOnce() -> Result<T, FileFault> + Send + 'static,
) -> Result<T, io::Error> {
    let result = match pace {
        Pace::Inline | Pace::Virtual => work(),
        Pace::Threaded => tokio::task::spawn_blocking(work)
            .await
            .map_err(io::Error::other)?,
    };
    result.map_err(|fault| {
        tracing::error!(error = %fault, "a snapshot cannot be written: the store stops");
        fault.to_io()
    })
}
