//! Every row of docker's command line that concerns a cluster, with the real command against three hosts.
//!
//! `cli_rows.txt` has a line for each command and each of its flags. A line is cut at ` | `; its first field is the flag,
//! or `-` for the command itself, its second what must come of it:
//!
//! | | |
//! |---|---|
//! | `runs \| HOST \| COMMAND \| WORDS` | it succeeds, and says WORDS (`*` is anything at all) |
//! | `soon \| …` | it does within some seconds: it may meet a change that is still under way |
//! | `follows \| …` | it goes on until it is ended, and has said WORDS by then |
//! | `refused \| …` | it fails, and says why |
//! | `not yet \| …` | as `refused`, until it is built: when it succeeds the test fails, so that the line is changed |
//! | `field \| FLAGS \| POINTER \| JSON` | the command of the `batch` above takes FLAGS, and the object has JSON there |
//!
//! `= COMMAND` names the command of the lines that follow. `batch | HOST | COMMAND | REST | PATH` is run once with the
//! flags of all lines up to `end`, between COMMAND and REST; PATH is where the object is read. `run`, `wait` and `token`
//! prepare. The states of all rows are written to `cli-table.md` in the target folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::Value;

use crate::bed::{Bed, token_in};
use crate::crew::{give_image, pinned, tasks};
use crate::run::{Said, bounded};
use crate::wait::{eventually, secs, until};

const ROWS: &str = include_str!("cli_rows.txt");

/// The version of docker's command whose flags the rows are.
const VERSION: &str = "28.2";

/// How long what is under way may hold a command up.
const SOON: std::time::Duration = secs(20);

/// How long a command that never ends by itself is listened to.
const LISTEN: std::time::Duration = secs(3);

/// What became of the rows.
#[derive(Default)]
struct Table {
    command: String,
    rows: BTreeMap<(String, String), &'static str>,
    wrong: Vec<String>,
}

impl Table {
    fn note(&mut self, flag: &str, state: &'static str, wrong: Option<String>) {
        let row = (self.command.clone(), flag.to_owned());
        if let Some(why) = wrong {
            self.wrong.push(format!("docker {} {flag}: {why}", row.0));
            self.rows.insert(row, "WRONG");
        } else {
            self.rows.insert(row, state);
        }
    }

    /// The table for people.
    fn text(&self) -> String {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        let mut text = "| command | flag | state |\n|---|---|---|\n".to_owned();
        for ((command, flag), state) in &self.rows {
            *counts.entry(state).or_default() += 1;
            let flag = if flag == "-" { "" } else { flag };
            let _ = writeln!(text, "| docker {command} | {flag} | {state} |");
        }
        let counts: Vec<String> = counts
            .iter()
            .map(|(state, count)| format!("{count} {state}"))
            .collect();
        let _ = writeln!(text, "\n{} rows: {}.", self.rows.len(), counts.join(", "));
        text
    }
}

/// What stands for what in a command.
struct Script<'a> {
    bed: &'a Bed,
    words: BTreeMap<&'static str, String>,
}

impl Script<'_> {
    /// A text in which names are replaced by what they stand for.
    fn filled(&self, text: &str) -> String {
        let names = self.words.iter();
        names.fold(text.to_owned(), |text, (name, value)| {
            text.replace(&format!("{{{name}}}"), value)
        })
    }

    /// The words of a command, with what is quoted in one piece.
    fn words(&self, text: &str) -> Vec<String> {
        let text = self.filled(text);
        let quoted = text.split('"').enumerate();
        let words = quoted.flat_map(|(at, part)| match at % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        });
        words.collect()
    }

    fn docker(&self, host: usize, command: &str) -> Said {
        let words = self.words(command);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.bed.docker(host, &words)
    }

    /// What a command says until it is ended.
    fn listen(&self, host: usize, command: &str) -> String {
        let socket = format!("unix://{}", self.bed.socket(host).display());
        let output = bounded(LISTEN, "docker")
            .env("DOCKER_HOST", socket)
            .env("DOCKER_CONFIG", self.bed.folder(host))
            .args(self.words(command))
            .output();
        let output = output.expect("coreutils have timeout");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The object at a path of a host's API, or at `~host1/…`, `~info/…`, `~nodes/…` of another place.
    fn object(&self, host: usize, path: &str) -> Result<Value, String> {
        match path.strip_prefix("~host1") {
            Some(path) => self.bed.get(1, path),
            None => self.bed.get(host, path),
        }
    }

    /// What the object has at `pointer`.
    fn field(&self, host: usize, path: &str, pointer: &str) -> Result<Value, String> {
        let (path, pointer) = match pointer.strip_prefix('~') {
            Some(other) => {
                let (path, pointer) = other.split_once('/').unwrap_or((other, ""));
                (format!("/{path}"), pointer)
            }
            None => (path.to_owned(), pointer),
        };
        let object = self.object(host, &path)?;
        Ok(object
            .pointer(&format!("/{pointer}"))
            .cloned()
            .unwrap_or(Value::Null))
    }
}

