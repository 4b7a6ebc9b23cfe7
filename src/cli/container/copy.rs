//! `skein cp`: files between a container and this machine.

use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use hyper::Method;
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use crate::cli::client::stream::Ask;
use crate::cli::client::{Client, ClientError, encode};
use crate::cli::output::note;
use crate::cli::rows::number;

/// The bit of a mode that says folder, as Go counts them.
const GO_FOLDER: i64 = 1 << 31;

/// Copy files between a container and this machine
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "One of the two is CONTAINER:PATH; - is an archive on standard input or output.\n\nExamples:\n  \
    skein cp web:/etc/nginx/nginx.conf .\n  skein cp ./site web:/srv\n  skein cp web:/var/log - | tar t"
)]
pub(in crate::cli) struct CpArgs {
    /// Keep owners
    #[arg(long, short)]
    archive: bool,
    /// Follow a link that is the source itself
    #[arg(long, short = 'L')]
    follow_link: bool,
    /// Say nothing
    #[arg(long, short)]
    quiet: bool,
    /// From
    source: String,
    /// To
    target: String,
}

/// `container:path`, unless it is a path of this machine.
fn place(text: &str) -> Option<(&str, &str)> {
    if text.starts_with(['/', '.']) || text == "-" {
        return None;
    }
    text.split_once(':')
}

/// Does it.
pub(in crate::cli) async fn run(client: &Client, args: &CpArgs) -> anyhow::Result<()> {
    match (place(&args.source), place(&args.target)) {
        (Some((container, path)), None) => out(client, args, container, path).await,
        (None, Some((container, path))) => into(client, args, container, path).await,
        (Some(_), Some(_)) => anyhow::bail!("copying between containers is not supported"),
        (None, None) => anyhow::bail!("must specify at least one container source: CONTAINER:PATH"),
    }
}

fn archive(container: &str, path: &str) -> String {
    let (container, path) = (encode(container), encode(path));
    format!("/containers/{container}/archive?path={path}")
}

async fn out(client: &Client, args: &CpArgs, container: &str, path: &str) -> anyhow::Result<()> {
    let mut path = path.to_owned();
    if args.follow_link
        && let Some(stat) = stat(client, container, &path).await?
        && let Some(link) = stat["linkTarget"].as_str().filter(|link| !link.is_empty())
    {
        let folder = Path::new(&path).parent().unwrap_or_else(|| Path::new("/"));
        path = folder.join(link).display().to_string();
    }
    let mut reply = client
        .open(Ask::get(archive(container, &path)).patiently())
        .await?;
    if args.target == "-" {
        let mut to = io::stdout().lock();
        while let Some(piece) = reply.next().await? {
            to.write_all(&piece)?;
        }
        return Ok(to.flush()?);
    }
    // An archive's entries may be longer than memory, so it is read from a file.
    let mut spool = tokio::fs::File::from_std(spool()?);
    while let Some(piece) = reply.next().await? {
        spool.write_all(&piece).await?;
    }
    spool.flush().await?;
    let mut spool = spool.into_std().await;
    io::Seek::rewind(&mut spool)?;
    unpack(spool, &path, Path::new(&args.target), args)?;
    if !args.quiet {
        note(format!(
            "Successfully copied {container}:{path} to {}",
            args.target
        ));
    }
    Ok(())
}

/// A file without a name.
fn spool() -> io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = std::env::temp_dir().join(format!(".skein-cp-{}", std::process::id()));
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}

/// Unpacks an archive whose entries begin with the source's name. A folder that is there takes the source in; else the
/// source becomes what the target is called.
fn unpack(archive: impl Read, source: &str, target: &Path, args: &CpArgs) -> anyhow::Result<()> {
    let contents = source.ends_with("/.");
    let into_folder = target.is_dir();
    if !into_folder && args.target.ends_with('/') {
        anyhow::bail!("{}: there is no such folder", args.target);
    }
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        anyhow::ensure!(
            path.components()
                .all(|part| matches!(part, Component::Normal(_) | Component::CurDir)),
            "the archive has an entry outside of itself: {}",
            path.display()
        );
        let below: PathBuf = path
            .components()
            .filter(|part| *part != Component::CurDir)
            .skip(1)
            .collect();
        let whole: PathBuf = path
            .components()
            .filter(|part| *part != Component::CurDir)
            .collect();
        let relative = match (contents, into_folder) {
            (true, _) | (false, false) => below,
            (false, true) => whole,
        };
        let place = match relative.as_os_str().is_empty() {
            true => target.to_owned(),
            false => target.join(relative),
        };
        if let Some(folder) = place
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            std::fs::create_dir_all(folder)?;
        }
        entry.set_preserve_permissions(true);
        if entry.header().entry_type().is_dir() {
            std::fs::create_dir_all(&place)?;
            continue;
        }
        entry.unpack(&place)?;
        if args.archive {
            let (user, group) = (entry.header().uid()?, entry.header().gid()?);
            let id = |id: u64| u32::try_from(id).ok();
            std::os::unix::fs::lchown(&place, id(user), id(group))?;
        }
    }
    Ok(())
}

