//! That what was written stays, and what was not is Docker's.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::api::go_json::from_value;
use crate::api::services::check::tests::{good, over};

fn spec(value: Value) -> ServiceSpec {
    from_value(value).unwrap()
}

#[test]
fn a_short_spec_is_shown_as_docker_shows_it() {
    let stored = completed(spec(json!({
        "Name": "web",
        "TaskTemplate": {"ContainerSpec": {"Image": "nginx:1"}, "RestartPolicy": {}},
        "UpdateConfig": {"Parallelism": 2},
        "EndpointSpec": {"Ports": [{"TargetPort": 80}]},
    })));
    assert_eq!(
        serde_json::to_value(&stored).unwrap(),
        json!({
            "Name": "web",
            "Labels": {},
            "TaskTemplate": {
                "ContainerSpec": {"Image": "nginx:1", "Isolation": "default"},
                "RestartPolicy": {"Condition": "any", "MaxAttempts": 0},
                "ForceUpdate": 0,
                "Runtime": "container",
            },
            "Mode": {"Replicated": {"Replicas": 1}},
            "UpdateConfig": {
                "Parallelism": 2, "FailureAction": "pause", "MaxFailureRatio": 0.0, "Order": "stop-first",
            },
            "EndpointSpec": {
                "Mode": "vip",
                "Ports": [{"Protocol": "tcp", "TargetPort": 80, "PublishMode": "ingress"}],
            },
        })
    );
}

#[test]
fn jobs_have_both_numbers_and_no_other_mode() {
    for (mode, expected) in [
        (
            json!({"ReplicatedJob": {"MaxConcurrent": 3}}),
            json!({"ReplicatedJob": {"MaxConcurrent": 3, "TotalCompletions": 3}}),
        ),
        (
            json!({"ReplicatedJob": {"TotalCompletions": 9}}),
            json!({"ReplicatedJob": {"MaxConcurrent": 1, "TotalCompletions": 9}}),
        ),
        (json!({"GlobalJob": {}}), json!({"GlobalJob": {}})),
        (json!({"Global": {}}), json!({"Global": {}})),
        (
            json!({"Replicated": {"Replicas": 0}}),
            json!({"Replicated": {"Replicas": 0}}),
        ),
        (
            json!({"Replicated": {}}),
            json!({"Replicated": {"Replicas": 1}}),
        ),
    ] {
        let stored = completed(spec(over(good(), json!({ "Mode": mode }))));
        assert_eq!(serde_json::to_value(&stored.mode).unwrap(), expected);
    }
}

#[test]
fn networks_that_an_old_client_names_are_the_tasks_too() {
    let stored = completed(spec(over(
        good(),
        json!({"Networks": [{"Target": "host"}]}),
    )));
    assert_eq!(stored.task_template.networks, stored.networks);
    let own =
        json!({"Networks": [{"Target": "a"}], "TaskTemplate": {"Networks": [{"Target": "b"}]}});
    let stored = completed(spec(over(good(), own)));
    assert_eq!(stored.networks[0].target, "a");
    assert_eq!(stored.task_template.networks[0].target, "b");
}

