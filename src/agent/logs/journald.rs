//! The system's journal as a driver: its native protocol to write, `journalctl` to read.
//!
//! A message is a datagram of fields, named as Docker names them. A journal that does not take messages is waited for
//! once, briefly; from then on what it does not take is dropped and counted until it takes some again.

pub(super) mod reader;

use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};

use super::attributes::{self, Subject};
use super::options::Attached;
use super::stamp::Stamp;
use super::{Origin, Record};

/// How long the journal may take for a message before messages are dropped.
const PATIENCE: Duration = Duration::from_secs(2);

/// Docker's tag when none is asked for.
const DEFAULT_TAG: &str = "{{.ID}}";

/// A container's way into the journal.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    /// `None` when the machine gives no socket.
    socket: Option<UnixDatagram>,
    /// Fields that are the same for each message.
    fixed: Vec<u8>,
    message: Vec<u8>,
    stamp: Stamp,
    lost: u64,
    reason: String,
}

impl Journal {
    /// For the container that is `subject`, to the journal that listens at `path`.
    pub(super) fn new(path: &Path, subject: &Subject, attached: &Attached) -> Self {
        let tag = attached.tag.as_deref().unwrap_or(DEFAULT_TAG);
        let tag = attributes::tag(tag, subject).unwrap_or_default();
        let short: String = subject.id.chars().take(12).collect();
        let mut fixed = Vec::new();
        for (name, value) in [
            ("CONTAINER_ID", &short),
            ("CONTAINER_ID_FULL", &subject.id),
            ("CONTAINER_NAME", &subject.name),
            ("CONTAINER_TAG", &tag),
            ("IMAGE_NAME", &subject.image.name),
            ("SYSLOG_IDENTIFIER", &tag),
        ] {
            field(&mut fixed, name, value.as_bytes());
        }
        for (name, value) in attributes::chosen(attached, subject, field_name) {
            if !name.is_empty() {
                field(&mut fixed, &name, value.as_bytes());
            }
        }
        let socket = UnixDatagram::unbound().ok();
        let socket = socket.filter(|socket| socket.set_write_timeout(Some(PATIENCE)).is_ok());
        Self {
            path: path.into(),
            socket,
            fixed,
            message: Vec::new(),
            stamp: Stamp::default(),
            lost: 0,
            reason: String::new(),
        }
    }

    /// Sends a record.
    pub(super) fn write(&mut self, record: &Record<'_>) {
        if self.lost > 0 {
            let note = format!("skein: {} lines were lost here: {}", self.lost, self.reason);
            let note = Record {
                origin: Origin::Stderr,
                text: note.as_bytes(),
                part: None,
                ..*record
            };
            if !self.send(&note) {
                self.lost += 1;
                return;
            }
            self.lost = 0;
        }
        if !self.send(record) {
            self.lost += 1;
        }
    }

    fn send(&mut self, record: &Record<'_>) -> bool {
        self.compose(record);
        let Some(socket) = &self.socket else {
            self.reason = "no socket could be made".into();
            return false;
        };
        // Once a line was dropped the others do not wait.
        let sent = socket
            .set_nonblocking(self.lost > 0)
            .and_then(|()| send(socket, &self.path, &self.message));
        match sent {
            Ok(()) => true,
            Err(error) => {
                self.reason = format!("journald: {error}");
                false
            }
        }
    }

    fn compose(&mut self, record: &Record<'_>) {
        let message = &mut self.message;
        message.clear();
        field(message, "MESSAGE", record.text);
        let priority: &[u8] = match record.origin {
            Origin::Stdout => b"6",
            Origin::Stderr => b"3",
        };
        field(message, "PRIORITY", priority);
        message.extend_from_slice(b"SYSLOG_TIMESTAMP=");
        self.stamp.write(record.at, message);
        message.push(b'\n');
        if let Some(part) = record.part {
            let last = if part.last { "true" } else { "false" };
            if !part.last {
                field(message, "CONTAINER_PARTIAL_MESSAGE", b"true");
            }
            field(
                message,
                "CONTAINER_PARTIAL_ID",
                format!("{:016x}", part.id).as_bytes(),
            );
            field(
                message,
                "CONTAINER_PARTIAL_ORDINAL",
                part.ordinal.to_string().as_bytes(),
            );
            field(message, "CONTAINER_PARTIAL_LAST", last.as_bytes());
        }
        message.extend_from_slice(&self.fixed);
    }
}

/// Appends a field: in text when its value is one line, else with its length.
fn field(message: &mut Vec<u8>, name: &str, value: &[u8]) {
    message.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        message.push(b'\n');
        message.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        message.push(b'=');
    }
    message.extend_from_slice(value);
    message.push(b'\n');
}

/// `name` as the journal accepts it: capitals, digits and underscores, no underscore first; at most 64 of them.
fn field_name(name: &str) -> String {
    let fit = name.chars().map(|c| match c.to_ascii_uppercase() {
        c @ ('A'..='Z' | '0'..='9') => c,
        _ => '_',
    });
    fit.skip_while(|c| *c == '_').take(64).collect()
}

/// Sends one datagram, or, when it is too large for one, a sealed file that holds it.
fn send(socket: &UnixDatagram, path: &Path, message: &[u8]) -> io::Result<()> {
    match socket.send_to(message, path) {
        Ok(_) => return Ok(()),
        Err(error) if error.raw_os_error() == Some(Errno::EMSGSIZE as i32) => {}
        Err(error) => return Err(error),
    }
    let file = memfd_create(
        "skein-log",
        MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_CLOEXEC,
    )?;
    let mut file = std::fs::File::from(file);
    file.write_all(message)?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::all()))?;
    let fds = [file.as_raw_fd()];
    let address = UnixAddr::new(path)?;
    let rights = [ControlMessage::ScmRights(&fds)];
    sendmsg(
        socket.as_raw_fd(),
        &[],
        &rights,
        MsgFlags::MSG_NOSIGNAL,
        Some(&address),
    )?;
    Ok(())
}

#[cfg(test)]
mod tests;
