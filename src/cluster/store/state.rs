//! The state that the log makes: the cluster, its nodes, who was shut out, services and tasks, secrets, configs and
//! networks.
//!
//! [`State::apply`] is a function of values: every replica that applies the same entries in the same
//! order has the same state. It reads no clock and knows no consensus. [`super::machine`] calls it.

use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;

use super::objects::Objects;
use super::work::Work;
use crate::model::{
    Change, Cluster, Dependency, DependencyId, Expect, Meta, Network, NetworkId, Node, NodeId,
    Proposal, Rejection, Service, ServiceId, Task, TaskId, Timestamp,
};

/// What the cluster has decided, as of one version. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Rises with each write to any object; the version of the object written last.
    pub version: u64,
    /// The cluster object; `None` before the bootstrap.
    pub cluster: Option<Arc<Cluster>>,
    /// The members.
    pub nodes: OrdMap<NodeId, Arc<Node>>,
    /// Nodes that were removed, and when. They stay out for good.
    pub removed: OrdMap<NodeId, Timestamp>,
    /// Services and tasks.
    pub work: Work,
    /// Secrets, configs and networks.
    pub objects: Objects,
}

/// One object's change, as it was applied here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateEvent {
    /// The store's version with it.
    pub version: u64,
    /// What changed.
    pub changed: Changed,
}

/// An object before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// The cluster object.
    Cluster {
        /// `None` when it was created.
        old: Option<Arc<Cluster>>,
        /// As it is now.
        new: Arc<Cluster>,
    },
    /// A node.
    Node {
        /// Which.
        id: NodeId,
        /// `None` when it was created.
        old: Option<Arc<Node>>,
        /// `None` when it was removed.
        new: Option<Arc<Node>>,
    },
    /// A service.
    Service {
        /// Which.
        id: ServiceId,
        /// `None` when it was created.
        old: Option<Arc<Service>>,
        /// `None` when it was removed.
        new: Option<Arc<Service>>,
    },
    /// A task.
    Task {
        /// Which.
        id: TaskId,
        /// `None` when it was created.
        old: Option<Arc<Task>>,
        /// `None` when it was removed.
        new: Option<Arc<Task>>,
    },
    /// A secret or a config.
    Dependency {
        /// Which.
        id: DependencyId,
        /// `None` when it was created.
        old: Option<Arc<Dependency>>,
        /// `None` when it was removed.
        new: Option<Arc<Dependency>>,
    },
    /// A network.
    Network {
        /// Which.
        id: NetworkId,
        /// `None` when it was created.
        old: Option<Arc<Network>>,
        /// `None` when it was removed.
        new: Option<Arc<Network>>,
    },
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is new.
    Created,
    /// It is another.
    Updated,
    /// It is gone.
    Removed,
}

impl StateEvent {
    /// What happened to the object.
    pub fn action(&self) -> Action {
        let (old, new) = match &self.changed {
            Changed::Cluster { old, .. } => (old.is_some(), true),
            Changed::Node { old, new, .. } => (old.is_some(), new.is_some()),
            Changed::Service { old, new, .. } => (old.is_some(), new.is_some()),
            Changed::Task { old, new, .. } => (old.is_some(), new.is_some()),
            Changed::Dependency { old, new, .. } => (old.is_some(), new.is_some()),
            Changed::Network { old, new, .. } => (old.is_some(), new.is_some()),
        };
        match (old, new) {
            (false, _) => Action::Created,
            (true, true) => Action::Updated,
            (true, false) => Action::Removed,
        }
    }
}

impl State {
    /// Applies all of a proposal or, when a guard does not hold, nothing.
    ///
    /// Returns the version after it; what changed is appended to `events`.
    pub fn apply(
        &mut self,
        proposal: Proposal,
        events: &mut Vec<StateEvent>,
    ) -> Result<u64, Rejection> {
        let before = events.len();
        let mut next = self.clone();
        for change in proposal.changes {
            if let Err(rejection) = next.apply_change(change, proposal.at, events) {
                events.truncate(before);
                return Err(rejection);
            }
        }
        *self = next;
        Ok(self.version)
    }

