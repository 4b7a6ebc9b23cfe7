//! A customer: makes services, changes how many they are, removes them, and now and then one of their processes ends.
//! Sometimes an operator takes a node out of use.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::client::{Order, through};
use super::dice::Dice;
use super::history::{Answer, Ask, Entry};
use super::node::Node;
use super::world::World;
use crate::manager::term::Term;
use crate::model::cluster::Secret;
use crate::model::service_spec::{Replicated, UpdateConfig};
use crate::model::{
    AuthFrom, Availability, NodeId, Service, ServiceId, ServiceSpec, ServiceUpdate,
};

/// Services that there are at the most.
const SERVICES: usize = 4;

/// Replicas of one at the most.
const REPLICAS: usize = 7;

/// The customer.
#[derive(Clone)]
pub(super) struct Customer {
    pub(super) world: Arc<World>,
    pub(super) dice: Dice,
}

/// What a service is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// So many tasks.
    Replicas(u64),
    /// One on every node.
    Global,
    /// So many tasks that end by themselves, two at a time.
    Job(u64),
}

/// A service whose tasks restart after half a second. One that is `fenced` is stopped where nobody is heard of.
pub(super) fn spec(name: &str, kind: Kind, fenced: bool) -> ServiceSpec {
    let mode = match kind {
        Kind::Replicas(replicas) => json!({"Replicated": {"Replicas": replicas}}),
        Kind::Global => json!({"Global": {}}),
        Kind::Job(total) => {
            json!({"ReplicatedJob": {"MaxConcurrent": 2, "TotalCompletions": total}})
        }
    };
    let script = match kind {
        Kind::Replicas(_) | Kind::Global => "serve",
        Kind::Job(_) => "exit 0",
    };
    let labels = match fenced {
        true => json!({"skein.isolation": "stop:2s"}),
        false => json!({}),
    };
    let spec = json!({
        "Name": name,
        "Labels": labels,
        "TaskTemplate": {
            "ContainerSpec": {"Image": "web:1", "Command": ["/bin/sh", "-c", script]},
            "RestartPolicy": {"Delay": 500_000_000},
        },
        "Mode": mode,
    });
    serde_json::from_value(spec).expect("it is a spec")
}

impl Customer {
    /// Does one thing after another until `end`.
    pub(super) async fn work(self, end: Instant) {
        while Instant::now() < end {
            sleep(
                self.dice
                    .span(Duration::from_millis(50), Duration::from_millis(1500)),
            )
            .await;
            self.act().await;
        }
        // Without a node that takes tasks there is nothing to see.
        for id in self.world.newest().nodes.keys() {
            self.set(*id, Availability::Active).await;
        }
    }

    fn door(&self) -> Option<Arc<Node>> {
        let up = self.world.network.up().into_iter();
        let doors: Vec<_> = up.filter(|node| node.store.is_some()).collect();
        self.dice.pick(&doors)
    }

    async fn act(&self) {
        let state = self.world.newest();
        let services = state.work.services.values();
        let services: Vec<_> = services
            .filter(|service| !service.removed)
            .cloned()
            .collect();
        match (self.dice.below(12), self.dice.pick(&services)) {
            (0..=3, _) if services.len() < SERVICES => self.create().await,
            (4..=5, Some(service)) => self.scale(&service).await,
            (6, Some(service)) => self.renew(&service).await,
            (7, Some(service)) => drop(self.forget(service.id).await),
            (8..=10, _) => self.end_one(),
            _ => self.take_out_of_use().await,
        }
    }

