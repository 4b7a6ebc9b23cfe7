//! `docker run`, `create` and what is done to a container that its user has made by himself, on a node that is in no
//! cluster, through deaths of its daemon.

use std::io::Write;
use std::process::Stdio;

use crate::bed::Bed;
use crate::crew::{ctr, give_image, pinned, up};
use crate::run::{Said, bounded};
use crate::wait::{eventually, secs};

/// Runs for as long as it is let, and counts its beginnings in its own file system.
const COUNTS: &str = "echo x >> /begun; trap 'exit 0' TERM; while :; do sleep 0.1; done";

fn host() -> Option<Bed> {
    let bed = Bed::hosts(1)?;
    give_image(&bed, 1);
    eventually(secs(40), "containers can be listed", || {
        bed.docker(1, &["ps"]).result()
    });
    Some(bed)
}

/// `docker run` of the image with these options and this script.
fn run(bed: &Bed, options: &[&str], script: &str) -> Said {
    let image = pinned();
    let all = [&["run"], options, &[&image, "sh", "-c", script]].concat();
    bed.docker(1, &all)
}

fn inspect(bed: &Bed, name: &str, format: &str) -> String {
    bed.docker(1, &["inspect", "--format", format, name]).ok()
}

/// Nothing is left in containerd: no container, no task, no snapshot that is written to.
#[track_caller]
fn nothing_is_left(bed: &Bed) {
    eventually(secs(20), "nothing is left in containerd", || {
        let containers = ctr(bed, 1, &["containers", "ls", "-q"]).result()?;
        let snapshots = ctr(bed, 1, &["snapshots", "ls"]).result()?;
        let written = snapshots.matches("Active").count();
        (containers.is_empty() && written == 0)
            .then_some(())
            .ok_or_else(|| format!("{containers}\n{snapshots}"))
    });
}

#[test]
fn a_container_is_run_in_every_way() {
    let Some(bed) = host() else { return };
    let said = run(
        &bed,
        &["--rm", "-e", "A=b c", "-w", "/etc"],
        "echo $A; pwd; echo no >&2; exit 7",
    );
    assert_eq!(
        (said.out.as_str(), said.code),
        ("b c\n/etc\n", Some(7)),
        "{said}"
    );
    assert!(said.err.ends_with("no\n"), "{said}");
    let image = pinned();
    let missing = bed.docker(1, &["run", "--rm", &image, "nosuch"]);
    assert_eq!(missing.code, Some(127), "{missing}");
    assert!(
        missing.err.contains("executable file not found in $PATH"),
        "{missing}"
    );
    assert_eq!(
        bed.docker(1, &["run", "--rm", &image, "/etc"]).code,
        Some(126)
    );
    let absent = bed.docker(1, &["run", "--pull", "never", "nosuch:1"]);
    assert_eq!(absent.code, Some(125), "{absent}");
    assert!(absent.err.contains("No such image: nosuch:1"), "{absent}");

    input_is_whole(&bed);
    what_is_asked_for_is_had(&bed);
    assert_eq!(bed.docker(1, &["ps", "-aq"]).ok().lines().count(), 0);
    nothing_is_left(&bed);
}

