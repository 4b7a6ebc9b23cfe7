//! Peers that die, return, move, or exist twice.

use super::super::{CallError, Loss, OpenError};
use super::*;
use tokio::time::interval;

/// The goal is 200 ms; the rest is for a machine with other work.
const BACK: Duration = Duration::from_secs(1);

/// Calls until an answer comes, each call with a short deadline, as raft's heartbeats do.
async fn call_until_answered(from: &Node, to: NodeId, failed: &AtomicU64) -> Duration {
    let begun = Instant::now();
    let deadline = Duration::from_millis(100);
    // Refusals come at once; the next heartbeat does not.
    let mut tick = interval(Duration::from_millis(20));
    while begun.elapsed() < PATIENCE {
        tick.tick().await;
        let called = Instant::now();
        let request = b"beat".to_vec();
        let call = from
            .transport
            .call_bytes(to, StreamKind::Raft, request, deadline);
        if call.await.is_ok() {
            return begun.elapsed();
        }
        assert!(called.elapsed() < deadline + Duration::from_millis(400));
        failed.fetch_add(1, Ordering::Relaxed);
    }
    panic!("no answer from a restarted peer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_peer_makes_calls_fail_in_time_and_is_back_at_once_after_its_restart() {
    let house = House::new(1);
    for dialler_survives in [true, false] {
        let (a, b) = house.pair();
        if dialler_survives {
            a.reaches(&b).await;
        } else {
            b.reaches(&a).await;
        }
        let id = b.id;
        let (key, addr, tuning) = b.kill();
        let deadline = Duration::from_millis(300);
        for _ in 0..3 {
            let begun = Instant::now();
            let request = b"x".to_vec();
            let failed = a
                .transport
                .call_bytes(id, StreamKind::Raft, request, deadline);
            assert!(matches!(failed.await, Err(CallError::TimedOut { .. })));
            assert!(begun.elapsed() < deadline + Duration::from_millis(300));
        }
        let failed = AtomicU64::new(0);
        let calling = call_until_answered(&a, id, &failed);
        let restarting = async {
            until("some calls fail", || failed.load(Ordering::Relaxed) > 5).await;
            (house.node_with(key, addr, tuning), Instant::now())
        };
        let (_, (b, restarted)) = tokio::join!(calling, restarting);
        let took = restarted.elapsed();
        println!("reached {took:?} after the restart, dialler survives: {dialler_survives}");
        assert!(took < BACK, "{took:?}");
        a.reaches(&b).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_was_restarted_unnoticed_is_reached_by_the_first_call() {
    let house = House::new(1);
    for (silence, dialler_survives) in [(0, true), (1_200, true), (1_200, false)] {
        let (a, b) = house.pair();
        if dialler_survives {
            a.reaches(&b).await;
        } else {
            b.reaches(&a).await;
        }
        let (key, addr, tuning) = b.kill();
        let b = house.node_with(key, addr, tuning);
        let link = a.transport.hub.used(b.id).unwrap();
        until("it is silent", || link.silent_for().as_millis() >= silence).await;
        let begun = Instant::now();
        let first = a.echo(b.id, b"first").await;
        if silence > 0 {
            assert_eq!(first.unwrap(), b"first");
        } else {
            // Sent on a connection that was heard a moment ago: whether it was handled cannot be known, so it is not
            // repeated, but it fails at once, because the new process disowns the connection.
            let disowned = matches!(first, Err(CallError::Stream { .. }));
            assert!(disowned || first.is_ok(), "{first:?}");
            a.reaches(&b).await;
        }
        assert!(begun.elapsed() < BACK, "{:?}", begun.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_with_a_restarted_peer_breaks_at_once() {
    let house = House::new(1);
    let (a, b) = house.pair();
    let mut events = a.transport.events();
    let mut session = a.transport.open(b.id, StreamKind::Session).await.unwrap();
    session.write_frame(&"hello").await.unwrap();
    let _: String = session.read_frame().await.unwrap();
    let (key, addr, tuning) = b.kill();
    let b = house.node_with(key, addr, tuning);
    let begun = Instant::now();
    session.write_frame(&"still there?").await.unwrap();
    let broken = within("the end", session.read_frame::<String>()).await;
    assert!(broken.is_err());
    assert!(begun.elapsed() < BACK, "{:?}", begun.elapsed());
    let lost = event(&mut events, |event| matches!(event, PeerEvent::Lost { .. })).await;
    let expected = PeerEvent::Lost {
        node: b.id,
        why: Loss::Restarted,
    };
    assert_eq!(lost, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_with_a_dead_peer_ends_although_nothing_is_sent() {
    let house = House::new(1);
    let tuning = Tuning {
        keep_alive: Duration::from_millis(100),
        answer: Duration::from_millis(300),
        ..Tuning::default()
    };
    let (a, b) = house.pair_tuned(tuning);
    let mut session = a.transport.open(b.id, StreamKind::Session).await.unwrap();
    session.write_frame(&"hello").await.unwrap();
    let _: String = session.read_frame().await.unwrap();
    b.kill();
    assert!(
        within("the end", session.read_frame::<String>())
            .await
            .is_err()
    );
    until("the connection is given up", || a.connections() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_peer_that_dials_first_replaces_its_old_connection() {
    let house = House::new(1);
    let (a, b) = house.pair();
    a.reaches(&b).await;
    let (key, addr, tuning) = b.kill();
    let b = house.node_with(key, addr, tuning);
    let mut events = a.transport.events();
    b.knows(&a);
    b.reaches(&a).await;
    let begun = Instant::now();
    a.reaches(&b).await;
    assert!(begun.elapsed() < BACK);
    until("the old connection is gone", || a.connections() == 1).await;
    while let Ok(event) = events.try_recv() {
        assert!(
            !matches!(event, PeerEvent::Twin { .. }),
            "a restart is no twin"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_moved_is_reached_once_its_new_address_is_known() {
    let house = House::new(1);
    let (a, b) = house.pair();
    a.reaches(&b).await;
    let id = b.id;
    let (key, _, tuning) = b.kill();
    let b = house.node_with(key, own_address(), tuning);
    a.knows(&b);
    let took = call_until_answered(&a, id, &AtomicU64::new(0)).await;
    assert!(took < BACK + Duration::from_millis(500), "{took:?}");
    assert_eq!(a.transport.connected(id), Some(b.addr()));
    assert_eq!(a.transport.addresses(id).first(), Some(&b.addr()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_moved_and_dials_needs_no_hint() {
    let house = House::new(1);
    let (a, b) = house.pair();
    a.reaches(&b).await;
    let (key, _, tuning) = b.kill();
    let b = house.node_with(key, own_address(), tuning);
    b.knows(&a);
    b.reaches(&a).await;
    a.reaches(&b).await;
    assert_eq!(a.transport.connected(b.id), Some(b.addr()));
}

/// Gives a node another port while it runs, as another address of its machine would.
fn rebind(node: &Node) -> SocketAddr {
    let socket = std::net::UdpSocket::bind(loopback(0)).unwrap();
    let addr = socket.local_addr().unwrap();
    let endpoint = node.transport.hub.endpoint().unwrap();
    endpoint.rebind(socket).unwrap();
    addr
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_follow_a_dialler_whose_address_changes() {
    let house = House::new(1);
    let (a, b) = house.pair();
    let mut session = a.transport.open(b.id, StreamKind::Session).await.unwrap();
    session.write_frame(&"before").await.unwrap();
    let _: String = session.read_frame().await.unwrap();
    let moved = rebind(&a);
    session.write_frame(&"after").await.unwrap();
    let back: String = within("a frame", session.read_frame()).await.unwrap();
    assert_eq!(back, "after");
    until("b sees the new address", || {
        b.transport.connected(a.id) == Some(moved)
    })
    .await;
    assert_eq!(a.transport.stats().dialled, 1, "the same connection");
    b.reaches(&a).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dialled_peer_whose_address_changes_is_reached_again_when_it_dials() {
    let house = House::new(1);
    for small_moves in [true, false] {
        let (small, large) = house.pair();
        let (a, b) = if small_moves {
            (large, small)
        } else {
            (small, large)
        };
        a.reaches(&b).await;
        rebind(&b);
        // B's old connections lead nowhere: its first call finds out and dials.
        for (from, to) in [(&b, &a), (&a, &b)] {
            let took = call_until_answered(from, to.id, &AtomicU64::new(0)).await;
            assert!(took < Duration::from_secs(3), "{took:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_processes_with_one_identity_the_older_goes_on_and_everybody_is_told() {
    let house = House::new(1);
    let witness = house.node();
    let original = house.node();
    witness.knows(&original);
    witness.reaches(&original).await;
    let key = NodeKey::from_pem(&original.key.to_pem()).unwrap();
    let copy = house.node_with(key, own_address(), Tuning::default());
    copy.knows(&witness);
    let mut events = witness.transport.events();
    let mut copys_events = copy.transport.events();
    let _ = copy.echo(witness.id, b"me too").await;
    let twin = event(&mut events, |event| matches!(event, PeerEvent::Twin { .. })).await;
    let expected = PeerEvent::Twin {
        node: original.id,
        instance: copy.transport.hub.instance,
    };
    assert_eq!(twin, expected);
    witness.reaches(&original).await;
    until("the original is used", || {
        witness.transport.connected(original.id) == Some(original.addr())
    })
    .await;
    let told = event(&mut copys_events, |event| {
        matches!(event, PeerEvent::Twin { .. })
    });
    assert_eq!(told.await, expected, "the copy learns that it is one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_worker_cannot_talk_a_node_out_of_its_identity() {
    let house = House::new(1);
    let (a, worker) = house.pair();
    worker.reaches(&a).await;
    let plain = house.credentials_as(&worker.key, Standing::Worker);
    worker.credentials.send_replace(plain);
    until("it shows its new certificate", || {
        worker.transport.connected(a.id).is_none()
    })
    .await;
    a.transport.drop_peer(worker.id, "for a fresh start");
    until("both have noticed", || {
        a.connections() + worker.connections() == 0
    })
    .await;
    let mut events = a.transport.events();
    let spoken_by = async |liar: &Node| {
        liar.reaches(&a).await;
        let link = liar.transport.hub.used(a.id).unwrap();
        link.close(super::super::codes::CloseCode::Twin, "you are a copy");
        until("A has noticed", || a.connections() == 0).await;
    };
    spoken_by(&worker).await;
    let peer = house.node();
    peer.knows(&a);
    spoken_by(&peer).await;
    let lost = |of: NodeId| move |event: &PeerEvent| matches!(event, PeerEvent::Lost { node, .. } if *node == of);
    let mut before = Vec::new();
    event(&mut events, |event| {
        before.push(event.clone());
        lost(worker.id)(event)
    })
    .await;
    assert!(
        !before
            .iter()
            .any(|event| matches!(event, PeerEvent::Twin { .. }))
    );
    let twin = event(&mut events, |event| matches!(event, PeerEvent::Twin { .. })).await;
    assert!(matches!(twin, PeerEvent::Twin { node, .. } if node == a.id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_meets_its_original_is_refused_in_words() {
    let house = House::new(1);
    let original = house.node();
    let key = NodeKey::from_pem(&original.key.to_pem()).unwrap();
    let copy = house.node_with(key, own_address(), Tuning::default());
    let mut events = original.transport.events();
    let refused = copy.transport.knock(original.addr()).await.unwrap_err();
    assert!(matches!(refused, OpenError::NobodyThere { .. }));
    assert!(
        refused
            .to_string()
            .contains("copy of this node's data directory"),
        "{refused}"
    );
    let twin = event(&mut events, |event| matches!(event, PeerEvent::Twin { .. })).await;
    let expected = PeerEvent::Twin {
        node: original.id,
        instance: copy.transport.hub.instance,
    };
    assert_eq!(twin, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_tells_the_living_from_the_dead_in_time() {
    let house = House::new(1);
    let (a, b) = house.pair();
    let deadline = Duration::from_millis(500);
    assert!(
        a.transport.probe(b.id, deadline).await,
        "by a new connection"
    );
    assert!(
        a.transport.probe(b.id, deadline).await,
        "by the one that is there"
    );
    let id = b.id;
    let (key, addr, tuning) = b.kill();
    let begun = Instant::now();
    assert!(!a.transport.probe(id, deadline).await);
    assert!(!a.transport.probe(id, deadline).await);
    assert!(begun.elapsed() < 3 * deadline);
    let _b = house.node_with(key, addr, tuning);
    assert!(a.transport.probe(id, 4 * deadline).await);
    let stranger = NodeKey::generate().unwrap().node_id();
    assert!(!a.transport.probe(stranger, deadline).await);
}
