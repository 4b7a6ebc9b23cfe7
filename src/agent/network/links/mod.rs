//! Interfaces, namespaces and routes of containers: this node's links, as its kernel holds them.
//!
//! One tunnel leads to all other nodes, whatever network a packet is of; each container has a cable to the machine for
//! each of its networks; routes say the rest. The core of the data plane decides what there is to be and calls this
//! room. It asks the kernel what it has and touches only what differs, so that everything may be asked for again: after
//! a restart, after a crash at any point, after somebody changed something. It never stops what works.
//!
//! | file | idea |
//! |---|---|
//! | `netlink` | a conversation with the kernel |
//! | `link`, `routes`, `rules`, `mac` | what is said in it: values, and their differences |
//! | `vxlan` | the tunnel |
//! | `veth`, `namespace` | a container's cables, and where they end |
//! | `sysctl` | switches |
//! | `watch` | what others change |

mod link;
mod mac;
mod namespace;
mod netlink;
mod routes;
mod rules;
mod sysctl;
mod veth;
mod vxlan;
mod watch;

#[cfg(test)]
pub(super) mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::TokioSocket;
use tokio::runtime::Handle;
use tokio::sync::{OwnedMutexGuard, oneshot, watch as tokio_watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::link::Link;
use self::netlink::{Kernel, Request};
use crate::model::ContainerId;
use crate::model::network::Subnet;

pub use self::mac::mac_of;

/// This node, as the others reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Underlay {
    /// Its address among the machines.
    pub addr: IpAddr,
    /// The UDP port of all tunnels.
    pub port: u16,
    /// The hardware address of its end, [`mac_of`] its ID.
    pub mac: [u8; 6],
}

/// Another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// Its address among the machines.
    pub addr: IpAddr,
    /// The hardware address of its end.
    pub mac: [u8; 6],
    /// What this node calls it: from 1 to 32767, and none other is called so.
    pub index: u16,
}

/// What there is to be beside the cables of containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// All other nodes that carry packets.
    pub peers: BTreeSet<Peer>,
    /// Which of them, by its address, has the containers with these addresses.
    pub routes: BTreeMap<Subnet, IpAddr>,
    /// All addresses that containers may have: those without a route are refused.
    pub pools: BTreeSet<Subnet>,
}

/// A container's place in a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its addresses there.
    pub addresses: Vec<IpAddr>,
    /// What is reached through it.
    pub pools: Vec<Subnet>,
    /// Everything else is, too.
    pub default: bool,
    /// Bytes of the longest packet; what fits into the tunnel when zero.
    pub mtu: u32,
}

/// A link of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineLink {
    /// Its name.
    pub name: String,
    /// Bytes of the longest packet.
    pub mtu: u32,
}

/// Why links are not as they should be. What was done of it stays, and is completed by the next call.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The kernel refused something.
    #[error("cannot {what}")]
    Kernel {
        /// What was attempted.
        what: String,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// Another program has the tunnel's port, or its number there.
    #[error(
        "port {port}/udp is taken by another VXLAN device or program of this machine: choose another with --data-path-port when the cluster is made"
    )]
    Taken {
        /// The port.
        port: u16,
        /// What was attempted.
        #[source]
        source: Box<Self>,
    },
    /// It went away as soon as it was made.
    #[error("somebody took away {0} that was just made")]
    Gone(&'static str),
    /// More networks than a container can have.
    #[error("a container has at most {most} networks, not {asked}", most = veth::MOST)]
    TooMany {
        /// How many were asked for.
        asked: usize,
    },
    /// A thread ended in the middle of it.
    #[error("the work on links was broken off")]
    Broken,
}

impl LinkError {
    fn kernel(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        |source| Self::Kernel { what, source }
    }

    fn errno(&self) -> Option<Errno> {
        match self {
            Self::Kernel { source, .. } => source.raw_os_error().map(Errno::from_raw),
            Self::Taken { .. } | Self::Gone(_) | Self::TooMany { .. } | Self::Broken => None,
        }
    }
}

