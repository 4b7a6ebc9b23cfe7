//! One image to many machines at once: what the registry has to send, and how long it takes.
//!
//! Each machine is a network namespace with its own address, its own containerd, and a node of this process in it that
//! reaches the others over the real transport: QUIC with certificates.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use skein::agent::images::{Images, ImagesSettings, Progress};
use skein::cluster::membership::Liveness;
use skein::identity::Authority;
use skein::model::{Digest, NodeId};
use skein::node::clock;
use skein::node::content::{Cluster, QuicPeers, serve};
use skein::wire::StreamKind;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::args::Options;
use crate::assign::runtime;
use crate::bed::Bed;
use crate::chart::{Figure, Goal};
use crate::lan::Lan;
use crate::make::{Layout, noise};
use crate::proxy::Proxy;
use crate::quic::{Wired, words};
use crate::report::Report;
use crate::world::{Registry, free_port};

/// Machines that pull at once.
const MACHINES: usize = 8;

const LAYERS: u64 = 4;

/// A layer's file is written so often, each time with other bytes: on the disks of all machines lies only the last.
const TIMES: u64 = 5;

/// What the registry may send, in images.
const SENT: f64 = 1.1;

/// Until all have met, and until all have pulled.
const MEETING: Duration = Duration::from_secs(60);
const PULLING: Duration = Duration::from_secs(600);

/// UDP port of every node, on an address of its own.
const PORT: u16 = 2377;

/// All machines at once, of an image that none has.
pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<(), String> {
    let folder = tempfile::tempdir_in("/var/tmp").map_err(|error| error.to_string())?;
    let own = runtime()?;
    let registry = format!("127.0.0.1:{}", free_port());
    let registry = Registry::start(&folder.path().join("registry"), registry, false);
    let megabytes = options.size(40, 200);
    let size = image(&folder.path().join("layout"), &registry, megabytes)?;
    let lan = Lan::up(MACHINES)?;
    let listener = lan.listen()?;
    let proxy = {
        let _inside = own.enter();
        let listener = tokio::net::TcpListener::from_std(listener);
        Proxy::at(
            listener.map_err(|error| error.to_string())?,
            &registry.address,
        )
    };
    let machines = machines(&lan, &proxy.address)?;
    let name = format!("{}/app:v1", proxy.address);
    let before = sent(&machines);
    let begin = Instant::now();
    let pulls: Vec<_> = machines
        .iter()
        .map(|machine| {
            let (images, name) = (machine.images.clone(), name.clone());
            machine
                .tasks
                .spawn_on(pulled(images, name), machine.threads.handle())
        })
        .collect();
    let mut digests = Vec::new();
    for pull in pulls {
        let pulled = own.block_on(async { tokio::time::timeout(PULLING, pull).await });
        let (digest, at) = pulled
            .map_err(|_| "a pull takes too long")?
            .map_err(|error| error.to_string())??;
        digests.push((digest, at.duration_since(begin)));
    }
    let bytes = sent(&machines) - before;
    if digests.iter().any(|(digest, _)| *digest != digests[0].0) {
        return Err("they did not pull the same".into());
    }
    let ratio = Figure::value(
        "the registry sends",
        "images",
        proxy.sent() as f64 / size as f64,
    );
    report.add(ratio.goal(Goal::Most(SENT)));
    let times: Vec<Duration> = digests.iter().map(|(_, took)| *took).collect();
    report.add(Figure::times("a machine has it, unpacked, after", &times));
    report.add(Figure::value(
        "machines send each other",
        "images",
        bytes as f64 / size as f64,
    ));
    report.note(format!(
        "{MACHINES} machines, an image of {LAYERS} layers and {:.1} MB; headers of HTTP and of QUIC are counted as \
         sent; all nodes are in this process, which encrypts, decrypts and hashes for all of them",
        size as f64 / 1e6
    ));
    machines.into_iter().for_each(Machine::down);
    Ok(())
}

async fn pulled(images: Images, name: String) -> Result<(Digest, Instant), String> {
    let pulled = images.pull(&name, None, None, &Progress::none()).await;
    let pulled = pulled.map_err(|error| error.to_string())?;
    Ok((pulled.manifest, Instant::now()))
}

