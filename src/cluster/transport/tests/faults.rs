//! What members and strangers do wrong, by accident or on purpose.

use quinn::{ConnectionError, VarInt};
use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};

use super::super::endpoint::client;
use super::super::gate::GateLimits;
use super::super::hints::plain;
use super::super::hub::Hub;
use super::super::limits::kind_limit;
use super::super::stream::write_body;
use super::super::{CallError, OpenError, StreamCode, StreamError};
use super::*;
use crate::identity::client_tls;
use crate::wire::hello::Hello;
use crate::wire::{ALPN_JOIN, ALPN_PEER, SERVER_NAME, encode};

/// A QUIC client that is bound by none of the transport's rules.
struct Raw {
    _endpoint: quinn::Endpoint,
    conn: Result<quinn::Connection, ConnectionError>,
}

impl Raw {
    async fn dial(to: SocketAddr, tls: ClientConfig) -> Self {
        let endpoint = quinn::Endpoint::client(loopback(0)).unwrap();
        let config = client(tls, &Tuning::default()).unwrap();
        let connecting = endpoint.connect_with(config, to, SERVER_NAME).unwrap();
        let conn = within("a handshake", connecting).await;
        Self {
            _endpoint: endpoint,
            conn,
        }
    }

    /// With a member's certificate.
    async fn member(house: &House, key: &NodeKey, to: SocketAddr) -> Self {
        let tls = client_tls(&house.credentials(key), house.removed()).unwrap();
        Self::dial(to, tls).await
    }

    fn conn(&self) -> &quinn::Connection {
        self.conn.as_ref().unwrap()
    }

    /// Why the other side closed.
    async fn farewell(&self) -> String {
        let why = match &self.conn {
            Ok(conn) => within("the end", conn.closed()).await,
            Err(error) => error.clone(),
        };
        super::super::error::words(&why)
    }
}

/// A verifier that takes any certificate.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

/// A client configuration without any certificate, for any protocol.
fn nobody(alpn: &[u8]) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    config
}

