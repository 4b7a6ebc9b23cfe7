//! The shipped program as a logger: started as containerd's shim starts it, with a container's output on descriptors 3
//! and 4 and the ready pipe on 5, and read back while it writes.
//!
//! What needs a machine of its own (a disk that is full) is skipped, with the reason, where that cannot be had.

mod shim;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use skein::agent::logs::logger::is_alive;
use skein::agent::logs::{Driver, LogLine, Origin, ReadOptions, log_path, read};
use tokio_util::sync::CancellationToken;

use shim::{Container, child_of, eventually, kill_at_once};

/// No test waits longer for anything.
const DEADLINE: Duration = Duration::from_secs(30);

fn lines(dir: &Path, driver: Driver, options: ReadOptions) -> Vec<LogLine> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime and a log");
    let lines = read(dir, driver, options, CancellationToken::new()).expect("a runtime and a log");
    runtime.block_on(
        lines
            .map(|line: Result<_, _>| line.expect("a line"))
            .collect(),
    )
}

fn all(dir: &Path, driver: Driver) -> Vec<LogLine> {
    lines(dir, driver, ReadOptions::default())
}

fn texts(lines: &[LogLine]) -> Vec<String> {
    let text = |line: &LogLine| String::from_utf8_lossy(&line.line).into_owned();
    lines.iter().map(text).collect()
}

#[test]
fn what_a_container_says_is_written_and_its_last_words_too() {
    for driver in [Driver::JsonFile, Driver::Local] {
        let mut container = Container::start(driver.name(), &[]);
        container.stdout().write_all(b"one\n<two>\n").unwrap();
        eventually(|| all(&container.dir, driver).len() == 2);
        container.stderr().write_all(b"three\n").unwrap();
        eventually(|| all(&container.dir, driver).len() == 3);
        container.stdout().write_all(b"no end").unwrap();
        // What the shim does when the task is deleted, before all is read.
        container.signal(nix::sys::signal::Signal::SIGTERM);
        assert!(container.close().success());
        let lines = all(&container.dir, driver);
        assert_eq!(texts(&lines), ["one\n", "<two>\n", "three\n", "no end"]);
        let streams: Vec<Origin> = lines.iter().map(|line| line.stream).collect();
        use Origin::{Stderr, Stdout};
        assert_eq!(streams, [Stdout, Stdout, Stderr, Stdout]);
        assert_eq!(lines.iter().filter(|line| line.partial).count(), 1);
    }
}

#[test]
fn a_file_is_byte_for_byte_dockers() {
    let mut container = Container::start("json-file", &[("labels", "tier"), ("tag", "{{.Name}}")]);
    container.stdout().write_all(b"<\xff>\n").unwrap();
    container.close();
    let text = fs::read_to_string(log_path(&container.dir, Driver::JsonFile).unwrap()).unwrap();
    let (start, time) = text.split_at(text.find("2").unwrap());
    assert_eq!(
        start,
        r#"{"log":"\u003c\ufffd\u003e\n","stream":"stdout","attrs":{"tag":"web","tier":"front"},"time":""#
    );
    assert!(time.ends_with("Z\"}\n"), "{time}");
}

#[test]
fn long_lines_and_binary_ones_are_kept() {
    for driver in [Driver::JsonFile, Driver::Local] {
        let mut container = Container::start(driver.name(), &[]);
        let mut megabyte = vec![b'x'; 1 << 20];
        megabyte.push(b'\n');
        container.stdout().write_all(&megabyte).unwrap();
        let bytes: Vec<u8> = (0..=255).collect();
        container.stdout().write_all(&bytes).unwrap();
        container.close();
        let lines = all(&container.dir, driver);
        assert_eq!(lines.iter().take_while(|line| line.partial).count(), 64);
        let joined: Vec<u8> = lines.iter().flat_map(|line| line.line.to_vec()).collect();
        assert!(joined.starts_with(&megabyte));
        if driver == Driver::Local {
            assert!(joined.ends_with(&bytes));
        }
    }
}

