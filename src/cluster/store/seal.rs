//! Encrypts what lies on disk: each log entry and each snapshot, with a data key of this node.
//!
//! The data keys are kept in the file `key`. It says how they are sealed themselves; this build writes
//! them in the clear (`sealed by` 0), and the field is there for an unlock key. Several keys may stand
//! in it: [`Sealer::rotate`] adds one and writes with it from then on, the older ones still read.
//!
//! A record is `key id, nonce, ciphertext, tag`. What it is and where it belongs is authenticated with
//! it, so that no record can take another's place.

use std::fmt;
use std::sync::{Mutex, PoisonError, RwLock};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::disk::{Disk, KEY_FILE};
use super::fault::FileFault;
use crate::wire::{decode, encode};

/// First bytes of the key file.
const MAGIC: &[u8; 8] = b"SKEINKEY";
/// The format of the key file that this build writes, and the newest that it reads.
const FORMAT: u16 = 1;
/// The data keys stand in the clear.
const SEALED_BY_NOTHING: u8 = 0;
/// Bytes before the body: magic, format, how it is sealed.
const HEADER_LEN: usize = MAGIC.len() + 2 + 1;
/// Bytes that a sealed record is longer than its plain text, without the tag.
const PREFIX_LEN: usize = 4 + NONCE_LEN;

/// What a sealed record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A log entry; its place is its index.
    Entry = 1,
    /// A field of the log's own bookkeeping; its place is the field's number.
    Field = 2,
    /// A snapshot; its place is the index that it ends at.
    Snapshot = 3,
}

/// A record does not open: it is damaged, moved, or sealed with a key that is not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a sealed record does not open")]
pub(crate) struct Unsealable;

/// Seals and opens records with the data keys of one store.
pub(crate) struct Sealer {
    keys: RwLock<Keys>,
    nonces: Mutex<Nonces>,
    random: SystemRandom,
}

struct Keys {
    active: u32,
    /// Each with its number.
    all: Vec<(u32, LessSafeKey, Zeroizing<[u8; 32]>)>,
}

/// A random prefix and a counter: a nonce is never used twice, however many records there are.
struct Nonces {
    prefix: [u8; 8],
    next: u32,
}

/// The body of the key file.
#[derive(Serialize, Deserialize)]
struct KeyRecord {
    active: u32,
    keys: Vec<(u32, [u8; 32])>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(…)")
    }
}

impl Sealer {
    /// Reads the key file. When there is none, makes the first key if `fresh`, which says that nothing was
    /// ever sealed; otherwise that is a fault. The caller holds the lock of the log.
    pub(super) fn open(disk: &dyn Disk, fresh: bool) -> Result<Self, FileFault> {
        let path = disk.path(KEY_FILE);
        let random = SystemRandom::new();
        let keys = match disk.read(KEY_FILE)? {
            Some(bytes) => parse(&Zeroizing::new(bytes), &path)?,
            None if !fresh => return Err(FileFault::Missing { path }),
            None => {
                let mut key = Zeroizing::new([0; 32]);
                fill(&random, &mut *key);
                let keys = Keys {
                    active: 1,
                    all: vec![entry(1, key)],
                };
                disk.write(KEY_FILE, &file_of(&keys))?;
                keys
            }
        };
        let mut prefix = [0; 8];
        fill(&random, &mut prefix);
        Ok(Self {
            keys: RwLock::new(keys),
            nonces: Mutex::new(Nonces { prefix, next: 0 }),
            random,
        })
    }

    /// Adds a fresh data key, durably, and seals with it from now on.
    pub(super) fn rotate(&self, disk: &dyn Disk) -> Result<(), FileFault> {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let mut key = Zeroizing::new([0; 32]);
        fill(&self.random, &mut *key);
        let id = keys.active + 1;
        let mut all: Vec<_> = keys
            .all
            .iter()
            .map(|(id, _, key)| entry(*id, key.clone()))
            .collect();
        all.push(entry(id, key));
        let next = Keys { active: id, all };
        disk.write(KEY_FILE, &file_of(&next))?;
        *keys = next;
        Ok(())
    }

