//! What goes wrong below us: disks, files, ports, copies. One clear complaint each, and nothing is lost.

use std::path::{Path, PathBuf};

use crate::bed::{Bed, program};
use crate::wait::{eventually, secs};
use crate::writes::Writes;

/// The largest file of a host's data, which is its replica of the store.
#[track_caller]
fn store_file(bed: &Bed, host: usize) -> PathBuf {
    let mut files = Vec::new();
    collect(&bed.folder(host).join("data/swarm"), &mut files);
    files.sort();
    let (_, path) = files.pop().expect("a member has files");
    path
}

fn collect(folder: &Path, files: &mut Vec<(u64, PathBuf)>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if let Ok(metadata) = entry.metadata() {
            files.push((metadata.len(), path));
        }
    }
}

/// Starts a daemon that has good reason to complain. Returns its complaint, wherever it is said: at start, in
/// `docker info`, or `None` when it is at work.
#[track_caller]
fn complaint(bed: &Bed, host: usize) -> Option<String> {
    let started = bed.script(&["start", &host.to_string()]);
    if !started.succeeded() {
        return Some(started.refused());
    }
    eventually(secs(20), "it works or says why not", || {
        let swarm = bed.get(host, "/info")?["Swarm"].take();
        let error = swarm["Error"].as_str().unwrap_or_default().to_string();
        match swarm["LocalNodeState"].as_str() {
            Some("active") => Ok(None),
            _ if !error.is_empty() => Ok(Some(error)),
            _ => Err(swarm.to_string()),
        }
    })
}

fn never_panics(bed: &Bed, hosts: &[usize]) {
    for host in hosts {
        let log = bed.log(*host);
        assert!(!log.contains("panicked"), "host {host}:\n{log}");
    }
}

#[test]
fn a_truncated_store_is_refused_by_name() {
    let Some(bed) = Bed::up(3) else { return };
    bed.until_managers(1, &[1, 2, 3]);
    let mut writes = Writes::to_node_of(&bed, 1);
    writes.until_accepted(&bed, &[1], secs(10));
    bed.act("stop", 3);
    let path = store_file(&bed, 3);
    let whole = std::fs::read(&path).expect("the store can be read");
    std::fs::write(&path, &whole[..whole.len() / 3]).expect("the store can be written");

    let said = complaint(&bed, 3).expect("a third of a store is no store");
    assert!(
        said.contains(&*path.to_string_lossy()),
        "the file is named: {said}"
    );
    writes.until_accepted(&bed, &[1, 2], secs(10));
    if bed.ask(3, "GET", "/_ping", None).is_ok() {
        bed.act("stop", 3);
    }

    std::fs::write(&path, &whole).expect("the store can be written");
    bed.act("start", 3);
    bed.until_ready(1, &[1, 2, 3]);
    writes.check_on(&bed, 3);
    never_panics(&bed, &[1, 2, 3]);
}

#[test]
fn flipped_bits_are_found_or_do_no_harm() {
    let Some(bed) = Bed::up(3) else { return };
    bed.until_managers(1, &[1, 2, 3]);
    let mut writes = Writes::to_node_of(&bed, 1);
    for _ in 0..5 {
        writes.until_accepted(&bed, &[1], secs(10));
    }
    bed.act("stop", 3);
    let path = store_file(&bed, 3);
    let whole = std::fs::read(&path).expect("the store can be read");
    for part in 1..8 {
        let mut bytes = whole.clone();
        let at = bytes.len() * part / 8;
        bytes
            .iter_mut()
            .skip(at)
            .take(64)
            .for_each(|byte| *byte ^= 0x55);
        std::fs::write(&path, &bytes).expect("the store can be written");
        match complaint(&bed, 3) {
            Some(said) => assert!(
                said.contains(&*path.to_string_lossy()),
                "the file is named: {said}"
            ),
            None => writes.check_on(&bed, 3),
        }
        if bed.ask(3, "GET", "/_ping", None).is_ok() {
            bed.act("stop", 3);
        }
    }
    writes.until_accepted(&bed, &[1, 2], secs(10));
    writes.check_on(&bed, 1);
    never_panics(&bed, &[1, 2, 3]);
}

#[test]
fn acknowledged_writes_survive_a_kill_in_their_midst() {
    let Some(bed) = Bed::hosts(1) else { return };
    bed.init(1);
    let mut writes = Writes::to_node_of(&bed, 1);
    for _ in 0..3 {
        std::thread::scope(|scope| {
            let busy = scope.spawn(|| {
                let mut accepted = 0;
                while writes.try_on(&bed, 1).is_ok() {
                    accepted += 1;
                }
                accepted
            });
            // The kill takes about as long as a few writes.
            bed.act("kill", 1);
            busy.join().expect("the writer ends when its daemon does");
        });
        bed.act("start", 1);
        writes.until_accepted(&bed, &[1], secs(10));
        writes.check_on(&bed, 1);
    }
}

