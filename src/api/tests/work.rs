//! The services of the made-up cluster: whatever is asked for runs at once, on the node that leads.

use std::sync::Arc;

use super::world::{NOW, World, id, lock};
use crate::api::backend::Refusal;
use crate::cluster::store::State;
use crate::model::cluster::Secret;
use crate::model::plane::{Protocol, Published};
use crate::model::service::{JobStatus, Previous, UpdateState, UpdateStatus};
use crate::model::service_spec::Mode;
use crate::model::{
    AuthFrom, Change, ContainerId, Expect, Meta, NodeId, Proposal, Service, ServiceId, ServiceSpec,
    ServiceUpdate, Slot, Task, TaskId, TaskState, TaskStatus, Template,
};

/// A task of `service` as it stands, in `slot` on `node`.
pub(super) fn task(service: &Service, number: u128, slot: Slot, node: NodeId) -> Task {
    let mode = service.spec.mode.read();
    let (desired, state) = match mode.is_job() {
        true => (TaskState::Complete, TaskState::Complete),
        false => (TaskState::Running, TaskState::Running),
    };
    Task {
        id: TaskId::from_bits(number),
        meta: Meta::default(),
        service: service.id,
        slot,
        spec_version: service.spec_version,
        iteration: service.job.map(|job| job.iteration),
        node: Some(node),
        desired,
        status: TaskStatus {
            state,
            at: NOW,
            message: state.message().into(),
            container: Some(ContainerId::from_bytes([7; 32])),
            pid: 4711,
            ..TaskStatus::default()
        },
        start: None,
        generic_resources: Vec::new(),
        attachments: Vec::new(),
    }
}

impl World {
    /// Applies changes as the store does.
    pub(super) fn apply(&self, changes: Vec<Change>) {
        let mut view = lock(&self.view);
        let mut state = State::clone(&view.state);
        let proposal = Proposal { at: NOW, changes };
        state.apply(proposal, &mut Vec::new()).unwrap();
        view.state = Arc::new(state);
    }

    /// The service of this name.
    pub(super) fn service(&self, name: &str) -> Service {
        let view = lock(&self.view);
        Service::clone(view.state.work.service_named(name).unwrap())
    }

    /// Writes a service down, with the tasks that it asks for; those that are not of it go.
    fn run(&self, service: Service, expect: Expect) {
        let slots: Vec<(Slot, NodeId)> = match service.spec.mode.read() {
            Mode::Replicated { replicas } => (1..=replicas)
                .map(|slot| (Slot::Number(slot), id(1)))
                .collect(),
            Mode::ReplicatedJob { total, .. } => {
                (0..total).map(|slot| (Slot::Number(slot), id(1))).collect()
            }
            Mode::Global | Mode::GlobalJob => [id(1), id(2)].map(|n| (Slot::Node(n), n)).into(),
        };
        let template = Template {
            name: service.spec.name.clone(),
            labels: service.spec.labels.clone(),
            task: service.spec.task_template.clone(),
            endpoint: service.spec.endpoint_spec.clone(),
            ..Template::default()
        };
        let next = lock(&self.view).state.version + 1;
        let mut changes = vec![
            Change::PutService(expect, Box::new(service.clone())),
            Change::PutTemplate(service.id, service.spec_version, Box::new(template)),
        ];
        for (number, (slot, node)) in slots.into_iter().enumerate() {
            let number = (u128::from(next) << 32) + number as u128;
            let new = task(&service, number, slot, node);
            changes.push(Change::PutTask(Expect::Absent, Box::new(new)));
        }
        let old: Vec<_> = lock(&self.view)
            .state
            .work
            .tasks_of(service.id)
            .map(|task| Change::RemoveTask(Expect::Version(task.meta.version), task.id))
            .collect();
        changes.extend(old);
        self.apply(changes);
    }

    pub(super) fn make_service(
        &self,
        spec: ServiceSpec,
        registry_auth: Secret,
    ) -> Result<ServiceId, Refusal> {
        let state = lock(&self.view).state.clone();
        if state.work.service_named(&spec.name).is_some() {
            return Err(Refusal::conflict(format!(
                "name conflicts with an existing object: service {} already exists",
                spec.name
            )));
        }
        let id = ServiceId::from_bits((1 << 100) + u128::from(state.version));
        let job = spec.mode.read().is_job().then_some(JobStatus {
            iteration: 0,
            last_execution: NOW,
        });
        let service = Service {
            id,
            ports: settled(&spec),
            spec,
            spec_version: 1,
            registry_auth,
            job,
            ..Service::default()
        };
        self.run(service, Expect::Absent);
        Ok(id)
    }

    pub(super) fn change_service(
        &self,
        id: ServiceId,
        version: u64,
        update: ServiceUpdate,
    ) -> Result<(), Refusal> {
        let old = lock(&self.view).state.work.services[&id].clone();
        if old.meta.version != version {
            return Err(Refusal::out_of_sequence());
        }
        let mut next = Service::clone(&old);
        next.spec_version += 1;
        next.previous = Some(Box::new(Previous {
            spec: old.spec.clone(),
            spec_version: old.spec_version,
            registry_auth: old.registry_auth.clone(),
        }));
        let previous = old.previous.as_ref();
        match (update.rollback, previous) {
            (true, None) => {
                let words = format!("service {id} does not have a previous spec");
                return Err(Refusal::invalid(words));
            }
            (true, Some(previous)) => next.spec = previous.spec.clone(),
            (false, _) => next.spec = update.spec,
        }
        next.registry_auth = match update.registry_auth {
            AuthFrom::Given(secret) => secret,
            AuthFrom::Spec => next.registry_auth,
            AuthFrom::PreviousSpec => previous.unwrap().registry_auth.clone(),
        };
        next.update = Some(UpdateStatus {
            state: match update.rollback {
                true => UpdateState::RollbackCompleted,
                false => UpdateState::Completed,
            },
            started_at: NOW,
            completed_at: Some(NOW),
            message: "update completed".into(),
            ..UpdateStatus::default()
        });
        if let Some(job) = &mut next.job {
            job.iteration += 1;
        }
        self.run(next, Expect::Version(version));
        Ok(())
    }

    pub(super) fn end_service(&self, id: ServiceId) -> Result<(), Refusal> {
        let old = lock(&self.view).state.work.services[&id].clone();
        let mut next = Service::clone(&old);
        next.removed = true;
        self.apply(vec![Change::PutService(
            Expect::Version(old.meta.version),
            Box::new(next),
        )]);
        Ok(())
    }
}

/// The ports that a leader gives a service which names their numbers.
fn settled(spec: &ServiceSpec) -> Vec<Published> {
    let ports = spec.endpoint_spec.iter().flat_map(|spec| &spec.ports);
    let named = ports.filter(|port| port.published_port != 0);
    named
        .map(|port| Published {
            protocol: Protocol::read(port.protocol()),
            target: port.target_port,
            published: port.published_port,
            host: port.is_host(),
        })
        .collect()
}
