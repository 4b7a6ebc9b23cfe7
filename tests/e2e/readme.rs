//! The README's word: every command in it is run here, in the order in which a reader meets it.

use std::collections::BTreeSet;

use crate::bed::{Bed, program, token_in};
use crate::run::run;
use crate::wait::{eventually, secs};

/// The commands in the README's shell blocks, without the prompt that it does not have.
fn commands() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut inside = false;
    for line in include_str!("../../README.md").lines() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            _ if inside => {
                found.insert(line.to_string());
            }
            _ => {}
        }
    }
    found
}

/// Ticks off what was run, and fails for a command that the README does not have.
struct Page(BTreeSet<String>);

impl Page {
    #[track_caller]
    fn read(&mut self, line: &str) {
        assert!(self.0.remove(line), "the README has no command {line:?}");
    }

    /// Runs a line of the README on a host, as it stands there.
    #[track_caller]
    fn run(&mut self, bed: &Bed, host: usize, line: &str) -> String {
        self.read(line);
        let line = line.trim_start_matches("sudo ");
        let mut words = line.split_whitespace();
        let name = words.next().expect("a command");
        let words: Vec<&str> = words.collect();
        match (name, words.as_slice()) {
            ("skein", words) => bed.skein(host, words).ok(),
            ("docker", ["-H", "unix:///run/skein/skein.sock", words @ ..]) => {
                bed.docker(host, words).ok()
            }
            _ => panic!("no way to run {line:?}"),
        }
    }
}

#[track_caller]
fn until_manager(bed: &Bed, host: usize) {
    eventually(secs(40), "it is a manager", || {
        let nodes = bed.nodes(1)?;
        let is = nodes
            .iter()
            .any(|node| node.host() == host && node.is_reachable_manager());
        is.then_some(()).ok_or_else(|| "it is none yet".into())
    });
}

#[test]
fn every_command_of_the_readme_does_what_it_says() {
    let mut page = Page(commands());
    // These run everything else, this test among it, or are run by the tests below.
    for line in [
        "scripts/test",
        "sudo scripts/quickstart",
        "sudo scripts/cluster up 3",
        "sudo scripts/cluster exec 2 skein node ls",
        "sudo scripts/cluster kill 1",
        "sudo scripts/cluster down",
    ] {
        page.read(line);
    }
    let Some(bed) = Bed::hosts(4) else { return };
    let said = page.run(&bed, 1, "sudo skein init");
    let token = token_in(&said);
    page.read("sudo skein join SWMTKN-1-…@192.168.1.10:2377");
    for host in 2..=4 {
        bed.skein(host, &["join", &token]).ok();
    }
    bed.until_ready(1, &[1, 2, 3, 4]);
    assert!(page.run(&bed, 2, "skein node ls").contains("Leader"));
    assert!(page.run(&bed, 4, "skein status").contains("node4"));
    let listed = page.run(&bed, 4, "docker -H unix:///run/skein/skein.sock node ls");
    assert!(listed.contains("Leader"), "{listed}");
    tokens(&mut page, &bed);
    changes(&mut page, &bed);
    rebalance(&mut page, &bed);
    services(&mut page, &bed);
    context(&mut page, &bed);
    without_docker(&mut page, &bed);

    page.read("sudo skein init --ca-cert root.crt --ca-key root.key");
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/certs/own");
    let (cert, key) = (format!("{own}/ec.crt"), format!("{own}/ec.key"));
    bed.skein(4, &["init", "--ca-cert", &cert, "--ca-key", &key])
        .ok();
    page.read("sudo skein recover");
    bed.skein(4, &["recover"])
        .refused_with("nothing to recover");
    assert!(page.0.is_empty(), "not run: {:?}", page.0);
}

fn services(page: &mut Page, bed: &Bed) {
    for what in [
        "create --detach --name web --replicas 3 skein/whoami",
        "ps web",
        "scale --detach web=5",
        "update --detach --env-add GREETING=hello web",
        "rm web",
    ] {
        let line = format!("docker -H unix:///run/skein/skein.sock service {what}");
        assert!(!page.run(bed, 1, &line).is_empty(), "{line}");
        if what == "ps web" {
            // What it says by then is a matter of a moment.
            let line = "docker -H unix:///run/skein/skein.sock service logs web";
            page.run(bed, 1, line);
        }
    }
}

