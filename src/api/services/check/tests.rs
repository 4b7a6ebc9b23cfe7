//! Each thing that is refused, with Docker's words.

use serde_json::{Value, json};

use super::*;
use crate::api::services::stored::completed;

/// A service that there can be.
pub(in crate::api::services) fn good() -> Value {
    json!({
        "Name": "web",
        "TaskTemplate": {"ContainerSpec": {"Image": "nginx:1"}},
    })
}

/// `base`, with what `change` says laid over it.
pub(in crate::api::services) fn over(mut base: Value, change: Value) -> Value {
    match (&mut base, change) {
        (Value::Object(base), Value::Object(change)) => {
            for (key, value) in change {
                let old = base.remove(&key).unwrap_or(Value::Null);
                base.insert(key, over(old, value));
            }
        }
        (base, change) => *base = change,
    }
    base
}

fn read(change: Value) -> ServiceSpec {
    serde_json::from_value(over(good(), change)).unwrap()
}

fn checked(change: Value) -> Result<(), String> {
    check(&completed(read(change))).map_err(|problem| problem.to_string())
}

fn task(change: Value) -> Value {
    json!({ "TaskTemplate": change })
}

fn container(change: Value) -> Value {
    task(json!({ "ContainerSpec": change }))
}

#[track_caller]
fn refused(change: Value, words: &str) {
    assert_eq!(checked(change.clone()), Err(words.to_owned()), "{change}");
}

#[test]
fn names_are_labels_of_the_dns() {
    for name in ["a", "web", "Web_2", "a--b", "a-_b", &"x".repeat(63)] {
        assert_eq!(checked(json!({ "Name": name })), Ok(()), "{name}");
    }
    for name in ["-a", "a-", "a.b", "a b", "ä", "_", "a/b", "a\n"] {
        refused(
            json!({ "Name": name }),
            "name must be valid as a DNS name component",
        );
    }
    refused(
        json!({ "Name": "x".repeat(64) }),
        "name must be 63 characters or fewer",
    );
    refused(json!({ "Name": "" }), "meta: name must be provided");
}

#[test]
fn there_is_one_mode_with_numbers_that_can_be() {
    for mode in [
        json!({"Replicated": {"Replicas": 0}}),
        json!({"Replicated": {"Replicas": MAX_TASKS}}),
        json!({"Global": {}}),
        json!({"ReplicatedJob": {"TotalCompletions": 7}}),
        json!({"GlobalJob": {}}),
        json!({}),
    ] {
        assert_eq!(checked(json!({ "Mode": mode })), Ok(()), "{mode}");
    }
    let most = u64::MAX;
    for (mode, words) in [
        (
            json!({"Replicated": {}, "Global": {}}),
            "must specify only one service mode",
        ),
        (
            json!({"Replicated": {"Replicas": most}}),
            "Number of replicas must be non-negative",
        ),
        (
            json!({"ReplicatedJob": {"MaxConcurrent": most}}),
            "Maximum concurrent jobs must not be negative",
        ),
        (
            json!({"ReplicatedJob": {"TotalCompletions": most}}),
            "Total completed jobs must not be negative",
        ),
        (
            json!({"Replicated": {"Replicas": 1_000_001}}),
            "a service has at most 1000000 tasks: 1000001 were asked for",
        ),
    ] {
        refused(json!({ "Mode": mode }), words);
    }
    let job = json!({"Mode": {"GlobalJob": {}}, "UpdateConfig": {"Parallelism": 1}});
    refused(job, "Jobs may not have an update config");
}

#[test]
fn only_containers_run() {
    for (change, words) in [
        (
            json!({"ContainerSpec": null}),
            "mismatched Runtime and *Spec fields",
        ),
        (
            json!({"NetworkAttachmentSpec": {}}),
            "mismatched Runtime and *Spec fields",
        ),
        (json!({"Runtime": "attachment"}), "unsupported runtime"),
        (
            json!({"Runtime": "plugin"}),
            "runtime type \"plugin\" only supported in experimental",
        ),
    ] {
        refused(task(change), words);
    }
}

