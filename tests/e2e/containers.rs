//! `docker exec`, `logs`, `inspect` and their like: the containers of tasks, asked for on a node that they are not on.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use crate::bed::Bed;
use crate::crew::{TaskView, create, until_runs, up};
use crate::run::bounded;
use crate::wait::{eventually, secs};

/// Says a line on each output, then a number every tenth of a second, and ends when it is asked to.
const SPEAKS: &str = "trap 'echo last; exit 0' TERM; echo out; echo err >&2; n=0; \
     while :; do n=$((n+1)); echo number $n; sleep 0.1; done";

/// What a task's container is called.
fn name(service: &str, task: &TaskView) -> String {
    format!("{service}.{}.{}", task.slot(), task.id())
}

/// Two hosts; a service that speaks on each; the container that is on host 2, which is asked for on host 1.
fn two() -> Option<(Bed, Vec<String>)> {
    let bed = up(2)?;
    create(&bed, 1, &["--name", "web", "--replicas", "2"], SPEAKS);
    let tasks = until_runs(&bed, 1, "web", 2, secs(30));
    let nodes = bed.nodes(1).expect("the nodes are listed");
    let on = |host: usize| {
        let node = nodes.iter().find(|node| node.host() == host);
        let node = node.expect("each host is a node");
        let task = tasks.iter().find(|task| task.node() == node.id());
        let task = task.expect("each node has a task");
        name("web", task)
    };
    let names = vec![on(1), on(2)];
    Some((bed, names))
}

