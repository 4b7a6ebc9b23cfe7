//! Running a program with a deadline, and what it said.

use std::ffi::OsStr;
use std::fmt;
use std::process::{Command, Stdio};
use std::time::Duration;

/// What a program said, and whether it was content.
pub(crate) struct Said {
    command: String,
    /// What it ended with.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

impl Said {
    /// Its standard output, trimmed. Fails when the program did.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert!(self.succeeded(), "{self}");
        self.out.trim().to_string()
    }

    /// Its complaint. Fails when the program did not.
    #[track_caller]
    pub(crate) fn refused(self) -> String {
        assert!(!self.succeeded(), "should have been refused: {self}");
        format!("{}{}", self.err, self.out)
    }

    /// Fails unless the program refused with these words.
    #[track_caller]
    pub(crate) fn refused_with(self, words: &str) {
        let complaint = self.refused();
        assert!(
            complaint.contains(words),
            "`{words}` is missing in: {complaint}"
        );
    }

    pub(crate) fn succeeded(&self) -> bool {
        self.code == Some(0)
    }

    /// For conditions: the output, or why there is none.
    pub(crate) fn result(self) -> Result<String, String> {
        if self.succeeded() {
            Ok(self.out.trim().to_string())
        } else {
            Err(format!("{}{}", self.err, self.out).trim().to_string())
        }
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            command,
            code,
            out,
            err,
        } = self;
        write!(f, "{command}\nended with {code:?} and said:\n{out}{err}")
    }
}

/// Builds a command that is killed, with all that it started, when `deadline` is over.
pub(crate) fn bounded(deadline: Duration, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("timeout");
    command
        .arg("--kill-after=5")
        .arg(deadline.as_secs().to_string())
        .arg(program)
        .stdin(Stdio::null());
    command
}

/// Runs a command made by [`bounded`]. Fails when it had to be killed.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Said {
    let output = command.output().expect("coreutils have timeout");
    let said = Said {
        command: format!("{command:?}"),
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    let too_late = [Some(124), Some(137), None].contains(&said.code);
    assert!(!too_late, "hung until it was killed: {said}");
    said
}
