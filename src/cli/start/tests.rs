//! Starting a daemon, with programs that stand in for it and for systemd.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;

use tempfile::TempDir;

use super::*;
use crate::api::tests::fake::Fake;
use crate::api::tests::http::Served;

/// A place to start things in.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn starter(&self, daemon: &str) -> Starter {
        Starter {
            program: self.script("skein", daemon),
            data_root: self.path("data"),
            run_dir: self.path("run"),
            systemd: None,
            deadline: Duration::from_secs(10),
        }
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }
}

fn words_of(error: &anyhow::Error) -> String {
    format!("{error:#}")
}

#[tokio::test]
async fn a_daemon_that_dies_is_reported_with_its_own_words() {
    let place = Place::new();
    fs::create_dir(place.path("data")).unwrap();
    fs::write(place.path("data/skein.log"), "skein: an old error\n").unwrap();
    let starter = place.starter("echo a line; echo 'skein: port 2377/udp is taken' >&2; exit 3");
    let client = Client::new(&place.path("run/skein.sock"));
    let error = words_of(&starter.start(&client).await.unwrap_err());
    assert_eq!(
        error,
        format!(
            "the daemon ended at once (exit status: 3): port 2377/udp is taken (its log is {})",
            place.path("data/skein.log").display()
        )
    );
}

#[tokio::test]
async fn a_daemon_that_does_not_answer_is_given_up() {
    let place = Place::new();
    let mut starter =
        place.starter("echo $$ > $(dirname $0)/pid; echo still thinking; exec sleep 60");
    starter.deadline = Duration::from_secs(1);
    let client = Client::new(&place.path("run/skein.sock"));
    let error = words_of(&starter.start(&client).await.unwrap_err());
    assert!(
        error.starts_with("the daemon does not answer after 1 s: still thinking (its log is "),
        "{error}"
    );
    let pid = place.read("pid").trim().parse().unwrap();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
}

#[tokio::test]
async fn a_daemon_that_answers_is_waited_for() {
    let served = Served::start(Fake::outside());
    let place = Place::new();
    let starter = place.starter("echo \"$@\" > $(dirname $0)/args; exec sleep 0");
    starter.start(&Client::new(&served.path())).await.unwrap();
    let started = || !place.read("args").is_empty();
    crate::api::tests::http::eventually("the program ran", started).await;
    let (data, run) = (place.path("data"), place.path("run"));
    assert_eq!(
        place.read("args").trim(),
        format!(
            "daemon --detached --data-root {} --run-dir {}",
            data.display(),
            run.display()
        )
    );
}

#[tokio::test]
async fn a_daemon_that_runs_is_left_alone() {
    let served = Served::start(Fake::outside());
    let args = StartArgs {
        data_root: "/nonexistent".into(),
    };
    ensure_daemon(&Client::new(&served.path()), &args)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_socket_of_another_name_cannot_be_started_for() {
    let place = Place::new();
    let args = StartArgs {
        data_root: place.path("data"),
    };
    let client = Client::new(&place.path("other.sock"));
    let error = words_of(&ensure_daemon(&client, &args).await.unwrap_err());
    let root = nix::unistd::geteuid().is_root();
    let words = if root {
        "makes its socket as skein.sock"
    } else {
        "run it with sudo"
    };
    assert!(error.contains(words), "{error}");
    assert!(!place.path("data").exists());
}

fn systemd(place: &Place, control: &str) -> Option<Systemd> {
    fs::create_dir_all(place.path("units")).unwrap();
    Some(Systemd {
        units: place.path("units"),
        systemctl: place.script("systemctl", control),
        journalctl: place.script("journalctl", "echo 'skein: from the journal'"),
    })
}

#[tokio::test]
async fn under_systemd_it_is_a_service() {
    let served = Served::start(Fake::outside());
    let place = Place::new();
    let mut starter = place.starter("");
    starter.program = place.path("a skein");
    starter.systemd = systemd(&place, "echo \"$@\" >> $(dirname $0)/asked");
    let client = Client::new(&served.path());
    starter.start(&client).await.unwrap();
    assert_eq!(
        place.read("asked"),
        "daemon-reload\nenable --now skein.service\n"
    );
    let unit = place.read("units/skein.service");
    for line in [
        "Type=notify",
        "KillMode=process",
        "Delegate=yes",
        "WantedBy=multi-user.target",
    ] {
        assert!(unit.lines().any(|l| l == line), "{line} in {unit}");
    }
    let exec = format!(
        "ExecStart=\"{}\" daemon --data-root {} --run-dir {}",
        place.path("a skein").display(),
        place.path("data").display(),
        place.path("run").display()
    );
    assert!(unit.lines().any(|l| l == exec), "{unit}");

    // A unit that its user has made their own is not written again.
    fs::write(place.path("units/skein.service"), "[Unit]\n# mine").unwrap();
    starter.start(&client).await.unwrap();
    assert_eq!(place.read("units/skein.service"), "[Unit]\n# mine");
}

#[tokio::test]
async fn a_service_that_fails_is_reported_from_the_journal() {
    let place = Place::new();
    let mut starter = place.starter("");
    starter.systemd = systemd(
        &place,
        "[ $1 = daemon-reload ] || { echo 'Job failed.' >&2; exit 1; }",
    );
    let client = Client::new(&place.path("run/skein.sock"));
    let error = words_of(&starter.start(&client).await.unwrap_err());
    assert_eq!(
        error,
        "from the journal: the service skein does not start: systemctl enable --now skein.service: Job failed."
    );
}

#[test]
fn last_words_are_the_error_or_the_last_line() {
    for (log, words) in [
        ("", ""),
        ("a\nskein: b: c\nd\n", "b: c"),
        ("a\n b \n\n", "b"),
    ] {
        assert_eq!(last_words(log), words);
    }
}

#[test]
fn words_of_a_unit_are_quoted() {
    for (word, quotes) in [
        ("/usr/bin/skein", "/usr/bin/skein"),
        ("", "\"\""),
        ("a b", "\"a b\""),
        ("50%$x\"\\", "\"50%%$$x\\\"\\\\\""),
    ] {
        assert_eq!(quoted(word), quotes);
    }
}

#[tokio::test]
async fn a_socket_without_permission_is_named() {
    let place = Place::new();
    let path = place.path("skein.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if nix::unistd::geteuid().is_root() {
        println!("skipped: root needs no permission");
        return;
    }
    let args = StartArgs {
        data_root: place.path("data"),
    };
    let error = words_of(&ensure_daemon(&Client::new(&path), &args).await.unwrap_err());
    assert!(error.contains("member of the group skein"), "{error}");
}
