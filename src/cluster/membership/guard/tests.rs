//! What the guard lets through and what it refuses, on messages written by hand.

use proptest::prelude::*;

use super::*;

const ME: u128 = 7;

fn id(bits: u128) -> NodeId {
    NodeId::from_bits(bits)
}

fn guard() -> Guard {
    Guard::new(id(ME), 1).unwrap()
}

fn check(message: &[u8]) -> Result<(), Refused> {
    guard().check(message, &mut Vec::new(), Instant::now())
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u16).to_le_bytes());
    out.extend(text.as_bytes());
}

fn identity(out: &mut Vec<u8>, name: &str, generation: u64, node: u128, port: u16) {
    text(out, name);
    out.extend(generation.to_le_bytes());
    out.push(6);
    out.extend(node.to_be_bytes());
    out.extend(port.to_le_bytes());
}

/// A digest entry of a member.
fn entry(node: u128, generation: u64, heartbeat: u64, version: u64) -> Vec<u8> {
    let mut out = Vec::new();
    identity(&mut out, "", generation, node, 1);
    for count in [heartbeat, 0, version] {
        out.extend(count.to_le_bytes());
    }
    out
}

/// The start of a member's changes.
fn changes_of(node: u128, generation: u64) -> Vec<u8> {
    let mut out = vec![0];
    identity(&mut out, "", generation, node, 1);
    out.extend([0u8; 16]);
    out
}

fn change(key: &str, value: &str, version: u64) -> Vec<u8> {
    let mut out = vec![1];
    text(&mut out, key);
    text(&mut out, value);
    out.extend(version.to_le_bytes());
    out.push(0);
    out
}

fn max_version(version: u64) -> Vec<u8> {
    [&[2][..], &version.to_le_bytes()].concat()
}

/// Blocks as chitchat packs them.
fn stream(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for block in raw.chunks(16_384) {
        let packed = zstd::bulk::compress(block, 0).unwrap();
        let (kind, bytes) = if packed.len() < block.len() {
            (1, &packed[..])
        } else {
            (2, block)
        };
        out.push(kind);
        out.extend((bytes.len() as u16).to_le_bytes());
        out.extend(bytes);
    }
    out.push(0);
    out
}

fn message(kind: u8, parts: &[Vec<u8>]) -> Vec<u8> {
    let mut out = MAGIC.to_le_bytes().to_vec();
    out.extend([VERSION, kind]);
    out.extend(parts.concat());
    out
}

fn syn(digest: &[Vec<u8>]) -> Vec<u8> {
    let mut cluster = Vec::new();
    text(&mut cluster, "a cluster");
    message(0, &[stream(&digest.concat()), cluster])
}

fn ack(delta: &[Vec<u8>]) -> Vec<u8> {
    message(2, &[stream(&delta.concat())])
}

#[test]
fn honest_messages_pass() {
    assert_eq!(check(&syn(&[entry(1, 1, 5, 2), entry(2, 9, 1, 0)])), Ok(()));
    let delta = [
        changes_of(1, 1),
        change("addr", "[]", 3),
        change("phase", "up", 9),
    ]
    .concat();
    assert_eq!(
        check(&ack(&[delta.clone(), changes_of(2, 1), max_version(4)])),
        Ok(())
    );
    let syn_ack = message(1, &[stream(&entry(1, 1, 5, 2)), stream(&delta)]);
    assert_eq!(check(&syn_ack), Ok(()));
    assert_eq!(check(&message(3, &[])), Ok(()));
}

#[test]
fn what_is_said_of_this_node_is_told() {
    let mut said = Vec::new();
    let digest = [entry(ME, 1, 5, 2), entry(2, 1, 1, 0), entry(ME, 3, 8, 0)];
    let delta = stream(&changes_of(ME, 1));
    let message = message(1, &[stream(&digest.concat()), delta]);
    let checked = guard().check(&message, &mut said, Instant::now());
    assert_eq!(checked, Err(Refused::OwnState), "and yet it is told");
    let of_me = |generation, heartbeat| Mention {
        node: id(ME),
        generation,
        heartbeat,
    };
    assert_eq!(said, [of_me(1, 5), of_me(3, 8)]);
}

