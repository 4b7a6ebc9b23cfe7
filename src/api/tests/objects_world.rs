//! The secrets, configs and networks of the made-up cluster: what the store lets in is there at once.

use std::sync::Arc;

use super::world::{NOW, World, lock};
use crate::api::backend::Refusal;
use crate::cluster::store::State;
use crate::model::{
    Change, Dependency, DependencyId, DependencyKind, DependencySpec, Expect, Network, NetworkId,
    NetworkSpec, Proposal, Rejection,
};

impl World {
    /// Applies changes as the store does, or says why not.
    pub(super) fn try_apply(&self, changes: Vec<Change>) -> Result<(), Refusal> {
        let mut view = lock(&self.view);
        let mut state = State::clone(&view.state);
        let proposal = Proposal { at: NOW, changes };
        match state.apply(proposal, &mut Vec::new()) {
            Ok(_) => {
                view.state = Arc::new(state);
                Ok(())
            }
            Err(Rejection::OutOfSequence) => Err(Refusal::out_of_sequence()),
            Err(other) => Err(Refusal::conflict(other.to_string())),
        }
    }

    fn next_bits(&self) -> u128 {
        (1 << 101) + u128::from(lock(&self.view).state.version)
    }

    pub(super) fn make_dependency(
        &self,
        kind: DependencyKind,
        spec: DependencySpec,
    ) -> Result<DependencyId, Refusal> {
        let id = DependencyId::from_bits(self.next_bits());
        let one = Dependency {
            id,
            kind,
            spec,
            ..Dependency::default()
        };
        self.try_apply(vec![Change::PutDependency(Expect::Absent, Box::new(one))])?;
        Ok(id)
    }

    pub(super) fn change_dependency(
        &self,
        id: DependencyId,
        version: u64,
        spec: DependencySpec,
    ) -> Result<(), Refusal> {
        let mut one = Dependency::clone(&lock(&self.view).state.objects.dependencies[&id]);
        if !spec.data.is_empty() && spec.data != one.spec.data {
            return Err(Refusal::invalid("only updates to Labels are allowed"));
        }
        one.spec.labels = spec.labels;
        self.try_apply(vec![Change::PutDependency(
            Expect::Version(version),
            Box::new(one),
        )])
    }

    pub(super) fn removal_of_dependency(&self, id: DependencyId) -> Change {
        let version = lock(&self.view).state.objects.dependencies[&id]
            .meta
            .version;
        Change::RemoveDependency(Expect::Version(version), id)
    }

    pub(super) fn make_network(&self, spec: NetworkSpec) -> Result<NetworkId, Refusal> {
        let id = NetworkId::from_bits(self.next_bits());
        let network = Network {
            id,
            spec,
            ..Network::default()
        };
        self.try_apply(vec![Change::PutNetwork(Expect::Absent, Box::new(network))])?;
        Ok(id)
    }

    pub(super) fn end_network(&self, id: NetworkId) -> Result<(), Refusal> {
        let version = lock(&self.view).state.objects.networks[&id].meta.version;
        self.try_apply(vec![Change::RemoveNetwork(Expect::Version(version), id)])
    }
}
