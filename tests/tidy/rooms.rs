//! Rules about what code may name where: import directions, each crate's home, prints, sleeps, length.

use super::Finding;
use super::code::{CodePath, Facts, Name, Usage, module_of};

/// Longest function, from `fn` to its closing brace.
const FUNCTION_LINES: usize = 70;

/// Functions that are longer all the same: file, name, lines. The number only falls, and a function that has
/// become shorter leaves the list.
const LONG_FUNCTIONS: [(&str, &str, usize); 1] = [(
    "src/cluster/membership/guard/tests.rs",
    "what_is_let_in_does_no_harm",
    98,
)];

/// Functions that may let time pass in tests: they look for a condition again and again until a deadline, or name the
/// time in which something must not happen.
const POLLS: [&str; 4] = ["eventually", "until", "holds_for", "let_pass"];

/// Test code that runs under a virtual clock alone: its sleeps are the schedule of a simulation, and take no time.
const VIRTUAL_TIME: &str = "src/sim/";

/// Each room, and the rooms that it may import from.
const ROOMS: [(&str, &[&str]); 11] = [
    ("model", &[]),
    ("wire", &["model"]),
    ("config", &["model", "wire"]),
    ("identity", &["model", "wire"]),
    ("cluster", &["model", "wire", "identity"]),
    ("manager", &["model", "wire", "identity", "cluster"]),
    ("agent", &["model", "wire", "identity", "cluster"]),
    ("api", &["model", "wire", "identity", "cluster"]),
    (
        "node",
        &[
            "model", "wire", "config", "identity", "cluster", "manager", "agent", "api",
        ],
    ),
    (
        "cli",
        &[
            "model", "wire", "config", "identity", "cluster", "manager", "agent", "api", "node",
        ],
    ),
    (
        "sim",
        &[
            "model", "wire", "config", "identity", "cluster", "manager", "agent", "api", "node",
        ],
    ),
];

/// Crates and parts of std that only some places may name. `""` is the top of the crate, `main.rs` and `lib.rs`.
const HOMES: [(&str, &[&str]); 22] = [
    ("anyhow", &["", "cli", "node", "cluster::membership"]),
    ("axum", &["api", "node"]),
    ("bincode", &["wire::codec"]),
    ("chitchat", &["cluster::membership"]),
    ("clap", &["", "cli"]),
    ("clap_complete", &["cli"]),
    ("containerd_client", &["agent"]),
    ("hickory_proto", &["agent::network::dns"]),
    ("hyper", &["api", "node", "cli"]),
    ("hyper_util", &["api", "node", "cli"]),
    ("oci_client", &["agent"]),
    ("openraft", &["cluster::store"]),
    ("quinn", &["cluster::transport", "identity"]),
    ("rcgen", &["identity", "api::tcp"]),
    ("redb", &["cluster::store", "agent::ledger"]),
    ("rtnetlink", &["agent", "node"]),
    (
        "rustls",
        &[
            "agent::images::registry",
            "api::tcp",
            "cluster::transport",
            "identity",
        ],
    ),
    ("tokio_rustls", &["api::tcp"]),
    ("saphyr_parser", &["cli::stack::yaml"]),
    ("sd_notify", &["", "cli", "node"]),
    ("tracing_subscriber", &["", "cli"]),
    ("x509_parser", &["identity", "api::dto"]),
];

/// What the rooms of values and bytes may not name: they have no runtime, no disk, no socket and no clock.
const NOT_IN_VALUES: [&[&str]; 12] = [
    &["tokio"],
    &["tokio_util"],
    &["std", "env"],
    &["std", "fs"],
    &["std", "net", "TcpListener"],
    &["std", "net", "TcpStream"],
    &["std", "net", "UdpSocket"],
    &["std", "os", "unix", "net"],
    &["std", "process"],
    &["std", "thread"],
    &["std", "time", "Instant"],
    &["std", "time", "SystemTime"],
];

/// Breaches of the code rules in `facts`, what `file` says.
pub(crate) fn check(file: &str, facts: &Facts) -> Vec<Finding> {
    let mut findings = functions(file, facts);
    let mut report = |line: usize, what: String| {
        findings.push(Finding {
            file: file.into(),
            line,
            what,
        });
    };
    for attribute in facts
        .attributes
        .iter()
        .filter(|attribute| attribute.name == "ignore")
    {
        report(
            attribute.place.line,
            "an ignored test proves nothing: run it, or print why it cannot run".into(),
        );
    }
    for call in &facts.macros {
        if let Some(what) = check_macro(file, call) {
            report(call.place.line, what);
        }
    }
    for path in &facts.paths {
        let segments: Vec<&str> = path.segments.iter().map(String::as_str).collect();
        if path.place.test && !file.starts_with(VIRTUAL_TIME) && sleeps(facts, path) {
            report(
                path.place.line,
                "a test waits on a condition, with a deadline; it never sleeps".into(),
            );
        }
        let Some(here) = file.starts_with("src/").then(|| module_of(file).join("::")) else {
            continue;
        };
        if let Some(what) = check_direction(&here, &segments) {
            report(path.place.line, what);
        }
        let names_a_crate = segments.len() > 1 || path.usage == Usage::Imports;
        if names_a_crate && !path.place.test {
            check_home(&here, &segments)
                .into_iter()
                .for_each(|what| report(path.place.line, what));
        }
    }
    findings
}

