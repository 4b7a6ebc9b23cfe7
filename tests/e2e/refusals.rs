//! What no service can be, and what cannot be asked of one: refused at once, in Docker's words, and nothing is done.

use serde_json::{Value, json};

use crate::bed::Bed;
use crate::crew::{RUNS, TaskView, create, ids, tasks, try_create, until_runs, up};
use crate::wait::{eventually, secs};

/// `change` laid over `base`, object by object.
fn over(base: &Value, change: &Value) -> Value {
    match (base, change) {
        (Value::Object(base), Value::Object(change)) => {
            let mut all = base.clone();
            for (key, value) in change {
                let below = base.get(key).unwrap_or(&Value::Null);
                all.insert(key.clone(), over(below, value));
            }
            Value::Object(all)
        }
        (_, change) => change.clone(),
    }
}

#[track_caller]
fn refused(bed: &Bed, target: &str, body: &Value, status: u16, words: &str) {
    let answer = bed
        .ask(1, "POST", target, Some(body))
        .expect("the node answers");
    let said = answer.message();
    assert_eq!(
        (answer.status, said.contains(words)),
        (status, true),
        "{said}: {target} {body}"
    );
}

/// What is laid over a good spec, and Docker's words for what comes of it.
const NEVER: [(&str, &str); 17] = [
    (
        r#"{"Name": "a.b"}"#,
        "name must be valid as a DNS name component",
    ),
    (
        r#"{"TaskTemplate": {"ContainerSpec": {"Image": ""}}}"#,
        "ContainerSpec: image reference must be provided",
    ),
    (
        r#"{"TaskTemplate": {"ContainerSpec": {"Image": "Not Good"}}}"#,
        "ContainerSpec: \"Not Good\" is not a valid repository/tag",
    ),
    (
        r#"{"TaskTemplate": {"ContainerSpec": {"Env": ["A={{"]}}}"#,
        "template: expansion:1: unclosed action",
    ),
    (
        r#"{"TaskTemplate": {"ContainerSpec": {"Mounts": [{"Type": "tmpfs", "Target": "/a"}, {"Type": "tmpfs", "Target": "/a"}]}}}"#,
        "ContainerSpec: duplicate mount point: /a",
    ),
    (
        r#"{"TaskTemplate": {"Placement": {"Constraints": ["node.role"]}}}"#,
        "constraint expected one operator from ==, !=",
    ),
    (
        r#"{"TaskTemplate": {"Placement": {"Constraints": ["node role==x"]}}}"#,
        "key 'node role' is invalid",
    ),
    (
        r#"{"TaskTemplate": {"Placement": {"Constraints": ["node.role=="]}}}"#,
        "value '' is invalid",
    ),
    (
        r#"{"TaskTemplate": {"Resources": {"Limits": {"NanoCPUs": 10000}}}}"#,
        "invalid cpu value 0.00001: Must be at least 0.001",
    ),
    (
        r#"{"TaskTemplate": {"Resources": {"Reservations": {"MemoryBytes": 1024}}}}"#,
        "invalid memory value 1024: Must be at least 4MiB",
    ),
    (
        r#"{"TaskTemplate": {"RestartPolicy": {"Delay": -1}}}"#,
        "TaskSpec: restart-delay cannot be negative",
    ),
    (
        r#"{"Mode": {"Replicated": {}, "Global": {}}}"#,
        "must specify only one service mode",
    ),
    (
        r#"{"Mode": {"Replicated": {"Replicas": 1000001}}}"#,
        "a service has at most 1000000 tasks: 1000001 were asked for",
    ),
    (
        r#"{"Mode": {"GlobalJob": {}}, "UpdateConfig": {"Parallelism": 1}}"#,
        "Jobs may not have an update config",
    ),
    (
        r#"{"UpdateConfig": {"FailureAction": "panic"}}"#,
        "unrecognized update failure action panic",
    ),
    (
        r#"{"EndpointSpec": {"Mode": "dnsrr", "Ports": [{"TargetPort": 80, "PublishedPort": 80}]}}"#,
        "port published with ingress mode can't be used with dnsrr mode",
    ),
    (
        r#"{"EndpointSpec": {"Ports": [{"TargetPort": 1, "PublishedPort": 80}, {"TargetPort": 2, "PublishedPort": 80}]}}"#,
        "duplicate published ports provided",
    ),
];

#[test]
fn what_no_service_can_be_is_refused() {
    let Some(bed) = Bed::up(1) else { return };
    let base = json!({"Name": "web", "TaskTemplate": {"ContainerSpec": {"Image": "nginx:1"}}});
    for (change, words) in NEVER {
        let change = serde_json::from_str(change).expect("the table is JSON");
        refused(&bed, "/services/create", &over(&base, &change), 400, words);
    }
    let long = over(&base, &json!({"Name": "x".repeat(64)}));
    let words = "name must be 63 characters or fewer";
    refused(&bed, "/services/create", &long, 400, words);
    // Longer than a spec may be, and far longer than any request may be.
    let long = |bytes: usize| {
        let env = format!("A={}", "x".repeat(bytes));
        over(
            &base,
            &json!({"TaskTemplate": {"ContainerSpec": {"Env": [env]}}}),
        )
    };
    let words = "bytes long here, and at most 1048576 bytes are possible";
    refused(&bed, "/services/create", &long(1 << 20), 400, words);
    let huge = bed.ask(1, "POST", "/services/create", Some(&long(64 << 20)));
    let huge = huge.map(|answer| (answer.status, answer.message()));
    assert!(!matches!(huge, Ok((200..300, _))), "{huge:?}");
    let none = bed.docker(1, &["service", "ls", "-q"]).ok();
    assert_eq!(none, "", "nothing was made");
}

