//! Sealed records and the key file, whole and damaged.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::cluster::store::memory_disk::MemoryDisk;

fn sealer() -> (Arc<MemoryDisk>, Sealer) {
    let disk = Arc::new(MemoryDisk::default());
    let sealer = Sealer::open(&*disk, true).unwrap();
    (disk, sealer)
}

#[test]
fn records_open_where_they_belong_and_nowhere_else() {
    let (_, sealer) = sealer();
    let sealed = sealer.seal(Kind::Entry, 7, b"a secret");
    assert_eq!(
        sealer.open_record(Kind::Entry, 7, &sealed).unwrap(),
        b"a secret"
    );
    assert_eq!(sealer.open_record(Kind::Entry, 8, &sealed), Err(Unsealable));
    assert_eq!(sealer.open_record(Kind::Field, 7, &sealed), Err(Unsealable));
    assert!(!sealed.windows(8).any(|window| window == b"a secret"));
}

#[test]
fn no_nonce_is_used_twice() {
    let (_, sealer) = sealer();
    sealer.nonces.lock().unwrap().next = u32::MAX - 3;
    let nonces: std::collections::BTreeSet<_> = (0..10).map(|_| sealer.next_nonce()).collect();
    assert_eq!(nonces.len(), 10);
}

#[test]
fn a_new_key_seals_and_the_old_ones_still_open() {
    let (disk, sealer) = sealer();
    let old = sealer.seal(Kind::Entry, 1, b"old");
    sealer.rotate(&*disk).unwrap();
    let new = sealer.seal(Kind::Entry, 2, b"new");
    assert_ne!(old[..4], new[..4]);
    let again = Sealer::open(&*disk, false).unwrap();
    assert_eq!(again.open_record(Kind::Entry, 1, &old).unwrap(), b"old");
    assert_eq!(again.open_record(Kind::Entry, 2, &new).unwrap(), b"new");
    assert_eq!(again.seal(Kind::Entry, 3, b"x")[..4], new[..4]);
}

#[test]
fn the_key_file_says_what_is_wrong_with_it() {
    let (disk, _) = sealer();
    let good = disk.read(KEY_FILE).unwrap().unwrap();
    let resummed = |mut file: Vec<u8>| {
        file.truncate(file.len() - SHA256_OUTPUT_LEN);
        let sum = digest(&SHA256, &file);
        file.extend_from_slice(sum.as_ref());
        file
    };
    let fault = |file: Vec<u8>| {
        disk.write(KEY_FILE, &file).unwrap();
        Sealer::open(&*disk, false).unwrap_err().to_string()
    };
    let mut newer = good.clone();
    newer[MAGIC.len()] = 9;
    assert!(fault(resummed(newer)).contains("has format 9"));
    let mut sealed = good.clone();
    sealed[HEADER_LEN - 1] = 1;
    assert!(fault(resummed(sealed)).contains("sealed by means 1"));
    assert!(fault(Vec::new()).contains("too short"));
    for at in 0..good.len() {
        let mut flipped = good.clone();
        flipped[at] ^= 1 << (at % 8);
        assert!(
            fault(flipped).contains("memory/key is damaged"),
            "byte {at}"
        );
        assert!(
            fault(good[..at].to_vec()).contains("memory/key is damaged"),
            "{at} bytes"
        );
    }
}

proptest! {
    #[test]
    fn a_record_with_any_change_does_not_open(
        plain: Vec<u8>, place: u64, at: prop::sample::Index, bit in 0..8u8
    ) {
        let (_, sealer) = sealer();
        let sealed = sealer.seal(Kind::Snapshot, place, &plain);
        prop_assert_eq!(sealer.open_record(Kind::Snapshot, place, &sealed).unwrap(), plain);
        let mut flipped = sealed.clone();
        flipped[at.index(sealed.len())] ^= 1 << bit;
        prop_assert_eq!(sealer.open_record(Kind::Snapshot, place, &flipped), Err(Unsealable));
        let cut = &sealed[..at.index(sealed.len())];
        prop_assert_eq!(sealer.open_record(Kind::Snapshot, place, cut), Err(Unsealable));
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let (_, sealer) = sealer();
        prop_assert!(sealer.open_record(Kind::Entry, 0, &bytes).is_err());
    }
}