/// Each of these would make chitchat panic, and with it the daemon.
#[test]
fn what_would_make_chitchat_panic_is_refused() {
    let with = |change: Vec<u8>| ack(&[changes_of(1, 1), change]);
    let range = |what| Err(Refused::Range(what));
    assert_eq!(check(&with(change("é", "", 1))), range("a key"));
    assert_eq!(check(&with(change("", "", 1))), range("a key"));
    assert_eq!(check(&with(change("k", "", u64::MAX))), range("a version"));
    let falling = [change("k", "", 9), max_version(3)].concat();
    assert_eq!(check(&with(falling)), range("the order of its changes"));
    assert_eq!(
        check(&syn(&[entry(1, 1, u64::MAX, 0)])),
        range("a heartbeat")
    );
    let own = ack(&[changes_of(ME, 1), change("k", "", MAX_COUNT - 1)]);
    assert_eq!(check(&own), Err(Refused::OwnState));
    let crowd: Vec<_> = (0..=MAX_LIVES as u128)
        .map(|node| entry(1000 + node, 1, 1, 0))
        .collect();
    assert_eq!(check(&syn(&crowd)), Err(Refused::Crowd));
}

#[test]
fn what_no_member_sends_is_refused() {
    let with = |change: Vec<u8>| ack(&[changes_of(1, 1), change]);
    let twice = [change("k", "", 2), change("k", "", 2)].concat();
    assert_eq!(
        check(&with(twice)),
        Err(Refused::Range("the order of its changes"))
    );
    assert_eq!(
        check(&ack(&[change("k", "", 2)])),
        Err(Refused::Range("the order of its changes"))
    );
    assert_eq!(
        check(&ack(&[
            changes_of(1, 1),
            changes_of(2, 1),
            changes_of(1, 1)
        ])),
        Err(Refused::Range("the order of its changes"))
    );
    let long = "x".repeat(MAX_VALUE + 1);
    assert_eq!(
        check(&with(change("k", &long, 2))),
        Err(Refused::Range("a value"))
    );
    let mut named = Vec::new();
    identity(&mut named, "name", 1, 3, 1);
    named.extend([0; 24]);
    let mut other_port = Vec::new();
    identity(&mut other_port, "", 1, 3, 2);
    other_port.extend([0; 24]);
    for digest in [named, other_port, entry(3, 0, 1, 1)] {
        assert_eq!(check(&syn(&[digest])), Err(Refused::Identity));
    }
    for (at, byte) in [(0, 1), (2, 0), (2, 2), (3, 9)] {
        let mut other = syn(&[]);
        other[at] = byte;
        assert_eq!(check(&other), Err(Refused::Protocol), "byte {at}");
    }
    let mut longer = syn(&[]);
    longer.push(0);
    assert_eq!(check(&longer), Err(Refused::Length));
}

/// 64 KiB of zstd can hold gigabytes.
#[test]
fn a_message_made_to_fill_memory_is_refused() {
    let block = zstd::bulk::compress(&[0u8; MAX_BLOCK], 0).unwrap();
    let mut bomb = Vec::new();
    while bomb.len() + block.len() + 3 < 65_000 {
        bomb.push(1);
        bomb.extend((block.len() as u16).to_le_bytes());
        bomb.extend(&block);
    }
    bomb.push(0);
    assert_eq!(check(&message(2, &[bomb])), Err(Refused::Packing));
    let longer = zstd::bulk::compress(&[0u8; MAX_BLOCK + 1], 0).unwrap();
    let mut block = vec![1];
    block.extend((longer.len() as u16).to_le_bytes());
    block.extend(&longer);
    block.push(0);
    assert_eq!(check(&message(2, &[block])), Err(Refused::Packing));
}

#[test]
fn lives_that_nobody_mentions_make_room() {
    let mut guard = guard();
    let start = Instant::now();
    let mut check = |from: u128, count: u128, now| {
        let lives: Vec<_> = (from..from + count)
            .map(|node| entry(node, 1, 1, 0))
            .collect();
        guard.check(&syn(&lives), &mut Vec::new(), now)
    };
    assert!(check(100, 1500, start).is_ok());
    assert_eq!(check(5000, 1500, start), Err(Refused::Crowd));
    assert!(check(100, 1500, start).is_ok(), "those known are served on");
    let later = start + LIFE_MEMORY;
    assert!(check(100, 100, later).is_ok());
    assert!(check(5000, 1500, later).is_ok());
}

