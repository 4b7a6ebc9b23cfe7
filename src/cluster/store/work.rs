//! Services and tasks in the state, with what finds them: by name, by service, by node.
//!
//! The indices are made of the objects and never stored. Guards that no version can express are here: a name has one
//! service, a task keeps its node, and what tasks share is kept for as long as one of them names it.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use crate::model::{NodeId, Rejection, Service, ServiceId, Task, TaskId, Template};

/// A version of a service: what a template is kept under.
pub type TemplateKey = (ServiceId, u64);

/// Services and tasks, as of one version. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// The services.
    pub services: OrdMap<ServiceId, Arc<Service>>,
    /// The tasks.
    pub tasks: OrdMap<TaskId, Arc<Task>>,
    templates: OrdMap<TemplateKey, Kept>,
    names: OrdMap<String, ServiceId>,
    by_service: OrdMap<ServiceId, OrdSet<TaskId>>,
    by_node: OrdMap<NodeId, OrdSet<TaskId>>,
}

/// A template, and how many tasks name it. One that none has named yet stays for the one that will.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    template: Arc<Template>,
    users: usize,
}

impl Work {
    /// The service of this name; never one that is removed.
    pub fn service_named(&self, name: &str) -> Option<&Arc<Service>> {
        self.services.get(self.names.get(name)?)
    }

    /// What the tasks of a version of a service share.
    pub fn template(&self, service: ServiceId, version: u64) -> Option<&Arc<Template>> {
        let kept = self.templates.get(&(service, version));
        kept.map(|kept| &kept.template)
    }

    /// Every template that is kept.
    pub fn templates(&self) -> impl Iterator<Item = (TemplateKey, &Arc<Template>)> {
        self.templates
            .iter()
            .map(|(key, kept)| (*key, &kept.template))
    }

    /// A service's tasks, by ID.
    pub fn tasks_of(&self, service: ServiceId) -> impl Iterator<Item = &Arc<Task>> {
        self.found(self.by_service.get(&service))
    }

    /// How many tasks a service has.
    pub fn count_of(&self, service: ServiceId) -> usize {
        self.by_service.get(&service).map_or(0, OrdSet::len)
    }

    /// A node's tasks, by ID.
    pub fn tasks_on(&self, node: NodeId) -> impl Iterator<Item = &Arc<Task>> {
        self.found(self.by_node.get(&node))
    }

    fn found<'a>(&'a self, ids: Option<&'a OrdSet<TaskId>>) -> impl Iterator<Item = &'a Arc<Task>> {
        let ids = ids.into_iter().flatten();
        ids.filter_map(|id| self.tasks.get(id))
    }

    /// What a snapshot holds, with the indices made anew.
    pub(super) fn restore(
        services: impl IntoIterator<Item = Service>,
        templates: impl IntoIterator<Item = (TemplateKey, Box<Template>)>,
        tasks: impl IntoIterator<Item = Task>,
    ) -> Self {
        let mut work = Self::default();
        for service in services {
            work.put_service(service);
        }
        for ((service, version), template) in templates {
            work.keep_template(service, version, template);
        }
        for task in tasks {
            work.put_task(task);
        }
        work
    }

    /// Whether a service's name is nobody else's. One that is removed needs none.
    pub(super) fn may_be_called(&self, service: &Service) -> Result<(), Rejection> {
        let name = &service.spec.name;
        match self.names.get(name) {
            Some(owner) if *owner != service.id && !service.removed => {
                Err(Rejection::NameTaken(name.clone()))
            }
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn put_service(&mut self, service: Service) -> Arc<Service> {
        let service = Arc::new(service);
        if let Some(old) = self.services.insert(service.id, service.clone()) {
            self.free_name(&old);
        }
        // The name is free from when a service is to go, not only from when its last task has ended.
        if !service.removed {
            self.names.insert(service.spec.name.clone(), service.id);
        }
        service
    }

    fn free_name(&mut self, service: &Service) {
        if self.names.get(&service.spec.name) == Some(&service.id) {
            self.names.remove(&service.spec.name);
        }
    }

    pub(super) fn remove_service(&mut self, id: ServiceId) {
        if let Some(old) = self.services.remove(&id) {
            self.free_name(&old);
        }
        let unused = self.templates.range((id, 0)..=(id, u64::MAX));
        let unused: Vec<TemplateKey> = unused
            .filter(|(_, kept)| kept.users == 0)
            .map(|(key, _)| *key)
            .collect();
        for key in unused {
            self.templates.remove(&key);
        }
    }

    pub(super) fn keep_template(&mut self, service: ServiceId, version: u64, new: Box<Template>) {
        self.templates.entry((service, version)).or_insert_with(|| {
            let template = Arc::from(new);
            Kept { template, users: 0 }
        });
    }

    /// Whether a task may become this.
    pub(super) fn may_follow(&self, old: Option<&Task>, new: &Task) -> Result<(), Rejection> {
        let key = (new.service, new.spec_version);
        let kept = self.templates.contains_key(&key);
        let Some(old) = old else {
            return if kept {
                Ok(())
            } else {
                Err(Rejection::NotFound)
            };
        };
        let same = (old.service, old.spec_version) == key && old.slot == new.slot;
        let moved = old.node.is_some() && old.node != new.node;
        match same && !moved {
            true => Ok(()),
            false => Err(Rejection::Bound(new.id)),
        }
    }

    pub(super) fn put_task(&mut self, task: Task) -> Arc<Task> {
        let task = Arc::new(task);
        let id = task.id;
        let old = self.tasks.insert(id, task.clone());
        if old.is_none() {
            self.by_service.entry(task.service).or_default().insert(id);
            if let Some(kept) = self.templates.get_mut(&(task.service, task.spec_version)) {
                kept.users += 1;
            }
        }
        if let Some(node) = task.node {
            self.by_node.entry(node).or_default().insert(id);
        }
        task
    }

    pub(super) fn remove_task(&mut self, id: TaskId) {
        let Some(task) = self.tasks.remove(&id) else {
            return;
        };
        forget(&mut self.by_service, task.service, id);
        if let Some(node) = task.node {
            forget(&mut self.by_node, node, id);
        }
        let key = (task.service, task.spec_version);
        if let Some(kept) = self.templates.get_mut(&key) {
            kept.users = kept.users.saturating_sub(1);
            if kept.users == 0 {
                self.templates.remove(&key);
            }
        }
    }
}

/// Takes a task out of an index.
fn forget<K: Ord + Copy>(index: &mut OrdMap<K, OrdSet<TaskId>>, key: K, id: TaskId) {
    if let Some(ids) = index.get_mut(&key) {
        ids.remove(&id);
        if ids.is_empty() {
            index.remove(&key);
        }
    }
}
