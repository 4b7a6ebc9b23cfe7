//! What a call costs. Ignored by default: run it alone, in release, with `--ignored --nocapture`.

use super::*;
use crate::testing::let_pass;

/// CPU seconds of this process so far, in user and kernel.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    ticks as f64 / 100.0
}

async fn measure(what: &str, calls: u32, work: impl Future<Output = ()>) {
    let (cpu, begun) = (cpu_seconds(), Instant::now());
    work.await;
    let (cpu, took) = (cpu_seconds() - cpu, begun.elapsed());
    println!(
        "{what}: {calls} calls, {:.1} us CPU a call (both ends), {:.1} us wall a call",
        cpu * 1e6 / f64::from(calls),
        took.as_secs_f64() * 1e6 / f64::from(calls)
    );
}

async fn beat(a: &Node, b: &Node, size: usize) {
    let request = vec![7; size];
    let deadline = Duration::from_secs(5);
    let reply = a
        .transport
        .call_bytes(b.id, StreamKind::Raft, request, deadline);
    assert_eq!(reply.await.unwrap().len(), size);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: prints figures"]
async fn cpu_of_a_call() {
    let house = House::new(1);
    let (a, b) = house.pair();
    a.reaches(&b).await;
    measure("one after another, 100 B", 20_000, async {
        for _ in 0..20_000 {
            beat(&a, &b, 100).await;
        }
    })
    .await;
    measure("16 at a time, 100 B", 32_000, async {
        let each = (0..16).map(|_| async {
            for _ in 0..2_000 {
                beat(&a, &b, 100).await;
            }
        });
        futures_util::future::join_all(each).await;
    })
    .await;
    measure("one after another, 64 KiB", 2_000, async {
        for _ in 0..2_000 {
            beat(&a, &b, 64 << 10).await;
        }
    })
    .await;
    let idle = (cpu_seconds(), Instant::now());
    let_pass(Duration::from_secs(10)).await;
    println!("idle: {:.3} % of a core", (cpu_seconds() - idle.0) * 10.0);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: prints figures"]
async fn cpu_of_heartbeats() {
    let house = House::new(1);
    let leader = house.node();
    let followers: Vec<Node> = (0..4).map(|_| house.node()).collect();
    for follower in &followers {
        leader.knows(follower);
        leader.reaches(follower).await;
    }
    let calls = 4 * 10 * 20;
    let before = leader.transport.stats();
    measure("10 a second to each of 4 for 20 s, 100 B", calls, async {
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        for _ in 0..200 {
            tick.tick().await;
            let beats = followers
                .iter()
                .map(|follower| beat(&leader, follower, 100));
            futures_util::future::join_all(beats).await;
        }
    })
    .await;
    let after = leader.transport.stats();
    let each = |now: u64, then: u64| (now - then) as f64 / f64::from(calls);
    println!(
        "a call: {:.2} datagrams and {:.0} bytes out, {:.2} datagrams and {:.0} bytes in",
        each(after.datagrams_sent, before.datagrams_sent),
        each(after.bytes_sent, before.bytes_sent),
        each(after.datagrams_received, before.datagrams_received),
        each(after.bytes_received, before.bytes_received),
    );
}
