//! The smallest logger: takes what a container writes until it ends, so that the container never stands still.
//!
//! Started by containerd's shim with the container's directory as argument: file descriptors 3 and 4 are the
//! container's output and error output, 5 tells the shim that we are ready. For containers with input it is started by
//! [`super::containerd`] on FIFOs instead. It must never fail the container, and ignores the shim's request to end: it
//! ends when there is nothing left to read.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::unistd::close;

/// The descriptor that the shim waits for.
const READY: i32 = 5;

/// Between two looks whether a container that writes nothing is still there, milliseconds.
const LOOK_AGAIN: u16 = 30_000;

/// `skein logger <container's directory>`, under a shim.
pub fn main(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(folder) = args.next() else {
        return ExitCode::FAILURE;
    };
    let streams = (File::open("/proc/self/fd/3"), File::open("/proc/self/fd/4"));
    let drained = match streams {
        (Ok(out), Ok(err)) => {
            // It may have gone: then nobody waits.
            let _ = close(READY);
            drain(Path::new(&folder), out, err)
        }
        (Err(error), _) | (_, Err(error)) => Err(error),
    };
    code(drained)
}

/// `skein logger-fifos <container's directory>`, beside a container with input.
pub fn main_of_fifos(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(folder) = args.next() else {
        return ExitCode::FAILURE;
    };
    let folder = PathBuf::from(folder);
    let open = |name: &str| open_fifo(&folder.join(name));
    let streams = (open("stdout"), open("stderr"));
    code(match streams {
        (Ok(out), Ok(err)) => drain(&folder, out, err),
        (Err(error), _) | (_, Err(error)) => Err(error),
    })
}

fn code(drained: io::Result<()>) -> ExitCode {
    match drained {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// A FIFO, opened before anybody writes to it.
fn open_fifo(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    options.read(true).custom_flags(nix::libc::O_NONBLOCK);
    options.open(path)
}

fn drain(folder: &Path, out: File, err: File) -> io::Result<()> {
    let mut term = SigSet::empty();
    term.add(Signal::SIGTERM);
    term.add(Signal::SIGINT);
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&term), None)?;
    let log = folder.join("output.log");
    let other = log.clone();
    let aside = thread::spawn(move || copy(err, &other));
    copy(out, &log);
    // A panic there has been said by the thread itself.
    let _ = aside.join();
    Ok(())
}

/// Reads a stream to its end, whatever happens to the log.
fn copy(mut stream: File, log: &Path) {
    // Of a FIFO: wait for the first writer, then read like a pipe.
    let timeout = PollTimeout::from(LOOK_AGAIN);
    let mut wait = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
    let nonblocking = fcntl(&stream, FcntlArg::F_GETFL)
        .is_ok_and(|flags| OFlag::from_bits_truncate(flags).contains(OFlag::O_NONBLOCK));
    if nonblocking {
        // Silence is no end, unless the container has gone or never came to be.
        while !matches!(poll(&mut wait, timeout), Ok(1..)) {
            if !log.with_file_name("created").exists() {
                return;
            }
        }
        if fcntl(&stream, FcntlArg::F_SETFL(OFlag::empty())).is_err() {
            return;
        }
    }
    let mut file = File::options().append(true).create(true).open(log).ok();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => {
                if let Some(file) = &mut file {
                    // A full disk must not hold the container up.
                    let _ = file.write_all(&buffer[..read]);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
