//! A change of roots: begun by an operator, finished when every live node holds a certificate of the new root.
//!
//! The new root's key is certified by the old root as well, and that cross certificate travels in every chain from
//! then on, so a node that was switched off meanwhile still finds its way. Nodes that are down do not hold the
//! rotation up, unlike in Swarm: they renew when they come back.

use std::collections::BTreeSet;

use super::AdminError;
use crate::cluster::store::State;
use crate::identity::ca::{Authority, CaError, check_own_root, issuer_of};
use crate::model::{Change, Cluster, Expect, NodeId, RootCa, RootRotation, Timestamp};

/// The root to rotate to.
#[derive(Clone, Debug)]
pub enum NextRoot {
    /// A new one of the cluster's own.
    Fresh,
    /// The user's.
    Own {
        /// Certificate, PEM.
        cert_pem: String,
        /// Key, PEM.
        key_pem: String,
    },
}

/// Prepares the next root, certified by the present one. A rotation that is under way is superseded.
pub fn begin(
    cluster: &Cluster,
    next: NextRoot,
    now: Timestamp,
) -> Result<RootRotation, AdminError> {
    let mut next = match next {
        NextRoot::Fresh => Authority::generate(now).map_err(internal)?.root().clone(),
        NextRoot::Own { cert_pem, key_pem } => check_own_root(&cert_pem, &key_pem, now)
            .map_err(|error| AdminError::Invalid(error.to_string()))?,
    };
    let present = Authority::load(&cluster.root).map_err(internal)?;
    next.cross_pem = present.cross_sign(&next, now).map_err(internal)?;
    Ok(RootRotation { next })
}

/// The change that ends a rotation, once no node in `alive` holds a certificate of another root.
pub fn finish(state: &State, alive: &BTreeSet<NodeId>) -> Option<Change> {
    let cluster = state.cluster.as_ref()?;
    let rotation = cluster.rotation.as_ref()?;
    let issuer = issuer_of(&rotation.next.cert_pem).ok()?;
    let renewed = alive
        .iter()
        .filter_map(|node| state.nodes.get(node))
        .all(|node| node.certificate.issuer == issuer);
    if !renewed {
        return None;
    }
    let next = Cluster {
        root: rotation.next.clone(),
        rotation: None,
        ..Cluster::clone(cluster)
    };
    Some(Change::PutCluster(
        Expect::Version(cluster.meta.version),
        Box::new(next),
    ))
}

/// The root that issues at present.
pub fn issuing_root(cluster: &Cluster) -> &RootCa {
    cluster
        .rotation
        .as_ref()
        .map_or(&cluster.root, |rotation| &rotation.next)
}

fn internal(error: CaError) -> AdminError {
    AdminError::Internal(error.to_string())
}
