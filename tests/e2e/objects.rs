//! `docker secret`, `docker config` and `docker network`: each row works or is refused in Docker's words, and what they
//! hold is in the containers that name it, and nowhere else.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::bed::Bed;
use crate::crew::{
    RUNS, containers, create, try_create, until_containers, until_runs, until_some, up,
};
use crate::run::Said;
use crate::wait::{eventually, secs};

/// Stands where a secret is, on every disk and in every answer.
const CANARY: &str = "canary-that-nobody-else-may-read";

/// A file outside, for the docker command to read.
fn file(bed: &Bed, name: &str, text: &str) -> String {
    let path = bed.folder(1).join(name);
    fs::write(&path, text).expect("the bed's folder can be written");
    path.display().to_string()
}

fn docker(bed: &Bed, line: &str) -> Said {
    let words: Vec<&str> = line.split(' ').collect();
    bed.docker(1, &words)
}

#[test]
fn every_row_of_secrets_configs_and_networks_works_or_says_why_not() {
    let Some(bed) = Bed::up(1) else { return };
    let text = file(&bed, "text", "hello");
    for kind in ["secret", "config"] {
        let run = |line: &str| docker(&bed, &line.replace("KIND", kind).replace("FILE", &text));
        let id = run("KIND create --label a=b --template-driver golang key FILE").ok();
        run("KIND create key FILE").refused_with(&format!("{kind} key already exists"));
        run("KIND create .key FILE").refused_with("invalid name, only 64 [a-zA-Z0-9-_.]");
        assert_eq!(run("KIND ls -q --filter label=a=b").ok(), id);
        assert_eq!(run("KIND ls -q --filter name=other").ok(), "");
        assert_eq!(run("KIND ls --format {{.Name}}").ok(), "key");
        assert_eq!(run("KIND inspect --format {{.ID}} key").ok(), id);
        let pretty = run("KIND inspect --pretty key").ok();
        assert_eq!(pretty.contains("hello"), kind == "config", "{pretty}");
        assert_eq!(run("KIND rm key").ok(), "key");
        run("KIND rm key").refused_with("key");
        run("KIND inspect key").refused_with("key");
    }
    docker(&bed, "secret create --driver vault key")
        .refused_with("there is no driver \"vault\" of secrets");
    let long = file(&bed, "long", &"x".repeat(512_000));
    docker(&bed, &format!("secret create key {long}"))
        .refused_with("secret data must be larger than 0 and less than 512000 bytes");

    let make = "network create -d overlay --attachable --internal --ipv6 --opt encrypted --label a=b \
                --subnet 10.9.0.0/16 --gateway 10.9.0.1 --ip-range 10.9.8.0/24 --aux-address x=10.9.0.7 net";
    let id = docker(&bed, make).ok();
    docker(&bed, make).refused_with("network with name net already exists");
    docker(&bed, "network create -d overlay --subnet 10.9.3.0/24 other")
        .refused_with("Pool overlaps with other one on this address space");
    docker(&bed, "network create other").refused_with("add --driver overlay");
    docker(&bed, "network create -d overlay host")
        .refused_with("operation is not permitted on predefined host network");
    docker(&bed, "network create -d overlay --ingress other").refused_with("is already present");
    let format =
        "{{.Driver}} {{.Scope}} {{.Internal}} {{.Attachable}} {{(index .IPAM.Config 0).Subnet}}";
    let shown = bed.docker(1, &["network", "inspect", "net", "--format", format]);
    assert_eq!(shown.ok(), "overlay swarm true true 10.9.0.0/16");
    let list = docker(&bed, "network ls --no-trunc --format {{.ID}}-{{.Name}}").ok();
    assert!(list.contains(&format!("{id}-net\nnone-none")), "{list}");
    let list = docker(&bed, "network ls --format {{.Name}}").ok();
    assert_eq!(list, "host\ningress\nnet\nnone");
    assert_eq!(
        docker(&bed, "network ls -q --filter dangling=true").ok(),
        &id[..12]
    );
    docker(&bed, "network connect net none").refused_with("skein attaches no containers");
    docker(&bed, "network disconnect host none").refused_with("disconnected from host network");
    docker(&bed, "network rm host").refused_with("host is a pre-defined network");
    docker(&bed, "network create -d overlay next").ok();
    assert_eq!(docker(&bed, "network rm net").ok(), "net");
    assert!(docker(&bed, "network prune -f").ok().contains("next"));
    docker(&bed, "network inspect next").refused_with("network next not found");
}

/// Whether a text is anywhere below a directory.
fn holds(directory: &Path, text: &str) -> bool {
    let found = std::process::Command::new("grep")
        .args(["-rqs", "--binary-files=text", text])
        .arg(directory)
        .status();
    found.is_ok_and(|status| status.success())
}