fn hello_of(node: NodeId) -> Hello {
    Hello {
        node,
        instance: 77,
        protocol: (1, 1),
        addresses: Vec::new(),
        observed: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_port_is_counted_and_harms_nobody() {
    let house = House::new(1);
    let (a, b) = house.pair();
    a.reaches(&b).await;
    let noise = std::net::UdpSocket::bind(loopback(0)).unwrap();
    let mut rng = StdRng::seed_from_u64(7);
    for n in 0..5_000 {
        let mut datagram = vec![0; rng.random_range(0..1_472)];
        rng.fill_bytes(&mut datagram);
        if n % 4 == 0 && datagram.len() > 6 {
            // A long header of the right version: nonsense from the connection IDs on.
            datagram[..5].copy_from_slice(&[0xc0, 0, 0, 0, 1]);
        }
        noise.send_to(&datagram, b.addr()).unwrap();
        if n % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
    a.reaches(&b).await;
    until("the noise was seen", || b.transport.stats().garbage > 1_000).await;
    a.reaches(&b).await;
    assert_eq!((a.connections(), b.connections()), (1, 1));
    assert_eq!(b.transport.stats().dialled, 0);
    assert_eq!(a.transport.stats().garbage, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_protocol_without_a_certificate_is_refused_in_words() {
    let house = House::new(1);
    let b = house.node();
    let raw = Raw::dial(b.addr(), nobody(ALPN_PEER)).await;
    let why = raw.farewell().await;
    assert!(
        why.contains("a certificate of this cluster is needed"),
        "{why}"
    );
    assert_eq!(b.connections(), 0);
    until("it is counted", || b.transport.stats().accepts_failed == 1).await;
    let raw = Raw::dial(b.addr(), nobody(b"h3")).await;
    assert!(raw.conn.is_err(), "an unknown protocol ends the handshake");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_clusters_member_is_refused_and_told_so() {
    let (house, foreign) = (House::new(1), House::new(2));
    let (a, b) = (house.node(), foreign.node());
    a.transport.learn(b.id, &[b.addr()]);
    let begun = Instant::now();
    let refused = a.transport.open(b.id, StreamKind::Raft).await.unwrap_err();
    assert!(matches!(refused, OpenError::Unreachable { .. }));
    assert!(refused.to_string().contains("foreign root"), "{refused}");
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "a refusal ends the dial at once"
    );
    let knocked = b.transport.knock(a.addr()).await.unwrap_err();
    assert!(knocked.to_string().contains("foreign root"), "{knocked}");
    // One whose own verifier does not mind is refused by the other side.
    let key = NodeKey::generate().unwrap();
    let mut tls = client_tls(&foreign.credentials(&key), foreign.removed()).unwrap();
    tls.dangerous().set_certificate_verifier(Arc::new(Anybody));
    let raw = Raw::dial(a.addr(), tls).await;
    let why = raw.farewell().await;
    assert!(
        why.contains("not from a root that the other node trusts"),
        "{why}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_that_does_not_fit_is_refused_in_words() {
    let house = House::new(1);
    let b = house.node();
    let key = NodeKey::generate().unwrap();
    let other = NodeKey::generate().unwrap().node_id();
    let later = Hello {
        protocol: (8, 9),
        ..hello_of(key.node_id())
    };
    let cases: [(Vec<u8>, &str); 5] = [
        (hello_bytes(1, &hello_of(other)), "names another node"),
        (
            hello_bytes(1, &later),
            "it speaks protocol versions 1 to 1, this node 8 to 9",
        ),
        (
            hello_bytes(3, &hello_of(key.node_id())),
            "must be the hello",
        ),
        (vec![1, 0xff, 0xff, 0xff, 0xff], "no proper hello"),
        (vec![1, 0, 0, 0, 1, 7], "no proper hello"),
    ];
    for (bytes, expected) in cases {
        let raw = Raw::member(&house, &key, b.addr()).await;
        let (mut send, _recv) = raw.conn().open_bi().await.unwrap();
        send.write_all(&bytes).await.unwrap();
        let why = raw.farewell().await;
        assert!(why.contains(expected), "{why}");
        assert_eq!(b.connections(), 0);
    }
}

fn hello_bytes(kind: u8, hello: &Hello) -> Vec<u8> {
    let body = encode(hello).unwrap();
    let mut bytes = vec![kind];
    bytes.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_different_versions_tell_each_other_which() {
    let house = House::new(1);
    let newer = Tuning {
        protocol: (2, 3),
        ..Tuning::default()
    };
    let (a, b) = (house.node(), house.tuned(newer));
    a.knows(&b);
    let refused = a.transport.open(b.id, StreamKind::Raft).await.unwrap_err();
    let words = refused.to_string();
    assert!(
        words.contains("it speaks protocol versions 2 to 3, this node 1 to 1"),
        "{words}"
    );
    b.knows(&a);
    let refused = b.transport.open(a.id, StreamKind::Raft).await.unwrap_err();
    let words = refused.to_string();
    assert!(
        words.contains("it speaks protocol versions 1 to 1, this node 2 to 3"),
        "{words}"
    );
    let bridging = Tuning {
        protocol: (1, 2),
        ..Tuning::default()
    };
    let c = house.tuned(bridging);
    c.knows(&a);
    c.knows(&b);
    c.reaches(&a).await;
    c.reaches(&b).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_after_the_handshake_is_sent_away() {
    let house = House::new(1);
    let tuning = Tuning {
        handshake: Duration::from_millis(300),
        ..Tuning::default()
    };
    let b = house.tuned(tuning);
    let raw = Raw::member(&house, &NodeKey::generate().unwrap(), b.addr()).await;
    assert!(raw.farewell().await.contains("no hello came in time"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_may_open_one_stream_and_fill_a_small_window() {
    let house = House::new(1);
    let b = house.node();
    for tls in [
        nobody(ALPN_JOIN),
        client_tls(
            &house.credentials(&NodeKey::generate().unwrap()),
            house.removed(),
        )
        .unwrap(),
    ] {
        let raw = Raw::dial(b.addr(), tls).await;
        let conn = raw.conn();
        let (mut send, _recv) = conn.open_bi().await.unwrap();
        let more = timeout(Duration::from_millis(200), conn.open_bi()).await;
        assert!(more.is_err(), "a second stream");
        let uni = timeout(Duration::from_millis(200), conn.open_uni()).await;
        assert!(uni.is_err(), "a one-way stream");
        // A frame whose header is never complete is never read, so it fills the window and no more.
        let flood = send.write_all(&[0]);
        flood.await.unwrap();
        let mut written = 0;
        while let Ok(Ok(n)) = timeout(Duration::from_millis(200), send.write(&[0; 4096])).await {
            written += n;
            if conn.close_reason().is_some() {
                break;
            }
            assert!(written <= super::super::limits::STRANGER_WINDOW as usize);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversized_frame_is_refused_by_its_header_on_either_side() {
    let house = House::new(1);
    let (a, b) = house.pair();
    let too_long = vec![0; StreamKind::Control.max_frame() + 1];
    let deadline = Duration::from_secs(5);
    let call = a
        .transport
        .call_bytes(b.id, StreamKind::Control, too_long, deadline);
    assert!(matches!(call.await, Err(CallError::Request(_))));
    assert_eq!(b.handled(), 0);
    let mut stream = a.transport.open(b.id, StreamKind::Session).await.unwrap();
    stream
        .send
        .write_all(&u32::MAX.to_be_bytes())
        .await
        .unwrap();
    let told = within("a refusal", stream.send.stopped()).await;
    assert_eq!(told, Ok(Some(StreamCode::TooLong.on_wire())));
    let mut stream = a.transport.open(b.id, StreamKind::Session).await.unwrap();
    stream
        .send
        .write_all(&[0, 0, 0, 2, 0xff, 0xff])
        .await
        .unwrap();
    let told = within("a refusal", stream.send.stopped()).await;
    assert_eq!(told, Ok(Some(StreamCode::Malformed.on_wire())));
    a.reaches(&b).await;
    assert_eq!(
        a.transport.stats().dialled,
        1,
        "the connection is none the worse"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_kinds_and_kinds_of_the_wrong_way_are_reset() {
    let house = House::new(1);
    let (a, b) = house.pair();
    a.reaches(&b).await;
    let link = a.transport.hub.used(b.id).unwrap();
    for first in [0, 200, StreamKind::Gossip as u8] {
        let (mut send, mut recv, _in_use) = link.open_bi(StreamKind::Api).await.unwrap();
        send.write_all(&[first, 1, 2, 3]).await.unwrap();
        let reset = within("a reset", recv.read(&mut [0])).await.unwrap_err();
        assert_eq!(
            reset,
            quinn::ReadError::Reset(StreamCode::UnknownKind.on_wire())
        );
    }
    assert_eq!(b.transport.stats().streams_refused, 3);
    a.reaches(&b).await;
    assert_eq!(a.transport.stats().dialled, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_never_says_what_it_is_is_reset() {
    let house = House::new(1);
    let tuning = Tuning {
        header: Duration::from_millis(200),
        ..Tuning::default()
    };
    let (a, b) = house.pair_tuned(tuning);
    a.reaches(&b).await;
    let link = a.transport.hub.used(b.id).unwrap();
    let (_quiet, mut recv, _in_use) = link.open_bi(StreamKind::Api).await.unwrap();
    // Using a later stream tells the peer of the earlier one.
    a.reaches(&b).await;
    let reset = within("a reset", recv.read(&mut [0])).await.unwrap_err();
    assert_eq!(
        reset,
        quinn::ReadError::Reset(StreamCode::TooSlow.on_wire())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_opened_too_often_are_reset_and_others_are_not() {
    let house = House::new(1);
    let (a, b) = house.pair();
    let burst = kind_limit(StreamKind::Session).burst;
    let mut refused = 0;
    for _ in 0..burst + 5 {
        let mut stream = a.transport.open(b.id, StreamKind::Session).await.unwrap();
        let exchange = async {
            stream.write_frame(&"x").await?;
            stream.read_frame::<String>().await
        };
        match within("an answer", exchange).await {
            Ok(_) => {}
            Err(StreamError::Refused(StreamCode::TooOften)) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!((1..=5).contains(&refused), "{refused}");
    a.reaches(&b).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_room_resets_what_it_cannot_take_and_takes_other_kinds() {
    let house = House::new(1);
    let (a, b) = house.pair();
    let hub: &Hub = &b.transport.hub;
    let places = Arc::clone(&hub.places[&StreamKind::Control]);
    let all = u32::try_from(kind_limit(StreamKind::Control).open).unwrap();
    let taken = Arc::clone(&places).try_acquire_many_owned(all).unwrap();
    let refused = a.echo(b.id, b"x").await.unwrap_err();
    let CallError::Stream { source, .. } = &refused else {
        panic!("{refused}");
    };
    assert!(
        matches!(source, StreamError::Refused(StreamCode::Busy)),
        "{source}"
    );
    let raft = a
        .transport
        .call_bytes(b.id, StreamKind::Raft, vec![1], PATIENCE);
    raft.await.unwrap();
    drop(taken);
    a.reaches(&b).await;
    until("a handled stream gives its place back", || {
        places.available_permits() == all as usize
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn proxied_streams_leave_room_for_heartbeats_and_questions() {
    let house = House::new(1);
    let tuning = Tuning {
        dial: Duration::from_millis(500),
        answer: Duration::from_millis(300),
        ..Tuning::default()
    };
    let (a, b) = house.pair_tuned(tuning);
    let mut shells = Vec::new();
    for _ in 0..kind_limit(StreamKind::Api).lane {
        shells.push(a.transport.open(b.id, StreamKind::Api).await.unwrap());
    }
    let crowded = a.transport.open(b.id, StreamKind::Api).await.unwrap_err();
    assert_eq!(crowded, OpenError::Crowded(b.id));
    for _ in 0..3 {
        let beat = a
            .transport
            .call_bytes(b.id, StreamKind::Raft, vec![1], PATIENCE);
        beat.await.unwrap();
    }
    let link = a.transport.hub.used(b.id).unwrap();
    assert!(a.transport.hub.answers(&link, tuning.answer).await);
    shells.pop();
    a.transport.open(b.id, StreamKind::Api).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_a_free_stream_is_not_taken_for_dead() {
    let house = House::new(1);
    let tuning = Tuning {
        keep_alive: Duration::from_millis(100),
        answer: Duration::from_millis(300),
        ..Tuning::default()
    };
    let (a, b) = house.pair_tuned(tuning);
    a.reaches(&b).await;
    let link = a.transport.hub.used(b.id).unwrap();
    let mut all = Vec::new();
    while let Ok(Ok((mut send, recv))) =
        timeout(Duration::from_millis(200), link.conn.open_bi()).await
    {
        send.write_all(&[StreamKind::Api as u8]).await.unwrap();
        all.push((send, recv, link.begin_use()));
    }
    assert!(all.len() > 90, "{}", all.len());
    // Several rounds of keep-alive questions, none of which finds a stream.
    holds_for(tuning.answer * 4, "the connection is kept", || {
        link.conn.close_reason().is_none()
    })
    .await;
    assert!(a.transport.hub.answers(&link, tuning.answer).await);
    all.clear();
    a.reaches(&b).await;
    assert_eq!(a.transport.stats().dialled, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_does_not_read_makes_callers_hear_that_it_is_busy() {
    let house = House::new(1);
    let key = NodeKey::generate().unwrap();
    let (_credentials, watched) = watch::channel(house.credentials(&key));
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let config = TransportConfig {
        listen: loopback(0),
        instance: 1,
        advertise: Vec::new(),
    };
    let (deaf, mut inbound) =
        Transport::start(config, watched, house.removed(), &tasks, stop.clone()).unwrap();
    inbound.streams.close();
    let a = house.node();
    a.transport.learn(deaf.node(), &[deaf.local_addr()]);
    let refused = a.echo(deaf.node(), b"x").await.unwrap_err();
    let CallError::Stream { source, .. } = &refused else {
        panic!("{refused}");
    };
    assert!(
        matches!(source, StreamError::Refused(StreamCode::Stopping)),
        "{source}"
    );
    // Gossip that nobody reads is dropped beyond the queue, and nothing waits for it.
    for n in 0..1_500u32 {
        a.transport
            .gossip(deaf.node(), n.to_be_bytes().to_vec().into());
        if n % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    until("what does not fit is dropped", || {
        deaf.stats().gossip_dropped > 0
    })
    .await;
    assert!(deaf.probe(a.id, PATIENCE).await);
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_a_dialler_first_proves_its_address() {
    let house = House::new(1);
    let wary = Tuning {
        gate: GateLimits {
            unproved: 0,
            ..GateLimits::default()
        },
        ..Tuning::default()
    };
    let (a, b) = (house.node(), house.tuned(wary));
    a.knows(&b);
    a.reaches(&b).await;
    assert_eq!(
        b.transport.stats().turned_away,
        1,
        "asked to come again, once"
    );
    assert_eq!(a.transport.stats().dialled, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_dials_too_often_is_refused_and_let_in_later() {
    let house = House::new(1);
    let strict = Tuning {
        gate: GateLimits {
            per_second: 2,
            burst: 1,
            ..GateLimits::default()
        },
        ..Tuning::default()
    };
    let here = || {
        let key = NodeKey::generate().unwrap();
        house.node_with(key, loopback(0), Tuning::default())
    };
    let (a, b, c) = (here(), house.tuned(strict), here());
    a.knows(&b);
    c.knows(&b);
    a.reaches(&b).await;
    let begun = Instant::now();
    c.reaches(&b).await;
    assert!(begun.elapsed() > Duration::from_millis(100), "not at once");
    assert!(b.transport.stats().turned_away >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_stalled_handshakes_do_not_keep_a_member_out() {
    let house = House::new(1);
    for from_the_members_host in [true, false] {
        let (a, b) = house.pair();
        let mut from = loopback(0);
        if from_the_members_host {
            from.set_ip(a.addr().ip());
        }
        // Handshakes that are never followed by a hello, each of which costs a place.
        let key = NodeKey::generate().unwrap();
        let tls = client_tls(&house.credentials(&key), house.removed()).unwrap();
        let config = client(tls, &Tuning::default()).unwrap();
        let mut stalled = Vec::new();
        for _ in 0..100 {
            let endpoint = quinn::Endpoint::client(from).unwrap();
            let connecting = endpoint
                .connect_with(config.clone(), b.addr(), SERVER_NAME)
                .unwrap();
            tokio::task::yield_now().await;
            stalled.push((endpoint, connecting));
        }
        let begun = Instant::now();
        a.reaches(&b).await;
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(2), "{took:?}");
        drop(stalled);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_hello_is_answered_and_may_bring_no_other_identity() {
    let house = House::new(1);
    let (a, b) = house.pair();
    a.reaches(&b).await;
    let other = NodeKey::generate().unwrap().node_id();
    let link = a.transport.hub.used(b.id).unwrap();
    let (mut send, mut recv, _in_use) = link.open_bi(StreamKind::Api).await.unwrap();
    let forged = Hello {
        addresses: vec!["192.0.2.9:1".parse().unwrap()],
        ..hello_of(other)
    };
    let body = encode(&forged).unwrap();
    write_body(&mut send, StreamKind::Hello, body.into(), Some(1))
        .await
        .unwrap();
    send.finish().unwrap();
    let answer = within("an answer", super::super::hello::read_hello(&mut recv)).await;
    assert_eq!(answer.unwrap().node, b.id);
    assert_eq!(b.transport.addresses(other), []);
    assert_eq!(b.transport.connected(a.id), Some(plain(a.addr())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_by_the_caller_ends_the_room_s_work() {
    let house = House::new(1);
    let (a, b) = house.pair();
    let mut stream = a.transport.open(b.id, StreamKind::Session).await.unwrap();
    stream.write_frame(&"x").await.unwrap();
    let _: String = stream.read_frame().await.unwrap();
    stream.reset(StreamCode::Given);
    let places = &b.transport.hub.places[&StreamKind::Session];
    until("the room has let go", || {
        places.available_permits() == kind_limit(StreamKind::Session).open
    })
    .await;
    drop(stream);
    assert_eq!(VarInt::from_u32(0), StreamCode::Given.on_wire());
}
