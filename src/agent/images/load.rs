//! `docker load`: images out of an archive.
//!
//! The archive is spooled to disk first, because its lists may stand at its end, and read in place after that. What
//! is loaded is found by peers like what was pulled.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tracing::info;

use super::archive::{Archive, DockerEntry, Span, noted_name, plain};
use super::chain::{chain_ids, config_labels, digest_of, document_labels, manifest_labels};
use super::config::ConfigFile;
use super::containerd::Containerd;
use super::containerd::content::PIECE;
use super::error::{LoadError, PullError};
use super::local::DANGLING;
use super::manifest::{Descriptor, Document, Index, Manifest};
use super::platform::Platform;
use super::progress::{Progress, Step};
use super::reference::Reference;
use super::{Images, Inner};
use crate::model::Digest;

impl Images {
    /// Loads every image of an archive, a tar that may be compressed as a whole. Returns Docker's words for what was
    /// loaded: names, or IDs of images without one.
    pub async fn load(
        &self,
        archive: impl AsyncRead,
        progress: &Progress,
    ) -> Result<Vec<String>, LoadError> {
        let archive = Arc::new(self.0.spool(archive).await?);
        let once = format!(
            "load {} {:p}",
            (self.0.clock)().nanos(),
            Arc::as_ptr(&archive)
        );
        let lease = self.0.lease(&once).await?;
        let load = Load {
            inner: self.0.clone(),
            store: self.0.store.leased(&lease),
            archive,
            progress: progress.clone(),
        };
        let loaded = load.run().await;
        let full = matches!(loaded, Err(LoadError::Image(PullError::DiskFull { .. })));
        self.0.store.end_lease(&lease, full).await?;
        loaded
    }
}

impl Inner {
    async fn spool(&self, archive: impl AsyncRead) -> Result<Archive, LoadError> {
        tokio::fs::create_dir_all(&self.scratch)
            .await
            .map_err(LoadError::Read)?;
        let file = self.scratch_file().map_err(LoadError::Read)?;
        let mut out = tokio::fs::File::from_std(file.try_clone().map_err(LoadError::Read)?);
        let mut archive = pin!(archive);
        let mut buffer = vec![0; 256 << 10];
        loop {
            let read = archive.read(&mut buffer).await.map_err(LoadError::Read)?;
            if read == 0 {
                break;
            }
            out.write_all(&buffer[..read]).await.map_err(spool_error)?;
        }
        out.flush().await.map_err(spool_error)?;
        drop(out);
        let second = self.scratch_file().map_err(LoadError::Read)?;
        let opened = tokio::task::spawn_blocking(move || {
            let file = plain(file, || Ok(second)).map_err(spool_error)?;
            Archive::open(file)
        });
        opened
            .await
            .unwrap_or_else(|error| Err(LoadError::Read(io::Error::other(error))))
    }

    /// A file without a name: it is gone when nobody has it open, however this process ends.
    fn scratch_file(&self) -> io::Result<File> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!(
            "load-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = self.scratch.join(name);
        let mut options = File::options();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)?;
        std::fs::remove_file(path)?;
        Ok(file)
    }
}

fn spool_error(error: io::Error) -> LoadError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            LoadError::Image(PullError::DiskFull {
                what: "the archive cannot be kept while it is read".into(),
            })
        }
        _ => LoadError::Read(error),
    }
}

/// What an entry of OCI's list is called.
struct Names<'a> {
    /// By notes of its own.
    own: BTreeSet<Reference>,
    /// By any entry's notes: Docker's list, which has them too, gives them to no other entry.
    all: Arc<BTreeSet<Reference>>,
    docker: &'a [DockerEntry],
}

