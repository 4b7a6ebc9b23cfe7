//! Images and volumes that are made up: a few of each, and pulls that go as their names say.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;

use super::world::lock;
use crate::api::backend::images::{
    Content, Image, ImageLayer, ImagePlatform, ImagePrune, ImageStep, ImageStore, Line, Login,
    PrunedImages, RemovedImage, Told,
};
use crate::api::backend::volumes::{
    ANONYMOUS, NewVolume, PrunedVolumes, Volume, VolumeChoice, VolumeStore,
};
use crate::api::backend::{Refusal, RefusalClass};
use crate::model::{Digest, ImageConfig, Timestamp};

/// A disk.
pub(crate) struct Disks {
    pub(crate) images: Mutex<Vec<Image>>,
    pub(crate) volumes: Mutex<Vec<Volume>>,
    /// What was asked, in words.
    pub(crate) asked: Mutex<Vec<String>>,
    /// How many pulls and loads go on.
    pub(crate) under_way: watch::Sender<usize>,
}

impl Default for Disks {
    fn default() -> Self {
        Self {
            images: Mutex::new(vec![
                image(3, &["registry.test:5000/team/app:2"], &[1, 3]),
                image(2, &["busybox:latest", "busybox:1"], &[1, 2]),
                image(1, &[], &[1]),
            ]),
            volumes: Mutex::new(vec![volume("data", 1), volume("old", 0)]),
            asked: Mutex::default(),
            under_way: watch::channel(0).0,
        }
    }
}

pub(crate) fn digest(number: u8) -> Digest {
    Digest::from_bytes([number; 32])
}

fn at(secs: i128) -> Timestamp {
    Timestamp::from_nanos(secs * 1_000_000_000)
}

fn image(number: u8, tags: &[&str], layers: &[u8]) -> Image {
    let layer = |layer: &u8| ImageLayer {
        diff_id: digest(100 + layer),
        chain: digest(200 + layer),
        size: u64::from(*layer) * 1000,
    };
    let labels = [("tier".to_owned(), number.to_string())];
    Image {
        id: digest(number),
        manifest: digest(number + 50),
        target: Content {
            media_type: "application/vnd.oci.image.manifest.v1+json".into(),
            digest: digest(number + 50),
            size: 500,
        },
        config: ImageConfig {
            labels: labels.into(),
            ..ImageConfig::default()
        },
        platform: ImagePlatform {
            os: "linux".into(),
            architecture: "amd64".into(),
            variant: String::new(),
        },
        created: Some(at(1000 * i128::from(number))),
        tags: tags.iter().map(|tag| tag.to_string()).collect(),
        digests: Vec::new(),
        layers: layers.iter().map(layer).collect(),
        updated: at(9000),
    }
}

fn volume(name: &str, users: usize) -> Volume {
    Volume {
        name: name.into(),
        driver: "local".into(),
        mountpoint: format!("/var/lib/skein/volumes/{name}/_data"),
        created: Timestamp::from_nanos(1_700_000_000_123_456_789),
        users,
        ..Volume::default()
    }
}

impl Disks {
    fn find(&self, name: &str) -> Result<Image, Refusal> {
        let images = lock(&self.images);
        let is_it = |image: &&Image| {
            let tag = |tag: &String| tag == name || *tag == format!("{name}:latest");
            image.tags.iter().any(tag) || image.id.to_string() == name
        };
        let found = images.iter().find(is_it).cloned();
        found.ok_or_else(|| Refusal::not_found(format!("No such image: {name}")))
    }

    fn note(&self, what: String) {
        lock(&self.asked).push(what);
    }

    /// What was asked so far; forgotten by this.
    pub(crate) fn take_asked(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.asked))
    }
}

fn said(words: &str) -> Line {
    Line::Said {
        id: String::new(),
        words: words.into(),
    }
}

fn layer(words: &str, of: (u64, u64)) -> Line {
    Line::Layer {
        id: "0123456789ab".into(),
        words: words.into(),
        of,
    }
}

/// Counts a pull or a load for as long as it goes on.
struct UnderWay<'a>(&'a watch::Sender<usize>);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

#[async_trait]
impl ImageStore for Disks {
    async fn list(&self) -> Result<Vec<Image>, Refusal> {
        Ok(lock(&self.images).clone())
    }

    async fn users(&self) -> Option<BTreeMap<Digest, usize>> {
        Some([(digest(52), 3)].into())
    }

    async fn inspect(&self, name: &str) -> Result<(Image, Value), Refusal> {
        let written = json!({
            "author": "somebody", "os.version": "", "docker_version": "20.10",
            "config": {"Cmd": ["sh"], "Env": null, "Hostname": "x", "Tty": false, "Labels": {"a": "b"}},
            "history": [{"created_by": "a"}, {"comment": "last"}],
        });
        Ok((self.find(name)?, written))
    }

    async fn history(&self, name: &str) -> Result<Vec<ImageStep>, Refusal> {
        let image = self.find(name)?;
        let step = |words: &str, image| ImageStep {
            created: Some(at(7)),
            created_by: words.into(),
            size: 10,
            image,
            ..ImageStep::default()
        };
        let top = step("CMD", Some((image.id, image.tags)));
        Ok(vec![top, step("ADD", None)])
    }

    async fn tag(&self, name: &str, new: &str) -> Result<(), Refusal> {
        self.find(name)?;
        self.note(format!("tag {name} {new}"));
        Ok(())
    }

