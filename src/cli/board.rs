//! Progress: lines that change, drawn again and again on a terminal, and written once each time elsewhere.

use std::io::{self, IsTerminal, Write};

use super::output::say;

/// Width of a bar.
const BAR: usize = 50;

/// One line: what it is about, how that is, and how much of how much is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) about: String,
    pub(super) text: String,
    pub(super) done: Option<(u64, u64)>,
}

impl Line {
    /// A line without a bar.
    pub(super) fn new(about: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            about: about.into(),
            text: text.into(),
            done: None,
        }
    }

    /// With a bar.
    pub(super) fn of(self, done: u64, whole: u64) -> Self {
        let done = Some((done.min(whole), whole));
        Self { done, ..self }
    }
}

/// What is shown at the moment.
#[derive(Debug)]
pub(super) struct Board {
    lines: Vec<Line>,
    quiet: bool,
    redraws: bool,
}

impl Board {
    /// An empty board on standard output, or one that shows nothing.
    pub(super) fn new(quiet: bool) -> Self {
        Self {
            lines: Vec::new(),
            quiet,
            redraws: io::stdout().is_terminal(),
        }
    }

    /// Shows lines in place of those with the same subject, and below the others.
    pub(super) fn show(&mut self, lines: impl IntoIterator<Item = Line>) {
        if self.quiet {
            return;
        }
        let before = self.lines.len();
        let mut changed = false;
        for line in lines {
            // A line about nothing stands for itself.
            let mut old = self.lines.iter_mut();
            match old.find(|old| !line.about.is_empty() && old.about == line.about) {
                Some(old) if *old == line => continue,
                Some(old) => old.clone_from(&line),
                None => self.lines.push(line.clone()),
            }
            changed = true;
            if !self.redraws {
                say(plain(&line));
            }
        }
        if changed && self.redraws {
            self.draw(before);
        }
    }

    /// A reader that went away is no error of ours.
    fn draw(&self, before: usize) {
        let width = rustix::termios::tcgetwinsize(io::stdout()).map_or(80, |size| size.ws_col);
        let mut text = match before {
            0 => String::new(),
            lines => format!("\x1b[{lines}A"),
        };
        for line in &self.lines {
            let line = with_bar(line);
            let line: String = line.chars().take(usize::from(width.max(20))).collect();
            text.push_str("\r\x1b[2K");
            text.push_str(&line);
            text.push('\n');
        }
        let mut out = io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

fn plain(line: &Line) -> String {
    match line.about.as_str() {
        "" => line.text.clone(),
        about => format!("{about}: {}", line.text),
    }
}

fn with_bar(line: &Line) -> String {
    let plain = plain(line);
    let Some((done, whole)) = line.done.filter(|(_, whole)| *whole > 0) else {
        return plain;
    };
    let full = usize::try_from(u128::from(done) * BAR as u128 / u128::from(whole)).unwrap_or(BAR);
    let mut bar = "=".repeat(full);
    if full < BAR {
        bar.push('>');
    }
    format!("{plain} [{bar:<BAR$}]")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::take_said;

    #[test]
    fn without_a_terminal_each_change_is_a_line() {
        let mut board = Board {
            lines: Vec::new(),
            quiet: false,
            redraws: false,
        };
        let _ = take_said();
        board.show([Line::new("1/2", "new"), Line::new("2/2", "new")]);
        board.show([
            Line::new("1/2", "running").of(9, 9),
            Line::new("2/2", "new"),
        ]);
        board.show([Line::new("", "done")]);
        assert_eq!(take_said(), "1/2: new\n2/2: new\n1/2: running\ndone");
    }

    #[test]
    fn bars_fill() {
        let bar = |done| with_bar(&Line::new("a", "b").of(done, 10));
        assert_eq!(bar(0), format!("a: b [>{}]", " ".repeat(49)));
        assert_eq!(bar(10), format!("a: b [{}]", "=".repeat(50)));
    }
}
