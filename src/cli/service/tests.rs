//! Flags and the specs that they stand for, as docker's client has it.

use clap::Parser;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::flags::{CreateArgs, UpdateArgs};
use super::{create, update};

#[derive(Debug, Parser)]
struct Create {
    #[command(flatten)]
    args: CreateArgs,
}

#[derive(Debug, Parser)]
struct Update {
    #[command(flatten)]
    args: UpdateArgs,
}

fn created(line: &str) -> Result<Value, String> {
    let words = std::iter::once("create".to_owned()).chain(shlex::split(line).unwrap_or_default());
    let args = Create::try_parse_from(words)
        .map_err(|error| error.to_string())?
        .args;
    let env = super::environment(&args.env_file, &args.env).map_err(|error| error.to_string())?;
    create::spec(&args, &env)
}

fn updated(line: &str, mut spec: Value) -> Result<Value, String> {
    let words = std::iter::once("update".to_owned()).chain(shlex::split(line).unwrap_or_default());
    let args = Update::try_parse_from(words)
        .map_err(|error| error.to_string())?
        .args;
    update::apply(&args, &mut spec)?;
    Ok(spec)
}

#[test]
fn a_plain_service_is_dockers() {
    let spec = created("--name web nginx sh -c 'a b'").unwrap();
    let container = &spec["TaskTemplate"]["ContainerSpec"];
    assert_eq!(spec["Name"], "web");
    assert_eq!(spec["Mode"], json!({"Replicated": {}}));
    assert_eq!(spec["EndpointSpec"]["Mode"], "vip");
    assert_eq!(container["Image"], "nginx");
    assert_eq!(container["Args"], json!(["sh", "-c", "a b"]));
    assert_eq!(container["Init"], false, "docker says so in any case");
    for absent in ["UpdateConfig", "RollbackConfig"] {
        assert!(spec.get(absent).is_none(), "{absent}");
    }
    assert!(spec["TaskTemplate"].get("RestartPolicy").is_none());
}

