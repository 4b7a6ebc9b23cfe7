//! Docker's swarm object, out only.

use serde::{Deserialize, Serialize};

use super::ObjectVersion;
use super::spec::SwarmSpec;
use super::tls::{Issuers, TlsInfo};
use super::token::JoinTokens;
use crate::model::{Cluster, Timestamp};

/// The pool that networks are cut from when the cluster names none.
const DEFAULT_POOL: &str = "10.0.0.0/8";

/// `ClusterInfo`: the swarm without its tokens, and `Swarm` with them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct SwarmDto {
    #[serde(rename = "ID")]
    id: String,
    version: ObjectVersion,
    created_at: Timestamp,
    updated_at: Timestamp,
    spec: SwarmSpec,
    #[serde(rename = "TLSInfo")]
    tls_info: TlsInfo,
    root_rotation_in_progress: bool,
    default_addr_pool: Vec<String>,
    subnet_size: u32,
    data_path_port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    join_tokens: Option<JoinTokens>,
}

impl SwarmDto {
    /// `GET /swarm`.
    pub(in crate::api) fn with_tokens(cluster: &Cluster) -> Self {
        Self {
            join_tokens: Some(JoinTokens::of(cluster)),
            ..Self::info(cluster)
        }
    }

    /// The cluster within `GET /info`: no tokens.
    pub(in crate::api) fn info(cluster: &Cluster) -> Self {
        let pools = match cluster.address_pools.as_slice() {
            [] => vec![DEFAULT_POOL.to_owned()],
            pools => pools.to_vec(),
        };
        Self {
            id: cluster.id.to_string(),
            version: ObjectVersion {
                index: cluster.meta.version,
            },
            created_at: cluster.meta.created_at,
            updated_at: cluster.meta.updated_at,
            spec: SwarmSpec::of(&cluster.spec),
            tls_info: Issuers::of(cluster).wanted(),
            root_rotation_in_progress: cluster.rotation.is_some(),
            default_addr_pool: pools,
            subnet_size: cluster.subnet_size,
            data_path_port: cluster.data_path_port,
            join_tokens: None,
        }
    }
}
