//! A container's output and its logger, put together as containerd's shim does it.

use std::fs::{self, File};
use std::io::{PipeReader, PipeWriter, Read as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(30);

/// Waits until it is so.
#[track_caller]
pub(crate) fn eventually(mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < until, "not within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Unmounts when it goes.
pub(crate) struct Unmount(pub(crate) PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// A container that is only its output.
pub(crate) struct Container {
    /// Its directory.
    pub(crate) dir: PathBuf,
    logger: Child,
    out: Option<PipeWriter>,
    err: Option<PipeWriter>,
    _temporary: Option<TempDir>,
}

impl Container {
    pub(crate) fn start(driver: &str, options: &[(&str, &str)]) -> Self {
        let temporary = tempfile::tempdir().expect("what the test itself needs works");
        let mut container = Self::start_in(temporary.path(), driver, options);
        container._temporary = Some(temporary);
        container
    }

    pub(crate) fn start_in(parent: &Path, driver: &str, options: &[(&str, &str)]) -> Self {
        let id = "0123456789abcdef".repeat(4);
        let dir = parent.join(&id);
        fs::create_dir(&dir).expect("what the test itself needs works");
        let options: Vec<String> = options
            .iter()
            .map(|(k, v)| format!("{k:?}:{v:?}"))
            .collect();
        let config = format!(
            r#"{{"id":"{id}","name":"web","labels":{{"tier":"front"}},"log":{{"driver":"{driver}","options":{{{}}}}}}}"#,
            options.join(",")
        );
        fs::write(dir.join("config.json"), config).expect("what the test itself needs works");
        let (logger, out, err) = start_logger(&dir);
        Self {
            dir,
            logger,
            out: Some(out),
            err: Some(err),
            _temporary: None,
        }
    }

    /// The container is started again, with a logger of its own.
    pub(crate) fn start_again(&mut self) {
        let (logger, out, err) = start_logger(&self.dir);
        (self.logger, self.out, self.err) = (logger, Some(out), Some(err));
    }

    pub(crate) fn stdout(&mut self) -> &mut PipeWriter {
        self.out.as_mut().expect("what the test itself needs works")
    }

    /// Its standard output, for somebody else to write to.
    pub(crate) fn take_stdout(&mut self) -> PipeWriter {
        self.out.take().expect("what the test itself needs works")
    }

    pub(crate) fn stderr(&mut self) -> &mut PipeWriter {
        self.err.as_mut().expect("what the test itself needs works")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.guard()), signal).expect("what the test itself needs works");
    }

    /// The process that was started as its logger.
    pub(crate) fn guard(&self) -> i32 {
        self.logger.id() as i32
    }

    /// The container ends; its logger may still be reading.
    pub(crate) fn hang_up(&mut self) {
        (self.out, self.err) = (None, None);
    }

    /// The container ends: how its logger did.
    pub(crate) fn close(&mut self) -> ExitStatus {
        self.hang_up();
        let mut ended = None;
        eventually(|| {
            ended = self
                .logger
                .try_wait()
                .expect("what the test itself needs works");
            ended.is_some()
        });
        ended.expect("what the test itself needs works")
    }

    /// Whether the logger has something to read.
    pub(crate) fn has_unread(&self) -> bool {
        let fd = self
            .out
            .as_ref()
            .expect("what the test itself needs works")
            .as_raw_fd();
        let twin =
            File::open(format!("/proc/self/fd/{fd}")).expect("what the test itself needs works");
        let mut polled = [nix::poll::PollFd::new(
            std::os::fd::AsFd::as_fd(&twin),
            nix::poll::PollFlags::POLLIN,
        )];
        nix::poll::poll(&mut polled, nix::poll::PollTimeout::ZERO)
            .expect("what the test itself needs works")
            > 0
    }

    /// Memory that is the logger's alone, in both of its processes, KiB: what they wrote.
    /// Not the pages of the program, which are shared with all the others, though they count as dirty for a while after
    /// it was built.
    pub(crate) fn private_kib(&self) -> u64 {
        let both = [Some(self.guard()), child_of(self.guard())];
        both.into_iter().flatten().map(Self::private_kib_of).sum()
    }

    fn private_kib_of(pid: i32) -> u64 {
        let rollup = format!("/proc/{pid}/smaps_rollup");
        let rollup = fs::read_to_string(rollup).expect("what the test itself needs works");
        let private = rollup.lines().filter(|line| line.starts_with("Pss_Anon:"));
        let kib = private.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        kib.sum()
    }
}

/// The one child of a process, if it has one that runs.
pub(crate) fn child_of(pid: i32) -> Option<i32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    let children = children.split_whitespace().map(|pid| pid.parse::<i32>());
    children.flatten().next()
}

/// Kills a process, whatever it is doing.
pub(crate) fn kill_at_once(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("what the test itself needs works");
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.logger.kill();
        let _ = self.logger.wait();
    }
}

/// Starts a logger for the container with this directory and waits until it is ready.
fn start_logger(dir: &Path) -> (Child, PipeWriter, PipeWriter) {
    let (out, out_in) = std::io::pipe().expect("what the test itself needs works");
    let (err, err_in) = std::io::pipe().expect("what the test itself needs works");
    let (mut ready, ready_in) = std::io::pipe().expect("what the test itself needs works");
    let logger = spawn(dir, out, err, ready_in);
    let mut nothing = Vec::new();
    ready
        .read_to_end(&mut nothing)
        .expect("what the test itself needs works");
    assert!(nothing.is_empty());
    (logger, out_in, err_in)
}

/// The shim gives descriptors 3, 4 and 5; the shell moves there what it is given as its own three, and is replaced by the
/// program.
fn spawn(dir: &Path, out: PipeReader, err: PipeReader, ready: PipeWriter) -> Child {
    Command::new("/bin/sh")
        .arg("-c")
        .arg(r#"exec 3<&0 4<&1 5>&2 0</dev/null 1>/dev/null 2>/dev/null; exec "$0" logger "$1""#)
        .arg(env!("CARGO_BIN_EXE_skein"))
        .arg(dir)
        .env_clear()
        .stdin(out)
        .stdout(err)
        .stderr(ready)
        .current_dir("/")
        .spawn()
        .expect("what the test itself needs works")
}
