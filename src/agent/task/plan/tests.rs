//! Specs and images, and the containers that they make.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::mounts::give_own_socket;
use super::*;
use crate::model::container::{Mount, MountSource};
use crate::model::dependency::Payload;
use crate::model::task::ServiceRef;
use crate::model::{
    Dependency, DependencyId, DependencyKind, DependencySpec, Digest, ServiceId, Slot, TaskId,
    TaskState,
};

fn assigned(container: Value) -> Assigned {
    Assigned {
        task: TaskId::from_bits(1),
        service: ServiceRef {
            id: ServiceId::from_bits(2),
            name: "web".into(),
        },
        service_labels: BTreeMap::new(),
        slot: Slot::Number(3),
        desired: TaskState::Running,
        observed: TaskState::Assigned,
        spec: serde_json::from_value(json!({ "ContainerSpec": container })).unwrap(),
        generic_resources: Vec::new(),
        attachments: Vec::new(),
        log_driver: None,
        registry_auth: Default::default(),
    }
}

fn image() -> ImageConfig {
    ImageConfig {
        entrypoint: vec!["/entry".into()],
        cmd: vec!["serve".into()],
        env: vec!["PATH=/image".into(), "COLOR=red".into()],
        user: "app".into(),
        working_dir: "/app".into(),
        stop_signal: "SIGQUIT".into(),
        labels: BTreeMap::from([("from".into(), "image".into())]),
        ..ImageConfig::default()
    }
}

fn node() -> NodeSelf {
    NodeSelf {
        socket: None,
        node: NodeId::from_bits(4),
        hostname: "host".into(),
        log: LogConfig {
            driver: "json-file".into(),
            options: BTreeMap::new(),
        },
        ..NodeSelf::default()
    }
}

fn id() -> ContainerId {
    ContainerId::from_bytes([0xab; 32])
}

fn plan_of(assigned: &Assigned, config: &ImageConfig) -> Result<Planned, PlanError> {
    let image = ImageRef {
        name: "app:1".into(),
        manifest: Digest::from_bytes([7; 32]),
    };
    container(assigned, &image, config, &node(), id())
}

#[track_caller]
fn planned(container: Value) -> Planned {
    plan_of(&assigned(container), &image()).unwrap()
}

#[test]
fn the_image_says_what_the_user_does_not() {
    let container = planned(json!({"Image": "app:1"})).container;
    assert_eq!(container.process.args, ["/entry", "serve"]);
    let env = ["PATH=/image", "HOSTNAME=abababababab", "COLOR=red"];
    assert_eq!(container.process.env, env);
    assert_eq!(
        (container.process.user, container.process.cwd),
        ("app".into(), "/app".into())
    );
    assert_eq!(container.stop_signal, "SIGQUIT");
    assert_eq!(container.stop_grace, Duration::from_secs(10));
    assert_eq!(container.name, format!("web.3.{}", TaskId::from_bits(1)));
    assert_eq!(container.log.driver, "json-file");
    for (key, value) in [
        ("from", "image".to_owned()),
        ("com.docker.swarm.task", String::new()),
        ("com.docker.swarm.task.id", TaskId::from_bits(1).to_string()),
        ("com.docker.swarm.task.name", container.name.clone()),
        ("com.docker.swarm.node.id", NodeId::from_bits(4).to_string()),
        (
            "com.docker.swarm.service.id",
            ServiceId::from_bits(2).to_string(),
        ),
        ("com.docker.swarm.service.name", "web".into()),
    ] {
        assert_eq!(container.labels[key], value, "{key}");
    }
}

#[test]
fn entrypoint_and_arguments_are_laid_over_each_other_as_docker_does() {
    for (spec, expected) in [
        (json!({"Args": ["x"]}), &["/entry", "x"][..]),
        (json!({"Command": ["/c"]}), &["/c"]),
        (json!({"Command": ["/c"], "Args": ["x"]}), &["/c", "x"]),
    ] {
        assert_eq!(planned(spec).container.process.args, expected);
    }
    let nothing = plan_of(&assigned(json!({})), &ImageConfig::default());
    assert_eq!(nothing, Err(PlanError::NoCommand));
    let no_container = Assigned {
        spec: TaskSpec::default(),
        ..assigned(json!({}))
    };
    assert_eq!(
        plan_of(&no_container, &image()),
        Err(PlanError::NoContainer)
    );
}

#[test]
fn the_environment_has_each_name_once_and_templates_expanded() {
    let container = planned(json!({
        "Hostname": "{{.Service.Name}}-{{.Task.Slot}}", "TTY": true,
        "Env": ["COLOR", "WHO={{.Node.Hostname}}", "PATH=/mine", "A=1", "A=2"],
    }))
    .container;
    let env = [
        "PATH=/mine",
        "HOSTNAME=web-3",
        "TERM=xterm",
        "WHO=host",
        "A=2",
    ];
    assert_eq!(container.process.env, env);
    assert_eq!(container.hostname, "web-3");
    let wrong = plan_of(&assigned(json!({"Env": ["A={{.Nothing}}"]})), &image()).unwrap_err();
    assert_eq!(
        words(&wrong),
        "failed to expand env: template: expansion:1: executing \"expansion\" at <.Nothing>: can't evaluate field"
    );
}

