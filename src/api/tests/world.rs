//! A cluster in memory: what its leader shows and does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use tokio::sync::{broadcast, watch};

use crate::api::backend::{
    ClusterUpdate, ClusterView, Event, Leader, PlannedMove, Reachability, Rebalance, Refusal, Wish,
};
use crate::api::dto::tls::tests::{cluster, root};
use crate::api::words;
use crate::cluster::store::State;
use crate::model::cluster::{JoinSecrets, Secret};
use crate::model::node::CertificateRecord;
use crate::model::{
    Cluster, DependencyId, DependencyKind, DependencySpec, Meta, NetworkId, NetworkSpec, Node,
    NodeDescription, NodeId, NodeSpec, NodeState, NodeStatus, Observed, Platform, Resources, Role,
    ServiceId, ServiceSpec, ServiceUpdate, Standing, TaskId, Timestamp,
};

/// 2023-11-14T22:13:20Z
pub(crate) const NOW: Timestamp = Timestamp::from_nanos(1_700_000_000_000_000_000);

/// The unlock key of the made-up cluster when autolock is on.
pub(crate) const KEY: &str = "SWMKEY-1-7c37Cc8654o6p38HnroywCi19pllOnGtbdZEgtKxZu8";

/// The cluster that several made-up nodes share.
pub(crate) struct World {
    pub(crate) view: Mutex<ClusterView>,
    pub(crate) past: Mutex<Vec<Event>>,
    pub(crate) live: Mutex<broadcast::Sender<Event>>,
    /// What the leader answers instead.
    pub(crate) refusal: Mutex<Option<Refusal>>,
    /// How many updates of nodes are still answered as if somebody else's had come first.
    pub(crate) overtaken: Mutex<u32>,
    /// How often the leader was asked for everything.
    pub(crate) views: watch::Sender<u32>,
    /// How often services were to be made even.
    pub(crate) moved: watch::Sender<u32>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

/// The node whose ID is `number` in the last digits.
pub(crate) fn id(number: u8) -> NodeId {
    NodeId::from_bits(u128::from(number) + (1 << 100))
}

/// The machine of node `number`.
pub(crate) fn description(number: u8) -> NodeDescription {
    NodeDescription {
        hostname: format!("host-{number}"),
        platform: Platform {
            architecture: "x86_64".into(),
            os: "linux".into(),
        },
        resources: Resources {
            nano_cpus: 4_000_000_000,
            memory_bytes: 8 << 30,
        },
        engine_version: "0.1.0".into(),
        runtime: String::new(),
        engine_labels: BTreeMap::from([("disk".into(), "ssd".into())]),
        protocol: (1, 1),
        generic_resources: Vec::new(),
    }
}

fn node(number: u8, version: u64, issuer: &str) -> Node {
    Node {
        id: id(number),
        meta: Meta {
            version,
            created_at: NOW,
            updated_at: NOW,
        },
        spec: NodeSpec::default(),
        standing: match number {
            9 => Standing::Worker,
            _ => Standing::Eligible,
        },
        role: match number {
            9 => Role::Worker,
            _ => Role::Manager,
        },
        pinned: None,
        description: description(number),
        addresses: vec![format!("10.0.0.{number}:2377").parse().unwrap()],
        certificate: CertificateRecord {
            issuer: issuer.into(),
            not_after: NOW,
        },
    }
}

fn first_cluster(root_pem: &str) -> Cluster {
    let secret = |c: &str| Secret(c.repeat(25));
    Cluster {
        meta: Meta {
            version: 7,
            created_at: NOW,
            updated_at: NOW,
        },
        join: JoinSecrets {
            worker: secret("a"),
            manager: secret("b"),
            peer: secret("c"),
        },
        ..cluster(root_pem, None)
    }
}

impl World {
    /// Nodes 1, 2 and 3 vote and 1 leads; node 9 is a worker that is down.
    pub(crate) fn new() -> Arc<Self> {
        let (root_pem, issuer) = root();
        let mut state = State {
            version: 20,
            cluster: Some(Arc::new(first_cluster(&root_pem))),
            ..State::default()
        };
        let mut statuses = BTreeMap::new();
        for number in [1, 2, 3, 9] {
            let node = node(number, 10 + u64::from(number), &issuer);
            statuses.insert(
                node.id,
                NodeStatus {
                    state: match number {
                        9 => NodeState::Down,
                        _ => NodeState::Ready,
                    },
                    message: match number {
                        9 => "no answer for 16 s".into(),
                        _ => String::new(),
                    },
                    addr: node.addresses.first().copied(),
                },
            );
            state.nodes.insert(node.id, Arc::new(node));
        }
        let managers = BTreeMap::from([
            (id(1), Reachability::Reachable),
            (id(2), Reachability::Reachable),
            (id(3), Reachability::Unreachable),
        ]);
        Arc::new(Self {
            view: Mutex::new(ClusterView {
                state: Arc::new(state),
                leader: id(1),
                managers,
                statuses,
                observed: Observed::new(),
            }),
            past: Mutex::default(),
            live: Mutex::new(broadcast::channel(64).0),
            refusal: Mutex::default(),
            overtaken: Mutex::default(),
            views: watch::channel(0).0,
            moved: watch::channel(0).0,
        })
    }

