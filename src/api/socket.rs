//! The unix socket: created with its mode and group before anyone can connect, never taken from a living daemon.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, socket};
use nix::unistd::{Gid, chown};
use tokio::net::UnixListener;

/// The group whose members may use the socket, when the machine has it.
pub const GROUP: &str = "skein";

/// Where the machine keeps its groups. Read directly: a static binary cannot load what the C library would ask
/// for them, and crashes when it tries.
const GROUPS: &str = "/etc/group";

/// Mode of the socket: its owner and its group.
const MODE: u32 = 0o660;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// Longest path that a unix socket address takes, in bytes.
const PATH_MAX: usize = 107;

/// Why the socket cannot be had. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A daemon answers there.
    #[error("another daemon answers at {}: stop it first, or choose another --run-dir", .0.display())]
    InUse(PathBuf),
    /// Something that is no socket.
    #[error("{} exists and is not a socket: move it away, or choose another --run-dir", .0.display())]
    NotASocket(PathBuf),
    /// Beyond what the kernel takes.
    #[error("{} is longer than the {PATH_MAX} bytes that a socket's path may have: choose another --run-dir", .0.display())]
    PathTooLong(PathBuf),
    /// A step failed.
    #[error("cannot {step} {}", .path.display())]
    Io {
        /// What was tried.
        step: &'static str,
        /// On which file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// Listens at `path`, mode 0660, group [`GROUP`] if there is one. Creates the directory, replaces a socket that
/// nobody listens on. Must be called within a tokio runtime.
pub fn bind(path: &Path) -> Result<UnixListener, BindError> {
    if path.as_os_str().len() > PATH_MAX {
        return Err(BindError::PathTooLong(path.to_owned()));
    }
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(failed("create", dir))?;
    }
    if is_stale(path)? {
        fs::remove_file(path).map_err(failed("replace", path))?;
    }
    let bound = bound(path)
        .map_err(io::Error::from)
        .map_err(failed("listen at", path))?;
    match own(path).and_then(|()| listening(bound).map_err(failed("listen at", path))) {
        Ok(listener) => Ok(listener),
        Err(error) => {
            let _ = fs::remove_file(path);
            Err(error)
        }
    }
}

/// A socket at `path` that does not listen, so that nobody is let in before it has its owner and mode.
fn bound(path: &Path) -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    nix::sys::socket::bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(socket)
}

fn listening(socket: OwnedFd) -> io::Result<UnixListener> {
    nix::sys::socket::listen(&socket, Backlog::new(BACKLOG)?)?;
    UnixListener::from_std(StdListener::from(socket))
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BindError {
    let path = path.to_owned();
    move |source| BindError::Io { step, path, source }
}

/// Removes the socket of a daemon that stops. A missing one is no error.
pub fn unlink(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "the socket cannot be removed");
    }
}

/// Whether there is a socket that nobody listens on; false when there is nothing.
fn is_stale(path: &Path) -> Result<bool, BindError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed("look at", path)(error)),
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(BindError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match StdStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        // A full backlog: somebody listens, if slowly.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(BindError::InUse(path.to_owned()))
        }
        Err(error) => Err(failed("try", path)(error)),
        Ok(_) => Err(BindError::InUse(path.to_owned())),
    }
}

fn own(path: &Path) -> Result<(), BindError> {
    let groups = fs::read_to_string(GROUPS).unwrap_or_default();
    if let Some(group) = group_in(&groups, GROUP)
        && let Err(error) = chown(path, None, Some(group))
    {
        tracing::warn!(group = GROUP, %error, "the socket cannot be given to its group");
    }
    fs::set_permissions(path, fs::Permissions::from_mode(MODE))
        .map_err(failed("set the mode of", path))
}

/// The number of the group `name` in a file of groups: lines of name, password, number and members.
fn group_in(groups: &str, name: &str) -> Option<Gid> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let number = (fields.next()? == name).then(|| fields.nth(1))??;
        number.parse().ok().map(Gid::from_raw)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_by_its_whole_name() {
        let groups = "root:x:0:\nskeins:x:7:\n\nskein\nskein:x:\nskein:x:990:ann,ben\n";
        assert_eq!(group_in(groups, "skein"), Some(Gid::from_raw(990)));
        assert_eq!(group_in(groups, "root"), Some(Gid::from_raw(0)));
        assert_eq!(group_in(groups, "docker"), None);
        assert_eq!(group_in("skein:x:many:\n", "skein"), None);
    }

    #[tokio::test]
    async fn a_socket_is_private_to_owner_and_group() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/skein.sock");
        let _listener = bind(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, MODE);
        assert_eq!(fs::read_dir(dir.path().join("run")).unwrap().count(), 1);
        tokio::net::UnixStream::connect(&path).await.unwrap();
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("skein.sock");
        drop(bind(&path).unwrap());
        let live = bind(&path).unwrap();
        let error = bind(&path).unwrap_err();
        assert!(matches!(error, BindError::InUse(_)), "{error}");
        drop(live);
        unlink(&path);
        assert!(!path.exists());
        unlink(&path);
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("skein.sock");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(bind(&path), Err(BindError::NotASocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn a_path_beyond_the_kernels_limit_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x".repeat(100)).join("skein.sock");
        let error = bind(&path).unwrap_err();
        assert!(
            error.to_string().contains("choose another --run-dir"),
            "{error}"
        );
    }
}
