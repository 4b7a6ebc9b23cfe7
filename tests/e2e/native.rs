//! `skein` without docker: the same commands and flags, the same objects, the same tables.

use std::path::Path;

use serde_json::Value;

use crate::bed::Bed;
use crate::crew::{ids, pinned, until_runs, up};
use crate::run::Said;
use crate::wait::{eventually, secs};

/// Says a line on each output, and goes on until it is asked to end.
const SPEAKS: &str = "trap 'exit 0' TERM; echo out; echo err >&2; while :; do sleep 0.1; done";

/// Flags of which both clients make a service; none of them has a task.
const CREATED: [&str; 6] = [
    "--label a=b --container-label c=d --env A=1 --env B=2 --env A=3 --hostname {{.Node.Hostname}} --user 1:2 --workdir /w",
    "--limit-cpu 0.5 --limit-memory 64m --limit-pids 9 --reserve-cpu 0.25 --reserve-memory 32m --generic-resource gpu=2",
    "--restart-condition on-failure --restart-delay 1s --restart-max-attempts 3 --update-parallelism 2 \
     --update-failure-action rollback --update-order start-first --rollback-monitor 1s --stop-grace-period 3s",
    "--mount type=tmpfs,dst=/t,tmpfs-size=1m --mount type=volume,src=data,dst=/d,volume-nocopy,volume-label=x=y \
     --mount type=bind,src=/tmp,dst=/x,ro --tty --read-only --init --ulimit nofile=10:20 --sysctl net.a=1",
    "--cap-add net_admin --cap-add CAP_SYS_TIME --cap-drop ALL --dns 1.1.1.1 --dns-option ndots:2 --dns-search x.y \
     --group wheel --host db:10.0.0.1 --log-driver json-file --log-opt max-size=1m --stop-signal INT",
    "--constraint node.role==worker --placement-pref spread=node.labels.z --replicas-max-per-node 2 --health-cmd true \
     --health-interval 2s --health-retries 3 --entrypoint sh --endpoint-mode dnsrr",
];

/// Flags with which both clients change a service.
const UPDATED: [&str; 4] = [
    "--env-add NEW=1 --env-rm B --label-add a=c --container-label-rm c --args new --hostname other --force",
    "--constraint-add node.id!=x --constraint-rm node.role==worker --placement-pref-rm spread=node.labels.z \
     --limit-memory 128m --generic-resource-add fpga=1 --update-delay 2s --restart-delay 4s",
    "--mount-add type=tmpfs,dst=/n --mount-rm /t --host-add h:1.2.3.4 --host-rm db --group-add users --group-rm wheel \
     --ulimit-add nproc=5 --sysctl-add net.b=2 --sysctl-rm net.a",
    "--cap-drop net_admin --cap-add SYS_NICE --dns-add 8.8.8.8 --dns-rm 1.1.1.1 --no-healthcheck --replicas 0 \
     --log-driver none --read-only=false --user me",
];

/// A table's words, line by line: how far apart they stand is each client's own.
fn words(table: &str) -> Vec<Vec<&str>> {
    table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect()
}

/// The spec of a service, without its name.
#[track_caller]
fn spec(bed: &Bed, name: &str) -> Value {
    let mut service = bed
        .get(1, &format!("/services/{name}"))
        .expect("it is there");
    let mut spec = service["Spec"].take();
    spec["Name"] = Value::Null;
    spec
}

/// Runs `skein` on host 1 with words that are parted by spaces.
fn skein(bed: &Bed, line: &str) -> Said {
    let words: Vec<&str> = line.split_whitespace().collect();
    bed.skein(1, &words)
}

fn docker(bed: &Bed, line: &str) -> Said {
    let words: Vec<&str> = line.split_whitespace().collect();
    bed.docker(1, &words)
}

