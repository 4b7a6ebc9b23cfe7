//! What the tools below say when a program cannot be run, in the words that Docker's users and tools know.
//!
//! Pure. The words of runc are Docker's own; crun's are translated.

use tonic::Status;

use super::super::{Failure, RuntimeError};
use super::client::is_unreachable;

/// Marks of a failure that lies with the container as it was asked for, not with the machine.
const REFUSALS: [&str; 3] = ["OCI runtime", "crun:", "runc "];

/// Marks of a failure below the program that passes: the shim was killed, or containerd is going down.
const PASSING: [&str; 5] = [
    "ttrpc: closed",
    "context canceled",
    "context deadline exceeded",
    "signal: killed",
    "resource temporarily unavailable",
];

/// Why a container could not be started.
pub(super) fn start_failure(status: Status) -> RuntimeError {
    let said = status.message();
    let passing = is_unreachable(&status) || PASSING.iter().any(|mark| said.contains(mark));
    let refused = !passing && REFUSALS.iter().any(|mark| said.contains(mark));
    RuntimeError {
        failure: if refused {
            Failure::Refused
        } else {
            Failure::Retry
        },
        message: format!("failed to create task for container: {}", translated(said)),
        source: Some(Box::new(status)),
    }
}

/// crun's words for a program that cannot be run, as runc has them; all else as it is.
pub(super) fn translated(said: &str) -> String {
    let begin = "unable to start container process: ";
    let quoted = |before: &str| {
        let rest = said.split_once(before)?.1;
        Some(rest.split_once('`')?.0)
    };
    let problem = if let Some(program) = quoted("executable file `") {
        format!("exec: \"{program}\": executable file not found in $PATH")
    } else if let Some(program) =
        quoted("crun: open executable: `").or_else(|| quoted("crun: exec `"))
    {
        let why = said.rsplit_once("`: ").map_or(said, |(_, why)| why);
        format!("exec: \"{program}\": {}", why.to_lowercase())
    } else {
        return said.to_owned();
    };
    format!("failed to create shim task: OCI runtime create failed: {begin}{problem}: unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_crun_become_those_of_docker() {
        let said = "OCI runtime create failed: crun: executable file `nosuch` not found in $PATH: \
            No such file or directory: unknown";
        assert_eq!(
            start_failure(Status::unknown(said)).to_string(),
            "failed to create task for container: failed to create shim task: OCI runtime create failed: \
             unable to start container process: exec: \"nosuch\": executable file not found in $PATH: unknown"
        );
    }

    #[test]
    fn what_passes_is_tried_again_and_what_is_impossible_is_not() {
        let failure = |said: &str| start_failure(Status::unknown(said)).failure;
        let impossible =
            "failed to create shim task: OCI runtime create failed: runc create failed: x: unknown";
        assert_eq!(failure(impossible), Failure::Refused);
        assert_eq!(failure("ttrpc: closed: unknown"), Failure::Retry);
        assert_eq!(
            failure("failed to start shim: exec: signal: killed"),
            Failure::Retry
        );
        let away = start_failure(Status::unavailable("connection refused"));
        assert_eq!(away.failure, Failure::Retry);
    }
}
