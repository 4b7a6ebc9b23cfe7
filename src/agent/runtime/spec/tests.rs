//! Whole specifications, and each rule that has a case of its own.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::model::container::{
    DnsConfig, ImageRef, LogConfig, Mount, MountSource, ProcessConfig, ReadOnlyDepth, Seccomp,
    Security,
};
use crate::model::image::Digest;
use crate::model::limits::{ResourceLimits, Ulimit};

fn config() -> ContainerConfig {
    ContainerConfig {
        id: ContainerId::from_bytes([0xab; 32]),
        name: "web.1.x".into(),
        image: ImageRef {
            name: "web".into(),
            manifest: Digest::from_bytes([1; 32]),
        },
        labels: BTreeMap::new(),
        process: ProcessConfig {
            args: vec!["/bin/web".into(), "-v".into()],
            ..ProcessConfig::default()
        },
        hostname: String::new(),
        domainname: String::new(),
        hosts: Vec::new(),
        dns: DnsConfig::default(),
        mounts: Vec::new(),
        read_only: false,
        shm_size: 0,
        security: Security::default(),
        limits: ResourceLimits::default(),
        ulimits: Vec::new(),
        sysctls: BTreeMap::new(),
        pid: Sharing::Own,
        ipc: Sharing::Own,
        network: NetworkMode::None,
        init: false,
        stop_signal: String::new(),
        stop_grace: Duration::from_secs(10),
        log: LogConfig::default(),
    }
}

fn host() -> HostFacts {
    HostFacts {
        cgroup: CgroupMode::V1,
        cgroup_parent: "skein/n1".into(),
        arch: "x86_64".into(),
        kernel: (6, 1),
        cpus: 2,
        capabilities: capabilities::of_mask(0x01ff_feff_ffff),
        hard_limits: BTreeMap::from([("nofile".to_owned(), 20_000)]),
        least_oom_score_adj: -100,
        seccomp: true,
        x32: true,
        apparmor: false,
        swap_limit: true,
        read_only_below: true,
        helper: "/usr/bin/skein".into(),
    }
}

fn json_of(config: &ContainerConfig, host: &HostFacts) -> Value {
    let place = Place {
        files: "/data/c".into(),
        user: ResolvedUser {
            uid: 7,
            gid: 8,
            groups: vec![8, 9],
            home: "/srv".into(),
        },
        ..Place::default()
    };
    serde_json::to_value(oci_spec(config, host, &place).unwrap()).unwrap()
}

/// The specification of a usual container that `change` was done to.
fn with(change: impl FnOnce(&mut ContainerConfig)) -> Value {
    let mut config = config();
    change(&mut config);
    json_of(&config, &host())
}

/// Why there is no specification after `change`.
fn refused(change: impl FnOnce(&mut ContainerConfig)) -> String {
    let mut config = config();
    change(&mut config);
    let error = oci_spec(&config, &host(), &Place::default()).unwrap_err();
    error.to_string()
}

fn mount_at<'a>(spec: &'a Value, target: &str) -> Option<&'a Value> {
    let mounts = spec["mounts"].as_array();
    let mut found = mounts
        .into_iter()
        .flatten()
        .filter(|m| m["destination"] == target);
    let first = found.next();
    assert!(found.next().is_none(), "{target} is mounted twice");
    first
}

fn call<'a>(spec: &'a Value, name: &str) -> Vec<&'a Value> {
    let calls = spec["linux"]["seccomp"]["syscalls"].as_array().unwrap();
    let names = |call: &Value| call["names"].as_array().unwrap().contains(&json!(name));
    calls.iter().filter(|call| names(call)).collect()
}

