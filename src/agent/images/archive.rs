//! An archive of images as a file: where each of its members lies, and what its two lists say.
//!
//! Docker's form (`manifest.json`, layers that may not be compressed) and OCI's (`index.json`, blobs by digest), and the
//! one of newer Docker, which is both. An archive is spooled to disk and read in place: layers are never in memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path};

use flate2::read::MultiGzDecoder;
use serde::Deserialize;

use super::chain::Hash;
use super::error::LoadError;
use super::manifest::{
    DOCKER_CONFIG, DOCKER_LAYER, DOCKER_LAYER_GZIP, DOCKER_MANIFEST, Descriptor, Manifest,
};
use super::reference::Reference;
use crate::model::Digest;

/// Longest list that is read, bytes.
const LIST_LIMIT: u64 = 16 << 20;

/// Most members that are remembered.
const MEMBERS: usize = 100_000;

/// Links from one member to the next that are followed.
const LINKS: usize = 8;

/// An archive on disk.
#[derive(Debug)]
pub(super) struct Archive {
    file: File,
    members: BTreeMap<String, Member>,
}

/// A member of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Member {
    File(Span),
    Link(String),
}

/// Where some bytes lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u64,
    pub(super) length: u64,
}

/// One image of `manifest.json`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DockerEntry {
    pub(super) config: String,
    #[serde(default)]
    pub(super) repo_tags: Option<Vec<String>>,
    #[serde(default)]
    pub(super) layers: Vec<String>,
}

#[derive(Deserialize)]
struct OciIndex {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

/// Where a member lies under, without `./` and `..`. `None` for what is no name.
fn clean(path: &Path) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::ParentDir => {
                parts.pop()?;
            }
            Component::CurDir | Component::RootDir => {}
            Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

/// Unpacks what is compressed as a whole into `plain`; returns the file to read.
pub(super) fn plain(
    mut spooled: File,
    plain: impl FnOnce() -> io::Result<File>,
) -> io::Result<File> {
    let mut magic = [0; 4];
    let read = spooled.read_at(&mut magic, 0)?;
    spooled.seek(SeekFrom::Start(0))?;
    match &magic[..read] {
        [0x1f, 0x8b, ..] => {
            let mut out = plain()?;
            io::copy(&mut MultiGzDecoder::new(spooled), &mut out)?;
            Ok(out)
        }
        [0x28, 0xb5, 0x2f, 0xfd] => {
            let mut out = plain()?;
            zstd::stream::copy_decode(spooled, &mut out)?;
            Ok(out)
        }
        _ => Ok(spooled),
    }
}

impl Archive {
    /// Reads where everything lies.
    pub(super) fn open(mut file: File) -> Result<Self, LoadError> {
        file.seek(SeekFrom::Start(0)).map_err(LoadError::Read)?;
        let mut members = BTreeMap::new();
        let reader = file.try_clone().map_err(LoadError::Read)?;
        let mut tar = tar::Archive::new(reader);
        for entry in tar.entries_with_seek().map_err(LoadError::NotTar)? {
            let entry = entry.map_err(LoadError::NotTar)?;
            let kind = entry.header().entry_type();
            let path = entry.path().map_err(LoadError::NotTar)?.into_owned();
            let Some(name) = clean(&path) else { continue };
            let member = match kind {
                tar::EntryType::Regular | tar::EntryType::Continuous => Member::File(Span {
                    start: entry.raw_file_position(),
                    length: entry.size(),
                }),
                tar::EntryType::Symlink | tar::EntryType::Link => {
                    let Ok(Some(to)) = entry.link_name() else {
                        continue;
                    };
                    let base = match kind {
                        tar::EntryType::Symlink => path.parent().unwrap_or_else(|| Path::new("")),
                        _ => Path::new(""),
                    };
                    let Some(to) = clean(&base.join(to)) else {
                        continue;
                    };
                    Member::Link(to)
                }
                _ => continue,
            };
            if members.len() >= MEMBERS {
                let error = io::Error::other("it has more than 100000 members");
                return Err(LoadError::NotTar(error));
            }
            members.insert(name, member);
        }
        Ok(Self { file, members })
    }

