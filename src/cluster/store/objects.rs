//! Secrets, configs and networks in the state, found by name as well as by ID.
//!
//! The names are made of the objects and never stored. That a name has one object of its kind is seen to here, because
//! no version can express it; who still uses an object is the leader's to see, before it proposes a removal.

use std::sync::Arc;

use imbl::OrdMap;

use crate::model::{Dependency, DependencyId, DependencyKind, Network, NetworkId, Rejection};

/// Secrets, configs and networks, as of one version. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Objects {
    /// The secrets and the configs.
    pub dependencies: OrdMap<DependencyId, Arc<Dependency>>,
    /// The networks.
    pub networks: OrdMap<NetworkId, Arc<Network>>,
    names: OrdMap<(DependencyKind, String), DependencyId>,
    network_names: OrdMap<String, NetworkId>,
}

impl Objects {
    /// The secrets, or the configs.
    pub fn dependencies_of(&self, kind: DependencyKind) -> impl Iterator<Item = &Arc<Dependency>> {
        let all = self.dependencies.values();
        all.filter(move |one| one.kind == kind)
    }

    /// The secret, or the config, of this name.
    pub fn dependency_named(&self, kind: DependencyKind, name: &str) -> Option<&Arc<Dependency>> {
        let id = self.names.get(&(kind, name.to_owned()))?;
        self.dependencies.get(id)
    }

    /// The network of this name.
    pub fn network_named(&self, name: &str) -> Option<&Arc<Network>> {
        self.networks.get(self.network_names.get(name)?)
    }

    /// What a snapshot holds, with the names made anew.
    pub(super) fn restore(
        dependencies: impl IntoIterator<Item = Dependency>,
        networks: impl IntoIterator<Item = Network>,
    ) -> Self {
        let mut objects = Self::default();
        for dependency in dependencies {
            objects.put_dependency(dependency);
        }
        for network in networks {
            objects.put_network(network);
        }
        objects
    }

    /// Whether a secret's or config's name is no other's of its kind.
    pub(super) fn may_be_called(&self, dependency: &Dependency) -> Result<(), Rejection> {
        let (kind, name) = (dependency.kind, &dependency.spec.name);
        match self.dependency_named(kind, name) {
            Some(owner) if owner.id != dependency.id => {
                Err(Rejection::Taken(kind.name().into(), name.clone()))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether a network's name is no other's.
    pub(super) fn may_be_named(&self, network: &Network) -> Result<(), Rejection> {
        match self.network_named(&network.spec.name) {
            Some(owner) if owner.id != network.id => {
                Err(Rejection::NetworkTaken(network.spec.name.clone()))
            }
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn put_dependency(&mut self, dependency: Dependency) -> Arc<Dependency> {
        self.remove_dependency(dependency.id);
        let key = (dependency.kind, dependency.spec.name.clone());
        self.names.insert(key, dependency.id);
        let dependency = Arc::new(dependency);
        self.dependencies.insert(dependency.id, dependency.clone());
        dependency
    }

    pub(super) fn remove_dependency(&mut self, id: DependencyId) {
        if let Some(old) = self.dependencies.remove(&id) {
            let key = (old.kind, old.spec.name.clone());
            if self.names.get(&key) == Some(&id) {
                self.names.remove(&key);
            }
        }
    }

    pub(super) fn put_network(&mut self, network: Network) -> Arc<Network> {
        self.remove_network(network.id);
        self.network_names
            .insert(network.spec.name.clone(), network.id);
        let network = Arc::new(network);
        self.networks.insert(network.id, network.clone());
        network
    }

    pub(super) fn remove_network(&mut self, id: NetworkId) {
        if let Some(old) = self.networks.remove(&id)
            && self.network_names.get(&old.spec.name) == Some(&id)
        {
            self.network_names.remove(&old.spec.name);
        }
    }
}