fn functions(file: &str, facts: &Facts) -> Vec<Finding> {
    let limit_of = |name: &str| {
        let listed = LONG_FUNCTIONS
            .iter()
            .find(|listed| (listed.0, listed.1) == (file, name));
        listed.map_or(FUNCTION_LINES, |listed| listed.2)
    };
    let too_long = facts
        .functions
        .iter()
        .filter(|function| function.lines > limit_of(&function.name));
    let too_long = too_long.map(|function| {
        let (name, lines) = (&function.name, function.lines);
        (
            function.line,
            format!("`{name}` has {lines} lines, more than {FUNCTION_LINES}: cut it by idea"),
        )
    });
    let stale = LONG_FUNCTIONS
        .iter()
        .filter(|listed| listed.0 == file)
        .filter(|listed| {
            !facts
                .functions
                .iter()
                .any(|function| function.name == listed.1 && function.lines == listed.2)
        });
    let stale = stale.map(|listed| {
        (
            1,
            format!(
                "`{}` is listed as long and no longer is: lower the list",
                listed.1
            ),
        )
    });
    too_long
        .chain(stale)
        .map(|(line, what)| Finding {
            file: file.into(),
            line,
            what,
        })
        .collect()
}

fn check_macro(file: &str, call: &Name) -> Option<String> {
    let name = call.name.as_str();
    let may_print = call.place.test || file == "src/main.rs" || file.starts_with("src/cli/");
    match name {
        "todo" | "unimplemented" => Some(format!("`{name}!`: finish it")),
        "print" | "println" | "eprint" | "eprintln" | "dbg" if !may_print => Some(format!(
            "`{name}!`: only the command line prints; elsewhere it is a tracing event"
        )),
        _ => None,
    }
}

/// Whether this is a sleep, and not one between two looks of a function that polls.
fn sleeps(facts: &Facts, path: &CodePath) -> bool {
    let is_sleep = path
        .segments
        .last()
        .is_some_and(|name| name == "sleep" || name == "sleep_until");
    let polls = facts.functions.iter().any(|function| {
        let body = function.line..function.line + function.lines;
        POLLS.contains(&function.name.as_str()) && body.contains(&path.place.line)
    });
    is_sleep && path.usage == Usage::Calls && !polls
}

/// Whether the module `here` may name `path`, when that is a path into this crate.
fn check_direction(here: &str, path: &[&str]) -> Option<String> {
    let ["crate" | "skein", target, ..] = path else {
        return None;
    };
    let room = here.split("::").next().unwrap_or_default();
    if room.is_empty() || room == *target || !ROOMS.iter().any(|(name, _)| name == target) {
        return None;
    }
    match ROOMS.iter().find(|(name, _)| *name == room) {
        Some((_, allowed)) if allowed.contains(target) => None,
        Some(_) => Some(format!(
            "`{room}` may not import from `{target}`: imports point one way"
        )),
        None => Some(format!(
            "`{room}` is no room of this house: place it in the table of rooms"
        )),
    }
}

/// Whether the module `here` may name `path`, when that is a path out of this crate.
fn check_home(here: &str, path: &[&str]) -> Option<String> {
    let within = |place: &str| here == place || here.starts_with(&format!("{place}::"));
    if let Some((name, homes)) = HOMES.iter().find(|(name, _)| path[0] == *name) {
        let at_home = homes.iter().any(|home| {
            if home.is_empty() {
                here.is_empty()
            } else {
                within(home)
            }
        });
        let homes = homes
            .join(", ")
            .replacen(", ", "the top, ", usize::from(homes[0].is_empty()));
        return (!at_home).then(|| format!("`{name}` is named only in {homes}"));
    }
    let of_values = ["model", "wire"].into_iter().any(within);
    let banned = NOT_IN_VALUES
        .iter()
        .find(|banned| path.starts_with(banned))?;
    of_values.then(|| {
        format!(
            "`{}`: model and wire hold values, without runtime, IO or clock",
            banned.join("::")
        )
    })
}
