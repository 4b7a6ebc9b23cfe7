//! The taps alone: what comes through, and what does not.

use chitchat::{ChitchatMessage, ProtocolVersion};
use tokio::time::timeout;

use super::super::memory::{MemoryLink, MemoryNetwork};
use super::*;

const SOON: Duration = Duration::from_secs(20);

/// A whole gossip message that says nothing: the one that can be written by hand.
const EMPTY: [u8; 4] = [0x53, 0xb0, 1, 3];

fn id(bits: u128) -> NodeId {
    NodeId::from_bits(bits)
}

fn empty() -> ChitchatEnvelope {
    ChitchatEnvelope {
        version: ProtocolVersion::V1,
        message: ChitchatMessage::BadCluster,
    }
}

async fn tapped(network: &MemoryNetwork, bits: u128) -> (TapSocket<MemoryLink>, MemoryLink) {
    let (link, incoming) = network.join(id(bits));
    let parts = Parts {
        link: link.clone(),
        incoming,
        guard: Guard::new(id(bits), 1).unwrap(),
        desk: Desk::default(),
    };
    (TapSocket::open(parts).await.unwrap(), link)
}

async fn next(socket: &mut TapSocket<MemoryLink>) -> NodeId {
    let outcome = timeout(SOON, socket.recv()).await.unwrap().unwrap();
    assert_eq!(outcome.envelope, empty());
    NodeId::from_gossip_addr(outcome.from_addr).unwrap()
}

#[tokio::test]
async fn messages_come_through_with_their_senders_name() {
    let network = MemoryNetwork::new(1);
    let (mut a, _) = tapped(&network, 1).await;
    let (mut b, _) = tapped(&network, 2).await;
    let (mut c, _) = tapped(&network, 3).await;
    for _ in 0..20 {
        a.send(id(2).gossip_addr(), empty()).await.unwrap();
        c.send(id(2).gossip_addr(), empty()).await.unwrap();
        assert_eq!(next(&mut b).await, id(1));
        assert_eq!(next(&mut b).await, id(3));
        b.send(id(1).gossip_addr(), empty()).await.unwrap();
        assert_eq!(next(&mut a).await, id(2));
    }
}

#[tokio::test]
async fn what_is_sent_are_the_bytes_that_the_guard_knows() {
    let network = MemoryNetwork::new(1);
    let (_link, mut incoming) = network.join(id(2));
    let (mut a, _) = tapped(&network, 1).await;
    let outcome = a.send(id(2).gossip_addr(), empty()).await.unwrap();
    assert_eq!(outcome.num_bytes_sent, EMPTY.len());
    let (from, bytes) = timeout(SOON, incoming.recv()).await.unwrap().unwrap();
    assert_eq!((from, &bytes[..]), (id(1), &EMPTY[..]));
}

#[tokio::test]
async fn a_local_stranger_gets_nothing_in_or_out() {
    let network = MemoryNetwork::new(1);
    let (mut socket, link) = tapped(&network, 1).await;
    let (_far, mut sent) = network.join(id(2));
    let stranger = StdUdpSocket::bind(LOOPBACK).unwrap();
    let inner = socket.local_addr().unwrap();
    let inward = socket.inward[0].tap.addr;
    for target in [inner, inward, socket.outward.addr] {
        for _ in 0..50 {
            stranger.send_to(&EMPTY, target).unwrap();
        }
    }
    let (bystander, _) = network.join(id(9));
    bystander.send(id(1), Bytes::from_static(&EMPTY));
    assert_eq!(
        next(&mut socket).await,
        id(9),
        "members' messages still come"
    );
    socket.send(id(2).gossip_addr(), empty()).await.unwrap();
    let (from, bytes) = timeout(SOON, sent.recv()).await.unwrap().unwrap();
    assert_eq!((from, &bytes[..]), (id(1), &EMPTY[..]));
    assert!(
        sent.try_recv().is_err(),
        "only this node's own message went out"
    );
    drop(link);
}

#[tokio::test]
async fn a_refused_message_holds_up_nobody() {
    let network = MemoryNetwork::new(1);
    let (mut socket, _) = tapped(&network, 1).await;
    let (bad, _) = network.join(id(2));
    let (good, _) = network.join(id(3));
    for _ in 0..10 {
        bad.send(id(1), Bytes::from_static(b"garbage"));
        bad.send(id(1), Bytes::new());
        good.send(id(1), Bytes::from_static(&EMPTY));
        assert_eq!(next(&mut socket).await, id(3));
    }
}

/// What the guard lets pass and chitchat does not read is lost alone, and its tap is not used for another.
#[tokio::test]
async fn a_message_that_does_not_come_out_is_given_up() {
    let network = MemoryNetwork::new(1);
    let (mut socket, _) = tapped(&network, 1).await;
    let (good, _) = network.join(id(3));
    let deadline = Instant::now() + LOOPBACK_DEADLINE;
    let mut ports = Vec::new();
    for inward in &mut socket.inward {
        ports.push(inward.tap.addr);
        inward.message = Some(UnderWay {
            from: id(2),
            len: 10,
            deadline,
        });
    }
    good.send(id(1), Bytes::from_static(&EMPTY));
    assert_eq!(next(&mut socket).await, id(3));
    assert!(Instant::now() >= deadline, "no tap was free before");
    assert!(
        socket
            .inward
            .iter()
            .all(|inward| !ports.contains(&inward.tap.addr))
    );
}

/// chitchat drops `recv` whenever something else is ready first.
#[tokio::test]
async fn nothing_is_lost_or_mixed_up_when_recv_is_dropped_and_called_again() {
    let network = MemoryNetwork::new(1);
    let (mut socket, _) = tapped(&network, 1).await;
    let senders: Vec<MemoryLink> = (10..20).map(|bits| network.join(id(bits)).0).collect();
    let mut seen = std::collections::BTreeMap::new();
    let mut count = 0;
    for round in 0..20 {
        for sender in &senders {
            sender.send(id(1), Bytes::from_static(&EMPTY));
        }
        while count < (round + 1) * senders.len() {
            // The future is dropped after a single poll, at whatever point it has reached.
            let outcome = futures_util::FutureExt::now_or_never(socket.recv());
            if let Some(outcome) = outcome {
                let from = NodeId::from_gossip_addr(outcome.unwrap().from_addr).unwrap();
                *seen.entry(from).or_insert(0) += 1;
                count += 1;
            }
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(seen.len(), senders.len());
    assert!(seen.values().all(|messages| *messages == 20), "{seen:?}");
}

#[tokio::test]
async fn a_node_has_its_socket_once() {
    let network = MemoryNetwork::new(1);
    let (link, incoming) = network.join(id(1));
    let guard = Guard::new(id(1), 1).unwrap();
    let transport = TapTransport::new(link, incoming, guard, Desk::default());
    assert!(transport.open(LOOPBACK).await.is_ok());
    assert!(transport.open(LOOPBACK).await.is_err());
}

#[tokio::test]
async fn the_loopback_is_there() {
    check_loopback().await.unwrap();
}
