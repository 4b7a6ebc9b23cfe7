//! For each rule, a text that breaks it and one that comes close and does not.

use super::{Finding, check_files, check_top};

fn check_file(file: &str, text: &str) -> Vec<Finding> {
    check_files(&[(file.into(), text.into())])
}

/// Checks `text` as the content of `file` and expects one breach that mentions `expected` on `line`.
#[track_caller]
fn breaks(file: &str, text: &str, line: usize, expected: &str) {
    let findings = check_file(file, text);
    assert!(
        findings.len() == 1 && findings[0].line == line && findings[0].what.contains(expected),
        "expected one breach on line {line} with `{expected}`, found {findings:#?}"
    );
    assert!(
        findings[0]
            .to_string()
            .starts_with(&format!("{file}:{line}: "))
    );
}

#[track_caller]
fn keeps(file: &str, text: &str) {
    let findings = check_file(file, text);
    assert!(findings.is_empty(), "{findings:#?}");
}

#[test]
fn the_top_level_is_fixed() {
    let names = ["src", "Cargo.toml", ".ci", "notes.txt"].map(String::from);
    let findings = check_top(&names);
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].file, "notes.txt");
}

#[test]
fn imports_point_one_way() {
    for (file, line) in [
        ("src/model/node.rs", "use crate::wire::frame::Frame;"),
        (
            "src/wire/mod.rs",
            "fn a(c: &crate::identity::Credentials) {}",
        ),
        (
            "src/identity/ca.rs",
            "use crate::{cluster::store, model::Node};",
        ),
        (
            "src/cluster/store/mod.rs",
            "use super::super::manager::Plan;",
        ),
        (
            "src/cluster/mod.rs",
            "mod deep { use super::super::api::router; }",
        ),
        ("src/manager/plan.rs", "use crate::agent::task;"),
        ("src/agent/task.rs", "use crate::manager;"),
        ("src/api/nodes.rs", "use crate::node::Handle;"),
        ("src/node/mod.rs", "use crate::{\ncli};"),
    ] {
        let at = if line.contains('\n') { 3 } else { 2 };
        breaks(
            file,
            &format!("//! Doc.\n{line}\n"),
            at,
            "imports point one way",
        );
    }
    breaks(
        "src/attic/mod.rs",
        "//! Doc.\nuse crate::model::Node;\n",
        2,
        "no room of this house",
    );
    for (file, line) in [
        ("src/wire/codec.rs", "use crate::model::Node; // crate::api"),
        (
            "src/cluster/store/mod.rs",
            "use super::quorum; const WORDS: &str = \"crate::api\";",
        ),
        (
            "src/cluster/store/log.rs",
            "use super::super::quorum::{self, QuorumStep};",
        ),
        (
            "src/node/mod.rs",
            "use crate::{api, cluster::store::Store, manager};",
        ),
        ("src/main.rs", "use skein::cli;"),
    ] {
        keeps(file, &format!("//! Doc.\n{line}\n"));
    }
}

#[test]
fn each_crate_has_its_home() {
    for (file, line) in [
        ("src/wire/frame.rs", "use bincode::config;"),
        ("src/cluster/store/mod.rs", "use chitchat::Chitchat;"),
        ("src/api/mod.rs", "fn a() { openraft::Raft::new(); }"),
        ("src/api/mod.rs", "use ::quinn as q;"),
        ("src/manager/mod.rs", "use redb;"),
        (
            "src/cluster/membership/link.rs",
            "type C = Option<quinn::Connection>;",
        ),
        ("src/api/mod.rs", "use containerd_client::tonic;"),
        ("src/cluster/store/mod.rs", "use anyhow::Context;"),
    ] {
        breaks(file, &format!("//! Doc.\n{line}\n"), 2, "is named only in");
    }
    for (file, line) in [
        ("src/wire/codec.rs", "use bincode::config;"),
        ("src/cluster/transport/endpoint.rs", "use quinn::Endpoint;"),
        ("src/identity/tls.rs", "use rustls::ServerConfig;"),
        (
            "src/api/mod.rs",
            "/// Knows no openraft::Raft.\nfn redb(quinn: u8) { quinn.redb(); }",
        ),
        (
            "src/cluster/quorum.rs",
            "#[cfg(test)]\nmod tests { use openraft::Raft; }",
        ),
    ] {
        keeps(file, &format!("//! Doc.\n{line}\n"));
    }
}

#[test]
fn a_file_is_for_tests_when_its_parent_says_so() {
    let parent = |line: &str| ("src/api/mod.rs".to_string(), format!("//! Doc.\n{line}\n"));
    let file = |name: &str| {
        (
            format!("src/api/{name}.rs"),
            "//! Doc.\nuse redb::Database;\n".to_string(),
        )
    };
    for name in ["tests", "fake", "fake/deep"] {
        assert_eq!(
            check_files(&[parent("mod tests; mod fake;"), file(name)]).len(),
            1
        );
        assert_eq!(
            check_files(&[
                parent("#[cfg(test)] mod tests; #[cfg(test)] mod fake;"),
                file(name)
            ])
            .len(),
            0
        );
    }
    assert_eq!(
        check_files(&[parent("#[cfg(test)] mod tests; mod fake;"), file("fake")]).len(),
        1
    );
}