#[test]
fn defaults_are_dockers_and_only_shown() {
    let shown = with_defaults(completed(spec(good())));
    let shown = serde_json::to_value(&shown).unwrap();
    let update = json!({"Parallelism": 1, "FailureAction": "pause", "Monitor": 5_000_000_000_i64,
        "MaxFailureRatio": 0.0, "Order": "stop-first"});
    assert_eq!(shown["UpdateConfig"], update);
    assert_eq!(shown["RollbackConfig"], update);
    assert_eq!(
        shown["TaskTemplate"],
        json!({
            "ContainerSpec": {"Image": "nginx:1", "Isolation": "default", "DNSConfig": {},
                "StopGracePeriod": 10_000_000_000_i64},
            "Resources": {},
            "RestartPolicy": {"Condition": "any", "Delay": 5_000_000_000_i64, "MaxAttempts": 0},
            "Placement": {},
            "ForceUpdate": 0,
            "Runtime": "container",
        })
    );
    let own = json!({"TaskTemplate": {"RestartPolicy": {"Condition": "none", "Delay": 0},
        "ContainerSpec": {"StopGracePeriod": 0}}, "UpdateConfig": {"Parallelism": 0, "Monitor": 7}});
    let shown = with_defaults(completed(spec(over(good(), own))));
    let shown = serde_json::to_value(&shown).unwrap();
    assert_eq!(shown["TaskTemplate"]["RestartPolicy"]["Delay"], 0);
    assert_eq!(shown["TaskTemplate"]["ContainerSpec"]["StopGracePeriod"], 0);
    assert_eq!(shown["UpdateConfig"]["Parallelism"], 0);
    assert_eq!(shown["UpdateConfig"]["Monitor"], 7);
}

/// A whole spec, each of its parts there or not.
fn any_spec() -> impl Strategy<Value = Value> {
    let parts = vec![
        json!({"Labels": {"Zone": "B", "zone": ""}}),
        json!({"Mode": {"Replicated": {"Replicas": 3}}}),
        json!({"UpdateConfig": {"Parallelism": 0, "Delay": 4, "FailureAction": "rollback", "Monitor": 9,
            "MaxFailureRatio": 0.1, "Order": "start-first"}}),
        json!({"RollbackConfig": {"Parallelism": 5, "FailureAction": "continue", "MaxFailureRatio": 1.0,
            "Order": "stop-first"}}),
        json!({"Networks": [{"Target": "host", "Aliases": ["a"], "DriverOpts": {"k": "v"}}]}),
        json!({"EndpointSpec": {"Mode": "dnsrr", "Ports": [{"Name": "n", "Protocol": "udp", "TargetPort": 1,
            "PublishedPort": 2, "PublishMode": "host"}]}}),
        json!({"TaskTemplate": {"ForceUpdate": 7}}),
        json!({"TaskTemplate": {"LogDriver": {"Name": "local", "Options": {"max-size": "1m"}}}}),
        json!({"TaskTemplate": {"Networks": [{"Target": "none"}]}}),
        json!({"TaskTemplate": {"Placement": {"Constraints": ["node.role==worker"], "MaxReplicas": 2,
            "Preferences": [{"Spread": {"SpreadDescriptor": "node.labels.zone"}}],
            "Platforms": [{"Architecture": "amd64", "OS": "linux"}, {}]}}}),
        json!({"TaskTemplate": {"RestartPolicy": {"Condition": "none", "Delay": 0, "MaxAttempts": 3, "Window": 1}}}),
        json!({"TaskTemplate": {"Resources": {"Limits": {"NanoCPUs": 1_000_000, "MemoryBytes": 4_194_304,
            "Pids": 9}, "Reservations": {"GenericResources": [{"NamedResourceSpec": {"Kind": "GPU",
            "Value": "one"}}, {"DiscreteResourceSpec": {"Kind": "SSD", "Value": 3}}]}}}}),
        json!({"TaskTemplate": {"ContainerSpec": {"Labels": {"l": "m"}, "Command": ["c"], "Args": ["a", ""],
            "Hostname": "h", "Env": ["A=1", "B"], "Dir": "/d", "User": "u:g", "Groups": ["1"], "Init": false,
            "StopSignal": "SIGINT", "TTY": true, "OpenStdin": true, "ReadOnly": true, "StopGracePeriod": 0}}}),
        json!({"TaskTemplate": {"ContainerSpec": {"Mounts": [
            {"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true, "BindOptions":
                {"Propagation": "rslave", "NonRecursive": true, "CreateMountpoint": true,
                 "ReadOnlyNonRecursive": true}},
            {"Type": "volume", "Source": "v", "Target": "/v", "VolumeOptions": {"NoCopy": true, "Labels":
                {"l": ""}, "Subpath": "s", "DriverConfig": {"Name": "local", "Options": {"o": "p"}}}},
            {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 7, "Mode": 448, "Options":
                [["noexec"], ["uid", "1"]]}}]}}}),
        json!({"TaskTemplate": {"ContainerSpec": {"Privileges": {"CredentialSpec": null, "SELinuxContext": null,
            "Seccomp": {"Mode": "unconfined"}, "AppArmor": {"Mode": "disabled"}, "NoNewPrivileges": true}}}}),
        json!({"TaskTemplate": {"ContainerSpec": {"Healthcheck": {"Test": ["CMD", "x"], "Interval": 1_000_000,
            "Timeout": 2_000_000, "Retries": 3, "StartPeriod": 4_000_000, "StartInterval": 5_000_000}}}}),
        json!({"TaskTemplate": {"ContainerSpec": {"Hosts": ["1.2.3.4 a"], "DNSConfig": {"Nameservers":
            ["1.1.1.1"], "Search": ["s"], "Options": ["o"]}, "Sysctls": {"net.a": "1"}, "CapabilityAdd": ["CAP_X"],
            "CapabilityDrop": ["ALL"], "Ulimits": [{"Name": "nofile", "Hard": -1, "Soft": 1}], "OomScoreAdj": -5,
            "Isolation": "process"}}}),
        json!({"TaskTemplate": {"ContainerSpec": {"Secrets": [{"File": {"Name": "n", "UID": "0", "GID": "0",
            "Mode": 292}, "SecretID": "i", "SecretName": "s"}], "Configs": [{"Runtime": {}, "ConfigID": "i",
            "ConfigName": "c"}]}}}),
    ];
    let chosen = prop::collection::vec(any::<bool>(), parts.len());
    (chosen, "[a-z]{0,9}", 0..1_000_000_u64).prop_map(move |(chosen, word, number)| {
        let mut spec = over(
            good(),
            json!({"Labels": {"any": word}, "TaskTemplate": {"ForceUpdate": number}}),
        );
        for (part, taken) in parts.iter().zip(chosen) {
            if taken {
                spec = over(spec, part.clone());
            }
        }
        spec
    })
}

