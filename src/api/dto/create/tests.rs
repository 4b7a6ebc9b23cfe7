//! Requests that are understood, and requests that are refused.

use serde_json::json;

use super::*;
use crate::api::go_json;

fn read(body: Value) -> Result<(Wanted, Vec<String>), Refusal> {
    let dto: CreateDto =
        go_json::from_value(body.clone()).map_err(|error| Refusal::invalid(error.to_string()))?;
    dto.wanted("me", &body.as_object().cloned().unwrap_or_default())
}

fn with(host: Value) -> Result<(Wanted, Vec<String>), Refusal> {
    read(json!({"Image": "app", "HostConfig": host}))
}

#[test]
fn what_the_client_sends_is_understood() {
    let (wanted, warnings) = read(json!({
        "Image": "app", "Cmd": ["sh", "-c", "x"], "Entrypoint": null, "Env": ["A=b"], "Tty": true,
        "OpenStdin": true, "StdinOnce": true, "Volumes": {"/data": {}}, "StopTimeout": 3,
        "HostConfig": {
            "Binds": ["/src:/dst:ro", "named:/named", "/a:/data"], "NetworkMode": "host", "Memory": 1 << 23,
            "MemorySwappiness": -1, "NanoCpus": 500_000_000, "PidsLimit": 7, "CapAdd": ["net_admin"],
            "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}, "Tmpfs": {"/run": "size=1m"},
            "ExtraHosts": ["db:10.0.0.1"], "SecurityOpt": ["no-new-privileges", "seccomp=unconfined"],
            "Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "r"}],
            "PortBindings": {"80/tcp": [{"HostPort": "8080"}]},
        },
    }))
    .unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!((wanted.command.len(), wanted.entrypoint), (3, None));
    assert_eq!(wanted.mounts.len(), 3, "the anonymous volume gives way");
    assert_eq!(wanted.restart.most, 3);
    assert_eq!(wanted.security.cap_add, ["CAP_NET_ADMIN"]);
    assert_eq!(wanted.hosts, ["10.0.0.1 db"]);
    assert_eq!((wanted.limits.pids, wanted.limits.swappiness), (7, None));
    assert!(!wanted.config.contains_key("HostConfig"));
    assert_eq!(wanted.host_config["NetworkMode"], json!("host"));
}

#[test]
fn what_cannot_be_had_is_refused_in_a_sentence() {
    for (host, words) in [
        (json!({"Links": ["a:b"]}), "a link to another container"),
        (json!({"PortBindings": {"80/tcp": []}}), "a published port"),
        (json!({"NetworkMode": "mine"}), "a place in network mine"),
        (
            json!({"Runtime": "kata"}),
            "unknown or invalid runtime name: kata",
        ),
        (json!({"UTSMode": "host"}), "--uts"),
        (
            json!({"DeviceRequests": [{"Driver": "", "Capabilities": [["gpu"]]}]}),
            "could not select device driver \"\" with capabilities: [[gpu]]",
        ),
        (
            json!({"BlkioDeviceReadIOps": [{"Path": "/dev/sda", "Rate": 1}]}),
            "one device",
        ),
        (
            json!({"RestartPolicy": {"Name": "often"}}),
            "unknown policy 'often'",
        ),
        (
            json!({"RestartPolicy": {"Name": "always", "MaximumRetryCount": 2}}),
            "maximum retry count can only be used with 'on-failure'",
        ),
        (
            json!({"AutoRemove": true, "RestartPolicy": {"Name": "always"}}),
            "can't create 'AutoRemove' container with restart policy",
        ),
        (
            json!({"Binds": ["a b:/x"]}),
            "includes invalid characters for a local volume name",
        ),
        (
            json!({"Binds": ["/a:b"]}),
            "invalid volume specification: '/a:b'",
        ),
        (json!({"Binds": ["/a:/b:often"]}), "invalid mode: often"),
        (json!({"Binds": ["/a:/"]}), "destination can't be '/'"),
        (json!({"IpcMode": "none"}), "invalid IPC mode: none"),
        (json!({"SecurityOpt": ["what"]}), "invalid --security-opt 1"),
        (
            json!({"NanoCpus": 1_000_000_000_000_000_i64}),
            "Range of CPUs is from 0.01 to",
        ),
        (json!({"Memory": -1}), "cannot be less than 0"),
        (
            json!({"Memory": 1 << 25, "MemorySwap": 1 << 24}),
            "Minimum memoryswap limit",
        ),
    ] {
        let error = with(host.clone()).unwrap_err();
        assert!(error.message.contains(words), "{host}: {}", error.message);
    }
    let error = read(json!({})).unwrap_err();
    assert!(error.message.contains("config cannot be empty"));
}
