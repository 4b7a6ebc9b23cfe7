//! Losing machines: the cluster heals its quorum while it has one, and comes back by one command when it has not.

use crate::bed::Bed;
use crate::view::NodeView;
use crate::wait::{eventually, secs};
use crate::writes::Writes;

/// Kills the daemons of `hosts`, as near to at once as can be.
fn kill_at_once(bed: &Bed, hosts: &[usize]) {
    let numbers: Vec<String> = hosts.iter().map(usize::to_string).collect();
    let mut args = vec!["kill"];
    args.extend(numbers.iter().map(String::as_str));
    bed.script(&args).ok();
}

/// How many managers the cluster keeps of so many living machines.
fn managers_of(alive: usize) -> usize {
    match alive {
        0..=2 => 1,
        3 | 4 => 3,
        _ => 5,
    }
}

/// Waits until `host` shows as many managers as the `alive` are to have, and none that is dead.
#[track_caller]
fn until_healed(bed: &Bed, host: usize, alive: &[usize]) {
    eventually(secs(40), "dead voters are replaced or shed", || {
        let nodes = bed.nodes(host)?;
        let managers: Vec<usize> = nodes
            .iter()
            .filter(|node| node.is_manager())
            .map(NodeView::host)
            .collect();
        let healed = managers.len() == managers_of(alive.len())
            && managers.iter().all(|manager| alive.contains(manager));
        healed
            .then_some(())
            .ok_or_else(|| format!("{managers:?} are managers"))
    });
}

/// Waits until `other` has told the leader of a log as long as the leader's own.
#[track_caller]
fn until_log_is_whole(bed: &Bed, leader: usize, other: usize) {
    let name = |host: usize| format!("node{host}");
    eventually(secs(20), "the other replica has the whole log", || {
        let status = bed.get(leader, "/skein/status")?;
        let log = |host| {
            let peers = status["Peers"].as_array()?;
            let peer = peers.iter().find(|peer| peer["Hostname"] == name(host))?;
            Some(peer["LastLog"].to_string())
        };
        let logs = (log(leader), log(other));
        (logs.0.is_some() && logs.0 == logs.1)
            .then_some(())
            .ok_or_else(|| format!("{logs:?}"))
    });
}

#[test]
fn five_nodes_may_fail_one_after_another_down_to_two() {
    let Some(bed) = Bed::up(5) else { return };
    let mut alive = vec![1, 2, 3, 4, 5];
    until_healed(&bed, 1, &alive);
    let mut writes = Writes::to_node_of(&bed, 1);
    while alive.len() > 2 {
        // The leader first, then one that follows, then the leader again.
        let leader = bed.leader(&alive);
        let victim = if alive.len() == 4 {
            alive[usize::from(alive[0] == leader)]
        } else {
            leader
        };
        bed.act("kill", victim);
        alive.retain(|host| *host != victim);
        writes.until_accepted(&bed, &alive, secs(20));
        until_healed(&bed, bed.leader(&alive), &alive);
    }
    for host in &alive {
        writes.check_on(&bed, *host);
    }

    // The last step is one that no consensus can promise: the survivor goes on if the vote was its own.
    let had_the_vote = bed.leader(&alive);
    let victim = alive[usize::from(alive[0] != had_the_vote)];
    bed.act("kill", victim);
    alive.retain(|host| *host != victim);
    let last = alive[0];
    let refusal = eventually(
        secs(20),
        "the survivor refuses writes in words",
        || match writes.try_on(&bed, last) {
            Ok(()) => Err("it took the write without a vote".into()),
            Err(refusal) if refusal.contains("does not have a leader") => Ok(refusal),
            Err(other) => Err(other),
        },
    );
    let status = bed.skein(last, &["status"]);
    let words = format!("{}{}{refusal}", status.out, status.err);
    assert!(
        words.contains("skein recover"),
        "what to do is said: {words}"
    );
    bed.skein(last, &["recover"]).ok();
    writes.until_accepted(&bed, &[last], secs(10));
    writes.check_on(&bed, last);
}

