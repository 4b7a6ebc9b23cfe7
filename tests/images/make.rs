//! Images made on the spot, as OCI layouts that skopeo copies to wherever they are needed.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use skein::agent::images::chain::digest_of;
use skein::agent::images::manifest::{OCI_INDEX, OCI_MANIFEST};
use skein::model::Digest;

/// A directory with images in OCI's layout.
pub(crate) struct Layout(PathBuf);

/// A layer that is made: its descriptor, and its digest when unpacked.
pub(crate) struct Layer {
    descriptor: Value,
    diff_id: Digest,
}

/// `length` bytes that do not compress, another sequence for each `seed`.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A tar of these files.
pub(crate) fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        tar.append_data(&mut header, path, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

impl Layout {
    /// An empty one.
    pub(crate) fn new(dir: &Path) -> Self {
        fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self(dir.into())
    }

    /// Where it is.
    pub(crate) fn dir(&self) -> &Path {
        &self.0
    }

    /// Adds content and describes it.
    pub(crate) fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = digest_of(bytes);
        fs::write(self.0.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// Adds a compressed layer of these files.
    pub(crate) fn layer(&self, files: &[(&str, &[u8])]) -> Layer {
        let tar = tar_of(files);
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&tar).unwrap();
        let bytes = gzip.finish().unwrap();
        Layer {
            descriptor: self.blob("application/vnd.oci.image.layer.v1.tar+gzip", &bytes),
            diff_id: digest_of(&tar),
        }
    }

    /// Adds an image of these layers for an architecture.
    pub(crate) fn image(&self, architecture: &str, layers: &[Layer]) -> Value {
        let diffs: Vec<Digest> = layers.iter().map(|layer| layer.diff_id).collect();
        let history: Vec<Value> = diffs
            .iter()
            .map(|diff| json!({"created_by": format!("ADD {diff}")}))
            .collect();
        let config = json!({
            "os": "linux", "architecture": architecture, "created": "2024-05-06T07:08:09Z",
            "config": {"Cmd": ["/bin/busybox", "sh"], "Env": ["PATH=/bin"], "Labels": {"made": "here"}},
            "rootfs": {"type": "layers", "diff_ids": diffs}, "history": history,
        });
        let config = self.blob(
            "application/vnd.oci.image.config.v1+json",
            config.to_string().as_bytes(),
        );
        let layers: Vec<&Value> = layers.iter().map(|layer| &layer.descriptor).collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers,
        });
        let mut descriptor = self.blob(OCI_MANIFEST, manifest.to_string().as_bytes());
        descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
        descriptor
    }

    /// Adds an index of several images.
    pub(crate) fn index(&self, images: &[Value]) -> Value {
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": images});
        self.blob(OCI_INDEX, index.to_string().as_bytes())
    }

    /// Names one of the images or indexes.
    pub(crate) fn name(&self, descriptor: &Value, name: &str) {
        let path = self.0.join("index.json");
        let mut index: Value = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap(),
            Err(_) => json!({"schemaVersion": 2, "manifests": []}),
        };
        let mut descriptor = descriptor.clone();
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        index["manifests"].as_array_mut().unwrap().push(descriptor);
        fs::write(path, index.to_string()).unwrap();
    }

    /// The image `name` of the layout as an argument of skopeo's.
    pub(crate) fn source(&self, name: &str) -> String {
        format!("oci:{}:{name}", self.0.display())
    }
}

/// Runs skopeo.
pub(crate) fn skopeo(args: &[&str]) {
    let output = Command::new("skopeo")
        .arg("--insecure-policy")
        .args(args)
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "skopeo {args:?}: {words}");
}

/// An image of busybox and some noise, in three layers, named `name` in a new layout.
pub(crate) fn sample(dir: &Path, name: &str, seed: u64, bytes: usize) -> Layout {
    let layout = Layout::new(dir);
    let busybox = fs::read("/bin/busybox").unwrap();
    let layers = [
        layout.layer(&[("bin/busybox", &busybox)]),
        layout.layer(&[("noise/a", &noise(seed, bytes))]),
        layout.layer(&[
            ("noise/b", &noise(seed + 1, bytes)),
            ("etc/release", b"sample\n"),
        ]),
    ];
    let image = layout.image("amd64", &layers);
    layout.name(&image, name);
    layout
}
