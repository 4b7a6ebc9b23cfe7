//! What tasks of a version of a service need of networks, and what they lack. Pure.

use std::collections::BTreeSet;
use std::fmt;

use crate::cluster::store::State;
use crate::model::network::{HOST, NONE};
use crate::model::service_spec::EndpointSpec;
use crate::model::task_spec::NetworkAttachmentConfig;
use crate::model::{Network, NetworkId, Template};

/// What tasks need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub(super) places: Vec<Place>,
    /// What keeps them from it.
    pub(super) lack: Option<Lack>,
}

/// A network in which something is to have an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) network: NetworkId,
    pub(super) name: String,
    pub(super) aliases: Vec<String>,
}

/// Why tasks are given no node, in words that are shown to users.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lack {
    /// All addresses of a network are held.
    Addresses(String),
    /// There is none to stand for the service.
    Vip(String),
    /// There is no such network.
    Network(String),
    /// Ports are published, and no network carries them.
    Ingress,
    /// Another service has a port.
    Port(u16, String),
    /// All numbers that may be chosen are in use.
    Ports,
    /// The service was not looked at yet.
    Unseen,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addresses(network) => {
                write!(f, "could not find an available IP on network {network}")
            }
            Self::Vip(network) => write!(
                f,
                "could not find an available IP while allocating VIP on network {network}"
            ),
            Self::Network(network) => write!(f, "network {network} not found"),
            Self::Ingress => {
                f.write_str("service needs ingress network, but no ingress network is present")
            }
            Self::Port(number, service) => {
                write!(f, "port '{number}' is already in use by service {service}")
            }
            Self::Ports => f.write_str("could not find an available port to publish"),
            Self::Unseen => f.write_str("waits for the addresses of its service"),
        }
    }
}

impl Needs {
    /// What tasks of a template need.
    pub fn of(state: &State, template: &Template) -> Self {
        let endpoint = template.endpoint.as_ref();
        match places(state, endpoint, template.task.networks.iter()) {
            Ok(places) => Self { places, lack: None },
            Err(lack) => Self {
                places: Vec::new(),
                lack: Some(lack),
            },
        }
    }

    /// As they are, lacking this.
    #[must_use]
    pub fn lacking(self, lack: Option<Lack>) -> Self {
        Self {
            lack: self.lack.or(lack),
            ..self
        }
    }

    /// Whether nothing is needed, and nothing lacks.
    pub fn is_nothing(&self) -> bool {
        self.places.is_empty() && self.lack.is_none()
    }
}

/// Whether a service publishes ports of the whole cluster.
pub fn is_ingress(endpoint: Option<&EndpointSpec>) -> bool {
    let mut ports = endpoint.into_iter().flat_map(|endpoint| &endpoint.ports);
    ports.any(|port| !port.is_host())
}

/// The networks in which something has addresses: first the one that carries published ports, then those it names.
pub(super) fn places<'n>(
    state: &State,
    endpoint: Option<&EndpointSpec>,
    named: impl Iterator<Item = &'n NetworkAttachmentConfig> + Clone,
) -> Result<Vec<Place>, Lack> {
    if named.clone().any(|one| one.target == HOST) {
        return Ok(Vec::new());
    }
    let mut places = Vec::new();
    if is_ingress(endpoint) {
        let ingress = ingress_of(state).ok_or(Lack::Ingress)?;
        places.push(place(ingress, &[]));
    }
    let mut seen: BTreeSet<NetworkId> = places.iter().map(|place: &Place| place.network).collect();
    for one in named.filter(|one| one.target != NONE) {
        let id = one.target.parse::<NetworkId>().ok();
        let network = id.and_then(|id| state.objects.networks.get(&id));
        let network = network.ok_or_else(|| Lack::Network(one.target.clone()))?;
        if seen.insert(network.id) {
            places.push(place(network, &one.aliases));
        }
    }
    Ok(places)
}

fn place(network: &Network, aliases: &[String]) -> Place {
    Place {
        network: network.id,
        name: network.spec.name.clone(),
        aliases: aliases.to_vec(),
    }
}

/// The network that carries published ports.
pub(super) fn ingress_of(state: &State) -> Option<&Network> {
    let mut networks = state.objects.networks.values();
    networks
        .find(|network| network.spec.ingress)
        .map(AsRef::as_ref)
}
