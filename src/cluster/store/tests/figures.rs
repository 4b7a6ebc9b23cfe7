//! The measurements run and print their figures: for a moment, or with `SKEIN_MEASURE=1`, in a release
//! build, for as long as figures need that mean something.

use std::time::Duration;

use tempfile::TempDir;

use super::super::Timings;
use super::super::measure::{committed_writes, failover};

fn at_length() -> bool {
    std::env::var_os("SKEIN_MEASURE").is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes() {
    let (rows, duration): (&[(u64, u64)], _) = match at_length() {
        true => (
            &[(1, 1), (1, 64), (3, 1), (3, 16), (3, 64), (5, 64)],
            Duration::from_secs(4),
        ),
        false => (&[(3, 8)], Duration::from_millis(300)),
    };
    for (voters, clients) in rows {
        let dir = TempDir::new().unwrap();
        let figures = committed_writes(dir.path(), *voters, *clients, duration)
            .await
            .unwrap();
        println!(
            "{voters} voters, {clients} clients: {:.0} writes/s, p50 {:?}, p99 {:?}",
            figures.per_second,
            figures.latencies.percentile(50),
            figures.latencies.percentile(99),
        );
        assert!(figures.per_second > 0.0 && figures.latencies.count() > 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failovers() {
    let kills = if at_length() { 40 } else { 2 };
    let dir = TempDir::new().unwrap();
    let samples = failover(dir.path(), 3, kills, Timings::default())
        .await
        .unwrap();
    println!(
        "leader killed {kills} times: next write after p50 {:?}, p90 {:?}, p99 {:?}",
        samples.percentile(50),
        samples.percentile(90),
        samples.percentile(99),
    );
    assert_eq!(samples.count(), kills);
}