#[test]
fn updates_go_in_one_of_dockers_ways() {
    for (config, words) in [
        (
            json!({"FailureAction": "panic"}),
            "unrecognized update failure action panic",
        ),
        (json!({"Order": "both"}), "unrecognized update order both"),
        (
            json!({"Delay": -1}),
            "TaskSpec: update-delay cannot be negative",
        ),
        (
            json!({"Monitor": -1}),
            "TaskSpec: update-monitor cannot be negative",
        ),
        (
            json!({"MaxFailureRatio": 1.5}),
            "TaskSpec: update-maxfailureratio cannot be less than 0 or bigger than 1",
        ),
        (
            json!({"MaxFailureRatio": -0.1}),
            "TaskSpec: update-maxfailureratio cannot be less than 0 or bigger than 1",
        ),
    ] {
        refused(json!({ "UpdateConfig": config }), words);
        refused(json!({ "RollbackConfig": config }), words);
    }
}

#[test]
fn ports_are_published_once_and_in_a_way_that_works() {
    let ports = |mode: &str, ports: Value| json!({"EndpointSpec": {"Mode": mode, "Ports": ports}});
    let host = json!({"TargetPort": 80, "PublishedPort": 80, "PublishMode": "host"});
    let udp = over(host.clone(), json!({"Protocol": "UDP"}));
    assert_eq!(checked(ports("dnsrr", json!([host, udp]))), Ok(()));
    for (change, words) in [
        (
            ports("magic", json!([])),
            "invalid resolution mode: \"magic\"",
        ),
        (
            ports("dnsrr", json!([{"TargetPort": 80}])),
            "EndpointSpec: port published with ingress mode can't be used with dnsrr mode",
        ),
        (
            ports("vip", json!([host, host])),
            "EndpointSpec: duplicate published ports provided",
        ),
        (
            ports("vip", json!([{"TargetPort": 80, "Protocol": "icmp"}])),
            "invalid protocol \"icmp\" of a published port: it is tcp, udp or sctp",
        ),
        (
            ports("vip", json!([{"TargetPort": 80, "PublishMode": "global"}])),
            "invalid publish mode \"global\" of a port: it is ingress or host",
        ),
        (
            ports("vip", json!([{"PublishedPort": 80}])),
            "a published port needs the port of the container that it leads to: set TargetPort",
        ),
    ] {
        refused(change, words);
    }
}

#[test]
fn resources_restarts_and_constraints_can_be_met() {
    for (change, words) in [
        (
            json!({"Resources": {"Limits": {"NanoCPUs": 10_000}}}),
            "invalid cpu value 0.00001: Must be at least 0.001",
        ),
        (
            json!({"Resources": {"Reservations": {"NanoCPUs": -1_000_000_000}}}),
            "invalid cpu value -1: Must be at least 0.001",
        ),
        (
            json!({"Resources": {"Limits": {"MemoryBytes": 1024}}}),
            "invalid memory value 1024: Must be at least 4MiB",
        ),
        (
            json!({"Resources": {"Reservations": {"GenericResources": [{}]}}}),
            "invalid generic resource: it needs a Kind, and either a Value of at least 1 or a name",
        ),
        (
            json!({"RestartPolicy": {"Condition": "sometimes"}}),
            "invalid RestartCondition: \"sometimes\"",
        ),
        (
            json!({"RestartPolicy": {"Delay": -1}}),
            "TaskSpec: restart-delay cannot be negative",
        ),
        (
            json!({"RestartPolicy": {"Window": -1}}),
            "TaskSpec: restart-window cannot be negative",
        ),
        (
            json!({"Placement": {"Constraints": ["node.role"]}}),
            "constraint expected one operator from ==, !=",
        ),
        (
            json!({"Placement": {"Constraints": ["node role==x"]}}),
            "key 'node role' is invalid",
        ),
        (
            json!({"Placement": {"Constraints": ["node.role=="]}}),
            "value '' is invalid",
        ),
    ] {
        refused(task(change), words);
    }
}

