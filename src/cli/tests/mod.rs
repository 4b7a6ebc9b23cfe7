//! The commands as a user types them, against a daemon that is made up.

use clap::{CommandFactory, Parser};

use super::client::Client;
use super::output::{one_line, take_said};
use super::{Cli, dispatch};
use crate::api::tests::fake::{Fake, KEY, Lead, id, lock};
use crate::api::tests::http::Served;
use crate::api::words;

/// A user in front of one daemon.
struct User {
    served: Served,
}

impl User {
    fn of(fake: std::sync::Arc<Fake>) -> Self {
        Self {
            served: Served::start(fake),
        }
    }

    /// Types a command; its output, or its one line of error.
    async fn types(&self, line: &str) -> Result<String, String> {
        let words: Vec<&str> = line.split(' ').collect();
        self.gives(&words).await
    }

    async fn gives(&self, words: &[&str]) -> Result<String, String> {
        let cli = Cli::try_parse_from(std::iter::once(&"skein").chain(words))
            .map_err(|error| error.to_string())?;
        let done = dispatch(&Client::new(&self.served.path()), cli.command).await;
        let said = take_said();
        match done {
            Ok(()) => Ok(said),
            Err(error) => Err(one_line(&format!("{error:#}"))),
        }
    }
}

#[test]
fn the_arguments_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn what_is_said_at_the_terminal_is_understood() {
    for line in [
        "init",
        "init --advertise-addr eth0:1 --listen-addr 0.0.0.0:2377 --autolock --availability drain",
        "init --ca-cert a --ca-key b --default-addr-pool 10.0.0.0/8 --default-addr-pool 10.1.0.0/16",
        "init --cert-expiry 48h --dispatcher-heartbeat 5s --task-history-limit -1 --data-path-port 5000",
        "init --force-new-cluster --data-root /x",
        "join T@a:1,b c d",
        "leave -f",
        "token --worker --rotate -q",
        "node ls --filter role=manager -f name=x --format json",
        "node inspect self x",
        "node update --label-add a=b --label-rm c --availability pause --role manager n",
        "node promote a b",
        "node rm --force a",
        "node rebalance --dry-run",
        "status --format json",
        "recover",
        "unlock KEY",
        "version",
        "daemon --data-root /a --run-dir /b --listen-addr eth0 --advertise-addr 1.2.3.4 --label a=b --log-level debug",
        "--host unix:///x/skein.sock status",
        "status --host /x/skein.sock",
    ] {
        let words = std::iter::once("skein").chain(line.split(' '));
        Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
    for line in [
        "",
        "fly",
        "join",
        "token --worker --manager",
        "init --ca-cert a",
        "init --availability sometimes",
        "node update --role boss n",
        "node rm",
        "node ls --filter role",
        "--host http://x status",
    ] {
        let words = std::iter::once("skein").chain(line.split(' '));
        assert!(Cli::try_parse_from(words).is_err(), "{line}");
    }
}

#[tokio::test]
async fn init_prints_the_line_that_joins_the_next_machine() {
    let fake = Fake::outside();
    let user = User::of(fake.clone());
    let said = user
        .types("init --autolock --advertise-addr 10.0.0.1")
        .await
        .unwrap();
    let line = said.lines().find(|line| line.contains("SWMTKN")).unwrap();
    let joins = line.trim();
    assert!(joins.starts_with("sudo skein join SWMTKN-1-"), "{said}");
    assert!(
        joins.ends_with(&format!("-{}@10.0.0.1:2377,10.0.0.2:2377", "c".repeat(25))),
        "the peer token, with the managers that answer, this one first: {said}"
    );
    assert!(said.contains(&format!("node host-1 ({})", id(1))), "{said}");
    assert!(fake.take_asked()[0].contains("autolock=true"));
    let error = user.types("init").await.unwrap_err();
    assert_eq!(error, words::ALREADY_MEMBER);
}

#[tokio::test]
async fn init_reads_a_root_of_ones_own() {
    let fake = Fake::outside();
    let user = User::of(fake.clone());
    let path = |name: &str| user.served.dir().join(name).display().to_string();
    std::fs::write(path("root.crt"), "a certificate").unwrap();
    std::fs::write(path("root.key"), "a key").unwrap();
    std::fs::write(path("big"), vec![b'x'; 100 << 10]).unwrap();
    let init = async |cert: &str| {
        let (cert, key) = (path(cert), path("root.key"));
        user.gives(&["init", "--ca-cert", &cert, "--ca-key", &key])
            .await
    };
    let error = init("missing").await.unwrap_err();
    assert!(
        error.contains("missing cannot be read: No such file"),
        "{error}"
    );
    let error = init("big").await.unwrap_err();
    assert!(error.contains("has 102400 bytes"), "{error}");
    init("root.crt").await.unwrap();
    assert!(fake.take_asked()[0].ends_with("root=true"));
}

#[tokio::test]
async fn join_says_what_the_machine_has_become() {
    let fake = Fake::outside();
    let user = User::of(fake.clone());
    let said = user.types("join T@10.0.0.9,b:1 c b:1").await.unwrap();
    assert!(
        said.contains(&format!("as node host-1 ({})", id(1))),
        "{said}"
    );
    assert!(said.contains("may manage"), "{said}");
    assert_eq!(
        fake.take_asked(),
        ["join T at [\"10.0.0.9\", \"b:1\", \"c\"] Active"]
    );
    assert_eq!(
        user.types("join T@a").await.unwrap_err(),
        words::ALREADY_MEMBER
    );
}

#[tokio::test]
async fn leave_unlock_and_recover_speak_to_the_daemon() {
    let fake = Fake::leader();
    let user = User::of(fake.clone());
    assert!(user.types("leave --force").await.is_ok());
    assert_eq!(fake.take_asked(), ["leave force=true"]);
    assert_eq!(user.types("leave").await.unwrap_err(), words::NOT_A_MEMBER);
    fake.edit_local(|local| local.state = crate::api::backend::LocalState::Locked);
    let wrong = KEY.replace("7c37", "0c37");
    let error = user.types(&format!("unlock {wrong}")).await.unwrap_err();
    assert_eq!(error, words::WRONG_KEY);
    assert_eq!(
        user.types(&format!("unlock {KEY}")).await.unwrap(),
        "Unlocked."
    );
    assert_eq!(
        user.types("recover").await.unwrap(),
        "This node is the only manager now."
    );
}

#[tokio::test]
async fn a_rebalance_says_what_moves_and_a_dry_run_moves_nothing() {
    let (follower, leader) = Fake::follower();
    let user = User::of(follower);
    let moved = || *leader.world.moved.borrow();
    let nothing = user.types("node rebalance").await.unwrap();
    assert!(nothing.starts_with("There is nothing to move"), "{nothing}");
    let spec = serde_json::json!({
        "Name": "web", "TaskTemplate": {"ContainerSpec": {"Image": "nginx:1"}},
    });
    let made = user.served.post("/services/create", &spec).await;
    assert_eq!(made.status, 201);
    let before = moved();
    let said = user.types("node rebalance --dry-run").await.unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines[1],
        "web.2   host-1   host-2   host-1 has 2 of its tasks, host-2 has 0"
    );
    assert!(lines[2].starts_with("Nothing was moved"), "{said}");
    assert_eq!(moved(), before);
    let said = user.types("node rebalance").await.unwrap();
    assert!(said.contains("one at a time"), "{said}");
    assert_eq!(moved(), before + 1);
}

