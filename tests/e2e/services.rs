//! `docker service …`: services of real containers, and what becomes of them when something breaks.

use crate::bed::Bed;
use crate::crew::{
    RUNS, by_node, containers, create, ctr, ids, tasks, until_containers, until_running,
    until_runs, until_some, up,
};
use crate::wait::{eventually, holds_for, secs};

/// The host of a node.
fn host_of(bed: &Bed, asked: usize, node: &str) -> usize {
    let nodes = bed.nodes(asked).unwrap_or_default();
    let found = nodes.iter().find(|view| view.id() == node);
    found.map(|view| view.host()).unwrap_or_default()
}

#[test]
fn a_service_runs_everywhere_and_replaces_what_ends() {
    let Some(bed) = up(3) else { return };
    create(
        &bed,
        1,
        &[
            "--name",
            "web",
            "--replicas",
            "6",
            "--restart-delay",
            "100ms",
        ],
        RUNS,
    );
    let first = until_runs(&bed, 1, "web", 6, secs(30));
    assert!(
        by_node(&first).values().all(|count| *count == 2),
        "{:?}",
        by_node(&first)
    );
    let slots: Vec<u64> = (1..=6).collect();
    let mut found: Vec<u64> = first.iter().map(|task| task.slot()).collect();
    found.sort_unstable();
    assert_eq!(found, slots);
    for host in 1..=3 {
        assert_eq!(containers(&bed, host).unwrap().len(), 2);
        let listed = bed.docker(
            host,
            &["service", "ls", "--format", "{{.Name}} {{.Replicas}}"],
        );
        assert_eq!(listed.ok(), "web 6/6");
    }
    let shown = bed
        .docker(
            2,
            &[
                "service",
                "ps",
                "web",
                "--format",
                "{{.Name}} {{.Node}} {{.CurrentState}}",
            ],
        )
        .ok();
    assert_eq!(shown.lines().count(), 6, "{shown}");
    assert!(
        shown.contains("web.1 node") && shown.contains(" Running "),
        "{shown}"
    );

    let victim = &first[0];
    let host = host_of(&bed, 1, victim.node());
    ctr(
        &bed,
        host,
        &["task", "kill", "-s", "SIGKILL", victim.container()],
    )
    .ok();
    let ended = until_some(&bed, 1, "web", "its end is told", |task| {
        task.id() == victim.id() && task.state() == "failed"
    });
    assert_eq!(ended.text("/Status/Err"), "task: non-zero exit (137)");
    let second = until_runs(&bed, 1, "web", 6, secs(20));
    let kept = ids(&second)
        .iter()
        .filter(|id| ids(&first).contains(id))
        .count();
    assert_eq!(kept, 5, "the others are left alone");
}

#[test]
fn scaling_takes_and_adds_and_removal_leaves_nothing() {
    let Some(bed) = up(3) else { return };
    create(&bed, 1, &["--name", "web", "--replicas", "6"], RUNS);
    let first = until_runs(&bed, 1, "web", 6, secs(30));
    bed.docker(2, &["service", "scale", "--detach", "web=2"])
        .ok();
    let fewer = until_runs(&bed, 1, "web", 2, secs(30));
    assert!(ids(&fewer).iter().all(|id| ids(&first).contains(id)));
    bed.docker(3, &["service", "scale", "--detach", "web=9"])
        .ok();
    let more = until_runs(&bed, 1, "web", 9, secs(30));
    assert!(
        by_node(&more).values().all(|count| *count == 3),
        "{:?}",
        by_node(&more)
    );

    bed.docker(1, &["service", "rm", "web"]).ok();
    for host in 1..=3 {
        until_containers(&bed, host, 0);
    }
    assert_eq!(bed.docker(1, &["service", "ls", "-q"]).ok(), "");
    bed.docker(1, &["service", "inspect", "web"])
        .refused_with("no such service: web");
}

#[test]
fn a_dead_node_costs_no_replicas() {
    let Some(bed) = up(3) else { return };
    create(&bed, 1, &["--name", "web", "--replicas", "6"], RUNS);
    let first = until_runs(&bed, 1, "web", 6, secs(30));
    bed.until_managers(1, &[1, 2, 3]);
    let leader = bed.leader(&[1, 2, 3]);
    let (victim, asked) = if leader == 3 { (2, 3) } else { (3, leader) };
    let node = bed.node(victim).id().to_owned();
    bed.act("kill", victim);
    let moved = eventually(secs(20), "all run elsewhere", || {
        let all = tasks(&bed, asked, "web")?;
        let run: Vec<_> = all.into_iter().filter(|task| task.runs()).collect();
        let there = by_node(&run).get(&node).copied().unwrap_or_default();
        let moved = run.len() == 6 && there == 0;
        if moved {
            Ok(run)
        } else {
            Err(format!("{} run, {there} there", run.len()))
        }
    });
    let kept = first.iter().filter(|task| task.node() != node).count();
    let still = ids(&moved)
        .iter()
        .filter(|id| ids(&first).contains(id))
        .count();
    assert_eq!(still, kept, "what ran elsewhere goes on");

    bed.act("start", victim);
    bed.until_ready(asked, &[1, 2, 3]);
    until_running(&bed, victim, 0);
    let later = until_runs(&bed, asked, "web", 6, secs(5));
    assert_eq!(ids(&later), ids(&moved), "nothing is moved back");
}