#[test]
fn what_cannot_be_asked_of_a_service_is_refused() {
    let Some(bed) = up(1) else { return };
    let id = create(&bed, 1, &["--name", "web", "--replicas", "1"], RUNS);
    let first = until_runs(&bed, 1, "web", 1, secs(30));
    try_create(&bed, 1, &["--name", "web"], RUNS)
        .refused_with("name conflicts with an existing object: service web already exists");
    bed.docker(1, &["service", "rollback", "--detach", "web"])
        .refused_with("does not have a previous spec");
    bed.docker(1, &["service", "scale", "--detach", "web=-1"])
        .refused_with("invalid replicas value");
    let service = || bed.get(1, "/services/web").expect("the service is shown");
    let now = service();
    let version = now["Version"]["Index"].as_u64().unwrap_or_default();
    let target = |version: u64| format!("/services/{id}/update?version={version}");
    let spec = &now["Spec"];
    let renamed = over(spec, &json!({"Name": "other"}));
    let mut global = spec.clone();
    global["Mode"] = json!({"Global": {}});
    let (old, new) = (target(version - 1), target(version + 1));
    let (none, bare) = ("/services/none/update?version=1", target(version));
    let bare = bare.split('?').next().unwrap_or_default();
    let stale = "update out of sequence";
    for (target, spec, status, words) in [
        (
            &*target(version),
            &renamed,
            501,
            "renaming services is not supported",
        ),
        (
            &target(version),
            &global,
            501,
            "service mode change is not allowed",
        ),
        (&old, spec, 500, stale),
        (&new, spec, 500, stale),
        (none, spec, 404, "service none not found"),
        (bare, spec, 400, "invalid service version ''"),
    ] {
        refused(&bed, target, spec, status, words);
    }

    // A client that has read before somebody else wrote loses, and does no harm.
    let label = ["service", "update", "--detach", "--label-add", "a=b", "web"];
    bed.docker(1, &label).ok();
    refused(&bed, &target(version), spec, 500, stale);
    assert_eq!(service()["Spec"]["Labels"]["a"], "b");
    let last = until_runs(&bed, 1, "web", 1, secs(5));
    let container = |tasks: &[TaskView]| tasks[0].container().to_owned();
    assert_eq!(
        (ids(&last), container(&last)),
        (ids(&first), container(&first)),
        "nothing of all this has touched the task"
    );

    bed.docker(1, &["service", "rm", "web"]).ok();
    for verb in ["ps", "inspect", "update", "rollback"] {
        let said = bed.docker(1, &["service", verb, "web"]).refused();
        let gone = said.contains("no such service: web") || said.contains("web not found");
        assert!(gone, "{said}");
    }
}

/// Nothing holds the leader up: neither making these tasks, nor telling of them, nor ending them.
#[test]
fn ten_thousand_replicas_on_one_node_wait_and_say_why() {
    let Some(bed) = up(1) else { return };
    let few = ["--replicas-max-per-node", "3"];
    let mut options = vec!["--name", "crowd", "--replicas", "10000"];
    options.extend(few);
    create(&bed, 1, &options, RUNS);
    let all = eventually(
        secs(90),
        "three run and the others say why they wait",
        || {
            let all = tasks(&bed, 1, "crowd")?;
            let run = all.iter().filter(|task| task.runs()).count();
            let words = "no suitable node (max replicas per node limit exceed)";
            let wait = all.iter().filter(|task| task.text("/Status/Err") == words);
            let wait = wait.filter(|task| task.state() == "pending").count();
            ((run, wait) == (3, 9997))
                .then_some(all)
                .ok_or_else(|| format!("{run} run, {wait} wait"))
        },
    );
    assert_eq!(all.len(), 10_000);
    let shown = bed.docker(1, &["service", "ls", "--format", "{{.Name}} {{.Replicas}}"]);
    assert_eq!(shown.ok(), "crowd 3/10000 (max 3 per node)");

    create(&bed, 1, &["--name", "next", "--replicas", "1"], RUNS);
    until_runs(&bed, 1, "next", 1, secs(20));
    bed.docker(1, &["service", "scale", "--detach", "crowd=2"])
        .ok();
    until_runs(&bed, 1, "crowd", 2, secs(60));
    bed.docker(1, &["service", "scale", "--detach", "crowd=10000"])
        .ok();
    bed.docker(1, &["service", "rm", "crowd"]).ok();
    eventually(secs(60), "nothing of it is left", || {
        let all = bed.get(1, "/tasks")?;
        let count = all.as_array().map(Vec::len).unwrap_or_default();
        (count == 1)
            .then_some(())
            .ok_or_else(|| format!("{count} tasks"))
    });
    until_runs(&bed, 1, "next", 1, secs(5));
}
