//! How results and errors are written.

use std::io::{self, Write};

/// Writes a line. A reader that went away (`| head`) is no error of ours.
pub(super) fn say(line: impl AsRef<str>) {
    #[cfg(test)]
    SAID.with_borrow_mut(|said| said.push(line.as_ref().to_owned()));
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{}", line.as_ref());
}

#[cfg(test)]
thread_local! {
    static SAID: std::cell::RefCell<Vec<String>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// Notes down what was written past [`say`].
#[cfg(test)]
pub(super) fn record(text: &str) {
    SAID.with_borrow_mut(|said| said.push(text.trim_end_matches('\n').to_owned()));
}

/// What this thread has said so far; forgotten by this.
#[cfg(test)]
pub(super) fn take_said() -> String {
    SAID.with_borrow_mut(std::mem::take).join("\n")
}

/// Writes an error with all its causes as one line.
pub(super) fn complain(error: &anyhow::Error) {
    eprintln!("skein: {}", one_line(&format!("{error:#}")));
}

/// Writes a line beside the result, for people.
pub(super) fn note(line: impl AsRef<str>) {
    eprintln!("{}", line.as_ref());
}

pub(super) fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ")
}

/// Columns under headers, three spaces apart as docker writes them; no spaces at the ends of lines.
pub(super) fn table(headers: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let longest = cells.map(|cell| cell.chars().count()).max();
        longest.unwrap_or(0).max(headers[column].chars().count())
    };
    let widths: Vec<usize> = (0..headers.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        padded.join("   ").trim_end().to_owned()
    };
    let mut lines = vec![line(&mut headers.iter().copied())];
    lines.extend(
        rows.iter()
            .map(|row| line(&mut row.iter().map(String::as_str))),
    );
    lines.join("\n")
}

/// Indents compact JSON by four spaces and keeps the order of its keys, as docker's inspect does.
pub(super) fn pretty(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let (mut depth, mut in_text, mut escaped) = (0usize, false, false);
    let mut chars = json.trim().chars().peekable();
    while let Some(c) = chars.next() {
        if in_text {
            out.push(c);
            in_text = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        match c {
            '{' | '[' => {
                out.push(c);
                if chars.peek().is_some_and(|next| matches!(next, '}' | ']')) {
                    continue;
                }
                depth += 1;
                new_line(&mut out, depth);
            }
            '}' | ']' => {
                if !out.ends_with(['{', '[']) {
                    depth = depth.saturating_sub(1);
                    new_line(&mut out, depth);
                }
                out.push(c);
            }
            ',' => {
                out.push(c);
                new_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_whitespace() => {}
            c => {
                in_text = c == '"';
                out.push(c);
            }
        }
    }
    out
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    for _ in 0..depth {
        out.push_str("    ");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = vec![
            vec!["a".into(), "long cell".into(), String::new()],
            vec!["äöü".into(), "x".into(), "last".into()],
        ];
        assert_eq!(
            table(&["ID", "NAME", "C"], &rows),
            "ID    NAME        C\na     long cell\näöü   x           last"
        );
    }

    #[test]
    fn json_is_indented_in_its_order() {
        assert_eq!(
            pretty(r#"{"b":[1,{"x":"{\":,"}],"a":{},"c":[]}"#),
            "{\n    \"b\": [\n        1,\n        {\n            \"x\": \"{\\\":,\"\n        }\n    ],\n    \
             \"a\": {},\n    \"c\": []\n}"
        );
    }

    #[test]
    fn an_error_is_one_line() {
        let error = anyhow::anyhow!("why\nover two lines").context("what");
        assert_eq!(one_line(&format!("{error:#}")), "what: why over two lines");
    }

    proptest! {
        #[test]
        fn indenting_changes_no_value(keys in prop::collection::btree_map(".{0,6}", ".{0,6}", 0..6)) {
            let value = serde_json::json!({"map": keys, "list": [keys, [], {}, null, 1.5]});
            let text = pretty(&value.to_string());
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
        }
    }
}