    /// Where a member's bytes lie.
    pub(super) fn span(&self, name: &str) -> Option<Span> {
        let mut name = clean(Path::new(name))?;
        for _ in 0..LINKS {
            match self.members.get(&name)? {
                Member::File(span) => return Some(*span),
                Member::Link(to) => name.clone_from(to),
            }
        }
        None
    }

    /// Where the blob of a digest lies.
    pub(super) fn blob(&self, digest: Digest) -> Option<Span> {
        self.span(&format!("blobs/sha256/{}", digest.hex()))
    }

    /// The bytes of a short member.
    pub(super) fn small(&self, span: Span) -> Result<Vec<u8>, LoadError> {
        if span.length > LIST_LIMIT {
            let error = io::Error::other("a list in it has more than 16 MiB");
            return Err(LoadError::Read(error));
        }
        let mut bytes = Vec::new();
        self.reader(span)
            .read_to_end(&mut bytes)
            .map_err(LoadError::Read)?;
        Ok(bytes)
    }

    /// The bytes at `at` of a span, as many as `buffer` holds or there are.
    pub(super) fn read_at(&self, span: Span, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let left = span.length.saturating_sub(at);
        let most = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        self.file.read_at(&mut buffer[..most], span.start + at)
    }

    /// The bytes of a span, one after the other.
    fn reader(&self, span: Span) -> SpanReader<'_> {
        SpanReader {
            archive: self,
            span,
            at: 0,
        }
    }

    /// The images of `manifest.json`; `None` when there is none.
    pub(super) fn docker(&self) -> Result<Option<Vec<DockerEntry>>, LoadError> {
        self.list("manifest.json", "manifest.json")
    }

    /// The images of `index.json`; `None` when there is none.
    pub(super) fn oci(&self) -> Result<Option<Vec<Descriptor>>, LoadError> {
        let index: Option<OciIndex> = self.list("index.json", "index.json")?;
        Ok(index.map(|index| index.manifests))
    }

    fn list<T: for<'de> Deserialize<'de>>(
        &self,
        name: &str,
        what: &'static str,
    ) -> Result<Option<T>, LoadError> {
        let Some(span) = self.span(name) else {
            return Ok(None);
        };
        match serde_json::from_slice(&self.small(span)?) {
            Ok(list) => Ok(Some(list)),
            Err(error) => Err(LoadError::Malformed(what, Box::new(error))),
        }
    }

    /// The digest of a span.
    pub(super) fn digest(&self, span: Span) -> Result<Digest, LoadError> {
        let (mut hash, mut reader) = (Hash::default(), self.reader(span));
        let mut buffer = vec![0; 256 << 10];
        loop {
            match reader.read(&mut buffer).map_err(LoadError::Read)? {
                0 => return Ok(hash.finish()),
                read => hash.update(&buffer[..read]),
            }
        }
    }

    /// The manifest that an image of `manifest.json` would have, and where its parts lie. Reads every layer.
    pub(super) fn synthesise(
        &self,
        entry: &DockerEntry,
    ) -> Result<(Manifest, Vec<(Digest, Span)>), LoadError> {
        let mut parts = Vec::new();
        let mut part = |name: &str, kind: Option<&str>| {
            let span = self
                .span(name)
                .ok_or_else(|| LoadError::Missing(name.into()))?;
            let kind = match kind {
                Some(kind) => kind,
                None => self.layer_kind(span).map_err(LoadError::Read)?,
            };
            let digest = self.digest(span)?;
            parts.push((digest, span));
            Ok::<_, LoadError>(Descriptor::new(kind, digest, span.length))
        };
        let config = part(&entry.config, Some(DOCKER_CONFIG))?;
        let layers = entry
            .layers
            .iter()
            .map(|layer| part(layer, None))
            .collect::<Result<_, _>>()?;
        let manifest = Manifest {
            media_type: DOCKER_MANIFEST.into(),
            config,
            layers,
        };
        Ok((manifest, parts))
    }

    /// Whether a layer is compressed, and how.
    fn layer_kind(&self, span: Span) -> io::Result<&'static str> {
        let mut magic = [0; 4];
        let read = self.read_at(span, 0, &mut magic)?;
        Ok(match &magic[..read] {
            [0x1f, 0x8b, ..] => DOCKER_LAYER_GZIP,
            [0x28, 0xb5, 0x2f, 0xfd] => "application/vnd.docker.image.rootfs.diff.tar.zstd",
            _ => DOCKER_LAYER,
        })
    }
}