/// One line that is to be run by itself.
fn judge(
    script: &Script<'_>,
    kind: &str,
    host: usize,
    command: &str,
    words: &str,
) -> Option<String> {
    if kind == "soon" {
        let once = || match judge(script, "runs", host, command, words) {
            Some(wrong) => Err(wrong),
            None => Ok(()),
        };
        return until(SOON, once).err();
    }
    let words = script.filled(words);
    if kind == "follows" {
        let said = script.listen(host, command);
        return (!said.contains(&words)).then(|| format!("it does not say {words:?}: {said}"));
    }
    let said = script.docker(host, command);
    let all = format!("{}{}", said.out, said.err);
    match (kind, said.succeeded()) {
        ("runs", false) => Some(format!("it fails: {all}")),
        ("refused", true) => Some(format!("it should be refused: {all}")),
        ("not yet", true) => Some(format!("it works: change its line in cli_rows.txt: {all}")),
        _ if words == "*" && all.trim().is_empty() => Some("it says nothing".into()),
        _ if words == "*" || all.contains(&words) => None,
        _ => Some(format!("it does not say {words:?}: {all}")),
    }
}

/// The lines of one batch.
struct Batch<'a> {
    host: usize,
    command: &'a str,
    rest: &'a str,
    path: &'a str,
    fields: Vec<[&'a str; 4]>,
}

impl Batch<'_> {
    fn run(self, script: &Script<'_>, table: &mut Table) {
        let flags: Vec<&str> = self.fields.iter().map(|[_, flags, ..]| *flags).collect();
        let command = format!("{} {} {}", self.command, flags.join(" "), self.rest);
        let said = script.docker(self.host, &command);
        let failed = (!said.succeeded()).then(|| said.to_string());
        for [flag, _, pointer, wanted] in self.fields {
            let wrong = failed.clone().or_else(|| {
                let found = match script.field(self.host, self.path, pointer) {
                    Ok(found) => found,
                    Err(error) => return Some(error),
                };
                let right = match wanted {
                    "*" => !found.is_null(),
                    wanted => serde_json::from_str::<Value>(wanted).ok() == Some(found.clone()),
                };
                (!right).then(|| format!("{pointer} is {found}, not {wanted}"))
            });
            table.note(flag, "works", wrong);
        }
    }
}

/// A compose file with one service of the image, on the machine's network or on one of its own.
fn compose(image: &str, own_network: bool) -> String {
    let networks = if own_network {
        ""
    } else {
        "    networks: [outside]\nnetworks:\n  outside: {external: true, name: host}\n"
    };
    format!(
        "services:\n  one:\n    image: {image}\n    command: [sleep, '60']\n    deploy:\n      placement:\n        \
         constraints: ['node.labels.none==such']\n{networks}"
    )
}

/// Files that commands name, and what stands for them.
fn script(bed: &Bed) -> Script<'_> {
    let write = |name: &str, text: &str| {
        let path = bed.folder(1).join(name);
        std::fs::write(&path, text).expect("the bed's folder can be written to");
        path.display().to_string()
    };
    let image = pinned();
    let certs = concat!(env!("CARGO_MANIFEST_DIR"), "/certs").to_owned();
    let words = BTreeMap::from([
        ("env", write("rows.env", "B=2\n")),
        ("compose", write("rows.yml", &compose(&image, false))),
        ("networked", write("networked.yml", &compose(&image, true))),
        ("certs", certs),
        ("image", image),
    ]);
    Script { bed, words }
}