#[test]
fn a_dead_leader_takes_no_service_with_it() {
    let Some(bed) = up(3) else { return };
    create(&bed, 1, &["--name", "web", "--mode", "global"], RUNS);
    let first = until_runs(&bed, 1, "web", 3, secs(30));
    bed.until_managers(1, &[1, 2, 3]);
    let leader = bed.leader(&[1, 2, 3]);
    let rest: Vec<usize> = (1..=3).filter(|host| *host != leader).collect();
    bed.act("kill", leader);
    bed.leader(&rest);
    create(&bed, rest[0], &["--name", "next", "--replicas", "4"], RUNS);
    until_runs(&bed, rest[1], "next", 4, secs(20));
    let survivors = until_runs(&bed, rest[0], "web", 2, secs(20));
    assert!(ids(&survivors).iter().all(|id| ids(&first).contains(id)));
    bed.act("start", leader);
    until_runs(&bed, rest[0], "web", 3, secs(30));
}

#[test]
fn drain_moves_pause_keeps() {
    let Some(bed) = up(2) else { return };
    create(&bed, 1, &["--name", "web", "--replicas", "4"], RUNS);
    let first = until_runs(&bed, 1, "web", 4, secs(30));
    let second = bed.node(2).id().to_owned();
    bed.docker(1, &["node", "update", "--availability", "pause", "node2"])
        .ok();
    bed.docker(1, &["service", "scale", "--detach", "web=6"])
        .ok();
    let more = until_runs(&bed, 1, "web", 6, secs(30));
    assert_eq!(
        by_node(&more)[&second],
        2,
        "a paused node keeps what it has and takes no more"
    );
    assert!(ids(&first).iter().all(|id| ids(&more).contains(id)));
    bed.docker(1, &["node", "update", "--availability", "drain", "node2"])
        .ok();
    let moved = eventually(secs(30), "all tasks have left", || {
        let all = tasks(&bed, 1, "web")?;
        let run: Vec<_> = all.into_iter().filter(|task| task.runs()).collect();
        let there = by_node(&run).get(&second).copied().unwrap_or_default();
        (run.len() == 6 && there == 0)
            .then_some(run)
            .ok_or_else(|| format!("{there} are there"))
    });
    until_running(&bed, 2, 0);
    bed.docker(1, &["node", "update", "--availability", "active", "node2"])
        .ok();
    holds_for(secs(2), "nothing is moved back", || {
        let now: Vec<_> = tasks(&bed, 1, "web")?
            .into_iter()
            .filter(|task| task.runs())
            .collect();
        (ids(&now) == ids(&moved))
            .then_some(())
            .ok_or_else(|| format!("{:?}", ids(&now)))
    });
    assert_eq!(
        bed.docker(1, &["node", "ps", "-q", "node1"])
            .ok()
            .lines()
            .count(),
        6
    );
}

#[test]
fn jobs_run_to_their_end() {
    let Some(bed) = up(2) else { return };
    create(
        &bed,
        1,
        &[
            "--name",
            "once",
            "--mode",
            "replicated-job",
            "--replicas",
            "5",
            "--max-concurrent",
            "2",
        ],
        "exit 0",
    );
    eventually(secs(60), "all have completed", || {
        let all = tasks(&bed, 1, "once")?;
        let done = all.iter().filter(|task| task.state() == "complete").count();
        (done == 5 && all.len() == 5)
            .then_some(())
            .ok_or_else(|| format!("{done} of {}", all.len()))
    });
    let shown = bed
        .docker(1, &["service", "ls", "--format", "{{.Replicas}}"])
        .ok();
    assert_eq!(shown, "0/2 (5/5 completed)");
    create(
        &bed,
        1,
        &["--name", "each", "--mode", "global-job"],
        "exit 0",
    );
    eventually(secs(40), "each node has done it", || {
        let all = tasks(&bed, 1, "each")?;
        let done = all.iter().filter(|task| task.state() == "complete").count();
        (done == 2 && by_node(&all).len() == 2)
            .then_some(())
            .ok_or_else(|| done.to_string())
    });
}

#[test]
fn what_cannot_run_says_why() {
    let Some(bed) = up(2) else { return };
    let pending = |service: &str, words: &str| {
        let task = until_some(&bed, 1, service, "it waits and says why", |task| {
            task.state() == "pending" && task.text("/Status/Err").contains(words)
        });
        assert_eq!(task.node(), "");
    };
    create(
        &bed,
        1,
        &["--name", "nowhere", "--constraint", "node.labels.disk==ssd"],
        RUNS,
    );
    pending(
        "nowhere",
        "no suitable node (scheduling constraints not satisfied on 2 nodes)",
    );
    create(&bed, 1, &["--name", "huge", "--reserve-memory", "4t"], RUNS);
    pending(
        "huge",
        "no suitable node (insufficient resources on 2 nodes)",
    );
    bed.docker(1, &["node", "update", "--label-add", "disk=ssd", "node2"])
        .ok();
    let placed = until_runs(&bed, 1, "nowhere", 1, secs(20));
    assert_eq!(placed[0].node(), bed.node(2).id());

    let image = [
        "service",
        "create",
        "--detach",
        "--no-resolve-image",
        "--name",
        "lost",
        "--restart-condition",
        "none",
        "127.0.0.1:1/no/such:1",
    ];
    bed.docker(1, &image).ok();
    let task = until_some(&bed, 1, "lost", "it is rejected", |task| {
        task.state() == "rejected"
    });
    assert!(
        task.text("/Status/Err").contains("No such image"),
        "{task:?}"
    );
    bed.docker(1, &["service", "create", "--detach", "--name", "web_", "x"])
        .refused_with("name must be valid as a DNS name component");
    create(&bed, 1, &["--name", "none", "--replicas", "0"], RUNS);
    assert_eq!(tasks(&bed, 1, "none").unwrap().len(), 0);
}