/// Flags, where they stand in the spec, and as what.
const CREATED: &[(&str, &str, &str)] = &[
    (
        "--cap-add net_admin",
        "/TaskTemplate/ContainerSpec/CapabilityAdd",
        r#"["CAP_NET_ADMIN"]"#,
    ),
    (
        "--config c",
        "/TaskTemplate/ContainerSpec/Configs/0/ConfigName",
        r#""c""#,
    ),
    (
        "--secret source=s,target=t",
        "/TaskTemplate/ContainerSpec/Secrets/0/File/Name",
        r#""t""#,
    ),
    (
        "--constraint node.role==worker",
        "/TaskTemplate/Placement/Constraints",
        r#"["node.role==worker"]"#,
    ),
    (
        "--container-label a=b",
        "/TaskTemplate/ContainerSpec/Labels",
        r#"{"a": "b"}"#,
    ),
    (
        "--dns 1.1.1.1",
        "/TaskTemplate/ContainerSpec/DNSConfig/Nameservers",
        r#"["1.1.1.1"]"#,
    ),
    ("--endpoint-mode dnsrr", "/EndpointSpec/Mode", r#""dnsrr""#),
    (
        "--entrypoint 'sh -c \"a b\"'",
        "/TaskTemplate/ContainerSpec/Command",
        r#"["sh", "-c", "a b"]"#,
    ),
    (
        "-e A=1 -e B=2 -e A=3",
        "/TaskTemplate/ContainerSpec/Env",
        r#"["B=2", "A=3"]"#,
    ),
    (
        "--generic-resource gpu=2",
        "/TaskTemplate/Resources/Reservations/GenericResources/0/DiscreteResourceSpec/Value",
        r#"2"#,
    ),
    (
        "--group wheel",
        "/TaskTemplate/ContainerSpec/Groups",
        r#"["wheel"]"#,
    ),
    (
        "--health-cmd true --health-interval 2s",
        "/TaskTemplate/ContainerSpec/Healthcheck",
        r#"{"Test": ["CMD-SHELL", "true"], "Interval": 2000000000}"#,
    ),
    (
        "--no-healthcheck",
        "/TaskTemplate/ContainerSpec/Healthcheck",
        r#"{"Test": ["NONE"]}"#,
    ),
    (
        "--add-host db:10.0.0.1",
        "/TaskTemplate/ContainerSpec/Hosts",
        r#"["10.0.0.1 db"]"#,
    ),
    (
        "--hostname h",
        "/TaskTemplate/ContainerSpec/Hostname",
        r#""h""#,
    ),
    ("--init", "/TaskTemplate/ContainerSpec/Init", r#"true"#),
    ("--label a=b", "/Labels", r#"{"a": "b"}"#),
    (
        "--limit-cpu 0.5 --limit-memory 64m --limit-pids 9",
        "/TaskTemplate/Resources/Limits",
        r#"{"NanoCPUs": 500000000, "MemoryBytes": 67108864, "Pids": 9}"#,
    ),
    (
        "--log-driver json-file --log-opt max-size=1m",
        "/TaskTemplate/LogDriver",
        r#"{"Name": "json-file", "Options": {"max-size": "1m"}}"#,
    ),
    ("--mode global", "/Mode", r#"{"Global": {}}"#),
    (
        "--mode replicated-job --replicas 4 --max-concurrent 2",
        "/Mode",
        r#"{"ReplicatedJob": {"MaxConcurrent": 2, "TotalCompletions": 4}}"#,
    ),
    (
        "--mode replicated-job --replicas 4",
        "/Mode",
        r#"{"ReplicatedJob": {"MaxConcurrent": 4, "TotalCompletions": 4}}"#,
    ),
    (
        "--mount type=bind,src=/a,dst=/b",
        "/TaskTemplate/ContainerSpec/Mounts/0/Source",
        r#""/a""#,
    ),
    (
        "--network name=n,alias=x",
        "/TaskTemplate/Networks",
        r#"[{"Target": "n", "Aliases": ["x"]}]"#,
    ),
    (
        "--oom-score-adj -5",
        "/TaskTemplate/ContainerSpec/OomScoreAdj",
        r#"-5"#,
    ),
    (
        "--placement-pref spread=node.labels.z",
        "/TaskTemplate/Placement/Preferences/0/Spread/SpreadDescriptor",
        r#""node.labels.z""#,
    ),
    (
        "-p 8080:80",
        "/EndpointSpec/Ports/0/PublishedPort",
        r#"8080"#,
    ),
    (
        "--read-only --tty",
        "/TaskTemplate/ContainerSpec/ReadOnly",
        r#"true"#,
    ),
    (
        "--replicas 0",
        "/Mode",
        r#"{"Replicated": {"Replicas": 0}}"#,
    ),
    (
        "--replicas-max-per-node 2",
        "/TaskTemplate/Placement/MaxReplicas",
        r#"2"#,
    ),
    (
        "--restart-delay 1s",
        "/TaskTemplate/RestartPolicy",
        r#"{"Condition": "any", "Delay": 1000000000, "MaxAttempts": 0}"#,
    ),
    (
        "--rollback-order start-first",
        "/RollbackConfig/Order",
        r#""start-first""#,
    ),
    (
        "--stop-grace-period 3s",
        "/TaskTemplate/ContainerSpec/StopGracePeriod",
        r#"3000000000"#,
    ),
    (
        "--sysctl a=b",
        "/TaskTemplate/ContainerSpec/Sysctls",
        r#"{"a": "b"}"#,
    ),
    (
        "--ulimit nofile=1:2",
        "/TaskTemplate/ContainerSpec/Ulimits/0/Hard",
        r#"2"#,
    ),
    (
        "--update-parallelism 2",
        "/UpdateConfig",
        r#"{"Parallelism": 2, "FailureAction": "pause", "Monitor": 5000000000, "MaxFailureRatio": 0, "Order": "stop-first"}"#,
    ),
    (
        "--user 1:2 --workdir /w",
        "/TaskTemplate/ContainerSpec/User",
        r#""1:2""#,
    ),
];

#[test]
fn each_flag_of_create_has_its_field() {
    for (flags, pointer, value) in CREATED {
        let value: Value = serde_json::from_str(value).unwrap();
        let spec = created(&format!("{flags} image")).unwrap();
        assert_eq!(spec.pointer(pointer), Some(&value), "{flags}");
    }
}

#[test]
fn what_does_not_go_together_is_refused() {
    for (flags, words) in [
        ("--mode global --replicas 2", "replicas can only be used"),
        ("--max-concurrent 2", "max-concurrent can only be used"),
        (
            "--mode global-job --update-delay 1s",
            "not supported for jobs",
        ),
        (
            "--no-healthcheck --health-cmd x",
            "conflicts with --health-*",
        ),
        ("--mode sometimes", "invalid value"),
        ("--publish x", "invalid port"),
        ("--limit-memory much", "give a size"),
    ] {
        let error = created(&format!("{flags} image")).unwrap_err();
        assert!(error.contains(words), "{flags}: {error}");
    }
}

/// Flags, a spec, and what they make of it.
const UPDATED: &[(&str, &str, &str)] = &[
    (
        "--env-add B=3 --env-add C=4",
        r#"{"TaskTemplate": {"ContainerSpec": {"Env": ["A=1", "B=2"]}}}"#,
        r#"{"TaskTemplate": {"ContainerSpec": {"Env": ["A=1", "B=3", "C=4"]}}}"#,
    ),
    (
        "--env-rm A",
        r#"{"TaskTemplate": {"ContainerSpec": {"Env": ["A=1", "B=2"]}}}"#,
        r#"{"TaskTemplate": {"ContainerSpec": {"Env": ["B=2"]}}}"#,
    ),
    (
        "--label-add a=2 --label-rm b",
        r#"{"Labels": {"a": "1", "b": "1", "c": "1"}}"#,
        r#"{"Labels": {"a": "2", "c": "1"}}"#,
    ),
    (
        "--constraint-add b==1 --constraint-rm c==1",
        r#"{"TaskTemplate": {"Placement": {"Constraints": ["c==1", "a==1"], "Platforms": [{"OS": "linux"}]}}}"#,
        r#"{"TaskTemplate": {"Placement": {"Constraints": ["a==1", "b==1"], "Platforms": [{"OS": "linux"}]}}}"#,
    ),
    (
        "--mount-add type=bind,src=/new,dst=/b --mount-rm /c",
        r#"{"TaskTemplate": {"ContainerSpec": {"Mounts": [{"Type": "bind", "Source": "/old", "Target": "/b"}, {"Type": "volume", "Target": "/c"}]}}}"#,
        r#"{"TaskTemplate": {"ContainerSpec": {"Mounts": [{"Type": "bind", "Source": "/new", "Target": "/b"}]}}}"#,
    ),
    (
        "--host-rm host1:127.0.0.1 --host-add h:1.2.3.4",
        r#"{"TaskTemplate": {"ContainerSpec": {"Hosts": ["127.0.0.2 host3 host1", "127.0.0.1 host1 host4", "127.0.0.1 host1"]}}}"#,
        r#"{"TaskTemplate": {"ContainerSpec": {"Hosts": ["127.0.0.2 host3 host1", "127.0.0.1 host4", "1.2.3.4 h"]}}}"#,
    ),
    (
        "--publish-rm 80 --publish-add 9090:90",
        r#"{"EndpointSpec": {"Ports": [{"TargetPort": 80, "PublishedPort": 8080, "Protocol": "tcp", "PublishMode": "ingress"}]}}"#,
        r#"{"EndpointSpec": {"Ports": [{"TargetPort": 90, "PublishedPort": 9090, "Protocol": "tcp", "PublishMode": "ingress"}]}}"#,
    ),
    (
        "--force",
        r#"{"TaskTemplate": {"ForceUpdate": 1}}"#,
        r#"{"TaskTemplate": {"ForceUpdate": 2}}"#,
    ),
    (
        "--replicas 5",
        r#"{"Mode": {"Replicated": {"Replicas": 1}}}"#,
        r#"{"Mode": {"Replicated": {"Replicas": 5}}}"#,
    ),
    (
        "--args 'a \"b c\"'",
        r#"{"TaskTemplate": {"ContainerSpec": {"Args": ["old"]}}}"#,
        r#"{"TaskTemplate": {"ContainerSpec": {"Args": ["a", "b c"]}}}"#,
    ),
    (
        "--health-retries 3",
        r#"{"TaskTemplate": {"ContainerSpec": {"Healthcheck": {"Test": ["NONE"]}}}}"#,
        r#"{"TaskTemplate": {"ContainerSpec": {"Healthcheck": {"Retries": 3}}}}"#,
    ),
    (
        "--dns-option-add b --dns-search-rm old",
        r#"{"TaskTemplate": {"ContainerSpec": {"DNSConfig": {"Options": ["a"], "Search": ["old"]}}}}"#,
        r#"{"TaskTemplate": {"ContainerSpec": {"DNSConfig": {"Options": ["a", "b"], "Search": []}}}}"#,
    ),
    (
        "--cap-add NET_ADMIN",
        r#"{"TaskTemplate": {"ContainerSpec": {"CapabilityDrop": ["CAP_NET_ADMIN"]}}}"#,
        r#"{"TaskTemplate": {"ContainerSpec": {"CapabilityAdd": [], "CapabilityDrop": []}}}"#,
    ),
    (
        "--cap-add NET_ADMIN",
        r#"{"TaskTemplate": {"ContainerSpec": {"X": 1}}}"#,
        r#"{"TaskTemplate": {"ContainerSpec": {"X": 1, "CapabilityAdd": ["CAP_NET_ADMIN"], "CapabilityDrop": []}}}"#,
    ),
    (
        "--limit-cpu 2",
        r#"{"TaskTemplate": {"Resources": {"Limits": {"Pids": 3}}}}"#,
        r#"{"TaskTemplate": {"Resources": {"Limits": {"Pids": 3, "NanoCPUs": 2000000000}}}}"#,
    ),
    (
        "--update-delay 1s",
        r#"{"UpdateConfig": {"Parallelism": 4, "Order": "start-first"}}"#,
        r#"{"UpdateConfig": {"Parallelism": 4, "Order": "start-first", "Delay": 1000000000}}"#,
    ),
];

#[test]
fn an_update_changes_what_it_names() {
    for (flags, before, after) in UPDATED {
        let before = serde_json::from_str(before).unwrap();
        let after = serde_json::from_str(after).unwrap();
        let shown = updated(&format!("{flags} web"), before).unwrap();
        assert_eq!(without_empty(shown), without_empty(after), "{flags}");
    }
}

#[test]
fn an_update_that_cannot_be_is_refused() {
    for (flags, before, words) in [
        (
            "--replicas 2",
            json!({"Mode": {"Global": {}}}),
            "replicated mode",
        ),
        (
            "--generic-resource-rm gpu",
            json!({}),
            "could not find generic-resource `gpu`",
        ),
        (
            "--mount-add dst=/a --mount-add dst=/a",
            json!({}),
            "duplicate mount target",
        ),
    ] {
        let error = updated(&format!("{flags} web"), before).unwrap_err();
        assert!(error.contains(words), "{flags}: {error}");
    }
}

/// Without empty lists and objects, which stand for nothing.
fn without_empty(mut value: Value) -> Value {
    fn clean(value: &mut Value) -> bool {
        match value {
            Value::Object(map) => {
                map.retain(|_, value| clean(value));
                !map.is_empty()
            }
            Value::Array(list) => !list.is_empty(),
            value => !value.is_null(),
        }
    }
    clean(&mut value);
    value
}

proptest! {
    #[test]
    fn an_update_without_flags_changes_nothing(
        env in prop::collection::vec("[A-Z]{1,3}=[a-z]{0,3}", 0..4),
        replicas in 0u64..9,
        label in "[a-z]{1,5}",
    ) {
        let env = create::merged_env(&env);
        let mut spec = created(&format!("--replicas {replicas} --label {label}=1 image")).unwrap();
        spec["TaskTemplate"]["ContainerSpec"]["Env"] = env.into();
        let after = updated("web", spec.clone()).unwrap();
        prop_assert_eq!(without_empty(after), without_empty(spec));
    }
}
