//! `docker node ...`: what it shows, what it changes, what it refuses.

use serde_json::json;

use crate::bed::Bed;
use crate::view::{NodeView, hosts_where};
use crate::wait::{eventually, holds_for, secs};

#[test]
fn inspect_finds_a_node_by_any_of_its_names() {
    let Some(bed) = Bed::hosts(1) else { return };
    bed.init(1);
    let id = bed.node(1).id().to_string();
    assert_eq!(id.len(), 25);
    for name in ["self", "node1", &id, &id[..6]] {
        assert_eq!(
            bed.docker(1, &["node", "inspect", name, "--format", "{{.ID}}"])
                .ok(),
            id
        );
    }
    bed.docker(1, &["node", "inspect", "nobody"])
        .refused_with("node nobody not found");

    let node = bed.node(1);
    assert_eq!(node.text("/Description/Hostname"), "node1");
    assert_eq!(node.text("/Description/Platform/OS"), "linux");
    assert_eq!(
        node.text("/Description/Platform/Architecture"),
        std::env::consts::ARCH
    );
    assert!(!node.text("/Description/Engine/EngineVersion").is_empty());
    assert!(node.0["Description"]["Resources"]["MemoryBytes"].as_i64() > Some(0));
    let root = bed.docker(1, &["swarm", "ca"]).ok();
    assert_eq!(node.text("/Description/TLSInfo/TrustRoot").trim(), root);
    assert_eq!(node.text("/Status/Addr"), "10.99.0.11");
    let pretty = bed.docker(1, &["node", "inspect", "--pretty", "self"]).ok();
    assert!(
        pretty.contains("Hostname:") && pretty.contains("node1"),
        "{pretty}"
    );
}

#[test]
fn update_changes_labels_and_availability() {
    let Some(bed) = Bed::hosts(1) else { return };
    bed.init(1);
    bed.docker(
        1,
        &[
            "node",
            "update",
            "--label-add",
            "zone=a",
            "--label-add",
            "disk=ssd",
            "node1",
        ],
    )
    .ok();
    bed.docker(1, &["node", "update", "--label-rm", "disk", "node1"])
        .ok();
    assert_eq!(bed.node(1).0["Spec"]["Labels"], json!({ "zone": "a" }));
    for availability in ["pause", "drain", "active"] {
        bed.docker(
            1,
            &["node", "update", "--availability", availability, "node1"],
        )
        .ok();
        assert_eq!(bed.node(1).text("/Spec/Availability"), availability);
    }
    bed.docker(
        1,
        &["node", "update", "--availability", "sometimes", "node1"],
    )
    .refused();
    assert_eq!(bed.node(1).text("/Spec/Availability"), "active");
    let labelled = bed
        .docker(1, &["node", "ls", "-q", "--filter", "node.label=zone=a"])
        .ok();
    assert_eq!(labelled, bed.node(1).id());
    assert_eq!(
        bed.docker(1, &["node", "ls", "-q", "--filter", "node.label=zone=b"])
            .ok(),
        ""
    );
}

#[test]
fn a_stale_version_is_out_of_sequence() {
    let Some(bed) = Bed::up(3) else { return };
    let stale = bed.node(1);
    bed.docker(1, &["node", "update", "--label-add", "newer=yes", "node1"])
        .ok();
    let path = format!("/nodes/{}/update?version={}", stale.id(), stale.version());
    for host in 1..=3 {
        let answer = bed
            .ask(host, "POST", &path, Some(&stale.0["Spec"]))
            .expect("it answers");
        assert_eq!(answer.status, 500);
        assert!(
            answer.message().contains("update out of sequence"),
            "{answer:?}"
        );
    }
    let fresh = bed.node(1);
    assert!(fresh.version() > stale.version());
    let path = format!("/nodes/{}/update?version={}", fresh.id(), fresh.version());
    let answer = bed
        .ask(2, "POST", &path, Some(&fresh.0["Spec"]))
        .expect("it answers");
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
}

/// Promotes or demotes a host. The leader writes roles down as they become true, and may do so between docker's read
/// and its write.
#[track_caller]
fn change_role(bed: &Bed, verb: &str, host: usize) {
    let name = format!("node{host}");
    eventually(secs(10), "docker changes its role", || {
        bed.docker(1, &["node", verb, &name]).result()
    });
}

/// The role of a host as the first host shows it: a demoted node does not answer for the cluster itself.
#[track_caller]
fn role(bed: &Bed, host: usize) -> String {
    let nodes = bed.nodes(1).expect("the nodes can be listed");
    let node = nodes.iter().find(|node| node.host() == host);
    node.expect("it is a member").text("/Spec/Role").to_string()
}