struct SpanReader<'a> {
    archive: &'a Archive,
    span: Span,
    at: u64,
}

impl Read for SpanReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.archive.read_at(self.span, self.at, buffer)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// The name that an image of `index.json` has by its notes: the whole one where it stands, else the short one, which
/// may be a tag alone and then names nothing.
pub(super) fn noted_name(notes: &BTreeMap<String, String>) -> Option<Reference> {
    let whole = notes.get("io.containerd.image.name");
    let short = notes
        .get("org.opencontainers.image.ref.name")
        .filter(|name| name.contains([':', '/']));
    let name: Reference = whole.or(short)?.parse().ok()?;
    Some(name.or_latest())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn archive(build: impl FnOnce(&mut tar::Builder<File>)) -> Archive {
        let file = tempfile::tempfile().unwrap();
        let mut tar = tar::Builder::new(file.try_clone().unwrap());
        build(&mut tar);
        tar.finish().unwrap();
        Archive::open(file).unwrap()
    }

    fn add(tar: &mut tar::Builder<File>, name: &str, bytes: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, bytes).unwrap();
    }

    fn link(tar: &mut tar::Builder<File>, name: &str, to: &str) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, name, to).unwrap();
    }

    #[test]
    fn members_are_found_through_links_and_not_outside() {
        let archive = archive(|tar| {
            add(tar, "a/layer.tar", b"hello");
            link(tar, "b/layer.tar", "../a/layer.tar");
            link(tar, "loop", "loop");
            link(tar, "out", "../../etc/passwd");
        });
        let span = archive.span("./b/layer.tar").unwrap();
        assert_eq!(archive.small(span).unwrap(), b"hello");
        assert_eq!(
            archive.digest(span).unwrap(),
            super::super::chain::digest_of(b"hello")
        );
        for none in ["loop", "out", "c", "../a/layer.tar", "/etc/passwd"] {
            assert_eq!(archive.span(none), None, "{none}");
        }
        assert!(archive.docker().unwrap().is_none());
    }

    #[test]
    fn a_manifest_is_made_of_dockers_list() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"zipped").unwrap();
        let gzip = gzip.finish().unwrap();
        let archive = archive(|tar| {
            add(tar, "c.json", b"{}");
            add(tar, "1/layer.tar", b"plain");
            add(tar, "2/layer.tar", &gzip);
            add(
                tar,
                "manifest.json",
                br#"[{"Config":"c.json","RepoTags":null,"Layers":["1/layer.tar","2/layer.tar"]},{"Config":"no"}]"#,
            );
        });
        let entries = archive.docker().unwrap().unwrap();
        let (manifest, parts) = archive.synthesise(&entries[0]).unwrap();
        assert_eq!(manifest.layers[0].media_type, DOCKER_LAYER);
        assert_eq!(manifest.layers[1].media_type, DOCKER_LAYER_GZIP);
        assert_eq!((parts.len(), parts[2].1.length), (3, gzip.len() as u64));
        let missing = archive.synthesise(&entries[1]).unwrap_err().to_string();
        assert_eq!(missing, "invalid archive: no: no such file or directory");
    }

    #[test]
    fn what_is_no_archive_is_refused() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 2000]).unwrap();
        assert!(matches!(Archive::open(file), Err(LoadError::NotTar(_))));
        let broken = archive(|tar| add(tar, "index.json", b"{"));
        assert_eq!(
            broken.oci().unwrap_err().to_string(),
            "invalid archive: index.json cannot be read"
        );
    }

    #[test]
    fn names_stand_in_the_notes() {
        let note = |key: &str, value: &str| {
            let name = noted_name(&BTreeMap::from([(key.into(), value.into())]));
            name.map(|name| name.to_string())
        };
        let short = "org.opencontainers.image.ref.name";
        assert_eq!(note(short, "latest"), None);
        assert_eq!(
            note(short, "busybox:x").unwrap(),
            "docker.io/library/busybox:x"
        );
        assert_eq!(
            note("io.containerd.image.name", "r.io/a").unwrap(),
            "r.io/a:latest"
        );
        assert_eq!(note(short, "A:B"), None);
    }
}