/// This node's links. All calls may be made at once, and are done one after the other; one whose caller no longer waits
/// is completed all the same.
#[derive(Clone, Debug)]
pub struct Links {
    shared: Arc<Shared>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
struct Shared {
    home: File,
    folder: PathBuf,
    underlay: Underlay,
    held: Mutex<Held>,
    changes: tokio_watch::Sender<u64>,
}

/// What was last asked for: whoever watches compares with it.
#[derive(Debug, Default)]
struct Held {
    desired: Desired,
    routes: routes::Routes,
    rules: BTreeSet<rules::Rule>,
    wired: BTreeMap<ContainerId, Vec<Interface>>,
    names: BTreeSet<String>,
    tunnel: u32,
    mtu: u32,
}

impl Links {
    /// Makes the tunnel, or takes the one that is there, in the namespace of the calling thread, where everything else
    /// will be, too. Namespaces of containers are kept in `folder`. What is changed by others is noticed until `stop`.
    ///
    /// # Errors
    /// The kernel refuses something, or another program has the tunnel's port.
    pub async fn open(
        underlay: Underlay,
        folder: PathBuf,
        tracker: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, LinkError> {
        let home = namespace::own().map_err(LinkError::kernel("open the machine's namespace"))?;
        let shared = Arc::new(Shared {
            home,
            folder,
            underlay,
            held: Mutex::default(),
            changes: tokio_watch::Sender::new(0),
        });
        let links = Self {
            shared,
            turn: Arc::default(),
        };
        let runtime = Handle::current();
        let watched = links
            .work(move |shared| {
                let _entered = runtime.enter();
                shared.open()
            })
            .await?;
        tracker.spawn(watch::run(watched, links.shared.clone(), stop));
        Ok(links)
    }

    /// Makes peers, routes and rules what they are to be. What is so already is not touched.
    ///
    /// # Errors
    /// The kernel refuses something; everything else was done.
    pub async fn apply(&self, desired: &Desired) -> Result<(), LinkError> {
        let desired = desired.clone();
        self.work(move |shared| shared.apply(desired)).await
    }

    /// Gives a container a namespace with these interfaces, and the path by which the runtime enters it. What is there
    /// already stays.
    ///
    /// # Errors
    /// The kernel refuses something. Another call completes it, [`unwire`](Self::unwire) removes what was made.
    pub async fn wire(
        &self,
        container: ContainerId,
        interfaces: &[Interface],
    ) -> Result<PathBuf, LinkError> {
        if interfaces.len() > veth::MOST {
            return Err(LinkError::TooMany {
                asked: interfaces.len(),
            });
        }
        let interfaces = interfaces.to_vec();
        self.work(move |shared| shared.wire(container, interfaces))
            .await
    }

    /// Takes a container's interfaces and namespace away. Good when there is nothing.
    ///
    /// # Errors
    /// The kernel refuses something; another call goes on from there.
    pub async fn unwire(&self, container: ContainerId) -> Result<(), LinkError> {
        // Out of turn, so that those of many containers that go at once are taken away together; and in turn, because what
        // had its turn meanwhile may have made them anew.
        let doom = move |shared: &Shared| {
            shared.held().forget(container);
            veth::doom(container)
        };
        self.aside(None, doom).await?;
        self.work(move |shared| {
            doom(shared)?;
            veth::bury()?;
            namespace::remove(&shared.folder, container)
        })
        .await
    }

    /// The containers of which anything is there, whoever made it and when.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub async fn wired(&self) -> Result<BTreeSet<ContainerId>, LinkError> {
        self.work(|shared| namespace::list(&shared.folder)).await
    }

