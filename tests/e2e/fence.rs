//! A node that is cut off without a word: it notices within seconds, and what is not to run alone stops.

use std::time::Instant;

use crate::bed::Bed;
use crate::crew::{RUNS, create, ctr, until_runs, up};
use crate::wait::{eventually, holds_for, secs};

/// How many containers run on a host.
fn running(bed: &Bed, host: usize) -> Result<usize, String> {
    let all = ctr(bed, host, &["tasks", "ls"]).result()?;
    Ok(all.lines().filter(|line| line.contains("RUNNING")).count())
}

#[test]
fn a_node_that_is_cut_off_stops_what_is_not_to_run_alone() {
    let Some(bed) = up(3) else { return };
    bed.until_managers(1, &[1, 2, 3]);
    let fenced = [
        "--name",
        "one",
        "--mode",
        "global",
        "--label",
        "skein.isolation=stop:2s",
    ];
    create(&bed, 1, &fenced, RUNS);
    create(&bed, 1, &["--name", "any", "--mode", "global"], RUNS);
    until_runs(&bed, 1, "one", 3, secs(30));
    until_runs(&bed, 1, "any", 3, secs(30));
    let leader = bed.leader(&[1, 2, 3]);
    let follower = if leader == 1 { 2 } else { 1 };
    for cut in [follower, leader] {
        let others: Vec<usize> = (1..=3).filter(|host| *host != cut).collect();
        assert_eq!(running(&bed, cut), Ok(2));
        bed.act("cut", cut);
        let since = Instant::now();
        eventually(secs(25), "one of its two containers is stopped", || {
            let count = running(&bed, cut)?;
            (count == 1)
                .then_some(())
                .ok_or_else(|| format!("{count} run"))
        });
        // Two seconds of patience, some to notice; the connection itself would stand for thirty.
        let took = since.elapsed();
        assert!(took < secs(15), "it took {took:?}");
        assert!(took > secs(2), "it was stopped too early, after {took:?}");
        holds_for(secs(3), "the other runs on", || match running(&bed, cut)? {
            1 => Ok(()),
            count => Err(format!("{count} run")),
        });
        bed.act("heal", cut);
        bed.until_ready(others[0], &[1, 2, 3]);
        until_runs(&bed, others[0], "one", 3, secs(40));
        until_runs(&bed, others[0], "any", 3, secs(40));
        bed.leader(&[1, 2, 3]);
    }
}
