//! Two nodes that are well: calls, streams, gossip, and one connection between them.

use futures_util::future::join_all;

use super::super::OpenError;
use super::super::link::Link;
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_answered_and_the_connection_is_kept() {
    let house = House::new(1);
    let (a, b) = house.pair();
    let mut events = a.transport.events();
    a.reaches(&b).await;
    b.reaches(&a).await;
    assert_eq!((a.connections(), b.connections()), (1, 1));
    assert_eq!(a.transport.connected(b.id), Some(b.addr()));
    assert_eq!(
        b.transport.connected(a.id),
        Some(a.addr()),
        "it dials from the port on which it listens"
    );
    let connected = event(&mut events, |event| {
        matches!(event, PeerEvent::Connected { .. })
    });
    let expected = PeerEvent::Connected {
        node: b.id,
        addr: b.addr(),
    };
    assert_eq!(connected.await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn typed_calls_carry_values() {
    let house = House::new(1);
    let (a, b) = house.pair();
    let deadline = Duration::from_secs(5);
    let sent = ("text".to_owned(), 7u64);
    let got: (String, u64) = a
        .transport
        .call(b.id, StreamKind::Control, &sent, deadline)
        .await
        .unwrap();
    assert_eq!(got, sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_calls_at_once_share_one_connection() {
    let house = House::new(1);
    let (a, b) = house.pair();
    let calls = (0..100u32).map(|n| {
        let a = &a;
        let b = &b;
        async move {
            let text = n.to_be_bytes().repeat(200);
            assert_eq!(a.echo(b.id, &text).await.unwrap(), text);
        }
    });
    within("100 calls", join_all(calls)).await;
    assert_eq!((a.connections(), b.connections()), (1, 1));
    assert_eq!(b.handled(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_calls_after_a_pause_ask_once_and_do_not_dial() {
    let house = House::new(1);
    let tuning = Tuning {
        fresh: Duration::from_millis(50),
        doubt: Duration::from_secs(5),
        ..Tuning::default()
    };
    let (a, b) = house.pair_tuned(tuning);
    a.reaches(&b).await;
    let link = a.transport.hub.used(b.id).unwrap();
    until("it is silent", || link.silent_for() > tuning.fresh).await;
    within("100 calls", join_all((0..100).map(|_| a.reaches(&b)))).await;
    assert_eq!(a.transport.stats().dialled, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_both_dial_at_once_one_connection_is_left_and_no_call_is_lost() {
    let house = House::new(1);
    for _ in 0..10 {
        let tuning = Tuning {
            spare: Duration::from_millis(200),
            keep_alive: Duration::from_millis(400),
            ..Tuning::default()
        };
        let (small, large) = house.pair_tuned(tuning);
        tokio::join!(small.reaches(&large), large.reaches(&small));
        // Each may have one before it hears of the other's: it must come to be the same one.
        until("one connection is left, the same for both", || {
            let counts = (small.connections(), large.connections());
            counts == (1, 1) && dialler_of(&small, &large) == dialler_of(&large, &small)
        })
        .await;
        tokio::join!(small.reaches(&large), large.reaches(&small));
    }
}

/// Who dialled the connection that `node` uses towards `peer`.
fn dialler_of(node: &Node, peer: &Node) -> Option<NodeId> {
    let used = node.transport.hub.used(peer.id)?;
    Some(used.facts.dialler)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_connections_both_sides_use_the_one_that_the_smaller_dialled() {
    let house = House::new(1);
    let tuning = Tuning {
        spare: Duration::from_millis(200),
        keep_alive: Duration::from_millis(400),
        ..Tuning::default()
    };
    let (small, large) = house.pair_tuned(tuning);
    dial_at_once(&small, &large).await;
    assert_eq!(dialler_of(&small, &large), Some(small.id));
    assert_eq!(dialler_of(&large, &small), Some(small.id));
    // What is open on the losing connection goes on, on either side.
    let (mut send, mut recv, in_use) = spare_of(&large, &small)
        .open_bi(StreamKind::Api)
        .await
        .unwrap();
    send.write_all(&[StreamKind::Api as u8, b'x'])
        .await
        .unwrap();
    holds_for(tuning.spare * 5, "both are kept", || {
        large.connections() == 2
    })
    .await;
    send.finish().unwrap();
    assert_eq!(within("the rest", recv.read_to_end(9)).await.unwrap(), b"x");
    drop(in_use);
    until("the spare one is closed", || {
        small.connections() == 1 && large.connections() == 1
    })
    .await;
    tokio::join!(small.reaches(&large), large.reaches(&small));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sides_that_use_different_connections_do_not_close_both() {
    let house = House::new(1);
    let tuning = Tuning {
        spare: Duration::from_millis(200),
        keep_alive: Duration::from_millis(400),
        ..Tuning::default()
    };
    let (small, large) = house.pair_tuned(tuning);
    dial_at_once(&small, &large).await;
    let mut events = small.transport.events();
    // As when only the larger has doubted the one that both were to use.
    let others_spare = spare_of(&large, &small);
    large.transport.hub.prefer(&others_spare);
    let (mut send, mut recv, in_use) = others_spare.open_bi(StreamKind::Api).await.unwrap();
    let first = [StreamKind::Api as u8, b'x'];
    send.write_all(&first).await.unwrap();
    holds_for(tuning.spare * 5, "both are kept", || {
        small.connections() == 2 && large.connections() == 2
    })
    .await;
    send.finish().unwrap();
    assert_eq!(within("the rest", recv.read_to_end(9)).await.unwrap(), b"x");
    drop(in_use);
    until("one is left, the same for both", || {
        let counts = (small.connections(), large.connections());
        counts == (1, 1) && dialler_of(&small, &large) == dialler_of(&large, &small)
    })
    .await;
    tokio::join!(small.reaches(&large), large.reaches(&small));
    let lost = |event: PeerEvent| matches!(event, PeerEvent::Lost { .. });
    assert!(!std::iter::from_fn(|| events.try_recv().ok()).any(lost));
}

/// Makes two nodes that do not know of each other's dials have two connections.
async fn dial_at_once(small: &Node, large: &Node) {
    let until_then = Instant::now() + PATIENCE;
    let dial = async |from: &Node, to: &Node| {
        let hub = &from.transport.hub;
        let hints = || hub.hints(to.id);
        super::super::dial::try_all(hub, hints, Some(to.id), until_then)
            .await
            .unwrap();
    };
    tokio::join!(dial(small, large), dial(large, small));
    until("both know both", || {
        small.connections() == 2 && large.connections() == 2
    })
    .await;
}

/// The connection between two nodes that `node` does not use.
fn spare_of(node: &Node, peer: &Node) -> Arc<Link> {
    let links = node.transport.hub.links(peer.id);
    let mut spare = links.into_iter().filter(|link| link.is_spare());
    spare.next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_a_stream_of_frames_in_both_directions() {
    let house = House::new(1);
    let (a, b) = house.pair();
    let mut stream = a.transport.open(b.id, StreamKind::Session).await.unwrap();
    for text in ["one", "two", &"long ".repeat(200_000)] {
        stream.write_frame(&text).await.unwrap();
        let back: String = within("a frame", stream.read_frame()).await.unwrap();
        assert_eq!(back, text);
    }
    stream.finish();
    let end = within("the end", stream.read_frame::<String>()).await;
    assert!(matches!(end, Err(super::super::StreamError::Finished)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_comes_in_parts_survives_an_impatient_reader() {
    let house = House::new(1);
    let (a, b) = house.pair();
    let mut stream = a.transport.open(b.id, StreamKind::Session).await.unwrap();
    let frame = crate::wire::frame::to_frame(&"x".repeat(100), 1000).unwrap();
    let (first, rest) = frame.split_at(50);
    // The room at the other end gives back whole frames only, so parts are produced on the way there and
    // the impatience is on this side.
    stream.send.write_all(first).await.unwrap();
    let nothing = timeout(Duration::from_millis(50), stream.read_frame::<String>()).await;
    assert!(nothing.is_err());
    stream.send.write_all(rest).await.unwrap();
    let back: String = within("a frame", stream.read_frame()).await.unwrap();
    assert_eq!(back.len(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_proxied_both_ways() {
    let house = House::new(1);
    let (a, b) = house.pair();
    let stream = a.transport.open(b.id, StreamKind::Api).await.unwrap();
    let (mut from, mut to) = tokio::io::split(stream.into_io());
    let sent: Vec<u8> = (0..3_000_000u32).map(|n| n.to_be_bytes()[3]).collect();
    let mut back = Vec::new();
    let write = async {
        to.write_all(&sent).await.unwrap();
        to.shutdown().await.unwrap();
    };
    within("3 MB there and back", async {
        tokio::join!(write, async { from.read_to_end(&mut back).await.unwrap() })
    })
    .await;
    assert!(back == sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn gossip_goes_as_datagram_or_stream_and_needs_no_connection() {
    let house = House::new(1);
    let (a, b) = house.pair();
    let sizes = [1usize, 1_000, 1_300, 5_000, 65_507];
    for size in sizes {
        a.transport
            .gossip(b.id, vec![size.to_le_bytes()[0]; size].into());
    }
    let mut got = BTreeSet::new();
    let mut gossip = b.gossip.lock().await;
    while got.len() < sizes.len() {
        let (from, message) = within("gossip", gossip.recv()).await.unwrap();
        assert_eq!(from, a.id);
        assert!(
            message
                .iter()
                .all(|byte| *byte == message.len().to_le_bytes()[0])
        );
        got.insert(message.len());
    }
    assert_eq!(got, sizes.into_iter().collect());
    a.transport.gossip(b.id, Bytes::new());
    a.transport.gossip(b.id, vec![0; 65_508].into());
    a.transport.gossip(a.id, Bytes::from_static(b"x"));
    assert_eq!(a.transport.stats().gossip_dropped, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn knocking_tells_who_is_there_and_keeps_the_connection() {
    let house = House::new(1);
    let (a, b) = (house.node(), house.node());
    assert_eq!(a.transport.knock(b.addr()).await, Ok(b.id));
    a.reaches(&b).await;
    assert_eq!(a.transport.stats().dialled, 1);
    let own = a.transport.knock(a.addr()).await.unwrap_err();
    assert!(
        own.to_string().contains("leads back to this node itself"),
        "{own}"
    );
    let oneself = a.transport.open(a.id, StreamKind::Raft).await.unwrap_err();
    assert_eq!(oneself, OpenError::Oneself(a.id));
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_learn_their_own_and_each_others_addresses() {
    let house = House::new(1);
    let (a, b) = house.pair();
    let mut events = a.transport.events();
    let public: SocketAddr = "192.0.2.7:2377".parse().unwrap();
    a.reaches(&b).await;
    let seen = event(&mut events, |event| {
        matches!(event, PeerEvent::Observed { .. })
    })
    .await;
    assert_eq!(seen, PeerEvent::Observed { addr: a.addr() });
    b.transport.set_advertised(vec![public]);
    until("the new address is told", || {
        a.transport.addresses(b.id).contains(&public)
    })
    .await;
    assert_eq!(a.transport.addresses(b.id), [b.addr(), public]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_is_found_at_the_one_good_address_of_many() {
    let house = House::new(1);
    let (a, b, other) = (house.node(), house.node(), house.node());
    let silent = std::net::UdpSocket::bind(loopback(0)).unwrap();
    let addrs = [
        "[::1]:9".parse().unwrap(),
        silent.local_addr().unwrap(),
        other.addr(),
        a.addr(),
        b.addr(),
    ];
    a.transport.learn(b.id, &addrs);
    let begun = Instant::now();
    a.reaches(&b).await;
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(
        a.transport.connected(other.id),
        Some(other.addr()),
        "kept as its own"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_dials_ends_the_wait_of_those_who_dial_it() {
    let house = House::new(1);
    let (a, b) = (house.node(), house.node());
    // A knows only an address where nobody is; B knows where A is.
    let silent = std::net::UdpSocket::bind(loopback(0)).unwrap();
    a.transport.learn(b.id, &[silent.local_addr().unwrap()]);
    b.knows(&a);
    let waiting = a.reaches(&b);
    let dialling = async {
        until("a dials", || a.transport.stats().dialled > 0).await;
        b.reaches(&a).await;
    };
    tokio::join!(waiting, dialling);
}