#[test]
fn flags_mean_what_they_mean_to_docker() {
    let Some(bed) = Bed::up(1) else { return };
    let image = pinned();
    for (at, flags) in CREATED.iter().enumerate() {
        let create = |name: &str| {
            format!(
                "service create --detach --no-resolve-image --replicas 0 --name {name} {flags} {image} run it"
            )
        };
        skein(&bed, &create(&format!("s{at}"))).ok();
        docker(&bed, &create(&format!("d{at}"))).ok();
        assert_eq!(
            spec(&bed, &format!("s{at}")),
            spec(&bed, &format!("d{at}")),
            "{flags}"
        );
    }
    for flags in UPDATED {
        for at in 0..CREATED.len() {
            let update = |name: &str| format!("service update --detach {flags} {name}");
            let (ours, theirs) = (
                skein(&bed, &update(&format!("s{at}"))).result(),
                docker(&bed, &update(&format!("d{at}"))).result(),
            );
            assert_eq!(
                ours.is_ok(),
                theirs.is_ok(),
                "{flags} of {at}: {ours:?} {theirs:?}"
            );
            let sorted = |name: String| {
                let mut spec = spec(&bed, &name);
                // Docker's client brings some lists into an order of chance.
                let env = spec.pointer_mut("/TaskTemplate/ContainerSpec/Env");
                if let Some(Value::Array(env)) = env {
                    env.sort_by_key(Value::to_string);
                }
                let reserved = "/TaskTemplate/Resources/Reservations/GenericResources";
                if let Some(Value::Array(kinds)) = spec.pointer_mut(reserved) {
                    kinds.sort_by_key(Value::to_string);
                }
                spec
            };
            assert_eq!(
                sorted(format!("s{at}")),
                sorted(format!("d{at}")),
                "{flags} of {at}"
            );
        }
    }
    lists_are_dockers(&bed);
    refusals(&bed);
}

#[track_caller]
fn lists_are_dockers(bed: &Bed) {
    for line in [
        "service ls",
        "service ls --filter name=s1",
        "service ls --format {{.Name}}:{{.Mode}}:{{.Replicas}}:{{.Image}}",
        "service ls -q --filter name=d",
        "node ls --format {{.Hostname}}:{{.Status}}",
        "network ls --filter driver=host --format {{.Name}}:{{.Driver}}:{{.Scope}}",
        "volume ls -q",
        "secret ls -q",
        "config ls -q",
        "stack ls --format {{.Name}}",
    ] {
        let (ours, theirs) = (skein(bed, line).ok(), docker(bed, line).ok());
        assert_eq!(words(&ours), words(&theirs), "{line}");
    }
    let shown = skein(bed, "service inspect --pretty s0").ok();
    assert!(
        shown.contains("Name:\t\ts0") && shown.contains("Replicas:\t0"),
        "{shown}"
    );
    let shown = skein(bed, "inspect --format {{.Spec.Name}} s0 --type service").ok();
    assert_eq!(shown, "s0");
    skein(bed, "service scale --detach s0=0 s1=0").ok();
    skein(bed, "service rollback --detach s0").ok();
    skein(bed, "service rm s0 s1").ok();
}

#[track_caller]
fn refusals(bed: &Bed) {
    for (line, complaint) in [
        ("servise ls", "'service'"),
        ("service inspect nothing", "service nothing not found"),
        (
            "service create --mode global --replicas 2 image",
            "replicas can only be used",
        ),
        (
            "--host unix:///nowhere/skein.sock service ls",
            "sudo skein init",
        ),
        (
            "stack deploy -c /nowhere.yml x",
            "/nowhere.yml cannot be read",
        ),
        ("inspect nothing", "no such object: nothing"),
        ("service ps nothing", "service nothing not found"),
    ] {
        skein(bed, line).refused_with(complaint);
    }
    let script = skein(bed, "completion bash").ok();
    assert!(script.contains("_skein()"), "{script}");
}

#[test]
fn containers_images_and_volumes_are_looked_after() {
    let Some(bed) = up(1) else { return };
    let image = pinned();
    let mut create = vec![
        "service",
        "create",
        "--no-resolve-image",
        "--name",
        "web",
        "--update-monitor",
        "100ms",
    ];
    create.extend([image.as_str(), "sh", "-c", SPEAKS]);
    let said = bed.skein(1, &create).ok();
    assert!(
        said.contains("overall progress: 1 out of 1 tasks"),
        "{said}"
    );
    assert!(said.contains("converged"), "{said}");
    let task = until_runs(&bed, 1, "web", 1, secs(30)).remove(0);
    let name = format!("web.1.{}", task.id());

    shows_and_enters(&bed, &name);
    copies(&bed, &name);
    assert!(skein(&bed, &format!("top {name}")).ok().contains("sleep"));
    assert!(
        skein(&bed, "stats --no-stream --format {{.Name}}")
            .ok()
            .contains(&name)
    );
    assert!(
        skein(&bed, &format!("inspect {name}"))
            .ok()
            .contains("\"Running\": true")
    );
    skein(&bed, &format!("pause {name}")).ok();
    skein(&bed, &format!("unpause {name}")).ok();
    images_and_volumes(&bed);
    skein(&bed, &format!("kill --signal KILL {name}")).ok();
    let seen = skein(&bed, "events --since 10m --until 0s --filter type=service").ok();
    assert!(
        seen.contains("service create") && seen.contains("name=web"),
        "{seen}"
    );
    skein(&bed, "service rm web").ok();
}

