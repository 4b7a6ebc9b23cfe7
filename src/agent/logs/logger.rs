//! The logger: a process beside each container that takes down what the container says.
//!
//! The container's shim starts it as `skein logger <the container's directory>`, with the reading ends of the
//! container's outputs as descriptors 3 and 4 and, as 5, a pipe that it closes when it is ready. It lives until both
//! outputs have ended and needs neither this daemon nor containerd. It is small, because there are as many of them as
//! containers: one thread, no runtime, buffers of a few dozen kilobytes. Beside it is a [`guard`], so that neither can be
//! killed to the container's harm.
//!
//! It never holds the container up: what cannot be written is dropped and counted. It never fails: a configuration
//! that cannot be used is replaced by `json-file`, and the log says so.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, PipeReader, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use serde::Deserialize;

use super::attributes::{self, Subject};
use super::file::{Encoder, LogFile};
use super::guard::{self, Post};
use super::journald::Journal;
use super::options::{Driver, LogOptions};
use super::pieces::Pieces;
use super::{CONFIG_FILE, JOURNAL, Origin, Record, check, json, local, log_path};
use crate::model::Timestamp;
use crate::model::container::LogConfig;

/// The first argument of the program that makes it a logger.
pub const ROLE: &str = "logger";

/// The same, of a container with input.
pub const FIFO_ROLE: &str = "logger-fifos";

/// Stands beside the configuration of a container with input for as long as there is the container.
pub const CREATED_FILE: &str = "created";

/// Between two looks whether a silent container is still there, in ms.
const LOOK_AGAIN_MS: u16 = 30_000;

/// Exit code when it was not started by a shim.
const NOT_A_SHIM: u8 = 2;

/// What is read at once: as much as a pipe holds.
const CHUNK: usize = 64 << 10;

/// Descriptors, as the shim sets them.
const STDOUT: i32 = 3;
const STDERR: i32 = 4;
const READY: i32 = 5;

/// Is the logger until the container's outputs have ended. `arguments` follow [`ROLE`].
pub fn main(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    be_deaf();
    let outputs = (take(STDOUT), take(STDERR));
    let (Some(dir), (Some(stdout), stderr)) = (arguments.next(), outputs) else {
        let words = b"skein: `skein logger` is for containerd's shims, which hand it a container's output\n";
        let _ = io::stderr().write_all(words);
        return ExitCode::from(NOT_A_SHIM);
    };
    take_down(Path::new(&dir), stdout, stderr, || {
        // The shim's directory of the container would stay busy.
        let _ = nix::unistd::chdir("/");
        let _ = nix::unistd::close(READY);
        Patience::Forever
    });
    ExitCode::SUCCESS
}

/// Is the logger of a container with input, whose outputs are FIFOs beside its configuration, until they have ended.
/// It may be started before the container, and ends as well when [`CREATED_FILE`] is not there any more.
pub fn main_of_fifos(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    be_deaf();
    let Some(dir) = arguments.next().map(PathBuf::from) else {
        return ExitCode::from(NOT_A_SHIM);
    };
    let open = |name: &str| {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_NONBLOCK);
        options.open(dir.join(name)).ok()
    };
    let (Some(stdout), stderr) = (open("stdout"), open("stderr")) else {
        return ExitCode::from(NOT_A_SHIM);
    };
    let created = dir.join(CREATED_FILE);
    take_down(&dir, stdout, stderr, || Patience::While(created));
    ExitCode::SUCCESS
}

/// The shim asks it to end before all is read, and a limit on file sizes is an error of writing like any other.
fn be_deaf() {
    let mut deaf = SigSet::empty();
    for signal in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGXFSZ,
    ] {
        deaf.add(signal);
    }
    let _ = deaf.thread_block();
}

/// How long to wait for an output that is silent.
enum Patience {
    Forever,
    /// As long as this file is there.
    While(PathBuf),
}

/// Logs both outputs until they have ended; `ready` is called when nothing can go wrong any more.
fn take_down(dir: &Path, stdout: File, stderr: Option<File>, ready: impl FnOnce() -> Patience) {
    let alive = File::open(dir);
    let _ = alive.as_ref().map(File::lock_shared);
    let patience = ready();
    let mut streams = vec![Stream::new(Origin::Stdout, stdout)];
    streams.extend(stderr.map(|file| Stream::new(Origin::Stderr, file)));
    while let Post::Writer { guard, replaces } = guard::split() {
        let mut sink = Sink::open(dir);
        if let Some(how) = replaces {
            sink.note(&format!(
                "lines may be missing here, the logger was replaced: {how}"
            ));
            // What this process remembers is older than what the one before it has written.
            streams.iter_mut().for_each(Stream::forget);
        }
        let listeners = (guard.as_ref(), converses(dir));
        let end = copy(&mut streams, &mut sink, &patience, listeners);
        // Nothing is held back and no thread runs, should this process split again.
        sink.close();
        if end == End::OfStreams {
            break;
        }
    }
    drop(alive);
}

