//! How the parts of an image hang together in containerd: the names of its snapshots, and the labels that keep its
//! parts from being collected.
//!
//! Pure. containerd collects what nothing refers to; it follows labels and looks into no manifest. A label that is
//! missing here is content that is lost later.

use std::collections::BTreeMap;

use ring::digest::{Context, SHA256};

use super::manifest::{Document, Index, Manifest};
use crate::model::Digest;

/// The SHA-256 of `bytes`.
pub fn digest_of(bytes: &[u8]) -> Digest {
    let mut hash = Hash::default();
    hash.update(bytes);
    hash.finish()
}

/// SHA-256 of what comes in pieces.
#[derive(Clone)]
pub struct Hash(Context);

impl Default for Hash {
    fn default() -> Self {
        Self(Context::new(&SHA256))
    }
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hash")
    }
}

impl Hash {
    /// The next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all pieces.
    pub fn finish(self) -> Digest {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.finish().as_ref());
        Digest::from_bytes(bytes)
    }
}

/// The names of an image's snapshots, lowest first, of what its layers are when unpacked.
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff in diff_ids {
        let id = match chain.last() {
            Some(below) => digest_of(format!("{below} {diff}").as_bytes()),
            None => *diff,
        };
        chain.push(id);
    }
    chain
}

/// Labels of a config: it keeps the top snapshot, and that those below.
pub fn config_labels(snapshotter: &str, diff_ids: &[Digest]) -> BTreeMap<String, String> {
    let top = chain_ids(diff_ids).pop();
    let label = |top: Digest| {
        (
            format!("containerd.io/gc.ref.snapshot.{snapshotter}"),
            top.to_string(),
        )
    };
    top.map(label).into_iter().collect()
}

/// Labels of a manifest: it keeps its config and its layers.
pub fn manifest_labels(manifest: &Manifest) -> BTreeMap<String, String> {
    let config = (
        "containerd.io/gc.ref.content.config".to_string(),
        manifest.config.digest.to_string(),
    );
    let layers = manifest.layers.iter().enumerate().map(|(n, layer)| {
        (
            format!("containerd.io/gc.ref.content.l.{n}"),
            layer.digest.to_string(),
        )
    });
    std::iter::once(config).chain(layers).collect()
}

/// Labels of an index: it keeps those of its manifests that are `here`.
pub fn index_labels(index: &Index, here: impl Fn(Digest) -> bool) -> BTreeMap<String, String> {
    let kept = index
        .manifests
        .iter()
        .enumerate()
        .filter(|(_, entry)| here(entry.digest));
    kept.map(|(n, entry)| {
        (
            format!("containerd.io/gc.ref.content.m.{n}"),
            entry.digest.to_string(),
        )
    })
    .collect()
}

/// Labels of either.
pub fn document_labels(
    document: &Document,
    here: impl Fn(Digest) -> bool,
) -> BTreeMap<String, String> {
    match document {
        Document::Index(index) => index_labels(index, here),
        Document::Manifest(manifest) => manifest_labels(manifest),
    }
}

/// The label of a layer that says where it came from, as containerd's own client has it.
pub fn source_label(registry: &str, path: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(
        format!("containerd.io/distribution.source.{registry}"),
        path.to_string(),
    )])
}

#[cfg(test)]
mod tests {
    use super::super::manifest::{DOCKER_LIST, Descriptor};
    use super::*;

    fn digest(n: u8) -> Digest {
        Digest::from_bytes([n; 32])
    }

    #[test]
    fn digests_are_sha256() {
        assert_eq!(
            digest_of(b"abc").to_string(),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn a_chain_names_each_layer_with_all_below() {
        let ids = chain_ids(&[digest(1), digest(2), digest(3)]);
        assert_eq!(ids[0], digest(1));
        let second = digest_of(format!("{} {}", digest(1), digest(2)).as_bytes());
        assert_eq!(ids[1], second);
        assert_eq!(
            ids[2],
            digest_of(format!("{second} {}", digest(3)).as_bytes())
        );
        assert!(chain_ids(&[]).is_empty());
    }

    #[test]
    fn labels_keep_everything_that_an_image_is_made_of() {
        let manifest = Manifest {
            media_type: String::new(),
            config: Descriptor::new("", digest(1), 0),
            layers: vec![
                Descriptor::new("", digest(2), 0),
                Descriptor::new("", digest(3), 0),
            ],
        };
        let labels = manifest_labels(&manifest);
        assert_eq!(
            labels["containerd.io/gc.ref.content.config"],
            digest(1).to_string()
        );
        assert_eq!(
            labels["containerd.io/gc.ref.content.l.1"],
            digest(3).to_string()
        );
        assert_eq!(labels.len(), 3);
        let index = Index {
            media_type: DOCKER_LIST.into(),
            manifests: vec![
                Descriptor::new("", digest(4), 0),
                Descriptor::new("", digest(5), 0),
            ],
        };
        let labels = index_labels(&index, |found| found == digest(5));
        assert_eq!(
            labels,
            BTreeMap::from([(
                "containerd.io/gc.ref.content.m.1".into(),
                digest(5).to_string()
            )])
        );
        let top = chain_ids(&[digest(1), digest(2)])[1].to_string();
        let labels = config_labels("native", &[digest(1), digest(2)]);
        assert_eq!(labels["containerd.io/gc.ref.snapshot.native"], top);
        assert!(config_labels("native", &[]).is_empty());
    }
}
