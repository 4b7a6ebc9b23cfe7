//! Several nodes that serve each other: one download is enough for all.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;
use skein::agent::images::{Images, PeerContent, Peers, Progress, PullError};
use skein::model::{Digest, NodeId};
use skein::wire::content::{Answer, Held, Question};
use tokio::task::JoinSet;
use tokio_util::io::StreamReader;

use crate::make::{Layout, noise, sample};
use crate::proxy::Proxy;
use crate::world::{Registry, World, free_port};

/// How a node behaves to others.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Manner {
    #[default]
    Honest,
    /// It says that it has everything and sends something else.
    Lies,
    /// It says that it fetches everything, and goes silent.
    Vanishes,
}

/// The nodes, and how they reach each other.
#[derive(Default)]
struct Mesh {
    nodes: Mutex<BTreeMap<NodeId, Images>>,
    manners: Mutex<BTreeMap<NodeId, Manner>>,
    asked: AtomicU64,
    sent: AtomicU64,
}

/// One node's view of it.
struct View {
    mesh: Arc<Mesh>,
    me: NodeId,
}

impl Mesh {
    fn manner(&self, node: NodeId) -> Manner {
        self.manners
            .lock()
            .unwrap()
            .get(&node)
            .copied()
            .unwrap_or_default()
    }

    fn images(&self, node: NodeId) -> Option<Images> {
        self.nodes.lock().unwrap().get(&node).cloned()
    }

    async fn join(self: &Arc<Self>, world: &World, count: u128) -> Vec<Images> {
        let mut joined = Vec::new();
        for n in 1..=count {
            let me = NodeId::from_bits(n);
            let images = world
                .node_with(Arc::new(View {
                    mesh: self.clone(),
                    me,
                }))
                .await;
            self.nodes.lock().unwrap().insert(me, images.clone());
            joined.push(images);
        }
        joined
    }

    fn pretend(&self, node: u128, manner: Manner) {
        self.manners
            .lock()
            .unwrap()
            .insert(NodeId::from_bits(node), manner);
    }
}

impl Peers for View {
    fn me(&self) -> NodeId {
        self.me
    }

    fn live(&self) -> Vec<NodeId> {
        let real = self
            .mesh
            .nodes
            .lock()
            .unwrap()
            .keys()
            .copied()
            .collect::<Vec<_>>();
        let pretended = self
            .mesh
            .manners
            .lock()
            .unwrap()
            .keys()
            .copied()
            .collect::<Vec<_>>();
        let mut all = [real, pretended].concat();
        all.sort();
        all.dedup();
        all.retain(|node| *node != self.me);
        all
    }

    fn ask(&self, node: NodeId, question: Question) -> BoxFuture<'_, Option<Answer>> {
        Box::pin(async move {
            let asked = self.mesh.asked.fetch_add(1, Ordering::Relaxed);
            let pretend = |held| {
                Some(Answer::Content {
                    held,
                    claimed_by: None,
                })
            };
            match self.mesh.manner(node) {
                Manner::Lies => pretend(Held::Here { size: 1 }),
                Manner::Vanishes if asked.is_multiple_of(2) => pretend(Held::Coming {
                    bytes: 1,
                    settled: true,
                }),
                Manner::Vanishes => None,
                Manner::Honest => self
                    .mesh
                    .images(node)?
                    .answer(self.me, &question)
                    .await
                    .ok(),
            }
        })
    }

    fn fetch(
        &self,
        node: NodeId,
        digest: Digest,
        offset: u64,
    ) -> BoxFuture<'_, io::Result<PeerContent>> {
        Box::pin(async move {
            if self.mesh.manner(node) != Manner::Honest {
                let bytes: Box<dyn tokio::io::AsyncRead + Send + Unpin> =
                    Box::new(io::Cursor::new(noise(1, 5000)));
                return Ok(PeerContent { size: 5000, bytes });
            }
            let images = self.mesh.images(node).ok_or(io::ErrorKind::NotConnected)?;
            let question = Question::Fetch { digest, offset };
            let Ok(Answer::Fetch(Some(size))) = images.answer(self.me, &question).await else {
                return Err(io::ErrorKind::NotFound.into());
            };
            self.mesh.sent.fetch_add(size - offset, Ordering::Relaxed);
            let pieces = images
                .blob(digest, offset)
                .await
                .map_err(io::Error::other)?;
            let bytes = Box::new(StreamReader::new(pieces.map_err(io::Error::other)));
            Ok(PeerContent { size, bytes })
        })
    }
}

