//! Further processes in a container, and files in and out of it.

use skein::agent::runtime::containerd::{Exec, ExecSpec};
use skein::agent::runtime::{Failure, Runtime};
use skein::model::container::ProcessConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::bed::{Bed, within};

fn spec(args: &[&str]) -> ExecSpec {
    ExecSpec {
        process: ProcessConfig {
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            ..ProcessConfig::default()
        },
        stdout: true,
        stderr: true,
        ..ExecSpec::default()
    }
}

/// All that an execution writes, and how it ends.
async fn finish(mut exec: Exec) -> (String, String, i32) {
    let (mut out, mut err) = (String::new(), String::new());
    if let Some(mut stream) = exec.stdout.take() {
        within(stream.read_to_string(&mut out)).await.unwrap();
    }
    if let Some(mut stream) = exec.stderr.take() {
        within(stream.read_to_string(&mut err)).await.unwrap();
    }
    let code = within(exec.wait()).await.unwrap();
    (out, err, code)
}

#[tokio::test(flavor = "multi_thread")]
async fn further_processes_run_with_streams_of_their_own() {
    let Some(bed) = Bed::up() else { return };
    let runtime = bed.runtime().await;
    let mut config = bed.script("echo ready; while :; do sleep 1; done");
    config.process.env = vec!["A=1".into(), "B=1".into()];
    config.process.user = "web".into();
    runtime.create(&config).await.unwrap();
    let not_yet = runtime.exec(config.id, spec(&["true"])).await.unwrap_err();
    assert!(not_yet.message.ends_with("is not running"), "{not_yet}");
    runtime.start(config.id).await.unwrap();
    bed.until_said(config.id, "ready");

    let mut wanted = spec(&["sh", "-c", "echo $A$B; id -un; echo no >&2; exit 4"]);
    wanted.process.env = vec!["B=2".into()];
    let exec = runtime.exec(config.id, wanted).await.unwrap();
    assert_eq!(finish(exec).await, ("12\nweb\n".into(), "no\n".into(), 4));

    let mut wanted = spec(&["cat"]);
    wanted.stdin = true;
    let mut exec = runtime.exec(config.id, wanted).await.unwrap();
    let mut stdin = exec.stdin.take().unwrap();
    stdin.write_all(b"through").await.unwrap();
    drop(stdin);
    exec.close_stdin().await.unwrap();
    assert_eq!(finish(exec).await, ("through".into(), String::new(), 0));

    let mut quiet = spec(&["sh", "-c", "echo lost || exit 8; echo too >&2 || exit 9"]);
    (quiet.stdout, quiet.stderr) = (false, false);
    let exec = runtime.exec(config.id, quiet).await.unwrap();
    assert_eq!(finish(exec).await.2, 0);

    let mut wanted = spec(&["sh", "-c", "test -t 0 && test -t 1; stty size"]);
    wanted.process.tty = true;
    let exec = runtime.exec(config.id, wanted).await.unwrap();
    let (said, _, code) = finish(exec).await;
    assert_eq!(code, 0, "{said}");

    let exec = runtime
        .exec(config.id, spec(&["sleep", "600"]))
        .await
        .unwrap();
    exec.kill().await.unwrap();
    assert_eq!(finish(exec).await.2, 137);

    let error = runtime
        .exec(config.id, spec(&["nosuch"]))
        .await
        .unwrap_err();
    assert_eq!(
        (error.failure, error.exit_code()),
        (Failure::Refused, 127),
        "{error}"
    );
    assert!(
        error
            .message
            .contains("exec: \"nosuch\": executable file not found in $PATH"),
        "{error}"
    );
    runtime.remove(config.id).await.unwrap();
    bed.nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_copied_in_and_out_and_never_beside_the_container() {
    let Some(bed) = Bed::up() else { return };
    let runtime = bed.runtime().await;
    let config = bed.script("echo ready; while :; do sleep 1; done");
    runtime.create(&config).await.unwrap();
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    header.set_mode(0o640);
    header.set_uid(12);
    header.set_gid(34);
    header.set_mtime(1);
    tar.append_data(&mut header, "new", &b"inner"[..]).unwrap();
    let tar = tar.into_inner().unwrap();
    let read = async |path: &str| {
        let (stat, mut stream) = runtime.archive_out(config.id, path).await.unwrap();
        let mut all = Vec::new();
        within(stream.read_to_end(&mut all)).await.unwrap();
        let mut archive = tar::Archive::new(&*all);
        let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
        (stat.name, entry.path().unwrap().display().to_string(), text)
    };
    // `/outside` leads to `/etc`: the container's, never the machine's.
    within(runtime.archive_in(config.id, "/outside/.", &*tar))
        .await
        .unwrap();
    assert!(!std::path::Path::new("/etc/new").exists());
    assert_eq!(
        read("/etc/new").await,
        ("new".into(), "new".into(), "inner".into())
    );
    runtime.start(config.id).await.unwrap();
    bed.until_said(config.id, "ready");
    assert_eq!(read("/outside/new").await.2, "inner");
    within(runtime.archive_in(config.id, "/tmp", &*tar))
        .await
        .unwrap();
    assert_eq!(read("tmp/new").await.2, "inner");
    let stat = runtime.stat_path(config.id, "/outside").await.unwrap();
    assert_eq!(stat.link_target, "/etc");
    let error = runtime.stat_path(config.id, "/no/such").await.unwrap_err();
    let words = format!(
        "Could not find the file /no/such in container {}",
        config.id
    );
    assert_eq!(error.to_string(), words);
    let error = within(runtime.archive_in(config.id, "/etc/passwd", &*tar))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "extraction point is not a directory");
    let (bytes, _) = runtime.size(config.id).await.unwrap();
    assert!(bytes > 0);
    runtime.remove(config.id).await.unwrap();
    bed.nothing_left();
}
