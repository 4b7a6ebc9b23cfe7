//! The image that is built in: `skein/whoami:latest`, made on the spot from this very program, so that the first run
//! needs no registry.
//!
//! Each node makes it for itself at its start. The same program makes the same image on each, to the byte.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use bytes::Bytes;
use serde_json::json;
use tracing::{info, warn};

use super::Images;
use super::chain::{Hash, chain_ids, config_labels, digest_of, manifest_labels};
use super::containerd::Containerd;
use super::error::PullError;
use super::manifest::{DOCKER_CONFIG, DOCKER_LAYER, DOCKER_MANIFEST, Descriptor, Manifest};
use super::platform::Platform;
use super::reference::Reference;
use crate::model::Digest;

/// What the image is called.
pub const SAMPLE: &str = "skein/whoami:latest";

/// The note on its record that says which program it was made from.
const MADE_FROM: &str = "skein.made-from";

/// Bytes of the program that are read and sent at once. The connection to containerd keeps what it sent last, and every
/// node has sent this image: so it is little.
const PIECE: usize = 64 << 10;

/// When the image was built, for everybody.
const CREATED: &str = "2024-01-01T00:00:00Z";

/// Whether the bytes are a program that needs no other file: an ELF file of this machine's kind without an
/// interpreter.
pub fn is_static(program: &[u8]) -> bool {
    let number = |at: usize, length: usize| {
        let bytes = program.get(at..at.checked_add(length)?)?;
        let value = bytes
            .iter()
            .rev()
            .fold(0u64, |value, byte| value << 8 | u64::from(*byte));
        usize::try_from(value).ok()
    };
    // 64 bits, little-endian: all machines that the program is built for.
    if !program.starts_with(b"\x7fELF\x02\x01") {
        return false;
    }
    let (Some(table), Some(size), Some(count)) = (number(32, 8), number(54, 2), number(56, 2))
    else {
        return false;
    };
    let kind = |n: usize| number(table.checked_add(size.checked_mul(n)?)?, 4);
    let mut kinds = (0..count).map(kind);
    count > 0 && kinds.all(|kind| kind.is_some_and(|kind| kind != 3))
}

/// Bytes of disk that the image takes: its content, and what that is unpacked to.
pub fn room_for(program: &Path) -> io::Result<u64> {
    Ok(program.metadata()?.len() * 2)
}

