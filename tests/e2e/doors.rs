//! The sockets of a node: the one for the whole cluster, the one at Docker's place, TCP, and who may use them.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

use serde_json::json;

use crate::bed::Bed;
use crate::crew::{RUNS, create, until_runs, up};
use crate::http;
use crate::run::{Said, bounded, run};
use crate::wait::{eventually, secs};

/// Where the cluster is one Docker host, on a host.
fn cluster_socket(bed: &Bed, host: usize) -> PathBuf {
    bed.folder(host).join("run/cluster.sock")
}

/// `docker` against it.
fn docker(bed: &Bed, host: usize, args: &[&str]) -> Said {
    let socket = format!("unix://{}", cluster_socket(bed, host).display());
    run(bounded(secs(60), "docker")
        .env("DOCKER_CONFIG", bed.folder(host))
        .env_remove("DOCKER_CONTEXT")
        .env("DOCKER_HOST", socket)
        .args(args))
}

fn lines(said: Said) -> Vec<String> {
    let mut lines: Vec<String> = said.ok().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn the_cluster_is_one_docker_host() {
    let Some(bed) = up(3) else { return };
    create(&bed, 1, &["--name", "web", "--mode", "global"], RUNS);
    let tasks = until_runs(&bed, 1, "web", 3, secs(30));
    let far = tasks.iter().find(|task| task.node() != bed.node(2).id());
    let far = far
        .expect("two of them are elsewhere")
        .container()
        .to_owned();

    // What skein.sock lists is one node's, and cluster.sock has all of them.
    let format = "{{.Names}} {{.Label \"skein.node\"}}";
    assert_eq!(lines(bed.docker(2, &["ps", "--format", format])).len(), 1);
    let all = lines(docker(&bed, 2, &["ps", "--format", format]));
    let nodes: Vec<&str> = all
        .iter()
        .filter_map(|line| line.rsplit(' ').next())
        .collect();
    assert_eq!(all.len(), 3, "{all:?}");
    for node in ["node1", "node2", "node3"] {
        assert!(nodes.contains(&node), "{all:?}");
    }
    let one = [
        "ps",
        "--filter",
        "node=node3",
        "--format",
        "{{.Label \"skein.node\"}}",
    ];
    assert_eq!(docker(&bed, 2, &one).ok(), "node3");
    assert_eq!(
        docker(&bed, 2, &["exec", &far[..12], "echo", "hello"]).ok(),
        "hello"
    );
    let stats = ["stats", "--no-stream", "--format", "{{.Name}}"];
    assert_eq!(lines(docker(&bed, 2, &stats)).len(), 3);

    disks(&bed);

    // A node that is away is missed and waited for by nobody.
    bed.act("kill", 3);
    eventually(secs(20), "the others are shown", || {
        let answer = http::ask(&cluster_socket(&bed, 1), "GET", "/containers/json", None)?;
        let count = answer.json()?.as_array().map_or(0, Vec::len);
        (count == 2).then_some(()).ok_or(answer.body)
    });
    let info = docker(&bed, 1, &["info"]);
    let warned = format!("{}{}", info.out, info.err);
    assert!(warned.contains("WARNING: node node3: "), "{warned}");
}

/// What lies on the disks of all nodes.
#[track_caller]
fn disks(bed: &Bed) {
    // One line for the image that all have, two volumes of one name that are told apart.
    let images = lines(docker(bed, 2, &["images", "--format", "{{.Repository}}"]));
    let busybox = images.iter().filter(|line| line.contains("test/busybox"));
    assert_eq!(busybox.count(), 1, "{images:?}");
    for host in [1, 2] {
        bed.docker(host, &["volume", "create", "data"]).ok();
    }
    let volumes = lines(docker(bed, 3, &["volume", "ls", "-q"]));
    assert_eq!(volumes, ["data@node1", "data@node2"]);
    docker(bed, 3, &["volume", "rm", "data"]).refused_with("data@node1 or data@node2");
    docker(bed, 3, &["volume", "rm", "data@node2"]).ok();
    assert_eq!(docker(bed, 3, &["volume", "ls", "-q"]).ok(), "data");
    let df = docker(
        bed,
        3,
        &["system", "df", "--format", "{{.Type}} {{.TotalCount}}"],
    )
    .ok();
    assert!(df.contains("Local Volumes 1"), "{df}");
    let info = docker(
        bed,
        3,
        &["info", "--format", "{{.ContainersRunning}} {{.NCPU}}"],
    )
    .ok();
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    assert_eq!(info, format!("3 {}", 3 * cpus));
}

#[test]
fn docker_finds_us_at_its_own_place_and_by_a_context() {
    let Some(bed) = up(1) else { return };
    bed.act("stop", 1);
    let group = [
        "--group",
        "root",
        "--docker-socket",
        "always",
        "--plain-on-loopback",
    ];
    let tcp = ["--host", "tcp://127.0.0.1:2375"];
    let start = [&["start", "1"], &group[..], &tcp[..]].concat();
    bed.script(&start).ok();
    bed.until_ready(1, &[1]);
    for place in ["unix:///var/run/docker.sock", "tcp://127.0.0.1:2375"] {
        let listed = bed.exec(
            1,
            &[
                "docker",
                "-H",
                place,
                "node",
                "ls",
                "--format",
                "{{.Hostname}}",
            ],
        );
        assert_eq!(listed.ok(), "node1", "{place}");
    }
    let meta = std::fs::metadata(bed.socket(1)).expect("there is a socket");
    assert!(meta.file_type().is_socket());
    assert_eq!((meta.permissions().mode() & 0o777, meta.gid()), (0o660, 0));

    own_socket(&bed);

    // A context for it, and where there is no docker what to say there.
    let host = format!("unix://{}", bed.socket(1).display());
    let made = bed
        .skein(1, &["context", "--host", &host, "--print", "home"])
        .ok();
    let wanted = format!(
        "docker context create home --docker host=unix://{}",
        cluster_socket(&bed, 1).display()
    );
    assert_eq!(made, wanted);

    bed.act("stop", 1);
    let left = bed.exec(1, &["ls", "/var/run/docker.sock"]);
    left.refused_with("No such file");
    for (options, words) in [
        (
            vec!["--group", "no-such-group"],
            "make it with `groupadd no-such-group`",
        ),
        (
            vec!["--host", "tcp://0.0.0.0:2375"],
            "is root on every machine of the cluster",
        ),
        (
            vec!["--host", "tcp://0.0.0.0:2376", "--tlscacert", "/ca.pem"],
            "--tlscert is missing",
        ),
    ] {
        let refused = bed.script(&[vec!["start", "1"], options].concat());
        refused.refused_with(words);
    }
}

/// Whoever binds Docker's socket gets ours.
#[track_caller]
fn own_socket(bed: &Bed) {
    let mount = "type=bind,source=/var/run/docker.sock,target=/var/run/docker.sock";
    create(bed, 1, &["--name", "proxy", "--mount", mount], RUNS);
    let task = until_runs(bed, 1, "proxy", 1, secs(30)).swap_remove(0);
    let looked = [
        "exec",
        &task.container()[..12],
        "test",
        "-S",
        "/var/run/docker.sock",
    ];
    bed.docker(1, &looked).ok();
    let source = "{{range .Mounts}}{{.Source}}{{end}}";
    let source = bed
        .docker(1, &["inspect", "--format", source, task.container()])
        .ok();
    assert_eq!(source, bed.socket(1).display().to_string());
}

#[test]
fn nothing_that_clients_do_stays_behind() {
    let Some(bed) = Bed::up(1) else { return };
    bed.until_ready(1, &[1]);
    let pid = bed.script(&["pid", "1"]).ok();
    let count = |what: &str| {
        let folder = std::fs::read_dir(format!("/proc/{pid}/{what}"));
        folder
            .map(Iterator::count)
            .map_err(|error| error.to_string())
    };
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        kib.unwrap_or(0_usize)
    };
    crate::clients::misbehave(&bed.socket(1), 50);
    let (files, memory) = (count("fd").expect("it runs"), resident());
    let idle = crate::clients::idle(&bed.socket(1), 1000);
    // Among all of them others are served.
    assert_eq!(
        bed.ask(1, "GET", "/_ping", None).expect("it answers").body,
        "OK"
    );
    drop(idle);
    crate::clients::misbehave(&bed.socket(1), 400);
    eventually(secs(30), "no file stays open", || {
        let now = count("fd")?;
        (now <= files + 8)
            .then_some(())
            .ok_or_else(|| format!("{now} of {files}"))
    });
    eventually(secs(30), "no memory stays taken", || {
        let now = resident();
        let bound = memory + (24 << 10);
        (now <= bound)
            .then_some(())
            .ok_or_else(|| format!("{now} KiB of {memory}"))
    });
    assert_eq!(bed.local(1)["LocalNodeState"], "active");
    let none = bed.ask(1, "POST", "/services/create", Some(&json!([])));
    assert_eq!(none.expect("it answers").status, 400);
}
