//! Files in and out of a container as a tar stream (`docker cp`), whether it runs or not.
//!
//! All of it happens inside the container's root ([`super::rootfs`]): what the container made of its paths leads
//! nowhere else.

use std::fs;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream as Blocking;
use std::path::{Component, Path, PathBuf};

use containerd_client::services::v1::snapshots::MountsRequest;
use containerd_client::types::Mount;
use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::net::UnixStream;

use super::super::{Failure, RuntimeError};
use super::client::{failed, said};
use super::rootfs::{Root, inside};
use super::{Containerd, Inner};
use crate::model::container::{ContainerState, PathStat};
use crate::model::{ContainerId, Timestamp};

/// Why files could not be copied. In Docker's words.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The runtime failed below.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// There is no such path in the container.
    #[error("Could not find the file {path} in container {id}")]
    NoSuchPath {
        /// As it was asked for.
        path: String,
        /// Where it was looked for.
        id: ContainerId,
    },
    /// Files are only put into directories.
    #[error("extraction point is not a directory")]
    NotADirectory,
    /// Reading or writing failed.
    #[error("copying failed")]
    Io(#[source] io::Error),
}

impl Containerd {
    /// What a path in a container is.
    pub async fn stat_path(&self, id: ContainerId, path: &str) -> Result<PathStat, ArchiveError> {
        let root = self.inner.root(id).await?;
        let wanted = absolute(path);
        inside(root, move || stat(&wanted))
            .await
            .map_err(not_found(id, path))
    }

    /// A file or directory of a container as a tar stream, whose first entry bears its name.
    pub async fn archive_out(
        &self,
        id: ContainerId,
        path: &str,
    ) -> Result<(PathStat, impl AsyncRead + Send + Unpin + use<>), ArchiveError> {
        let root = self.inner.root(id).await?;
        let wanted = absolute(path);
        let (ours, theirs) = Blocking::pair().map_err(ArchiveError::Io)?;
        ours.set_nonblocking(true).map_err(ArchiveError::Io)?;
        let reader = UnixStream::from_std(ours).map_err(ArchiveError::Io)?;
        let stat_of = wanted.clone();
        let found = inside(root.clone(), move || stat(&stat_of)).await;
        let found = found.map_err(not_found(id, path))?;
        let name = found.name.clone();
        // Its own thread writes; whoever reads sees an end of the stream when that fails in between.
        std::thread::Builder::new()
            .name("archive".to_owned())
            .spawn(move || {
                let packed =
                    super::rootfs::confine(&root).and_then(|()| pack(&wanted, &name, theirs));
                if let Err(error) = packed {
                    tracing::debug!(%error, "a container's files were not read to the end");
                }
            })
            .map_err(ArchiveError::Io)?;
        Ok((found, reader))
    }

    /// All that a container's file system is, without what is mounted into it, as a tar stream.
    pub async fn export(
        &self,
        id: ContainerId,
    ) -> Result<impl AsyncRead + Send + Unpin + use<>, ArchiveError> {
        if self.inner.record(id).await?.is_none() {
            let words = format!("No such container: {id}");
            return Err(said(Failure::Gone, words).into());
        }
        let mounts = self.inner.snapshot(id).await?;
        let mounts = mounts.into_iter().map(to_be_read).collect();
        let root = Root::Mounts(mounts, self.inner.mount_point());
        let (ours, theirs) = Blocking::pair().map_err(ArchiveError::Io)?;
        ours.set_nonblocking(true).map_err(ArchiveError::Io)?;
        let reader = UnixStream::from_std(ours).map_err(ArchiveError::Io)?;
        std::thread::Builder::new()
            .name("export".to_owned())
            .spawn(move || {
                let packed =
                    super::rootfs::confine(&root).and_then(|()| pack(Path::new("/"), "/", theirs));
                if let Err(error) = packed {
                    tracing::debug!(%error, "a container's files were not read to the end");
                }
            })
            .map_err(ArchiveError::Io)?;
        Ok(reader)
    }

    /// Unpacks a tar stream into a directory of a container. What is read before a failure stays.
    pub async fn archive_in(
        &self,
        id: ContainerId,
        path: &str,
        mut tar: impl AsyncRead + Unpin,
    ) -> Result<(), ArchiveError> {
        let root = self.inner.root(id).await?;
        let wanted = absolute(path);
        let (ours, theirs) = Blocking::pair().map_err(ArchiveError::Io)?;
        ours.set_nonblocking(true).map_err(ArchiveError::Io)?;
        let mut writer = UnixStream::from_std(ours).map_err(ArchiveError::Io)?;
        let work = inside(root, move || unpack(&wanted, theirs));
        let feed = async {
            // A failure to write is the other side's, which says it better.
            let copied = tokio::io::copy(&mut tar, &mut writer).await;
            let _ = writer.shutdown().await;
            drop(writer);
            copied
        };
        let (done, _) = tokio::join!(work, feed);
        done.map_err(|error| match error.kind() {
            io::ErrorKind::NotADirectory => ArchiveError::NotADirectory,
            _ => not_found(id, path)(error),
        })
    }
}

