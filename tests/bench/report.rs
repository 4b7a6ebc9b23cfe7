//! The table on standard output, the JSON lines in a file, and the verdict at the end.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::chart::Figure;
use crate::machine::{self, Meter};

/// Where figures go.
pub(crate) struct Report {
    /// What all of it is about, in a word.
    title: &'static str,
    json: Option<File>,
    name: &'static str,
    meter: Meter,
    rows: Vec<String>,
    notes: Vec<String>,
    missed: Vec<String>,
    failed: Vec<String>,
}

/// Says what is wrong with the command line, and what would be right.
pub(crate) fn usage(target: &str, words: &str, names: &[&str]) -> ExitCode {
    let _ = writeln!(
        std::io::stderr(),
        "{words}\nusage: scripts/bench {target} [--quick] [--json FILE] [{}]...",
        names.join("|")
    );
    ExitCode::from(2)
}

fn print(text: &str) {
    // Nobody is left to be told when standard output is closed.
    let _ = writeln!(std::io::stdout(), "{text}");
}

impl Report {
    /// A report that also appends to `json`. The error is for the user.
    pub(crate) fn new(title: &'static str, json: Option<&Path>) -> Result<Self, String> {
        let open = |path: &Path| {
            let file = OpenOptions::new().create(true).append(true).open(path);
            file.map_err(|error| format!("{} cannot be written: {error}", path.display()))
        };
        Ok(Self {
            title,
            json: json.map(open).transpose()?,
            name: "",
            meter: Meter::start(),
            rows: Vec::new(),
            notes: Vec::new(),
            missed: Vec::new(),
            failed: Vec::new(),
        })
    }

    fn line(&mut self, mut value: Value) {
        if let (Some(file), Value::Object(fields)) = (&mut self.json, &mut value) {
            fields.insert("measurement".into(), self.name.into());
            fields.insert("at".into(), machine::date().into());
            if let Err(error) = writeln!(file, "{value}") {
                print(&format!("the JSON lines cannot be written: {error}"));
                self.json = None;
            }
        }
    }

    /// Says where all of this was measured.
    pub(crate) fn opening(&mut self, quick: bool) {
        let facts = machine::facts();
        print(&format!("# {}, measured\n", self.title));
        for (what, value) in &facts {
            print(&format!("- {what}: {value}"));
        }
        let size = if quick { "quick" } else { "full" };
        print(&format!("- size: {size}"));
        print(
            "\np99 of fewer than a hundred samples is their maximum. Times start before the first act of the user or \
             of fate.",
        );
        let facts: serde_json::Map<String, Value> = facts
            .into_iter()
            .map(|(what, value)| (what.to_owned(), value.into()))
            .collect();
        self.line(json!({ "machine": facts, "size": size }));
    }

    /// Figures from here on belong to this measurement.
    pub(crate) fn begin(&mut self, name: &'static str) {
        let _ = writeln!(std::io::stderr(), "measuring {name}");
        self.name = name;
        self.meter = Meter::start();
        self.rows.clear();
        self.notes.clear();
    }

    /// Takes a figure.
    pub(crate) fn add(&mut self, figure: Figure) {
        let row = figure.row();
        let _ = writeln!(std::io::stderr(), "{row}");
        if figure.is_met() == Some(false) {
            self.missed.push(format!("{}: {row}", self.name));
        }
        self.line(figure.json());
        self.rows.push(row);
    }

    /// Takes words that belong to the figures: what they do not show, or why there are none.
    pub(crate) fn note(&mut self, words: impl Into<String>) {
        let words = words.into();
        self.line(json!({ "note": words }));
        self.notes.push(words);
    }

    /// Prints what was measured since [`Report::begin`].
    pub(crate) fn end(&mut self, outcome: Result<(), String>) {
        let cost = self.meter.stop();
        print(&format!("\n## {}\n", self.name));
        if !self.rows.is_empty() {
            print("| what | unit | n | p50 or value | p99 | max | goal | met |");
            print("|---|---|---|---|---|---|---|---|");
            self.rows.iter().for_each(|row| print(row));
            print("");
        }
        for note in &self.notes {
            print(&format!("- {note}"));
        }
        print(&format!("- {cost}"));
        self.line(json!({ "cost": cost.json() }));
        if let Err(words) = outcome {
            print(&format!("- **not measured**: {words}"));
            self.line(json!({ "not_measured": words }));
            self.failed.push(self.name.to_owned());
        }
    }

    /// The verdict.
    pub(crate) fn close(mut self) -> ExitCode {
        self.name = "";
        print("\n## Goals missed\n");
        if self.missed.is_empty() {
            print("none of what was measured");
        }
        self.missed
            .iter()
            .for_each(|row| print(&format!("- {row}")));
        if self.failed.is_empty() {
            return ExitCode::SUCCESS;
        }
        print(&format!("\nnot measured: {}", self.failed.join(", ")));
        ExitCode::FAILURE
    }
}
