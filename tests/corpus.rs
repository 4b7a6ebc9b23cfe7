//! Replays the inputs in `tests/corpus` that fuzzing has found to matter, and the samples that it begins with.

#[path = "fuzz/checks/mod.rs"]
mod checks;

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use checks::{TARGETS, Target, frame};

/// Inputs are kept for what they reach, not for their number: more are a sign that the corpus was not minimised.
const MOST_FILES: usize = 100;

/// Folders that unit tests replay, because the types behind them are no business of other rooms.
const IN_ROOMS: [&str; 2] = ["raft", "request"];

/// Longest input, in bytes.
const LONGEST: usize = 2048;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a folder of the tree can be listed").path())
        .collect();
    paths.sort();
    paths
}

/// Checks one input; a panic is told with where the input came from.
fn replay(target: &Target, input: &[u8], origin: &str) {
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.check)(input)));
    assert!(outcome.is_ok(), "{origin} breaks a promise, see above");
}

fn target(name: &str) -> &'static Target {
    let named = TARGETS.iter().find(|target| target.name == name);
    named.expect("each test names a target")
}

fn replay_all(name: &str) {
    let target = target(name);
    let found = files(&corpus().join(name));
    assert!(
        !found.is_empty(),
        "the corpus is empty: scripts/fuzz {name}"
    );
    assert!(
        found.len() <= MOST_FILES,
        "minimise the corpus: scripts/fuzz {name}"
    );
    for path in found {
        let input = fs::read(&path).expect("a file of the tree can be read");
        let origin = path.display().to_string();
        assert!(
            input.len() <= LONGEST,
            "{origin} is longer than {LONGEST} bytes"
        );
        replay(target, &input, &origin);
    }
    for (number, sample) in (target.samples)().iter().enumerate() {
        replay(target, sample, &format!("sample {number} of {name}"));
    }
}

#[test]
fn addresses_hold() {
    replay_all("address");
}

#[test]
fn certificates_hold() {
    replay_all("certificate");
}

#[test]
fn names_hold() {
    replay_all("dns");
}

#[test]
fn frames_hold() {
    replay_all("frame");
}

#[test]
fn gossip_holds() {
    replay_all("gossip");
}

#[test]
fn tokens_hold() {
    replay_all("token");
}

#[test]
fn every_folder_of_the_corpus_has_its_check() {
    let folders: BTreeSet<String> = files(&corpus())
        .iter()
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    let targets = TARGETS.iter().map(|target| target.name);
    let targets = targets.chain(IN_ROOMS).map(str::to_owned);
    assert_eq!(folders, targets.collect());
}

#[test]
fn each_sample_of_frames_holds_messages() {
    for (number, sample) in (target("frame").samples)().iter().enumerate() {
        assert!(frame::understood(sample) > 0, "sample {number}");
    }
}
