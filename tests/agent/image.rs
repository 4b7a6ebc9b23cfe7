//! An image of busybox as an OCI archive.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use skein::model::image::Digest;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33:web:/srv:/bin/sh\n";
const GROUP: &str = "root:x:0:\nstaff:x:50:web\nweb:x:33:\n";

/// Writes the archive to `to`, and says what its manifest is.
pub(crate) fn write(to: &Path) -> Digest {
    let mut archive = Archive::default();
    let layer = layer();
    let diff = archive.blob(&layer);
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [diff.to_string()]},
    });
    let config = archive.json(&config);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &(diff, layer.len()))],
    });
    let manifest = archive.json(&manifest);
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    entry["annotations"] = json!({"io.containerd.image.name": "docker.io/test/busybox:latest"});
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    archive.file("index.json", index.to_string().as_bytes());
    archive.file("oci-layout", br#"{"imageLayoutVersion": "1.0.0"}"#);
    fs::write(to, archive.0.into_inner().unwrap()).unwrap();
    manifest.0
}

fn descriptor(kind: &str, blob: &(Digest, usize)) -> Value {
    json!({"mediaType": kind, "digest": blob.0.to_string(), "size": blob.1})
}

struct Archive(tar::Builder<Vec<u8>>);

impl Default for Archive {
    fn default() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }
}

impl Archive {
    fn file(&mut self, name: &str, content: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        self.0.append_data(&mut header, name, content).unwrap();
    }

    fn blob(&mut self, content: &[u8]) -> Digest {
        let hash = ring::digest::digest(&ring::digest::SHA256, content);
        let digest = Digest::from_bytes(hash.as_ref().try_into().unwrap());
        self.file(&format!("blobs/sha256/{}", digest.hex()), content);
        digest
    }

    fn json(&mut self, value: &Value) -> (Digest, usize) {
        let text = value.to_string();
        (self.blob(text.as_bytes()), text.len())
    }
}

/// A directory for volumes to be filled with: what is in it has owners and modes.
fn site(tar: &mut tar::Builder<Vec<u8>>) {
    for (path, kind, mode, (user, group), content) in [
        ("srv/site", tar::EntryType::Directory, 0o2750, (33, 50), ""),
        (
            "srv/site/index",
            tar::EntryType::Regular,
            0o4640,
            (33, 33),
            "hello\n",
        ),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(user);
        header.set_gid(group);
        header.set_mtime(1_000_000_000);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, path, content.as_bytes())
            .unwrap();
    }
}

/// busybox under all its names, and the files that a container expects.
fn layer() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, mode) in [
        ("bin", 0o755),
        ("etc", 0o755),
        ("proc", 0o755),
        ("sys", 0o755),
        ("dev", 0o755),
        ("root", 0o700),
        ("srv", 0o755),
        ("sbin", 0o755),
        ("tmp", 0o1777),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(mode);
        header.set_size(0);
        tar.append_data(&mut header, path, &[][..]).unwrap();
    }
    let program = fs::read("/bin/busybox").unwrap();
    site(&mut tar);
    for (path, mode, content) in [
        ("bin/busybox", 0o755, &*program),
        ("etc/passwd", 0o644, PASSWD.as_bytes()),
        ("etc/group", 0o644, GROUP.as_bytes()),
        ("etc/unrunnable", 0o644, b"#!/bin/sh\n"),
        ("etc/garbage", 0o755, b"no program at all"),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, path, content).unwrap();
    }
    let names = Command::new("/bin/busybox").arg("--list").output().unwrap();
    for name in String::from_utf8(names.stdout).unwrap().lines() {
        if name != "busybox" {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            tar.append_link(&mut header, format!("bin/{name}"), "busybox")
                .unwrap();
        }
    }
    for (link, target) in [("outside", "/etc"), ("srv/site/link", "index")] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, link, target).unwrap();
    }
    tar.into_inner().unwrap()
}