/// Why the image was not made. What was there under its name stays.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    /// The program cannot be read.
    #[error("the program cannot be read")]
    Read(#[source] io::Error),
    /// The image cannot be kept.
    #[error(transparent)]
    Image(#[from] PullError),
}

impl From<super::StoreError> for SampleError {
    fn from(error: super::StoreError) -> Self {
        Self::Image(error.into())
    }
}

/// The layer: a tar with the program in it, which is never in memory as a whole.
struct Layer {
    head: Vec<u8>,
    program: File,
    size: u64,
    tail: Vec<u8>,
}

impl Layer {
    fn new(program: File) -> io::Result<Self> {
        let size = program.metadata()?.len();
        let mut head = Vec::new();
        let mut entry = |name: &str, kind: tar::EntryType, mode: u32, content: &[u8], size: u64| {
            let mut header = tar::Header::new_ustar();
            header.set_path(name)?;
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_size(size);
            header.set_mtime(0);
            header.set_cksum();
            head.extend_from_slice(header.as_bytes());
            head.extend_from_slice(content);
            head.resize(head.len().next_multiple_of(512), 0);
            Ok::<_, io::Error>(())
        };
        let passwd = b"root:x:0:0:root:/:/skein\nnobody:x:65534:65534:nobody:/:/skein\n";
        entry("etc/", tar::EntryType::Directory, 0o755, &[], 0)?;
        entry(
            "etc/passwd",
            tar::EntryType::Regular,
            0o644,
            passwd,
            passwd.len() as u64,
        )?;
        entry("tmp/", tar::EntryType::Directory, 0o1777, &[], 0)?;
        entry("skein", tar::EntryType::Regular, 0o755, &[], size)?;
        let padding = size.next_multiple_of(512) - size;
        let tail = vec![0; usize::try_from(padding).unwrap_or_default() + 1024];
        Ok(Self {
            head,
            program,
            size,
            tail,
        })
    }

    const fn length(&self) -> u64 {
        self.head.len() as u64 + self.size + self.tail.len() as u64
    }

    /// The bytes from `at` on, as many as there are up to a piece; none at the end.
    fn piece(&self, at: u64) -> io::Result<Bytes> {
        let (head, end) = (self.head.len() as u64, self.head.len() as u64 + self.size);
        let part = |bytes: &[u8], from: u64| {
            Bytes::copy_from_slice(
                &bytes[usize::try_from(from).unwrap_or(usize::MAX).min(bytes.len())..],
            )
        };
        if at < head {
            return Ok(part(&self.head, at));
        }
        if at >= end {
            return Ok(part(&self.tail, at - end));
        }
        let most = usize::try_from(end - at).unwrap_or(usize::MAX).min(PIECE);
        let mut buffer = vec![0; most];
        self.program.read_exact_at(&mut buffer, at - head)?;
        Ok(buffer.into())
    }

    fn digest(&self) -> io::Result<Digest> {
        let (mut hash, mut at) = (Hash::default(), 0);
        loop {
            let piece = self.piece(at)?;
            if piece.is_empty() {
                return Ok(hash.finish());
            }
            hash.update(&piece);
            at += piece.len() as u64;
        }
    }
}

impl Images {
    /// Makes sure that the sample image is here, made from `program`; whether it is. A program that needs libraries
    /// makes no image, which is said in the log.
    pub async fn ensure_sample(&self, program: &Path) -> Result<bool, SampleError> {
        let path = program.to_path_buf();
        let opened = tokio::task::spawn_blocking(move || open(&path)).await;
        let opened = opened.unwrap_or_else(|error| Err(io::Error::other(error)));
        let Some((file, mark)) = opened.map_err(SampleError::Read)? else {
            warn!(program = %program.display(), "no sample image: the program is not static");
            return Ok(false);
        };
        let name = SAMPLE
            .parse::<Reference>()
            .map_err(PullError::from)?
            .record();
        let _turn = self.0.busy.on(name.clone()).await;
        let before = self.0.store.record(&name).await?;
        if before.is_some_and(|before| before.labels.get(MADE_FROM) == Some(&mark))
            && self
                .resolve(SAMPLE)
                .await
                .is_ok_and(|image| image.is_some())
        {
            return Ok(true);
        }
        let lease = self.0.lease(&name).await?;
        let made = self
            .make_sample(&self.0.store.leased(&lease), file, &name, mark)
            .await;
        self.0.store.end_lease(&lease, false).await?;
        made.map(|()| true)
    }

    async fn make_sample(
        &self,
        store: &Containerd,
        program: File,
        name: &str,
        mark: String,
    ) -> Result<(), SampleError> {
        let hashed = tokio::task::spawn_blocking(move || {
            let layer = Layer::new(program)?;
            let digest = layer.digest()?;
            Ok((layer, digest))
        });
        let hashed = hashed
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        let (layer, diff) = hashed.map_err(SampleError::Read)?;
        if let Err(error) = write_layer(store, &layer, diff).await {
            // What is half written would fill the disk that may have broken it off.
            if let Err(error) = store.abort(diff).await {
                warn!(error = %error, "a part of the sample image is left");
            }
            return Err(error);
        }
        let config = config(diff);
        let manifest = Manifest {
            media_type: DOCKER_MANIFEST.into(),
            config: Descriptor::new(DOCKER_CONFIG, digest_of(&config), config.len() as u64),
            layers: vec![Descriptor::new(DOCKER_LAYER, diff, layer.length())],
        };
        let bytes = manifest.to_bytes();
        let target = Descriptor::new(DOCKER_MANIFEST, digest_of(&bytes), bytes.len() as u64);
        let chain = chain_ids(&[diff]);
        self.0
            .unpack(store, &manifest.layers[0], (None, chain[0]), diff)
            .await?;
        let labels = config_labels(store.snapshotter(), &[diff]);
        store
            .write_small(manifest.config.digest, &config, &labels)
            .await?;
        store
            .write_small(target.digest, &bytes, &manifest_labels(&manifest))
            .await?;
        let labels = BTreeMap::from([(MADE_FROM.to_string(), mark)]);
        self.0.store.set_record(name, &target, &labels).await?;
        info!(image = SAMPLE, manifest = %target.digest, "sample image made");
        Ok(())
    }
}

async fn write_layer(store: &Containerd, layer: &Layer, diff: Digest) -> Result<(), SampleError> {
    let Some(mut writer) = store.write(diff, layer.length()).await? else {
        return Ok(store.keep(diff).await?);
    };
    writer.restart();
    loop {
        let piece = layer.piece(writer.offset()).map_err(SampleError::Read)?;
        if piece.is_empty() {
            return Ok(writer.commit(&BTreeMap::new()).await?);
        }
        writer.push(piece).await?;
    }
}

fn config(diff: Digest) -> Vec<u8> {
    let platform = Platform::host();
    let config = json!({
        "os": platform.os,
        "architecture": platform.architecture,
        "created": CREATED,
        "config": {
            "Entrypoint": ["/skein", "whoami"],
            "Env": ["PATH=/"],
            "ExposedPorts": {"80/tcp": {}},
            "WorkingDir": "/",
            "Labels": {"org.opencontainers.image.title": "whoami"},
        },
        "rootfs": {"type": "layers", "diff_ids": [diff]},
        "history": [{"created": CREATED, "created_by": "skein", "comment": "made from the program itself"}],
    });
    config.to_string().into_bytes()
}

/// The program, when it is static, and a mark by which the same one is known again without reading it.
fn open(path: &Path) -> io::Result<Option<(File, String)>> {
    let mut file = File::open(path)?;
    let meta = file.metadata()?;
    let mut beginning = Vec::new();
    file.by_ref().take(64 << 10).read_to_end(&mut beginning)?;
    let mark = format!(
        "{}-{}-{}-{}",
        meta.dev(),
        meta.ino(),
        meta.size(),
        meta.mtime_nsec() ^ meta.mtime()
    );
    Ok(is_static(&beginning).then_some((file, mark)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_an_interpreter_is_not_static() {
        let read = |path: &str| std::fs::read(path).unwrap_or_default();
        assert!(!is_static(&read("/bin/ls")));
        assert!(!is_static(b""));
        assert!(!is_static(b"#!/bin/sh\n"));
        assert!(!is_static(b"\x7fELF\x02\x01"));
        let mut elf = vec![0; 64 + 2 * 56];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (elf[32], elf[54], elf[56]) = (64, 56, 2);
        elf[64] = 1;
        assert!(is_static(&elf));
        elf[64 + 56] = 3;
        assert!(!is_static(&elf));
        elf[56] = 200;
        assert!(!is_static(&elf), "a table that ends early");
    }

    #[test]
    fn the_layer_is_a_tar_that_holds_the_program() {
        let content = vec![7u8; 3000];
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, &content).unwrap();
        let layer = Layer::new(file).unwrap();
        let (mut bytes, mut at) = (Vec::new(), 0);
        while let piece = layer.piece(at).unwrap()
            && !piece.is_empty()
        {
            at += piece.len() as u64;
            bytes.extend_from_slice(&piece);
        }
        assert_eq!(bytes.len() as u64, layer.length());
        assert_eq!(layer.digest().unwrap(), digest_of(&bytes));
        let mut tar = tar::Archive::new(bytes.as_slice());
        let mut names = Vec::new();
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            if name == "skein" {
                let mut found = Vec::new();
                entry.read_to_end(&mut found).unwrap();
                assert!(found == content && entry.header().mode().unwrap() == 0o755);
            }
            names.push(name);
        }
        assert_eq!(names, ["etc/", "etc/passwd", "tmp/", "skein"]);
    }
}
