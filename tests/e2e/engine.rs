//! What a machine runs containers with: found or started, looked for again, and told to the user.

use std::path::PathBuf;

use crate::bed::{Bed, program};
use crate::run::{Said, bounded, run};
use crate::wait::{eventually, secs};

/// The sample image as containerd names it.
const SAMPLE: &str = "docker.io/skein/whoami:latest";

/// The socket of a host's private containerd, from outside.
fn socket(bed: &Bed, host: usize) -> PathBuf {
    bed.folder(host).join("run/containerd/containerd.sock")
}

fn ctr(bed: &Bed, host: usize, args: &[&str]) -> Said {
    let namespace = std::fs::read_to_string(bed.folder(host).join("data/instance"));
    let namespace = namespace.unwrap_or_default();
    run(bounded(secs(20), "ctr")
        .arg("--address")
        .arg(socket(bed, host))
        .args(["--namespace", namespace.trim()])
        .args(args))
}

/// Which containerd `docker info` shows.
fn shown(bed: &Bed, host: usize) -> Result<String, String> {
    let info = bed.get(host, "/info")?;
    match info["ContainerdCommit"]["ID"].as_str() {
        Some(version) if version.starts_with("containerd ") => Ok(version.to_owned()),
        other => Err(format!("it shows {other:?}, {}", info["Warnings"])),
    }
}

/// Whether the program needs no library: only then it makes an image of itself.
fn is_static() -> bool {
    let told = run(bounded(secs(20), "ldd").arg(program()));
    format!("{told}").contains("statically linked")
        || format!("{told}").contains("not a dynamic executable")
}

#[test]
fn a_machine_has_a_containerd_and_the_sample_image_from_its_first_start() {
    let Some(bed) = Bed::hosts(1) else { return };
    eventually(secs(40), "containers can be run", || shown(&bed, 1));
    let told = if is_static() { SAMPLE } else { "" };
    eventually(secs(40), "the sample image is there", || {
        let images = ctr(&bed, 1, &["images", "ls", "-q"]).result()?;
        let there = images.lines().any(|line| line == told) || told.is_empty();
        there.then_some(()).ok_or(images)
    });
    if told.is_empty() {
        assert!(bed.log(1).contains("no sample image"), "{}", bed.log(1));
    }

    // The daemon's death is not containerd's; its orderly end is.
    bed.act("kill", 1);
    ctr(&bed, 1, &["version"]).ok();
    bed.act("start", 1);
    eventually(secs(40), "it is found again", || shown(&bed, 1));
    bed.act("stop", 1);
    eventually(secs(20), "the private containerd ends", || {
        let answer = ctr(&bed, 1, &["version"]).result();
        answer.map_or(Ok(()), |answer| Err(format!("it answers {answer}")))
    });
}

#[test]
fn a_machine_without_a_containerd_is_a_member_and_says_what_to_do() {
    let Some(bed) = Bed::hosts(1) else { return };
    bed.act("stop", 1);
    let args = ["start", "1", "--containerd", "/run/none/containerd.sock"];
    bed.script(&args).ok();
    bed.init(1);
    bed.until_ready(1, &[1]);
    let words = "WARNING: no containers can be run: no containerd answers on /run/none/containerd.sock: start it";
    eventually(secs(20), "it says what to do", || {
        let said = bed.docker(1, &["info"]);
        let all = format!("{}{}", said.out, said.err);
        all.contains(words).then_some(()).ok_or(all)
    });

    let start = "mkdir -p /run/none && setsid containerd --address /run/none/containerd.sock \
                 --root /run/none/root --state /run/none/state >/run/none/log 2>&1 </dev/null &";
    bed.exec(1, &["sh", "-c", start]).ok();
    eventually(secs(60), "it is found", || shown(&bed, 1));
    let said = bed.docker(1, &["info"]);
    assert!(!format!("{}{}", said.out, said.err).contains("no containers can be run"));
}