#[tokio::test]
async fn tokens_are_printed_and_rotated() {
    let (follower, _leader) = Fake::follower();
    let user = User::of(follower);
    for (args, secret) in [
        ("", "c"),
        ("--peer", "c"),
        ("--worker", "a"),
        ("--manager", "b"),
    ] {
        let said = user.types(format!("token {args}").trim()).await.unwrap();
        // Asked on host-2, which comes first.
        let end = format!("-{}@10.0.0.2:2377,10.0.0.1:2377", secret.repeat(25));
        assert!(said.contains("sudo skein join SWMTKN-1-"), "{said}");
        assert!(said.ends_with(&end), "{said}");
    }
    let rotated = user.types("token -q --rotate --worker").await.unwrap();
    assert!(
        rotated.contains(&format!("-{}@", "z".repeat(25))),
        "{rotated}"
    );
    let kept = user.types("token -q --manager").await.unwrap();
    assert!(kept.contains(&format!("-{}@", "b".repeat(25))), "{kept}");
}

#[tokio::test]
async fn node_ls_is_a_table_json_or_what_a_template_says() {
    let user = User::of(Fake::leader());
    let said = user.types("node ls").await.unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines[0],
        "ID                            HOSTNAME   STATUS   AVAILABILITY   MANAGER STATUS   ENGINE VERSION"
    );
    assert_eq!(
        lines[1],
        format!(
            "{} *   host-1     Ready    Active         Leader           0.1.0",
            id(1)
        )
    );
    assert_eq!(
        lines[4],
        format!(
            "{}     host-9     Down     Active                          0.1.0",
            id(9)
        )
    );
    let quiet = user.types("node ls -q -f role=worker").await.unwrap();
    assert_eq!(quiet, id(9).to_string());
    let json = user
        .types("node ls --format json --filter name=host-2")
        .await
        .unwrap();
    let row: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&row["ManagerStatus"], &row["Self"]),
        (&"Reachable".into(), &false.into())
    );
    let said = user
        .gives(&[
            "node",
            "ls",
            "--format",
            "{{.Hostname}} {{.ManagerStatus}} {{.TLSStatus}}",
        ])
        .await
        .unwrap();
    assert_eq!(
        said,
        "host-1 Leader Ready\nhost-2 Reachable Ready\nhost-3 Unreachable Ready\nhost-9  Ready"
    );
    for (args, words) in [
        (
            ["node", "ls", "--format", "{{.Nope}}"],
            "there is no field .Nope; there are .Availability",
        ),
        (
            ["node", "ls", "--filter", "nope=1"],
            "invalid filter 'nope'",
        ),
    ] {
        let error = user.gives(&args).await.unwrap_err();
        assert!(error.contains(words), "{error}");
    }
}

