//! The real `docker` command against the made-up cluster, on the leader and on another member.

use std::process::Output;
use std::sync::Arc;

use tokio::process::Command;

use super::fake::{Fake, KEY, crate_dir, id, lock};
use super::http::{DEADLINE, Served};
use crate::api::backend::LocalState;

/// One command, with everything of this machine's user out of its way.
pub(super) struct Docker {
    served: Served,
}

impl Docker {
    /// `None`, with the reason printed, where there is no docker command.
    pub(super) async fn of(fake: Arc<Fake>) -> Option<Self> {
        let found = Command::new("docker").arg("--version").output().await;
        match found {
            Ok(out) if out.status.success() => Some(Self {
                served: Served::start(fake),
            }),
            _ => {
                println!("skipped: there is no docker command on this machine");
                None
            }
        }
    }

    /// A file that its commands may name, and nobody else's.
    pub(super) fn file(&self, name: &str, text: &str) -> String {
        let path = self.served.dir().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(super) async fn run(&self, args: &[&str]) -> Output {
        let host = format!("unix://{}", self.served.path().display());
        let run = Command::new("docker")
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.served.dir())
            .env("DOCKER_CONFIG", self.served.dir())
            .env("DOCKER_HOST", host)
            .current_dir(crate_dir())
            .kill_on_drop(true)
            .output();
        tokio::time::timeout(DEADLINE, run)
            .await
            .unwrap_or_else(|_late| panic!("docker {args:?} does not end"))
            .unwrap()
    }

    /// The output of a command that succeeds.
    #[track_caller]
    pub(super) fn ok(args: &[&str], out: Output) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        assert!(
            out.status.success(),
            "docker {args:?}: {}{}",
            text(&out.stdout),
            text(&out.stderr)
        );
        text(&out.stdout)
    }

    pub(super) async fn says(&self, args: &[&str]) -> String {
        Self::ok(args, self.run(args).await)
    }

    pub(super) async fn is_refused(&self, args: &[&str], words: &str) {
        let out = self.run(args).await;
        assert!(!out.status.success(), "docker {args:?} succeeded");
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(text.contains(words), "docker {args:?}: {text}");
    }
}

/// The leader of a cluster and another member of another; both must do.
pub(super) async fn both() -> Vec<Docker> {
    let (follower, _its_leader) = Fake::follower();
    let mut found = Vec::new();
    for fake in [Fake::leader(), follower] {
        found.extend(Docker::of(fake).await);
    }
    found
}

#[tokio::test]
async fn node_ls_shows_the_cluster() {
    for docker in both().await {
        let format =
            "{{.Hostname}} {{.Status}} {{.Availability}} {{.ManagerStatus}} {{.TLSStatus}}";
        let list = docker.says(&["node", "ls", "--format", format]).await;
        assert_eq!(
            list,
            "host-1 Ready Active Leader Ready\nhost-2 Ready Active Reachable Ready\n\
             host-3 Ready Active Unreachable Ready\nhost-9 Down Active  Ready"
        );
        let table = docker.says(&["node", "ls"]).await;
        assert!(table.starts_with("ID "), "{table}");
        assert_eq!(table.matches(" * ").count(), 1, "{table}");
        let workers = docker
            .says(&["node", "ls", "-q", "--filter", "role=worker"])
            .await;
        assert_eq!(workers, id(9).to_string());
        docker
            .is_refused(
                &["node", "ls", "--filter", "nope=1"],
                "invalid filter 'nope'",
            )
            .await;
    }
}

#[tokio::test]
async fn info_and_version_show_this_node() {
    for docker in both().await {
        let info = docker.says(&["info"]).await;
        for line in [
            " Server Version: 28.2.2",
            " Swarm: active",
            "  Is Manager: true",
            "  Managers: 3",
            "  Nodes: 4",
            "  Default Address Pool: 10.0.0.0/8",
            "   Heartbeat Period: 5 seconds",
            "   Expiry Duration: 3 months",
            "  Manager Addresses:",
            "   10.0.0.1:2377",
            " CPUs: 4",
            " Total Memory: 8GiB",
            " Docker Root Dir: /var/lib/skein",
        ] {
            assert!(
                info.lines().any(|l| l.trim_end() == line),
                "{line:?} in {info}"
            );
        }
        let version = docker.says(&["version"]).await;
        assert!(version.contains("Server: Skein 0.1.0"), "{version}");
        assert!(version.contains("28.2.2"), "{version}");
        assert_eq!(
            docker
                .says(&[
                    "version",
                    "--format",
                    "{{.Server.APIVersion}} {{.Server.Arch}}"
                ])
                .await
                .split(' ')
                .next(),
            Some("1.50")
        );
    }
}

#[tokio::test]
async fn node_inspect_update_and_roles() {
    for docker in both().await {
        let inspected = |format: &'static str| docker.says_of_node(format);
        assert_eq!(
            inspected("{{.Spec.Role}} {{.Status.State}}").await,
            "worker down"
        );
        docker
            .says(&[
                "node",
                "update",
                "--label-add",
                "zone=a",
                "--availability",
                "drain",
                "host-9",
            ])
            .await;
        assert_eq!(
            inspected("{{.Spec.Labels.zone}} {{.Spec.Availability}}").await,
            "a drain"
        );
        assert_eq!(
            docker.says(&["node", "promote", "host-9"]).await,
            "Node host-9 promoted to a manager in the swarm."
        );
        assert_eq!(inspected("{{.Spec.Role}}").await, "manager");
        docker
            .is_refused(
                &["node", "rm", "host-9"],
                "is a cluster manager and is a member",
            )
            .await;
        assert_eq!(
            docker.says(&["node", "demote", "host-9"]).await,
            "Manager host-9 demoted in the swarm."
        );
        let pretty = docker.says(&["node", "inspect", "--pretty", "self"]).await;
        assert!(
            pretty.contains("Hostname:") && pretty.contains("Raft Status:"),
            "{pretty}"
        );
        assert!(pretty.contains("-----BEGIN CERTIFICATE-----"), "{pretty}");
        docker
            .is_refused(&["node", "inspect", "nobody"], "node nobody not found")
            .await;
    }
}