#[test]
fn values_have_no_runtime_and_no_clock() {
    for line in [
        "use tokio::sync::watch;",
        "fn a() { tokio::select! { _ = b() => {} } }",
        "use std::{collections::BTreeMap, fs::File};",
        "use std::net::{SocketAddr, UdpSocket};",
        "fn a() -> u64 { std::time::Instant::now().elapsed().as_secs() }",
    ] {
        breaks(
            "src/model/id.rs",
            &format!("//! Doc.\n{line}\n"),
            2,
            "model and wire hold values",
        );
        breaks(
            "src/wire/frame.rs",
            &format!("//! Doc.\n{line}\n"),
            2,
            "model and wire hold values",
        );
        keeps("src/cluster/quorum.rs", &format!("//! Doc.\n{line}\n"));
    }
    keeps(
        "src/model/node.rs",
        "//! Doc.\nuse std::net::{IpAddr, SocketAddr};\nuse std::time::Duration;\n",
    );
}

#[test]
fn files_say_what_they_are_and_stay_short() {
    breaks("src/api/mod.rs", "use std::fmt;\n", 1, "opens with `//!`");
    breaks(
        "src/api/mod.rs",
        &format!("//! Doc.\n{}", "\n".repeat(700)),
        701,
        "at most 700 lines",
    );
    keeps("src/api/mod.rs", &format!("//! Doc.\n{}", "\n".repeat(699)));
}

#[test]
fn functions_fit_on_a_screen() {
    let of = |lines: usize| {
        format!(
            "//! Doc.\nimpl A {{\nfn long() {{{}}}\n}}\n",
            "\n".repeat(lines - 1)
        )
    };
    breaks("src/api/mod.rs", &of(71), 3, "`long` has 71 lines");
    keeps("src/api/mod.rs", &of(70));
}

#[test]
fn lines_end_in_ink() {
    breaks("README.md", "One. \n", 1, "ends in spaces");
    breaks("scripts/test", "#!/bin/sh\n\t\n", 2, "ends in spaces");
    breaks("scripts/test", "#!/bin/sh", 1, "no end");
    keeps("LICENSE", "Written by others. \n");
}

#[test]
fn nothing_is_left_for_later() {
    let later = ["TO", "DO"].concat();
    breaks(
        "ARCHITECTURE.md",
        &format!("{later}: the rest\n"),
        1,
        "finish it",
    );
    keeps(
        "src/api/mod.rs",
        &format!("//! The {later}LIST of `{later}_X`.\n"),
    );
    for call in ["todo!()", "unimplemented!(\"later\")", "std::todo!()"] {
        breaks(
            "src/api/mod.rs",
            &format!("//! Doc.\nfn a() {{ {call} }}\n"),
            2,
            "finish it",
        );
    }
    keeps(
        "src/api/mod.rs",
        "//! Doc.\nfn a(todo: bool) -> bool { todo != (1 == 2) }\n",
    );
    breaks(
        "tests/e2e/join.rs",
        "//! Doc.\n#[test]\n#[ignore = \"slow\"]\nfn a() {}\n",
        3,
        "ignored test",
    );
    keeps(
        "tests/e2e/join.rs",
        "//! Doc.\n#[derive(Parser)]\nstruct A { #[arg(ignore_case)] a: u8 }\n",
    );
}

#[test]
fn tests_wait_on_conditions() {
    for (file, text) in [
        ("tests/e2e/join.rs", "fn a() { std::thread::sleep(D); }"),
        ("tests/e2e/join.rs", "fn until() {} fn a() {\nsleep(D) }"),
        (
            "src/node/mod.rs",
            "#[cfg(test)] mod tests { async fn a() {\ntime::sleep_until(at).await } }",
        ),
        (
            "src/node/mod.rs",
            "#[tokio::test] async fn a() {\ntokio::time::sleep(D).await }",
        ),
    ] {
        let line = 2 + text.matches('\n').count();
        breaks(file, &format!("//! Doc.\n{text}\n"), line, "never sleeps");
    }
    keeps(
        "src/sim/faults.rs",
        "//! Doc.\n#[cfg(test)]\nmod tests { async fn a() { sleep(D).await } }\n",
    );
    keeps(
        "tests/e2e/wait.rs",
        "//! Doc.\nfn eventually() { loop {\nstd::thread::sleep(D); } }\n",
    );
    keeps(
        "src/node/mod.rs",
        "//! Doc.\n#[cfg(test)]\nmod tests;\nasync fn a() { time::sleep(D).await }\n",
    );
}

#[test]
fn only_the_command_line_prints() {
    for call in ["println!()", "eprint!(\"x\")", "dbg!(1)"] {
        breaks(
            "src/node/mod.rs",
            &format!("//! Doc.\nfn a() {{ {call}; }}\n"),
            2,
            "only the command line prints",
        );
        keeps(
            "src/cli/node.rs",
            &format!("//! Doc.\nfn a() {{ {call}; }}\n"),
        );
        keeps(
            "src/node/mod.rs",
            &format!("//! Doc.\n#[test]\nfn a() {{ {call}; }}\n"),
        );
    }
}

#[test]
fn the_tree_speaks_of_nothing_but_the_project() {
    let path = ["/wo", "rk/"].concat();
    breaks(
        "scripts/build",
        &format!("cd {path}main\n"),
        1,
        "not the project's",
    );
    keeps("README.md", "A worker works on /workers.\n");
}

#[test]
fn what_is_not_rust_is_said_to_be() {
    breaks("src/api/mod.rs", "//! Doc.\nfn a() { ( }\n", 2, "not Rust");
}