/// Each image of OCI's list once, however often it is there under another name.
fn with_names(images: Vec<Descriptor>, docker: &[DockerEntry]) -> Vec<(Descriptor, Names<'_>)> {
    let noted = images
        .iter()
        .filter_map(|image| noted_name(&image.annotations));
    let all: Arc<BTreeSet<Reference>> = Arc::new(noted.collect());
    let mut entries: Vec<(Descriptor, Names<'_>)> = Vec::new();
    for image in images {
        let noted = noted_name(&image.annotations);
        let known = entries
            .iter_mut()
            .find(|(known, _)| known.digest == image.digest);
        if let Some((_, names)) = known {
            names.own.extend(noted);
            continue;
        }
        let names = Names {
            own: noted.into_iter().collect(),
            all: all.clone(),
            docker,
        };
        entries.push((image, names));
    }
    entries
}

struct Load {
    inner: Arc<Inner>,
    store: Containerd,
    archive: Arc<Archive>,
    progress: Progress,
}

impl Load {
    async fn run(&self) -> Result<Vec<String>, LoadError> {
        let (oci, docker) = (self.archive.oci()?, self.archive.docker()?);
        match (oci, docker) {
            (Some(images), docker) => {
                let mut loaded = Vec::new();
                for (image, names) in with_names(images, docker.as_deref().unwrap_or_default()) {
                    loaded.extend(self.oci(&image, names).await?);
                }
                Ok(loaded)
            }
            (None, Some(images)) => {
                let mut loaded = Vec::new();
                for image in images {
                    loaded.extend(self.docker(&image).await?);
                }
                Ok(loaded)
            }
            (None, None) => Err(LoadError::NoManifest),
        }
    }

    /// An image of Docker's list.
    async fn docker(&self, entry: &DockerEntry) -> Result<Vec<String>, LoadError> {
        let (archive, wanted) = (self.archive.clone(), entry.clone());
        let made = tokio::task::spawn_blocking(move || archive.synthesise(&wanted));
        let made = made
            .await
            .unwrap_or_else(|error| Err(LoadError::Read(io::Error::other(error))));
        let (manifest, parts) = made?;
        for (digest, span) in &parts {
            let is_layer = *digest != manifest.config.digest;
            self.write(*digest, *span, is_layer).await?;
        }
        let bytes = manifest.to_bytes();
        let target = Descriptor::new(&manifest.media_type, digest_of(&bytes), bytes.len() as u64);
        self.store
            .write_small(target.digest, &bytes, &BTreeMap::new())
            .await?;
        let file = self.finish(target.digest, &manifest).await?;
        let names = entry
            .repo_tags
            .iter()
            .flatten()
            .filter_map(|name| name.parse::<Reference>().ok());
        self.name(&target, names.map(Reference::or_latest).collect(), &file)
            .await
    }

    /// An image, or several under an index, of OCI's list.
    async fn oci(
        &self,
        entry: &Descriptor,
        mut names: Names<'_>,
    ) -> Result<Vec<String>, LoadError> {
        let document = self.document(entry.digest).await?;
        let target = Descriptor::new(
            document.media_type(),
            entry.digest,
            self.size(entry.digest)?,
        );
        let (file, manifest) = match &document {
            Document::Manifest(manifest) => {
                (self.parts(entry.digest, manifest).await?, manifest.clone())
            }
            Document::Index(index) => self.index(index).await?,
        };
        let labels = match &document {
            Document::Manifest(manifest) => manifest_labels(manifest),
            Document::Index(_) => {
                document_labels(&document, |digest| self.archive.blob(digest).is_some())
            }
        };
        self.store.label(entry.digest, &labels).await?;
        let config = manifest.config.digest.hex();
        let same = names
            .docker
            .iter()
            .filter(|entry| entry.config.contains(&config));
        let tags = same.flat_map(|entry| entry.repo_tags.iter().flatten());
        let tags = tags.filter_map(|name| name.parse::<Reference>().ok());
        let others = tags
            .map(Reference::or_latest)
            .filter(|name| !names.all.contains(name));
        names.own.extend(others);
        self.name(&target, names.own.into_iter().collect(), &file)
            .await
    }

    /// The images of an index that are in the archive. Returns the one for this machine, or else any.
    async fn index(&self, index: &Index) -> Result<(ConfigFile, Manifest), LoadError> {
        let here: Vec<Descriptor> = index
            .manifests
            .iter()
            .filter(|entry| self.archive.blob(entry.digest).is_some())
            .cloned()
            .collect();
        let own = Platform::host().choose(&here).map(|entry| entry.digest);
        let mut best = None;
        for entry in &here {
            if let Document::Manifest(manifest) = self.document(entry.digest).await? {
                let whole = std::iter::once(&manifest.config).chain(&manifest.layers);
                if !whole
                    .into_iter()
                    .all(|part| self.archive.blob(part.digest).is_some())
                {
                    continue;
                }
                let file = self.parts(entry.digest, &manifest).await?;
                if best.is_none() || Some(entry.digest) == own {
                    best = Some((file, manifest));
                }
            }
        }
        best.ok_or_else(|| LoadError::Missing("an image of its index".into()))
    }

    /// Content that is in the archive as a blob, and must be what its name says.
    async fn document(&self, digest: Digest) -> Result<Document, LoadError> {
        let span = self.blob(digest)?;
        let bytes = self.archive.small(span)?;
        if digest_of(&bytes) != digest {
            return Err(LoadError::WrongContent(digest.to_string()));
        }
        self.store
            .write_small(digest, &bytes, &BTreeMap::new())
            .await?;
        Document::parse(&bytes).map_err(|error| LoadError::Image(error.into()))
    }

    fn blob(&self, digest: Digest) -> Result<Span, LoadError> {
        self.archive
            .blob(digest)
            .ok_or_else(|| LoadError::Missing(format!("blobs/sha256/{}", digest.hex())))
    }

    fn size(&self, digest: Digest) -> Result<u64, LoadError> {
        Ok(self.blob(digest)?.length)
    }

    /// The config and the layers of a manifest.
    async fn parts(&self, at: Digest, manifest: &Manifest) -> Result<ConfigFile, LoadError> {
        for part in std::iter::once(&manifest.config).chain(&manifest.layers) {
            let span = self.blob(part.digest)?;
            let is_layer = part.digest != manifest.config.digest;
            self.write(part.digest, span, is_layer).await?;
        }
        self.finish(at, manifest).await
    }

    /// Copies content into containerd, which compares. Progress is told of layers.
    async fn write(&self, digest: Digest, span: Span, is_layer: bool) -> Result<(), LoadError> {
        let _turn = self.inner.busy.on(digest.to_string()).await;
        let Some(mut writer) = self.store.write(digest, span.length).await? else {
            return Ok(self.store.keep(digest).await?);
        };
        writer.restart();
        let mut at = 0;
        while at < span.length {
            let archive = self.archive.clone();
            let read = tokio::task::spawn_blocking(move || {
                let mut buffer = vec![0; PIECE];
                let read = archive.read_at(span, at, &mut buffer)?;
                buffer.truncate(read);
                Ok(Bytes::from(buffer))
            });
            let piece = read
                .await
                .unwrap_or_else(|error| Err(io::Error::other(error)));
            let piece = piece.map_err(LoadError::Read)?;
            if piece.is_empty() {
                return Err(LoadError::Read(io::ErrorKind::UnexpectedEof.into()));
            }
            at += piece.len() as u64;
            writer.push(piece).await?;
            if is_layer {
                self.progress.layer(digest, Step::Loading(at, span.length));
            }
        }
        match writer.commit(&BTreeMap::new()).await {
            Err(error) if error.is_mismatch() => {
                self.store.abort(digest).await?;
                Err(LoadError::WrongContent(digest.to_string()))
            }
            other => Ok(other?),
        }
    }

    /// Unpacks what is here, and labels it.
    async fn finish(&self, at: Digest, manifest: &Manifest) -> Result<ConfigFile, LoadError> {
        let image = |error: PullError| LoadError::Image(error);
        let digest = manifest.config.digest;
        let bytes = self
            .store
            .read_small(digest, super::manifest::CONFIG_LIMIT)
            .await?;
        let file = ConfigFile::parse(digest, &bytes.unwrap_or_default())
            .map_err(|error| image(error.into()))?;
        file.check_layers(manifest.layers.len())
            .map_err(|error| image(error.into()))?;
        let chain = chain_ids(&file.diff_ids);
        for (n, layer) in manifest.layers.iter().enumerate() {
            let below = n.checked_sub(1).map(|below| chain[below]);
            self.inner
                .unpack(&self.store, layer, (below, chain[n]), file.diff_ids[n])
                .await?;
        }
        self.store
            .label(
                digest,
                &config_labels(self.store.snapshotter(), &file.diff_ids),
            )
            .await?;
        self.store.label(at, &manifest_labels(manifest)).await?;
        Ok(file)
    }

    /// Lets names stand for what was loaded, or keeps it without one.
    async fn name(
        &self,
        target: &Descriptor,
        names: Vec<Reference>,
        file: &ConfigFile,
    ) -> Result<Vec<String>, LoadError> {
        let mut loaded = Vec::new();
        for name in &names {
            self.inner.point(&name.record(), target).await?;
            loaded.push(format!("Loaded image: {}", name.familiar()));
        }
        if names.is_empty() {
            let dangling = format!("{DANGLING}{}", target.digest);
            self.store
                .set_record(&dangling, target, &BTreeMap::new())
                .await?;
            let id = file.config.id.map(|id| id.to_string()).unwrap_or_default();
            loaded.push(format!("Loaded image ID: {id}"));
        }
        self.inner.forget(target.digest);
        for line in &loaded {
            info!(image = %target.digest, "{line}");
            self.progress.tell("", Step::Status(line.clone()));
        }
        Ok(loaded)
    }
}
