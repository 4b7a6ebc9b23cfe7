//! Changes of the cluster object: settings, join secrets, the start of a root rotation.

use std::time::Duration;

use super::AdminError;
use super::rotation::{self, NextRoot};
use crate::cluster::store::State;
use crate::model::cluster::Secret;
use crate::model::{Change, Cluster, ClusterSpec, Expect, Timestamp};

/// The shortest life of a node certificate, Docker's.
pub const MIN_CERT_EXPIRY: Duration = Duration::from_secs(3600);

/// What a client wants of the cluster object.
#[derive(Clone, Debug, Default)]
pub struct SettingsChange {
    /// The whole spec.
    pub spec: ClusterSpec,
    /// Replace the secret of the worker token.
    pub rotate_worker: bool,
    /// Replace the secret of the manager token.
    pub rotate_manager: bool,
    /// Replace the secret of the peer token.
    pub rotate_peer: bool,
    /// Replace the unlock key.
    pub rotate_unlock_key: bool,
    /// A root of the user's own to rotate to: certificate and key, PEM.
    pub own_root: Option<(String, String)>,
}

/// The change that makes the cluster object so; `secret` gives fresh join secrets.
///
/// A root rotation begins when `ForceRotate` has risen or a root of the user's own is given.
pub fn update(
    state: &State,
    version: u64,
    wanted: SettingsChange,
    now: Timestamp,
    mut secret: impl FnMut() -> Secret,
) -> Result<Change, AdminError> {
    let current = state.cluster.as_ref().ok_or(AdminError::NoLeader)?;
    if current.meta.version != version {
        return Err(AdminError::OutOfSequence);
    }
    check_spec(&wanted.spec)?;
    let mut next = Cluster::clone(current);
    for (rotate, slot) in [
        (wanted.rotate_worker, &mut next.join.worker),
        (wanted.rotate_manager, &mut next.join.manager),
        (wanted.rotate_peer, &mut next.join.peer),
    ] {
        if rotate {
            *slot = secret();
        }
    }
    let root = match wanted.own_root {
        Some((cert_pem, key_pem)) => Some(NextRoot::Own { cert_pem, key_pem }),
        None if wanted.spec.force_rotate > current.spec.force_rotate => Some(NextRoot::Fresh),
        None => None,
    };
    if let Some(root) = root {
        next.rotation = Some(rotation::begin(current, root, now)?);
    }
    next.spec = wanted.spec;
    Ok(Change::PutCluster(Expect::Version(version), Box::new(next)))
}

/// What holds for the spec of a new cluster as well.
pub fn check_spec(spec: &ClusterSpec) -> Result<(), AdminError> {
    let invalid = |words: &str| Err(AdminError::Invalid(words.into()));
    if spec.name != "default" {
        return invalid("swarm spec must be named \"default\"");
    }
    if spec.cert_expiry_ns < MIN_CERT_EXPIRY.as_nanos() as i64 {
        return invalid("minimum certificate expiry time is 1h0m0s");
    }
    if spec.heartbeat_period_ns < 0 {
        return invalid("heartbeat time period cannot be a negative duration");
    }
    if spec.auto_lock {
        return invalid("autolock is not available: this version of Skein keeps no unlock key");
    }
    if !spec.external_cas.is_empty() {
        return invalid(
            "external CAs are not supported: give the cluster a root of your own with --ca-cert and --ca-key",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::Meta;

    fn state() -> State {
        let cluster = Cluster {
            meta: Meta {
                version: 7,
                ..Meta::default()
            },
            ..Cluster::default()
        };
        State {
            cluster: Some(Arc::new(cluster)),
            ..State::default()
        }
    }

    fn run(version: u64, wanted: SettingsChange) -> Result<Cluster, AdminError> {
        let fresh = || Secret("fresh".into());
        match update(&state(), version, wanted, Timestamp::default(), fresh)? {
            Change::PutCluster(Expect::Version(7), cluster) => Ok(*cluster),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_the_secrets_that_were_named_change() {
        let wanted = SettingsChange {
            rotate_manager: true,
            ..SettingsChange::default()
        };
        let join = run(7, wanted).unwrap().join;
        assert_eq!(join.manager.0, "fresh");
        assert_eq!((join.worker.0.as_str(), join.peer.0.as_str()), ("", ""));
    }

    #[test]
    fn a_stale_version_is_out_of_sequence() {
        assert_eq!(
            run(6, SettingsChange::default()).unwrap_err(),
            AdminError::OutOfSequence
        );
    }

    #[test]
    fn bad_specs_are_refused_in_dockers_words() {
        let check = |spec: ClusterSpec, words: &str| {
            let wanted = SettingsChange {
                spec,
                ..SettingsChange::default()
            };
            let error = run(7, wanted).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        let good = ClusterSpec::default;
        check(
            ClusterSpec {
                name: "x".into(),
                ..good()
            },
            "must be named",
        );
        check(
            ClusterSpec {
                cert_expiry_ns: 1,
                ..good()
            },
            "minimum certificate expiry time",
        );
        check(
            ClusterSpec {
                heartbeat_period_ns: -1,
                ..good()
            },
            "negative",
        );
    }
}