#[test]
fn limits_are_limits_and_reservations_are_not() {
    let mut assigned = assigned(
        json!({"OomScoreAdj": 70_000, "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}]}),
    );
    assigned.spec.resources = serde_json::from_value(json!({
        "Limits": {"NanoCPUs": 5, "MemoryBytes": 67_108_864, "Pids": 9},
        "Reservations": {"MemoryBytes": 1_000_000_000},
    }))
    .unwrap();
    let container = plan_of(&assigned, &image()).unwrap().container;
    let expected = ResourceLimits {
        nano_cpus: 5,
        memory: 64 << 20,
        pids: 9,
        oom_score_adj: 1000,
        ..ResourceLimits::default()
    };
    assert_eq!(container.limits, expected);
    assert_eq!(
        (container.ulimits[0].soft, container.ulimits[0].hard),
        (1, 2)
    );
    assigned.spec.resources =
        serde_json::from_value(json!({"Limits": {"MemoryBytes": 5 << 20}})).unwrap();
    assert_eq!(plan_of(&assigned, &image()), Err(PlanError::Memory));
}

#[test]
fn whoever_binds_dockers_socket_gets_our_own() {
    let source = |path: &str| MountSource::Bind {
        path: path.into(),
        propagation: String::new(),
        non_recursive: false,
        depth: Default::default(),
    };
    let mut docker = Mount {
        target: "/docker.sock".into(),
        read_only: false,
        source: source("/"),
    };
    for (asked, own, got) in [
        (
            "/var/run/docker.sock",
            Some("/run/skein/skein.sock"),
            "/run/skein/skein.sock",
        ),
        (
            "/run/docker.sock",
            Some("/run/skein/skein.sock"),
            "/run/skein/skein.sock",
        ),
        ("/run/docker.sock", None, "/run/docker.sock"),
        (
            "/run/other.sock",
            Some("/run/skein/skein.sock"),
            "/run/other.sock",
        ),
    ] {
        docker.source = source(asked);
        give_own_socket(std::slice::from_mut(&mut docker), own.map(Path::new));
        assert_eq!(docker.source, source(got));
    }
}

#[test]
fn mounts_are_sorted_from_outside_in_and_the_images_volumes_come_along() {
    let config = ImageConfig {
        volumes: vec!["/data".into(), "/a/b/c".into()],
        ..image()
    };
    let spec = json!({"Mounts": [
        {"Type": "bind", "Source": "/src/", "Target": "/a/b/c/../d", "ReadOnly": true,
         "BindOptions": {"CreateMountpoint": true, "Propagation": "rslave"}},
        {"Type": "volume", "Source": "v-{{.Task.Slot}}", "Target": "/data", "VolumeOptions": {"Subpath": "x/y",
         "DriverConfig": {"Name": "local", "Options": {"device": "{{.Node.Hostname}}"}}}},
        {"Type": "volume", "Target": "/deep/er/still/more"},
        {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 5, "Options": [["noexec"], ["uid", "7"]]}},
    ]});
    let planned = plan_of(&assigned(spec), &config).unwrap();
    let mounts = &planned.container.mounts;
    let targets: Vec<&str> = mounts
        .iter()
        .map(|it| it.target.to_str().unwrap())
        .collect();
    assert_eq!(
        targets,
        ["/data", "/t", "/a/b/d", "/a/b/c", "/deep/er/still/more"]
    );
    let bind = Mount {
        target: "/a/b/d".into(),
        read_only: true,
        source: MountSource::Bind {
            path: "/src".into(),
            propagation: "rslave".into(),
            non_recursive: false,
            depth: Default::default(),
        },
    };
    assert_eq!(mounts[2], bind);
    assert_eq!(planned.make_binds, [2]);
    let tmpfs = MountSource::Tmpfs {
        size: 5,
        mode: 0o1777,
        options: vec!["noexec".into(), "uid=7".into()],
    };
    assert_eq!(mounts[1].source, tmpfs);
    let [(0, named), (3, of_image), (4, anonymous)] = &planned.volumes[..] else {
        panic!("{:#?}", planned.volumes);
    };
    assert_eq!((named.name.as_str(), named.anonymous), ("v-3", false));
    assert_eq!(named.options["device"], "host");
    assert!(of_image.anonymous && anonymous.anonymous);
    assert_ne!(of_image.name, anonymous.name);
    assert_eq!((of_image.name.len(), anonymous.name.len()), (64, 64));
}

#[test]
fn what_cannot_be_is_refused_in_dockers_words() {
    for (spec, expected) in [
        (
            json!({"Mounts": [{"Type": "bind", "Target": "/t"}]}),
            "invalid mount config for type \"bind\": field Source must not be empty",
        ),
        (
            json!({"Mounts": [{"Type": "volume", "Source": "v"}]}),
            "invalid mount config for type \"volume\": field Target must not be empty",
        ),
        (
            json!({"Mounts": [{"Type": "tmpfs", "Target": "t"}]}),
            "invalid mount config for type \"tmpfs\": invalid mount path: 't' mount path must be absolute",
        ),
        (
            json!({"Mounts": [{"Type": "tmpfs", "Target": "/t"}, {"Type": "tmpfs", "Target": "/t/"}]}),
            "Duplicate mount point: /t",
        ),
        (
            json!({"Mounts": [{"Type": "volume", "Target": "/t", "VolumeOptions": {"Subpath": "../x"}}]}),
            "invalid mount config for type \"volume\": subpath must be a relative path within the volume",
        ),
        (
            json!({"Mounts": [{"Type": "npipe", "Target": "/t"}]}),
            "invalid mount config for type \"npipe\": mount type unknown or not supported",
        ),
        (
            json!({"Hosts": ["name 1.2.3.4"]}),
            "invalid IP address in add-host: \"name 1.2.3.4\"",
        ),
        (
            json!({"DNSConfig": {"Nameservers": ["x"]}}),
            "x is not an ip address",
        ),
        (
            json!({"StopSignal": "SIGNOTHING"}),
            "invalid signal: SIGNOTHING",
        ),
        (
            json!({"Privileges": {"Seccomp": {"Mode": "custom", "Profile": "*"}}}),
            "invalid seccomp profile: Invalid symbol 42, offset 0.",
        ),
        (
            json!({"Privileges": {"AppArmor": {"Mode": "x"}}}),
            "invalid AppArmor mode: \"x\"",
        ),
    ] {
        let error = plan_of(&assigned(spec), &image()).unwrap_err();
        assert_eq!(words(&error), expected);
    }
}

#[test]
fn security_is_carried_over() {
    let container = planned(json!({
        "CapabilityAdd": ["net_admin", "CAP_SYS_TIME", "all"], "CapabilityDrop": ["ALL"],
        "Privileges": {"NoNewPrivileges": true, "Seccomp": {"Mode": "custom", "Profile": "e30="},
            "AppArmor": {"Mode": "disabled"}},
        "Hosts": ["1.2.3.4 one two"], "Init": true,
    }))
    .container;
    let security = container.security;
    assert_eq!(security.cap_add, ["CAP_NET_ADMIN", "CAP_SYS_TIME", "ALL"]);
    assert_eq!(security.seccomp, Seccomp::Profile("{}".into()));
    assert_eq!(
        (security.apparmor.as_str(), security.no_new_privileges),
        ("unconfined", true)
    );
    assert_eq!(
        container.hosts,
        [("1.2.3.4".parse().unwrap(), vec!["one".to_owned()])]
    );
    assert!(container.init);
}

#[test]
fn signals_are_known_by_all_their_names() {
    for (name, number) in [
        ("SIGTERM", Some(15)),
        ("term", Some(15)),
        ("9", Some(9)),
        ("SIGRTMIN", Some(34)),
        ("RTMIN+3", Some(37)),
        ("SIGRTMAX-1", Some(63)),
        ("RTMAX+1", None),
        ("RTMIN-1", None),
        ("0", None),
        ("65", None),
        ("", None),
        ("SIG", None),
    ] {
        assert_eq!(signal_number(name), number, "{name}");
    }
}

#[test]
fn the_log_driver_is_the_specs_then_the_clusters_then_the_nodes() {
    let driver = |name: &str, option: &str| {
        Some(Driver {
            name: name.into(),
            options: BTreeMap::from([(option.into(), "1m".into())]),
        })
    };
    let mut assigned = assigned(json!({}));
    assigned.log_driver = driver("journald", "tag");
    let log = |assigned: &Assigned| plan_of(assigned, &image()).unwrap().container.log.driver;
    assert_eq!(log(&assigned), "journald");
    assigned.spec.log_driver = driver("local", "max-size");
    assert_eq!(log(&assigned), "local");
    assigned.spec.log_driver = driver("", "max-size");
    assert_eq!(log(&assigned), "json-file");
    for wrong in [driver("nowhere", "max-size"), driver("json-file", "k")] {
        assigned.spec.log_driver = wrong;
        let refused = plan_of(&assigned, &image()).unwrap_err();
        assert!(matches!(refused, PlanError::Log(_)), "{refused}");
    }
}

#[test]
fn a_program_is_told_what_of_the_node_is_its_own() {
    let mut assigned = assigned(json!({"Env": ["A=1", "DOCKER_RESOURCE_SSD=mine"]}));
    assigned.generic_resources = serde_json::from_value(json!([
        {"NamedResourceSpec": {"Kind": "gpu", "Value": "UUID1"}},
        {"NamedResourceSpec": {"Kind": "gpu", "Value": "UUID2"}},
        {"DiscreteResourceSpec": {"Kind": "SSD", "Value": 3}},
    ]))
    .unwrap();
    let env = plan_of(&assigned, &image()).unwrap().container.process.env;
    let told: Vec<&str> = env.iter().map(String::as_str).collect();
    let wanted = [
        "PATH=/image",
        "HOSTNAME=abababababab",
        "A=1",
        "DOCKER_RESOURCE_SSD=3",
        "DOCKER_RESOURCE_GPU=UUID1,UUID2",
        "COLOR=red",
    ];
    assert_eq!(told, wanted);
}

fn kept(number: u128, kind: DependencyKind, data: &str) -> Arc<Dependency> {
    let template = || Driver {
        name: "golang".into(),
        ..Driver::default()
    };
    Arc::new(Dependency {
        id: DependencyId::from_bits(number),
        kind,
        spec: DependencySpec {
            name: format!("key-{number}"),
            data: Payload::new(data.into()),
            templating: (number > 2).then(template),
            ..DependencySpec::default()
        },
        ..Dependency::default()
    })
}

/// References to a secret and to a config, both by number, as files of these names.
fn references(secret: (u128, &str), config: (u128, &str)) -> Value {
    let file = |name: &str| json!({"Name": name, "UID": "33", "GID": "", "Mode": 0o440});
    let id = |number| DependencyId::from_bits(number).to_string();
    json!({
        "Env": ["A=b"],
        "Mounts": [{"Type": "tmpfs", "Target": "/taken"}],
        "Secrets": [{"SecretID": id(secret.0), "SecretName": "s", "File": file(secret.1)}],
        "Configs": [{"ConfigID": id(config.0), "ConfigName": "c", "File": file(config.1)},
            {"ConfigID": id(9), "ConfigName": "r", "Runtime": {}}],
    })
}

fn files_of(container: Value) -> Result<Vec<FileRequest>, FilesError> {
    let held: Held = [
        kept(1, DependencyKind::Secret, "hunter2"),
        kept(2, DependencyKind::Config, "plain {{"),
        kept(
            3,
            DependencyKind::Config,
            r#"{{secret "s"}} {{env "A"}} {{.Task.Slot}}"#,
        ),
        kept(4, DependencyKind::Config, "{{.Nope}}"),
    ]
    .into_iter()
    .map(|one| (one.id, one))
    .collect();
    let assigned = assigned(container);
    files(&assigned, &container_of(&assigned), &held, &node())
}

fn container_of(assigned: &Assigned) -> ContainerConfig {
    plan_of(assigned, &image()).unwrap().container
}

#[test]
fn secrets_and_configs_become_files() {
    let made = files_of(references((1, "s"), (2, "c"))).unwrap();
    let told: Vec<_> = made
        .iter()
        .map(|file| {
            let text = String::from_utf8_lossy(file.content.bytes()).into_owned();
            (file.target.display().to_string(), text)
        })
        .collect();
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    let expected = [pair("/run/secrets/s", "hunter2"), pair("/c", "plain {{")];
    assert_eq!(told, expected);
    assert_eq!((made[0].uid, made[0].gid, made[0].mode), (33, 0, 0o440));
    let made = files_of(references((1, "s"), (3, "/etc/../x"))).unwrap();
    assert_eq!(made[1].target.to_str(), Some("/x"));
    assert_eq!(made[1].content.bytes(), b"hunter2 b 3");
}

#[test]
fn files_that_cannot_be_are_refused_and_those_that_may_come_are_waited_for() {
    let missing = files_of(references((7, "s"), (2, "c"))).unwrap_err();
    assert_eq!(missing, FilesError::Missing("secret s".into()));
    for (container, words) in [
        (
            references((1, "s"), (2, "/taken")),
            "Duplicate mount point: /taken",
        ),
        (references((1, "/x"), (2, "x")), "Duplicate mount point: /x"),
        (references((1, "s"), (2, "/")), "destination can't be '/'"),
        (
            references((1, "s"), (4, "c")),
            "failed to expand config: template: expansion",
        ),
    ] {
        let said = files_of(container).unwrap_err().to_string();
        assert!(said.contains(words), "{said}");
    }
    let mut wrong = references((1, "s"), (2, "c"));
    wrong["Secrets"][0]["File"]["UID"] = "root".into();
    let said = files_of(wrong).unwrap_err().to_string();
    assert_eq!(said, "string to uid conversion failed: \"root\"");
}
