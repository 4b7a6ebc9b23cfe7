//! That Docker's JSON goes in and comes out again.

use serde_json::{Value, json};

use super::*;

/// Reads `json`, writes it again and expects the same.
#[track_caller]
fn round_trips(json: Value) -> TaskSpec {
    let spec: TaskSpec = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(&spec).unwrap(), json);
    spec
}

#[test]
fn an_empty_spec_says_what_docker_always_says() {
    let spec: TaskSpec = serde_json::from_value(json!({})).unwrap();
    let written = serde_json::to_value(&spec).unwrap();
    assert_eq!(written, json!({"ForceUpdate": 0, "Runtime": "container"}));
}

#[test]
fn what_is_present_and_empty_stays_present() {
    let spec = round_trips(json!({
        "ContainerSpec": {"DNSConfig": {}, "Init": false, "StopGracePeriod": 0},
        "Resources": {"Limits": {}, "Reservations": {}},
        "RestartPolicy": {"MaxAttempts": 0, "Delay": 0},
        "Placement": {},
        "ForceUpdate": 3,
        "Runtime": "container",
    }));
    let container = spec.container_spec.unwrap();
    assert_eq!(container.init, Some(false));
    assert_eq!(container.stop_grace_period, Some(0));
}

#[test]
fn every_field_of_a_container_comes_back() {
    let spec = round_trips(json!({
        "ContainerSpec": {
            "Image": "nginx:1", "Labels": {"a": "b"}, "Command": ["x"], "Args": ["y"], "Hostname": "h",
            "Env": ["A=1"], "Dir": "/d", "User": "u:g", "Groups": ["1"],
            "Privileges": {
                "CredentialSpec": null, "SELinuxContext": {"Disable": true, "User": "", "Role": "", "Type": "t",
                "Level": ""}, "Seccomp": {"Mode": "custom", "Profile": "e30="}, "AppArmor": {"Mode": "disabled"},
                "NoNewPrivileges": true},
            "Init": true, "StopSignal": "SIGINT", "TTY": true, "OpenStdin": true, "ReadOnly": true,
            "Mounts": [
                {"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true,
                 "BindOptions": {"Propagation": "rslave", "CreateMountpoint": true}},
                {"Type": "volume", "Source": "v", "Target": "/v", "VolumeOptions": {"NoCopy": true,
                 "Labels": {"l": "m"}, "Subpath": "s", "DriverConfig": {"Name": "local", "Options": {"o": "p"}}}},
                {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 7, "Mode": 448,
                 "Options": [["noexec"]]}}],
            "StopGracePeriod": 5, "Healthcheck": {"Test": ["CMD", "true"], "Interval": 9, "Retries": 2},
            "Hosts": ["1.2.3.4 a"], "DNSConfig": {"Nameservers": ["1.1.1.1"], "Search": ["s"], "Options": ["o"]},
            "Secrets": [{"File": {"Name": "n", "UID": "0", "GID": "0", "Mode": 292}, "SecretID": "i",
                "SecretName": "s"}],
            "Configs": [{"Runtime": {}, "ConfigID": "i", "ConfigName": "c"}],
            "Isolation": "default", "Sysctls": {"net.a": "1"}, "CapabilityAdd": ["CAP_X"], "CapabilityDrop": ["ALL"],
            "Ulimits": [{"Name": "nofile", "Hard": 2, "Soft": 1}], "OomScoreAdj": -5,
        },
        "Resources": {
            "Limits": {"NanoCPUs": 1, "MemoryBytes": 2, "Pids": 3},
            "Reservations": {"NanoCPUs": 1, "MemoryBytes": 2, "GenericResources": [
                {"DiscreteResourceSpec": {"Kind": "SSD", "Value": 3}},
                {"NamedResourceSpec": {"Kind": "GPU", "Value": "one"}}]}},
        "RestartPolicy": {"Condition": "any", "Delay": 1, "MaxAttempts": 2, "Window": 3},
        "Placement": {"Constraints": ["node.role==worker"], "MaxReplicas": 1,
            "Preferences": [{"Spread": {"SpreadDescriptor": "node.labels.zone"}}],
            "Platforms": [{"Architecture": "amd64", "OS": "linux"}]},
        "Networks": [{"Target": "n", "Aliases": ["a"], "DriverOpts": {"k": "v"}}],
        "LogDriver": {"Name": "json-file", "Options": {"max-size": "1m"}},
        "ForceUpdate": 0,
        "Runtime": "container",
    }));
    assert!(spec.container_spec.unwrap().tty);
}

#[test]
fn unknown_keys_and_the_manuals_spelling_are_taken() {
    let spec: TaskSpec = serde_json::from_value(json!({
        "ContainerSpec": {"HealthCheck": {"Test": ["NONE"]}, "Whatever": [1, {"x": null}]},
        "PluginSpec": {"Name": "p"},
    }))
    .unwrap();
    let container = spec.container_spec.unwrap();
    assert_eq!(container.healthcheck.unwrap().test, ["NONE"]);
}