#[test]
fn a_usual_container_is_as_docker_makes_it() {
    let spec = with(|_| {});
    let id = "ab".repeat(32);
    assert_eq!(spec["hostname"], "abababababab");
    assert_eq!(spec["process"]["args"], json!(["/bin/web", "-v"]));
    assert_eq!(
        spec["process"]["user"],
        json!({"uid": 7, "gid": 8, "additionalGids": [8, 9]})
    );
    assert_eq!(
        spec["process"]["env"],
        json!([
            format!("PATH={DEFAULT_PATH}"),
            "HOSTNAME=abababababab",
            "HOME=/srv"
        ])
    );
    let caps = spec["process"]["capabilities"].as_object().unwrap();
    assert_eq!(caps["bounding"].as_array().unwrap().len(), 14);
    assert_eq!(caps.get("ambient"), None);
    assert_eq!(caps.get("inheritable"), None);
    assert_eq!(spec["linux"]["cgroupsPath"], format!("/skein/n1/{id}"));
    assert_eq!(
        spec["linux"]["maskedPaths"].as_array().unwrap().len(),
        MASKED.len()
    );
    let kinds: Vec<&str> = spec["linux"]["namespaces"]
        .as_array()
        .unwrap()
        .iter()
        .map(|namespace| namespace["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["mount", "uts", "pid", "ipc", "network"]);
    let hosts = mount_at(&spec, "/etc/hosts").unwrap();
    assert_eq!(hosts["source"], "/data/c/hosts");
    assert_eq!(mount_at(&spec, INIT_PATH), None);
    assert_eq!(spec["linux"]["resources"]["devices"][0]["allow"], false);
}

#[test]
fn what_was_given_in_the_environment_stays_and_a_terminal_has_a_name() {
    let spec = with(|config| {
        config.process.env = vec!["HOME=/x".into(), "PATH=/bin".into(), "A=".into()];
        config.process.tty = true;
        config.hostname = "web".into();
    });
    assert_eq!(
        spec["process"]["env"],
        json!(["HOSTNAME=web", "TERM=xterm", "HOME=/x", "PATH=/bin", "A="])
    );
    assert_eq!(spec["process"]["terminal"], true);
}

#[test]
fn capabilities_are_added_and_dropped_by_any_spelling() {
    let set = |add: &[&str], drop: &[&str]| {
        let own = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        let security = Security {
            cap_add: own(add),
            cap_drop: own(drop),
            ..Security::default()
        };
        capabilities::resolve(&security, &host())
    };
    let all = set(&["all"], &["CAP_CHOWN"]).unwrap();
    assert_eq!(
        all.len(),
        39,
        "41, less the one that is not here, less the one dropped"
    );
    let few = set(&["net_admin"], &["ALL"]).unwrap();
    assert_eq!(few.into_iter().collect::<Vec<_>>(), ["CAP_NET_ADMIN"]);
    let error = set(&["NET_ADMIM"], &[]).unwrap_err();
    assert_eq!(error.to_string(), "invalid capability: \"NET_ADMIM\"");
    let error = set(&["SYS_RESOURCE"], &[]).unwrap_err();
    assert!(matches!(error, SpecError::CapabilityNotHere(_)), "{error}");
}

#[test]
fn the_default_filter_follows_capabilities_kernel_and_architecture() {
    let spec = with(|_| {});
    assert_eq!(spec["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_ERRNO");
    assert_eq!(call(&spec, "openat").len(), 1);
    assert_eq!(call(&spec, "mount").len(), 0);
    assert_eq!(call(&spec, "ptrace").len(), 1);
    assert_eq!(call(&spec, "arch_prctl").len(), 1);
    assert_eq!(call(&spec, "chroot").len(), 1);
    assert_eq!(call(&spec, "clone3")[0]["errnoRet"], 38);
    let clone = &call(&spec, "clone")[0]["args"][0];
    assert_eq!(clone["value"], 0x7e02_0000_u64);
    assert_eq!(clone["op"], "SCMP_CMP_MASKED_EQ");

    let powerful = with(|config| config.security.cap_add = vec!["SYS_ADMIN".into()]);
    assert_eq!(call(&powerful, "mount").len(), 1);
    assert_eq!(call(&powerful, "clone").len(), 1);
    assert_eq!(call(&powerful, "clone")[0].get("args"), None);

    let old = HostFacts {
        kernel: (4, 4),
        arch: "aarch64".into(),
        ..host()
    };
    let spec = json_of(&config(), &old);
    assert_eq!(call(&spec, "ptrace").len(), 0);
    assert_eq!(call(&spec, "arch_prctl").len(), 0);
    assert_eq!(call(&spec, "cacheflush").len(), 1);
    assert_eq!(
        spec["linux"]["seccomp"]["architectures"],
        json!(["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"])
    );

    let usual = HostFacts {
        x32: false,
        ..host()
    };
    for (host, x32) in [(host(), true), (usual, false)] {
        let spec = json_of(&config(), &host);
        let named = spec["linux"]["seccomp"]["architectures"].to_string();
        assert!(named.contains("SCMP_ARCH_X86\""), "{named}");
        assert_eq!(named.contains("X32"), x32, "{named}");
    }
}

#[test]
fn no_call_is_in_two_lists_that_are_always_let_through() {
    let mut seen = BTreeSet::new();
    for name in seccomp_default::ALWAYS
        .iter()
        .flat_map(|names| names.split_whitespace())
    {
        assert!(seen.insert(name), "{name}");
    }
    for never in [
        "mount",
        "clone",
        "socket",
        "personality",
        "reboot",
        "keyctl",
        "io_uring_setup",
    ] {
        assert!(!seen.contains(never), "{never}");
    }
}

#[test]
fn a_filter_of_the_users_own_is_read_in_the_form_of_docker() {
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
                    {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": null}],
        "syscalls": [
            {"names": ["chmod"], "action": "SCMP_ACT_ERRNO", "args": null, "comment": "", "includes": {}, "excludes": {}},
            {"name": "chown", "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_CHOWN"]}},
            {"names": ["kill"], "action": "SCMP_ACT_KILL", "includes": {"minKernel": "7.0"}}],
    });
    let spec = with(|config| config.security.seccomp = Seccomp::Profile(profile.to_string()));
    assert_eq!(
        spec["linux"]["seccomp"],
        json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
            "syscalls": [{"names": ["chmod"], "action": "SCMP_ACT_ERRNO"}],
        })
    );
    let words = refused(|config| config.security.seccomp = Seccomp::Profile("{".into()));
    assert_eq!(words, "decoding seccomp profile failed");
    let none = with(|config| config.security.seccomp = Seccomp::Unconfined);
    assert_eq!(none["linux"].get("seccomp"), None);
}