async fn stat(client: &Client, container: &str, path: &str) -> anyhow::Result<Option<Value>> {
    let ask = Ask::new(Method::HEAD, archive(container, path));
    let reply = match client.open(ask).await {
        Ok(reply) => reply,
        Err(ClientError::Refused { status: 404, .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let header = reply.headers().get("x-docker-container-path-stat");
    let decoded = header.and_then(|header| STANDARD.decode(header.as_bytes()).ok());
    let stat = decoded.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    Ok(Some(stat.unwrap_or_default()))
}

async fn into(client: &Client, args: &CpArgs, container: &str, path: &str) -> anyhow::Result<()> {
    let there = stat(client, container, path).await?;
    let is_folder = there
        .as_ref()
        .is_some_and(|stat| number(stat, "/mode") & GO_FOLDER != 0);
    if args.source == "-" {
        anyhow::ensure!(
            is_folder,
            "destination \"{container}:{path}\" must be a directory"
        );
        let ask = put(container, path, args).archive(tokio::io::stdin());
        client.open(ask).await?;
        return Ok(());
    }
    let source = Path::new(&args.source);
    let contents = args.source.ends_with("/.");
    let found = match args.follow_link {
        true => std::fs::metadata(source),
        false => std::fs::symlink_metadata(source),
    };
    let found = found.map_err(|error| anyhow::anyhow!("{}: {error}", args.source))?;
    let (folder, name) = match (is_folder, contents) {
        (true, true) => (path.to_owned(), PathBuf::from(".")),
        (true, false) => (path.to_owned(), PathBuf::from(file_name(source)?)),
        (false, _) => {
            anyhow::ensure!(
                !path.ends_with('/') || found.is_dir(),
                "destination directory \"{container}:{path}\" does not exist"
            );
            let target = Path::new(path);
            let folder = target.parent().unwrap_or_else(|| Path::new("/"));
            (
                folder.display().to_string(),
                PathBuf::from(file_name(target)?),
            )
        }
    };
    let mut spool = spool()?;
    pack(&spool, source, &name, args)?;
    io::Seek::rewind(&mut spool)?;
    let ask = put(container, &folder, args).archive(tokio::fs::File::from_std(spool));
    client.open(ask).await?;
    if !args.quiet {
        note(format!(
            "Successfully copied {} to {container}:{path}",
            args.source
        ));
    }
    Ok(())
}

fn put(container: &str, folder: &str, args: &CpArgs) -> Ask {
    let owners = u8::from(args.archive);
    let target = format!(
        "{}&noOverwriteDirNonDir=true&copyUIDGID={owners}",
        archive(container, folder)
    );
    Ask::new(Method::PUT, target).patiently()
}

fn file_name(path: &Path) -> anyhow::Result<std::ffi::OsString> {
    let absolute = std::path::absolute(path)?;
    let name = absolute.file_name();
    name.map(Into::into)
        .ok_or_else(|| anyhow::anyhow!("{} has no name to be copied under", path.display()))
}

fn pack(spool: &std::fs::File, source: &Path, name: &Path, args: &CpArgs) -> anyhow::Result<()> {
    let mut archive = tar::Builder::new(spool);
    archive.follow_symlinks(false);
    let source = match args.follow_link {
        true => source.canonicalize()?,
        false => source.to_owned(),
    };
    match std::fs::symlink_metadata(&source)?.is_dir() {
        true => archive.append_dir_all(name, &source)?,
        false => archive.append_path_with_name(&source, name)?,
    }
    Ok(archive.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(target: &Path) -> CpArgs {
        CpArgs {
            archive: false,
            follow_link: false,
            quiet: true,
            source: String::new(),
            target: target.display().to_string(),
        }
    }

    #[test]
    fn places_are_told_apart() {
        assert_eq!(place("web:/a"), Some(("web", "/a")));
        for text in ["/a:b", "./a:b", "-", "a"] {
            assert_eq!(place(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_packed_comes_out_where_it_belongs() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("source");
        std::fs::create_dir_all(source.join("inner")).unwrap();
        std::fs::write(source.join("inner/file"), "text").unwrap();
        let packed = || {
            let mut file = tempfile::tempfile().unwrap();
            pack(&file, &source, Path::new("source"), &args(dir.path())).unwrap();
            io::Seek::rewind(&mut file).unwrap();
            file
        };
        let there = dir.path().join("there");
        std::fs::create_dir(&there).unwrap();
        unpack(packed(), "/x/source", &there, &args(&there)).unwrap();
        assert_eq!(
            std::fs::read(there.join("source/inner/file")).unwrap(),
            b"text"
        );
        let new = dir.path().join("new");
        unpack(packed(), "/x/source", &new, &args(&new)).unwrap();
        assert_eq!(std::fs::read(new.join("inner/file")).unwrap(), b"text");
        let contents = dir.path().join("contents");
        std::fs::create_dir(&contents).unwrap();
        unpack(packed(), "/x/source/.", &contents, &args(&contents)).unwrap();
        assert_eq!(std::fs::read(contents.join("inner/file")).unwrap(), b"text");
    }
}
