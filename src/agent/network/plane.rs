//! The loop that makes the kernel match what is known, and the handle by which the rest of the node speaks with it.
//!
//! One for each membership of a cluster. What is told it is noted and looked at at once: [`picture::draw`] says what is
//! to be, and the shells make it so, touching only what differs. What they cannot do is tried again, and said once.
//! Containers that run need none of this: their packets are the kernel's.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::dns::Resolver;
use super::intent::Intent;
use super::links::{Interface, Links, Underlay, mac_of};
use super::nft::{Nft, Watch, redirect_dns};
use super::picture::{self, Known, Picture, Sight};
use super::record::{self, Record, Records};
use super::{PlaneError, local};
use crate::model::network::Subnet;
use crate::model::plane::{Attachment, Endpoint, Place, PlaneUpdate};
use crate::model::{ContainerId, NetworkId, NodeId, ServiceId};

/// What the node's own network is called, as in Docker.
const BRIDGE: &str = "bridge";

/// Names the machine's own name servers.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// What failed is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// What a container needs is in the kernel within this, or its start is tried again.
const APPLIED_WITHIN: Duration = Duration::from_secs(5);

/// What is said of a network is heard within this after what is said of its tasks.
const INTENDED_WITHIN: Duration = Duration::from_secs(1);

/// Other nodes hear within this that a container takes no more traffic, or its end waits no longer.
const TOLD_WITHIN: Duration = Duration::from_secs(2);

/// What other nodes take to act on what they heard.
const ACTED_WITHIN: Duration = Duration::from_millis(50);

/// Other firewalls are looked for so often.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// The packet filter's table is written so long after somebody has changed it.
const REWRITE_AFTER: Duration = Duration::from_millis(100);

/// Flows to a task that has stopped taking traffic may go on for so long: it is about to end by then.
const FLOWS_LAST: Duration = Duration::from_secs(15);

/// What a data plane is begun on.
#[derive(Clone, Debug)]
pub struct PlaneGround {
    /// This node.
    pub node: NodeId,
    /// Its address between nodes.
    pub own: IpAddr,
    /// The UDP port of packets between nodes.
    pub port: u16,
    /// Where namespaces are, gone with the machine.
    pub run: PathBuf,
    /// Where notes are kept.
    pub keep: PathBuf,
}

/// What a container is to have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Its name.
    pub name: String,
    /// Of which service.
    pub service: Option<ServiceId>,
    /// Its places in networks of the cluster; with none it is in the node's own.
    pub attachments: Vec<Attachment>,
    /// Name servers of its own.
    pub servers: Vec<IpAddr>,
}

/// A node's data plane. Clones are handles to the same.
#[derive(Clone, Debug)]
pub struct Plane(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    ground: PlaneGround,
    /// The loop works until then.
    stop: CancellationToken,
    local: Subnet,
    links: Links,
    nft: Arc<Mutex<Nft>>,
    resolver: Resolver,
    notes: Mutex<Notes>,
    changed: Notify,
    /// The version of the notes that the kernel is at.
    applied: watch::Sender<u64>,
    /// What takes traffic here, and the version of the notes that says so.
    serving: watch::Sender<(u64, Arc<Vec<Endpoint>>)>,
    /// The version that others were told of.
    told: watch::Sender<u64>,
    /// Rises with each word of the leader.
    intended: watch::Sender<u64>,
}

/// All that is known.
#[derive(Debug)]
struct Notes {
    version: u64,
    intent: Intent,
    sights: BTreeMap<NodeId, Sight>,
    records: Records,
    /// The last address that was given of the node's own.
    last: Option<IpAddr>,
}

