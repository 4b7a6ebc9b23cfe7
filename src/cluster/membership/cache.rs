//! Known peers and their addresses on disk, so that a cluster that was off finds itself again.
//!
//! Written by the composition root when [`Peers`](super::Peers) change, read once at its start. What it holds are
//! hints: a file that is missing or damaged costs nothing but the search for another way in.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::facts::MAX_ADDRESSES;
use super::interval::MAX_MEMBERS;
use crate::model::{ClusterId, NodeId};

/// The format that is written; older ones are read.
const FORMAT: u32 = 1;

/// A longer file was not written by this program.
const MAX_BYTES: u64 = 8 << 20;

/// Where the cache is kept, and what was last written there.
#[derive(Debug)]
pub struct KnownPeers {
    path: PathBuf,
    written: Option<Vec<u8>>,
}

/// Why the cache cannot be read or written. The file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The disk says no.
    #[error("known peers cannot be read from {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The disk says no.
    #[error("known peers cannot be written to {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Truncated or altered.
    #[error("{} is damaged: it can be deleted, and is written anew as peers are found", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// Written by a newer Skein.
    #[error("{} has format {format}, and this Skein reads up to {FORMAT}: upgrade it, or delete the file", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
}

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
}

#[derive(Serialize, Deserialize)]
struct Content {
    format: u32,
    cluster: ClusterId,
    peers: BTreeMap<NodeId, Vec<SocketAddr>>,
}

impl KnownPeers {
    /// The cache in this file, which need not exist; its directory must.
    pub const fn new(path: PathBuf) -> Self {
        Self {
            path,
            written: None,
        }
    }

    /// The peers of this cluster that were last saved; none when there is no file, or it is of another cluster.
    pub fn load(
        &self,
        cluster: ClusterId,
    ) -> Result<BTreeMap<NodeId, Vec<SocketAddr>>, CacheError> {
        let read = |source| CacheError::Read {
            path: self.path.clone(),
            source,
        };
        let length = match fs::metadata(&self.path) {
            Ok(meta) => meta.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(read(error)),
        };
        if length > MAX_BYTES {
            return Err(self.damaged());
        }
        let bytes = fs::read(&self.path).map_err(read)?;
        let header: Header = serde_json::from_slice(&bytes).map_err(|_damaged| self.damaged())?;
        if header.format > FORMAT {
            return Err(CacheError::Newer {
                path: self.path.clone(),
                format: header.format,
            });
        }
        let content: Content = serde_json::from_slice(&bytes).map_err(|_damaged| self.damaged())?;
        if content.cluster != cluster {
            return Ok(BTreeMap::new());
        }
        Ok(bounded(&content.peers))
    }

    /// Replaces what is saved, all of it or nothing, and returns when it is on the disk. Does nothing when it is there
    /// already. The first 2,000 peers and 16 addresses of each are kept.
    pub fn save(
        &mut self,
        cluster: ClusterId,
        peers: &BTreeMap<NodeId, Vec<SocketAddr>>,
    ) -> Result<(), CacheError> {
        let content = Content {
            format: FORMAT,
            cluster,
            peers: bounded(peers),
        };
        let bytes = written(&content);
        if self.written.as_ref() == Some(&bytes) {
            return Ok(());
        }
        write_atomically(&self.path, &bytes).map_err(|source| CacheError::Write {
            path: self.path.clone(),
            source,
        })?;
        self.written = Some(bytes);
        Ok(())
    }

    fn damaged(&self) -> CacheError {
        CacheError::Damaged {
            path: self.path.clone(),
        }
    }
}

fn written(content: &Content) -> Vec<u8> {
    serde_json::to_vec_pretty(content).expect("ids and addresses are written as text")
}

fn bounded(peers: &BTreeMap<NodeId, Vec<SocketAddr>>) -> BTreeMap<NodeId, Vec<SocketAddr>> {
    let reachable = peers.iter().filter(|(_, addresses)| !addresses.is_empty());
    let few = |addresses: &Vec<SocketAddr>| addresses.iter().copied().take(MAX_ADDRESSES).collect();
    reachable
        .take(MAX_MEMBERS)
        .map(|(node, addresses)| (*node, few(addresses)))
        .collect()
}

fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: ClusterId = ClusterId::from_bits(77);

    fn peers(count: u128) -> BTreeMap<NodeId, Vec<SocketAddr>> {
        (1..=count)
            .map(|bits| {
                (
                    NodeId::from_bits(bits),
                    vec!["192.0.2.1:2377".parse().unwrap()],
                )
            })
            .collect()
    }

    fn cache(dir: &tempfile::TempDir) -> KnownPeers {
        KnownPeers::new(dir.path().join("peers.json"))
    }

    #[test]
    fn peers_outlive_the_process() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(cache(&dir).load(CLUSTER).unwrap(), BTreeMap::new());
        cache(&dir).save(CLUSTER, &peers(3)).unwrap();
        cache(&dir).save(CLUSTER, &peers(4)).unwrap();
        assert_eq!(cache(&dir).load(CLUSTER).unwrap(), peers(4));
        assert_eq!(
            cache(&dir).load(ClusterId::from_bits(78)).unwrap(),
            BTreeMap::new()
        );
    }

    #[test]
    fn the_same_is_not_written_twice() {
        let dir = tempfile::tempdir().unwrap();
        let mut cache = cache(&dir);
        cache.save(CLUSTER, &peers(3)).unwrap();
        fs::remove_file(&cache.path).unwrap();
        cache.save(CLUSTER, &peers(3)).unwrap();
        assert!(!cache.path.exists());
        cache.save(CLUSTER, &peers(2)).unwrap();
        assert!(cache.path.exists());
    }

    #[test]
    fn it_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let mut many = peers(3_000);
        many.insert(
            NodeId::from_bits(1),
            vec!["192.0.2.1:1".parse().unwrap(); 99],
        );
        many.insert(NodeId::from_bits(2), Vec::new());
        cache(&dir).save(CLUSTER, &many).unwrap();
        let read = cache(&dir).load(CLUSTER).unwrap();
        assert_eq!(read.len(), MAX_MEMBERS);
        assert_eq!(read[&NodeId::from_bits(1)].len(), MAX_ADDRESSES);
        assert!(
            !read.contains_key(&NodeId::from_bits(2)),
            "nowhere to reach it"
        );
    }

    /// Written by format 1, and to be read by every later one.
    const GOLDEN: &str = r#"{"format":1,"cluster":"0000000000000000000000025",
        "peers":{"0000000000000000000000001":["192.0.2.1:2377"],"0000000000000000000000002":["192.0.2.1:2377"]}}"#;

    #[test]
    fn the_first_format_is_read() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(cache(&dir).path, GOLDEN).unwrap();
        assert_eq!(cache(&dir).load(CLUSTER).unwrap(), peers(2));
    }

    #[test]
    fn damage_is_told_from_a_newer_format() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(&dir);
        for cut in [0, 1, 20, GOLDEN.len() - 1] {
            fs::write(&cache.path, &GOLDEN[..cut]).unwrap();
            assert!(
                matches!(cache.load(CLUSTER), Err(CacheError::Damaged { .. })),
                "cut at {cut}"
            );
        }
        for at in 0..GOLDEN.len() {
            let mut bytes = GOLDEN.as_bytes().to_vec();
            bytes[at] ^= 0x80;
            fs::write(&cache.path, bytes).unwrap();
            assert!(cache.load(CLUSTER).is_err(), "flipped at {at}");
        }
        fs::write(&cache.path, r#"{"format":2,"other":[]}"#).unwrap();
        assert!(matches!(
            cache.load(CLUSTER),
            Err(CacheError::Newer { format: 2, .. })
        ));
    }

    #[test]
    fn a_disk_that_refuses_leaves_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        cache(&dir).save(CLUSTER, &peers(3)).unwrap();
        let beside = cache(&dir).path.with_extension("new");
        fs::create_dir(&beside).unwrap();
        assert!(matches!(
            cache(&dir).save(CLUSTER, &peers(4)),
            Err(CacheError::Write { .. })
        ));
        assert_eq!(cache(&dir).load(CLUSTER).unwrap(), peers(3));
    }
}
