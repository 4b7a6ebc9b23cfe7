//! `skein-join/1`: strangers with a token, without one, and without manners.

use quinn::ConnectionError;

use super::super::endpoint::client;
use super::super::error::words;
use super::super::limits::INBOUND_JOINS;
use super::super::{JoinAnswer, JoinCallError, join_call, join_exchange};
use super::*;
use crate::identity::{RootDigest, join_tls, renew_tls};
use crate::model::cluster::Secret;
use crate::model::{Availability, NodeDescription};
use crate::wire::join::{JoinBody, JoinReply, JoinRequest};
use crate::wire::limits::JOIN_FRAME;
use crate::wire::{Json, SERVER_NAME};

const DEADLINE: Duration = Duration::from_secs(5);

fn request(hostname: &str) -> JoinRequest {
    let description = NodeDescription {
        hostname: hostname.to_owned(),
        ..NodeDescription::default()
    };
    JoinRequest::Join(Box::new(JoinBody {
        secret: Secret("0123456789012345678901234".to_owned()),
        csr_der: vec![1, 2, 3],
        description: Json(description),
        availability: Availability::default(),
        addresses: Vec::new(),
        clock: now(),
    }))
}

fn digest(house: &House) -> RootDigest {
    RootDigest::of_pem(&house.authority.root().cert_pem)
}

