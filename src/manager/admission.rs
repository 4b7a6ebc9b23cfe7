//! Who is let in, as what, and with which certificate.
//!
//! Called by [`term`](super::term) for each join request and each renewal. It signs and it plans the
//! node's record; it commits nothing itself, and a certificate is handed out only after the record is.

use std::time::Duration;

use super::rotation::issuing_root;
use crate::cluster::store::State;
use crate::identity::ca::{Authority, CaError, Grant, Issued, node_of_csr};
use crate::model::node::CertificateRecord;
use crate::model::{
    Change, Cluster, Expect, JoinKind, Node, NodeId, NodeSpec, Role, Standing, Timestamp,
};
use crate::wire::join::JoinBody;

/// Clocks may differ by as much as certificates are backdated.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(3600);

/// Why nobody is let in. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum AdmissionError {
    /// The key was removed from the cluster; a new key (after `skein leave`) is a new node.
    #[error(
        "node {0} was removed from this cluster: run \"skein leave --force\" there and join again with a token"
    )]
    Removed(NodeId),
    /// A certificate is asked for a node that is not a member.
    #[error("node {0} is not a member of this cluster: join with a token")]
    Stranger(NodeId),
    /// The joining machine's clock is wrong.
    #[error(
        "this machine's clock is {minutes} minutes {direction} the cluster's: set it and join again"
    )]
    Clock {
        /// By how much.
        minutes: u64,
        /// `ahead of` or `behind`.
        direction: &'static str,
    },
    /// The request is no valid PKCS#10, or the root cannot sign.
    #[error("the certificate request was not signed")]
    Signing(#[source] CaError),
}

/// A certificate and the change of the node's record that must be committed before it is handed out.
#[derive(Debug)]
pub struct Admitted {
    /// What the node gets.
    pub issued: Issued,
    /// What it is.
    pub standing: Standing,
    /// What to commit first.
    pub change: Change,
}

/// Admits a new node, or the same one again when the first answer was lost on the way.
pub fn admit(
    state: &State,
    cluster: &Cluster,
    kind: JoinKind,
    body: &JoinBody,
    now: Timestamp,
) -> Result<Admitted, AdmissionError> {
    check_clock(body.clock, now)?;
    let id = node_of_csr(&body.csr_der).map_err(AdmissionError::Signing)?;
    if state.removed.contains_key(&id) {
        return Err(AdmissionError::Removed(id));
    }
    let (standing, pinned) = match kind {
        JoinKind::Worker => (Standing::Worker, Some(Role::Worker)),
        JoinKind::Manager => (Standing::Eligible, Some(Role::Manager)),
        JoinKind::Peer => (Standing::Eligible, None),
    };
    let known = state.nodes.get(&id);
    let issued = issue(cluster, &body.csr_der, standing, now)?;
    let node = Node {
        spec: NodeSpec {
            availability: body.availability,
            ..known.map_or_else(NodeSpec::default, |node| node.spec.clone())
        },
        role: known.map_or(Role::Worker, |node| node.role),
        id,
        standing,
        pinned,
        description: body.description.0.clone(),
        addresses: body.addresses.clone(),
        certificate: record(&issued),
        ..Node::default()
    };
    let expect = known.map_or(Expect::Absent, |node| Expect::Version(node.meta.version));
    Ok(Admitted {
        issued,
        standing,
        change: Change::PutNode(expect, Box::new(node)),
    })
}

/// Gives a member another certificate for its key: its own renewal, a new standing, or a new root.
pub fn renew(
    state: &State,
    cluster: &Cluster,
    csr_der: &[u8],
    now: Timestamp,
) -> Result<Admitted, AdmissionError> {
    let id = node_of_csr(csr_der).map_err(AdmissionError::Signing)?;
    if state.removed.contains_key(&id) {
        return Err(AdmissionError::Removed(id));
    }
    let known = state.nodes.get(&id).ok_or(AdmissionError::Stranger(id))?;
    let issued = issue(cluster, csr_der, known.standing, now)?;
    let node = Node {
        certificate: record(&issued),
        ..Node::clone(known)
    };
    Ok(Admitted {
        issued,
        standing: known.standing,
        change: Change::PutNode(Expect::Version(known.meta.version), Box::new(node)),
    })
}

/// All roots that a member trusts, PEM: the present one and, during a rotation, the next.
pub fn trusted_roots(cluster: &Cluster) -> String {
    let mut pem = cluster.root.cert_pem.clone();
    if let Some(rotation) = &cluster.rotation {
        pem.push_str(&rotation.next.cert_pem);
    }
    pem
}

fn issue(
    cluster: &Cluster,
    csr_der: &[u8],
    standing: Standing,
    now: Timestamp,
) -> Result<Issued, AdmissionError> {
    let grant = Grant {
        cluster: cluster.id,
        standing,
        now,
        validity: Duration::from_nanos(cluster.spec.cert_expiry_ns.unsigned_abs()),
    };
    Authority::load(issuing_root(cluster))
        .and_then(|authority| authority.issue(csr_der, &grant))
        .map_err(AdmissionError::Signing)
}

fn record(issued: &Issued) -> CertificateRecord {
    CertificateRecord {
        issuer: issued.issuer.clone(),
        not_after: issued.not_after,
    }
}

fn check_clock(theirs: Timestamp, ours: Timestamp) -> Result<(), AdmissionError> {
    let (gap, direction) = if theirs > ours {
        (theirs.since(ours), "ahead of")
    } else {
        (ours.since(theirs), "behind")
    };
    if gap <= CLOCK_TOLERANCE {
        return Ok(());
    }
    Err(AdmissionError::Clock {
        minutes: gap.as_secs() / 60,
        direction,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_by_hours_is_named() {
        let ours = Timestamp::from_nanos(1_900_000_000_000_000_000);
        let two_hours = Duration::from_secs(7200);
        let refusal = |theirs| check_clock(theirs, ours).unwrap_err().to_string();
        assert!(refusal(ours.after(two_hours)).contains("120 minutes ahead of the cluster's"));
        let behind = check_clock(ours, ours.after(two_hours)).unwrap_err();
        assert!(
            behind
                .to_string()
                .contains("120 minutes behind the cluster's")
        );
        for gap in [Duration::ZERO, CLOCK_TOLERANCE] {
            assert!(check_clock(ours.after(gap), ours).is_ok());
            assert!(check_clock(ours, ours.after(gap)).is_ok());
        }
    }
}
