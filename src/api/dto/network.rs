//! Docker's network object, in and out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::network::{HOST, IpamConfig, IpamOptions, NONE, OVERLAY};
use crate::model::{Network, NetworkSpec, Node, Timestamp};

/// Docker's mark of networks that nobody has made.
const PREDEFINED: &str = "com.docker.swarm.predefined";

/// Characters of a node's ID by which Docker's users know it as a peer.
const PEER_NAME: usize = 12;

/// `Network`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct NetworkDto {
    pub(in crate::api) name: String,
    /// The name as well, of those that every machine has: they are the same everywhere.
    pub(in crate::api) id: String,
    pub(in crate::api) created: Timestamp,
    pub(in crate::api) scope: &'static str,
    pub(in crate::api) driver: String,
    #[serde(rename = "EnableIPv4")]
    enable_ipv4: bool,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: bool,
    #[serde(rename = "IPAM")]
    ipam: Ipam,
    internal: bool,
    pub(in crate::api) attachable: bool,
    pub(in crate::api) ingress: bool,
    config_from: ConfigFrom,
    config_only: bool,
    containers: BTreeMap<String, String>,
    options: BTreeMap<String, String>,
    pub(in crate::api) labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    peers: Vec<Peer>,
}

/// `PeerInfo`: a node on which the network is.
#[derive(Clone, Debug, Serialize)]
pub(in crate::api) struct Peer {
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "IP")]
    ip: String,
}

impl Peer {
    pub(in crate::api) fn of(node: &Node) -> Self {
        let name = node.id.to_string();
        Self {
            name: name.chars().take(PEER_NAME).collect(),
            ip: node
                .addresses
                .first()
                .map(|addr| addr.ip().to_string())
                .unwrap_or_default(),
        }
    }
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Ipam {
    driver: String,
    options: Option<BTreeMap<String, String>>,
    config: Vec<IpamConfig>,
}

/// `ConfigFrom`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(in crate::api) struct ConfigFrom {
    network: String,
}

impl NetworkDto {
    /// Both networks that every machine has, as a machine's or, as services see them, the cluster's.
    pub(in crate::api) fn of_machines(of_cluster: bool) -> [Self; 2] {
        let mark = || of_cluster.then(|| (PREDEFINED.to_owned(), "true".to_owned()));
        [HOST, NONE].map(|name| Self {
            name: name.into(),
            id: name.into(),
            created: Timestamp::default(),
            scope: if of_cluster { "swarm" } else { "local" },
            driver: if name == NONE { "null" } else { name }.into(),
            enable_ipv4: true,
            enable_ipv6: false,
            ipam: Ipam {
                driver: "default".into(),
                options: None,
                config: Vec::new(),
            },
            internal: false,
            attachable: false,
            ingress: false,
            config_from: ConfigFrom::default(),
            config_only: false,
            containers: BTreeMap::new(),
            options: BTreeMap::new(),
            labels: mark().into_iter().collect(),
            peers: Vec::new(),
        })
    }

    /// A network of the cluster.
    pub(in crate::api) fn of(network: &Network) -> Self {
        let spec = &network.spec;
        let ipam = spec.ipam.as_ref();
        let options = ipam.map(|ipam| ipam.options.clone());
        Self {
            name: spec.name.clone(),
            id: network.id.to_string(),
            created: network.meta.created_at,
            scope: "swarm",
            driver: spec.driver.clone(),
            enable_ipv4: true,
            enable_ipv6: spec.enable_ipv6,
            ipam: Ipam {
                driver: match ipam.map_or("", |ipam| ipam.driver.as_str()) {
                    "" => "default".into(),
                    driver => driver.into(),
                },
                options: options.filter(|options| !options.is_empty()),
                config: network.pools.clone(),
            },
            internal: spec.internal,
            attachable: spec.attachable,
            ingress: spec.ingress,
            config_from: ConfigFrom::default(),
            config_only: false,
            containers: BTreeMap::new(),
            options: spec.options.clone(),
            labels: spec.labels.clone(),
            peers: Vec::new(),
        }
    }

    /// With the nodes on which it is.
    pub(in crate::api) fn with_peers(self, peers: Vec<Peer>) -> Self {
        Self { peers, ..self }
    }

    /// Whether nobody has made it.
    pub(in crate::api) fn is_builtin(&self) -> bool {
        self.driver != OVERLAY
    }
}

/// `NetworkCreateRequest`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(in crate::api) struct NetworkCreate {
    pub(in crate::api) name: String,
    pub(in crate::api) driver: String,
    pub(in crate::api) scope: String,
    #[serde(rename = "EnableIPv4")]
    pub(in crate::api) enable_ipv4: Option<bool>,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: Option<bool>,
    #[serde(rename = "IPAM")]
    pub(in crate::api) ipam: Option<IpamOptions>,
    internal: bool,
    pub(in crate::api) attachable: bool,
    pub(in crate::api) ingress: bool,
    pub(in crate::api) config_only: bool,
    pub(in crate::api) config_from: Option<ConfigFrom>,
    options: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
}

impl NetworkCreate {
    /// Whether it is to be configured as another is.
    pub(in crate::api) fn is_copied(&self) -> bool {
        let from = self.config_from.as_ref();
        from.is_some_and(|from| !from.network.is_empty())
    }
}

impl From<NetworkCreate> for NetworkSpec {
    fn from(order: NetworkCreate) -> Self {
        Self {
            name: order.name,
            labels: order.labels,
            driver: order.driver,
            options: order.options,
            ipam: order.ipam,
            internal: order.internal,
            attachable: order.attachable,
            ingress: order.ingress,
            enable_ipv6: order.enable_ipv6.unwrap_or(false),
            scope: order.scope,
        }
    }
}

/// The answer to a creation.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct NetworkCreated {
    pub(in crate::api) id: String,
    pub(in crate::api) warning: String,
}

/// The answer to a prune.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct NetworksPruned {
    /// `null` when there are none, as Docker has it.
    pub(in crate::api) networks_deleted: Option<Vec<String>>,
}