impl Inner {
    /// The root of a container, running or not.
    async fn root(&self, id: ContainerId) -> Result<Root, RuntimeError> {
        let found = self.inspect(id).await?;
        let state = found.and_then(|found| found.state);
        match state {
            None => Err(said(Failure::Gone, format!("No such container: {id}"))),
            Some(ContainerState::Running { pid, .. }) => Ok(Root::Process(pid)),
            Some(ContainerState::Created | ContainerState::Exited(_)) => {
                let mounts = self.snapshot(id).await?;
                Ok(Root::Mounts(mounts, self.mount_point()))
            }
        }
    }

    async fn snapshot(&self, id: ContainerId) -> Result<Vec<Mount>, RuntimeError> {
        let request = self.client.request(MountsRequest {
            snapshotter: self.settings.snapshotter.clone(),
            key: id.to_string(),
        });
        let mounts = self.client.snapshots().mounts(request).await;
        let mounts = mounts.map_err(failed("look for the container's file system"))?;
        Ok(mounts.into_inner().mounts)
    }
}

/// A snapshot as one that is read alone: an overlay that is mounted twice to be written is undefined.
fn to_be_read(mut mount: Mount) -> Mount {
    let value = |name: &str| {
        let found = mount.options.iter().find_map(|one| one.strip_prefix(name));
        found.map(str::to_owned)
    };
    if let (Some(upper), Some(lower)) = (value("upperdir="), value("lowerdir=")) {
        mount.options.retain(|one| {
            let written = ["upperdir=", "lowerdir=", "workdir="];
            !written.iter().any(|name| one.starts_with(name)) && one != "rw"
        });
        mount.options.push(format!("lowerdir={upper}:{lower}"));
    }
    mount.options.push("ro".to_owned());
    mount
}

fn not_found(id: ContainerId, path: &str) -> impl FnOnce(io::Error) -> ArchiveError {
    let path = path.to_owned();
    move |error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            ArchiveError::NoSuchPath { path, id }
        }
        _ => ArchiveError::Io(error),
    }
}

/// A path from the root, without steps up. One that ends in a slash or a dot means what a link leads to.
fn absolute(path: &str) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    if (path.ends_with('/') || path.ends_with("/.")) && clean != Path::new("/") {
        clean.push("");
    }
    clean
}

fn stat(path: &Path) -> io::Result<PathStat> {
    let meta = fs::symlink_metadata(path)?;
    let name = match path.file_name() {
        Some(name) => name.to_string_lossy().into_owned(),
        None => "/".to_owned(),
    };
    let link_target = if meta.is_symlink() {
        fs::read_link(path)?.to_string_lossy().into_owned()
    } else {
        String::new()
    };
    let nanos = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
    Ok(PathStat {
        name,
        size: meta.size(),
        mode: meta.mode(),
        modified: Timestamp::from_nanos(nanos),
        link_target,
    })
}

fn pack(path: &Path, name: &str, out: impl Write) -> io::Result<()> {
    let mut tar = tar::Builder::new(BufWriter::new(out));
    tar.follow_symlinks(false);
    let name = if name == "/" { "." } else { name };
    if fs::symlink_metadata(path)?.is_dir() {
        tar.append_dir_all(name, path)?;
    } else {
        tar.append_path_with_name(path, name)?;
    }
    tar.into_inner()?.flush()
}

fn unpack(into: &Path, input: impl Read) -> io::Result<()> {
    if !fs::metadata(into)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let mut tar = tar::Archive::new(BufReader::new(input));
    tar.set_preserve_permissions(true);
    tar.set_preserve_ownerships(true);
    tar.set_overwrite(true);
    tar.unpack(into)?;
    // To its very end: whoever sends must not be left with a broken pipe.
    io::copy(&mut tar.into_inner(), &mut io::sink())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_start_at_the_root_and_stay_below_it() {
        for (path, expected) in [
            ("etc/passwd", "/etc/passwd"),
            ("/a/../../b", "/b"),
            ("", "/"),
            ("/.", "/"),
            ("/link/.", "/link/"),
            ("/link/", "/link/"),
        ] {
            assert_eq!(absolute(path).as_os_str(), expected, "{path}");
        }
    }
}
