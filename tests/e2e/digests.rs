//! `GET /distribution/{name}/json`: services are of one digest, whatever becomes of the tag, and docker warns of nothing.

use crate::bed::Bed;
use crate::crew::{RUNS, give_image, pinned, until_runs};
use crate::wait::secs;

#[test]
fn a_service_is_pinned_to_the_digest_that_a_node_of_the_cluster_holds() {
    let Some(bed) = Bed::up(2) else { return };
    give_image(&bed, 2);
    let digest = pinned();
    let digest = digest
        .split_once('@')
        .map(|(_, digest)| digest)
        .unwrap_or_default();
    for host in [2, 1] {
        let answer = bed.get(host, "/distribution/test%2Fbusybox:latest/json");
        let answer = answer.expect("it is found on the second host");
        assert_eq!(
            answer["Descriptor"]["digest"], digest,
            "asked on host {host}: {answer}"
        );
        assert!(
            answer["Descriptor"]["size"].as_u64() > Some(100),
            "{answer}"
        );
        let platform = answer["Platforms"][0].clone();
        assert_eq!(platform["os"], "linux", "{answer}");
    }
    let create = ["service", "create", "--detach", "--name", "web"];
    let two = ["--replicas", "2", "test/busybox", "sh", "-c", RUNS];
    let said = bed.docker(1, &[&create[..], &two].concat());
    assert_eq!(said.err, "", "docker warns of nothing");
    said.ok();
    let run = until_runs(&bed, 1, "web", 2, secs(60));
    for task in &run {
        let image = task.text("/Spec/ContainerSpec/Image");
        assert_eq!(image, format!("test/busybox:latest@{digest}"));
    }
    let update = ["service", "update", "--detach", "--image", "test/busybox"];
    let said = bed.docker(1, &[&update[..], &["web"]].concat());
    assert_eq!(said.err, "", "docker warns of nothing");
    said.ok();
}

#[test]
fn what_is_not_found_is_refused_in_dockers_words() {
    let Some(bed) = Bed::up(1) else { return };
    let lost = bed.ask(
        1,
        "GET",
        "/distribution/127.0.0.1:1%2Fno%2Fsuch:1/json",
        None,
    );
    let lost = lost.expect("the node answers");
    assert_eq!(lost.status, 500);
    let words = "dial tcp 127.0.0.1:1: connect: connection refused";
    assert!(lost.message().contains(words), "{}", lost.message());
    let wrong = bed.ask(1, "GET", "/distribution/Not_Good/json", None);
    assert_eq!(wrong.expect("the node answers").status, 400);
}