#[track_caller]
fn shows_and_enters(bed: &Bed, name: &str) {
    let format = "{{.ID}} {{.Name}} {{.Node}} {{.DesiredState}}";
    let ps = ["service", "ps", "web", "--format", format];
    assert_eq!(bed.skein(1, &ps).ok(), bed.docker(1, &ps).ok());
    eventually(secs(10), "the log has both outputs", || {
        let said = skein(bed, "service logs web");
        let told = format!("{}{}", said.out, said.err);
        let has = |word: &str| {
            told.lines()
                .any(|line| line.starts_with("web.1.") && line.ends_with(&format!("| {word}")))
        };
        (has("out") && has("err")).then_some(()).ok_or(told)
    });
    assert_eq!(
        skein(bed, &format!("logs --tail 5 {name}")).out.trim(),
        "out"
    );
    let lines = "ps --no-trunc --format {{.Names}}:{{.State}}:{{.Image}}";
    assert_eq!(skein(bed, lines).ok(), docker(bed, lines).ok());

    let ended = bed.skein(
        1,
        &["exec", name, "sh", "-c", "echo in; echo beside >&2; exit 7"],
    );
    assert_eq!(
        (ended.code, ended.out.trim(), ended.err.trim()),
        (Some(7), "in", "beside")
    );
    let shown = bed.skein(1, &["exec", "-e", "A=b", name, "sh", "-c", "echo $A"]);
    assert_eq!(shown.ok(), "b");
}

#[track_caller]
fn copies(bed: &Bed, name: &str) {
    let folder = bed.folder(1);
    let (from, to) = (folder.join("given"), folder.join("taken"));
    std::fs::write(&from, "text\n").expect("it is written");
    let (from, to) = (from.display().to_string(), to.display().to_string());
    skein(bed, &format!("cp {from} {name}:/new")).ok();
    assert_eq!(skein(bed, &format!("exec {name} cat /new")).ok(), "text");
    skein(bed, &format!("cp {name}:/new {to}")).ok();
    assert_eq!(std::fs::read_to_string(to).expect("it came"), "text\n");
}

#[track_caller]
fn images_and_volumes(bed: &Bed) {
    let lines = "images --no-trunc --format {{.ID}}:{{.Repository}}:{{.Tag}}";
    assert_eq!(skein(bed, lines).ok(), docker(bed, lines).ok());
    let archive = bed.folder(1).join("saved.tar").display().to_string();
    skein(bed, &format!("tag {} test/named:1", pinned())).ok();
    skein(bed, &format!("save --output {archive} test/named:1")).ok();
    skein(bed, "rmi test/named:1").ok();
    skein(bed, &format!("load --input {archive}")).ok();
    assert!(
        skein(bed, "images --format {{.Repository}}")
            .ok()
            .contains("test/named")
    );
    assert!(
        skein(bed, "history test/named:1")
            .ok()
            .contains("CREATED BY")
    );
    assert_eq!(skein(bed, "volume create --label a=b data").ok(), "data");
    for line in ["volume ls", "system df"] {
        assert_eq!(
            words(&skein(bed, line).ok()),
            words(&docker(bed, line).ok()),
            "{line}"
        );
    }
    assert_eq!(
        skein(bed, "volume inspect --format {{.Name}} data").ok(),
        "data"
    );
    assert_eq!(skein(bed, "volume rm data").ok(), "data");
    assert!(skein(bed, "info").ok().contains("Swarm: active"));
    assert!(
        skein(bed, "system prune --force")
            .ok()
            .contains("Total reclaimed space")
    );
}

