//! What a user asks a service to be: Docker's `ServiceSpec`, in Docker's JSON.
//!
//! As [`task_spec`](super::task_spec): stored as JSON, what is not set is not written, nothing is checked and nothing is
//! filled in here. What is usual when nothing is said is told by the accessors, because Docker applies its defaults
//! when a spec is used and never stores them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::task_spec::{NetworkAttachmentConfig, TaskSpec, unset};

/// A whole service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ServiceSpec {
    /// Its name; unique in the cluster.
    pub name: String,
    /// Its labels; never those of its containers.
    pub labels: BTreeMap<String, String>,
    /// What each of its tasks is.
    pub task_template: TaskSpec,
    /// How many tasks, and where.
    pub mode: ServiceMode,
    /// How its tasks are replaced when it changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_config: Option<UpdateConfig>,
    /// How they are replaced when it changes back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollback_config: Option<UpdateConfig>,
    /// Networks where an old client names them: kept, and read where the template names none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<NetworkAttachmentConfig>,
    /// How it is reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_spec: Option<EndpointSpec>,
}

/// How many tasks a service has, and where. Exactly one is set in what the API lets in; none is `Replicated` of one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ServiceMode {
    /// A number of tasks anywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicated: Option<Replicated>,
    /// A task on every node that fits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub global: Option<Global>,
    /// A number of tasks that end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicated_job: Option<ReplicatedJob>,
    /// A task on every node that fits, which ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub global_job: Option<Global>,
}

/// `Mode.Replicated`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Replicated {
    /// How many; one when nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u64>,
}

/// `Mode.Global` and `Mode.GlobalJob`: an empty object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Global {}

/// `Mode.ReplicatedJob`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ReplicatedJob {
    /// At a time; one when nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_concurrent: Option<u64>,
    /// In all; as many as at a time when nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_completions: Option<u64>,
}

/// A service's mode, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// So many tasks.
    Replicated {
        /// How many.
        replicas: u64,
    },
    /// One on each node that fits.
    Global,
    /// So many tasks that complete.
    ReplicatedJob {
        /// At a time, at most.
        concurrent: u64,
        /// In all.
        total: u64,
    },
    /// One on each node that fits, which completes.
    GlobalJob,
}

impl Mode {
    /// Whether its tasks are to come to an end by themselves.
    pub fn is_job(self) -> bool {
        matches!(self, Self::ReplicatedJob { .. } | Self::GlobalJob)
    }

    /// Whether its tasks belong to nodes rather than to numbers.
    pub fn is_global(self) -> bool {
        matches!(self, Self::Global | Self::GlobalJob)
    }
}

impl ServiceMode {
    /// What it means.
    pub fn read(&self) -> Mode {
        if let Some(job) = &self.replicated_job {
            let concurrent = job.max_concurrent.unwrap_or(1);
            let total = job.total_completions.unwrap_or(concurrent);
            return Mode::ReplicatedJob { concurrent, total };
        }
        if self.global_job.is_some() {
            return Mode::GlobalJob;
        }
        if self.global.is_some() {
            return Mode::Global;
        }
        let replicated = self.replicated.clone().unwrap_or_default();
        Mode::Replicated {
            replicas: replicated.replicas.unwrap_or(1),
        }
    }
}

/// How tasks are replaced. Docker's defaults hold only where the whole of it is missing; a zero that was written is a
/// zero.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UpdateConfig {
    /// Slots at a time; zero is all of them.
    pub parallelism: u64,
    /// Between two, nanoseconds.
    #[serde(skip_serializing_if = "unset")]
    pub delay: i64,
    /// `pause`, `continue` or `rollback`; `pause` when empty.
    #[serde(skip_serializing_if = "unset")]
    pub failure_action: String,
    /// How long a new task is watched for failures, nanoseconds; five seconds when zero.
    #[serde(skip_serializing_if = "unset")]
    pub monitor: i64,
    /// The part of them that may fail.
    pub max_failure_ratio: Ratio,
    /// `stop-first` or `start-first`; `stop-first` when empty.
    pub order: String,
}

/// A part of a whole, 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ratio(pub f32);

// JSON has no number that differs from itself.
impl Eq for Ratio {}

/// What follows when too many new tasks fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureAction {
    /// Nothing more is replaced.
    Pause,
    /// As if nothing had happened.
    Continue,
    /// Everything goes back to what it was.
    Rollback,
}

/// What is done first in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The old task ends, then the new one begins.
    StopFirst,
    /// The new task runs, then the old one ends.
    StartFirst,
}

/// An [`UpdateConfig`], read, with what is usual filled in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UpdatePolicy {
    /// Slots at a time; `None` is all of them.
    pub parallelism: Option<u64>,
    /// Between two.
    pub delay: Duration,
    /// How long a new task is watched for failures.
    pub monitor: Duration,
    /// The part of them that may fail.
    pub max_failure_ratio: f32,
    /// What follows when more do.
    pub failure_action: FailureAction,
    /// What is done first in a slot.
    pub order: Order,
}

