//! Unix sockets: created with their mode and group before anyone can connect, never taken from a living daemon, and
//! removed by whoever made them.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, socket};
use nix::unistd::{Gid, chown};
use tokio::net::UnixListener;

/// The group whose members may use the sockets, when the machine has it.
pub const GROUP: Owner = Owner::FirstOf(&["skein"]);

/// The group whose members may use the socket at Docker's place: Docker's own, when the machine has it.
pub const DOCKER_GROUP: Owner = Owner::FirstOf(&["docker", "skein"]);

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
    /// The group is not on this machine.
    #[error("--group {0}: this machine has no such group; make it with `groupadd {0}`")]
    NoGroup(String),
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

/// Whose group a socket is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The first of these that the machine has; root's where it has none.
    FirstOf(&'static [&'static str]),
    /// This one, which it must have.
    Named(String),
}

impl Owner {
    fn find(&self) -> Result<Option<Gid>, BindError> {
        let groups = fs::read_to_string(GROUPS).unwrap_or_default();
        match self {
            Self::FirstOf(names) => Ok(names.iter().find_map(|name| group_in(&groups, name))),
            Self::Named(name) => match group_in(&groups, name) {
                Some(group) => Ok(Some(group)),
                None => Err(BindError::NoGroup(name.clone())),
            },
        }
    }
}

/// Which file a socket is, so that it is not mistaken for what somebody else has made in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Mark {
    fn of(path: &Path) -> Result<Self, BindError> {
        let meta = fs::symlink_metadata(path).map_err(failed("look at", path))?;
        Ok(Self {
            path: path.to_owned(),
            device: meta.dev(),
            inode: meta.ino(),
        })
    }

    /// Removes the socket of a daemon that stops, unless it is another's by now.
    pub fn remove(&self) {
        match fs::symlink_metadata(&self.path) {
            Ok(meta) if (meta.dev(), meta.ino()) == (self.device, self.inode) => {}
            Ok(_) | Err(_) => return,
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the socket cannot be removed");
        }
    }
}

/// Listens at `path`, mode 0660, for `owner`. Creates the directory, replaces a socket that nobody listens on. Must be
/// called within a tokio runtime.
pub fn bind(path: &Path, owner: &Owner) -> Result<(UnixListener, Mark), BindError> {
    if path.as_os_str().len() > PATH_MAX {
        return Err(BindError::PathTooLong(path.to_owned()));
    }
    let group = owner.find()?;
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(failed("create", dir))?;
    }
    if is_stale(path)? {
        fs::remove_file(path).map_err(failed("replace", path))?;
    }
    let bound = bound(path)
        .map_err(io::Error::from)
        .map_err(failed("listen at", path))?;
    let mark = Mark::of(path)?;
    match own(path, group).and_then(|()| listening(bound).map_err(failed("listen at", path))) {
        Ok(listener) => Ok((listener, mark)),
        Err(error) => {
            mark.remove();
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

fn own(path: &Path, group: Option<Gid>) -> Result<(), BindError> {
    if let Some(group) = group
        && let Err(error) = chown(path, None, Some(group))
    {
        tracing::warn!(%group, %error, "the socket cannot be given to its group");
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
        let _listener = bind(&path, &GROUP).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, MODE);
        assert_eq!(fs::read_dir(dir.path().join("run")).unwrap().count(), 1);
        tokio::net::UnixStream::connect(&path).await.unwrap();
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("skein.sock");
        drop(bind(&path, &GROUP).unwrap());
        let (live, mark) = bind(&path, &GROUP).unwrap();
        let error = bind(&path, &GROUP).unwrap_err();
        assert!(matches!(error, BindError::InUse(_)), "{error}");
        drop(live);
        mark.remove();
        assert!(!path.exists());
        mark.remove();
    }

    #[tokio::test]
    async fn a_socket_that_another_has_made_meanwhile_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker.sock");
        let (first, mark) = bind(&path, &DOCKER_GROUP).unwrap();
        // Its inode is not free before the listener is gone.
        fs::remove_file(&path).unwrap();
        let (_second, _) = bind(&path, &DOCKER_GROUP).unwrap();
        mark.remove();
        assert!(path.exists());
        drop(first);
    }

    #[tokio::test]
    async fn a_group_that_is_not_there_is_said_before_anything_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("skein.sock");
        let error = bind(&path, &Owner::Named("no-such-group".into())).unwrap_err();
        let words = error.to_string();
        assert!(words.contains("groupadd no-such-group"), "{words}");
        assert!(!path.exists());
        let root = bind(&path, &Owner::Named("root".into())).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().gid(), 0);
        drop(root);
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("skein.sock");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(bind(&path, &GROUP), Err(BindError::NotASocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn a_path_beyond_the_kernels_limit_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x".repeat(100)).join("skein.sock");
        let error = bind(&path, &GROUP).unwrap_err();
        assert!(
            error.to_string().contains("choose another --run-dir"),
            "{error}"
        );
    }
}
