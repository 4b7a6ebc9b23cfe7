//! `docker service …`: services of real containers, and what becomes of them when something breaks.

use std::time::Instant;

use crate::bed::Bed;
use crate::crew::{
    RUNS, TaskView, by_node, containers, create, ctr, ids, tasks, until_containers, until_running,
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
    let mut slots: Vec<u64> = first.iter().map(TaskView::slot).collect();
    slots.sort_unstable();
    assert_eq!(slots, [1, 2, 3, 4, 5, 6]);
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
    tells_the_end(&bed, host);
    let second = until_runs(&bed, 1, "web", 6, secs(20));
    let kept = ids(&second)
        .iter()
        .filter(|id| ids(&first).contains(id))
        .count();
    assert_eq!(kept, 5, "the others are left alone");
}

/// Docker's own list shows how a task on a host has ended.
#[track_caller]
fn tells_the_end(bed: &Bed, host: usize) {
    let format = "{{.Node}} {{.DesiredState}} {{.CurrentState}} {{.Error}}";
    let list = ["service", "ps", "web", "--no-trunc", "--format", format];
    let shown = bed.docker(3, &list).ok();
    let told = shown.lines().find(|line| line.contains("Failed"));
    let told = told.unwrap_or_else(|| panic!("docker shows the end: {shown}"));
    let begins = format!("node{host} Shutdown Failed");
    assert!(told.starts_with(&begins), "{told}");
    assert!(told.ends_with("\"task: non-zero exit (137)\""), "{told}");
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
    eventually(secs(30), "of the others nothing is left", || {
        let all = tasks(&bed, 1, "web")?;
        (ids(&all) == ids(&fewer))
            .then_some(())
            .ok_or_else(|| format!("{} tasks", all.len()))
    });
    let listed = ["service", "ls", "--format", "{{.Replicas}}"];
    assert_eq!(bed.docker(2, &listed).ok(), "2/2");
    // Docker waits until as many run as asked for, and says so.
    let said = bed.docker(2, &["service", "scale", "web=0"]).ok();
    assert!(
        said.contains("web scaled to 0") && said.contains("converged"),
        "{said}"
    );
    assert_eq!(bed.docker(2, &listed).ok(), "0/0");
    assert_eq!(until_runs(&bed, 1, "web", 0, secs(10)).len(), 0);
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
    let status = bed
        .docker(
            asked,
            &["node", "ls", "--format", "{{.Hostname}} {{.Status}}"],
        )
        .ok();
    assert!(status.contains(&format!("node{victim} Down")), "{status}");
    let lost = tasks(&bed, asked, "web").unwrap();
    let lost: Vec<_> = lost.iter().filter(|task| task.node() == node).collect();
    assert_eq!(lost.len(), 2, "what it ran is shown");
    assert!(
        lost.iter()
            .all(|task| task.text("/DesiredState") == "shutdown")
    );
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
    eventually(secs(20), "its old tasks are told to have ended", || {
        let all = tasks(&bed, asked, "web")?;
        let there: Vec<_> = all.iter().filter(|task| task.node() == node).collect();
        let ended = |task: &&TaskView| ["shutdown", "failed", "complete"].contains(&task.state());
        (there.len() == 2 && there.iter().all(ended))
            .then_some(())
            .ok_or_else(|| format!("{there:?}"))
    });
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
    let next = bed.leader(&rest);
    assert_ne!(next, leader);
    create(&bed, rest[0], &["--name", "next", "--replicas", "4"], RUNS);
    until_runs(&bed, rest[1], "next", 4, secs(20));
    let survivors = until_runs(&bed, rest[0], "web", 2, secs(20));
    assert!(ids(&survivors).iter().all(|id| ids(&first).contains(id)));
    let shown = bed
        .docker(
            rest[1],
            &["node", "ls", "--format", "{{.Hostname}} {{.Status}}"],
        )
        .ok();
    assert!(shown.contains(&format!("node{leader} Down")), "{shown}");
    bed.act("start", leader);
    let all = until_runs(&bed, rest[0], "web", 3, secs(30));
    assert!(ids(&survivors).iter().all(|id| ids(&all).contains(id)));
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
    let shown = bed.docker(
        1,
        &[
            "node",
            "ls",
            "--format",
            "{{.Hostname}} {{.Status}} {{.Availability}}",
        ],
    );
    assert!(shown.ok().contains("node2 Ready Drain"));
    eventually(secs(10), "what was moved is told to have ended", || {
        let all = tasks(&bed, 1, "web")?;
        let there: Vec<_> = all.iter().filter(|task| task.node() == second).collect();
        let ended = |task: &&TaskView| ["shutdown", "complete"].contains(&task.state());
        (there.len() == 2 && there.iter().all(ended))
            .then_some(())
            .ok_or_else(|| format!("{there:?}"))
    });
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
        // One slot each, none twice.
        let mut slots: Vec<u64> = all.iter().map(TaskView::slot).collect();
        slots.sort_unstable();
        let told = all
            .iter()
            .all(|task| task.text("/Status/Message") == "finished");
        (done == 5 && told && slots == [0, 1, 2, 3, 4])
            .then_some(())
            .ok_or_else(|| format!("{done} of {}: {slots:?}", all.len()))
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

#[test]
fn a_node_that_is_ready_takes_tasks_at_once() {
    let Some(bed) = up(2) else { return };
    for round in ["one", "two", "three"] {
        bed.act("stop", 2);
        bed.act("start", 2);
        bed.until_ready(1, &[1, 2]);
        let since = Instant::now();
        create(&bed, 1, &["--name", round, "--mode", "global"], RUNS);
        eventually(secs(20), "both nodes have their task", || {
            let all = tasks(&bed, 1, round)?;
            (by_node(&all).len() == 2)
                .then_some(())
                .ok_or_else(|| format!("{:?}", by_node(&all)))
        });
        let took = since.elapsed();
        assert!(took < secs(2), "round {round}: it took {took:?}");
        until_runs(&bed, 1, round, 2, secs(30));
    }
}