/// Whether a logger writes for the container with this directory: it holds a lock on it for as long as it lives.
pub fn is_alive(dir: &Path) -> bool {
    let held = |dir: File| matches!(dir.try_lock(), Err(TryLockError::WouldBlock));
    File::open(dir).is_ok_and(held)
}

/// Takes over a pipe that was handed down under this number; `None` when there is none.
fn take(number: i32) -> Option<File> {
    // Opened anew by its name, which is safe whatever the number stands for, and with a mode of its own.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(format!("/proc/self/fd/{number}"))
        .ok()?;
    let is_pipe = file.metadata().ok()?.file_type().is_fifo();
    let _ = is_pipe.then(|| nix::unistd::close(number));
    is_pipe.then_some(file)
}

/// One output, with what is held back of its last line; `None` once it has ended.
struct Stream {
    file: Option<File>,
    pieces: Pieces,
}

impl Stream {
    const fn new(origin: Origin, file: File) -> Self {
        Self {
            file: Some(file),
            pieces: Pieces::new(origin),
        }
    }

    /// Holds nothing of a line back any more.
    fn forget(&mut self) {
        self.pieces.forget();
    }
}

/// Why nothing more is taken down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Every stream has ended.
    OfStreams,
    /// The guard is gone: another is needed first.
    OfGuard,
}

/// Takes down what comes until there is an end.
fn copy(
    streams: &mut [Stream],
    sink: &mut Sink,
    patience: &Patience,
    (guard, prompt): (Option<&PipeReader>, bool),
) -> End {
    let mut buffer = vec![0; CHUNK];
    loop {
        let ready = match wait(streams, patience, guard) {
            Ok(ready) => ready,
            Err(end) => return end,
        };
        let open = streams.iter_mut().filter(|stream| stream.file.is_some());
        // A FIFO without a writer yet reads like one that has ended: only what is ready is read.
        for (Stream { file, pieces }, _) in open.zip(ready).filter(|(_, ready)| *ready) {
            let Some(open) = file else {
                continue;
            };
            match open.read(&mut buffer) {
                Ok(0) => {
                    *file = None;
                    pieces.finish(now, |record| sink.write(&record));
                }
                Ok(length) => {
                    pieces.feed(&buffer[..length], now, |record| sink.write(&record));
                    if prompt && length < buffer.len() {
                        pieces.flush(now, |record| sink.write(&record));
                    }
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => {}
                    _ => *file = None,
                },
            }
        }
        sink.flush();
    }
}

/// Waits until a stream can be read, and says of each open one whether it can.
fn wait(
    streams: &[Stream],
    patience: &Patience,
    guard: Option<&PipeReader>,
) -> Result<Vec<bool>, End> {
    let open = streams.iter().filter_map(|stream| stream.file.as_ref());
    let mut polled: Vec<PollFd<'_>> = open
        .map(|file| PollFd::new(file.as_fd(), PollFlags::POLLIN))
        .collect();
    let count = polled.len();
    if count == 0 {
        return Err(End::OfStreams);
    }
    polled.extend(guard.map(|guard| PollFd::new(guard.as_fd(), PollFlags::POLLIN)));
    let timeout = match patience {
        Patience::Forever => PollTimeout::NONE,
        Patience::While(_) => PollTimeout::from(LOOK_AGAIN_MS),
    };
    let outcome = poll(&mut polled, timeout);
    let ready = |one: &PollFd<'_>| one.any().unwrap_or(true);
    match (outcome, patience) {
        (Ok(0), Patience::While(file)) if !file.exists() => Err(End::OfStreams),
        // Its end of the pipe is closed by nothing but its own.
        (Ok(_), _) if polled[count..].iter().any(ready) => Err(End::OfGuard),
        (Ok(_), _) => Ok(polled[..count].iter().map(ready).collect()),
        (Err(Errno::EINTR | Errno::EAGAIN | Errno::ENOMEM), _) => Ok(vec![false; count]),
        (Err(_), _) => Err(End::OfStreams),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the logger is a process of its own, and this is its clock"
)]
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Timestamp::from_nanos(since.map_or(0, |since| since.as_nanos() as i128))
}

/// Where records go.
enum Sink {
    File(LogFile),
    Journal(Journal),
    Nowhere,
}

/// The part of a container's configuration that a logger reads. What it does not know it ignores, so that it starts
/// whatever else the configuration grows.
#[derive(Debug, Default, Deserialize)]
struct Config {
    #[serde(flatten)]
    subject: Subject,
    #[serde(default)]
    log: Option<LogConfig>,
}

