//! A cluster as its user sees it: it forms, names one leader, outlives it, and finds itself again.

use crate::bed::Bed;
use crate::view::{NodeView, hosts_where};
use crate::wait::{eventually, holds_for, secs};
use crate::writes::Writes;

const NODE_LS: [&str; 4] = [
    "node",
    "ls",
    "--format",
    "{{.Hostname}} {{.Status}} {{.Availability}} {{.ManagerStatus}}",
];

#[test]
fn init_makes_a_cluster_of_one() {
    let Some(bed) = Bed::hosts(1) else { return };
    bed.docker(1, &["node", "ls"])
        .refused_with("This node is not a swarm manager. Use \"docker swarm init\"");
    assert_eq!(bed.local(1)["LocalNodeState"], "inactive");

    let said = bed.skein(1, &["init"]).ok();
    let line = said
        .lines()
        .find(|line| line.contains("SWMTKN-1-"))
        .expect("init prints how to join");
    assert!(line.contains("skein join SWMTKN-1-"), "{line}");
    assert!(
        line.contains("@10.99.0.11"),
        "the line carries this host's address: {line}"
    );

    assert_eq!(bed.docker(1, &NODE_LS).ok(), "node1 Ready Active Leader");
    let swarm = bed.local(1);
    assert_eq!(swarm["LocalNodeState"], "active");
    assert_eq!(swarm["ControlAvailable"], true);
    assert_eq!(
        (&swarm["Nodes"], &swarm["Managers"]),
        (&1.into(), &1.into())
    );
}

#[test]
fn three_hosts_show_the_same_cluster_with_one_leader() {
    let Some(bed) = Bed::up(3) else { return };
    bed.until_managers(1, &[1, 2, 3]);
    let mut lists: Vec<Vec<String>> = Vec::new();
    for host in 1..=3 {
        let mut lines: Vec<String> = bed
            .docker(host, &NODE_LS)
            .ok()
            .lines()
            .map(String::from)
            .collect();
        lines.sort();
        lists.push(lines);
    }
    assert_eq!(lists[0].len(), 3);
    assert!(
        lists[0].iter().all(|line| line.contains(" Ready Active ")),
        "{lists:?}"
    );
    assert_eq!(
        lists[0]
            .iter()
            .filter(|line| line.ends_with("Leader"))
            .count(),
        1,
        "{lists:?}"
    );
    assert!(lists.iter().all(|list| *list == lists[0]), "{lists:?}");
}

#[test]
fn a_write_on_one_is_read_on_another_at_once() {
    let Some(bed) = Bed::up(3) else { return };
    let mut writes = Writes::to_node_of(&bed, 1);
    for (writer, reader) in [(1, 2), (2, 3), (3, 1)] {
        writes
            .try_on(&bed, writer)
            .expect("every eligible node takes writes");
        let label = bed
            .docker(
                reader,
                &[
                    "node",
                    "inspect",
                    "node1",
                    "--format",
                    "{{json .Spec.Labels}}",
                ],
            )
            .ok();
        assert_eq!(label.matches("done").count(), writer, "{label}");
    }
}

#[test]
fn the_cluster_outlives_its_leader() {
    let Some(bed) = Bed::up(3) else { return };
    bed.until_managers(1, &[1, 2, 3]);
    let mut writes = Writes::to_node_of(&bed, 1);
    let first = bed.leader(&[1, 2, 3]);
    writes.until_accepted(&bed, &[first], secs(5));

    bed.act("kill", first);
    let survivors: Vec<usize> = (1..=3).filter(|host| *host != first).collect();
    let waited = writes.until_accepted(&bed, &survivors, secs(20));
    assert!(
        waited < secs(5),
        "a write waited {waited:?} for another leader"
    );
    let second = bed.leader(&survivors);
    assert_ne!(first, second);
    for host in &survivors {
        eventually(secs(5), "the killed node is seen down by all", || {
            let down = hosts_where(&bed.nodes(*host)?, NodeView::is_down);
            (down == [first])
                .then_some(())
                .ok_or_else(|| format!("down on host {host}: {down:?}"))
        });
    }

    bed.act("start", first);
    bed.until_ready(second, &[1, 2, 3]);
    for host in 1..=3 {
        writes.check_on(&bed, host);
    }
}

#[test]
fn a_minority_refuses_writes_and_keeps_answering() {
    let Some(bed) = Bed::up(3) else { return };
    bed.until_managers(1, &[1, 2, 3]);
    let mut writes = Writes::to_node_of(&bed, 1);
    let alone = bed.leader(&[1, 2, 3]);
    bed.act("cut", alone);

    eventually(
        secs(20),
        "the node that is cut off refuses in Docker's words",
        || {
            let refusal = writes
                .try_on(&bed, alone)
                .err()
                .ok_or("it took the write")?;
            refusal
                .contains("The swarm does not have a leader.")
                .then_some(())
                .ok_or(refusal)
        },
    );
    assert_eq!(
        bed.ask(alone, "GET", "/_ping", None)
            .expect("it answers")
            .body,
        "OK"
    );
    assert_eq!(bed.local(alone)["LocalNodeState"], "active");
    let majority: Vec<usize> = (1..=3).filter(|host| *host != alone).collect();
    writes.until_accepted(&bed, &majority, secs(10));
    bed.leader(&majority);

    bed.act("heal", alone);
    bed.until_ready(alone, &[1, 2, 3]);
    bed.leader(&[alone]);
    writes.check_on(&bed, alone);
}

#[test]
fn a_cluster_that_was_off_finds_itself_at_other_addresses() {
    let Some(bed) = Bed::up(3) else { return };
    bed.until_managers(1, &[1, 2, 3]);
    let mut writes = Writes::to_node_of(&bed, 1);
    writes.until_accepted(&bed, &[1], secs(5));
    bed.script(&["stop", "3", "2", "1"]).ok();
    bed.script(&["readdress", "2", "102"]).ok();
    bed.script(&["readdress", "3", "103"]).ok();
    for host in [2, 3, 1] {
        bed.act("start", host);
    }

    bed.until_ready(1, &[1, 2, 3]);
    for (host, address) in [(2, "10.99.0.102"), (3, "10.99.0.103")] {
        eventually(secs(10), "the new address is shown", || {
            let nodes = bed.nodes(1)?;
            let node = nodes
                .iter()
                .find(|node| node.host() == host)
                .ok_or("it is missing")?;
            let shown = node.text("/Status/Addr").to_string();
            (shown == address).then_some(()).ok_or(shown)
        });
    }
    writes.until_accepted(&bed, &[3], secs(10));
    writes.check_on(&bed, 2);
}

#[test]
fn a_node_that_pauses_for_a_second_is_not_taken_for_dead() {
    let Some(bed) = Bed::up(3) else { return };
    bed.until_managers(1, &[1, 2, 3]);
    let leader = bed.leader(&[1]);
    let paused = if leader == 3 { 2 } else { 3 };
    let ready = || {
        let ready = hosts_where(&bed.nodes(leader)?, NodeView::is_ready);
        (ready == [1, 2, 3])
            .then_some(())
            .ok_or_else(|| format!("Ready are {ready:?}"))
    };
    bed.act("pause", paused);
    holds_for(secs(1), "all stay Ready during the pause", ready);
    bed.act("resume", paused);
    holds_for(secs(3), "all stay Ready after it", ready);
}