impl Plane {
    /// Takes up the work where an earlier life has left it. Its loop runs on `tracker` until `stop`; what is in the
    /// kernel stays.
    pub async fn begin(
        ground: PlaneGround,
        tracker: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, PlaneError> {
        let intent: Intent = match std::fs::read(ground.keep.join("intent")) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Intent::default(),
            Err(error) => return Err(PlaneError::Notes(error)),
        };
        let records = Records::open(ground.keep.join("containers")).map_err(PlaneError::Notes)?;
        let given = records.all().values().filter_map(|record| record.local);
        let local = given.max().map(|addr| Subnet::around(addr, 16));
        let local = local.or_else(|| local::choose(&taken(&intent)));
        let underlay = Underlay {
            addr: ground.own,
            port: ground.port,
            mac: mac_of(ground.node),
        };
        let links = Links::open(underlay, ground.run.clone(), tracker, stop.clone()).await?;
        let nft = Nft::open()?;
        let resolver = Resolver::with(redirect_dns, RESOLV_CONF.into(), stop.clone(), tracker);
        let notes = Notes {
            version: 1,
            intent,
            sights: BTreeMap::new(),
            records,
            last: None,
        };
        let plane = Self(Arc::new(Shared {
            local: local.ok_or(PlaneError::NoRange)?,
            links,
            nft: Arc::new(Mutex::new(nft)),
            resolver,
            serving: watch::channel((1, Arc::new(serving(&notes)))).0,
            notes: Mutex::new(notes),
            changed: Notify::new(),
            applied: watch::channel(0).0,
            told: watch::channel(0).0,
            intended: watch::channel(0).0,
            stop: stop.clone(),
            ground,
        }));
        plane.take_up().await?;
        let own = plane.clone();
        tracker.spawn(async move {
            stop.run_until_cancelled(own.work()).await;
        });
        Ok(plane)
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is known, and has it looked at. Returns the version that has it.
    fn note<T>(&self, change: impl FnOnce(&mut Notes) -> T) -> (u64, T) {
        let mut notes = self.notes();
        let done = change(&mut notes);
        notes.version += 1;
        let version = notes.version;
        let now = serving(&notes);
        drop(notes);
        self.0.serving.send_if_modified(|(of, endpoints)| {
            let changed = **endpoints != now;
            if changed {
                (*of, *endpoints) = (version, Arc::new(now));
            }
            changed
        });
        self.0.changed.notify_one();
        (version, done)
    }

    /// Gives containers of an earlier life their names back, and takes away what belongs to none.
    async fn take_up(&self) -> Result<(), PlaneError> {
        let wired = self.0.links.wired().await?;
        let known: BTreeMap<ContainerId, Record> = self.notes().records.all().clone();
        for container in &wired {
            match known.get(container) {
                Some(record) => self.take_up_one(*container, record).await?,
                None => self.0.links.unwire(*container).await?,
            }
        }
        for container in known.keys().filter(|id| !wired.contains(id)) {
            let removed = self.notes().records.remove(*container);
            removed.map_err(PlaneError::Notes)?;
        }
        Ok(())
    }

    /// Makes sure of a container's interfaces, where its networks are still known, and gives it its names back.
    async fn take_up_one(&self, container: ContainerId, record: &Record) -> Result<(), PlaneError> {
        let interfaces = self.interfaces(&self.notes().intent, record);
        if let Ok(interfaces) = interfaces {
            self.0.links.wire(container, &interfaces).await?;
        }
        self.name(container, record, None).await
    }

    /// Takes what the leader says.
    pub fn intend(&self, update: PlaneUpdate) {
        self.note(|notes| notes.intent.take(update));
        self.0.intended.send_modify(|times| *times += 1);
        self.keep_intent();
    }

    fn keep_intent(&self) {
        let intent = self.notes().intent.clone();
        if let Err(error) = record::write(&self.0.ground.keep.join("intent"), &intent) {
            warn!(%error, "what the leader wants of networks cannot be kept; a restart waits for it to be said again");
        }
    }

    /// Takes what is believed of all other nodes. Endpoints of a node are `None` as long as it has not told of any.
    pub fn see(&self, nodes: BTreeMap<NodeId, (IpAddr, bool, Option<Vec<Endpoint>>)>) {
        let numbers: BTreeSet<NodeId> = nodes.keys().copied().collect();
        let (_, renumbered) = self.note(|notes| {
            let mut sights = std::mem::take(&mut notes.sights);
            for (node, (addr, alive, told)) in nodes {
                let before = sights.remove(&node);
                let endpoints = told.or_else(|| Some(before?.endpoints));
                let sight = Sight {
                    addr,
                    alive,
                    endpoints: endpoints.unwrap_or_default(),
                };
                notes.sights.insert(node, sight);
            }
            notes.intent.number(&numbers)
        });
        if renumbered {
            self.keep_intent();
        }
    }

    /// What takes traffic here, for others to be told, and the version to be named in [`Plane::was_told`].
    pub fn serving(&self) -> watch::Receiver<(u64, Arc<Vec<Endpoint>>)> {
        self.0.serving.subscribe()
    }

    /// Others know what takes traffic here as of this version.
    pub fn was_told(&self, version: u64) {
        self.0
            .told
            .send_if_modified(|told| std::mem::replace(told, version.max(*told)) < version);
    }

    /// A namespace for a container, wired as it wishes, with answers about names; and the address of its first place. When
    /// it is there already it is made sure of.
    pub async fn wire(
        &self,
        container: ContainerId,
        wish: Wish,
    ) -> Result<(PathBuf, Option<IpAddr>), PlaneError> {
        // The leader says what a network is before it says who is in it, but not to the same ear.
        let mut intended = self.0.intended.subscribe();
        let give_up = Instant::now() + INTENDED_WITHIN;
        let (record, interfaces) = loop {
            let (_, noted) = self.note(|notes| self.place(notes, container, wish.clone()));
            match noted {
                Err(PlaneError::Unknown(network)) => {
                    let more = tokio::time::timeout_at(give_up, intended.changed());
                    more.await
                        .map_err(|_| PlaneError::Unknown(network))?
                        .map_err(|_| PlaneError::Late)?;
                }
                noted => break noted?,
            }
        };
        let path = self.0.links.wire(container, &interfaces).await?;
        self.name(container, &record, Some(&path)).await?;
        let (version, ()) = self.note(|_| ());
        self.applied(version).await?;
        Ok((path, record.primary()))
    }

    /// Notes a container, and says what interfaces it has.
    fn place(
        &self,
        notes: &mut Notes,
        container: ContainerId,
        wish: Wish,
    ) -> Result<(Record, Vec<Interface>), PlaneError> {
        let mut record = Record {
            name: wish.name,
            service: wish.service,
            attachments: wish.attachments,
            servers: wish.servers,
            ..notes.records.get(container).cloned().unwrap_or_default()
        };
        if record.attachments.is_empty() && record.local.is_none() {
            let given = notes.records.all().values();
            let taken = given.filter_map(|record| record.local).collect();
            let addr = local::next(self.0.local, notes.last, &taken);
            record.local = Some(addr.ok_or(PlaneError::Crowded(self.0.local))?);
            notes.last = record.local;
        }
        let interfaces = self.interfaces(&notes.intent, &record)?;
        let put = notes.records.put(container, record.clone());
        put.map_err(PlaneError::Notes)?;
        Ok((record, interfaces))
    }

    fn interfaces(&self, intent: &Intent, record: &Record) -> Result<Vec<Interface>, PlaneError> {
        if let Some(addr) = record.local {
            return Ok(vec![Interface {
                addresses: vec![addr],
                pools: vec![self.0.local],
                default: true,
                mtu: 0,
            }]);
        }
        let mut interfaces: Vec<Interface> = Vec::new();
        for place in &record.attachments {
            let network = intent.networks.get(&place.network);
            let network = network.ok_or(PlaneError::Unknown(place.network))?;
            let way_out = interfaces.iter().any(|one| one.default);
            interfaces.push(Interface {
                addresses: place.addresses.clone(),
                pools: network.subnets.clone(),
                default: !network.internal && !way_out,
                mtu: network.mtu,
            });
        }
        Ok(interfaces)
    }

    /// Answers a container's questions about names.
    async fn name(
        &self,
        container: ContainerId,
        record: &Record,
        path: Option<&PathBuf>,
    ) -> Result<(), PlaneError> {
        let usual = self.0.ground.run.join(container.to_string());
        let networks = record.attachments.iter().map(|place| place.network);
        let networks: Vec<NetworkId> = networks.collect();
        let servers = record.servers.clone();
        let path = path.unwrap_or(&usual);
        let attached = self.0.resolver.attach(container, path, networks, servers);
        Ok(attached.await?)
    }

    /// Waits until the kernel is as far as these notes.
    async fn applied(&self, version: u64) -> Result<(), PlaneError> {
        let mut applied = self.0.applied.subscribe();
        let reached = applied.wait_for(|applied| *applied >= version);
        match timeout(APPLIED_WITHIN, reached).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(PlaneError::Late),
        }
    }