    /// Encrypts `plain` as the record that belongs at `place`.
    pub(super) fn seal(&self, kind: Kind, place: u64, plain: &[u8]) -> Vec<u8> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let nonce = self.next_nonce();
        let mut out = Vec::with_capacity(PREFIX_LEN + plain.len() + AES_256_GCM.tag_len());
        out.extend_from_slice(&keys.active.to_le_bytes());
        out.extend_from_slice(&nonce);
        out.extend_from_slice(plain);
        let key = keys
            .find(keys.active)
            .expect("the active key is one of the keys");
        let tag = key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                aad(kind, place),
                &mut out[PREFIX_LEN..],
            )
            .expect("a record is far shorter than what AES-GCM takes");
        out.extend_from_slice(tag.as_ref());
        out
    }

    /// The plain text of a record that belongs at `place`.
    pub(super) fn open_record(
        &self,
        kind: Kind,
        place: u64,
        sealed: &[u8],
    ) -> Result<Vec<u8>, Unsealable> {
        let (id, rest) = sealed.split_first_chunk::<4>().ok_or(Unsealable)?;
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>().ok_or(Unsealable)?;
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let key = keys.find(u32::from_le_bytes(*id)).ok_or(Unsealable)?;
        let mut body = body.to_vec();
        let plain = key
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                aad(kind, place),
                &mut body,
            )
            .map_err(|_| Unsealable)?
            .len();
        body.truncate(plain);
        Ok(body)
    }

    fn next_nonce(&self) -> [u8; NONCE_LEN] {
        let mut nonces = self.nonces.lock().unwrap_or_else(PoisonError::into_inner);
        if nonces.next == u32::MAX {
            fill(&self.random, &mut nonces.prefix);
            nonces.next = 0;
        }
        nonces.next += 1;
        let mut nonce = [0; NONCE_LEN];
        nonce[..8].copy_from_slice(&nonces.prefix);
        nonce[8..].copy_from_slice(&nonces.next.to_le_bytes());
        nonce
    }
}

impl Keys {
    fn find(&self, id: u32) -> Option<&LessSafeKey> {
        self.all
            .iter()
            .find(|(have, _, _)| *have == id)
            .map(|(_, key, _)| key)
    }
}

/// The store cannot keep its promises without randomness; ring's source fails only where the
/// kernel has none.
pub(super) fn fill(random: &SystemRandom, bytes: &mut [u8]) {
    random
        .fill(bytes)
        .expect("the kernel gives random bytes once it has booted");
}

fn entry(id: u32, key: Zeroizing<[u8; 32]>) -> (u32, LessSafeKey, Zeroizing<[u8; 32]>) {
    let unbound = UnboundKey::new(&AES_256_GCM, &*key).expect("a key has 32 bytes");
    (id, LessSafeKey::new(unbound), key)
}

fn aad(kind: Kind, place: u64) -> Aad<[u8; 9]> {
    let mut aad = [kind as u8; 9];
    aad[1..].copy_from_slice(&place.to_le_bytes());
    Aad::from(aad)
}

fn file_of(keys: &Keys) -> Zeroizing<Vec<u8>> {
    let record = KeyRecord {
        active: keys.active,
        keys: keys.all.iter().map(|(id, _, key)| (*id, **key)).collect(),
    };
    let body = Zeroizing::new(encode(&record).expect("numbers and bytes encode"));
    let mut file = Zeroizing::new(Vec::with_capacity(
        HEADER_LEN + body.len() + SHA256_OUTPUT_LEN,
    ));
    file.extend_from_slice(MAGIC);
    file.extend_from_slice(&FORMAT.to_le_bytes());
    file.push(SEALED_BY_NOTHING);
    file.extend_from_slice(&body);
    let sum = digest(&SHA256, &file);
    file.extend_from_slice(sum.as_ref());
    file
}

fn parse(file: &[u8], path: &std::path::Path) -> Result<Keys, FileFault> {
    let damaged = |what| FileFault::damaged(path, what);
    let Some((content, sum)) = file.split_last_chunk::<SHA256_OUTPUT_LEN>() else {
        return Err(damaged("it is too short"));
    };
    if content.len() < HEADER_LEN || content[..MAGIC.len()] != MAGIC[..] {
        return Err(damaged("it does not begin as a key file does"));
    }
    if digest(&SHA256, content).as_ref() != sum {
        return Err(damaged("its checksum does not fit"));
    }
    let format = u16::from_le_bytes([content[MAGIC.len()], content[MAGIC.len() + 1]]);
    if format > FORMAT {
        return Err(FileFault::NewerFormat {
            path: path.to_owned(),
            found: format.into(),
            known: FORMAT.into(),
        });
    }
    let sealed_by = content[HEADER_LEN - 1];
    if sealed_by != SEALED_BY_NOTHING {
        return Err(FileFault::Sealed {
            path: path.to_owned(),
            by: sealed_by,
        });
    }
    let record: KeyRecord =
        decode(&content[HEADER_LEN..]).map_err(|_| damaged("its body does not decode"))?;
    let keys = Keys {
        active: record.active,
        all: record
            .keys
            .into_iter()
            .map(|(id, key)| entry(id, Zeroizing::new(key)))
            .collect(),
    };
    match keys.find(keys.active) {
        Some(_) => Ok(keys),
        None => Err(damaged("its active key is not among its keys")),
    }
}

#[cfg(test)]
mod tests;