/// Whether `part` is all in `whole`, numbers by their value.
fn is_within(part: &Value, whole: &Value) -> bool {
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => part.iter().all(|(key, value)| {
            let there = whole.get(key);
            there.is_some_and(|there| is_within(value, there))
        }),
        (Value::Array(part), Value::Array(whole)) => {
            let mut pairs = part.iter().zip(whole);
            part.len() == whole.len() && pairs.all(|(part, whole)| is_within(part, whole))
        }
        (Value::Number(part), Value::Number(whole)) => {
            let (part, whole) = (part.as_f64().unwrap(), whole.as_f64().unwrap());
            (part - whole).abs() < 1e-6
        }
        (part, whole) => part == whole,
    }
}

proptest! {
    #[test]
    fn what_is_written_comes_back_and_is_the_same_when_it_is_sent_back(written in any_spec()) {
        let stored = completed(spec(written.clone()));
        let shown = serde_json::to_value(&stored).unwrap();
        prop_assert!(is_within(&written, &shown), "{written} became {shown}");
        let again = completed(spec(shown.clone()));
        prop_assert_eq!(&again, &stored);
        prop_assert_eq!(serde_json::to_value(&again).unwrap(), shown);
        let record = serde_json::to_string(&stored).unwrap();
        prop_assert_eq!(serde_json::from_str::<ServiceSpec>(&record).unwrap(), stored);
    }

    #[test]
    fn defaults_keep_what_is_there(written in any_spec()) {
        let stored = completed(spec(written));
        let shown = with_defaults(stored.clone());
        let both = [&stored, &shown].map(|spec| serde_json::to_value(spec).unwrap());
        prop_assert!(is_within(&both[0], &both[1]));
        prop_assert_eq!(with_defaults(shown.clone()), shown);
    }
}