    async fn ask<T: Send + 'static>(&self, ask: Ask, order: Order<T>) -> Option<T> {
        let entry = self.door()?;
        let number = self.world.history.ask(ask);
        let (answer, value) = match through(&self.world, &entry, order).await {
            Ok(value) => (Answer::Written(None), Some(value)),
            Err(failure) => (failure.into(), None),
        };
        self.world.history.add(Entry::Answered(number, answer));
        value
    }

    async fn create(&self) {
        let name = format!("web-{}", self.world.history.records().len());
        let count = self.dice.below(REPLICAS) as u64;
        let kind = match self.dice.below(6) {
            0 => Kind::Global,
            1 => Kind::Job(count),
            _ => Kind::Replicas(count),
        };
        create(self, &name, kind, self.dice.chance(0.3)).await;
    }

    async fn scale(&self, service: &Service) {
        if service.spec.mode.replicated.is_none() {
            return;
        }
        let replicas = self.dice.below(REPLICAS) as u64;
        scale(self, service, replicas).await;
    }

    /// Wants another image, by some policy.
    async fn renew(&self, service: &Service) {
        let mut spec = service.spec.clone();
        let Some(container) = &mut spec.task_template.container_spec else {
            return;
        };
        container.image = format!("web:{}", service.spec_version + 1);
        if !service.spec.mode.read().is_job() {
            let order = self.dice.pick(&["stop-first", "start-first"]);
            let action = self.dice.pick(&["pause", "continue", "rollback"]);
            spec.update_config = Some(UpdateConfig {
                parallelism: self.dice.below(3) as u64,
                order: order.unwrap_or_default().into(),
                failure_action: action.unwrap_or_default().into(),
                monitor: 1_000_000_000,
                ..UpdateConfig::default()
            });
        }
        let words = format!("{} is to be {:?}", service.id, spec.update_config);
        update(self, service, spec, words).await;
    }

    /// Removes a service; `None` when that failed, as far as is known.
    pub(super) async fn forget(&self, id: ServiceId) -> Option<()> {
        let order: Order<()> =
            Arc::new(move |term: Arc<Term>| async move { term.remove_service(id).await }.boxed());
        self.ask(Ask::Forget(id), order).await
    }

    fn end_one(&self) {
        let Some(machine) = self.dice.pick(&self.world.members()) else {
            return;
        };
        if let Some(task) = self.dice.pick(&machine.host.running()) {
            let code = i32::from(self.dice.chance(0.7));
            machine.host.exit(task, code);
            let words = format!("{task} ends by itself with {code}");
            self.world.history.add(Entry::Fault(words));
        }
    }

    async fn take_out_of_use(&self) {
        let state = self.world.newest();
        let nodes: Vec<NodeId> = state.nodes.keys().copied().collect();
        let to = [
            Availability::Active,
            Availability::Active,
            Availability::Drain,
            Availability::Pause,
        ];
        if let (Some(id), Some(to)) = (self.dice.pick(&nodes), self.dice.pick(&to)) {
            self.set(id, to).await;
        }
    }

    async fn set(&self, id: NodeId, to: Availability) {
        let order: Order<()> = Arc::new(move |term: Arc<Term>| {
            async move {
                let state = term.read().await?;
                let Some(node) = state.nodes.get(&id) else {
                    return Ok(());
                };
                let mut spec = node.spec.clone();
                spec.availability = to;
                term.update_node(id, node.meta.version, spec, node.shown_role())
                    .await
            }
            .boxed()
        });
        self.ask(Ask::Operate(format!("{id} is to be {to:?}")), order)
            .await;
    }
}

/// Makes a service.
pub(super) async fn create(
    customer: &Customer,
    name: &str,
    kind: Kind,
    fenced: bool,
) -> Option<ServiceId> {
    let wanted = spec(name, kind, fenced);
    let order: Order<ServiceId> = Arc::new(move |term: Arc<Term>| {
        let wanted = wanted.clone();
        async move { term.create_service(wanted, Secret::default()).await }.boxed()
    });
    customer.ask(Ask::Create(name.into(), kind), order).await
}

/// Changes how many tasks a service has.
pub(super) async fn scale(customer: &Customer, service: &Service, replicas: u64) {
    let mut spec = service.spec.clone();
    spec.mode.replicated = Some(Replicated {
        replicas: Some(replicas),
    });
    let words = format!("{} is to have {replicas} tasks", service.id);
    update(customer, service, spec, words).await;
}

async fn update(customer: &Customer, service: &Service, spec: ServiceSpec, words: String) {
    let (id, version) = (service.id, service.meta.version);
    let update = ServiceUpdate {
        spec,
        rollback: false,
        registry_auth: AuthFrom::Spec,
    };
    let order: Order<()> = Arc::new(move |term: Arc<Term>| {
        let update = update.clone();
        async move { term.update_service(id, version, update).await }.boxed()
    });
    customer.ask(Ask::Operate(words), order).await;
}