impl Sink {
    fn open(dir: &Path) -> Self {
        let (config, options, problem) = match configured(dir) {
            Ok((config, options)) => (config, options, None),
            Err(problem) => match check("", &Default::default()) {
                Ok(options) => (Config::default(), options, Some(problem)),
                Err(_) => return Self::Nowhere,
            },
        };
        let mut sink = Self::of(dir, &config.subject, &options);
        if let Some(problem) = problem {
            sink.note(&format!("logged with the defaults of json-file: {problem}"));
        }
        sink
    }

    /// Says something of our own, on the container's behalf.
    fn note(&mut self, words: &str) {
        self.write(&Record {
            at: now(),
            origin: Origin::Stderr,
            text: format!("skein: {words}").as_bytes(),
            part: None,
        });
        self.flush();
    }

    fn of(dir: &Path, subject: &Subject, options: &LogOptions) -> Self {
        let LogOptions {
            driver,
            rotation,
            attached,
        } = options;
        let Some(path) = log_path(dir, *driver) else {
            return match driver {
                Driver::Journald => {
                    Self::Journal(Journal::new(Path::new(JOURNAL), subject, attached))
                }
                Driver::None | Driver::JsonFile | Driver::Local => Self::Nowhere,
            };
        };
        let mut details = attributes::chosen(attached, subject, str::to_string);
        let tag = attached.tag.as_ref();
        if let Some(Ok(tag)) = tag.map(|template| attributes::tag(template, subject)) {
            details.insert("tag".into(), tag);
        }
        let encoder = match driver {
            Driver::Local => Encoder::Local(local::Encoder::new(&details)),
            Driver::JsonFile | Driver::None | Driver::Journald => {
                Encoder::Json(json::Encoder::new(&details))
            }
        };
        Self::File(LogFile::new(path, *rotation, encoder))
    }

    fn write(&mut self, record: &Record<'_>) {
        match self {
            Self::File(file) => file.write(record),
            Self::Journal(journal) => journal.write(record),
            Self::Nowhere => {}
        }
    }

    fn flush(&mut self) {
        match self {
            Self::File(file) => file.flush(),
            Self::Journal(_) | Self::Nowhere => {}
        }
    }

    fn close(self) {
        match self {
            Self::File(file) => file.close(),
            Self::Journal(_) | Self::Nowhere => {}
        }
    }
}

/// Whether somebody may converse with the container, who sees what it says before its lines have ended.
fn converses(dir: &Path) -> bool {
    let process = configured(dir).map(|(config, _)| config.subject.process);
    process.is_ok_and(|process| process.tty || process.stdin)
}

/// What the container's directory says about its log, or what is wrong with it, in words.
fn configured(dir: &Path) -> Result<(Config, LogOptions), String> {
    let path = dir.join(CONFIG_FILE);
    let text = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let config: Config =
        serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let log = config.log.clone().unwrap_or_default();
    let options = check(&log.driver, &log.options).map_err(|error| error.to_string())?;
    Ok((config, options))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_read_as_far_as_it_concerns_logs() {
        let dir = tempfile::tempdir().unwrap();
        let json = r#"{"id":"ab","name":"web","image":{"name":"nginx","manifest":"sha256:cd"},
            "labels":{"a":"1"},"process":{"args":["x"],"env":["A=b"],"tty":false},"shm_size":1,
            "log":{"driver":"local","options":{"max-size":"1m"}},"later":{"x":[1]}}"#;
        fs::write(dir.path().join(CONFIG_FILE), json).unwrap();
        let (config, options) = configured(dir.path()).unwrap();
        assert_eq!(options.driver, Driver::Local);
        assert_eq!(options.rotation.max_size, Some(1_000_000));
        assert_eq!(config.subject.process.env, ["A=b"]);
        assert_eq!(config.subject.image.manifest, "sha256:cd");
    }

    #[test]
    fn a_configuration_that_is_wrong_is_told_in_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let log = log_path(dir.path(), Driver::JsonFile).unwrap();
        for (json, words) in [
            (None, "No such file"),
            (Some("{"), "EOF while parsing"),
            (
                Some(r#"{"log":{"driver":"syslog","options":{}}}"#),
                "no log driver named 'syslog'",
            ),
        ] {
            if let Some(json) = json {
                fs::write(dir.path().join(CONFIG_FILE), json).unwrap();
            }
            Sink::open(dir.path()).close();
            let text = fs::read_to_string(&log).unwrap();
            let last = text.lines().last().unwrap();
            assert!(
                last.contains("logged with the defaults of json-file"),
                "{last}"
            );
            assert!(last.contains(words), "{last}");
        }
    }
}
