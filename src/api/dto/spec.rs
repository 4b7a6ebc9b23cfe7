//! Docker's swarm spec, in and out.
//!
//! Out, it is complete. In, what is zero or missing means the default, for `init` and for `update` alike, as
//! Docker's daemon does it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::ClusterSpec;
use crate::model::cluster::RaftSpec;

/// The shortest life of a node certificate that Docker takes, in nanoseconds.
const MIN_CERT_EXPIRY_NS: i64 = 3600 * 1_000_000_000;

/// Why a spec is not accepted; Docker's words where it has some.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::api) enum SpecError {
    #[error("swarm spec must be named \"default\"")]
    Name,
    #[error("minimum certificate expiry time is: 1h0m0s")]
    CertExpiry,
    #[error("heartbeat time period cannot be a negative duration")]
    Heartbeat,
    #[error("invalid protocol: {0:?}")]
    Protocol(String),
    #[error("raft ticks must not be negative")]
    Ticks,
    #[error("if a signing CA key is provided, the signing CA cert must also be provided")]
    KeyWithoutCert,
    #[error("a signing CA certificate needs its key: provide the signing CA key as well")]
    CertWithoutKey,
}

/// The whole spec.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(in crate::api) struct SwarmSpec {
    name: String,
    labels: BTreeMap<String, String>,
    orchestration: Orchestration,
    raft: Raft,
    dispatcher: Dispatcher,
    #[serde(rename = "CAConfig")]
    ca_config: CaConfig,
    task_defaults: TaskDefaults,
    pub(in crate::api) encryption_config: Encryption,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Orchestration {
    #[serde(skip_serializing_if = "Option::is_none")]
    task_history_retention_limit: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Raft {
    snapshot_interval: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_old_snapshots: Option<u64>,
    log_entries_for_slow_followers: u64,
    election_tick: i64,
    heartbeat_tick: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Dispatcher {
    #[serde(skip_serializing_if = "super::is_zero")]
    heartbeat_period: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct CaConfig {
    #[serde(skip_serializing_if = "super::is_zero")]
    node_cert_expiry: i64,
    #[serde(rename = "ExternalCAs", skip_serializing_if = "Vec::is_empty")]
    external_cas: Vec<ExternalCa>,
    #[serde(rename = "SigningCACert", skip_serializing)]
    signing_ca_cert: String,
    #[serde(rename = "SigningCAKey", skip_serializing)]
    signing_ca_key: String,
    #[serde(skip_serializing_if = "is_no_rotation")]
    force_rotate: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_no_rotation(count: &u64) -> bool {
    *count == 0
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ExternalCa {
    protocol: String,
    #[serde(rename = "URL")]
    url: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    options: BTreeMap<String, String>,
    #[serde(rename = "CACert")]
    ca_cert: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct TaskDefaults {
    #[serde(skip_serializing_if = "Option::is_none")]
    log_driver: Option<Driver>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Driver {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    options: BTreeMap<String, String>,
}

/// `EncryptionConfig`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(in crate::api) struct Encryption {
    pub(in crate::api) auto_lock_managers: bool,
}

impl SwarmSpec {
    /// As it is shown. The signing certificate and key never are.
    pub(in crate::api) fn of(spec: &ClusterSpec) -> Self {
        Self {
            name: spec.name.clone(),
            labels: spec.labels.clone(),
            orchestration: Orchestration {
                task_history_retention_limit: Some(spec.task_history_limit),
            },
            raft: Raft {
                snapshot_interval: spec.raft.snapshot_interval,
                keep_old_snapshots: Some(spec.raft.keep_old_snapshots),
                log_entries_for_slow_followers: spec.raft.log_entries_for_slow_followers,
                election_tick: spec.raft.election_tick,
                heartbeat_tick: spec.raft.heartbeat_tick,
            },
            dispatcher: Dispatcher {
                heartbeat_period: spec.heartbeat_period_ns,
            },
            ca_config: CaConfig {
                node_cert_expiry: spec.cert_expiry_ns,
                external_cas: shown(&spec.external_cas),
                force_rotate: spec.force_rotate,
                ..CaConfig::default()
            },
            task_defaults: TaskDefaults {
                log_driver: spec.log_driver.as_ref().and_then(read_back),
            },
            encryption_config: Encryption {
                auto_lock_managers: spec.auto_lock,
            },
        }
    }

    /// What it asks for, with defaults for what it leaves out.
    pub(in crate::api) fn checked(&self) -> Result<ClusterSpec, SpecError> {
        let default = ClusterSpec::default();
        if !self.name.is_empty() && self.name != default.name {
            return Err(SpecError::Name);
        }
        let ca = &self.ca_config;
        if ca.node_cert_expiry != 0 && ca.node_cert_expiry < MIN_CERT_EXPIRY_NS {
            return Err(SpecError::CertExpiry);
        }
        if self.dispatcher.heartbeat_period < 0 {
            return Err(SpecError::Heartbeat);
        }
        if self.raft.election_tick < 0 || self.raft.heartbeat_tick < 0 {
            return Err(SpecError::Ticks);
        }
        for external in &ca.external_cas {
            if !external.protocol.eq_ignore_ascii_case("cfssl") {
                return Err(SpecError::Protocol(external.protocol.clone()));
            }
        }
        Ok(ClusterSpec {
            name: default.name,
            labels: self.labels.clone(),
            task_history_limit: self
                .orchestration
                .task_history_retention_limit
                .unwrap_or(default.task_history_limit),
            raft: self.raft.with_defaults(default.raft),
            heartbeat_period_ns: or_default(
                self.dispatcher.heartbeat_period,
                default.heartbeat_period_ns,
            ),
            cert_expiry_ns: or_default(ca.node_cert_expiry, default.cert_expiry_ns),
            external_cas: ca.external_cas.iter().filter_map(stored).collect(),
            force_rotate: ca.force_rotate,
            auto_lock: self.encryption_config.auto_lock_managers,
            log_driver: self.task_defaults.log_driver.as_ref().and_then(stored),
        })
    }

    /// The root that the user brings: certificate and key, PEM.
    pub(in crate::api) fn own_root(&self) -> Result<Option<(String, String)>, SpecError> {
        let (cert, key) = (
            &self.ca_config.signing_ca_cert,
            &self.ca_config.signing_ca_key,
        );
        match (cert.is_empty(), key.is_empty()) {
            (true, true) => Ok(None),
            (false, false) => Ok(Some((cert.clone(), key.clone()))),
            (true, false) => Err(SpecError::KeyWithoutCert),
            (false, true) => Err(SpecError::CertWithoutKey),
        }
    }
}

impl Raft {
    fn with_defaults(&self, default: RaftSpec) -> RaftSpec {
        RaftSpec {
            snapshot_interval: or_default(self.snapshot_interval, default.snapshot_interval),
            keep_old_snapshots: self
                .keep_old_snapshots
                .unwrap_or(default.keep_old_snapshots),
            log_entries_for_slow_followers: or_default(
                self.log_entries_for_slow_followers,
                default.log_entries_for_slow_followers,
            ),
            election_tick: or_default(self.election_tick, default.election_tick),
            heartbeat_tick: or_default(self.heartbeat_tick, default.heartbeat_tick),
        }
    }
}

fn or_default<T: Default + PartialEq>(value: T, default: T) -> T {
    if value == T::default() {
        default
    } else {
        value
    }
}

fn stored<T: Serialize>(value: &T) -> Option<Value> {
    serde_json::to_value(value).ok()
}

fn read_back<T: serde::de::DeserializeOwned>(value: &Value) -> Option<T> {
    serde_json::from_value(value.clone()).ok()
}

fn shown(external: &[Value]) -> Vec<ExternalCa> {
    external.iter().filter_map(read_back).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::go_json::from_value;

    fn spec(value: Value) -> SwarmSpec {
        from_value(value).unwrap()
    }

    #[test]
    fn what_is_left_out_is_dockers_default() {
        assert_eq!(spec(json!({})).checked(), Ok(ClusterSpec::default()));
        let zeros = json!({"Raft": {"ElectionTick": 0}, "Dispatcher": {"HeartbeatPeriod": 0}, "CAConfig": null});
        assert_eq!(spec(zeros).checked(), Ok(ClusterSpec::default()));
    }

    #[test]
    fn what_is_shown_can_be_sent_back() {
        let full = ClusterSpec {
            labels: BTreeMap::from([("Team".into(), "x".into())]),
            task_history_limit: -1,
            heartbeat_period_ns: 7_000_000_000,
            cert_expiry_ns: 3_600_000_000_000,
            external_cas: vec![json!({"Protocol": "cfssl", "URL": "https://ca", "CACert": ""})],
            force_rotate: 3,
            auto_lock: true,
            log_driver: Some(json!({"Name": "json-file", "Options": {"max-size": "1m"}})),
            ..ClusterSpec::default()
        };
        let text = serde_json::to_value(SwarmSpec::of(&full)).unwrap();
        assert_eq!(spec(text).checked(), Ok(full));
    }

    #[test]
    fn it_looks_like_dockers() {
        let text = serde_json::to_string(&SwarmSpec::of(&ClusterSpec::default())).unwrap();
        assert_eq!(
            text,
            r#"{"Name":"default","Labels":{},"Orchestration":{"TaskHistoryRetentionLimit":5},"#
                .to_owned()
                + r#""Raft":{"SnapshotInterval":10000,"KeepOldSnapshots":0,"LogEntriesForSlowFollowers":500,"#
                + r#""ElectionTick":10,"HeartbeatTick":1},"Dispatcher":{"HeartbeatPeriod":5000000000},"#
                + r#""CAConfig":{"NodeCertExpiry":7776000000000000},"TaskDefaults":{},"#
                + r#""EncryptionConfig":{"AutoLockManagers":false}}"#
        );
    }

    #[test]
    fn bad_specs_are_refused_with_a_reason() {
        for (value, error) in [
            (json!({"Name": "other"}), SpecError::Name),
            (
                json!({"CAConfig": {"NodeCertExpiry": 60_000_000_000_i64}}),
                SpecError::CertExpiry,
            ),
            (
                json!({"Dispatcher": {"HeartbeatPeriod": -1}}),
                SpecError::Heartbeat,
            ),
            (json!({"Raft": {"HeartbeatTick": -1}}), SpecError::Ticks),
            (
                json!({"CAConfig": {"ExternalCAs": [{"Protocol": "acme"}]}}),
                SpecError::Protocol("acme".into()),
            ),
        ] {
            assert_eq!(spec(value).checked(), Err(error));
        }
    }

    #[test]
    fn a_root_comes_with_its_key() {
        let root = |cert: &str, key: &str| {
            spec(json!({"CAConfig": {"SigningCACert": cert, "SigningCAKey": key}})).own_root()
        };
        assert_eq!(root("", ""), Ok(None));
        assert_eq!(root("c", "k"), Ok(Some(("c".into(), "k".into()))));
        assert_eq!(root("c", ""), Err(SpecError::CertWithoutKey));
        assert_eq!(root("", "k"), Err(SpecError::KeyWithoutCert));
    }
}
