//! Docker's network object, out: the networks that every machine has.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::Timestamp;

/// Docker's mark of networks that nobody has made.
const PREDEFINED: &str = "com.docker.swarm.predefined";

/// `Network`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct NetworkDto {
    /// Also its ID: there is one on every machine, and it is the same everywhere.
    pub(in crate::api) name: &'static str,
    id: &'static str,
    created: Timestamp,
    scope: &'static str,
    driver: &'static str,
    #[serde(rename = "EnableIPv4")]
    enable_ipv4: bool,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: bool,
    #[serde(rename = "IPAM")]
    ipam: Ipam,
    internal: bool,
    attachable: bool,
    ingress: bool,
    config_from: ConfigFrom,
    config_only: bool,
    containers: BTreeMap<String, String>,
    options: BTreeMap<String, String>,
    pub(in crate::api) labels: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Ipam {
    driver: &'static str,
    options: Option<()>,
    config: [(); 0],
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ConfigFrom {
    network: &'static str,
}

impl NetworkDto {
    /// The network of this name, as one of a machine or, as services see it, of the cluster.
    pub(in crate::api) fn of(name: &'static str, of_cluster: bool) -> Self {
        let mark = of_cluster.then(|| (PREDEFINED.to_owned(), "true".to_owned()));
        Self {
            name,
            id: name,
            created: Timestamp::default(),
            scope: if of_cluster { "swarm" } else { "local" },
            driver: if name == "none" { "null" } else { name },
            enable_ipv4: true,
            enable_ipv6: false,
            ipam: Ipam {
                driver: "default",
                options: None,
                config: [],
            },
            internal: false,
            attachable: false,
            ingress: false,
            config_from: ConfigFrom { network: "" },
            config_only: false,
            containers: BTreeMap::new(),
            options: BTreeMap::new(),
            labels: mark.into_iter().collect(),
        }
    }

    /// What drives it.
    pub(in crate::api) fn driver(&self) -> &str {
        self.driver
    }
}
