//! What a node has besides processors and memory: reserved by tasks, one of a kind for each, and told to their programs.

use std::collections::BTreeSet;

use crate::crew::{RUNS, create, tasks, until_runs, until_some, up};
use crate::wait::{eventually, secs};

#[test]
fn a_task_is_told_which_of_the_nodes_resources_are_its_own() {
    let Some(bed) = up(1) else { return };
    bed.act("stop", 1);
    let mut start = vec!["start", "1"];
    for resource in ["gpu=UUID1", "gpu=UUID2", "ssd=4"] {
        start.extend(["--node-generic-resource", resource]);
    }
    bed.script(&start).ok();
    eventually(secs(20), "the node tells what it has", || {
        let node = bed.get(1, "/nodes/node1")?;
        let all = &node["Description"]["Resources"]["GenericResources"];
        (all.as_array().map(Vec::len) == Some(3))
            .then_some(())
            .ok_or_else(|| all.to_string())
    });
    let options = [
        "--name",
        "web",
        "--replicas",
        "3",
        "--generic-resource",
        "gpu=1",
    ];
    let more = ["--generic-resource", "ssd=2"];
    create(&bed, 1, &[&options[..], &more].concat(), RUNS);
    let waits = until_some(&bed, 1, "web", "the third finds none", |task| {
        task.text("/Status/Err") == "no suitable node (insufficient resources on 1 node)"
    });
    assert_eq!(waits.state(), "pending");
    let mut own = BTreeSet::new();
    for task in eventually(secs(30), "two run", || {
        let all = tasks(&bed, 1, "web")?;
        let run: Vec<_> = all.into_iter().filter(|task| task.runs()).collect();
        (run.len() == 2)
            .then_some(run)
            .ok_or_else(|| "not yet".into())
    }) {
        let given = task.0["GenericResources"].clone();
        assert_eq!(given.as_array().map(Vec::len), Some(2), "{given}");
        let pid = &task.0["Status"]["ContainerStatus"]["PID"];
        let said = bed.exec(1, &["cat", &format!("/proc/{pid}/environ")]).ok();
        let mut lines = said.split('\0');
        assert!(
            lines.clone().any(|line| line == "DOCKER_RESOURCE_SSD=2"),
            "{said}"
        );
        let gpu = lines.find_map(|line| line.strip_prefix("DOCKER_RESOURCE_GPU="));
        own.insert(gpu.unwrap_or_default().to_owned());
    }
    assert_eq!(own, ["UUID1", "UUID2"].map(String::from).into());

    bed.docker(1, &["service", "scale", "--detach", "web=2"])
        .ok();
    until_runs(&bed, 1, "web", 2, secs(30));
}