/// In the host, as its user sees it, with a place of its own for what docker notes.
fn context(page: &mut Page, bed: &Bed) {
    let config = format!("DOCKER_CONFIG={}", bed.folder(1).display());
    let skein = program().display().to_string();
    page.read("skein context --use");
    bed.exec(
        1,
        &[
            "env",
            "-u",
            "DOCKER_HOST",
            &config,
            &skein,
            "context",
            "--use",
        ],
    )
    .ok();
    page.read("docker ps");
    let listed = bed.exec(1, &["env", "-u", "DOCKER_HOST", &config, "docker", "ps"]);
    assert!(listed.ok().starts_with("CONTAINER ID"));
}

fn without_docker(page: &mut Page, bed: &Bed) {
    for line in [
        "skein service create --detach --name hello skein/whoami",
        "skein service ps hello",
        "skein service ls",
        "skein service rm hello",
        "skein completion bash",
    ] {
        assert!(!page.run(bed, 1, line).is_empty(), "{line}");
    }
}

fn rebalance(page: &mut Page, bed: &Bed) {
    for line in ["skein node rebalance --dry-run", "skein node rebalance"] {
        let said = page.run(bed, 1, line);
        assert!(said.starts_with("There is nothing to move"), "{said}");
    }
}

fn tokens(page: &mut Page, bed: &Bed) {
    for line in [
        "skein token",
        "skein token --worker",
        "skein token --manager",
        "skein token --peer --rotate",
    ] {
        assert!(page.run(bed, 1, line).contains("SWMTKN-1-"), "{line}");
    }
}

fn changes(page: &mut Page, bed: &Bed) {
    page.run(
        bed,
        1,
        "docker -H unix:///run/skein/skein.sock node update --label-add zone=a node2",
    );
    page.run(bed, 3, "skein node update --availability drain node2");
    let node = bed.node(2);
    assert_eq!(node.text("/Spec/Labels/zone"), "a");
    assert_eq!(node.text("/Spec/Availability"), "drain");
    page.run(bed, 1, "skein node promote node2");
    until_manager(bed, 2);
    page.run(bed, 1, "skein node demote node2");
    page.run(
        bed,
        1,
        "docker -H unix:///run/skein/skein.sock swarm ca --rotate",
    );
    page.run(bed, 4, "sudo skein leave");
    assert_eq!(bed.local(4)["LocalNodeState"], "inactive");
    until_no_manager(bed, 2);
    page.run(bed, 1, "skein node rm --force node2");
}

/// A demoted node can be removed once it no longer votes.
#[track_caller]
fn until_no_manager(bed: &Bed, host: usize) {
    eventually(secs(40), "it no longer votes", || {
        let nodes = bed.nodes(1)?;
        let votes = nodes
            .iter()
            .any(|node| node.host() == host && node.is_manager());
        (!votes).then_some(()).ok_or_else(|| "it votes".into())
    });
}

#[test]
fn quickstart_makes_a_cluster_of_one_and_changes_nothing_the_second_time() {
    let Some(bed) = Bed::hosts(1) else { return };
    bed.act("stop", 1);
    let prefix = bed.folder(1).join("prefix");
    // The host shares the machine's disk: its own place for what would go to /var/lib.
    bed.exec(1, &["mkdir", "-p", "/var/lib/skein"]).ok();
    bed.exec(1, &["mount", "-t", "tmpfs", "tmpfs", "/var/lib/skein"])
        .ok();
    let quickstart = || {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/quickstart");
        let prefix = format!("PREFIX={}", prefix.display());
        let binary = format!("SKEIN_BIN={}", program().display());
        bed.exec(1, &["env", "-u", "SKEIN_HOST", &prefix, &binary, script])
            .ok()
    };
    let first = quickstart();
    assert!(
        first.contains("Leader") && first.contains("Ready"),
        "{first}"
    );
    assert!(first.contains("sudo skein join SWMTKN-1-"), "{first}");
    let processes = || bed.exec(1, &["pgrep", "-x", "skein"]).ok();
    let before = processes();
    assert_eq!(quickstart(), first);
    assert_eq!(processes(), before);
    let stop = "kill $(pgrep -x skein); while pgrep -x skein >/dev/null; do :; done";
    bed.exec(1, &["timeout", "20", "sh", "-c", stop]).ok();
}

#[test]
fn the_bed_of_the_readme_comes_up_and_goes() {
    let Some(bed) = Bed::hosts(1) else { return };
    drop(bed);
    let script = |args: &[&str]| {
        let mut command = crate::run::bounded(
            secs(120),
            concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/cluster"),
        );
        command.env("SKEIN_BED", format!("readme-{}", std::process::id()));
        command.env("SKEIN_BIN", program());
        run(command.args(args))
    };
    script(&["up", "3"]).ok();
    assert!(
        script(&["exec", "2", "skein", "node", "ls"])
            .ok()
            .contains("Leader")
    );
    script(&["kill", "1"]).ok();
    script(&["down"]).ok();
}
