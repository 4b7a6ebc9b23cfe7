//! The private containerd: comes up, is started again, is taken over, and goes.

use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use skein::agent::runtime::supervise::{SuperviseSettings, containerd};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bed::{Bed, eventually, processes, within};

fn settings(directory: &Path) -> SuperviseSettings {
    SuperviseSettings {
        system: directory.join("nobody.sock"),
        may_start: true,
        data: directory.join("private"),
        run: directory.join("r"),
    }
}

/// The private containerd that runs there: our own child, not what it forks itself.
fn pid(directory: &Path) -> Option<i32> {
    let configuration = directory.join("r/containerd.toml");
    let found = processes(&format!("containerd --config {}", configuration.display()));
    let own = |pid: &i32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.contains(&format!("PPid:\t{}\n", std::process::id()))
    };
    found.into_iter().find(own)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_containerd_is_kept_running_and_taken_over() {
    let Some(bed) = Bed::up() else { return };
    let directory: PathBuf = bed.directory.clone();
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let found = within(containerd(settings(&directory), &tasks, stop.child_token()))
        .await
        .unwrap();
    assert!(found.private);
    let first = pid(&directory).unwrap();

    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    let second = eventually("it is started again", || {
        pid(&directory)
            .filter(|pid| *pid != first)
            .ok_or_else(|| "it is not there".to_owned())
    });
    eventually("it answers", || {
        std::os::unix::net::UnixStream::connect(&found.address).map_err(|error| error.to_string())
    });

    // Another daemon finds it as it runs, and starts none.
    let (others, other_stop) = (TaskTracker::new(), CancellationToken::new());
    let again = within(containerd(
        settings(&directory),
        &others,
        other_stop.child_token(),
    ))
    .await;
    assert_eq!(again.unwrap(), found);
    assert_eq!(pid(&directory), Some(second));
    other_stop.cancel();
    others.close();
    within(others.wait()).await;

    stop.cancel();
    tasks.close();
    within(tasks.wait()).await;
    assert_eq!(pid(&directory), None);

    let system = SuperviseSettings {
        system: bed.directory.join("run.sock"),
        ..settings(&directory)
    };
    let found = within(containerd(
        system,
        &TaskTracker::new(),
        CancellationToken::new(),
    ))
    .await;
    assert!(!found.unwrap().private);

    let given = SuperviseSettings {
        may_start: false,
        ..settings(&directory)
    };
    let refused = within(containerd(
        given,
        &TaskTracker::new(),
        CancellationToken::new(),
    ))
    .await;
    let words = refused.unwrap_err().to_string();
    assert!(words.contains("nobody.sock: start it, or run"), "{words}");
}