    async fn remove(&self, name: &str, force: bool) -> Result<Vec<RemovedImage>, Refusal> {
        let image = self.find(name)?;
        if !force && image.id == digest(2) {
            return Err(Refusal::conflict("conflict: it is in use"));
        }
        let untagged = RemovedImage::Untagged(name.into());
        Ok(vec![untagged, RemovedImage::Deleted(image.id.to_string())])
    }

    async fn prune(&self, which: ImagePrune) -> Result<PrunedImages, Refusal> {
        self.note(format!("{which:?}"));
        Ok(PrunedImages::default())
    }

    async fn pull(
        &self,
        name: &str,
        auth: &str,
        platform: &str,
        told: Told,
    ) -> Result<(), Refusal> {
        self.note(format!("pull {name} auth={auth} platform={platform}"));
        self.under_way.send_modify(|count| *count += 1);
        let _under_way = UnderWay(&self.under_way);
        if name.starts_with("none") {
            return Err(Refusal::not_found(format!("pull access denied for {name}")));
        }
        (told.0)(said("Pulling from library/x"));
        if name.starts_with("endless") {
            std::future::pending::<()>().await;
        }
        for done in 0..=10_000 {
            (told.0)(layer("Downloading", (done, 10_000)));
        }
        if name.starts_with("broken") {
            return Err(Refusal::internal("unexpected EOF"));
        }
        (told.0)(said("Status: done"));
        Ok(())
    }

    async fn push(&self, name: &str, auth: &str, told: Told) -> Result<(), Refusal> {
        self.note(format!("push {name} auth={auth}"));
        (told.0)(said("The push refers to repository"));
        (told.0)(Line::Aux(json!({"Tag": "1"})));
        Ok(())
    }

    async fn load(
        &self,
        mut archive: Box<dyn AsyncRead + Send + Unpin>,
        told: Told,
    ) -> Result<(), Refusal> {
        self.under_way.send_modify(|count| *count += 1);
        let _under_way = UnderWay(&self.under_way);
        let mut bytes = vec![0; 3];
        let begun = archive.read_exact(&mut bytes).await;
        if begun.is_ok() && bytes == *b"bad" {
            return Err(Refusal::invalid("the archive is no tar file"));
        }
        let read = archive.read_to_end(&mut bytes).await;
        read.map_err(|error| Refusal::internal(error.to_string()))?;
        (told.0)(layer("Loading layer", (1, 2)));
        (told.0)(Line::Stream(format!("Loaded {} bytes\n", bytes.len())));
        Ok(())
    }

    async fn save(
        &self,
        names: Vec<String>,
        mut out: Box<dyn AsyncWrite + Send + Unpin>,
    ) -> Result<(), Refusal> {
        for name in &names {
            self.find(name)?;
        }
        let piece = vec![b'x'; 100_000];
        for _ in 0..30 * names.len() {
            let written = out.write_all(&piece).await;
            written.map_err(|error| Refusal::internal(error.to_string()))?;
        }
        Ok(())
    }

    async fn login(&self, login: Login) -> Result<(), Refusal> {
        match login.password.as_str() {
            "right" => Ok(()),
            _ => Err(Refusal::new(
                RefusalClass::Unauthorized,
                format!("login attempt to {} failed", login.server),
            )),
        }
    }
}

#[async_trait]
impl VolumeStore for Disks {
    async fn list(&self) -> Result<Vec<Volume>, Refusal> {
        Ok(lock(&self.volumes).clone())
    }

    async fn inspect(&self, name: &str) -> Result<Volume, Refusal> {
        let volumes = lock(&self.volumes);
        let found = volumes.iter().find(|volume| volume.name == name).cloned();
        found.ok_or_else(|| Refusal::not_found(format!("get {name}: no such volume")))
    }

    async fn size(&self, name: &str) -> Result<u64, Refusal> {
        match name {
            "data" => Ok(4096),
            _ => Err(Refusal::internal("its size cannot be told")),
        }
    }

    async fn create(&self, new: NewVolume) -> Result<Volume, Refusal> {
        let name = if new.name.is_empty() {
            "made-up"
        } else {
            &new.name
        };
        let mut made = volume(name, 0);
        made.labels = new.labels;
        if new.name.is_empty() {
            made.labels.insert(ANONYMOUS.into(), String::new());
        }
        made.options = new.options;
        lock(&self.volumes).push(made.clone());
        Ok(made)
    }

    async fn remove(&self, name: &str, force: bool) -> Result<(), Refusal> {
        let found = VolumeStore::inspect(self, name).await;
        match found {
            Ok(volume) if volume.users > 0 => Err(Refusal::conflict(format!(
                "remove {name}: volume is in use - [c]"
            ))),
            Ok(_) => {
                lock(&self.volumes).retain(|volume| volume.name != name);
                Ok(())
            }
            Err(_) if force => Ok(()),
            Err(refusal) => Err(refusal),
        }
    }

    async fn prune(&self, chosen: VolumeChoice) -> Result<PrunedVolumes, Refusal> {
        let mut pruned = PrunedVolumes::default();
        lock(&self.volumes).retain(|volume| {
            let goes = volume.users == 0 && chosen(volume);
            if goes {
                pruned.names.push(volume.name.clone());
                pruned.reclaimed += 1;
            }
            !goes
        });
        Ok(pruned)
    }
}

/// The disks of a fake.
pub(crate) fn of(fake: &super::fake::Fake) -> Arc<Disks> {
    lock(&fake.disks).clone().unwrap()
}
