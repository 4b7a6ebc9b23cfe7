//! Stack files and what docker's client makes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Source, Stack, convert};
use crate::cli::stack::load::Model;
use crate::cli::stack::{keys, normal, yaml};

fn converted(text: &str) -> Result<Stack, String> {
    let value = yaml::read(text).map_err(|error| error.to_string())?;
    keys::check("f.yml", &value)?;
    let model = Model {
        value: normal::model("f.yml", value)?,
        ignored: BTreeSet::new(),
        folder: PathBuf::from("/stack"),
        file: "f.yml".into(),
    };
    let env = BTreeMap::from([("KEY".to_owned(), "secret".to_owned())]);
    convert("s", &model, &env)
}

fn service(stack: &Stack, name: &str) -> Value {
    let found = stack.services.iter().find(|one| one.short == name);
    found.unwrap().spec.clone()
}

/// The example voting application's stack, shortened.
const VOTING: &str = r#"
version: "3.8"
services:
  redis:
    image: redis:alpine
    ports: ["6379"]
    networks: [frontend]
    deploy:
      replicas: 1
      update_config: {parallelism: 2, delay: 10s}
      restart_policy: {condition: on-failure}
  db:
    image: postgres:9.4
    volumes: ["db-data:/var/lib/postgresql/data"]
    networks: [backend]
    deploy:
      placement:
        constraints: [node.role == manager]
  vote:
    image: voting-app:before
    ports: ["5000:80"]
    networks: [frontend]
    depends_on: [redis]
    deploy:
      replicas: 2
      labels: [APP=VOTING]
      restart_policy: {condition: on-failure, delay: 10s, max_attempts: 3, window: 120s}
  visualizer:
    image: visualizer
    stop_grace_period: 1m30s
    volumes: ["/var/run/docker.sock:/var/run/docker.sock"]
networks:
  frontend:
  backend:
volumes:
  db-data:
"#;

#[test]
fn the_voting_application_becomes_what_docker_makes_of_it() {
    let stack = converted(VOTING).unwrap();
    let order: Vec<&str> = stack
        .services
        .iter()
        .map(|one| one.short.as_str())
        .collect();
    assert_eq!(order, ["db", "redis", "visualizer", "vote"]);
    let vote = service(&stack, "vote");
    assert_eq!(vote["Name"], "s_vote");
    assert_eq!(
        vote["Labels"],
        json!({
            "APP": "VOTING", "com.docker.stack.namespace": "s", "com.docker.stack.image": "voting-app:before",
        })
    );
    assert_eq!(vote["Mode"], json!({"Replicated": {"Replicas": 2}}));
    let second = 1_000_000_000_i64;
    assert_eq!(
        vote["TaskTemplate"]["RestartPolicy"],
        json!({"Condition": "on-failure", "Delay": 10 * second, "MaxAttempts": 3, "Window": 120 * second})
    );
    assert_eq!(
        vote["EndpointSpec"]["Ports"],
        json!([{"Protocol": "tcp", "TargetPort": 80, "PublishMode": "ingress", "PublishedPort": 5000}])
    );
    assert_eq!(
        vote["TaskTemplate"]["Networks"],
        json!([{"Target": "s_frontend", "Aliases": ["vote"], "DriverOpts": {}}])
    );
    let redis = service(&stack, "redis");
    assert_eq!(redis["UpdateConfig"]["Parallelism"], 2);
    assert_eq!(redis["EndpointSpec"]["Ports"][0].get("PublishedPort"), None);
    let db = service(&stack, "db");
    assert_eq!(
        db["TaskTemplate"]["ContainerSpec"]["Mounts"],
        json!([{
            "Type": "volume", "Source": "s_db-data", "Target": "/var/lib/postgresql/data",
            "VolumeOptions": {"Labels": {"com.docker.stack.namespace": "s"}},
        }])
    );
    assert_eq!(
        db["TaskTemplate"]["Placement"]["Constraints"],
        json!(["node.role == manager"])
    );
    let visualizer = service(&stack, "visualizer");
    assert_eq!(
        visualizer["TaskTemplate"]["ContainerSpec"]["StopGracePeriod"],
        90 * second
    );
    assert_eq!(
        visualizer["TaskTemplate"]["Networks"][0]["Target"],
        "s_default"
    );
    let networks: Vec<&Value> = stack
        .networks
        .iter()
        .map(|network| &network["Name"])
        .collect();
    assert_eq!(networks, ["s_backend", "s_default", "s_frontend"]);
    assert_eq!(stack.networks[0]["Driver"], "overlay");
}

