//! Calls to containerd: the channel, the namespace on every request, a deadline on every call, and what a failed one
//! means.
//!
//! The channel connects again by itself after containerd was restarted; until then calls fail with
//! [`Failure::Retry`]. Used by the rest of this room only.

use std::error::Error;
use std::time::Duration;

use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::services::v1::tasks_client::TasksClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::super::{Failure, RuntimeError};

/// Longest that a call may take which only reads or writes records.
pub(super) const CALL_DEADLINE: Duration = Duration::from_secs(30);

/// Longest that a call may take which starts processes. A machine under load takes its time.
pub(super) const START_DEADLINE: Duration = Duration::from_secs(120);

/// The largest answer: a list of some thousand containers with their specifications.
const ANSWER_LIMIT: usize = 64 << 20;

/// A connection within one namespace. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Client {
    channel: Channel,
    namespace: MetadataValue<Ascii>,
}

impl Client {
    pub(super) fn new(channel: Channel, namespace: MetadataValue<Ascii>) -> Self {
        Self { channel, namespace }
    }

    pub(super) fn tasks(&self) -> TasksClient<Channel> {
        TasksClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_LIMIT)
    }

    pub(super) fn containers(&self) -> ContainersClient<Channel> {
        ContainersClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_LIMIT)
    }

    pub(super) fn snapshots(&self) -> SnapshotsClient<Channel> {
        SnapshotsClient::new(self.channel.clone())
    }

    pub(super) fn content(&self) -> ContentClient<Channel> {
        ContentClient::new(self.channel.clone())
    }

    /// A request within the namespace, that fails after the usual deadline.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        self.request_within(CALL_DEADLINE, message)
    }

    pub(super) fn request_within<T>(&self, deadline: Duration, message: T) -> Request<T> {
        let mut request = self.endless_request(message);
        request.set_timeout(deadline);
        request
    }

    /// A request that may take for ever.
    pub(super) fn endless_request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let headers = request.metadata_mut();
        headers.insert("containerd-namespace", self.namespace.clone());
        request
    }
}

/// `Ok(None)` when there is no such thing.
pub(super) fn found<T>(answer: Result<T, Status>) -> Result<Option<T>, Status> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(status),
    }
}

/// Whether containerd did not answer at all, or not in time.
pub(super) fn is_unreachable(status: &Status) -> bool {
    let late = [Code::Unavailable, Code::DeadlineExceeded, Code::Cancelled];
    // What containerd says itself has no cause on this side.
    late.contains(&status.code()) || status.source().is_some()
}

/// What a failed call means where nothing else is known about it.
pub(super) fn failed(doing: &'static str) -> impl FnOnce(Status) -> RuntimeError {
    move |status| {
        let failure = match status.code() {
            Code::NotFound => Failure::Gone,
            Code::InvalidArgument if !is_unreachable(&status) => Failure::Refused,
            _ => Failure::Retry,
        };
        RuntimeError {
            failure,
            message: format!("{doing}: {}", status.message()),
            source: Some(Box::new(status)),
        }
    }
}

/// A failure of this side.
pub(super) fn broken(
    failure: Failure,
    message: impl Into<String>,
    source: impl Error + Send + Sync + 'static,
) -> RuntimeError {
    RuntimeError {
        failure,
        message: message.into(),
        source: Some(Box::new(source)),
    }
}

/// A failure without a cause below.
pub(super) fn said(failure: Failure, message: impl Into<String>) -> RuntimeError {
    RuntimeError {
        failure,
        message: message.into(),
        source: None,
    }
}
