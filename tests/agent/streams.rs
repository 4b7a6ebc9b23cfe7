//! Terminals, input, and what of our own program runs inside containers: the tiny init, and the sample image.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use skein::agent::images::sample;
use skein::agent::runtime::Runtime;
use skein::model::TaskState;
use skein::model::container::{Mount, MountSource};
use skein::model::task_spec::{MountKind, MountSpec};
use skein::wire::assignment::Assigned;
use tokio::io::AsyncWriteExt;

use crate::agent::{Agent, id, task, task_of, to};
use crate::bed::{Bed, eventually, program, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_logged_and_takes_input() {
    let Some(bed) = Bed::up() else { return };
    let runtime = bed.runtime().await;
    let mut config = bed.script("test -t 0 && echo terminal; read line; echo got $line; stty size");
    (config.process.tty, config.process.stdin) = (true, true);
    runtime.create(&config).await.unwrap();
    runtime.start(config.id).await.unwrap();
    bed.until_said(config.id, "terminal");
    runtime.resize(config.id, 33, 77).await.unwrap();
    let mut attached = runtime.attach(config.id).await.unwrap();
    let stdin = attached.stdin.as_mut().unwrap();
    within(stdin.write_all(b"words\n")).await.unwrap();
    assert_eq!(within(runtime.wait(config.id)).await.unwrap().code, 0);
    let said = bed.until_said(config.id, "33 77");
    assert!(said.contains("got words"), "{said}");
    runtime.remove(config.id).await.unwrap();
    bed.nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn input_without_a_terminal_reaches_the_process_and_ends() {
    let Some(bed) = Bed::up() else { return };
    let runtime = bed.runtime().await;
    let mut config = bed.script("echo ready; cat; echo end >&2");
    config.process.stdin = true;
    runtime.create(&config).await.unwrap();
    runtime.start(config.id).await.unwrap();
    bed.until_said(config.id, "ready");
    for words in ["one\n", "two\n"] {
        let attached = runtime.attach(config.id).await.unwrap();
        let mut stdin = attached.stdin.unwrap();
        within(stdin.write_all(words.as_bytes())).await.unwrap();
        drop(stdin);
        bed.until_said(config.id, words);
    }
    runtime.close_stdin(config.id).await.unwrap();
    assert_eq!(within(runtime.wait(config.id)).await.unwrap().code, 0);
    bed.until_said(config.id, "end\n");
    runtime.remove(config.id).await.unwrap();
    bed.nothing_left();
}

/// What our program needs of the machine in a container: nothing when it is static, as it is where it is shipped.
fn libraries() -> Vec<&'static str> {
    let all = ["/lib", "/lib64"].into_iter();
    all.filter(|path| !is_static() && Path::new(path).exists())
        .collect()
}

fn library_mounts() -> Vec<Mount> {
    let bind = |path: &str| Mount {
        target: path.into(),
        read_only: true,
        source: MountSource::Bind {
            path: path.into(),
            propagation: String::new(),
            non_recursive: false,
            depth: Default::default(),
        },
    };
    libraries().into_iter().map(bind).collect()
}

fn is_static() -> bool {
    sample::is_static(&std::fs::read(program()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_init_passes_signals_on_reaps_and_ends_as_its_program() {
    let Some(bed) = Bed::up() else { return };
    let runtime = bed.runtime().await;
    // Orphans that have ended stay as zombies until somebody takes note; only then is it ready.
    let mut config = bed.script(
        "trap 'exit 11' TERM; for i in 1 2 3; do (sleep 0.05 &); done; sleep 0.2; cat /proc/1/cmdline; \
         while grep -qs 'State:.Z' /proc/[0-9]*/status; do sleep 0.05; done; echo ready; while :; do sleep 0.1; done",
    );
    config.init = true;
    config.mounts = library_mounts();
    runtime.create(&config).await.unwrap();
    runtime.start(config.id).await.unwrap();
    let said = bed.until_said(config.id, "ready");
    assert!(said.contains("docker-init"), "{said}");
    runtime.signal(config.id, 15).await.unwrap();
    assert_eq!(within(runtime.wait(config.id)).await.unwrap().code, 11);
    runtime.remove(config.id).await.unwrap();
    for (script, code) in [
        ("exit 5", 5),
        ("kill -KILL $$", 137),
        ("exec /no/such", 127),
    ] {
        let mut config = bed.script(script);
        config.init = true;
        config.mounts = library_mounts();
        let (exit, said) = bed.run(&runtime, &config).await;
        assert_eq!(exit.code, code, "{script}: {said}");
    }
    bed.nothing_left();
}

/// A task of the sample image. Where the program is not static and makes none, a task that runs the same, in another
/// image and with the machine's libraries.
async fn sample_task(bed: &Bed, agent: &Agent) -> Assigned {
    let made = agent.stock.images.ensure_sample(&program()).await;
    assert_eq!(made.unwrap(), is_static());
    if is_static() {
        let mut who = task_of(sample::SAMPLE, 1, "");
        who.spec.container_spec.as_mut().unwrap().command.clear();
        return who;
    }
    let words = "the sample image is not tried, only its program: SKEIN_BIN names no static one";
    let _ = writeln!(std::io::stderr(), "{words}");
    let mut who = task(bed, 1, "");
    let spec = who.spec.container_spec.as_mut().unwrap();
    spec.command = ["/skein", "whoami"].map(str::to_owned).to_vec();
    let bind = |source: &str, target: &str| MountSpec {
        kind: Some(MountKind::Bind),
        source: source.into(),
        target: target.into(),
        read_only: true,
        ..MountSpec::default()
    };
    spec.mounts = libraries()
        .into_iter()
        .map(|path| bind(path, path))
        .collect();
    spec.mounts
        .push(bind(program().to_str().unwrap(), "/skein"));
    who
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_image_says_who_it_is() {
    let Some(bed) = Bed::up() else { return };
    let agent = Agent::up(&bed).await;
    let mut who = sample_task(&bed, &agent).await;
    let spec = who.spec.container_spec.as_mut().unwrap();
    spec.hostname = "somebody".into();
    spec.env = vec!["SKEIN_TASK={{.Task.Name}}".into()];
    agent.assign(1, &[who.clone()], &[]).await;
    let status = agent.until(id(1), TaskState::Running).await;
    let pid = status.pid.to_string();
    let said = eventually("it answers", || {
        // In the container's own network.
        let said = Command::new("nsenter")
            .args([
                "--net", "--target", &pid, "busybox", "wget", "-q", "-O", "-",
            ])
            .arg("http://127.0.0.1/some/path")
            .output()
            .unwrap();
        let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match said.status.success() {
            true => Ok(words(&said.stdout)),
            false => Err(words(&said.stderr)),
        }
    });
    for words in [
        "Hostname: somebody\n",
        "GET /some/path HTTP/1.1\n",
        "Task: web.1.",
    ] {
        assert!(said.contains(words), "{said}");
    }
    agent.assign(2, &[to(who, TaskState::Shutdown)], &[]).await;
    let status = agent.until(id(1), TaskState::Shutdown).await;
    assert_eq!(
        status.exit_code,
        Some(0),
        "it ends by itself when it is asked to"
    );
    agent.assign(3, &[], &[id(1)]).await;
    agent.until_forgotten(id(1)).await;
    agent.down().await;
    bed.nothing_left();
}