    fn apply_change(
        &mut self,
        change: Change,
        at: Timestamp,
        events: &mut Vec<StateEvent>,
    ) -> Result<(), Rejection> {
        let changed = match change {
            Change::PutCluster(expect, cluster) => self.put_cluster(expect, *cluster, at)?,
            Change::PutNode(expect, node) => self.put_node(expect, *node, at)?,
            Change::RemoveNode(expect, id) => self.remove_node(expect, id, at)?,
            Change::PutService(expect, service) => self.put_service(expect, *service, at)?,
            Change::RemoveService(expect, id) => self.remove_service(expect, id, at)?,
            Change::PutTemplate(service, version, template) => {
                self.work.keep_template(service, version, template);
                return Ok(());
            }
            Change::PutTask(expect, task) => self.put_task(expect, *task, at)?,
            Change::RemoveTask(expect, id) => self.remove_task(expect, id, at)?,
            Change::PutDependency(expect, one) => self.put_dependency(expect, *one, at)?,
            Change::RemoveDependency(expect, id) => self.remove_dependency(expect, id, at)?,
            Change::PutNetwork(expect, network) => self.put_network(expect, *network, at)?,
            Change::RemoveNetwork(expect, id) => self.remove_network(expect, id, at)?,
        };
        events.push(StateEvent {
            version: self.version,
            changed,
        });
        Ok(())
    }

    fn put_cluster(
        &mut self,
        expect: Expect,
        mut cluster: Cluster,
        at: Timestamp,
    ) -> Result<Changed, Rejection> {
        let old = self.cluster.clone();
        cluster.meta = self.stamp(expect, old.as_ref().map(|old| old.meta), at)?;
        let new = Arc::new(cluster);
        self.cluster = Some(new.clone());
        Ok(Changed::Cluster { old, new })
    }

    fn put_node(
        &mut self,
        expect: Expect,
        mut node: Node,
        at: Timestamp,
    ) -> Result<Changed, Rejection> {
        let id = node.id;
        if self.removed.contains_key(&id) {
            return Err(Rejection::Removed(id));
        }
        let old = self.nodes.get(&id).cloned();
        node.meta = self.stamp(expect, old.as_ref().map(|old| old.meta), at)?;
        let new = Arc::new(node);
        self.nodes.insert(id, new.clone());
        let new = Some(new);
        Ok(Changed::Node { id, old, new })
    }

    fn remove_node(
        &mut self,
        expect: Expect,
        id: NodeId,
        at: Timestamp,
    ) -> Result<Changed, Rejection> {
        let old = self.nodes.get(&id).cloned().ok_or(Rejection::NotFound)?;
        self.stamp(expect, Some(old.meta), at)?;
        self.nodes.remove(&id);
        self.removed.insert(id, at);
        let (old, new) = (Some(old), None);
        Ok(Changed::Node { id, old, new })
    }

    fn put_service(
        &mut self,
        expect: Expect,
        mut service: Service,
        at: Timestamp,
    ) -> Result<Changed, Rejection> {
        self.work.may_be_called(&service)?;
        let id = service.id;
        let old = self.work.services.get(&id).cloned();
        service.meta = self.stamp(expect, old.as_ref().map(|old| old.meta), at)?;
        let new = Some(self.work.put_service(service));
        Ok(Changed::Service { id, old, new })
    }

    fn remove_service(
        &mut self,
        expect: Expect,
        id: ServiceId,
        at: Timestamp,
    ) -> Result<Changed, Rejection> {
        let old = self.work.services.get(&id).cloned();
        let old = old.ok_or(Rejection::NotFound)?;
        self.stamp(expect, Some(old.meta), at)?;
        self.work.remove_service(id);
        let (old, new) = (Some(old), None);
        Ok(Changed::Service { id, old, new })
    }

    fn put_task(
        &mut self,
        expect: Expect,
        mut task: Task,
        at: Timestamp,
    ) -> Result<Changed, Rejection> {
        let id = task.id;
        let old = self.work.tasks.get(&id).cloned();
        self.work.may_follow(old.as_deref(), &task)?;
        task.meta = self.stamp(expect, old.as_ref().map(|old| old.meta), at)?;
        let new = Some(self.work.put_task(task));
        Ok(Changed::Task { id, old, new })
    }

    fn remove_task(
        &mut self,
        expect: Expect,
        id: TaskId,
        at: Timestamp,
    ) -> Result<Changed, Rejection> {
        let old = self.work.tasks.get(&id).cloned();
        let old = old.ok_or(Rejection::NotFound)?;
        self.stamp(expect, Some(old.meta), at)?;
        self.work.remove_task(id);
        let (old, new) = (Some(old), None);
        Ok(Changed::Task { id, old, new })
    }

    fn put_dependency(
        &mut self,
        expect: Expect,
        mut dependency: Dependency,
        at: Timestamp,
    ) -> Result<Changed, Rejection> {
        self.objects.may_be_called(&dependency)?;
        let id = dependency.id;
        let old = self.objects.dependencies.get(&id).cloned();
        dependency.meta = self.stamp(expect, old.as_ref().map(|old| old.meta), at)?;
        let new = Some(self.objects.put_dependency(dependency));
        Ok(Changed::Dependency { id, old, new })
    }