    /// Where a container is reached; nothing when it was not wired here.
    pub fn places(&self, container: ContainerId) -> Vec<Place> {
        let notes = self.notes();
        let Some(record) = notes.records.get(container) else {
            return Vec::new();
        };
        let local = record.local.map(|addr| Place {
            network: None,
            name: BRIDGE.into(),
            addr,
            subnet: self.0.local,
            aliases: Vec::new(),
        });
        let attached = record.attachments.iter().flat_map(|one| {
            let network = notes.intent.networks.get(&one.network);
            let addresses = one.addresses.iter();
            addresses.filter_map(move |addr| {
                let subnets = network?.subnets.iter();
                Some(Place {
                    network: Some(one.network),
                    name: network?.name.clone(),
                    addr: *addr,
                    subnet: *subnets.clone().find(|subnet| subnet.has(*addr))?,
                    aliases: one.aliases.clone(),
                })
            })
        });
        attached.chain(local).collect()
    }

    /// From now on the container takes traffic.
    pub fn serve(&self, container: ContainerId) {
        self.set_serving(container, true);
    }

    /// It takes none any more; nobody is waited for.
    pub fn fell(&self, container: ContainerId) {
        self.set_serving(container, false);
    }

    fn set_serving(&self, container: ContainerId, serving: bool) -> Option<u64> {
        let record = self.notes().records.get(container).cloned();
        let record = record.filter(|record| record.serving != serving)?;
        let record = Record { serving, ..record };
        let (version, put) = self.note(|notes| notes.records.put(container, record));
        if let Err(error) = put {
            warn!(%container, %error, "whether it takes traffic cannot be noted");
        }
        Some(version)
    }