#[test]
fn a_full_disk_refuses_writes_and_loses_none() {
    let Some(bed) = Bed::hosts(1) else { return };
    bed.act("stop", 1);
    let data = bed.folder(1).join("data").display().to_string();
    bed.exec(
        1,
        &[
            "mount",
            "-t",
            "tmpfs",
            "-o",
            "size=16m,mode=700",
            "tmpfs",
            &data,
        ],
    )
    .ok();
    bed.act("start", 1);
    bed.init(1);
    let mut writes = Writes::to_node_of(&bed, 1);
    writes.until_accepted(&bed, &[1], secs(10));

    let filler = format!("{data}/filler");
    bed.exec(1, &["sh", "-c", "cat /dev/zero >\"$0\"", &filler])
        .refused_with("No space left");
    // Files have room set aside; large writes use it up soon.
    let mut size = 60_000;
    let refusal = eventually(secs(60), "a write is refused", || {
        size += 1;
        match writes.try_large_on(&bed, 1, size) {
            Ok(()) => Err("there is still room".into()),
            Err(refusal) => Ok(refusal),
        }
    });
    let told = format!("{refusal}\n{}", bed.log(1)).to_lowercase();
    assert!(
        told.contains("no space left") || told.contains("disk is full"),
        "{told}"
    );

    bed.exec(1, &["rm", &filler]).ok();
    if bed.ask(1, "GET", "/_ping", None).is_err() {
        bed.act("start", 1);
    }
    writes.until_accepted(&bed, &[1], secs(30));
    writes.check_on(&bed, 1);
    never_panics(&bed, &[1]);
}

#[test]
fn garbage_on_the_port_does_no_harm() {
    let Some(bed) = Bed::up(2) else { return };
    let shower =
        "for i in $(seq 300); do head -c $((i * 4)) /dev/urandom >/dev/udp/10.99.0.11/2377; done";
    bed.exec(2, &["bash", "-c", shower]).ok();
    let zeros = "for i in $(seq 300); do head -c 1200 /dev/zero >/dev/udp/10.99.0.11/2377; done";
    bed.exec(2, &["bash", "-c", zeros]).ok();
    bed.until_ready(1, &[1, 2]);
    Writes::to_node_of(&bed, 1).until_accepted(&bed, &[1], secs(5));
    never_panics(&bed, &[1, 2]);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let Some(bed) = Bed::hosts(1) else { return };
    bed.init(1);
    let folder = bed.folder(1);
    let (data, run) = (folder.join("data2"), folder.join("run2"));
    let (data, run) = (data.display().to_string(), run.display().to_string());
    let program = program().display().to_string();
    let background = "\"$0\" \"$@\" </dev/null >/dev/null 2>&1 &";
    let daemon = [
        "bash",
        "-c",
        background,
        &program,
        "daemon",
        "--data-root",
        &data,
        "--run-dir",
        &run,
    ];
    bed.exec(1, &daemon).ok();
    let socket = Path::new(&run).join("skein.sock");
    eventually(secs(10), "the second daemon listens", || {
        socket
            .exists()
            .then_some(())
            .ok_or_else(|| "no socket".to_string())
    });
    let host = format!("unix://{}", socket.display());
    let said = bed.skein(1, &["--host", &host, "init"]).refused();
    assert!(
        said.contains("2377") && said.contains("--listen-addr"),
        "{said}"
    );
    bed.skein(
        1,
        &["--host", &host, "init", "--listen-addr", "0.0.0.0:2378"],
    )
    .ok();
}

#[test]
fn a_copied_data_directory_is_noticed() {
    let Some(bed) = Bed::up(3) else { return };
    bed.until_managers(1, &[1, 2, 3]);
    let mut writes = Writes::to_node_of(&bed, 1);
    bed.add_hosts(4);
    bed.script(&["stop", "3", "4"]).ok();
    let (original, copy) = (bed.folder(3).join("data"), bed.folder(4).join("data"));
    std::fs::remove_dir_all(&copy).expect("the copy's place can be cleared");
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .args([&original, &copy])
        .status();
    assert!(copied.is_ok_and(|status| status.success()));
    bed.act("start", 3);
    bed.until_ready(1, &[1, 2, 3]);
    bed.script(&["start", "4"]);

    eventually(
        secs(30),
        "someone says that two machines are one node",
        || {
            let logs: Vec<String> = (1..=4).map(|host| bed.log(host)).collect();
            let said = logs.iter().any(|log| {
                log.contains("same identity") || log.contains("data directory was copied")
            });
            said.then_some(())
                .ok_or_else(|| "no log says so".to_string())
        },
    );
    writes.until_accepted(&bed, &[1, 2], secs(10));
    assert_eq!(bed.nodes(1).expect("the list can be read").len(), 3);
    never_panics(&bed, &[1, 2, 3, 4]);
}