/// A service on node 1 with a secret and a config that names it; gives the secret's ID.
#[track_caller]
fn begin(bed: &Bed) -> String {
    let key = file(bed, "key", CANARY);
    let conf = file(
        bed,
        "conf",
        "on {{.Node.Hostname}} as {{.Task.Slot}} with {{secret \"pass\"}}",
    );
    let id = docker(bed, &format!("secret create key {key}")).ok();
    docker(
        bed,
        &format!("config create --template-driver golang conf {conf}"),
    )
    .ok();
    fs::remove_file(key).expect("it is no longer needed");
    let options = [
        "--name",
        "web",
        "--constraint",
        "node.hostname==node1",
        "--secret",
        "source=key,target=pass,uid=33,gid=50,mode=0440",
        "--config",
        "source=conf,target=/etc/conf",
    ];
    create(bed, 1, &options, RUNS);
    id
}

#[test]
fn a_secret_is_in_the_containers_that_name_it_and_nowhere_else() {
    let Some(bed) = up(2) else { return };
    let id = begin(&bed);
    let task = until_runs(&bed, 1, "web", 1, secs(30)).remove(0);
    let read = |what: &str| {
        let exec = ["exec", task.container(), "sh", "-c", what];
        bed.docker(1, &exec).result()
    };
    assert_eq!(read("cat /run/secrets/pass").as_deref(), Ok(CANARY));
    let owners = read("stat -c '%u:%g %a' /run/secrets/pass /etc/conf");
    assert_eq!(owners.as_deref(), Ok("33:50 440\n0:0 444"));
    let expanded = format!("on node1 as 1 with {CANARY}");
    assert_eq!(read("cat /etc/conf").as_deref(), Ok(&*expanded));
    let written = read("echo x >/run/secrets/pass").unwrap_err();
    assert!(written.contains("Read-only file system"), "{written}");

    docker(&bed, "secret rm key")
        .refused_with("secret 'key' is in use by the following service: web");
    let shown = bed.docker(1, &["inspect", task.container()]).ok();
    assert!(
        !shown.contains("/run/secrets") && !shown.contains(CANARY),
        "{shown}"
    );
    // On disk it is nowhere in clear, and the other node has not even heard of it.
    for host in [1, 2] {
        assert!(!holds(&bed.folder(host), CANARY), "host {host}");
        assert!(!bed.log(host).contains(CANARY), "host {host}");
    }
    daemon_comes_back(&bed, &task.0["ID"], task.container());
    eventually(secs(20), "the node is a member again", || {
        let pass = read("cat /run/secrets/pass")?;
        (pass == CANARY).then_some(()).ok_or(pass)
    });

    docker(
        &bed,
        "service update --detach --secret-rm key --config-rm conf web",
    )
    .ok();
    let other = until_some(&bed, 1, "web", "it runs without them", |other| {
        other.runs() && other.id() != task.id()
    });
    let exec = ["exec", other.container(), "ls", "/run/secrets/pass"];
    bed.docker(1, &exec).refused_with("No such file");
    eventually(secs(20), "of its memory nothing is left", || {
        let mounts = bed.exec(1, &["cat", "/proc/mounts"]).result()?;
        match mounts.contains("skein-secrets") {
            true => Err(mounts),
            false => Ok(()),
        }
    });
    docker(&bed, "secret rm key").ok();
    lacks(&bed, &id);
    docker(&bed, "service rm web").ok();
    until_containers(&bed, 1, 0);
}

/// A daemon that is killed and begins anew disturbs nothing of this.
#[track_caller]
fn daemon_comes_back(bed: &Bed, task: &serde_json::Value, container: &str) {
    bed.act("kill", 1);
    bed.act("start", 1);
    let again = until_runs(bed, 2, "web", 1, secs(30));
    assert_eq!((&again[0].0["ID"], again[0].container()), (task, container));
}

/// What is not there any more cannot be named.
#[track_caller]
fn lacks(bed: &Bed, id: &str) {
    try_create(bed, 1, &["--name", "late", "--secret", "key"], RUNS)
        .refused_with("secret not found: key");
    let spec = json!({"Name": "late", "TaskTemplate": {"ContainerSpec": {"Image": "a",
        "Secrets": [{"SecretID": id, "SecretName": "key", "File": {"Name": "k", "Mode": 292}}]}}});
    let answer = bed.ask(1, "POST", "/services/create", Some(&spec));
    let answer = answer.expect("the node answers");
    assert_eq!(
        (answer.status, &*answer.message()),
        (400, "secret not found: key")
    );
    assert!(containers(bed, 2).is_ok_and(|there| there.is_empty()));
}
