//! A node that is made up: a cluster in memory, with a leader that can be elsewhere, silent or gone.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::io::AsyncReadExt;
use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;

pub(crate) use super::world::{KEY, NOW, World, id, lock};

use super::disks::Disks;
use super::fake_containers::FakeContainers;
use super::world::description;
use crate::api::backend::containers::Containers;
use crate::api::backend::{
    Backend, ClusterStatus, Distribution, ImagePlatform, ImageStore, InitRequest, Io, JoinRequest,
    Local, LocalState, PeerStatus, Refusal, RefusalClass, Route, VolumeStore,
};
use crate::api::{forwarded_router, serve_stream, words};
use crate::model::facts::Phase;
use crate::model::{NodeId, Standing, Timestamp};

/// Where the leader is.
#[derive(Clone)]
pub(crate) enum Lead {
    /// There is none.
    Nobody,
    /// This node.
    Here,
    /// That node: requests go through its forwarded router.
    There(Arc<Fake>),
    /// That node, which takes a request and never answers.
    Silent(NodeId),
    /// That node, whose connection breaks as soon as a request arrives.
    Breaks(NodeId),
}

/// The made-up node. Tests reach into its parts.
pub(crate) struct Fake {
    pub(crate) local: Mutex<Local>,
    /// Where the leader is at each asking; the last of these stays.
    leads: Mutex<VecDeque<Lead>>,
    /// How many requests a silent leader has taken.
    pub(crate) swallowed: watch::Sender<u32>,
    pub(crate) hint: watch::Sender<Option<NodeId>>,
    pub(crate) world: Arc<World>,
    /// What was asked of the backend, in words.
    pub(crate) asked: Mutex<Vec<String>>,
    /// What init, join, leave and unlock answer instead of doing it.
    pub(crate) refusal: Mutex<Option<Refusal>>,
    /// Leaving waits for this, when it is set.
    pub(crate) leave_held: Mutex<Option<Arc<Notify>>>,
    /// What runs on it.
    pub(crate) containers: Arc<FakeContainers>,
    /// Whom it reaches.
    pub(crate) peers: Mutex<BTreeMap<NodeId, Arc<Self>>>,
    /// Its images and volumes; `None` while no containerd is there.
    pub(crate) disks: Mutex<Option<Arc<Disks>>>,
    tasks: TaskTracker,
}

fn no_engine() -> Refusal {
    Refusal::unavailable("no containerd answers: start it")
}

impl Fake {
    /// Node `number` of a new cluster, which node 1 leads.
    pub(crate) fn of(number: u8, world: Arc<World>, lead: Lead) -> Arc<Self> {
        let managers = [1, 2, 3].map(|n| (id(n), format!("10.0.0.{n}:2377").parse().unwrap()));
        let local = Local {
            node: Some(id(number)),
            state: LocalState::Active,
            control: true,
            addr: Some(format!("10.0.0.{number}:2377").parse().unwrap()),
            remote_managers: managers.to_vec(),
            description: description(number),
            data_root: "/var/lib/skein".into(),
            ..Local::default()
        };
        Arc::new(Self {
            local: Mutex::new(local),
            leads: Mutex::new(VecDeque::from([lead])),
            swallowed: watch::channel(0).0,
            hint: watch::channel(Some(id(1))).0,
            world,
            asked: Mutex::default(),
            refusal: Mutex::default(),
            leave_held: Mutex::default(),
            containers: Arc::default(),
            peers: Mutex::default(),
            disks: Mutex::new(Some(Arc::default())),
            tasks: TaskTracker::new(),
        })
    }

    /// The leader, asked itself.
    pub(crate) fn leader() -> Arc<Self> {
        Self::of(1, World::new(), Lead::Here)
    }

    /// Node 2, and the leader that it forwards to.
    pub(crate) fn follower() -> (Arc<Self>, Arc<Self>) {
        let leader = Self::leader();
        let follower = Self::of(2, leader.world.clone(), Lead::There(leader.clone()));
        (follower, leader)
    }

    /// A machine in no cluster.
    pub(crate) fn outside() -> Arc<Self> {
        let fake = Self::leader();
        fake.edit_local(|local| {
            *local = Local {
                description: local.description.clone(),
                data_root: local.data_root.clone(),
                ..Local::default()
            };
        });
        fake
    }

    pub(crate) fn edit_local(&self, edit: impl FnOnce(&mut Local)) {
        edit(&mut lock(&self.local));
    }

    pub(crate) fn set_lead(&self, lead: Lead) {
        self.set_leads([lead]);
    }

    /// One leader after another, a step at each asking.
    pub(crate) fn set_leads(&self, leads: impl IntoIterator<Item = Lead>) {
        *lock(&self.leads) = leads.into_iter().collect();
    }

    /// The leader of this asking.
    fn next_lead(&self) -> Lead {
        let mut leads = lock(&self.leads);
        match leads.len() {
            0 => Lead::Nobody,
            1 => leads[0].clone(),
            _ => leads.pop_front().unwrap(),
        }
    }

    /// What was asked so far; forgotten by this.
    pub(crate) fn take_asked(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.asked))
    }

    fn note(&self, what: String) -> Result<(), Refusal> {
        lock(&self.asked).push(what);
        lock(&self.refusal).clone().map_or(Ok(()), Err)
    }

    fn set_member(&self, state: LocalState) {
        self.edit_local(|local| {
            local.state = state;
            local.control = state == LocalState::Active;
            local.node = Some(id(1));
            local.addr = Some("10.0.0.1:2377".parse().unwrap());
        });
    }
}