/// The largest cluster's digest leaves room for changes in a message of 65,507 bytes.
#[test]
fn the_digest_of_as_many_lives_as_are_kept_fits_a_message() {
    use rand::{Rng, SeedableRng};
    let mut rng = rand::rngs::StdRng::seed_from_u64(1);
    let digest: Vec<_> = (0..MAX_LIVES)
        .map(|_| {
            let started = 1_700_000_000 + rng.random_range(0..100_000_000u64);
            entry(
                rng.random(),
                started,
                rng.random_range(0..1 << 32),
                rng.random_range(0..1 << 16),
            )
        })
        .collect();
    let message = syn(&digest);
    println!(
        "{} bytes, {} a life",
        message.len(),
        message.len() / MAX_LIVES
    );
    assert!(message.len() < 64_000, "{}", message.len());
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>, kind in 0u8..4) {
        let _ = check(&bytes);
        let _ = check(&message(kind, std::slice::from_ref(&bytes)));
        let _ = check(&message(kind, &[stream(&bytes)]));
    }

    #[test]
    fn no_damaged_message_panics(at: prop::sample::Index, byte: u8) {
        let delta = [changes_of(1, 1), change("addr", "[]", 3)].concat();
        let mut message = message(1, &[stream(&entry(1, 1, 5, 2)), stream(&delta)]);
        let at = at.index(message.len());
        message[at] = byte;
        let _ = check(&message);
    }
}

/// Random messages of the right form, many of them nonsense: what the guard lets in must not end chitchat.
#[tokio::test]
async fn what_is_let_in_does_no_harm() {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::super::GossipLink;
    use super::super::memory::MemoryNetwork;
    use super::super::{Liveness, Membership, MembershipConfig};
    use crate::model::ClusterId;

    let network = MemoryNetwork::new(1);
    let (link, incoming) = network.join(id(ME));
    let (tasks, stop) = (
        Default::default(),
        tokio_util::sync::CancellationToken::new(),
    );
    let config = MembershipConfig {
        node: id(ME),
        cluster: ClusterId::from_bits(1),
        generation: 1,
        seeds: Vec::new(),
    };
    let probe = link.clone();
    let membership = Membership::start(config, link, incoming, probe, &tasks, stop.clone())
        .await
        .unwrap();
    let (peer, mut replies) = network.join(id(2));
    let seed = rand::random();
    println!("SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut let_in, mut guard) = (0, guard());
    for _ in 0..4_000 {
        let number = |rng: &mut StdRng| match rng.random_range(0..4) {
            0 => rng.random_range(0..4),
            1 => rng.random_range(0..MAX_COUNT),
            2 => MAX_COUNT - 1,
            _ => rng.random_range(0..100),
        };
        let node = |rng: &mut StdRng| rng.random_range(1..9u128);
        let digest: Vec<u8> = (0..rng.random_range(0..4))
            .flat_map(|_| {
                entry(
                    node(&mut rng),
                    rng.random_range(1..4),
                    number(&mut rng),
                    number(&mut rng),
                )
            })
            .collect();
        let mut delta = Vec::new();
        for _ in 0..rng.random_range(0..4) {
            let mut start = changes_of(node(&mut rng), rng.random_range(1..4));
            let versions = start.len() - 16;
            start[versions..versions + 8].copy_from_slice(&number(&mut rng).to_le_bytes());
            start[versions + 8..].copy_from_slice(&number(&mut rng).to_le_bytes());
            delta.extend(start);
            let mut version = 0;
            for _ in 0..rng.random_range(0..4) {
                version += number(&mut rng) / 4;
                let mut change = change("key", "value", version);
                *change.last_mut().unwrap() = rng.random_range(0..4);
                delta.extend(change);
            }
            if rng.random_bool(0.3) {
                delta.extend(max_version(number(&mut rng)));
            }
        }
        let mut cluster = Vec::new();
        text(&mut cluster, &ClusterId::from_bits(1).to_string());
        let message = match rng.random_range(0..4u8) {
            0 => message(0, &[stream(&digest), cluster]),
            1 => message(1, &[stream(&digest), stream(&delta)]),
            2 => message(2, &[stream(&delta)]),
            _ => message(3, &[]),
        };
        let_in += usize::from(
            guard
                .check(&message, &mut Vec::new(), Instant::now())
                .is_ok(),
        );
        peer.send(id(ME), message.into());
        // Whatever it answers is read, and the node has its turn.
        while replies.try_recv().is_ok() {}
        tokio::task::yield_now().await;
    }
    assert!(let_in > 400, "{let_in}");
    let mut cluster = Vec::new();
    text(&mut cluster, &ClusterId::from_bits(1).to_string());
    let last = message(0, &[stream(&entry(2, 99, 1, 0)), cluster]);
    let answered = tokio::time::timeout(Duration::from_secs(20), async {
        while replies.try_recv().is_ok() {}
        peer.send(id(ME), last.into());
        replies.recv().await
    });
    assert!(answered.await.unwrap().is_some(), "it answers still");
    let peers = membership.peers().borrow().clone();
    assert_eq!(peers.nodes[&id(ME)].liveness, Liveness::Alive);
    stop.cancel();
}