    /// Changes the stored state; every change has a new version.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut view = lock(&self.view);
        let mut state = State::clone(&view.state);
        state.version += 1;
        change(&mut state);
        view.state = Arc::new(state);
    }

    /// Tells an event to those who listen and to those who will ask for the past.
    pub(crate) fn tell(&self, event: Event) {
        lock(&self.past).push(event.clone());
        let _ = lock(&self.live).send(event);
    }

    /// Waits until so many feeds are open.
    pub(crate) async fn until_watched(&self, feeds: usize) {
        let watched = || lock(&self.live).receiver_count() == feeds;
        super::http::eventually("the feeds are open", watched).await;
    }

    /// Ends every feed, as a leader does that leads no more.
    pub(crate) fn end_feeds(&self) {
        *lock(&self.live) = broadcast::channel(64).0;
    }
}

#[async_trait]
impl Leader for World {
    fn now(&self) -> Timestamp {
        NOW
    }

    async fn create_dependency(
        &self,
        kind: DependencyKind,
        spec: DependencySpec,
    ) -> Result<DependencyId, Refusal> {
        self.make_dependency(kind, spec)
    }

    async fn update_dependency(
        &self,
        id: DependencyId,
        version: u64,
        spec: DependencySpec,
    ) -> Result<(), Refusal> {
        self.change_dependency(id, version, spec)
    }

    async fn remove_dependency(&self, id: DependencyId) -> Result<(), Refusal> {
        self.try_apply(vec![self.removal_of_dependency(id)])
    }

    async fn create_network(&self, spec: NetworkSpec) -> Result<NetworkId, Refusal> {
        self.make_network(spec)
    }

    async fn remove_network(&self, id: NetworkId) -> Result<(), Refusal> {
        self.end_network(id)
    }

    async fn view(&self) -> Result<ClusterView, Refusal> {
        self.views.send_modify(|count| *count += 1);
        match lock(&self.refusal).clone() {
            Some(refusal) => Err(refusal),
            None => Ok(lock(&self.view).clone()),
        }
    }

    async fn update_cluster(&self, version: u64, update: ClusterUpdate) -> Result<(), Refusal> {
        let cluster = lock(&self.view).state.cluster.clone().unwrap();
        if cluster.meta.version != version {
            return Err(Refusal::out_of_sequence());
        }
        self.change(|state| {
            let mut cluster = Cluster::clone(&cluster);
            let rotated = |rotate, old: Secret| match rotate {
                true => Secret("z".repeat(25)),
                false => old,
            };
            cluster.join = JoinSecrets {
                worker: rotated(update.rotate_worker, cluster.join.worker),
                manager: rotated(update.rotate_manager, cluster.join.manager),
                peer: rotated(update.rotate_peer, cluster.join.peer),
            };
            if update.spec.force_rotate > cluster.spec.force_rotate {
                let (pem, issuer) = root();
                cluster.root.cert_pem = pem;
                for node in state.nodes.clone().values() {
                    let mut node = Node::clone(node);
                    node.certificate.issuer.clone_from(&issuer);
                    state.nodes.insert(node.id, Arc::new(node));
                }
            }
            cluster.unlock_key = Secret(if update.spec.auto_lock {
                KEY.into()
            } else {
                String::new()
            });
            cluster.spec = update.spec;
            cluster.meta.version = state.version;
            state.cluster = Some(Arc::new(cluster));
        });
        Ok(())
    }