#[async_trait]
impl Backend for Fake {
    fn local(&self) -> Local {
        lock(&self.local).clone()
    }

    fn status(&self) -> ClusterStatus {
        let peer = |number: u8, alive: bool| PeerStatus {
            node: id(number),
            hostname: format!("host-{number}"),
            addresses: vec![format!("10.0.0.{number}:2377").parse().unwrap()],
            standing: Standing::Eligible,
            phase: Phase::Up,
            alive,
            since: std::time::Duration::from_secs(90),
            last_log: Some((4, 20)),
            engine_version: "0.1.0".into(),
        };
        ClusterStatus {
            leader: *self.hint.borrow(),
            term: 4,
            voters: vec![id(1), id(2), id(3)],
            learners: vec![],
            peers: vec![peer(1, true), peer(2, true), peer(3, false)],
        }
    }

    fn now(&self) -> Timestamp {
        NOW
    }

    async fn init(&self, request: InitRequest) -> Result<NodeId, Refusal> {
        self.note(format!(
            "init listen={:?} advertise={:?} port={} force={} autolock={} expiry={} {:?} pool={:?}/{} root={}",
            request.listen.map(|a| a.to_string()),
            request.advertise.map(|a| a.to_string()),
            request.data_path_port,
            request.force_new_cluster,
            request.spec.auto_lock,
            request.spec.cert_expiry_ns,
            request.availability,
            request.default_addr_pool,
            request.subnet_size,
            request.own_root.is_some(),
        ))?;
        self.set_member(LocalState::Active);
        Ok(id(1))
    }

    async fn join(&self, request: JoinRequest) -> Result<(), Refusal> {
        self.note(format!(
            "join {} at {:?} {:?}",
            request.token, request.remote_addrs, request.availability
        ))?;
        self.set_member(LocalState::Active);
        Ok(())
    }

    async fn leave(&self, force: bool) -> Result<(), Refusal> {
        self.note(format!("leave force={force}"))?;
        let held = lock(&self.leave_held).clone();
        if let Some(held) = held {
            held.notified().await;
        }
        self.edit_local(|local| local.state = LocalState::Inactive);
        Ok(())
    }

    async fn unlock(&self, key: String) -> Result<(), Refusal> {
        self.note("unlock".into())?;
        if key != KEY {
            return Err(words::wrong_key());
        }
        self.set_member(LocalState::Active);
        Ok(())
    }

    async fn recover(&self) -> Result<String, Refusal> {
        self.note("recover".into())?;
        Ok("This node is the only manager now.".into())
    }

    async fn distribution(&self, image: &str, auth: &str) -> Result<Distribution, Refusal> {
        self.note(format!("describe {image} {auth}"))?;
        Ok(Distribution {
            media_type: "application/vnd.oci.image.index.v1+json".into(),
            digest: format!("sha256:{}", "a".repeat(64)),
            size: 528,
            platforms: vec![ImagePlatform {
                architecture: "amd64".into(),
                os: "linux".into(),
                ..ImagePlatform::default()
            }],
        })
    }

    async fn leader(&self) -> Result<Route, Refusal> {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let node = match self.next_lead() {
            Lead::Nobody => return Err(Refusal::no_leader()),
            Lead::Here => return Ok(Route::Here(self.world.clone())),
            Lead::There(other) => {
                let node = lock(&other.local).node.unwrap();
                self.tasks.spawn(serve_stream(
                    far,
                    forwarded_router(other),
                    self.tasks.clone(),
                ));
                node
            }
            Lead::Silent(node) => {
                let swallowed = self.swallowed.clone();
                self.tasks.spawn(async move {
                    let _ = far.read_u8().await;
                    swallowed.send_modify(|count| *count += 1);
                    std::future::pending::<()>().await;
                });
                node
            }
            Lead::Breaks(node) => node,
        };
        Ok(Route::There(node, Box::new(near)))
    }

    fn containers(&self) -> Arc<dyn Containers> {
        self.containers.clone()
    }

    async fn node(&self, node: NodeId) -> Result<Box<dyn Io>, Refusal> {
        let away = || Refusal::unavailable(format!("node {node} cannot be reached"));
        let peer = lock(&self.peers).get(&node).cloned().ok_or_else(away)?;
        let (near, far) = tokio::io::duplex(1 << 16);
        let served = serve_stream(far, forwarded_router(peer), self.tasks.clone());
        self.tasks.spawn(served);
        Ok(Box::new(near))
    }

    fn images(&self) -> Result<Arc<dyn ImageStore>, Refusal> {
        let disks = lock(&self.disks).clone().ok_or_else(no_engine)?;
        Ok(disks)
    }

    fn volumes(&self) -> Result<Arc<dyn VolumeStore>, Refusal> {
        let disks = lock(&self.disks).clone().ok_or_else(no_engine)?;
        Ok(disks)
    }

    fn leader_hint(&self) -> watch::Receiver<Option<NodeId>> {
        self.hint.subscribe()
    }
}

/// A refusal that no handler makes itself.
pub(crate) fn odd_refusal() -> Refusal {
    Refusal::new(RefusalClass::Forbidden, "because of a test")
}

/// The folder of this crate, for programs that are run from it.
pub(crate) fn crate_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