/// What is typed goes in whole, its end too, and what is said comes out whole.
#[track_caller]
fn streams_are_whole(bed: &Bed, target: &str) {
    let typed = vec![b'x'; 3 << 20];
    let mut command = bounded(secs(60), "docker");
    command.env("DOCKER_HOST", format!("unix://{}", bed.socket(1).display()));
    command
        .args(["exec", "-i", target, "wc", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().expect("docker is installed");
    let mut input = child.stdin.take().expect("it is piped");
    input.write_all(&typed).expect("it is read");
    drop(input);
    let counted = child.wait_with_output().expect("docker ends");
    assert_eq!(
        String::from_utf8_lossy(&counted.stdout).trim(),
        typed.len().to_string()
    );

    let said = bed.docker(
        1,
        &[
            "exec",
            target,
            "dd",
            "if=/dev/zero",
            "bs=1M",
            "count=3",
            "status=none",
        ],
    );
    assert_eq!(said.out.len(), 3 << 20);
}

#[test]
fn exec_reaches_a_container_on_any_node() {
    let Some((bed, names)) = two() else { return };
    for (asked, target) in [(1, &names[0]), (1, &names[1]), (2, &names[0])] {
        let said = bed.docker(
            asked,
            &[
                "exec",
                "-e",
                "A=b c",
                "-w",
                "/etc",
                target,
                "sh",
                "-c",
                "echo $A; pwd; echo no >&2; exit 7",
            ],
        );
        assert_eq!(
            (said.out.as_str(), said.err.as_str(), said.code),
            ("b c\n/etc\n", "no\n", Some(7)),
            "{said}"
        );
    }
    let target = &names[1];
    let missing = bed.docker(1, &["exec", target, "nosuch"]);
    assert_eq!(missing.code, Some(127), "{missing}");
    assert!(
        missing.out.contains("executable file not found in $PATH"),
        "{missing}"
    );
    assert_eq!(bed.docker(1, &["exec", target, "/etc"]).code, Some(126));

    streams_are_whole(&bed, target);

    bed.docker(1, &["exec", "-d", target, "touch", "/tmp/touched"])
        .ok();
    eventually(secs(10), "the detached process has run", || {
        bed.docker(1, &["exec", target, "ls", "/tmp/touched"])
            .result()
    });
    let paused = |action: &str| bed.docker(1, &[action, target]);
    paused("pause").ok();
    bed.docker(1, &["exec", target, "true"])
        .refused_with("is paused, unpause the container before exec");
    paused("unpause").ok();
    bed.docker(1, &["exec", "nosuch", "true"])
        .refused_with("No such container: nosuch");
}

/// Into it, and out again.
#[track_caller]
fn files_are_copied(bed: &Bed, target: &str) {
    let folder = bed.folder(1).join("copied");
    fs::create_dir_all(folder.join("deep")).expect("the bed is ours");
    fs::write(folder.join("deep/file"), "content").expect("the bed is ours");
    let path = folder.display().to_string();
    bed.docker(1, &["cp", &path, &format!("{target}:/tmp/in")])
        .ok();
    assert_eq!(
        bed.docker(1, &["exec", target, "cat", "/tmp/in/deep/file"])
            .ok(),
        "content"
    );
    let out = bed.folder(1).join("out");
    let out_text = out.display().to_string();
    bed.docker(1, &["cp", &format!("{target}:/tmp/in/deep"), &out_text])
        .ok();
    assert_eq!(
        fs::read_to_string(out.join("file")).expect("it was copied"),
        "content"
    );
    bed.docker(1, &["cp", &format!("{target}:/nosuch"), &out_text])
        .refused_with("Could not find the file /nosuch in container");
}

/// What may be done to the container of a task, and what may not.
#[track_caller]
fn it_is_changed_and_ended(bed: &Bed, target: &str) {
    bed.docker(
        1,
        &["update", "--memory", "64m", "--memory-swap", "64m", target],
    )
    .ok();
    assert_eq!(
        bed.docker(
            1,
            &["inspect", "--format", "{{.HostConfig.Memory}}", target]
        )
        .ok(),
        "67108864"
    );

    for (args, words) in [
        (
            &["restart", target][..],
            "belongs to a task, which never begins twice",
        ),
        (
            &["rename", target, "other"],
            "is named by its task and cannot be renamed",
        ),
        (
            &["rm", target],
            "container is running: stop the container before removing or force remove",
        ),
    ] {
        bed.docker(1, args).refused_with(words);
    }

    bed.docker(1, &["stop", "-t", "5", target]).ok();
    let state = bed.docker(
        1,
        &[
            "inspect",
            "--format",
            "{{.State.Status}} {{.State.ExitCode}}",
            target,
        ],
    );
    assert_eq!(state.ok(), "exited 0");
    assert_eq!(bed.docker(1, &["wait", target]).ok(), "0");
    bed.docker(1, &["kill", target])
        .refused_with("is not running");
}

#[test]
fn a_container_is_looked_at_and_copied_from_any_node() {
    let Some((bed, names)) = two() else { return };
    let target = &names[1];
    let shown = bed.docker(1, &["inspect", "--format",
        "{{.Name}} {{.State.Status}} {{.HostConfig.NetworkMode}} {{index .Config.Labels \"com.docker.swarm.service.name\"}}",
        target]);
    assert_eq!(shown.ok(), format!("/{target} running default web"));
    let id = bed
        .docker(1, &["inspect", "--format", "{{.Id}}", target])
        .ok();
    assert_eq!(
        bed.docker(1, &["inspect", "--format", "{{.Name}}", &id[..12]])
            .ok(),
        format!("/{target}")
    );

    // A list is of the node that is asked, as each daemon's of Docker is.
    let listed = |host: usize| {
        bed.docker(host, &["ps", "--format", "{{.Names}} {{.State}}"])
            .ok()
    };
    assert_eq!(listed(1), format!("{} running", names[0]));
    assert_eq!(listed(2), format!("{} running", names[1]));

    let top = bed.docker(1, &["top", target, "-o", "pid,args"]).ok();
    assert!(top.starts_with("PID") && top.contains("number"), "{top}");
    let stats = bed
        .docker(
            1,
            &[
                "stats",
                "--no-stream",
                "--format",
                "{{.Name}} {{.PIDs}}",
                target,
            ],
        )
        .ok();
    let (of, pids) = stats.split_once(' ').unwrap();
    assert!(of == target && pids.parse::<u32>().unwrap() >= 1, "{stats}");

    files_are_copied(&bed, target);
    it_is_changed_and_ended(&bed, target);
    until_runs(&bed, 1, "web", 2, secs(30));
}

#[test]
fn what_containers_say_is_read_on_any_node() {
    let Some((bed, names)) = two() else { return };
    let target = &names[1];
    eventually(secs(10), "both outputs are heard", || {
        let said = bed.docker(1, &["logs", "--tail", "all", target]);
        let heard = said.out.starts_with("out\nnumber 1\nnumber 2\n") && said.err == "err\n";
        heard.then_some(()).ok_or_else(|| said.to_string())
    });
    let said = bed.docker(1, &["logs", "-t", "--tail", "1", target]).ok();
    assert!(said.contains("Z number "), "{said}");

    let all = eventually(secs(10), "both tasks are heard", || {
        let all = bed.docker(1, &["service", "logs", "web"]).result()?;
        let both = all.matches("| number 2\n").count() == 2;
        both.then(|| all.clone()).ok_or(all)
    });
    for name in &names {
        let short: String = name
            .rsplit_once('.')
            .map(|(front, task)| format!("{front}.{}", &task[..12]))
            .unwrap();
        assert!(all.contains(&format!("{short}@node")), "{short}: {all}");
    }
    assert_eq!(all.matches("| out\n").count(), 2, "{all}");

    // Whoever follows hears the last words, and that it is over.
    let follower = {
        let mut command = bounded(secs(60), "docker");
        command.env("DOCKER_HOST", format!("unix://{}", bed.socket(1).display()));
        command
            .args(["logs", "-f", target])
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        command.spawn().unwrap()
    };
    bed.docker(2, &["stop", target]).ok();
    let heard = follower.wait_with_output().unwrap();
    assert!(heard.status.success());
    let heard = String::from_utf8_lossy(&heard.stdout).into_owned();
    assert!(
        heard.starts_with("out\n") && heard.ends_with("last\n"),
        "{heard}"
    );

    // A task that has ended is still heard, and a node that is gone costs a line.
    let all = bed.docker(1, &["service", "logs", "web"]).ok();
    assert!(all.contains("| last"), "{all}");
    bed.act("kill", 2);
    eventually(secs(20), "the node that is gone costs a line", || {
        let said = bed.docker(1, &["service", "logs", "--tail", "1", "web"]);
        let (out, err) = (said.out.clone(), said.err.clone());
        match said.succeeded() && err.contains("incomplete log stream") && out.contains("@node1") {
            true => Ok(()),
            false => Err(format!("{out}{err}")),
        }
    });
    bed.docker(1, &["logs", "nosuch"])
        .refused_with("No such container: nosuch");
    bed.docker(1, &["service", "logs", "nosuch"])
        .refused_with("no such task or service: nosuch");
}
