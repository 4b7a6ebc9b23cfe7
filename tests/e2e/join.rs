//! Who is let in, as what, and what everybody else is told.

use crate::bed::{Bed, token_in};
use crate::view::{NodeView, hosts_where};
use crate::wait::{eventually, secs};

const WORKER: &str = "Worker nodes can't be used to view or modify cluster state.";
const MANAGER_ADDRESS: &str = "10.99.0.11:2377";

/// Joins by both commands, which must both refuse with `words`, and leave the host in no cluster.
#[track_caller]
fn refuses(bed: &Bed, host: usize, token: &str, words: &str) {
    let bare = token.split('@').next().unwrap_or(token);
    bed.docker(host, &["swarm", "join", "--token", bare, MANAGER_ADDRESS])
        .refused_with(words);
    bed.skein(host, &["join", &format!("{bare}@{MANAGER_ADDRESS}")])
        .refused_with(words);
    assert_eq!(bed.local(host)["LocalNodeState"], "inactive");
}

/// `token` with its last character replaced.
fn with_another_end(token: &str) -> String {
    let other = if token.ends_with('0') { '1' } else { '0' };
    format!("{}{other}", &token[..token.len() - 1])
}

fn bare(token: &str) -> String {
    token.split('@').next().unwrap_or(token).to_string()
}

#[test]
fn a_token_that_does_not_fit_is_refused() {
    let Some(bed) = Bed::hosts(3) else { return };
    let token = bare(&bed.init(1));
    let foreign = bare(&bed.init(3));
    refuses(
        &bed,
        2,
        &with_another_end(&token),
        "join token is necessary",
    );
    refuses(&bed, 2, &foreign, "remote CA does not match fingerprint");
    for broken in [
        &token[..token.len() - 1],
        "SWMTKN-1-short",
        "SWMTKN-9-",
        "nonsense",
    ] {
        refuses(&bed, 2, broken, "invalid join token");
    }
}

#[test]
fn a_rotated_token_no_longer_admits() {
    let Some(bed) = Bed::hosts(3) else { return };
    bed.init(1);
    let old = bare(&bed.token(1, "--worker"));
    assert_eq!(
        bed.docker(1, &["swarm", "join-token", "-q", "worker"]).ok(),
        old
    );
    let new = bed
        .docker(1, &["swarm", "join-token", "-q", "--rotate", "worker"])
        .ok();
    assert_ne!(old, new);
    refuses(&bed, 2, &old, "join token is necessary");
    bed.docker(2, &["swarm", "join", "--token", &new, MANAGER_ADDRESS])
        .ok();

    let old = bare(&bed.token(1, "--peer"));
    let new = token_in(&bed.skein(1, &["token", "--peer", "--rotate"]).ok());
    refuses(&bed, 3, &old, "join token is necessary");
    bed.skein(3, &["join", &format!("{}@{MANAGER_ADDRESS}", bare(&new))])
        .ok();
    bed.until_ready(1, &[1, 2, 3]);
}

#[test]
fn the_token_says_what_a_node_becomes() {
    let Some(bed) = Bed::hosts(4) else { return };
    bed.init(1);
    for (host, kind) in [(2, "--worker"), (3, "--manager"), (4, "--peer")] {
        let token = bed.token(1, kind);
        bed.skein(host, &["join", &token]).ok();
    }
    bed.until_ready(1, &[1, 2, 3, 4]);
    bed.until_managers(1, &[1, 3, 4]);
    assert_eq!(bed.local(2)["ControlAvailable"], false);
    assert_eq!(bed.local(4)["ControlAvailable"], true);
    for args in [
        &["node", "ls"][..],
        &["node", "update", "--availability", "drain", "node1"],
        &["swarm", "update", "--task-history-limit", "3"],
        &["swarm", "join-token", "worker"],
    ] {
        bed.docker(2, args).refused_with(WORKER);
    }
    let list = bed.ask(2, "GET", "/nodes", None).expect("a worker answers");
    assert_eq!(list.status, 503);
    assert!(list.message().contains(WORKER));
    bed.docker(4, &["node", "ls"]).ok();
}

#[test]
fn an_address_that_nobody_answers_at_is_named() {
    let Some(bed) = Bed::hosts(2) else { return };
    let token = bare(&bed.init(1));
    let complaint = bed
        .skein(2, &["join", &format!("{token}@10.99.0.99")])
        .refused();
    assert!(complaint.contains("10.99.0.99"), "{complaint}");
    bed.skein(2, &["join", "--help"]).ok();
    if bed.local(2)["LocalNodeState"] != "inactive" {
        bed.docker(2, &["swarm", "leave", "--force"]).ok();
    }
    bed.skein(
        2,
        &["join", &format!("{token}@10.99.0.99,{MANAGER_ADDRESS}")],
    )
    .ok();
    bed.until_ready(1, &[1, 2]);
}

#[test]
fn a_member_is_told_that_it_is_one() {
    let Some(bed) = Bed::up(2) else { return };
    let words = "This node is already part of a swarm.";
    let token = bare(&bed.token(1, "--worker"));
    bed.docker(2, &["swarm", "join", "--token", &token, MANAGER_ADDRESS])
        .refused_with(words);
    bed.docker(2, &["swarm", "init"]).refused_with(words);
    bed.skein(2, &["init"]).refused_with("already");
    bed.until_ready(1, &[1, 2]);
}

#[test]
fn any_member_lets_others_in() {
    let Some(bed) = Bed::up(3) else { return };
    bed.until_managers(1, &[1, 2, 3]);
    let token = bare(&bed.token(1, "--worker"));
    bed.add_hosts(5);
    let leader = bed.leader(&[1]);
    let other = if leader == 1 { 2 } else { 1 };
    bed.skein(4, &["join", &format!("{token}@10.99.0.{}", 10 + other)])
        .ok();
    bed.until_ready(1, &[1, 2, 3, 4]);
    // Through a worker, and over IPv6.
    bed.skein(5, &["join", &format!("{token}@[fd99::14]:2377")])
        .ok();
    bed.until_ready(1, &[1, 2, 3, 4, 5]);
}

#[test]
fn leaving_takes_what_docker_asks_for() {
    let Some(bed) = Bed::hosts(2) else { return };
    bed.init(1);
    let token = bed.token(1, "--worker");
    bed.docker(1, &["swarm", "leave"])
        .refused_with("Removing the last manager erases all current state");
    bed.docker(2, &["swarm", "leave"])
        .refused_with("This node is not part of a swarm");
    bed.skein(2, &["join", &token]).ok();
    bed.docker(2, &["swarm", "leave"]).ok();
    assert_eq!(bed.local(2)["LocalNodeState"], "inactive");
    eventually(
        secs(10),
        "the node that left is Down and still listed",
        || {
            let down = hosts_where(&bed.nodes(1)?, NodeView::is_down);
            (down == [2])
                .then_some(())
                .ok_or_else(|| format!("down are {down:?}"))
        },
    );
    bed.docker(1, &["node", "rm", "node2"]).ok();

    bed.skein(2, &["join", &token]).ok();
    bed.until_ready(1, &[1, 2]);
    bed.docker(1, &["swarm", "leave", "--force"]).ok();
    assert_eq!(bed.local(1)["LocalNodeState"], "inactive");
    bed.init(1);
    bed.until_ready(1, &[1]);
}