    /// The container takes no more traffic: returns when no node sends it any, or two seconds later. Flows that stand go
    /// on.
    pub async fn retire(&self, container: ContainerId) {
        let Some(version) = self.set_serving(container, false) else {
            return;
        };
        let known = async {
            let mut told = self.0.told.subscribe();
            // The loop of the node is over when its sender is gone: nobody is there to be told.
            let _ = told.wait_for(|told| *told >= version).await;
            let _ = self.applied(version).await;
        };
        match timeout(TOLD_WITHIN, known).await {
            Ok(()) => sleep(ACTED_WITHIN).await,
            Err(_) => info!(%container, "ends before all nodes know that it takes no more traffic"),
        }
    }

    /// Takes down what was made for a container that is gone. Good when there is nothing.
    pub async fn release(&self, container: ContainerId) -> Result<(), PlaneError> {
        self.0.resolver.detach(container);
        self.0.links.unwire(container).await?;
        let (version, removed) = self.note(|notes| notes.records.remove(container));
        let Some(record) = removed.map_err(PlaneError::Notes)? else {
            return Ok(());
        };
        if self.0.stop.is_cancelled() {
            return Ok(());
        }
        self.applied(version).await?;
        self.drop_flows(record.addresses().collect()).await;
        Ok(())
    }