#[tokio::test]
async fn nodes_are_inspected_changed_and_removed() {
    let (follower, _leader) = Fake::follower();
    let user = User::of(follower);
    let said = user.types("node inspect self host-9").await.unwrap();
    assert!(said.starts_with("[\n    {\n        \"ID\": \""), "{said}");
    let nodes: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(nodes[0]["ID"], id(2).to_string());
    let state = async || {
        user.gives(&[
            "node",
            "inspect",
            "host-9",
            "-f",
            "{{.Spec.Role}} {{.Spec.Availability}} {{json .Spec.Labels}}",
        ])
        .await
        .unwrap()
    };
    assert_eq!(state().await, "worker active {}");
    user.types("node update --label-add zone=a --availability drain host-9")
        .await
        .unwrap();
    assert_eq!(state().await, "worker drain {\"zone\":\"a\"}");
    assert_eq!(
        user.types("node update --label-rm nope host-9")
            .await
            .unwrap_err(),
        "node host-9 has no label nope"
    );
    assert_eq!(
        user.types("node promote host-9 host-1").await.unwrap(),
        "Node host-9 promoted to a manager in the swarm.\nNode host-1 is already a manager."
    );
    let error = user.types("node rm host-9").await.unwrap_err();
    assert!(
        error.contains("It must be demoted to worker before removal"),
        "{error}"
    );
    assert_eq!(
        user.types("node demote host-9").await.unwrap(),
        "Manager host-9 demoted in the swarm."
    );
    assert_eq!(user.types("node rm host-9").await.unwrap(), "host-9");
    assert_eq!(
        user.types("node inspect host-9").await.unwrap_err(),
        "node host-9 not found"
    );
}

#[tokio::test]
async fn an_update_that_was_overtaken_is_made_again() {
    let fake = Fake::leader();
    let user = User::of(fake.clone());
    *lock(&fake.world.overtaken) = 3;
    user.types("node update --label-add a=b host-9")
        .await
        .unwrap();
    *lock(&fake.world.overtaken) = 100;
    let error = user
        .types("node update --label-add a=c host-9")
        .await
        .unwrap_err();
    assert!(error.contains("update out of sequence"), "{error}");
    assert_eq!(*lock(&fake.world.overtaken), 95, "five tries");
}

#[tokio::test]
async fn status_is_told_without_a_leader_too() {
    let fake = Fake::leader();
    fake.set_lead(Lead::Nobody);
    fake.hint.send_replace(None);
    let user = User::of(fake);
    let said = user.types("status").await.unwrap();
    assert!(said.contains("Leader:    none."), "{said}");
    assert!(said.contains("`sudo skein recover` on host-1"), "{said}");
    assert!(
        said.contains("host-1, host-2, host-3 (2 of 3 alive)"),
        "{said}"
    );
    let json = user.types("status --format json").await.unwrap();
    assert!(json.contains("\n    \"Leader\": null,"), "{json}");
    let said = user.types("version").await.unwrap();
    assert!(
        said.contains("Skein 0.1.0, as Docker Engine 28.2.2"),
        "{said}"
    );
    let error = user.types("node ls").await.unwrap_err();
    assert!(
        error.contains("The swarm does not have a leader."),
        "{error}"
    );
}

#[tokio::test]
async fn without_a_daemon_the_user_is_told_what_to_do() {
    let user = User::of(Fake::leader());
    let gone = user.served.path();
    std::fs::remove_file(&gone).unwrap();
    for line in ["status", "node ls", "leave", "token"] {
        let error = user.types(line).await.unwrap_err();
        assert!(error.starts_with("no daemon answers at "), "{error}");
        assert!(error.contains("sudo skein init"), "{error}");
    }
}