#[test]
fn a_privileged_container_is_open() {
    let spec = with(|config| config.security.privileged = true);
    assert_eq!(spec["linux"].get("seccomp"), None);
    assert_eq!(spec["linux"].get("maskedPaths"), None);
    assert_eq!(spec["linux"].get("readonlyPaths"), None);
    let bounding = spec["process"]["capabilities"]["bounding"].as_array();
    assert_eq!(bounding.unwrap().len(), 40);
    assert_eq!(
        spec["linux"]["resources"]["devices"],
        json!([{"allow": true, "access": "rwm"}])
    );
    let sys = mount_at(&spec, "/sys").unwrap();
    assert_eq!(sys["options"], json!(["nosuid", "noexec", "nodev"]));
}

#[test]
fn a_read_only_bind_is_read_only_as_deep_as_asked_and_as_can_be() {
    let options = |depth, able, propagation: &str| {
        let mut config = config();
        config.mounts = vec![Mount {
            target: "/a".into(),
            read_only: true,
            source: MountSource::Bind {
                path: "/host".into(),
                propagation: propagation.into(),
                non_recursive: false,
                depth,
            },
        }];
        let host = HostFacts {
            read_only_below: able,
            ..host()
        };
        let spec = oci_spec(&config, &host, &Place::default());
        spec.map(|spec| {
            mount_at(&serde_json::to_value(spec).unwrap(), "/a").unwrap()["options"].clone()
        })
        .map_err(|error| error.to_string())
    };
    use ReadOnlyDepth::{Mount as Alone, Possible, Whole};
    let plain = json!(["rbind", "rprivate", "ro"]);
    let deep = json!(["rbind", "rprivate", "ro", "rro"]);
    assert_eq!(options(Alone, true, "").unwrap(), plain);
    assert_eq!(options(Possible, false, "").unwrap(), plain);
    assert_eq!(options(Possible, true, "").unwrap(), deep);
    assert_eq!(options(Whole, true, "").unwrap(), deep);
    let refused = options(Whole, false, "").unwrap_err();
    assert!(
        refused.contains("recursive read-only mounts need"),
        "{refused}"
    );
    let refused = options(Whole, true, "rslave").unwrap_err();
    assert!(refused.contains("requires Propagation"), "{refused}");
}