    /// Takes everything away, of the kernel's and of the disk's: for a node that leaves its cluster. Its loop has stopped, and
    /// its containers are gone or lose their networks.
    pub async fn end(&self) -> Result<(), PlaneError> {
        for container in self.0.links.wired().await? {
            self.0.links.unwire(container).await?;
        }
        self.nft().end()?;
        self.0.links.end().await?;
        match std::fs::remove_dir_all(&self.0.ground.keep) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(PlaneError::Notes(error)),
            _ => Ok(()),
        }
    }

    /// Makes the kernel match, whenever something is news.
    async fn work(&self) {
        let mut behind = BTreeSet::new();
        let mut leaving: BTreeMap<IpAddr, Instant> = BTreeMap::new();
        let mut trouble = String::new();
        let mut changes = self.0.links.changes();
        let mut watch = self.watch();
        let mut looked = None;
        loop {
            self.open_others(&mut looked).await;
            let (version, picture, dead) = self.look();
            let now = picture::behind(&picture.rules);
            let done = self.make(picture).await;
            match &done {
                Ok(()) => {
                    trouble.clear();
                    self.0.applied.send_replace(version);
                }
                Err(error) if error.to_string() != trouble => {
                    warn!(%error, "the data plane is not as it should be; tried again");
                    trouble = error.to_string();
                }
                Err(_) => {}
            }
            for addr in behind.difference(&now) {
                let at_once = dead.contains(addr);
                let due = Instant::now() + if at_once { Duration::ZERO } else { FLOWS_LAST };
                leaving.insert(*addr, due);
            }
            leaving.retain(|addr, _| !now.contains(addr));
            behind = now;
            let due: Vec<IpAddr> = leaving
                .extract_if(.., |_, due| *due <= Instant::now())
                .map(|(addr, _)| addr)
                .collect();
            self.drop_flows(due).await;
            let next = leaving.values().min().copied();
            let next = next.unwrap_or_else(|| Instant::now() + Duration::from_secs(60));
            tokio::select! {
                () = self.0.changed.notified() => {}
                changed = changes.changed() => match changed {
                    Ok(()) => self.restore().await,
                    Err(_) => return,
                },
                changed = others(watch.as_ref()) => match changed {
                    Ok(()) => {
                        self.rewrite().await;
                        looked = None;
                    }
                    Err(error) => {
                        warn!(%error, "what others do to the rules for containers is noticed no more");
                        watch = None;
                    }
                },
                () = sleep_until(next) => {}
                () = sleep(AGAIN), if done.is_err() => {}
            }
        }
    }

    fn watch(&self) -> Option<Watch> {
        let watch = self.nft().watch();
        let said = watch.inspect_err(
            |error| warn!(%error, "what others do to the rules for containers is not noticed"),
        );
        said.ok()
    }

    fn nft(&self) -> MutexGuard<'_, Nft> {
        self.0.nft.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another firewall of the machine may drop what it does not know. One may come at any time, and nobody says so.
    async fn open_others(&self, looked: &mut Option<Instant>) {
        if looked.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return;
        }
        *looked = Some(Instant::now());
        let nft = self.0.nft.clone();
        let opened = tokio::task::spawn_blocking(move || {
            nft.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .open_others()
        });
        match opened.await {
            Ok(Ok(chains)) => {
                for chain in chains {
                    info!(
                        chain,
                        "another firewall drops what passes through this machine; packets of containers pass it now"
                    );
                }
            }
            Ok(Err(error)) => {
                warn!(%error, "another firewall may keep packets of containers from each other");
            }
            Err(_) => {}
        }
    }

    /// Somebody has changed the packet filter's table. A firewall that begins anew says much in a row, and two programs that
    /// both insist do not keep the machine busy.
    async fn rewrite(&self) {
        info!("another program has changed the rules for containers; they are written again");
        self.nft().forget();
        sleep(REWRITE_AFTER).await;
    }

    /// Somebody took away something of ours.
    async fn restore(&self) {
        if let Err(error) = self.0.links.restore().await {
            warn!(%error, "what others took away of links could not be made again");
        }
    }

    /// What is to be, and the addresses of nodes that are dead.
    fn look(&self) -> (u64, Picture, BTreeSet<IpAddr>) {
        let notes = self.notes();
        let picture = picture::draw(&Known {
            me: self.0.ground.node,
            own: self.0.ground.own,
            port: self.0.ground.port,
            intent: &notes.intent,
            sights: &notes.sights,
            records: notes.records.all(),
            local: self.0.local,
        });
        let dead = notes.sights.values().filter(|sight| !sight.alive);
        let attached = dead.flat_map(|sight| &sight.endpoints);
        let places = attached.flat_map(|endpoint| &endpoint.attachments);
        let dead = places.flat_map(|place| place.addresses.iter().copied());
        (notes.version, picture, dead.collect())
    }

    async fn make(&self, picture: Picture) -> Result<(), PlaneError> {
        self.0.resolver.set(Arc::new(picture.names));
        self.0.links.apply(&picture.links).await?;
        let nft = self.0.nft.clone();
        let applied = tokio::task::spawn_blocking(move || {
            let mut nft = nft.lock().unwrap_or_else(PoisonError::into_inner);
            nft.apply(&picture.rules)
        });
        Ok(applied.await.map_err(|_| PlaneError::Late)??)
    }

    async fn drop_flows(&self, addresses: Vec<IpAddr>) {
        if addresses.is_empty() {
            return;
        }
        let nft = self.0.nft.clone();
        let dropped = tokio::task::spawn_blocking(move || {
            let mut nft = nft.lock().unwrap_or_else(PoisonError::into_inner);
            addresses
                .into_iter()
                .try_for_each(|addr| nft.drop_flows(addr))
        });
        if let Ok(Err(error)) = dropped.await {
            warn!(%error, "flows to a task that is gone are still known to the kernel");
        }
    }
}

/// Waits until another program changes the packet filter's table; for ever when nobody watches.
async fn others(watch: Option<&Watch>) -> io::Result<()> {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

fn serving(notes: &Notes) -> Vec<Endpoint> {
    let records = notes.records.all().values();
    let serving = records.filter(|record| record.serving);
    // Of what is in the node's own network nobody else has to know.
    let attached = serving.filter(|record| !record.attachments.is_empty());
    attached.map(Record::endpoint).collect()
}

/// Addresses of the machine and of the cluster's networks.
fn taken(intent: &Intent) -> Vec<Subnet> {
    let addresses = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let own = addresses.filter_map(|one| {
        let addr = one.address?.as_sockaddr_in()?.ip();
        let mask = one.netmask?.as_sockaddr_in()?.ip();
        let bits = u8::try_from(mask.to_bits().leading_ones()).ok()?;
        Some(Subnet::around(addr.into(), bits))
    });
    own.chain(intent.subnets()).collect()
}
