//! A customer: makes services of every mode, changes them, takes changes back, removes services, and now and then one
//! of their processes ends. Sometimes an operator takes a node out of use.
//!
//! Some changes are bad: the new tasks fail at once. Such a change is made with an order to take it back, and whatever
//! of it is left in the end the customer puts right.

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
use crate::model::service_spec::{EndpointSpec, PortConfig, Replicated, UpdateConfig};
use crate::model::task_spec::NetworkAttachmentConfig;
use crate::model::{
    AuthFrom, Availability, NetworkId, NetworkSpec, NodeId, Service, ServiceId, ServiceSpec,
    ServiceUpdate,
};

/// Services that there are at the most.
const SERVICES: usize = 4;

/// Replicas of one at the most.
const REPLICAS: usize = 7;

/// What a bad change makes of the tasks of a service.
const BAD: &str = "exit 1";

/// The network of those services that have one. A storm goes through its addresses about once.
const NETWORK: &str = "back";

/// Its addresses.
const SUBNET: &str = "10.9.0.0/25";

/// What is bad is put right again and again, with so long a pause.
const PUT_RIGHT: Duration = Duration::from_millis(200);

/// The customer.
#[derive(Clone)]
pub(super) struct Customer {
    pub(super) world: Arc<World>,
    pub(super) dice: Dice,
    /// Between two acts, in milliseconds.
    pub(super) pause: (u64, u64),
    /// Asks the leader by way of others alone, so that every answer is a message.
    pub(super) aside: bool,
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
    /// One on every node, that ends by itself.
    GlobalJob,
}

impl Kind {
    /// The program of its tasks.
    fn script(self) -> &'static str {
        match self {
            Self::Replicas(_) | Self::Global => "serve",
            Self::Job(_) | Self::GlobalJob => "exit 0",
        }
    }
}