#[test]
fn mounts_are_ordered_and_replace_what_is_usual() {
    let mount = |target: &str, source| Mount {
        target: target.into(),
        read_only: false,
        source,
    };
    let bind = |propagation: &str| MountSource::Bind {
        path: "/host".into(),
        propagation: propagation.into(),
        non_recursive: false,
        depth: Default::default(),
    };
    let spec = with(|config| {
        config.mounts = vec![
            mount("/a/b", bind("")),
            Mount {
                read_only: true,
                ..mount("/a", bind("rshared"))
            },
            mount(
                "/dev/shm",
                MountSource::Tmpfs {
                    size: 4096,
                    mode: 0o700,
                    options: vec!["exec".into()],
                },
            ),
            mount("/etc/hosts", bind("rslave")),
        ];
    });
    assert_eq!(
        mount_at(&spec, "/dev/shm").unwrap()["options"],
        json!(["nosuid", "nodev", "exec", "size=4096", "mode=700"])
    );
    assert_eq!(mount_at(&spec, "/etc/hosts").unwrap()["source"], "/host");
    assert_eq!(
        mount_at(&spec, "/a").unwrap()["options"],
        json!(["rbind", "rshared", "ro", "rro"])
    );
    let places: Vec<&str> = spec["mounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| mount["destination"].as_str().unwrap())
        .collect();
    let at = |target| places.iter().position(|place| *place == target).unwrap();
    assert!(at("/a") < at("/a/b"), "{places:?}");
    assert_eq!(spec["linux"]["rootfsPropagation"], "shared");
    let relative = refused(|config| config.mounts = vec![mount("a", bind(""))]);
    assert!(
        relative.ends_with("mount path must be absolute"),
        "{relative}"
    );
    let odd = refused(|config| config.mounts = vec![mount("/a", bind("odd"))]);
    assert!(odd.ends_with("invalid propagation mode: odd"), "{odd}");
}

#[test]
fn the_machines_network_brings_its_name_and_no_parameters() {
    let spec = with(|config| config.network = NetworkMode::Host);
    assert_eq!(spec.get("hostname"), None);
    assert_eq!(spec["linux"]["sysctl"], json!({}));
    assert_eq!(mount_at(&spec, "/etc/hostname"), None);
    let kinds = spec["linux"]["namespaces"].to_string();
    assert!(
        !kinds.contains("uts") && !kinds.contains("network"),
        "{kinds}"
    );
}

#[test]
fn another_containers_namespaces_are_joined_while_it_runs() {
    let other = ContainerId::from_bytes([2; 32]);
    let mut config = config();
    config.network = NetworkMode::Container(other);
    config.pid = Sharing::Container(other);
    let error = oci_spec(&config, &host(), &Place::default()).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("cannot join namespace of a non running container")
    );
    let place = Place {
        joined: BTreeMap::from([(other, 4242)]),
        ..Place::default()
    };
    let spec = oci_spec(&config, &host(), &place).unwrap();
    let namespaces = serde_json::to_string(spec.linux().as_ref().unwrap().namespaces()).unwrap();
    assert!(namespaces.contains("/proc/4242/ns/net"), "{namespaces}");
    assert!(namespaces.contains("/proc/4242/ns/pid"), "{namespaces}");
}

