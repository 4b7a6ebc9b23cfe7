//! The life of connections and of the transport itself: idle ends, keep-alive, credentials, removal, closing.

use super::super::{Loss, OpenError, StreamError};
use super::*;
use tokio::time::interval;

fn quick() -> Tuning {
    Tuning {
        unused: Duration::from_millis(400),
        keep_alive: Duration::from_millis(100),
        ..Tuning::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_nobody_uses_is_closed_and_the_next_call_dials() {
    let house = House::new(1);
    let (a, b) = house.pair_tuned(quick());
    let mut events = a.transport.events();
    for round in 1..=3 {
        a.reaches(&b).await;
        let lost = event(&mut events, |event| matches!(event, PeerEvent::Lost { .. })).await;
        let expected = PeerEvent::Lost {
            node: b.id,
            why: Loss::Unused,
        };
        assert_eq!(lost, expected);
        until("both have closed it", || {
            a.connections() == 0 && b.connections() == 0
        })
        .await;
        assert_eq!(a.transport.stats().dialled, round);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_stream_keeps_its_connection_however_quiet() {
    let house = House::new(1);
    let (a, b) = house.pair_tuned(quick());
    let mut session = a.transport.open(b.id, StreamKind::Session).await.unwrap();
    session.write_frame(&"hello").await.unwrap();
    let _: String = session.read_frame().await.unwrap();
    // Split, one half dropped: the other alone keeps it.
    let (mut reader, mut writer) = session.split();
    holds_for(quick().unused * 5, "it is kept", || a.connections() == 1).await;
    writer.write_frame(&"still there").await.unwrap();
    let back: String = within("a frame", reader.read_frame()).await.unwrap();
    assert_eq!(back, "still there");
    assert_eq!(a.transport.stats().dialled, 1);
    drop(writer);
    assert!(
        within("the end", reader.read_frame::<String>())
            .await
            .is_err()
    );
    drop(reader);
    until("it is closed when all is done", || a.connections() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gossip_is_use() {
    let house = House::new(1);
    let (a, b) = house.pair_tuned(quick());
    let begun = Instant::now();
    let mut tick = interval(Duration::from_millis(50));
    while begun.elapsed() < quick().unused * 4 {
        tick.tick().await;
        a.transport.gossip(b.id, Bytes::from_static(b"still here"));
        b.transport.gossip(a.id, Bytes::from_static(b"me too"));
    }
    let dialled = a.transport.stats().dialled + b.transport.stats().dialled;
    assert!(dialled <= 2, "{dialled}");
    assert!(a.connections() >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_times_keep_an_idle_connection_for_a_while() {
    let tuning = Tuning::default();
    assert_eq!(tuning.unused, crate::wire::limits::IDLE_TIMEOUT);
    assert_eq!(tuning.dial, crate::wire::limits::DIAL_DEADLINE);
    let house = House::new(1);
    let (a, b) = house.pair();
    a.reaches(&b).await;
    holds_for(Duration::from_secs(2), "one connection", || {
        a.connections() == 1 && b.connections() == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_credentials_are_shown_on_new_connections_and_open_streams_go_on() {
    let house = House::new(1);
    let tuning = Tuning {
        spare: Duration::from_millis(100),
        keep_alive: Duration::from_millis(200),
        ..Tuning::default()
    };
    let (a, b) = house.pair_tuned(tuning);
    let mut session = a.transport.open(b.id, StreamKind::Session).await.unwrap();
    session.write_frame(&"before").await.unwrap();
    let _: String = session.read_frame().await.unwrap();
    let standing = |node: &Node, of: &Node| {
        let link = node.transport.hub.used(of.id);
        link.map(|link| link.peer.standing)
    };
    assert_eq!(standing(&b, &a), Some(Standing::Eligible));
    for node in [&a, &b] {
        let renewed = house.credentials_as(&node.key, Standing::Worker);
        node.credentials.send_replace(renewed);
    }
    until("the renewed certificates are used", || {
        a.transport.connected(b.id).is_none() && b.transport.connected(a.id).is_none()
    })
    .await;
    a.reaches(&b).await;
    assert_eq!(standing(&a, &b), Some(Standing::Worker));
    assert_eq!(standing(&b, &a), Some(Standing::Worker));
    session.write_frame(&"after").await.unwrap();
    let back: String = within("a frame", session.read_frame()).await.unwrap();
    assert_eq!(back, "after");
    drop(session);
    until("the old connection ends with its last stream", || {
        a.connections() == 1 && b.connections() == 1
    })
    .await;
    a.reaches(&b).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_nodes_credentials_are_not_taken_over() {
    let house = House::new(1);
    let (a, b) = house.pair();
    let other = NodeKey::generate().unwrap();
    a.credentials.send_replace(house.credentials(&other));
    a.reaches(&b).await;
    let peer = b.transport.hub.used(a.id).unwrap().peer;
    assert_eq!(peer.node, a.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_peer_loses_its_streams_and_may_return() {
    let house = House::new(1);
    let (a, b) = house.pair();
    let mut events = b.transport.events();
    let mut session = b.transport.open(a.id, StreamKind::Session).await.unwrap();
    session.write_frame(&"hello").await.unwrap();
    let _: String = session.read_frame().await.unwrap();
    a.transport.drop_peer(b.id, "for a test");
    let end = within("the end", session.read_frame::<String>()).await;
    assert!(matches!(end, Err(StreamError::Lost(_))));
    assert!(end.unwrap_err().to_string().contains("for a test"));
    let lost = event(&mut events, |event| matches!(event, PeerEvent::Lost { .. })).await;
    let expected = PeerEvent::Lost {
        node: a.id,
        why: Loss::Closed("for a test".to_owned()),
    };
    assert_eq!(lost, expected);
    assert_eq!(a.transport.addresses(b.id), []);
    b.reaches(&a).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_peer_is_shut_out_from_either_side() {
    let house = House::new(1);
    let (a, b) = house.pair();
    b.reaches(&a).await;
    // Only A knows of the removal.
    let others = House {
        authority: Authority::load(house.authority.root()).unwrap(),
        removed: Arc::default(),
        instances: AtomicU64::new(100),
        ..House::new(1)
    };
    let c = others.node();
    c.knows(&a);
    c.reaches(&a).await;
    house.remove(c.id);
    a.transport.drop_peer(c.id, "removed");
    until("C has noticed", || c.connections() == 0).await;
    let refused = c
        .transport
        .open(a.id, StreamKind::Session)
        .await
        .unwrap_err();
    assert!(matches!(refused, OpenError::Unreachable { .. }));
    assert!(
        refused.to_string().contains("removed from the cluster"),
        "{refused}"
    );
    a.knows(&c);
    let refused = a.transport.open(c.id, StreamKind::Session).await;
    assert_eq!(refused.unwrap_err(), OpenError::Removed(c.id));
    let knocked = a.transport.knock(c.addr()).await.unwrap_err();
    assert!(knocked.to_string().contains("removed"), "{knocked}");
    assert!(!a.transport.probe(c.id, Duration::from_millis(300)).await);
    b.reaches(&a).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_tells_peers_why_and_frees_the_port_whoever_holds_a_stream() {
    let house = House::new(1);
    let (a, b) = house.pair();
    a.reaches(&b).await;
    let stray = a.transport.open(b.id, StreamKind::Session).await.unwrap();
    let stray_link = a.transport.hub.used(b.id).unwrap();
    let mut events = b.transport.events();
    let begun = Instant::now();
    let handle = a.transport.clone();
    a.transport.close("goes for lunch").await;
    assert!(begun.elapsed() < Duration::from_secs(2));
    let again = super::super::socket::open(a.addr()).expect("the port is free");
    drop(again);
    let lost = event(&mut events, |event| matches!(event, PeerEvent::Lost { .. })).await;
    let expected = PeerEvent::Lost {
        node: a.id,
        why: Loss::Stopped("goes for lunch".to_owned()),
    };
    assert_eq!(lost, expected);
    handle.close("once more").await;
    let stopped = handle.open(b.id, StreamKind::Raft).await.unwrap_err();
    assert_eq!(stopped, OpenError::Stopped);
    assert_eq!(handle.knock(b.addr()).await, Err(OpenError::Stopped));
    assert!(!handle.probe(b.id, Duration::from_millis(100)).await);
    handle.gossip(b.id, Bytes::from_static(b"x"));
    assert_eq!(a.connections(), 0);
    drop((stray, stray_link));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_call_ends_when_the_transport_does() {
    let house = House::new(1);
    let (a, b) = house.pair();
    let silent = std::net::UdpSocket::bind(loopback(0)).unwrap();
    let nobody = NodeKey::generate().unwrap().node_id();
    a.transport.learn(nobody, &[silent.local_addr().unwrap()]);
    let deadline = Duration::from_secs(60);
    let unanswered = a
        .transport
        .call_bytes(b.id, StreamKind::Raft, b"never".to_vec(), deadline);
    let undialled = a.transport.open(nobody, StreamKind::Raft);
    let closing = async {
        until("the call is under way", || b.handled() == 1).await;
        until("the dial is under way", || a.transport.stats().dialled >= 2).await;
        a.transport.close("done").await;
    };
    let begun = Instant::now();
    let (unanswered, undialled, ()) = tokio::join!(unanswered, undialled, closing);
    assert!(unanswered.is_err());
    assert_eq!(undialled.unwrap_err(), OpenError::Stopped);
    assert!(begun.elapsed() < Duration::from_secs(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_the_owners_token_closes_all_and_leaves_no_task() {
    let house = House::new(1);
    let key = NodeKey::generate().unwrap();
    let (_credentials, watched) = watch::channel(house.credentials(&key));
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let config = TransportConfig {
        listen: loopback(0),
        instance: 1,
        advertise: Vec::new(),
    };
    let (transport, inbound) =
        Transport::start(config, watched, house.removed(), &tasks, stop.clone()).unwrap();
    let b = house.node();
    b.transport
        .learn(transport.node(), &[transport.local_addr()]);
    let _session = b
        .transport
        .open(transport.node(), StreamKind::Session)
        .await
        .unwrap();
    stop.cancel();
    tasks.close();
    within("all tasks end", tasks.wait()).await;
    super::super::socket::open(transport.local_addr()).expect("the port is free");
    drop(inbound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_named() {
    let house = House::new(1);
    let a = house.node();
    let key = NodeKey::generate().unwrap();
    let refused = house.try_node(key, a.addr(), Tuning::default());
    let Err(error) = refused else {
        panic!("two nodes share a port");
    };
    assert!(matches!(error, StartError::PortTaken(addr) if addr == a.addr()));
    assert!(error.to_string().contains("--listen-addr"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_on_ipv6_speaks_ipv4_too() {
    let house = House::new(1);
    let key = NodeKey::generate().unwrap();
    let any = "[::]:0".parse().unwrap();
    let six = match house.try_node(key, any, Tuning::default()) {
        Ok(six) => six,
        Err(error @ StartError::NoSuchFamily(_)) => {
            println!("skipped: {error}");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let four = house.node();
    let port = six.addr().port();
    six.knows(&four);
    six.reaches(&four).await;
    assert_eq!(six.transport.connected(four.id), Some(four.addr()));
    assert_eq!(four.transport.connected(six.id), Some(loopback(port)));
    four.reaches(&six).await;
}