#[test]
fn containers_have_an_image_mounts_apart_and_templates_that_expand() {
    let mount = |target: &str| json!({"Type": "tmpfs", "Target": target});
    let templated = json!({"Mounts": [mount("/{{.Service.Name}}"), mount("/x")],
        "Hostname": "{{.Node.Hostname}}-{{.Task.Slot}}", "Env": ["A={{.Service.Labels.tier}}", "{{B"]});
    let labelled = over(container(templated), json!({"Labels": {"tier": "front"}}));
    assert_eq!(checked(labelled), Ok(()));
    for (change, words) in [
        (
            json!({"Image": ""}),
            "ContainerSpec: image reference must be provided",
        ),
        (
            json!({"Image": "Not Good"}),
            "ContainerSpec: \"Not Good\" is not a valid repository/tag",
        ),
        (
            json!({"Mounts": [mount("/web"), mount("/{{.Service.Name}}")]}),
            "ContainerSpec: duplicate mount point: /web",
        ),
        (
            json!({"Mounts": [over(mount("/a"), json!({"BindOptions": {"Propagation": "up"}}))]}),
            "invalid MountPropagation: \"up\"",
        ),
        (
            json!({"Hostname": "{{.Task.Nothing}}"}),
            "template: expansion:1: executing \"expansion\" at <.Task.Nothing>: can't evaluate field",
        ),
        (
            json!({"Env": ["A={{"]}),
            "template: expansion:1: unclosed action",
        ),
        (
            json!({"Mounts": [over(mount("/a"), json!({"VolumeOptions": {"Labels": {"a": "{{x}}"}}}))]}),
            "template: expansion:1: function \"x\" not defined",
        ),
    ] {
        refused(container(change), words);
    }
}

#[test]
fn references_are_whole_and_apart() {
    let secret =
        |id: &str, file: &str| json!({"SecretID": id, "SecretName": id, "File": {"Name": file}});
    let config = |id: &str, target: Value| over(json!({"ConfigID": id, "ConfigName": id}), target);
    for (change, words) in [
        (
            json!({"Secrets": [{"SecretID": "a"}]}),
            "malformed secret reference",
        ),
        (
            json!({"Secrets": [{"SecretID": "a", "SecretName": "a"}]}),
            "malformed secret reference, no target provided",
        ),
        (
            json!({"Secrets": [secret("a", "")]}),
            "malformed file secret reference, invalid target file name provided",
        ),
        (
            json!({"Secrets": [secret("a", "f"), secret("b", "f")]}),
            "secret references 'a' and 'b' have a conflicting target: 'f'",
        ),
        (json!({"Configs": [{}]}), "malformed config reference"),
        (
            json!({"Configs": [config("a", json!({}))]}),
            "invalid Config: either File or Runtime should be set",
        ),
        (
            json!({"Configs": [config("a", json!({"Runtime": {}, "File": {"Name": "f"}}))]}),
            "invalid Config: cannot specify both File and Runtime",
        ),
        (
            json!({"Privileges": {"CredentialSpec": {}}}),
            "invalid CredentialSpec: must either provide \"file\", \"registry\", or \"config\" for credential spec",
        ),
        (
            json!({"Privileges": {"CredentialSpec": {"Config": "c"}}}),
            "CredentialSpec references config 'c', but that config isn't in config references with RuntimeTarget",
        ),
    ] {
        refused(container(change), words);
    }
    let used = json!({"Privileges": {"CredentialSpec": {"Config": "c"}},
        "Configs": [config("c", json!({"Runtime": {}}))]});
    assert_eq!(checked(container(used)), Ok(()));
}

#[test]
fn a_spec_has_a_length() {
    let long = "x".repeat(SPEC_LIMIT);
    let found = checked(json!({"Labels": {"a": long}})).unwrap_err();
    assert!(
        found.contains("at most 1048576 bytes are possible"),
        "{found}"
    );
}
