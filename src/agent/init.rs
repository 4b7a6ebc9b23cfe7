//! The tiny init of containers that ask for one: starts the program, passes signals on, reaps what is left to it, and
//! ends as the program ends.
//!
//! Called by `main` when the program's name is `docker-init`. It has no runtime and no threads, keeps nothing, and
//! never outlives its program.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use nix::errno::Errno;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, kill, signal, sigprocmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, tcsetpgrp};

/// Signals that are about this process itself, or that the kernel raises for a fault of it.
const NOT_PASSED_ON: [Signal; 8] = [
    Signal::SIGCHLD,
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGABRT,
    Signal::SIGTRAP,
    Signal::SIGSYS,
];

/// Runs the program after `--`, and ends with its exit code: 127 when there is none, 126 when it cannot be run, 128
/// and the signal's number when one ended it.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let mut args = args.skip_while(|arg| arg == "--");
    let Some(program) = args.next() else {
        return ExitCode::from(127);
    };
    match run(&program, args) {
        Ok(code) => ExitCode::from(code),
        Err(error) if error.kind() == io::ErrorKind::NotFound => ExitCode::from(127),
        Err(_) => ExitCode::from(126),
    }
}

fn run(program: &OsString, args: impl Iterator<Item = OsString>) -> io::Result<u8> {
    // Held back and fetched one by one; the program starts with a clean slate.
    let mut ours = SigSet::all();
    for fault in NOT_PASSED_ON
        .iter()
        .filter(|fault| **fault != Signal::SIGCHLD)
    {
        ours.remove(*fault);
    }
    let mut before = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&ours), Some(&mut before))?;
    let terminal = io::stdin().is_terminal();
    if terminal {
        // Handing the terminal on would stop us otherwise.
        handle(Signal::SIGTTOU, SigHandler::SigIgn)?;
        handle(Signal::SIGTTIN, SigHandler::SigIgn)?;
    }
    let mut command = Command::new(program);
    command.args(args).process_group(0);
    clean(&mut command, before);
    let child = command.spawn()?;
    let child = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
    if terminal {
        // Fails when the program has ended already, which is seen below.
        let _ = tcsetpgrp(io::stdin(), child);
    }
    loop {
        let signal = match ours.wait() {
            Ok(signal) => signal,
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        };
        if !NOT_PASSED_ON.contains(&signal) {
            // A program that has ended is reaped below.
            let _ = kill(child, signal);
        }
        if let Some(code) = reap(child) {
            return Ok(code);
        }
    }
}

/// Reaps all that has ended; the exit code when the program is among it.
fn reap(child: Pid) -> Option<u8> {
    let mut code = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) if pid == child => {
                code = u8::try_from(status & 0xff).ok();
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => {
                code = u8::try_from(128 + signal as i32).ok();
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return code,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return code,
        }
    }
}

/// Gives the program the signals as this process found them: they are inherited otherwise, held back as they are here.
#[expect(
    unsafe_code,
    reason = "what a child does before its program is unsafe to say"
)]
fn clean(command: &mut Command, before: SigSet) {
    let reset = move || {
        handle(Signal::SIGTTOU, SigHandler::SigDfl)?;
        handle(Signal::SIGTTIN, SigHandler::SigDfl)?;
        Ok(sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?)
    };
    // SAFETY: three system calls, which are safe between fork and exec; nothing is allocated.
    unsafe { command.pre_exec(reset) };
}

#[expect(
    unsafe_code,
    reason = "to ignore a signal is to set its handler, which nix cannot know to be sound"
)]
fn handle(which: Signal, how: SigHandler) -> io::Result<()> {
    // SAFETY: no handler of ours is installed; by one thread, before any other exists.
    unsafe { signal(which, how) }?;
    Ok(())
}