#[test]
fn a_reader_keeps_up_with_a_writer_that_rotates() {
    for (driver, compress) in [(Driver::JsonFile, "false"), (Driver::Local, "true")] {
        let options = [
            ("max-size", "20k"),
            ("max-file", "10000"),
            ("compress", compress),
        ];
        let mut container = Container::start(driver.name(), &options);
        let dir = container.dir.clone();
        let ended = CancellationToken::new();
        let follow = ReadOptions {
            follow: true,
            ..ReadOptions::default()
        };
        let reading = read(&dir, driver, follow, ended.clone()).unwrap();
        let reader = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let lines = reading.map(Result::unwrap).collect::<Vec<_>>();
            runtime.block_on(async { tokio::time::timeout(DEADLINE, lines).await })
        });
        for number in 0..5000 {
            writeln!(container.stdout(), "line {number}").unwrap();
        }
        // Known to have ended before its logger has read the last words.
        container.stdout().write_all(b"last\n").unwrap();
        container.hang_up();
        ended.cancel();
        let seen = reader.join().unwrap().expect("a follower ends");
        container.close();
        assert_eq!(seen.len(), 5001);
        for (number, line) in seen[..5000].iter().enumerate() {
            assert_eq!(line.line, format!("line {number}\n"));
        }
        let parts = fs::read_dir(log_path(&dir, driver).unwrap().parent().unwrap()).unwrap();
        assert!(parts.count() > 5);
    }
}

#[test]
fn a_log_that_a_crash_has_torn_goes_on() {
    let mut container = Container::start("local", &[]);
    container.stdout().write_all(b"before\n").unwrap();
    assert!(container.close().success());
    let path = log_path(&container.dir, Driver::Local).unwrap();
    let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(b"\0\0\0\x20\x0a\x06std").unwrap();
    container.start_again();
    container.stdout().write_all(b"after\n").unwrap();
    container.close();
    assert_eq!(
        texts(&all(&container.dir, Driver::Local)),
        ["before\n", "after\n"]
    );
}

#[test]
fn a_writer_that_is_killed_is_replaced_and_the_log_says_so() {
    for driver in [Driver::JsonFile, Driver::Local] {
        let mut container = Container::start(driver.name(), &[]);
        container.stdout().write_all(b"before\n").unwrap();
        eventually(|| all(&container.dir, driver).len() == 1);
        let writer = child_of(container.guard()).expect("a guard has a writer");
        kill_at_once(writer);
        container.stdout().write_all(b"meanwhile\nhalf").unwrap();
        eventually(|| all(&container.dir, driver).len() == 3);
        container.stdout().write_all(b" a line\n").unwrap();
        assert!(container.close().success());
        let note =
            "skein: lines may be missing here, the logger was replaced: it was killed by SIGKILL\n";
        assert_eq!(
            texts(&all(&container.dir, driver)),
            ["before\n", note, "meanwhile\n", "half a line\n"]
        );
    }
}

#[test]
fn a_guard_that_is_killed_is_replaced_and_nothing_is_lost() {
    let driver = Driver::JsonFile;
    let mut container = Container::start(driver.name(), &[]);
    container.stdout().write_all(b"before\nhalf").unwrap();
    eventually(|| all(&container.dir, driver).len() == 1);
    let first = child_of(container.guard()).expect("a guard has a writer");
    kill_at_once(container.guard());
    // The writer guards a writer of its own from now on.
    let mut second = None;
    eventually(|| {
        second = child_of(first);
        second.is_some()
    });
    container.stdout().write_all(b" a line\n").unwrap();
    eventually(|| all(&container.dir, driver).len() == 2);
    kill_at_once(second.unwrap());
    container.stdout().write_all(b"after\n").unwrap();
    assert!(!container.close().success(), "the first guard was killed");
    eventually(|| !is_alive(&container.dir));
    let texts = texts(&all(&container.dir, driver));
    assert_eq!(texts[..2], ["before\n", "half a line\n"]);
    assert_eq!(texts[3], "after\n", "{texts:?}");
}