    /// Makes everything again what was last asked for, here and at the machine's end of each container's cables: called
    /// after [`changes`](Self::changes).
    ///
    /// # Errors
    /// The kernel refuses something; everything else was done.
    pub async fn restore(&self) -> Result<(), LinkError> {
        self.work(|shared| {
            let (desired, wired) = {
                let held = shared.held();
                (held.desired.clone(), held.wired.clone())
            };
            let mut result = shared.apply(desired);
            for (container, interfaces) in wired {
                let wired = shared.wire(container, interfaces).map(drop);
                result = result.and(wired);
            }
            result
        })
        .await
    }

    /// Takes away all that was made beside the cables of containers: the tunnel, the routes and their rules.
    ///
    /// # Errors
    /// The kernel refuses something; another call goes on from there.
    pub async fn end(&self) -> Result<(), LinkError> {
        self.work(|shared| {
            shared.apply(Desired::default())?;
            let mut kernel = Kernel::open()?;
            match Link::named(&mut kernel, vxlan::NAME)? {
                Some(tunnel) => kernel.tell(link::delete([tunnel.index])),
                None => Ok(()),
            }
        })
        .await
    }

    /// Counts how often somebody else took away something of ours.
    pub fn changes(&self) -> tokio_watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// Bytes of the longest packet that fits into the tunnel.
    pub fn mtu(&self) -> u32 {
        self.shared.held().mtu
    }

    /// The link of this machine that has an address.
    ///
    /// # Errors
    /// The kernel refuses to tell.
    pub async fn interface_of(&self, addr: IpAddr) -> Result<Option<MachineLink>, LinkError> {
        self.work(move |_| {
            let found = vxlan::interface_of(&mut Kernel::open()?, addr)?;
            Ok(found.map(|Link { name, mtu, .. }| MachineLink { name, mtu }))
        })
        .await
    }

    /// Has work done in the machine's namespace, in its turn.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, LinkError> + Send + 'static,
    ) -> Result<T, LinkError> {
        let turn = self.turn.clone().lock_owned().await;
        self.aside(Some(turn), work).await
    }

    /// Has work done in the machine's namespace, on a thread of its own that nothing else will run on. The turn, if it
    /// is its turn, ends with the work, whether anybody waits for it or not.
    async fn aside<T: Send + 'static>(
        &self,
        turn: Option<OwnedMutexGuard<()>>,
        work: impl FnOnce(&Shared) -> Result<T, LinkError> + Send + 'static,
    ) -> Result<T, LinkError> {
        let shared = self.shared.clone();
        let (tell, told) = oneshot::channel();
        std::thread::Builder::new()
            .name("links".into())
            .spawn(move || {
                let entered = setns(shared.home.as_fd(), CloneFlags::CLONE_NEWNET)
                    .map_err(|errno| LinkError::kernel("enter a namespace")(errno.into()));
                let result = entered.and_then(|()| work(&shared));
                drop(turn);
                // Whoever asked may be gone.
                let _ = tell.send(result);
            })
            .map_err(LinkError::kernel("start a thread"))?;
        told.await.unwrap_or(Err(LinkError::Broken))
    }
}

impl Held {
    fn keep(&mut self, container: ContainerId, interfaces: Vec<Interface>) {
        let names = (0..interfaces.len()).map(|index| veth::name(container, index));
        self.names.extend(names);
        self.wired.insert(container, interfaces);
    }

    fn forget(&mut self, container: ContainerId) {
        for index in 0..self.wired.remove(&container).map_or(0, |all| all.len()) {
            self.names.remove(&veth::name(container, index));
        }
    }
}

/// What is done on threads in the machine's namespace.
impl Shared {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Result<TokioSocket, LinkError> {
        fs::create_dir_all(&self.folder)
            .map_err(LinkError::kernel(format!("make {}", self.folder.display())))?;
        sysctl::forward_v4()?;
        let tunnel = vxlan::ensure(&mut Kernel::open()?, &self.underlay)?;
        let mut held = self.held();
        (held.tunnel, held.mtu) = (tunnel.index, tunnel.mtu);
        watch::open().map_err(LinkError::kernel("watch links"))
    }