/// Runs all lines.
fn run_all(script: &mut Script<'_>, table: &mut Table) {
    let mut batch: Option<Batch<'static>> = None;
    for line in ROWS.lines() {
        let fields: Vec<&str> = line.split('|').map(str::trim).collect();
        let host = |at: usize| {
            fields
                .get(at)
                .and_then(|host| host.parse().ok())
                .unwrap_or(1)
        };
        match fields[..] {
            [""] => {}
            [text] if text.starts_with('#') => {}
            ["end"] => {
                if let Some(batch) = batch.take() {
                    batch.run(script, table);
                }
            }
            [text] => table.command = text.trim_start_matches("= ").to_owned(),
            ["batch", _, command, rest, path] => {
                let fields = Vec::new();
                batch = Some(Batch {
                    host: host(1),
                    command,
                    rest,
                    path,
                    fields,
                });
            }
            ["token", _, kind] => {
                let said = script
                    .docker(host(1), &format!("swarm join-token {kind}"))
                    .ok();
                script.words.insert("token", token_in(&said));
            }
            ["run", _, command] => drop(script.docker(host(1), command).ok()),
            ["wait", service, count] => wait(script, service, count),
            [flag, "field", flags, pointer, wanted] => {
                if let Some(batch) = &mut batch {
                    batch.fields.push([flag, flags, pointer, wanted]);
                }
            }
            [flag, kind, _, command, words] => {
                let wrong = judge(script, kind, host(2), command, words);
                let state = match kind {
                    "refused" => "refused, with the reason",
                    "not yet" => "not yet",
                    _ => "works",
                };
                table.note(flag, state, wrong);
            }
            _ => panic!("this line is not understood: {line}"),
        }
    }
}

/// Waits until a service runs as it is to, and notes one of its tasks.
fn wait(script: &mut Script<'_>, service: &str, count: &str) {
    let task = eventually(secs(30), "the service runs", || {
        let all = tasks(script.bed, 1, service)?;
        let running: Vec<_> = all.iter().filter(|task| task.runs()).collect();
        let enough = count == "*" || count.parse() == Ok(running.len());
        match running.first() {
            Some(task) if enough => Ok(task.id().to_owned()),
            _ => Err(format!("{} run", running.len())),
        }
    });
    script.words.insert("task", task);
}

/// The flags that the command itself says it has.
fn flags_of(bed: &Bed, command: &str) -> BTreeSet<String> {
    let mut words: Vec<&str> = command.split(' ').collect();
    words.push("--help");
    let help = bed.docker(1, &words).ok();
    let flags = help.lines().filter_map(|line| {
        let line = line.trim_start();
        let flag = match line.strip_prefix("--") {
            Some(_) => line,
            None => {
                line.split_once(", ")
                    .filter(|(short, _)| short.len() == 2)?
                    .1
            }
        };
        let end = flag.find(|c: char| !c.is_ascii_lowercase() && c != '-');
        let flag = &flag[..end.unwrap_or(flag.len())];
        flag.starts_with("--").then(|| flag.to_owned())
    });
    flags.collect()
}

/// What the command has and no row is for.
fn missing(bed: &Bed, table: &Table) -> Vec<String> {
    let version = bed.docker(1, &["--version"]).ok();
    if !version.contains(&format!(" {VERSION}.")) {
        return Vec::new();
    }
    let commands: BTreeSet<&String> = table.rows.keys().map(|(command, _)| command).collect();
    let mut missing = Vec::new();
    for command in commands {
        for flag in flags_of(bed, command) {
            if !table.rows.contains_key(&(command.clone(), flag.clone())) {
                missing.push(format!("docker {command} {flag} has no row"));
            }
        }
    }
    missing
}

#[test]
fn every_row_is_as_the_table_says() {
    let Some(bed) = Bed::up(3) else { return };
    bed.add_hosts(4);
    for host in 1..=3 {
        give_image(&bed, host);
    }
    let mut script = script(&bed);
    let mut table = Table::default();
    run_all(&mut script, &mut table);
    let text = table.text();
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let path = path.parent().unwrap_or(&path).join("cli-table.md");
    std::fs::write(&path, &text).expect("the target folder can be written to");
    table.wrong.extend(missing(&bed, &table));
    assert!(table.wrong.is_empty(), "{}\n{text}", table.wrong.join("\n"));
}