/// Asks to join and answers as the room would.
async fn joined(node: &Node, house: &House, reply: JoinReply) -> Result<JoinAnswer, JoinCallError> {
    let (tls, learned) = join_tls(digest(house)).unwrap();
    let request = request("new");
    let asking = join_exchange(node.addr(), tls, Some(&learned), &request, DEADLINE);
    let answering = async {
        let stream = within("a request", async { node.joins.lock().await.recv().await }).await;
        stream.unwrap().respond(reply).await;
    };
    let (answer, ()) = tokio::join!(asking, answering);
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_with_a_token_asks_and_is_answered() {
    let house = House::new(1);
    let node = house.node();
    let answer = joined(&node, &house, JoinReply::Refused("not today".to_owned()))
        .await
        .unwrap();
    assert!(matches!(answer.reply, JoinReply::Refused(why) if why == "not today"));
    assert_eq!(
        answer.root_pem.as_ref(),
        Some(&house.authority.root().cert_pem)
    );
    assert!(answer.local.ip().is_loopback());
    assert_eq!(node.transport.stats().joins, 1);
    assert_eq!(node.connections(), 0, "a stranger is no peer");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_room_is_told_who_asks_what_and_from_where() {
    let house = House::new(1);
    let node = house.node();
    let (tls, _) = join_tls(digest(&house)).unwrap();
    let request = request("newcomer");
    let asking = join_call(node.addr(), tls, &request, DEADLINE);
    let answering = async {
        let stream = node.joins.lock().await.recv().await.unwrap();
        assert!(stream.from.ip().is_loopback() && stream.from.port() != 0);
        let JoinRequest::Join(body) = &stream.request else {
            panic!("another request");
        };
        assert_eq!(body.description.0.hostname, "newcomer");
        stream.respond(JoinReply::Later("wait".to_owned())).await;
    };
    let (reply, ()) = tokio::join!(asking, answering);
    assert!(matches!(reply.unwrap(), JoinReply::Later(why) if why == "wait"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_node_with_an_ended_certificate_comes_through_the_same_door() {
    let house = House::new(1);
    let node = house.node();
    let tls = renew_tls(&house.authority.root().cert_pem).unwrap();
    let request = JoinRequest::Renew { csr_der: vec![7] };
    let asking = join_call(node.addr(), tls, &request, DEADLINE);
    let answering = async {
        let stream = node.joins.lock().await.recv().await.unwrap();
        assert!(matches!(&stream.request, JoinRequest::Renew { csr_der } if csr_der == &[7]));
        stream
            .respond(JoinReply::Elsewhere(vec![loopback(9)]))
            .await;
    };
    let (reply, ()) = tokio::join!(asking, answering);
    assert!(matches!(reply.unwrap(), JoinReply::Elsewhere(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_token_is_refused_by_the_joiner_in_words() {
    let (house, foreign) = (House::new(1), House::new(2));
    let node = house.node();
    let (tls, learned) = join_tls(digest(&foreign)).unwrap();
    let begun = Instant::now();
    let request = request("x");
    let asking = join_exchange(node.addr(), tls, Some(&learned), &request, DEADLINE);
    let error = asking.await.unwrap_err();
    assert!(matches!(error, JoinCallError::Refused { .. }));
    assert!(error.to_string().contains("in the join token"), "{error}");
    assert!(begun.elapsed() < DEADLINE);
    assert_eq!(learned.pem(), None);
    assert_eq!(node.transport.stats().joins, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_where_nobody_is_is_named_in_time() {
    let house = House::new(1);
    let silent = std::net::UdpSocket::bind(loopback(0)).unwrap();
    let addr = silent.local_addr().unwrap();
    let (tls, _) = join_tls(digest(&house)).unwrap();
    let deadline = Duration::from_secs(1);
    let begun = Instant::now();
    let error = join_call(addr, tls, &request("x"), deadline)
        .await
        .unwrap_err();
    assert!(matches!(error, JoinCallError::NoAnswer { .. }));
    assert!(
        error
            .to_string()
            .contains(&format!("UDP port {}", addr.port())),
        "{error}"
    );
    assert!(begun.elapsed() < deadline + Duration::from_secs(1));
    let (tls, _) = join_tls(digest(&house)).unwrap();
    let nowhere = "0.0.0.0:0".parse().unwrap();
    let error = join_call(nowhere, tls, &request("x"), deadline)
        .await
        .unwrap_err();
    assert!(matches!(error, JoinCallError::NoRoute { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_too_long_is_not_sent() {
    let house = House::new(1);
    let node = house.node();
    let (tls, _) = join_tls(digest(&house)).unwrap();
    let long = request(&"x".repeat(JOIN_FRAME));
    let error = join_call(node.addr(), tls, &long, DEADLINE)
        .await
        .unwrap_err();
    assert!(matches!(error, JoinCallError::Request(_)));
    assert_eq!(node.transport.stats().accepted, 0);
}

/// A stranger's connection on which a test writes what it likes.
async fn stranger(house: &House, to: SocketAddr) -> (quinn::Endpoint, quinn::Connection) {
    let (tls, _) = join_tls(digest(house)).unwrap();
    let endpoint = quinn::Endpoint::client(loopback(0)).unwrap();
    let config = client(tls, &Tuning::default()).unwrap();
    let connecting = endpoint.connect_with(config, to, SERVER_NAME).unwrap();
    (endpoint, within("a handshake", connecting).await.unwrap())
}

async fn farewell(conn: &quinn::Connection) -> String {
    let error: ConnectionError = within("the end", conn.closed()).await;
    words(&error)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_joiner_is_sent_away_at_the_deadline() {
    let house = House::new(1);
    let tuning = Tuning {
        join: Duration::from_millis(400),
        ..Tuning::default()
    };
    let node = house.tuned(tuning);
    let begun = Instant::now();
    let (_endpoint, silent) = stranger(&house, node.addr()).await;
    let (_endpoint, slow) = stranger(&house, node.addr()).await;
    let (mut send, _recv) = slow.open_bi().await.unwrap();
    send.write_all(&[0, 0]).await.unwrap();
    for conn in [silent, slow] {
        let why = farewell(&conn).await;
        assert!(why.contains("no whole request came in time"), "{why}");
    }
    assert!(begun.elapsed() < Duration::from_secs(3));
    let places = &node.transport.hub.join_slots;
    until("the places are free again", || {
        places.available_permits() == super::super::limits::JOIN_SLOTS
    })
    .await;
    joined(&node, &house, JoinReply::Later(String::new()))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_cannot_be_read_is_refused_in_words() {
    let house = House::new(1);
    let node = house.node();
    let cases: [(&[u8], &str); 3] = [
        (&[0xff, 0xff, 0xff, 0xff], "cannot be read"),
        (&[0, 0, 0, 3, 9, 9, 9], "cannot be read"),
        (&[0, 0, 0, 3, 9], "ended within a frame"),
    ];
    for (bytes, expected) in cases {
        let (_endpoint, conn) = stranger(&house, node.addr()).await;
        let (mut send, _recv) = conn.open_bi().await.unwrap();
        send.write_all(bytes).await.unwrap();
        send.finish().unwrap();
        let why = farewell(&conn).await;
        assert!(why.contains(expected), "{why}");
    }
    assert_eq!(node.transport.stats().joins, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_too_many_join_the_next_is_told_to_come_again() {
    let house = House::new(1);
    let key = NodeKey::generate().unwrap();
    let (_credentials, watched) = watch::channel(house.credentials(&key));
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let config = TransportConfig {
        listen: loopback(0),
        instance: 1,
        advertise: Vec::new(),
    };
    let (transport, mut inbound) =
        Transport::start(config, watched, house.removed(), &tasks, stop.clone()).unwrap();
    let addr = transport.local_addr();
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..INBOUND_JOINS {
        let (tls, _) = join_tls(digest(&house)).unwrap();
        waiting.spawn(async move { join_call(addr, tls, &request("x"), PATIENCE).await });
    }
    until("the queue is full", || {
        transport.stats().joins == INBOUND_JOINS as u64
    })
    .await;
    let (tls, _) = join_tls(digest(&house)).unwrap();
    let reply = join_call(addr, tls, &request("one more"), DEADLINE)
        .await
        .unwrap();
    assert!(matches!(reply, JoinReply::Later(why) if why.contains("try again")));
    for _ in 0..INBOUND_JOINS {
        let stream = inbound.joins.recv().await.unwrap();
        stream.respond(JoinReply::Elsewhere(Vec::new())).await;
    }
    while let Some(reply) = waiting.join_next().await {
        assert!(matches!(reply.unwrap().unwrap(), JoinReply::Elsewhere(_)));
    }
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_the_room_drops_ends_at_once_for_the_asker() {
    let house = House::new(1);
    let node = house.node();
    let (tls, _) = join_tls(digest(&house)).unwrap();
    let request = request("x");
    let begun = Instant::now();
    let asking = join_call(node.addr(), tls, &request, DEADLINE);
    let dropping = async {
        drop(node.joins.lock().await.recv().await.unwrap());
    };
    let (reply, ()) = tokio::join!(asking, dropping);
    let error = reply.unwrap_err();
    assert!(error.to_string().contains("was not answered"), "{error}");
    assert!(begun.elapsed() < DEADLINE);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_asker_that_leaves_does_not_hold_up_the_answer() {
    let house = House::new(1);
    let node = house.node();
    let (endpoint, conn) = stranger(&house, node.addr()).await;
    let (mut send, _recv) = conn.open_bi().await.unwrap();
    let frame = crate::wire::frame::to_frame(&request("x"), JOIN_FRAME).unwrap();
    send.write_all(&frame).await.unwrap();
    let stream = node.joins.lock().await.recv().await.unwrap();
    conn.close(0u32.into(), b"changed my mind");
    drop(endpoint);
    let begun = Instant::now();
    stream.respond(JoinReply::Elsewhere(Vec::new())).await;
    assert!(begun.elapsed() < Duration::from_secs(4));
}