    async fn update_node(
        &self,
        node: NodeId,
        version: u64,
        spec: NodeSpec,
        role: Role,
    ) -> Result<(), Refusal> {
        let old = lock(&self.view).state.nodes[&node].clone();
        if old.meta.version != version {
            return Err(Refusal::out_of_sequence());
        }
        {
            let mut overtaken = lock(&self.overtaken);
            if *overtaken > 0 {
                *overtaken -= 1;
                return Err(Refusal::out_of_sequence());
            }
        }
        {
            let mut view = lock(&self.view);
            match role {
                Role::Worker if view.managers.len() == 1 && view.managers.contains_key(&node) => {
                    return Err(Refusal::invalid(words::LAST_MANAGER));
                }
                Role::Worker => drop(view.managers.remove(&node)),
                Role::Manager => drop(view.managers.entry(node).or_insert(Reachability::Reachable)),
            }
        }
        self.change(|state| {
            let mut new = Node::clone(&old);
            new.spec = spec;
            new.role = role;
            new.meta.version = state.version;
            state.nodes.insert(node, Arc::new(new));
        });
        Ok(())
    }

    async fn remove_node(&self, node: NodeId, force: bool) -> Result<(), Refusal> {
        let view = lock(&self.view).clone();
        if view.managers.contains_key(&node) {
            return Err(words::is_manager(node));
        }
        if view.statuses[&node].state != NodeState::Down && !force {
            return Err(words::not_down(node));
        }
        self.change(|state| drop(state.nodes.remove(&node)));
        Ok(())
    }

    async fn create_service(
        &self,
        spec: ServiceSpec,
        registry_auth: Secret,
    ) -> Result<ServiceId, Refusal> {
        self.make_service(spec, registry_auth)
    }

    async fn update_service(
        &self,
        service: ServiceId,
        version: u64,
        update: ServiceUpdate,
    ) -> Result<(), Refusal> {
        self.change_service(service, version, update)
    }

    async fn remove_service(&self, service: ServiceId) -> Result<(), Refusal> {
        self.end_service(service)
    }

    /// One move while there is a service, begun or not.
    async fn rebalance(&self, dry_run: bool) -> Result<Rebalance, Refusal> {
        let services = lock(&self.view).state.work.services.clone();
        let moves = services.values().map(|service| PlannedMove {
            service: service.id,
            name: service.spec.name.clone(),
            slot: "2".into(),
            task: TaskId::from_bits(7),
            from: (id(1), "host-1".into()),
            to: (id(2), "host-2".into()),
            why: "host-1 has 2 of its tasks, host-2 has 0".into(),
        });
        if !dry_run {
            self.moved.send_modify(|count| *count += 1);
        }
        Ok(Rebalance {
            moves: moves.collect(),
            more: false,
        })
    }

    /// The ready node with the fewest containers, of those that have said how many they have.
    async fn place(&self, wish: Wish) -> Result<NodeId, Refusal> {
        let view = lock(&self.view);
        let ready = view.statuses.iter();
        let ready = ready.filter(|(_, status)| status.state == NodeState::Ready);
        let count = |node: &NodeId| wish.load.get(node).map_or(u64::MAX, |load| load.containers);
        let fewest = ready.map(|(node, _)| *node).min_by_key(count);
        fewest.ok_or_else(|| Refusal::unavailable("no suitable node"))
    }

    async fn unlock_key(&self) -> Result<String, Refusal> {
        let view = lock(&self.view);
        let cluster = view.state.cluster.as_ref();
        Ok(cluster.map(|c| c.unlock_key.0.clone()).unwrap_or_default())
    }

    fn events(&self, since: Option<Timestamp>) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let live = lock(&self.live).subscribe();
        let past = lock(&self.past);
        let past = past
            .iter()
            .filter(|event| since.is_some_and(|since| event.time >= since));
        (past.cloned().collect(), live)
    }
}