impl Docker {
    async fn says_of_node(&self, format: &str) -> String {
        self.says(&["node", "inspect", "host-9", "--format", format])
            .await
    }
}

#[tokio::test]
async fn nodes_are_removed() {
    let (follower, _leader) = Fake::follower();
    let Some(docker) = Docker::of(follower).await else {
        return;
    };
    assert_eq!(docker.says(&["node", "rm", "host-9"]).await, "host-9");
    assert_eq!(docker.says(&["node", "ls", "-q"]).await.lines().count(), 3);
}

#[tokio::test]
async fn tokens_are_shown_and_rotated() {
    for docker in both().await {
        for kind in ["worker", "manager"] {
            let token = docker.says(&["swarm", "join-token", "-q", kind]).await;
            assert!(token.starts_with("SWMTKN-1-"), "{token}");
            let text = docker.says(&["swarm", "join-token", kind]).await;
            assert!(text.contains(&token) && text.contains(":2377"), "{text}");
            let text = docker
                .says(&["swarm", "join-token", "--rotate", "-q", kind])
                .await;
            assert!(text.ends_with(&"z".repeat(25)), "{text}");
        }
    }
}

#[tokio::test]
async fn the_swarm_is_updated_and_its_root_rotated() {
    for docker in both().await {
        docker
            .says(&[
                "swarm",
                "update",
                "--task-history-limit",
                "9",
                "--cert-expiry",
                "48h",
            ])
            .await;
        let info = docker
            .says(&[
                "info",
                "--format",
                "{{.Swarm.Cluster.Spec.Orchestration.TaskHistoryRetentionLimit}}",
            ])
            .await;
        assert!(info.starts_with("0x") || info == "9", "{info}");
        let text = docker.says(&["swarm", "update", "--autolock=true"]).await;
        assert!(text.contains(KEY), "{text}");
        assert_eq!(docker.says(&["swarm", "unlock-key", "-q"]).await, KEY);
        let before = docker.says(&["swarm", "ca"]).await;
        docker.says(&["swarm", "ca", "--rotate", "--quiet"]).await;
        let after = docker.says(&["swarm", "ca"]).await;
        assert!(after.starts_with("-----BEGIN CERTIFICATE-----") && after != before);
        docker
            .is_refused(
                &["swarm", "update", "--cert-expiry", "1m"],
                "minimum certificate expiry time is: 1h0m0s",
            )
            .await;
    }
}

#[tokio::test]
async fn a_swarm_is_begun_joined_left_and_unlocked() {
    let fake = Fake::outside();
    let Some(docker) = Docker::of(fake.clone()).await else {
        return;
    };
    docker
        .is_refused(
            &["node", "ls"],
            "This node is not a swarm manager. Use \"docker swarm init\"",
        )
        .await;
    docker
        .is_refused(&["swarm", "leave"], "This node is not part of a swarm")
        .await;
    let text = docker
        .says(&["swarm", "init", "--advertise-addr", "10.0.0.1"])
        .await;
    assert!(text.contains("Swarm initialized"), "{text}");
    assert!(
        text.contains("docker swarm join --token SWMTKN-1-"),
        "{text}"
    );
    docker
        .is_refused(&["swarm", "init"], "This node is already part of a swarm.")
        .await;
    docker.says(&["swarm", "leave", "--force"]).await;
    let token = format!("SWMTKN-1-{}-{}", "1".repeat(50), "2".repeat(25));
    let text = docker
        .says(&["swarm", "join", "--token", &token, "10.0.0.9:2377"])
        .await;
    assert!(
        text.contains("This node joined a swarm as a manager."),
        "{text}"
    );
    assert_eq!(
        fake.take_asked().last().unwrap(),
        &format!("join {token} at [\"10.0.0.9:2377\"] Active")
    );
    fake.edit_local(|local| local.state = LocalState::Locked);
    docker
        .is_refused(
            &["node", "ls"],
            "Swarm is encrypted and needs to be unlocked",
        )
        .await;
    docker
        .is_refused(&["swarm", "leave"], "Swarm is encrypted and locked.")
        .await;
}

#[tokio::test]
async fn a_worker_says_that_it_is_one() {
    let fake = Fake::leader();
    fake.edit_local(|local| local.control = false);
    let Some(docker) = Docker::of(fake).await else {
        return;
    };
    for args in [
        &["node", "ls"][..],
        &["swarm", "join-token", "worker"],
        &["node", "promote", "x"],
        &["node", "rm", "x"],
        &["swarm", "update", "--autolock"],
    ] {
        docker
            .is_refused(
                args,
                "Worker nodes can't be used to view or modify cluster state.",
            )
            .await;
    }
}

#[tokio::test]
async fn events_are_shown() {
    let (follower, leader) = Fake::follower();
    let Some(docker) = Docker::of(follower).await else {
        return;
    };
    let mut event = super::events::event(2, 0);
    event.time = crate::model::Timestamp::from_nanos(1_600_000_000_000_000_000);
    leader.world.tell(event);
    let text = docker
        .says(&[
            "events",
            "--since",
            "1",
            "--until",
            "1600000001",
            "--filter",
            "type=node",
            "--format",
            "{{.Type}} {{.Action}} {{.Actor.ID}}",
        ])
        .await;
    assert_eq!(text, format!("node update {}", id(2)));
    assert_eq!(lock(&leader.world.past).len(), 1);
}