#[test]
fn the_survivor_with_the_vote_goes_on_alone() {
    let Some(bed) = Bed::up(2) else { return };
    bed.until_ready(1, &[1, 2]);
    let leader = bed.leader(&[1, 2]);
    let mut writes = Writes::to_node_of(&bed, leader);
    bed.act("kill", 3 - leader);
    writes.until_accepted(&bed, &[leader], secs(20));
    until_healed(&bed, leader, &[leader]);
}

#[test]
fn recover_brings_back_what_lost_its_majority_at_once() {
    let Some(bed) = Bed::up(3) else { return };
    bed.until_managers(1, &[1, 2, 3]);
    let mut writes = Writes::to_node_of(&bed, 1);
    for host in [1, 2, 3] {
        writes.until_accepted(&bed, &[host], secs(10));
    }
    let refusal = bed.skein(1, &["recover"]).refused();
    assert!(
        !refusal.is_empty(),
        "a cluster that has its quorum needs no recovery"
    );

    let lost = bed.leader(&[1]);
    let survivor = if lost == 3 { 2 } else { 3 };
    // A write is acknowledged when two of three have it: the survivor must not be the third.
    until_log_is_whole(&bed, lost, survivor);
    let dead: Vec<usize> = (1..=3).filter(|host| *host != survivor).collect();
    kill_at_once(&bed, &dead);
    bed.skein(survivor, &["recover"]).ok();
    writes.until_accepted(&bed, &[survivor], secs(10));
    writes.check_on(&bed, survivor);

    // The others come back as members of the recovered cluster, whatever they remember.
    for host in &dead {
        bed.act("start", *host);
    }
    bed.until_ready(survivor, &[1, 2, 3]);
    writes.until_accepted(&bed, &dead, secs(20));
    writes.check_on(&bed, dead[0]);
}

#[test]
fn force_new_cluster_does_the_same_in_dockers_words() {
    let Some(bed) = Bed::up(3) else { return };
    bed.until_managers(1, &[1, 2, 3]);
    let mut writes = Writes::to_node_of(&bed, 1);
    writes.until_accepted(&bed, &[1, 2, 3], secs(10));
    kill_at_once(&bed, &[1, 2]);
    bed.docker(3, &["swarm", "init", "--force-new-cluster"])
        .ok();
    eventually(secs(20), "it is the only manager", || {
        let nodes = bed.nodes(3)?;
        let managers: Vec<usize> = nodes
            .iter()
            .filter(|node| node.is_manager())
            .map(NodeView::host)
            .collect();
        (managers == [3])
            .then_some(())
            .ok_or_else(|| format!("managers are {managers:?}"))
    });
    writes.until_accepted(&bed, &[3], secs(10));
    writes.check_on(&bed, 3);
}

#[test]
fn four_nodes_have_three_voters_and_a_replacement() {
    let Some(bed) = Bed::up(4) else { return };
    let voters = eventually(secs(40), "three vote", || {
        let nodes = bed.nodes(1)?;
        let voters: Vec<usize> = nodes
            .iter()
            .filter(|node| node.is_reachable_manager())
            .map(NodeView::host)
            .collect();
        (voters.len() == 3)
            .then_some(voters.clone())
            .ok_or_else(|| format!("voters are {voters:?}"))
    });
    let leader = bed.leader(&[1]);
    let standby = (1..=4)
        .find(|host| !voters.contains(host))
        .expect("four less three");
    let victim = *voters
        .iter()
        .find(|host| **host != leader)
        .expect("three less one");
    bed.act("kill", victim);
    eventually(
        secs(40),
        "the standby votes in the dead one's place",
        || {
            let nodes = bed.nodes(leader)?;
            let promoted = nodes
                .iter()
                .any(|node| node.host() == standby && node.is_reachable_manager());
            let shed = nodes
                .iter()
                .all(|node| node.host() != victim || !node.is_manager());
            (promoted && shed)
                .then_some(())
                .ok_or_else(|| format!("{nodes:?}"))
        },
    );
}