#[test]
fn roles_follow_promote_and_demote() {
    let Some(bed) = Bed::up(3) else { return };
    bed.until_managers(1, &[1, 2, 3]);
    let asked = if bed.leader(&[1]) == 3 { 2 } else { 3 };
    change_role(&bed, "demote", asked);
    assert_eq!(role(&bed, asked), "worker");
    eventually(secs(20), "the demoted node manages nothing", || {
        let nodes = bed.nodes(1)?;
        let still = nodes
            .iter()
            .any(|node| node.host() == asked && node.is_manager());
        (!still)
            .then_some(())
            .ok_or_else(|| "it is a manager".into())
    });
    change_role(&bed, "promote", asked);
    bed.until_managers(1, &[1, 2, 3]);
    assert_eq!(role(&bed, asked), "manager");
    bed.leader(&[1, 2, 3]);
}

#[test]
fn the_last_manager_cannot_be_demoted() {
    let Some(bed) = Bed::hosts(1) else { return };
    bed.init(1);
    bed.docker(1, &["node", "demote", "node1"])
        .refused_with("attempting to demote the last manager of the swarm");
}

#[test]
fn the_leader_itself_can_be_demoted() {
    let Some(bed) = Bed::up(3) else { return };
    bed.until_managers(1, &[1, 2, 3]);
    let leader = bed.leader(&[1]);
    let others: Vec<usize> = (1..=3).filter(|host| *host != leader).collect();
    bed.docker(leader, &["node", "demote", &format!("node{leader}")])
        .ok();
    eventually(secs(20), "another leads", || {
        let nodes = bed.nodes(others[0])?;
        let leaders = hosts_where(&nodes, NodeView::leads);
        let moved = leaders.len() == 1 && others.contains(&leaders[0]);
        moved
            .then_some(())
            .ok_or_else(|| format!("leaders are {leaders:?}"))
    });
}

#[test]
fn only_a_node_that_is_down_and_no_manager_can_be_removed() {
    let Some(bed) = Bed::hosts(2) else { return };
    bed.init(1);
    let token = bed.token(1, "--worker");
    bed.skein(2, &["join", &token]).ok();
    bed.until_ready(1, &[1, 2]);
    bed.docker(1, &["node", "rm", "node2"])
        .refused_with("is not down and can't be removed");
    bed.docker(1, &["node", "rm", "node1"])
        .refused_with("is a cluster manager and is a member of the raft cluster");
    bed.docker(1, &["node", "rm", "--force", "node2"]).ok();
    bed.until_ready(1, &[1]);
    assert_eq!(bed.nodes(1).expect("the list can be read").len(), 1);
}

#[test]
fn a_removed_node_stays_out() {
    let Some(bed) = Bed::hosts(2) else { return };
    bed.init(1);
    let token = bed.token(1, "--worker");
    bed.skein(2, &["join", &token]).ok();
    bed.until_ready(1, &[1, 2]);
    bed.act("kill", 2);
    eventually(secs(10), "the killed node is Down", || {
        let down = hosts_where(&bed.nodes(1)?, NodeView::is_down);
        (down == [2])
            .then_some(())
            .ok_or_else(|| format!("down are {down:?}"))
    });
    bed.docker(1, &["node", "rm", "node2"]).ok();

    bed.act("start", 2);
    eventually(secs(20), "the removed node says why it is out", || {
        let swarm = bed.local(2);
        let error = swarm["Error"].as_str().unwrap_or_default().to_string();
        error
            .contains("removed")
            .then_some(())
            .ok_or_else(|| swarm.to_string())
    });
    holds_for(secs(2), "the removed node is not listed", || {
        let nodes = bed.nodes(1)?;
        (nodes.len() == 1)
            .then_some(())
            .ok_or_else(|| format!("{nodes:?}"))
    });
    assert!(
        bed.log(1).contains("removed"),
        "the refusing side says so too"
    );

    // It comes back as another node, when it is asked in again.
    bed.docker(2, &["swarm", "leave", "--force"]).ok();
    bed.skein(2, &["join", &token]).ok();
    bed.until_ready(1, &[1, 2]);
}

#[test]
fn changes_are_told_as_events() {
    let Some(bed) = Bed::hosts(1) else { return };
    bed.init(1);
    bed.docker(1, &["node", "update", "--availability", "drain", "node1"])
        .ok();
    let format = "{{.Type}} {{.Action}} {{index .Actor.Attributes \"availability.new\"}}";
    let args = [
        "events",
        "--since",
        "1h",
        "--until",
        "0s",
        "--filter",
        "type=node",
        "--format",
        format,
    ];
    eventually(secs(10), "the event is told", || {
        let told = bed.docker(1, &args).result()?;
        told.lines()
            .any(|line| line == "node update drain")
            .then_some(())
            .ok_or(told)
    });
}
