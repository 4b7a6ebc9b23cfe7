//! Join tokens as they are shown: `SWMTKN-1-<digest of the root>-<secret>`.

use serde::{Deserialize, Serialize};

use crate::identity::{JoinToken, RootDigest};
use crate::model::Cluster;
use crate::model::cluster::Secret;

/// `JoinTokens`; `Peer` is Skein's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(in crate::api) struct JoinTokens {
    pub(in crate::api) worker: String,
    pub(in crate::api) manager: String,
    pub(in crate::api) peer: String,
}

impl JoinTokens {
    /// The tokens that admit to `cluster`.
    pub(in crate::api) fn of(cluster: &Cluster) -> Self {
        let digest = RootDigest::of_pem(&cluster.root.cert_pem);
        let token = |secret: &Secret| {
            let token = JoinToken {
                digest,
                secret: secret.clone(),
                addresses: Vec::new(),
            };
            token.to_string()
        };
        Self {
            worker: token(&cluster.join.worker),
            manager: token(&cluster.join.manager),
            peer: token(&cluster.join.peer),
        }
    }
}
