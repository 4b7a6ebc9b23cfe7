//! The verbs of the runtime, one container at a time.

use skein::agent::runtime::{Failure, Runtime};
use skein::model::ContainerId;
use skein::model::container::{ContainerState, Mount, MountSource, ReadOnlyDepth};

use crate::bed::{Bed, within};
use crate::conformance::{self, Facts};

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_made_started_waited_for_and_removed() {
    let Some(bed) = Bed::up() else { return };
    let runtime = bed.runtime().await;
    let config = bed.script("echo out; echo err >&2; exit 7");
    let id = config.id;
    assert_eq!(runtime.inspect(id).await.unwrap(), None);

    runtime.create(&config).await.unwrap();
    runtime.create(&config).await.unwrap();
    let found = runtime.inspect(id).await.unwrap().unwrap();
    assert_eq!(found.state, Some(ContainerState::Created));
    assert_eq!(found.labels, config.labels);
    assert_eq!(runtime.list().await.unwrap(), [found]);

    let started = runtime.start(id).await.unwrap();
    assert!(started.pid > 1);
    let exit = within(runtime.wait(id)).await.unwrap();
    assert_eq!((exit.code, exit.oom), (7, false));
    assert_eq!(
        runtime.start(id).await.unwrap(),
        started,
        "it does not run twice"
    );
    assert_eq!(runtime.wait(id).await.unwrap(), exit);
    let found = runtime.inspect(id).await.unwrap().unwrap();
    assert_eq!(found.state, Some(ContainerState::Exited(exit)));
    runtime.signal(id, 15).await.unwrap();

    runtime.remove(id).await.unwrap();
    runtime.remove(id).await.unwrap();
    assert_eq!(runtime.inspect(id).await.unwrap(), None);
    let gone = runtime.wait(id).await.unwrap_err();
    assert_eq!(gone.failure, Failure::Gone);
    let said = bed.output(id);
    assert!(said.contains("out\n") && said.contains("err\n"), "{said}");
    bed.nothing_left();
    runtime.purge(id).unwrap();
    assert!(!runtime.folder(id).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_reach_the_process_and_removal_kills_it() {
    let Some(bed) = Bed::up() else { return };
    let runtime = bed.runtime().await;
    let config =
        bed.script("trap 'echo asked; exit 3' TERM; echo ready; while :; do sleep 0.1; done");
    runtime.create(&config).await.unwrap();
    runtime.start(config.id).await.unwrap();
    bed.until_said(config.id, "ready");
    runtime.signal(config.id, 15).await.unwrap();
    let exit = within(runtime.wait(config.id)).await.unwrap();
    assert_eq!(exit.code, 3);
    runtime.remove(config.id).await.unwrap();

    let stubborn = bed.script("trap '' TERM; echo ready; while :; do sleep 1; done");
    runtime.create(&stubborn).await.unwrap();
    runtime.start(stubborn.id).await.unwrap();
    bed.until_said(stubborn.id, "ready");
    let waits = tokio::time::timeout(crate::bed::DEADLINE, runtime.wait(stubborn.id));
    let (_, removed) = tokio::join!(waits, runtime.remove(stubborn.id));
    removed.unwrap();
    bed.nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_finds_its_name_its_files_and_its_users() {
    let Some(bed) = Bed::up() else { return };
    let runtime = bed.runtime().await;
    let mut config = bed.script(
        "hostname; cat /etc/hostname; grep far /etc/hosts; id; echo $HOME $HOSTNAME; pwd; cat /proc/self/status",
    );
    config.hostname = "here".into();
    config.process.user = "web".into();
    config.process.cwd = "/made/for/it".into();
    config.security.no_new_privileges = true;
    let (exit, said) = bed.run(&runtime, &config).await;
    assert_eq!(exit.code, 0, "{said}");
    assert!(said.starts_with("here\nhere\n10.9.8.7\tfar\n"), "{said}");
    assert!(
        said.contains("uid=33(web) gid=33(web) groups=33(web),50(staff)"),
        "{said}"
    );
    assert!(said.contains("/srv here\n/made/for/it\n"), "{said}");
    assert!(said.contains("CapBnd:\t00000000a80425fb"), "{said}");
    assert!(
        said.contains("NoNewPrivs:\t1") && said.contains("Seccomp:\t2"),
        "{said}"
    );
    bed.nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_are_as_asked_and_a_read_only_root_is_not_written() {
    let Some(bed) = Bed::up() else { return };
    let runtime = bed.runtime().await;
    let host = bed.directory.join("shared");
    std::fs::create_dir(&host).unwrap();
    let mut config = bed.script(
        "touch /new; touch /data/new && touch /mem/new && touch /fixed/new; stat -c %a /mem; df -k /mem | tail -1",
    );
    let bind = |target: &str, read_only| Mount {
        target: target.into(),
        read_only,
        source: MountSource::Bind {
            path: host.clone(),
            propagation: String::new(),
            non_recursive: false,
            depth: Default::default(),
        },
    };
    config.read_only = true;
    config.mounts = vec![
        bind("/data", false),
        bind("/fixed", true),
        Mount {
            target: "/mem".into(),
            read_only: false,
            source: MountSource::Tmpfs {
                size: 1 << 20,
                mode: 0o711,
                options: Vec::new(),
            },
        },
    ];
    let (_, said) = bed.run(&runtime, &config).await;
    assert!(said.contains("/new: Read-only file system"), "{said}");
    assert!(said.contains("/fixed/new: Read-only file system"), "{said}");
    assert!(said.contains("711\n") && said.contains(" 1024 "), "{said}");
    assert!(host.join("new").exists());
    bed.nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_bind_is_read_only_below_as_well() {
    let Some(bed) = Bed::up() else { return };
    let runtime = bed.runtime().await;
    let host = bed.directory.join("tree");
    std::fs::create_dir_all(host.join("below")).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
        .arg(host.join("below"))
        .status();
    assert!(mounted.unwrap().success());
    let mut config =
        bed.script("touch /all/below/a; touch /all/b; touch /top/below/c; touch /top/d");
    let bind = |target: &str, depth| Mount {
        target: target.into(),
        read_only: true,
        source: MountSource::Bind {
            path: host.clone(),
            propagation: String::new(),
            non_recursive: false,
            depth,
        },
    };
    config.mounts = vec![
        bind("/all", ReadOnlyDepth::Possible),
        bind("/top", ReadOnlyDepth::Mount),
    ];
    let (_, said) = bed.run(&runtime, &config).await;
    let unmounted = std::process::Command::new("umount")
        .arg(host.join("below"))
        .status();
    assert!(unmounted.unwrap().success());
    for path in ["/all/b", "/top/d"] {
        assert!(
            said.contains(&format!("{path}: Read-only file system")),
            "{said}"
        );
    }
    assert!(!said.contains("/top/below/c"), "{said}");
    let deep = said.contains("/all/below/a: Read-only file system");
    assert_eq!(deep, runtime.host().read_only_below, "{said}");
    bed.nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_in_the_words_of_docker_and_leaves_nothing() {
    let Some(bed) = Bed::up() else { return };
    let runtime = bed.runtime().await;
    let nobody = {
        let mut config = bed.script("");
        config.process.user = "nosuch".into();
        config
    };
    let nowhere = {
        let mut config = bed.script("");
        config.mounts = vec![Mount {
            target: "/x".into(),
            read_only: false,
            source: MountSource::Bind {
                path: "/no/such/place".into(),
                propagation: String::new(),
                non_recursive: false,
                depth: Default::default(),
            },
        }];
        config
    };
    let no_image = {
        let mut config = bed.script("");
        config.image.manifest = skein::model::image::Digest::from_bytes([9; 32]);
        config
    };
    let too_small = {
        let mut config = bed.script("");
        config.limits.memory = 1;
        config
    };
    for (config, words) in [
        (
            nobody,
            "unable to find user nosuch: no matching entries in passwd file",
        ),
        (
            nowhere,
            "invalid mount config for type \"bind\": bind source path does not exist: /no/such/place",
        ),
        (no_image, "No such image: test/busybox"),
        (too_small, "Minimum memory limit allowed is 6MB"),
    ] {
        let error = runtime.create(&config).await.unwrap_err();
        assert_eq!((error.failure, &*error.message), (Failure::Refused, words));
        assert!(!runtime.folder(config.id).exists());
    }
    bed.nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_cannot_be_run_is_refused_each_time_and_leaves_nothing() {
    let Some(bed) = Bed::up() else { return };
    let runtime = bed.runtime().await;
    let none = ContainerId::from_bytes([1; 32]);
    assert_eq!(
        runtime.start(none).await.unwrap_err().failure,
        Failure::Gone
    );
    for (program, words, code) in [
        (
            "nosuch",
            "exec: \"nosuch\": executable file not found in $PATH",
            127,
        ),
        ("/no/such", "no such file or directory", 127),
        ("/etc/unrunnable", "permission denied", 126),
        ("/etc", "exec: \"/etc\": ", 126),
    ] {
        let config = bed.config(&[program]);
        runtime.create(&config).await.unwrap();
        for _attempt in 0..2 {
            let error = runtime.start(config.id).await.unwrap_err();
            assert_eq!(
                (error.failure, error.exit_code()),
                (Failure::Refused, code),
                "{error}"
            );
            let before = "failed to create task for container: failed to create shim task: OCI runtime create failed: ";
            assert!(error.message.starts_with(before), "{error}");
            assert!(error.message.contains(words), "{error}");
        }
        let found = runtime.inspect(config.id).await.unwrap().unwrap();
        assert_eq!(found.state, Some(ContainerState::Created));
        runtime.remove(config.id).await.unwrap();
    }
    bed.nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn containerd_does_what_every_runtime_must() {
    let Some(bed) = Bed::up() else { return };
    let facts = Facts {
        image: bed.config(&[]).image,
        shell: ["sh", "-c"].map(str::to_owned).to_vec(),
        seed: 1,
    };
    Box::pin(conformance::all(&bed.runtime().await, &facts)).await;
    bed.nothing_left();
}
