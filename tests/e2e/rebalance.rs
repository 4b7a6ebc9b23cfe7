//! `skein node rebalance`: tasks go to a machine that came later, and no more of them than it takes.

use crate::bed::Bed;
use crate::crew::{RUNS, by_node, create, give_image, ids, tasks, until_running, until_runs};
use crate::wait::{eventually, holds_for, secs};

/// Two hosts with six tasks, and a third that came after.
fn with_a_late_one(options: &[&str]) -> Option<Bed> {
    let bed = Bed::hosts(3)?;
    let token = bed.init(1);
    bed.skein(2, &["join", &token]).ok();
    bed.until_ready(1, &[1, 2]);
    for host in 1..=3 {
        give_image(&bed, host);
    }
    let mut all = vec!["--name", "web", "--replicas", "6"];
    all.extend(["--update-monitor", "500ms"]);
    all.extend(options);
    create(&bed, 1, &all, RUNS);
    until_runs(&bed, 1, "web", 6, secs(30));
    bed.skein(3, &["join", &token]).ok();
    bed.until_ready(1, &[1, 2, 3]);
    Some(bed)
}

/// Waits until each host has two, and never finds fewer than six that run, nor more than one too many.
#[track_caller]
fn until_even(bed: &Bed) {
    eventually(secs(40), "each host has two", || {
        let all = tasks(bed, 1, "web")?;
        let run = all.iter().filter(|task| task.state() == "running").count();
        assert!(run >= 6, "only {run} run");
        let wanted: Vec<_> = all.into_iter().filter(|task| task.is_wanted()).collect();
        assert!(wanted.len() <= 7, "{} are to run", wanted.len());
        let counts = by_node(&wanted);
        let even = counts.len() == 3 && counts.values().all(|count| *count == 2);
        even.then_some(()).ok_or_else(|| format!("{counts:?}"))
    });
}

#[test]
fn a_node_that_came_later_gets_its_share_when_the_user_says_so() {
    let Some(bed) = with_a_late_one(&[]) else {
        return;
    };
    let first = until_runs(&bed, 1, "web", 6, secs(5));
    // Ready, it takes tasks as soon as it has told what runs containers on it.
    let shown = eventually(secs(20), "two tasks are to be moved", || {
        let shown = bed.skein(3, &["node", "rebalance", "--dry-run"]).result()?;
        let two = shown.lines().count() == 4;
        two.then(|| shown.clone()).ok_or(shown)
    });
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].starts_with("TASK"), "{shown}");
    for line in &lines[1..3] {
        assert!(
            line.starts_with("web.") && line.contains("   node3   node"),
            "{line}"
        );
        assert!(line.ends_with("has 3 of its tasks, node3 has 0") || line.ends_with("node3 has 1"));
    }
    assert!(lines[3].starts_with("Nothing was moved"), "{shown}");
    holds_for(secs(2), "a dry run moves nothing", || {
        let same = ids(&tasks(&bed, 1, "web")?) == ids(&first);
        same.then_some(()).ok_or_else(|| "it moves".into())
    });

    let said = bed.skein(2, &["node", "rebalance"]).ok();
    assert_eq!(said.lines().count(), 4, "{said}");
    until_even(&bed);
    until_running(&bed, 3, 2);
    let even = until_runs(&bed, 1, "web", 6, secs(10));
    let kept = ids(&even)
        .iter()
        .filter(|id| ids(&first).contains(id))
        .count();
    assert_eq!(kept, 4, "two are moved, and no more");
    holds_for(secs(4), "nothing goes back and forth", || {
        let now: Vec<_> = tasks(&bed, 1, "web")?;
        let now: Vec<_> = now.into_iter().filter(|task| task.is_wanted()).collect();
        (ids(&now) == ids(&even))
            .then_some(())
            .ok_or_else(|| format!("{:?}", by_node(&now)))
    });
    let said = bed.skein(1, &["node", "rebalance"]).ok();
    assert!(said.starts_with("There is nothing to move"), "{said}");
}

#[test]
fn a_service_with_the_label_is_spread_by_itself() {
    let label = ["--label", "skein.rebalance=auto"];
    let Some(bed) = with_a_late_one(&label) else {
        return;
    };
    until_even(&bed);
    until_running(&bed, 3, 2);
}