#[test]
fn limits_reach_the_control_group() {
    let spec = with(|config| {
        config.limits = ResourceLimits {
            memory: 64 << 20,
            nano_cpus: 1_500_000_000,
            pids: 20,
            oom_score_adj: -500,
            ..ResourceLimits::default()
        };
        config.ulimits = vec![
            Ulimit {
                name: "nofile".into(),
                soft: 1024,
                hard: 1_000_000,
            },
            Ulimit {
                name: "core".into(),
                soft: 0,
                hard: -1,
            },
        ];
    });
    let resources = &spec["linux"]["resources"];
    assert_eq!(
        resources["memory"],
        json!({"limit": 64 << 20, "swap": 128 << 20})
    );
    assert_eq!(
        resources["cpu"],
        json!({"quota": 150_000, "period": 100_000})
    );
    assert_eq!(resources["pids"], json!({"limit": 20}));
    assert_eq!(spec["process"]["oomScoreAdj"], -100);
    assert_eq!(
        spec["process"]["rlimits"],
        json!([
            {"type": "RLIMIT_NOFILE", "hard": 20_000, "soft": 1024},
            {"type": "RLIMIT_CORE", "hard": u64::MAX, "soft": 0},
        ])
    );
}

#[test]
fn impossible_limits_are_refused_in_the_words_of_docker() {
    let limits = |change: fn(&mut ResourceLimits)| refused(|config| change(&mut config.limits));
    assert_eq!(
        limits(|l| l.memory = 1 << 20),
        "Minimum memory limit allowed is 6MB"
    );
    assert_eq!(
        limits(|l| l.nano_cpus = 3_000_000_000),
        "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"
    );
    let swap = limits(|l| (l.memory, l.memory_swap) = (64 << 20, 32 << 20));
    assert!(swap.starts_with("Minimum memoryswap limit"), "{swap}");
    let ulimit = |name: &str, soft| {
        let name = name.to_owned();
        refused(|config| {
            config.ulimits = vec![Ulimit {
                name,
                soft,
                hard: 5,
            }];
        })
    };
    assert_eq!(ulimit("nofiles", 1), "invalid ulimit type: nofiles");
    assert!(ulimit("nofile", 6).ends_with("6 > 5"));
    assert_eq!(
        refused(|config| config.process.args.clear()),
        "no command specified"
    );
}

#[test]
fn an_init_is_put_before_the_program() {
    let spec = with(|config| config.init = true);
    assert_eq!(
        spec["process"]["args"],
        json!(["/sbin/docker-init", "--", "/bin/web", "-v"])
    );
    let init = mount_at(&spec, INIT_PATH).unwrap();
    assert_eq!(init["source"], "/usr/bin/skein");
    assert_eq!(init["options"], json!(["bind", "ro"]));
}

#[test]
fn names_are_resolved_as_asked_or_as_on_the_machine() {
    let machine =
        "# by hand\nnameserver 127.0.0.53\nnameserver 10.0.0.1\nsearch lan\noptions edns0\n";
    let mut config = config();
    assert_eq!(
        texts::resolv_conf(&config, machine),
        "nameserver 10.0.0.1\nsearch lan\noptions edns0\n"
    );
    assert_eq!(
        texts::resolv_conf(&config, "nameserver ::1\n"),
        "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"
    );
    config.dns = DnsConfig {
        servers: vec!["127.0.0.11".parse().unwrap()],
        search: vec![".".into()],
        options: vec!["ndots:0".into()],
    };
    assert_eq!(
        texts::resolv_conf(&config, machine),
        "nameserver 127.0.0.11\noptions ndots:0\n"
    );
    config.hosts = vec![("10.1.2.3".parse().unwrap(), vec!["db".into(), "sql".into()])];
    let hosts = texts::hosts(&config, "");
    assert!(hosts.starts_with("127.0.0.1\tlocalhost\n"), "{hosts}");
    assert!(hosts.ends_with("10.1.2.3\tdb sql\n"), "{hosts}");
    config.network = NetworkMode::Host;
    assert_eq!(
        texts::hosts(&config, "127.0.0.1 here"),
        "127.0.0.1 here\n10.1.2.3\tdb sql\n"
    );
}