/// The stack of the test: a database that others wait for, a job that must be through, a service that begins last.
fn stack(image: &str, replicas: usize) -> String {
    format!(
        r#"
x-runs: &runs
  image: "{image}"
  command: ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]
  networks: [host]
services:
  web:
    <<: *runs
    environment: {{GREETING: "${{GREETING:-hello}}", COST: "$$5"}}
    labels: [a=b]
    depends_on:
      db: {{condition: service_healthy}}
      setup: {{condition: service_completed_successfully}}
    volumes: ["data:/data", "/tmp:/host:ro"]
    ulimits: {{nofile: 1024}}
    deploy:
      replicas: {replicas}
      labels: {{team: x}}
      update_config: {{parallelism: 2, order: start-first, monitor: 100ms}}
      resources: {{limits: {{cpus: "0.5", memory: 64M}}}}
      restart_policy: {{condition: on-failure, delay: 1s}}
  db:
    <<: *runs
    stop_grace_period: 1s
    healthcheck: {{test: "true", interval: 200ms}}
    deploy: {{update_config: {{monitor: 100ms}}}}
  setup:
    image: "{image}"
    command: "true"
    networks: [host]
    deploy: {{mode: replicated-job, replicas: 1}}
networks:
  host: {{external: true, name: host}}
volumes:
  data: {{labels: {{kept: "yes"}}}}
"#
    )
}

#[test]
fn a_stack_is_the_one_that_docker_makes() {
    let Some(bed) = up(1) else { return };
    let file = bed.folder(1).join("stack.yml");
    let path = file.display().to_string();
    std::fs::write(&file, stack(&pinned(), 2)).expect("it is written");
    let deploy = format!("stack deploy --resolve-image never -c {path}");
    let said = skein(&bed, &format!("{deploy} --detach=false s")).ok();
    let order: Vec<usize> = [
        "Creating service s_db",
        "Creating service s_setup",
        "Creating service s_web",
    ]
    .iter()
    .map(|line| {
        said.find(line)
            .unwrap_or_else(|| panic!("{line} in {said}"))
    })
    .collect();
    assert!(order.is_sorted(), "{said}");
    let before = until_runs(&bed, 1, "s_web", 2, secs(30));

    the_same_as_dockers(&bed, &file, &deploy);
    std::fs::write(&file, stack(&pinned(), 2)).expect("it is written");
    skein(&bed, &format!("{deploy} s")).ok();
    let after = until_runs(&bed, 1, "s_web", 2, secs(30));
    assert_eq!(
        ids(&before),
        ids(&after),
        "nothing has changed, so nothing restarts"
    );
    let merged = skein(&bed, &format!("stack config -c {path}")).ok();
    assert!(merged.contains("GREETING: hello"), "{merged}");

    let text = stack(&pinned(), 1)
        .replace("  db:\n", "  base:\n")
        .replace("      db: {condition: service_healthy}\n", "");
    std::fs::write(&file, text).expect("it is written");
    let said = skein(&bed, &format!("{deploy} --prune s")).ok();
    assert!(
        said.contains("Removing service s_db") && said.contains("Creating service s_base"),
        "{said}"
    );
    until_runs(&bed, 1, "s_web", 1, secs(30));
    skein(&bed, "stack rm --detach=false s").ok();
    skein(&bed, "stack rm d").ok();
    assert_eq!(docker(&bed, "stack ls --format {{.Name}}").ok(), "");
    assert_eq!(skein(&bed, "service ls -q").ok(), "");
}

/// What docker makes of the same file, and how both show it.
#[track_caller]
fn the_same_as_dockers(bed: &Bed, file: &Path, deploy: &str) {
    // Docker's own files know no conditions.
    let text = stack(&pinned(), 2);
    let (begins, rest) = text.split_once("      db: {condition").expect("it waits");
    let (_, ends) = rest
        .split_once("successfully}\n")
        .expect("it waits for two");
    let begins = begins.trim_end().trim_end_matches("depends_on:");
    let theirs = format!("{begins}depends_on: [db, setup]\n{ends}");
    std::fs::write(file, theirs).expect("it is written");
    docker(bed, &format!("{deploy} d")).ok();
    for name in ["web", "db", "setup"] {
        let plain = |stack: &str| {
            let text = spec(bed, &format!("{stack}_{name}")).to_string();
            text.replace("\"d\"", "\"s\"").replace("\"d_", "\"s_")
        };
        assert_eq!(plain("s"), plain("d"), "{name}");
    }
    for line in [
        "stack ls",
        "stack services s",
        "stack services d --format {{.Name}}",
    ] {
        assert_eq!(
            words(&skein(bed, line).ok()),
            words(&docker(bed, line).ok()),
            "{line}"
        );
    }
    let ps =
        "stack ps s --filter desired-state=running --format {{.Name}}:{{.Node}}:{{.CurrentState}}";
    assert_eq!(
        skein(bed, ps).ok().lines().count(),
        docker(bed, ps).ok().lines().count()
    );
}
