//! The process itself: how it starts, says that it is ready, ends, and refuses to start.

use std::os::unix::net::UnixDatagram;

use crate::bed::{Bed, program};
use crate::run::{bounded, run};
use crate::view::NodeView;
use crate::wait::secs;

#[test]
fn sigterm_drains_and_ends_well() {
    let Some(bed) = Bed::up(3) else { return };
    bed.until_managers(1, &[1, 2, 3]);
    let leader = bed.leader(&[1]);
    // Fails unless the exit code is 0.
    bed.act("stop", leader);
    assert!(!bed.log(leader).contains("panicked"));
    let others: Vec<usize> = (1..=3).filter(|host| *host != leader).collect();
    assert_ne!(bed.leader(&others), leader);
    assert!(bed.ask(leader, "GET", "/_ping", None).is_err());
    bed.act("start", leader);
    bed.until_ready(leader, &[1, 2, 3]);
}

#[test]
fn a_restart_keeps_who_the_node_is() {
    let Some(bed) = Bed::hosts(1) else { return };
    bed.init(1);
    let before = bed.node(1).id().to_string();
    for verb in ["stop", "kill"] {
        bed.act(verb, 1);
        bed.act("start", 1);
        bed.until_ready(1, &[1]);
        assert_eq!(bed.node(1).id(), before);
        assert!(
            bed.nodes(1)
                .is_ok_and(|nodes| nodes.len() == 1 && nodes.iter().all(NodeView::leads))
        );
    }
}

#[test]
fn systemd_is_told_when_it_is_ready_and_when_it_stops() {
    let Some(bed) = Bed::hosts(1) else { return };
    bed.act("stop", 1);
    let path = bed.folder(1).join("notify");
    let socket = UnixDatagram::bind(&path).expect("the socket can be made");
    socket
        .set_read_timeout(Some(secs(15)))
        .expect("a socket takes a time-out");
    run(bed
        .script_command()
        .env("NOTIFY_SOCKET", &path)
        .args(["start", "1"]))
    .ok();
    let heard = |what: &str| {
        let mut buffer = [0; 4096];
        let mut all = String::new();
        while !all.contains(what) {
            let length = socket
                .recv(&mut buffer)
                .unwrap_or_else(|error| panic!("no {what}: {error}; heard {all}"));
            all.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
    };
    heard("READY=1");
    bed.act("stop", 1);
    heard("STOPPING=1");
}

#[test]
fn a_second_daemon_in_the_same_place_is_refused() {
    let Some(bed) = Bed::hosts(1) else { return };
    let folder = bed.folder(1);
    let path = |name: &str| folder.join(name).display().to_string();
    for (data, run, named) in [("other-data", "run", "run"), ("data", "other-run", "data")] {
        let args = [
            "daemon",
            "--data-root",
            &path(data),
            "--run-dir",
            &path(run),
        ];
        let said = bed.skein(1, &args).refused();
        assert!(said.contains(&path(named)), "the place is named: {said}");
        assert!(!said.contains("panicked"), "{said}");
    }
    assert_eq!(
        bed.ask(1, "GET", "/_ping", None)
            .expect("the first goes on")
            .status,
        200
    );
}

#[test]
fn without_root_it_says_so() {
    let Some(bed) = Bed::hosts(1) else { return };
    // Where it was built, others may not look.
    let copy = bed.folder(1).join("skein");
    std::fs::copy(program(), &copy).expect("the program can be copied");
    let copy = copy.display().to_string();
    let nobody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    for args in [&["daemon"][..], &["init"]] {
        let said = bed
            .exec(1, &[&nobody, &[copy.as_str()][..], args].concat())
            .refused();
        assert!(said.contains("root") || said.contains("sudo"), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}

#[test]
fn wrong_arguments_are_explained() {
    let ask = |args: &[&str]| run(bounded(secs(10), program()).args(args));
    assert!(ask(&["--version"]).ok().starts_with("skein "));
    assert!(ask(&["--help"]).ok().contains("daemon"));
    ask(&["fly"]).refused_with("fly");
    ask(&["daemon", "--listen-addr", "everywhere"]).refused_with("everywhere");
    assert!(ask(&["join"]).refused().to_lowercase().contains("token"));
}
