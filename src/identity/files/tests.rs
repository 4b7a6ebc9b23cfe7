//! What lies on disk, with which rights, and what a crash or a stranger's hand leaves.

use super::*;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn what_is_saved_is_loaded_and_private() {
    let root = tempfile::tempdir().unwrap();
    let dir = CertificateDir::new(root.path());
    assert!(dir.load().unwrap().is_none());
    assert!(dir.load_key().unwrap().is_none());
    dir.save_key("key").unwrap();
    assert_eq!(*dir.load_key().unwrap().unwrap(), "key");
    assert!(dir.load().unwrap().is_none(), "a key alone is no member");
    dir.save_certificates("chain 1", "roots 1").unwrap();
    dir.save_certificates("chain", "roots").unwrap();
    let stored = dir.load().unwrap().unwrap();
    assert_eq!(*stored.key_pem, "key");
    assert_eq!(stored.chain_pem, "chain");
    assert_eq!(stored.roots_pem, "roots");
    assert_eq!(format!("{stored:?}"), "StoredIdentity { .. }");
    let path = root.path().join("swarm/certificates");
    assert_eq!(mode(&path), 0o700);
    let mut names: Vec<_> = fs::read_dir(&path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    let expected = [KEY_FILE, CHAIN_FILE, ROOTS_FILE].map(|name| path.join(name));
    assert_eq!(names.len(), 3, "{names:?}");
    for file in expected {
        assert!(names.contains(&file));
        assert_eq!(mode(&file), 0o600);
    }
}

#[test]
fn an_open_directory_and_a_leftover_do_not_stay_open() {
    let root = tempfile::tempdir().unwrap();
    let dir = CertificateDir::new(root.path());
    fs::create_dir_all(dir.path()).unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let leftover = dir.temporary(KEY_FILE);
    fs::write(&leftover, "half a k").unwrap();
    fs::set_permissions(&leftover, Permissions::from_mode(0o644)).unwrap();
    dir.save_key("k").unwrap();
    assert_eq!(mode(dir.path()), 0o700);
    assert_eq!(mode(&dir.path().join(KEY_FILE)), 0o600);
    assert_eq!(*dir.load_key().unwrap().unwrap(), "k");
    assert!(!leftover.exists());
}

#[test]
fn a_missing_part_is_named() {
    let root = tempfile::tempdir().unwrap();
    let dir = CertificateDir::new(root.path());
    dir.save_certificates("chain", "roots").unwrap();
    let error = dir.load().unwrap_err().to_string();
    assert!(error.contains("swarm-node.crt is there but"), "{error}");
    assert!(error.contains("swarm-node.key is not"), "{error}");
    dir.save_key("key").unwrap();
    fs::remove_file(dir.path().join(ROOTS_FILE)).unwrap();
    let error = dir.load().unwrap_err().to_string();
    assert!(error.contains("swarm-root-ca.crt is not"), "{error}");
    fs::remove_file(dir.path().join(CHAIN_FILE)).unwrap();
    assert!(dir.load().unwrap().is_none());
}

#[test]
fn after_removal_nothing_is_left() {
    let root = tempfile::tempdir().unwrap();
    let dir = CertificateDir::new(root.path());
    dir.remove_all().unwrap();
    dir.save_key("key").unwrap();
    dir.save_certificates("chain", "roots").unwrap();
    fs::write(dir.temporary(KEY_FILE), "half").unwrap();
    dir.remove_all().unwrap();
    assert!(dir.load_key().unwrap().is_none());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn what_cannot_be_read_or_written_is_named_with_its_path() {
    let root = tempfile::tempdir().unwrap();
    let dir = CertificateDir::new(root.path());
    dir.save_key("key").unwrap();
    fs::write(dir.path().join(CHAIN_FILE), [0xff, 0xfe]).unwrap();
    let error = dir.load().unwrap_err();
    assert!(matches!(error, FilesError::Read { .. }), "{error:?}");
    let huge = vec![b'a'; MAX_FILE_BYTES as usize + 1];
    fs::write(dir.path().join(CHAIN_FILE), huge).unwrap();
    assert!(matches!(dir.load(), Err(FilesError::TooLarge { .. })));
    let blocked = root.path().join("file");
    fs::write(&blocked, "").unwrap();
    let error = CertificateDir::new(&blocked).save_key("key").unwrap_err();
    assert!(
        error
            .to_string()
            .contains("file/swarm/certificates/swarm-node.key")
    );
}