/// How long a new task is watched when nothing is said.
const MONITOR: Duration = Duration::from_secs(5);

impl UpdatePolicy {
    /// Reads it; `None` is Docker's default.
    pub fn read(config: Option<&UpdateConfig>) -> Self {
        let Some(config) = config else {
            return Self {
                parallelism: Some(1),
                ..Self::read(Some(&UpdateConfig::default()))
            };
        };
        let span = |nanos: i64| Duration::from_nanos(u64::try_from(nanos).unwrap_or(0));
        Self {
            parallelism: (config.parallelism > 0).then_some(config.parallelism),
            delay: span(config.delay),
            monitor: match span(config.monitor) {
                Duration::ZERO => MONITOR,
                monitor => monitor,
            },
            max_failure_ratio: config.max_failure_ratio.0,
            failure_action: match config.failure_action.as_str() {
                "continue" => FailureAction::Continue,
                "rollback" => FailureAction::Rollback,
                _ => FailureAction::Pause,
            },
            order: match config.order.as_str() {
                "start-first" => Order::StartFirst,
                _ => Order::StopFirst,
            },
        }
    }
}

/// How a service is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EndpointSpec {
    /// `vip` or `dnsrr`; `vip` when empty.
    #[serde(skip_serializing_if = "unset")]
    pub mode: String,
    /// What is published.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortConfig>,
}

/// One published port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PortConfig {
    /// What the user calls it.
    #[serde(skip_serializing_if = "unset")]
    pub name: String,
    /// `tcp`, `udp` or `sctp`; `tcp` when empty.
    #[serde(skip_serializing_if = "unset")]
    pub protocol: String,
    /// In the container.
    #[serde(skip_serializing_if = "unset")]
    pub target_port: u16,
    /// On the machines; chosen when zero.
    #[serde(skip_serializing_if = "unset")]
    pub published_port: u16,
    /// `ingress` or `host`; `ingress` when empty.
    #[serde(skip_serializing_if = "unset")]
    pub publish_mode: String,
}

impl PortConfig {
    /// Whether it is published on the task's own machine alone.
    pub fn is_host(&self) -> bool {
        self.publish_mode == "host"
    }

    /// `tcp`, `udp` or `sctp`.
    pub fn protocol(&self) -> &str {
        match self.protocol.as_str() {
            "" => "tcp",
            protocol => protocol,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_a_client_wrote_comes_back() {
        let written = json!({
            "Name": "web",
            "Labels": {"a": "b"},
            "TaskTemplate": {
                "ContainerSpec": {"Image": "nginx:1"},
                "ForceUpdate": 2,
                "Runtime": "container",
            },
            "Mode": {"Replicated": {"Replicas": 3}},
            "UpdateConfig": {
                "Parallelism": 2, "Delay": 10_000_000_000_i64, "FailureAction": "rollback",
                "Monitor": 1_000_000_000, "MaxFailureRatio": 0.5, "Order": "start-first",
            },
            "EndpointSpec": {
                "Mode": "vip",
                "Ports": [{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "ingress"}],
            },
        });
        let spec: ServiceSpec = serde_json::from_value(written.clone()).unwrap();
        assert_eq!(serde_json::to_value(&spec).unwrap(), written);
        let policy = UpdatePolicy::read(spec.update_config.as_ref());
        assert_eq!(policy.parallelism, Some(2));
        assert_eq!(policy.delay, Duration::from_secs(10));
        assert_eq!(policy.monitor, Duration::from_secs(1));
        assert_eq!(policy.failure_action, FailureAction::Rollback);
        assert_eq!(policy.order, Order::StartFirst);
    }

    #[test]
    fn modes_are_read_with_dockers_defaults() {
        let read = |mode: Value| {
            let mode: ServiceMode = serde_json::from_value(mode).unwrap();
            mode.read()
        };
        assert_eq!(read(json!({})), Mode::Replicated { replicas: 1 });
        let none = json!({"Replicated": {"Replicas": 0}});
        assert_eq!(read(none), Mode::Replicated { replicas: 0 });
        assert_eq!(read(json!({"Global": {}})), Mode::Global);
        assert_eq!(read(json!({"GlobalJob": {}})), Mode::GlobalJob);
        let job = |concurrent, total| Mode::ReplicatedJob { concurrent, total };
        assert_eq!(read(json!({"ReplicatedJob": {}})), job(1, 1));
        let three = json!({"ReplicatedJob": {"MaxConcurrent": 3}});
        assert_eq!(read(three), job(3, 3));
        let ten = json!({"ReplicatedJob": {"TotalCompletions": 10}});
        assert_eq!(read(ten), job(1, 10));
    }

    #[test]
    fn a_zero_that_was_written_is_no_default() {
        assert_eq!(UpdatePolicy::read(None).parallelism, Some(1));
        let written = UpdateConfig::default();
        assert_eq!(UpdatePolicy::read(Some(&written)).parallelism, None);
        assert_eq!(UpdatePolicy::read(Some(&written)).monitor, MONITOR);
    }
}