/// What is typed goes in whole, and its end too.
#[track_caller]
fn input_is_whole(bed: &Bed) {
    let image = pinned();
    let mut command = bounded(secs(60), "docker");
    command
        .env("DOCKER_HOST", format!("unix://{}", bed.socket(1).display()))
        .args(["run", "--rm", "-i", &image, "wc", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().expect("docker is installed");
    let mut input = child.stdin.take().expect("it is piped");
    input.write_all(&vec![b'x'; 1 << 20]).expect("it is read");
    drop(input);
    let counted = child.wait_with_output().expect("docker ends");
    assert_eq!(String::from_utf8_lossy(&counted.stdout).trim(), "1048576");
}

/// Limits and volumes are as they were asked for; what cannot be had is refused.
#[track_caller]
fn what_is_asked_for_is_had(bed: &Bed) {
    let limited = [
        "--rm",
        "--read-only",
        "--tmpfs",
        "/t",
        "--memory",
        "64m",
        "--pids-limit",
        "50",
        "--cap-drop",
        "ALL",
        "--ulimit",
        "nofile=64",
        "-u",
        "1000:1000",
        "--hostname",
        "me",
        "--network",
        "none",
    ];
    let said = run(
        bed,
        &limited,
        "touch /x 2>/dev/null && echo written; touch /t/x && id -u; hostname; ulimit -n",
    );
    assert_eq!(said.ok(), "1000\nme\n64");
    for (options, words) in [
        (&["-p", "80:80"][..], "a published port"),
        (&["--link", "a"], "a link to another container"),
        (&["--gpus", "all"], "could not select device driver"),
        (&["--network", "mine"], "a place in network mine"),
        (&["--name", "a/b"], "Invalid container name"),
    ] {
        run(bed, options, "true").refused_with(words);
    }

    // A volume outlives its container, an anonymous one goes with it.
    run(
        bed,
        &["--rm", "-v", "data:/d", "-v", "/anonymous"],
        "echo kept > /d/file",
    )
    .ok();
    assert_eq!(
        run(bed, &["--rm", "-v", "data:/d:ro"], "cat /d/file").ok(),
        "kept"
    );
    assert_eq!(bed.docker(1, &["volume", "ls", "-q"]).ok(), "data");
}

#[test]
fn a_container_lives_as_its_user_says() {
    let Some(bed) = host() else { return };
    let id = run(
        &bed,
        &["-d", "--name", "web", "--label", "tier=front"],
        COUNTS,
    )
    .ok();
    assert_eq!(id.len(), 64);
    run(&bed, &["-d", "--name", "web"], COUNTS).refused_with(&format!(
        "The container name \"/web\" is already in use by container \"{id}\""
    ));
    let listed = |filter: &str| {
        let format = "{{.Names}} {{.State}}";
        bed.docker(1, &["ps", "-a", "--filter", filter, "--format", format])
            .ok()
    };
    assert_eq!(listed("label=tier=front"), "web running");
    bed.docker(1, &["rm", "web"])
        .refused_with("container is running: stop the container before removing");
    bed.docker(1, &["stop", "web"]).ok();
    assert_eq!(
        inspect(&bed, "web", "{{.State.Status}} {{.State.ExitCode}}"),
        "exited 0"
    );
    // What it wrote is still there when it begins again, and its log goes on.
    bed.docker(1, &["start", "web"]).ok();
    let begun = |name: &str| bed.docker(1, &["exec", name, "cat", "/begun"]).result();
    let times = |name: &str, wanted: usize| {
        eventually(secs(20), "it has begun so often", || {
            let begun = begun(name)?;
            (begun.lines().count() == wanted).then_some(()).ok_or(begun)
        });
    };
    times("web", 2);
    bed.docker(1, &["restart", "web"]).ok();
    times("web", 3);
    bed.docker(1, &["rename", "web", "shop"]).ok();
    bed.docker(1, &["pause", "shop"]).ok();
    assert_eq!(listed("status=paused"), "shop paused");
    bed.docker(1, &["unpause", "shop"]).ok();
    bed.docker(1, &["update", "--restart", "unless-stopped", "shop"])
        .ok();
    assert_eq!(
        inspect(&bed, "shop", "{{.HostConfig.RestartPolicy.Name}}"),
        "unless-stopped"
    );

    it_begins_again_by_itself(&bed, &id, &times);
    nothing_is_left(&bed);
}

/// But not when its user ends it; and it runs on through the death of its daemon.
#[track_caller]
fn it_begins_again_by_itself(bed: &Bed, id: &str, times: &dyn Fn(&str, usize)) {
    let pid = inspect(bed, "shop", "{{.State.Pid}}");
    bed.act("kill", 1);
    bed.act("start", 1);
    eventually(secs(40), "it is known again", || {
        bed.docker(1, &["inspect", "shop"]).result()
    });
    assert_eq!(
        inspect(bed, "shop", "{{.State.Pid}}"),
        pid,
        "it was left alone"
    );
    bed.docker(1, &["exec", "shop", "sh", "-c", "kill -9 1; kill -TERM 1"])
        .ok();
    times("shop", 4);
    bed.docker(1, &["kill", "shop"]).ok();
    eventually(secs(20), "it stays ended", || {
        let state = inspect(bed, "shop", "{{.State.Status}} {{.State.ExitCode}}");
        (state == "exited 137").then_some(()).ok_or(state)
    });
    // Docker's command counts `--until` in whole seconds: what happened in the one that is not over is left out.
    let past = ["events", "--since", "10m", "--until", "0s"];
    let of_shop = ["--filter", "container=shop", "--format", "{{.Action}}"];
    eventually(secs(10), "what happened to it is told", || {
        let events = bed.docker(1, &[&past[..], &of_shop].concat()).result()?;
        let told = events.contains("start") && events.contains("die");
        told.then_some(()).ok_or(events)
    });
    let pruned = bed.docker(1, &["container", "prune", "-f"]).ok();
    assert!(pruned.contains(id), "{pruned}");
}

#[test]
fn a_container_is_found_from_another_node() {
    let Some(bed) = up(2) else { return };
    let image = pinned();
    let run = ["run", "-d", "--name", "mine", &image, "sh", "-c", COUNTS];
    let id = bed.docker(2, &run).ok();
    let begun = || bed.docker(1, &["exec", &id, "cat", "/begun"]).result();
    eventually(secs(20), "it has begun", || {
        let begun = begun()?;
        (begun == "x").then_some(()).ok_or(begun)
    });
    assert_eq!(
        bed.docker(1, &["ps", "-q"]).ok(),
        "",
        "a list is of the node that is asked"
    );
    bed.docker(1, &["inspect", "mine"]).refused();
    assert_eq!(inspect(&bed, &id[..12], "{{.Name}}"), "/mine");
    bed.docker(1, &["rm", "-f", &id]).ok();
    assert_eq!(bed.docker(2, &["ps", "-aq"]).ok(), "");
}