    fn remove_dependency(
        &mut self,
        expect: Expect,
        id: DependencyId,
        at: Timestamp,
    ) -> Result<Changed, Rejection> {
        let old = self.objects.dependencies.get(&id).cloned();
        let old = old.ok_or(Rejection::NotFound)?;
        self.stamp(expect, Some(old.meta), at)?;
        self.objects.remove_dependency(id);
        let (old, new) = (Some(old), None);
        Ok(Changed::Dependency { id, old, new })
    }

    fn put_network(
        &mut self,
        expect: Expect,
        mut network: Network,
        at: Timestamp,
    ) -> Result<Changed, Rejection> {
        self.objects.may_be_named(&network)?;
        let id = network.id;
        let old = self.objects.networks.get(&id).cloned();
        network.meta = self.stamp(expect, old.as_ref().map(|old| old.meta), at)?;
        let new = Some(self.objects.put_network(network));
        Ok(Changed::Network { id, old, new })
    }

    fn remove_network(
        &mut self,
        expect: Expect,
        id: NetworkId,
        at: Timestamp,
    ) -> Result<Changed, Rejection> {
        let old = self.objects.networks.get(&id).cloned();
        let old = old.ok_or(Rejection::NotFound)?;
        self.stamp(expect, Some(old.meta), at)?;
        self.objects.remove_network(id);
        let (old, new) = (Some(old), None);
        Ok(Changed::Network { id, old, new })
    }

    /// Checks the guard and takes the next version.
    fn stamp(
        &mut self,
        expect: Expect,
        stands: Option<Meta>,
        at: Timestamp,
    ) -> Result<Meta, Rejection> {
        let created_at = match (expect, stands) {
            (Expect::Absent, None) => at,
            (Expect::Absent, Some(_)) => return Err(Rejection::Exists),
            (Expect::Version(_), None) => return Err(Rejection::NotFound),
            (Expect::Version(version), Some(meta)) if version != meta.version => {
                return Err(Rejection::OutOfSequence);
            }
            (Expect::Version(_), Some(meta)) => meta.created_at,
        };
        self.version += 1;
        Ok(Meta {
            version: self.version,
            created_at,
            updated_at: at,
        })
    }

    /// What differs from `old`, as events; for a state that came as a whole.
    pub(super) fn changes_since(&self, old: &Self) -> Vec<StateEvent> {
        let mut events = Vec::new();
        if let Some(new) = &self.cluster
            && old.cluster.as_ref() != Some(new)
        {
            events.push(StateEvent {
                version: new.meta.version,
                changed: Changed::Cluster {
                    old: old.cluster.clone(),
                    new: new.clone(),
                },
            });
        }
        let version = |meta: Option<Meta>| meta.map_or(self.version, |meta| meta.version);
        differences(&old.nodes, &self.nodes, |id, old, new| {
            let version = version(new.as_ref().map(|new| new.meta));
            let changed = Changed::Node { id, old, new };
            events.push(StateEvent { version, changed });
        });
        differences(&old.work.services, &self.work.services, |id, old, new| {
            let version = version(new.as_ref().map(|new| new.meta));
            let changed = Changed::Service { id, old, new };
            events.push(StateEvent { version, changed });
        });
        differences(&old.work.tasks, &self.work.tasks, |id, old, new| {
            let version = version(new.as_ref().map(|new| new.meta));
            let changed = Changed::Task { id, old, new };
            events.push(StateEvent { version, changed });
        });
        let (were, are) = (&old.objects, &self.objects);
        differences(&were.dependencies, &are.dependencies, |id, old, new| {
            let version = version(new.as_ref().map(|new| new.meta));
            let changed = Changed::Dependency { id, old, new };
            events.push(StateEvent { version, changed });
        });
        differences(&were.networks, &are.networks, |id, old, new| {
            let version = version(new.as_ref().map(|new| new.meta));
            let changed = Changed::Network { id, old, new };
            events.push(StateEvent { version, changed });
        });
        events.sort_by_key(|event| event.version);
        events
    }
}

/// Calls `tell` with what stands under each key that differs, before and after.
fn differences<K: Ord + Copy, V: PartialEq>(
    old: &OrdMap<K, Arc<V>>,
    new: &OrdMap<K, Arc<V>>,
    mut tell: impl FnMut(K, Option<Arc<V>>, Option<Arc<V>>),
) {
    for item in old.diff(new) {
        match item {
            DiffItem::Add(id, new) => tell(*id, None, Some(new.clone())),
            DiffItem::Update { old, new } => {
                tell(*new.0, Some(old.1.clone()), Some(new.1.clone()));
            }
            DiffItem::Remove(id, old) => tell(*id, Some(old.clone()), None),
        }
    }
}

#[cfg(test)]
mod tests;