/// One service with these lines, and whatever stands beside it.
fn one(lines: &str, beside: &str) -> Result<Value, String> {
    let text = format!("services:\n  web:\n    image: a\n    {lines}\n{beside}\n");
    converted(&text).map(|stack| service(&stack, "web"))
}

/// A line of a service, where it stands in the spec, and as what.
const KEYS: &[(&str, &str, &str)] = &[
    (
        "command: a 'b c'",
        "/TaskTemplate/ContainerSpec/Args",
        r#"["a", "b c"]"#,
    ),
    (
        "entrypoint: [x, y]",
        "/TaskTemplate/ContainerSpec/Command",
        r#"["x", "y"]"#,
    ),
    (
        "environment: {B: 2, A: null}",
        "/TaskTemplate/ContainerSpec/Env",
        r#"["A", "B=2"]"#,
    ),
    (
        "labels: {a: b}",
        "/TaskTemplate/ContainerSpec/Labels/a",
        r#""b""#,
    ),
    (
        "extra_hosts: ['db:10.0.0.1']",
        "/TaskTemplate/ContainerSpec/Hosts",
        r#"["10.0.0.1 db"]"#,
    ),
    (
        "dns: 1.1.1.1",
        "/TaskTemplate/ContainerSpec/DNSConfig/Nameservers",
        r#"["1.1.1.1"]"#,
    ),
    (
        "healthcheck: {test: 'curl x', interval: 1m, retries: 3}",
        "/TaskTemplate/ContainerSpec/Healthcheck",
        r#"{"Test": ["CMD-SHELL", "curl x"], "Interval": 60000000000, "Retries": 3}"#,
    ),
    (
        "healthcheck: {disable: true}",
        "/TaskTemplate/ContainerSpec/Healthcheck/Test",
        r#"["NONE"]"#,
    ),
    (
        "logging: {driver: json-file, options: {max-file: 3}}",
        "/TaskTemplate/LogDriver",
        r#"{"Name": "json-file", "Options": {"max-file": "3"}}"#,
    ),
    (
        "cap_add: [net_admin]",
        "/TaskTemplate/ContainerSpec/CapabilityAdd",
        r#"["CAP_NET_ADMIN"]"#,
    ),
    (
        "ulimits: {nproc: 5, nofile: {soft: 1, hard: 2}}",
        "/TaskTemplate/ContainerSpec/Ulimits",
        r#"[{"Name": "nofile", "Soft": 1, "Hard": 2}, {"Name": "nproc", "Soft": 5, "Hard": 5}]"#,
    ),
    (
        "sysctls: [net.x=1]",
        "/TaskTemplate/ContainerSpec/Sysctls",
        r#"{"net.x": "1"}"#,
    ),
    (
        "tmpfs: /t",
        "/TaskTemplate/ContainerSpec/Mounts/0",
        r#"{"Type": "tmpfs", "Target": "/t"}"#,
    ),
    (
        "volumes: ['./x:/x:ro']",
        "/TaskTemplate/ContainerSpec/Mounts/0",
        r#"{"Type": "bind", "Source": "/stack/x", "Target": "/x", "ReadOnly": true}"#,
    ),
    (
        "volumes: [{type: tmpfs, target: /t, tmpfs: {size: 1m}}]",
        "/TaskTemplate/ContainerSpec/Mounts/0/TmpfsOptions/SizeBytes",
        r#"1048576"#,
    ),
    (
        "hostname: '{{.Node.Hostname}}'",
        "/TaskTemplate/ContainerSpec/Hostname",
        r#""{{.Node.Hostname}}""#,
    ),
    ("init: true", "/TaskTemplate/ContainerSpec/Init", r#"true"#),
    (
        "read_only: true",
        "/TaskTemplate/ContainerSpec/ReadOnly",
        r#"true"#,
    ),
    (
        "stdin_open: true",
        "/TaskTemplate/ContainerSpec/OpenStdin",
        r#"true"#,
    ),
    (
        "restart: on-failure:3",
        "/TaskTemplate/RestartPolicy",
        r#"{"Condition": "on-failure", "MaxAttempts": 3}"#,
    ),
    (
        "restart: always",
        "/TaskTemplate/RestartPolicy",
        r#"{"Condition": "any"}"#,
    ),
    ("scale: 3", "/Mode", r#"{"Replicated": {"Replicas": 3}}"#),
    (
        "deploy: {replicas: '4'}",
        "/Mode",
        r#"{"Replicated": {"Replicas": 4}}"#,
    ),
    ("deploy: {mode: global}", "/Mode", r#"{"Global": {}}"#),
    (
        "deploy: {mode: replicated-job, replicas: 2}",
        "/Mode",
        r#"{"ReplicatedJob": {"MaxConcurrent": 2, "TotalCompletions": 2}}"#,
    ),
    (
        "deploy: {endpoint_mode: DNSRR}",
        "/EndpointSpec/Mode",
        r#""dnsrr""#,
    ),
    (
        "deploy: {resources: {limits: {cpus: '0.5', memory: 64M, pids: 9}}}",
        "/TaskTemplate/Resources/Limits",
        r#"{"NanoCPUs": 500000000, "MemoryBytes": 67108864, "Pids": 9}"#,
    ),
    (
        "deploy: {resources: {reservations: {generic_resources: [{discrete_resource_spec: {kind: gpu, value: 2}}]}}}",
        "/TaskTemplate/Resources/Reservations/GenericResources/0/DiscreteResourceSpec",
        r#"{"Kind": "gpu", "Value": 2}"#,
    ),
    (
        "mem_limit: 1g",
        "/TaskTemplate/Resources/Limits/MemoryBytes",
        r#"1073741824"#,
    ),
    (
        "deploy: {placement: {preferences: [{spread: node.id}], max_replicas_per_node: 1}}",
        "/TaskTemplate/Placement",
        r#"{"Constraints": [], "Preferences": [{"Spread": {"SpreadDescriptor": "node.id"}}], "MaxReplicas": 1}"#,
    ),
    (
        "deploy: {update_config: {order: start-first}}",
        "/UpdateConfig",
        r#"{"Parallelism": 1, "MaxFailureRatio": 0.0, "Order": "start-first"}"#,
    ),
    (
        "deploy: {rollback_config: {monitor: 2s}}",
        "/RollbackConfig/Monitor",
        r#"2000000000"#,
    ),
    (
        "ports: [{target: 80, published: 8080, mode: host}]",
        "/EndpointSpec/Ports/0/PublishMode",
        r#""host""#,
    ),
];

#[test]
fn each_key_of_a_service_has_its_field() {
    for (lines, pointer, value) in KEYS {
        let value: Value = serde_json::from_str(value).unwrap();
        let spec = one(lines, "").unwrap();
        assert_eq!(spec.pointer(pointer), Some(&value), "{lines}");
    }
}

#[test]
fn secrets_configs_and_networks_belong_to_the_stack_or_to_others() {
    let text = r"
services:
  web:
    image: a
    secrets: [own, {source: theirs, target: t, mode: 0440}]
    configs: [{source: inline, target: /etc/x}]
    networks: {theirs: {aliases: [w]}, own: null}
secrets:
  own: {file: ./own.txt}
  theirs: {external: true, name: real}
  unused: {environment: KEY}
configs:
  inline: {content: 'a: b', labels: [x=y]}
networks:
  theirs: {external: {name: outside}}
  own: {driver_opts: {encrypted: ''}, attachable: true, ipam: {config: [{subnet: 10.9.0.0/24}]}}
";
    let stack = converted(text).unwrap();
    let container = &service(&stack, "web")["TaskTemplate"]["ContainerSpec"];
    assert_eq!(container["Secrets"][0]["SecretName"], "real");
    assert_eq!(
        container["Secrets"][0]["File"],
        json!({"Name": "t", "UID": "0", "GID": "0", "Mode": 0o440})
    );
    assert_eq!(container["Secrets"][1]["SecretName"], "s_own");
    assert_eq!(container["Configs"][0]["ConfigName"], "s_inline");
    let networks = &service(&stack, "web")["TaskTemplate"]["Networks"];
    assert_eq!(
        networks[0],
        json!({"Target": "outside", "Aliases": ["w", "web"], "DriverOpts": {}})
    );
    assert_eq!(stack.external_networks, ["outside"]);
    assert_eq!(stack.networks.len(), 1);
    assert_eq!(stack.networks[0]["Attachable"], true);
    assert_eq!(
        stack.networks[0]["IPAM"],
        json!({"Config": [{"Subnet": "10.9.0.0/24"}]})
    );
    assert_eq!(
        stack.secrets[0].source,
        Source::File("/stack/./own.txt".into())
    );
    assert_eq!(stack.secrets[1].source, Source::Text("secret".into()));
    assert_eq!(stack.configs[0].source, Source::Text("a: b".into()));
    assert_eq!(stack.configs[0].spec["Labels"]["x"], "y");
}

#[test]
fn what_cannot_be_is_one_sentence_with_its_place() {
    for (lines, beside, words) in [
        (
            "volumes: ['data:/d']",
            "",
            "services.web.volumes.0: undefined volume \"data\"",
        ),
        ("networks: [n]", "", "undefined network \"n\""),
        (
            "secrets: [x]",
            "",
            "undefined secret \"x\": add it below secrets",
        ),
        (
            "deploy: {mode: global, replicas: 2}",
            "",
            "replicas can only be used",
        ),
        ("deploy: {mode: sometimes}", "", "unknown mode sometimes"),
        (
            "deploy: {replicas: many}",
            "",
            "services.web.deploy.replicas: \"many\" is no whole number",
        ),
        (
            "restart: maybe",
            "",
            "services.web.restart: unknown policy maybe",
        ),
        (
            "healthcheck: {interval: often}",
            "",
            "services.web.healthcheck.interval: give a duration",
        ),
        (
            "depends_on: [db]",
            "  db:\n    image: b\n    depends_on: [web]",
            "wait for each other",
        ),
        (
            "user: x",
            "secrets: {s: {}}",
            "secrets.s: give it one of file",
        ),
        (
            "user: x",
            "secrets: {s: {environment: NOT}}",
            "the environment has no NOT",
        ),
    ] {
        let error = one(lines, beside).unwrap_err();
        assert!(
            error.contains(words) && error.starts_with("f.yml: "),
            "{error}"
        );
    }
    assert!(
        converted("services: {web: {user: x}}")
            .unwrap_err()
            .contains("it has no image")
    );
    let model = Model::default();
    let error = convert("my stack", &model, &BTreeMap::new()).unwrap_err();
    assert!(error.contains("invalid stack name"), "{error}");
}

proptest! {
    #[test]
    fn no_value_of_a_key_panics(
        key in prop::sample::select(vec![
            "command", "environment", "env_file", "ports", "volumes", "networks", "deploy", "healthcheck", "ulimits",
            "secrets", "configs", "logging", "depends_on", "extra_hosts", "tmpfs", "labels", "restart", "extends",
        ]),
        value in prop::sample::select(vec![
            "null", "1", "-1", "1.5", "true", "text", "[]", "{}", "[1, null, a]", "{a: 1}", "{a: null}", "[{a: b}]",
            "[[1]]", "'a:b:c'", "{test: 3}", "{replicas: -1}", "{placement: 3}", "{resources: []}", "[{target: 0}]",
        ]),
    ) {
        let _ = one(&format!("{key}: {value}"), "");
    }

    #[test]
    fn the_same_file_becomes_the_same_specs(replicas in 0u64..9, env in "[a-z]{0,6}") {
        let lines = format!("deploy: {{replicas: {replicas}}}\n    environment: {{A: '{env}'}}");
        prop_assert_eq!(one(&lines, "").unwrap(), one(&lines, "").unwrap());
    }
}
