//! Terminals, input, and the tiny init.

use skein::agent::runtime::Runtime;
use tokio::io::AsyncWriteExt;

use crate::bed::{Bed, program, within};

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

/// In a container without the image's programs, a dynamic build of the init would not find its loader.
fn init_is_static() -> bool {
    let said = std::process::Command::new("ldd").arg(program()).output();
    said.is_ok_and(|said| !said.status.success())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_init_passes_signals_on_reaps_and_ends_as_its_program() {
    let Some(bed) = Bed::up() else { return };
    if !init_is_static() {
        use std::io::Write;
        let _ = writeln!(
            std::io::stderr(),
            "the init is not tried: the program under test is not static"
        );
        return;
    }
    let runtime = bed.runtime().await;
    let mut config = bed.script(
        "trap 'exit 11' TERM; (sleep 0.1 &) ; cat /proc/1/cmdline; echo ready; while :; do sleep 0.1; done",
    );
    config.init = true;
    runtime.create(&config).await.unwrap();
    runtime.start(config.id).await.unwrap();
    let said = bed.until_said(config.id, "ready");
    assert!(said.contains("docker-init"), "{said}");
    runtime.signal(config.id, 15).await.unwrap();
    assert_eq!(within(runtime.wait(config.id)).await.unwrap().code, 11);
    runtime.remove(config.id).await.unwrap();
    bed.nothing_left();
}