async fn pull_all(nodes: &[Images], name: &str) -> Vec<Result<Digest, PullError>> {
    let mut pulls = JoinSet::new();
    for node in nodes {
        let (node, name) = (node.clone(), name.to_string());
        pulls.spawn(async move {
            let pulled = node.pull(&name, None, None, &Progress::none()).await;
            pulled.map(|pulled| pulled.manifest)
        });
    }
    pulls.join_all().await
}

/// An image of four layers, and its size.
fn four_layers(world: &World, registry: &Registry, bytes: usize) -> u64 {
    let layout = Layout::new(&world.path("layout"));
    let layers = [1, 2, 3, 4]
        .map(|n| layout.layer(&[(["a", "b", "c", "d"][n as usize - 1], &noise(n, bytes))]));
    layout.name(&layout.image("amd64", &layers), "one");
    registry.push(&layout, "one", "app:v1");
    4 * bytes as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_nodes_at_once_cost_the_registry_one_download() {
    let Some(world) = World::isolated() else {
        return;
    };
    let registry = world.registry(false);
    let size = four_layers(&world, &registry, 2 << 20);
    let proxy = Proxy::before(&registry.address).await;
    let mesh = Arc::new(Mesh::default());
    let nodes = mesh.join(&world, 8).await;
    let name = format!("{}/app:v1", proxy.address);
    let pulled = pull_all(&nodes, &name).await;
    let digests: Vec<Digest> = pulled.into_iter().map(Result::unwrap).collect();
    assert!(digests.iter().all(|digest| *digest == digests[0]));
    let sent = proxy.sent();
    assert!(
        sent * 10 <= size * 11,
        "the registry sent {sent} bytes for an image of {size}"
    );
    assert!(
        mesh.sent.load(Ordering::Relaxed) >= 7 * size,
        "each node fetched for itself"
    );
    for node in &nodes {
        assert_eq!(
            node.resolve(&name).await.unwrap().unwrap().manifest,
            digests[0]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_one_node_has_needs_no_registry() {
    let Some(world) = World::isolated() else {
        return;
    };
    let mesh = Arc::new(Mesh::default());
    let nodes = mesh.join(&world, 3).await;
    let registry = world.registry(false);
    let layout = sample(&world.path("layout"), "one", 4, 300_000);
    registry.push(&layout, "one", "app:v1");
    let first = format!("{}/app:v1", registry.address);
    nodes[0]
        .pull(&first, None, None, &Progress::none())
        .await
        .unwrap();
    registry.stop();
    let closed = format!("127.0.0.1:{}/local:1", free_port());
    nodes[0].tag(&first, &closed).await.unwrap();

    let pulled = nodes[1]
        .pull(&closed, None, None, &Progress::none())
        .await
        .unwrap();
    let wanted = nodes[0].resolve(&closed).await.unwrap().unwrap();
    assert_eq!(pulled.manifest, wanted.manifest);
    let pinned = format!("nowhere.invalid/app@{}", wanted.manifest);
    nodes[2]
        .pull(&pinned, None, None, &Progress::none())
        .await
        .unwrap();
    let error = nodes[2]
        .pull(&format!("{}x", closed), None, None, &Progress::none())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("connection refused"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_that_lie_or_vanish_are_gone_around() {
    let Some(world) = World::isolated() else {
        return;
    };
    let registry = world.registry(false);
    four_layers(&world, &registry, 300_000);
    let mesh = Arc::new(Mesh::default());
    let nodes = mesh.join(&world, 2).await;
    mesh.pretend(100, Manner::Lies);
    mesh.pretend(101, Manner::Vanishes);
    let name = format!("{}/app:v1", registry.address);
    for pulled in pull_all(&nodes, &name).await {
        pulled.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_nobody_has_fails_on_every_node() {
    let Some(world) = World::isolated() else {
        return;
    };
    let registry = world.registry(false);
    let mesh = Arc::new(Mesh::default());
    let nodes = mesh.join(&world, 4).await;
    let missing = format!("{}/app@sha256:{}", registry.address, "34".repeat(32));
    for pulled in pull_all(&nodes, &missing).await {
        let error = pulled.unwrap_err().to_string();
        assert!(error.contains("not found: manifest unknown"), "{error}");
    }
}