/// A service whose tasks restart after half a second. One that is `fenced` is stopped where nobody is heard of.
pub(super) fn spec(name: &str, kind: Kind, fenced: bool) -> ServiceSpec {
    let mode = match kind {
        Kind::Replicas(replicas) => json!({"Replicated": {"Replicas": replicas}}),
        Kind::Global => json!({"Global": {}}),
        Kind::Job(total) => {
            json!({"ReplicatedJob": {"MaxConcurrent": 2, "TotalCompletions": total}})
        }
        Kind::GlobalJob => json!({"GlobalJob": {}}),
    };
    let script = kind.script();
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
    /// One with dice of its own.
    pub(super) fn new(world: &Arc<World>, seed: u64) -> Self {
        Self {
            world: world.clone(),
            dice: Dice::new(seed, "customer"),
            pause: (50, 1500),
            aside: false,
        }
    }

    /// Does one thing after another until `end`.
    pub(super) async fn work(self, end: Instant) {
        while Instant::now() < end {
            sleep(self.dice.millis(self.pause.0, self.pause.1)).await;
            self.act().await;
        }
        // Without a node that takes tasks there is nothing to see.
        for id in self.world.newest().nodes.keys() {
            self.set(*id, Availability::Active).await;
        }
    }

    /// Leaves nothing behind that can never run. For a cluster that has healed, and takes writes.
    pub(super) async fn put_right(&self) {
        loop {
            let state = self.world.newest();
            let mut services = state.work.services.values();
            let Some(bad) = services.find(|service| !service.removed && is_bad(&service.spec))
            else {
                return;
            };
            self.renew(bad, false).await;
            sleep(PUT_RIGHT).await;
        }
    }

    fn door(&self) -> Option<Arc<Node>> {
        let up = self.world.network.up().into_iter();
        let leads = |node: &Node| node.term.borrow().is_some();
        let doors = up.filter(|node| node.store.is_some() && !(self.aside && leads(node)));
        let doors: Vec<_> = doors.collect();
        self.dice.pick(&doors)
    }

    async fn act(&self) {
        let state = self.world.newest();
        let services = state.work.services.values();
        let services: Vec<_> = services
            .filter(|service| !service.removed)
            .cloned()
            .collect();
        match (self.dice.below(18), self.dice.pick(&services)) {
            (0..=3, _) if services.len() < SERVICES => self.create().await,
            (_, None) => self.create().await,
            (4..=5, Some(service)) => self.scale(&service).await,
            (6..=8, Some(service)) => self.renew(&service, self.dice.chance(0.3)).await,
            (9, Some(service)) => self.force(&service).await,
            (10, Some(service)) => self.roll_back(&service).await,
            (11, Some(service)) => drop(self.forget(service.id).await),
            (12..=15, _) => self.end_one(),
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
        let kind = match self.dice.below(7) {
            0 => Kind::Global,
            1 => Kind::Job(count),
            2 => Kind::GlobalJob,
            _ => Kind::Replicas(count),
        };
        let mut wanted = spec(&name, kind, self.dice.chance(0.3));
        self.connect(&mut wanted).await;
        create(self, kind, wanted).await;
    }

    /// Has some services in a network, and some reached from outside.
    async fn connect(&self, wanted: &mut ServiceSpec) {
        let (inside, outside) = (self.dice.chance(0.6), self.dice.chance(0.4));
        let state = self.world.newest();
        let network = match state.objects.network_named(NETWORK) {
            Some(network) => Some(network.id),
            None => self.make_network().await,
        };
        if let Some(network) = network.filter(|_| inside) {
            wanted.task_template.networks = vec![NetworkAttachmentConfig {
                target: network.to_string(),
                ..NetworkAttachmentConfig::default()
            }];
        }
        if outside {
            let port = PortConfig {
                target_port: 80,
                ..PortConfig::default()
            };
            wanted.endpoint_spec = Some(EndpointSpec {
                ports: vec![port],
                ..EndpointSpec::default()
            });
        }
    }

    async fn make_network(&self) -> Option<NetworkId> {
        let network = json!({
            "Name": NETWORK, "Driver": "overlay", "IPAM": {"Config": [{"Subnet": SUBNET}]},
        });
        let network: NetworkSpec = serde_json::from_value(network).expect("it is a spec");
        let order: Order<NetworkId> = Arc::new(move |term: Arc<Term>| {
            let network = network.clone();
            async move { term.create_network(network).await }.boxed()
        });
        let ask = Ask::Operate(format!("there is to be a network {NETWORK}"));
        self.ask(ask, order).await
    }

    async fn scale(&self, service: &Service) {
        let count = self.dice.below(REPLICAS) as u64;
        let mut spec = service.spec.clone();
        if let Some(replicated) = &mut spec.mode.replicated {
            replicated.replicas = Some(count);
        } else if let Some(job) = &mut spec.mode.replicated_job {
            job.total_completions = Some(count);
        } else {
            return;
        }
        update(self, service, change(spec)).await;
    }

    /// Wants another image, by some policy.
    async fn renew(&self, service: &Service, bad: bool) {
        let mut spec = service.spec.clone();
        let (was_bad, mode) = (is_bad(&spec), spec.mode.read());
        let bad = bad && !was_bad && !mode.is_job();
        let Some(container) = &mut spec.task_template.container_spec else {
            return;
        };
        let script = match (bad, mode.is_job()) {
            (true, _) => BAD,
            (false, true) => Kind::GlobalJob.script(),
            (false, false) => Kind::Global.script(),
        };
        container.image = format!("web:{}", service.spec_version + 1);
        container.command = ["/bin/sh", "-c", script].map(String::from).to_vec();
        if !mode.is_job() {
            let action = match (bad, was_bad) {
                (true, _) => "rollback",
                // Whatever happens, it does not go back to what is bad.
                (false, true) => "continue",
                (false, false) => {
                    let any = self.dice.pick(&["pause", "continue", "rollback"]);
                    any.unwrap_or_default()
                }
            };
            let config = policy(service.id, action);
            (spec.update_config, spec.rollback_config) = (Some(config.clone()), Some(config));
        }
        update(self, service, change(spec)).await;
    }

    /// Wants the same once more.
    async fn force(&self, service: &Service) {
        if is_bad(&service.spec) {
            return;
        }
        let mut spec = service.spec.clone();
        spec.task_template.force_update += 1;
        update(self, service, change(spec)).await;
    }

    async fn roll_back(&self, service: &Service) {
        let back = ServiceUpdate {
            rollback: true,
            ..ServiceUpdate::default()
        };
        update(self, service, back).await;
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

    pub(super) async fn set(&self, id: NodeId, to: Availability) {
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
    kind: Kind,
    wanted: ServiceSpec,
) -> Option<ServiceId> {
    let name = wanted.name.clone();
    let order: Order<ServiceId> = Arc::new(move |term: Arc<Term>| {
        let wanted = wanted.clone();
        async move { term.create_service(wanted, Secret::default()).await }.boxed()
    });
    customer.ask(Ask::Create(name, kind), order).await
}

/// How a service is updated: always the same way, so that what is under way of one update is within the bounds of the
/// next.
pub(super) fn policy(id: ServiceId, action: &str) -> UpdateConfig {
    let bits = id.bits();
    let order = match bits & 1 {
        0 => "stop-first",
        _ => "start-first",
    };
    UpdateConfig {
        parallelism: u64::try_from((bits >> 1) % 3).unwrap_or(1),
        order: order.into(),
        failure_action: action.into(),
        monitor: 1_000_000_000,
        ..UpdateConfig::default()
    }
}

/// Whether the tasks of a service fail at once.
fn is_bad(spec: &ServiceSpec) -> bool {
    let container = spec.task_template.container_spec.as_ref();
    container.is_some_and(|container| container.command.last().is_some_and(|last| last == BAD))
}

pub(super) fn change(spec: ServiceSpec) -> ServiceUpdate {
    ServiceUpdate {
        spec,
        rollback: false,
        registry_auth: AuthFrom::Spec,
    }
}

/// Changes how many tasks a service has.
pub(super) async fn scale(customer: &Customer, service: &Service, replicas: u64) {
    let mut spec = service.spec.clone();
    spec.mode.replicated = Some(Replicated {
        replicas: Some(replicas),
    });
    update(customer, service, change(spec)).await;
}

/// Changes a service; false when that came to nothing, as far as is known.
pub(super) async fn update(customer: &Customer, service: &Service, update: ServiceUpdate) -> bool {
    let (id, version) = (service.id, service.meta.version);
    let spec = (!update.rollback).then(|| Box::new(update.spec.clone()));
    let order: Order<()> = Arc::new(move |term: Arc<Term>| {
        let update = update.clone();
        async move { term.update_service(id, version, update).await }.boxed()
    });
    let ask = Ask::Update(id, version, spec);
    customer.ask(ask, order).await.is_some()
}