    fn wire(
        &self,
        container: ContainerId,
        mut interfaces: Vec<Interface>,
    ) -> Result<PathBuf, LinkError> {
        let mtu = {
            let mut held = self.held();
            held.forget(container);
            held.mtu
        };
        for interface in interfaces.iter_mut().filter(|one| one.mtu == 0) {
            interface.mtu = mtu;
        }
        let namespace = namespace::ensure(&self.folder, container)?;
        veth::wire(&namespace, container, &interfaces)?;
        self.held().keep(container, interfaces);
        Ok(namespace::path(&self.folder, container))
    }

    fn apply(&self, desired: Desired) -> Result<(), LinkError> {
        sysctl::forward_v4()?;
        if routes::families(&desired).any(|v4| !v4) {
            sysctl::forward_v6()?;
        }
        let mut kernel = Kernel::open()?;
        let tunnel = vxlan::ensure(&mut kernel, &self.underlay)?;
        let want = routes::wanted(&desired, self.underlay.addr, tunnel.index);
        let rules = rules::wanted(&desired);
        {
            let mut held = self.held();
            (held.tunnel, held.mtu) = (tunnel.index, tunnel.mtu);
            held.routes.clone_from(&want);
            held.rules.clone_from(&rules);
            held.desired.clone_from(&desired);
        }
        let (mut requests, forget) = vxlan::difference(&mut kernel, &desired, tunnel.index)?;
        let (write, drop) = routes::difference(&own_routes(&mut kernel, tunnel.index)?, &want);
        let have = own_rules(&mut kernel)?;
        requests.extend(write.iter().map(|(place, way)| {
            let message = routes::message(place, way, routes::PROTOCOL);
            Request::replace(
                RouteNetlinkMessage::NewRoute(message),
                format!("route {}", place.to),
            )
        }));
        requests.extend(rules.difference(&have).map(|rule| {
            let message = RouteNetlinkMessage::NewRule(rules::message(rule));
            Request::ensure(message, "add a rule of routes")
        }));
        requests.extend(have.difference(&rules).map(|rule| {
            let message = RouteNetlinkMessage::DelRule(rules::message(rule));
            Request::remove(message, "remove a rule of routes")
        }));
        requests.extend(drop.iter().map(|(place, way)| {
            let message = routes::message(place, way, routes::PROTOCOL);
            Request::remove(
                RouteNetlinkMessage::DelRoute(message),
                format!("stop routing {}", place.to),
            )
        }));
        requests.extend(forget);
        kernel.tell(requests)
    }
}

/// Routes of ours that lead through the tunnel, or nowhere.
fn own_routes(kernel: &mut Kernel, tunnel: u32) -> Result<routes::Routes, LinkError> {
    let mut all = routes::Routes::new();
    for v4 in [true, false] {
        let listed = kernel.list(routes::question(v4), "list routes")?;
        let read = |message: &RouteNetlinkMessage| match message {
            RouteNetlinkMessage::NewRoute(message) => (message.header.protocol == routes::PROTOCOL)
                .then(|| routes::read(message))
                .flatten(),
            _ => None,
        };
        let ours = |way: &routes::Way| match way {
            routes::Way::Nowhere => true,
            routes::Way::Link(link) | routes::Way::Via { link, .. } => *link == tunnel,
        };
        all.extend(listed.iter().filter_map(read).filter(|(_, way)| ours(way)));
    }
    Ok(all)
}

fn own_rules(kernel: &mut Kernel) -> Result<BTreeSet<rules::Rule>, LinkError> {
    let mut all = BTreeSet::new();
    for v4 in [true, false] {
        let listed = kernel.list(rules::question(v4), "list rules of routes")?;
        all.extend(listed.iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewRule(message) => rules::read(message),
            _ => None,
        }));
    }
    Ok(all)
}
