//! Many nodes at once, and nodes that come and go while others talk.

use futures_util::future::join_all;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_nodes_that_turn_to_one_at_the_same_time_all_get_through() {
    let house = House::new(1);
    let leader = house.node();
    let crowd: Vec<Node> = (0..100).map(|_| house.node()).collect();
    let calls = crowd.iter().map(|node| {
        node.knows(&leader);
        reached(node, &leader, PATIENCE)
    });
    let begun = Instant::now();
    join_all(calls).await;
    println!("100 nodes got through in {:?}", begun.elapsed());
    join_all(crowd.iter().map(|node| leader.reaches(node))).await;
    until("one connection a node is left", || {
        leader.connections() == 100
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_up_is_reached_whatever_happened_before() {
    let seed = rand::random();
    println!("SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let house = House::new(1);
    let tuning = Tuning {
        spare: Duration::from_millis(200),
        keep_alive: Duration::from_millis(400),
        unused: Duration::from_secs(3),
        fresh: Duration::from_millis(200),
        ..Tuning::default()
    };
    let mut nodes: Vec<Node> = (0..4).map(|_| house.tuned(tuning)).collect();
    for _ in 0..15 {
        let at = rng.random_range(0..nodes.len());
        match rng.random_range(0..4) {
            0 | 1 => {
                let (key, addr, tuning) = nodes.remove(at).kill();
                let same = rng.random_bool(0.5);
                let listen = if same { addr } else { own_address() };
                nodes.insert(at, house.node_with(key, listen, tuning));
            }
            2 => {
                let node = nodes.remove(at);
                node.transport.close("restarts").await;
                let (key, addr, tuning) = node.kill();
                nodes.insert(at, house.node_with(key, addr, tuning));
            }
            _ => {
                let other = nodes[(at + 1) % nodes.len()].id;
                nodes[at].transport.drop_peer(other, "a whim");
            }
        }
        // All hear of all addresses, as they would by gossip.
        for node in &nodes {
            nodes.iter().for_each(|other| node.knows(other));
        }
        let pairs = nodes.iter().flat_map(|from| {
            let others = nodes.iter().filter(|to| to.id != from.id);
            others.map(move |to| reached(from, to, Duration::from_secs(5)))
        });
        join_all(pairs).await;
    }
    until("one connection a pair is left", || {
        nodes.iter().all(|node| node.connections() <= 3)
    })
    .await;
}

/// Calls until an answer comes; one that was sent to a dead process may fail.
async fn reached(from: &Node, to: &Node, patience: Duration) {
    let begun = Instant::now();
    loop {
        let deadline = patience / 10;
        let call = from
            .transport
            .call_bytes(to.id, StreamKind::Control, vec![7], deadline);
        match call.await {
            Ok(reply) => return assert_eq!(reply, [7]),
            Err(error) => assert!(
                begun.elapsed() < patience,
                "{} does not reach {}: {error:?}",
                from.id,
                to.id
            ),
        }
    }
}
