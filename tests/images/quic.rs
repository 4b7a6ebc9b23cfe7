//! The same between nodes of a cluster, over its own connections: certificates, QUIC, gossip.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use skein::agent::images::{Images, Peers, Progress};
use skein::cluster::membership::{Membership, MembershipConfig};
use skein::cluster::transport::{Transport, TransportConfig};
use skein::identity::ca::{Authority, Grant};
use skein::identity::credentials::Credentials;
use skein::identity::key::NodeKey;
use skein::model::{ClusterId, NodeId, Standing};
use skein::node::clock;
use skein::node::content::{Cluster, QuicPeers, serve};
use skein::node::links::QuicLink;
use skein::wire::StreamKind;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::make::sample;
use crate::wait::until;
use crate::world::{World, free_port};

const DEADLINE: Duration = Duration::from_secs(30);

/// A member with images, without a daemon around it.
struct Member {
    node: NodeId,
    addr: SocketAddr,
    images: Images,
    peers: Arc<QuicPeers>,
    transport: Transport,
    tracker: TaskTracker,
    stop: CancellationToken,
    _credentials: watch::Sender<Arc<Credentials>>,
}

impl Member {
    /// `seed` is a member that is there already.
    async fn up(world: &World, root: &Authority, seed: Option<&Self>) -> Self {
        let key = NodeKey::generate().unwrap();
        let grant = Grant {
            cluster: ClusterId::from_bits(1),
            standing: Standing::Worker,
            now: clock::now(),
            validity: Duration::from_secs(3600),
        };
        let issued = root.issue(&key.csr_der().unwrap(), &grant).unwrap();
        let roots = &root.root().cert_pem;
        let credentials = Credentials::from_pem(&key.to_pem(), &issued.chain_pem, roots);
        let (held, watched) = watch::channel(Arc::new(credentials.unwrap()));
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        let addr: SocketAddr = format!("127.0.0.1:{}", free_port()).parse().unwrap();
        let config = TransportConfig {
            listen: addr,
            instance: 1,
            advertise: vec![addr],
        };
        let all = Arc::new(|_| false);
        let started = Transport::start(config, watched, all, &tracker, stop.child_token());
        let (transport, inbound) = started.unwrap();
        if let Some(seed) = seed {
            transport.learn(seed.node, &[seed.addr]);
        }
        let link = QuicLink(transport.clone());
        let config = MembershipConfig {
            node: issued.node,
            cluster: grant.cluster,
            generation: 1,
            seeds: seed.map(|seed| seed.node).into_iter().collect(),
        };
        let gossip = inbound.gossip;
        let token = stop.child_token();
        let membership =
            Membership::start(config, link.clone(), gossip, link, &tracker, token).await;
        let peers = Arc::<QuicPeers>::default();
        peers.attach(Some(Cluster {
            me: issued.node,
            transport: transport.clone(),
            membership: membership.unwrap(),
        }));
        let images = world.node_with(peers.clone()).await;
        let (served, mut streams, tasks) = (images.clone(), inbound.streams, tracker.clone());
        let serving = async move {
            while let Some(stream) = streams.recv().await {
                assert_eq!(stream.kind, StreamKind::Content);
                let images = served.clone();
                tasks.spawn(async move { serve(&images, stream).await });
            }
        };
        tracker.spawn(stop.child_token().run_until_cancelled_owned(serving));
        Self {
            node: issued.node,
            addr,
            images,
            peers,
            transport,
            tracker,
            stop,
            _credentials: held,
        }
    }

    async fn knows(&self, other: &Self) {
        let seen = || async { self.peers.live().contains(&other.node) };
        until(DEADLINE, "a member is seen", seen).await;
    }

    async fn down(self) {
        self.peers.attach(None);
        assert_eq!(self.peers.live(), []);
        self.transport.close("the test is over").await;
        self.stop.cancel();
        drop(self.images);
        self.tracker.close();
        tokio::time::timeout(DEADLINE, self.tracker.wait())
            .await
            .expect("everything ends");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_member_has_the_others_pull_from_it() {
    let Some(world) = World::isolated() else {
        return;
    };
    let root = Authority::generate(clock::now()).unwrap();
    let first = Member::up(&world, &root, None).await;
    let second = Member::up(&world, &root, Some(&first)).await;
    let registry = world.registry(false);
    // Longer than a stream's window.
    let layout = sample(&world.path("layout"), "one", 4, 3 << 20);
    registry.push(&layout, "one", "app:v1");
    let name = format!("{}/app:v1", registry.address);
    let pull = |images: Images, name: String| async move {
        images.pull(&name, None, None, &Progress::none()).await
    };
    pull(first.images.clone(), name.clone()).await.unwrap();
    registry.stop();

    let wanted = first.images.resolve(&name).await.unwrap().unwrap();
    second.knows(&first).await;
    first.knows(&second).await;
    let pulled = pull(second.images.clone(), name.clone()).await.unwrap();
    assert_eq!(pulled.manifest, wanted.manifest);

    // A newcomer that only knows the second gets it as well, even when the first has gone.
    let third = Member::up(&world, &root, Some(&second)).await;
    third.knows(&second).await;
    second.knows(&third).await;
    first.down().await;
    let pinned = format!("nowhere.invalid/app@{}", wanted.manifest);
    let pulled = pull(third.images.clone(), pinned).await.unwrap();
    assert_eq!(pulled.manifest, wanted.manifest);
    second.down().await;
    third.down().await;
}