#[test]
fn a_container_that_never_stops_talking_is_never_held_up_by_a_killed_logger() {
    const LINES: u64 = 200_000;
    const KILLS: usize = 20;
    let driver = Driver::JsonFile;
    let mut container = Container::start(driver.name(), &[]);
    let mut out = container.take_stdout();
    let talking = std::thread::spawn(move || {
        (0..LINES).try_for_each(|number| writeln!(out, "line {number} of a container that talks"))
    });
    let mut killed = 0;
    while killed < KILLS && !talking.is_finished() {
        if let Some(writer) = child_of(container.guard()) {
            kill_at_once(writer);
            killed += 1;
            // Another has to be there before it can be killed.
            eventually(|| child_of(container.guard()).is_some_and(|next| next != writer));
        }
    }
    talking
        .join()
        .unwrap()
        .expect("somebody reads at all times");
    assert!(container.close().success());
    let texts = texts(&all(&container.dir, driver));
    let numbers: Vec<u64> = texts
        .iter()
        .filter_map(|text| text.strip_prefix("line ")?.split(' ').next()?.parse().ok())
        .collect();
    assert!(numbers.is_sorted());
    // Each takes down with it at most what it had read and not written.
    let lost = LINES - numbers.len() as u64;
    let most = killed as u64 * (64 << 10) / "line 0 of a container that talks\n".len() as u64;
    assert!(killed > 1 && lost <= most, "{lost} lost in {killed} kills");
    let notes = texts
        .iter()
        .filter(|text| text.starts_with("skein: lines may be missing"));
    assert!(notes.count() > 0);
}

#[test]
fn a_full_disk_drops_lines_counts_them_and_holds_nobody_up() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
        .arg(dir.path())
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no file system can be mounted here, which takes root");
        return;
    }
    let _unmount = shim::Unmount(dir.path().into());
    let ballast = dir.path().join("ballast");
    let mut container = Container::start_in(dir.path(), "json-file", &[]);
    container.stdout().write_all(b"first\n").unwrap();
    eventually(|| all(&container.dir, Driver::JsonFile).len() == 1);
    let _ = fs::write(&ballast, vec![0; 1 << 20]);
    let begun = Instant::now();
    let long = "x".repeat(200);
    for number in 0..5000 {
        writeln!(container.stdout(), "{number} {long}").unwrap();
    }
    assert!(begun.elapsed() < DEADLINE, "the container was held up");
    // All of it was taken off the pipe before there is room again.
    eventually(|| !container.has_unread());
    fs::remove_file(&ballast).unwrap();
    container.stdout().write_all(b"again\n").unwrap();
    container.close();
    let seen = texts(&all(&container.dir, Driver::JsonFile));
    assert_eq!(seen.last().unwrap(), "again\n");
    let notes: Vec<u64> = seen
        .iter()
        .filter_map(|line| {
            line.strip_prefix("skein: ")?
                .split_once(" lines were lost here: No space left")
        })
        .map(|(count, _)| count.parse().unwrap())
        .collect();
    assert!(!notes.is_empty(), "{seen:?}");
    let kept = seen.len() - notes.len();
    assert_eq!(
        kept as u64 + notes.iter().sum::<u64>(),
        5002,
        "each line is there or counted"
    );
}

#[test]
fn nothing_is_kept_by_none_and_the_container_runs_on() {
    let mut container = Container::start("none", &[]);
    for _ in 0..10_000 {
        container
            .stdout()
            .write_all(b"a line that nobody will read\n")
            .unwrap();
    }
    assert!(container.close().success());
    assert_eq!(fs::read_dir(&container.dir).unwrap().count(), 1);
}

#[test]
fn by_hand_it_says_what_it_is() {
    let said = Command::new(env!("CARGO_BIN_EXE_skein"))
        .args(["logger", "/nowhere"])
        .output()
        .unwrap();
    assert_eq!(said.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&said.stderr).contains("containerd's shims"));
}

#[test]
fn a_logger_is_small() {
    let mut container = Container::start("json-file", &[("max-size", "1m"), ("max-file", "3")]);
    // As many as a container of some days has, so that buffers are as large as they get.
    for number in 0..20_000 {
        writeln!(
            container.stdout(),
            "a line of usual length, number {number}"
        )
        .unwrap();
    }
    let private = container.private_kib();
    container.close();
    println!("private memory of a logger: {private} KiB");
    assert!(private < 8 << 10, "{private} KiB");
}
