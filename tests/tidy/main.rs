//! The house rules that no compiler checks, held by a test.
//!
//! Reads the tree as it lies on disk and reports every breach as `file:line: what is wrong`. It decides
//! nothing about behaviour and never writes. [`proofs`] shows for each rule that it can fail.

mod code;
mod proofs;
mod rooms;
mod text;

use std::fmt;
use std::path::{Path, PathBuf};

/// One breach of one rule.
#[derive(Debug)]
struct Finding {
    /// Path from the top of the tree, with `/`.
    file: String,
    /// Counted from one.
    line: usize,
    /// What is wrong, and what to do instead.
    what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// What the top of the tree may hold beside dot files. `target` is cargo's and not in git.
const TOP_LEVEL: [&str; 10] = [
    "ARCHITECTURE.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "certs",
    "scripts",
    "src",
    "target",
    "tests",
];

/// Folders that hold other people's text or data: build output, git's own, fuzz corpora and golden files.
const NOT_OURS: [&str; 4] = [".git", "corpus", "golden", "target"];

#[test]
fn the_tree_is_tidy() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut findings = check_top(&names(top));
    let mut files = Vec::new();
    collect(top, top, &mut files);
    assert!(
        files.iter().any(|file| file == "src/lib.rs"),
        "the walk missed the sources"
    );
    let texts: Vec<(String, String)> = files
        .into_iter()
        .filter_map(|file| {
            let bytes = std::fs::read(top.join(&file)).expect("a listed file can be read");
            Some((file, String::from_utf8(bytes).ok()?))
        })
        .collect();
    findings.extend(check_files(&texts));
    let report: Vec<String> = findings.iter().map(Finding::to_string).collect();
    assert!(
        report.is_empty(),
        "{} breaches of the house rules:\n{}",
        report.len(),
        report.join("\n")
    );
}

/// Every rule that looks into files, given as path and content.
fn check_files(files: &[(String, String)]) -> Vec<Finding> {
    let test_modules: Vec<Vec<String>> = files
        .iter()
        .filter(|(file, _)| file.starts_with("src/") && file.ends_with(".rs"))
        .filter_map(|(file, text)| code::read(file, false, text).ok())
        .flat_map(|facts| facts.test_modules)
        .collect();
    let mut findings = Vec::new();
    for (file, text) in files {
        findings.extend(text::check(file, text));
        if file.ends_with(".rs") {
            let module = code::module_of(file);
            let for_tests = file.starts_with("tests/")
                || test_modules.iter().any(|tests| module.starts_with(tests));
            match code::read(file, for_tests, text) {
                Ok(facts) => findings.extend(rooms::check(file, &facts)),
                Err(line) => findings.push(Finding {
                    file: file.clone(),
                    line,
                    what: "this is not Rust that can be read".into(),
                }),
            }
        }
    }
    findings
}

fn check_top(names: &[String]) -> Vec<Finding> {
    names
        .iter()
        .filter(|name| !name.starts_with('.') && !TOP_LEVEL.contains(&name.as_str()))
        .map(|name| Finding {
            file: name.clone(),
            line: 1,
            what: "the top level is fixed: this belongs into src, tests, certs or scripts".into(),
        })
        .collect()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("a folder of the tree can be listed")
        .map(|entry| {
            let entry = entry.expect("a folder of the tree can be listed");
            entry.file_name().to_string_lossy().into_owned()
        })
        .collect();
    names.sort();
    names
}

fn collect(top: &Path, folder: &Path, files: &mut Vec<String>) {
    for name in names(folder) {
        let path: PathBuf = folder.join(&name);
        if NOT_OURS.contains(&name.as_str()) || path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            collect(top, &path, files);
        } else {
            let from_top = path.strip_prefix(top).expect("it was found below the top");
            files.push(from_top.to_string_lossy().into_owned());
        }
    }
}