/// Makes the image, pushes it, and says how large it is as the registry has it.
fn image(layout: &Path, registry: &Registry, megabytes: u64) -> Result<u64, String> {
    let made = Layout::new(layout);
    let bytes = usize::try_from(megabytes * 1_000_000 / LAYERS / TIMES).unwrap_or(0);
    let layers: Vec<_> = (0..LAYERS)
        .map(|layer| {
            let parts: Vec<Vec<u8>> = (0..TIMES)
                .map(|time| noise(1 + layer * TIMES + time, bytes))
                .collect();
            let path = format!("noise-{layer}");
            let files: Vec<(&str, &[u8])> = parts.iter().map(|part| (&*path, &**part)).collect();
            made.layer(&files)
        })
        .collect();
    made.name(&made.image("amd64", &layers), "one");
    let blobs = fs::read_dir(layout.join("blobs/sha256")).map_err(|error| error.to_string())?;
    let sizes = blobs.flatten().filter_map(|blob| blob.metadata().ok());
    let size = sizes.map(|meta| meta.len()).sum();
    registry.push(&made, "one", "app:v1");
    fs::remove_dir_all(layout).map_err(|error| error.to_string())?;
    Ok(size)
}

/// A node on a machine of its own.
struct Machine {
    images: Images,
    id: NodeId,
    transport: skein::cluster::transport::Transport,
    membership: skein::cluster::membership::Membership,
    tasks: TaskTracker,
    stop: CancellationToken,
    threads: Runtime,
    _bed: Bed,
}

/// All of them, who know each other.
fn machines(lan: &Lan, registry: &str) -> Result<Vec<Machine>, String> {
    let authority = Arc::new(Authority::generate(clock::now()).map_err(words)?);
    let mut machines = Vec::new();
    for number in 1..=MACHINES {
        let bed = Bed::up_among(MACHINES).ok_or("no containerd can be had here")?;
        let threads = lan.threads(number)?;
        let listen = (Lan::address(number), PORT).into();
        let up = Machine::up(bed, threads, authority.clone(), listen, registry.to_owned());
        machines.push(up?);
    }
    let all: Vec<(NodeId, SocketAddr)> = machines
        .iter()
        .map(|machine| (machine.id, machine.transport.local_addr()))
        .collect();
    for machine in &machines {
        for (other, address) in all.iter().filter(|(other, _)| *other != machine.id) {
            machine.transport.learn(*other, &[*address]);
        }
    }
    for machine in &machines {
        machine.membership.meet(all[0].0);
    }
    for machine in &machines {
        let mut peers = machine.membership.peers();
        let met = async move {
            let met = peers.wait_for(|peers| {
                let alive =
                    |peer: &&skein::cluster::membership::PeerView| peer.liveness == Liveness::Alive;
                peers.nodes.values().filter(alive).count() == MACHINES
            });
            tokio::time::timeout(MEETING, met)
                .await
                .is_ok_and(|met| met.is_ok())
        };
        if !machine.threads.block_on(met) {
            return Err("the machines did not meet".into());
        }
    }
    Ok(machines)
}

impl Machine {
    fn up(
        bed: Bed,
        threads: Runtime,
        authority: Arc<Authority>,
        listen: SocketAddr,
        registry: String,
    ) -> Result<Self, String> {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let settings = ImagesSettings {
            address: bed.socket(),
            namespace: bed.name.clone(),
            snapshotter: "overlayfs".into(),
            scratch: bed.directory.join("scratch"),
            insecure_registries: vec![registry],
            clock: clock::now,
        };
        let (tracker, token) = (tasks.clone(), stop.clone());
        // By one of its threads, for this one is not there.
        let up = async move {
            let wired = Wired::up(&authority, listen, &tracker, &token).await?;
            let peers = Arc::<QuicPeers>::default();
            peers.attach(Some(Cluster {
                me: wired.id,
                transport: wired.transport.clone(),
                membership: wired.membership.clone(),
            }));
            let images = Images::connect(settings, peers).await.map_err(words)?;
            let (mut streams, kept, serving) = (wired.streams, wired.kept, images.clone());
            let answers = tracker.clone();
            let serve_all = async move {
                let _kept = kept;
                while let Some(stream) = streams.recv().await {
                    if stream.kind == StreamKind::Content {
                        let images = serving.clone();
                        answers.spawn(async move { serve(&images, stream).await });
                    }
                }
            };
            tracker.spawn(token.run_until_cancelled_owned(serve_all));
            Ok::<_, String>((images, wired.id, wired.transport, wired.membership))
        };
        let up = threads.block_on(tasks.spawn_on(up, threads.handle()));
        let (images, id, transport, membership) = up.map_err(|error| error.to_string())??;
        Ok(Self {
            images,
            id,
            transport,
            membership,
            tasks,
            stop,
            threads,
            _bed: bed,
        })
    }

    fn down(self) {
        self.stop.cancel();
        self.tasks.close();
        self.threads.block_on(self.tasks.wait());
    }
}

/// Bytes of UDP payload that all have sent.
fn sent(machines: &[Machine]) -> u64 {
    let sent = machines
        .iter()
        .map(|machine| machine.transport.stats().bytes_sent);
    sent.sum()
}
