//! The real `docker service` and `docker node ps` against the made-up cluster.

use super::docker::{Docker, both};
use super::fake::{Fake, id, lock, odd_refusal};
use crate::model::cluster::Secret;

/// Of every creation: whatever the registry would say of the image is not asked.
const CREATE: [&str; 5] = [
    "service",
    "create",
    "--detach",
    "--no-resolve-image",
    "--name",
];

async fn create(docker: &Docker, name: &str, more: &[&str]) -> String {
    let args = [&CREATE, &[name][..], more].concat();
    docker.says(&args).await
}

#[tokio::test]
async fn services_are_created_listed_and_looked_at() {
    for docker in both().await {
        let image = [
            "--replicas",
            "3",
            "--label",
            "tier=front",
            "nginx:1",
            "sleep",
            "9",
        ];
        let web = create(&docker, "web", &image).await;
        create(&docker, "agent", &["--mode", "global", "nginx:1"]).await;
        let format = "{{.Name}} {{.Mode}} {{.Replicas}} {{.Image}}";
        let list = docker.says(&["service", "ls", "--format", format]).await;
        let mut lines: Vec<&str> = list.lines().collect();
        lines.sort_unstable();
        assert_eq!(
            lines,
            ["agent global 2/2 nginx:1", "web replicated 3/3 nginx:1"]
        );
        let filtered = docker
            .says(&["service", "ls", "-q", "--filter", "mode=replicated"])
            .await;
        assert!(
            web.starts_with(&filtered) && !filtered.is_empty(),
            "{web} {filtered}"
        );
        let format = "{{.Name}} {{.Node}} {{.DesiredState}} {{.CurrentState}}";
        let tasks = docker
            .says(&["service", "ps", "web", "--format", format])
            .await;
        let mut lines: Vec<&str> = tasks.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines.len(), 3, "{tasks}");
        assert!(
            lines[0].starts_with("web.1 host-1 Running Running"),
            "{tasks}"
        );
        let tasks = docker.says(&["node", "ps", "host-2", "-q"]).await;
        assert_eq!(tasks.lines().count(), 1, "{tasks}");
        let pretty = docker
            .says(&["service", "inspect", "--pretty", "web"])
            .await;
        for line in [
            "Name:",
            "web",
            "Replicas:",
            " Parallelism:\t1",
            "Args:",
            "tier=front",
        ] {
            assert!(pretty.contains(line), "{line:?} in {pretty}");
        }
        docker
            .is_refused(&["service", "inspect", "nobody"], "no such service: nobody")
            .await;
        docker
            .is_refused(&["service", "ps", "nobody"], "no such service: nobody")
            .await;
        docker
            .is_refused(
                &["service", "logs", "nobody"],
                "no such task or service: nobody",
            )
            .await;
    }
}

#[tokio::test]
async fn services_are_changed_and_taken_back() {
    for docker in both().await {
        create(&docker, "web", &["--env", "A=1", "nginx:1"]).await;
        let inspect = async |format: &str| {
            let args = ["service", "inspect", "web", "--format", format];
            docker.says(&args).await
        };
        let update = ["service", "update", "--detach", "--no-resolve-image"];
        let image = [
            &update[..],
            &["--image", "nginx:2", "--env-add", "B=2", "web"],
        ]
        .concat();
        docker.says(&image).await;
        let container =
            "{{.Spec.TaskTemplate.ContainerSpec.Image}} {{.Spec.TaskTemplate.ContainerSpec.Env}}";
        // Docker's command keeps variables in a map while it changes them.
        let changed = inspect(container).await;
        assert!(
            ["nginx:2 [A=1 B=2]", "nginx:2 [B=2 A=1]"].contains(&changed.as_str()),
            "{changed}"
        );
        docker
            .says(&["service", "rollback", "--detach", "web"])
            .await;
        assert_eq!(inspect(container).await, "nginx:1 [A=1]");
        docker
            .says(&["service", "scale", "--detach", "web=4"])
            .await;
        assert_eq!(inspect("{{.Spec.Mode.Replicated.Replicas}}").await, "4");
        let ls = ["service", "ls", "--format", "{{.Replicas}}"];
        assert_eq!(docker.says(&ls).await, "4/4");
        docker
            .says(&[&update[..], &["--force", "web"]].concat())
            .await;
        assert_eq!(inspect("{{.Spec.TaskTemplate.ForceUpdate}}").await, "1");
        docker
            .is_refused(
                &[&update[..], &["--constraint-add", "node.role", "web"]].concat(),
                "constraint expected one operator from ==, !=",
            )
            .await;
        assert_eq!(docker.says(&["service", "rm", "web"]).await, "web");
        assert_eq!(docker.says(&["service", "ls", "-q"]).await, "");
    }
}

/// A flag of each kind that a creation has.
#[rustfmt::skip]
const FLAGS: &[&str] = &[
    "--replicas=2", "--constraint=node.role==worker", "--placement-pref=spread=node.labels.zone",
    "--replicas-max-per-node=1", "--limit-cpu=0.5", "--limit-memory=64M", "--limit-pids=9",
    "--reserve-cpu=0.1", "--reserve-memory=32M", "--generic-resource=gpu=2", "--restart-condition=on-failure",
    "--restart-delay=1s", "--restart-max-attempts=3", "--restart-window=9s", "--update-parallelism=2",
    "--update-delay=3s", "--update-failure-action=rollback", "--update-monitor=7s",
    "--update-max-failure-ratio=0.25", "--update-order=start-first", "--rollback-parallelism=0",
    "--mount=type=tmpfs,target=/t,tmpfs-size=1000", "--mount=type=volume,source=v,target=/v",
    "--health-cmd=true", "--health-interval=2s", "--health-retries=4", "--stop-grace-period=8s",
    "--stop-signal=SIGINT", "--hostname={{.Service.Name}}-{{.Task.Slot}}", "--host=a:1.2.3.4", "--dns=1.1.1.1",
    "--cap-add=NET_ADMIN", "--sysctl=net.core.somaxconn=9", "--ulimit=nofile=9:10", "--init", "--read-only",
    "--user=1:2", "--workdir=/w", "--log-driver=local", "--log-opt=max-size=1m", "--container-label=a=b",
    "--network=host", "--publish=mode=host,target=80,published=8080", "--endpoint-mode=dnsrr",
];

#[tokio::test]
async fn every_flag_of_a_creation_comes_back() {
    let Some(docker) = Docker::of(Fake::leader()).await else {
        return;
    };
    let more = [FLAGS, &["nginx:1", "run", "it"]].concat();
    create(&docker, "web", &more).await;
    let json = docker.says(&["service", "inspect", "web"]).await;
    let shown: serde_json::Value = serde_json::from_str(&json).unwrap();
    let spec = &shown[0]["Spec"];
    let container = &spec["TaskTemplate"]["ContainerSpec"];
    for (place, value) in [
        (
            &spec["UpdateConfig"]["MaxFailureRatio"],
            serde_json::json!(0.25),
        ),
        (&spec["RollbackConfig"]["Parallelism"], serde_json::json!(0)),
        (
            &spec["TaskTemplate"]["Networks"][0]["Target"],
            "host".into(),
        ),
        (&spec["TaskTemplate"]["Placement"]["MaxReplicas"], 1.into()),
        (
            &spec["TaskTemplate"]["Resources"]["Limits"]["Pids"],
            9.into(),
        ),
        (
            &spec["TaskTemplate"]["LogDriver"]["Options"]["max-size"],
            "1m".into(),
        ),
        (
            &spec["TaskTemplate"]["RestartPolicy"]["Window"],
            9_000_000_000_i64.into(),
        ),
        (
            &container["Hostname"],
            "{{.Service.Name}}-{{.Task.Slot}}".into(),
        ),
        (&container["Mounts"][1]["Type"], "volume".into()),
        (&container["Healthcheck"]["Retries"], 4.into()),
        (&container["Ulimits"][0]["Hard"], 10.into()),
        (
            &shown[0]["Endpoint"]["Ports"][0]["PublishedPort"],
            8080.into(),
        ),
    ] {
        assert_eq!(*place, value, "{json}");
    }
    // A change of one thing sends back all the others.
    let before = spec.clone();
    docker
        .says(&["service", "update", "--detach", "--force", "web"])
        .await;
    let json = docker.says(&["service", "inspect", "web"]).await;
    let mut after: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(after[0]["Spec"]["TaskTemplate"]["ForceUpdate"], 1);
    after[0]["Spec"]["TaskTemplate"]["ForceUpdate"] = 0.into();
    for (key, value) in before.as_object().unwrap() {
        assert_eq!(after[0]["Spec"][key], *value, "{key}");
    }
}

#[tokio::test]
async fn the_progress_of_a_creation_is_watched_to_its_end() {
    let (follower, _leader) = Fake::follower();
    let Some(docker) = Docker::of(follower).await else {
        return;
    };
    let run = ["service", "create", "--no-resolve-image", "--name"];
    let text = docker
        .says(
            &[
                &run[..],
                &["web", "--update-monitor=1ms", "--replicas=2", "nginx:1"],
            ]
            .concat(),
        )
        .await;
    assert!(text.contains("converged"), "{text}");
    let text = docker
        .says(
            &[
                &run[..],
                &["job", "--mode=replicated-job", "--replicas=3", "nginx:1"],
            ]
            .concat(),
        )
        .await;
    assert!(text.contains("job complete"), "{text}");
    let text = docker
        .says(
            &[
                &run[..],
                &["agent", "--mode=global", "--update-monitor=1ms", "nginx:1"],
            ]
            .concat(),
        )
        .await;
    assert!(text.contains("converged"), "{text}");
}

#[tokio::test]
async fn an_image_is_pinned_to_its_digest_and_one_that_is_not_found_is_a_warning() {
    let fake = Fake::leader();
    let Some(docker) = Docker::of(fake.clone()).await else {
        return;
    };
    let create = [
        "service",
        "create",
        "--detach",
        "--with-registry-auth",
        "--name",
    ];
    let pinned = docker
        .run(&[&create[..], &["db", "nginx:1"]].concat())
        .await;
    assert!(
        pinned.status.success() && pinned.stderr.is_empty(),
        "{pinned:?}"
    );
    let task = fake.world.service("db").spec.task_template;
    let image = task.container_spec.map(|container| container.image);
    let digest = "a".repeat(64);
    assert_eq!(image, Some(format!("nginx:1@sha256:{digest}")));
    let platforms = task.placement.map(|placement| placement.platforms);
    assert_eq!(platforms.map(|platforms| platforms.len()), Some(1));
    let asked = fake.take_asked().join("\n");
    assert!(asked.starts_with("describe nginx:1 e30="), "{asked}");

    *lock(&fake.refusal) = Some(odd_refusal());
    let out = docker
        .run(&[&create[..], &["web", "nginx:1"]].concat())
        .await;
    assert!(out.status.success(), "{out:?}");
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(
        text.contains("could not be accessed on a registry"),
        "{text}"
    );
    assert_eq!(
        fake.world.service("web").registry_auth,
        Secret("e30=".into())
    );
}

#[tokio::test]
async fn networks_that_are_not_there_are_refused() {
    let Some(docker) = Docker::of(Fake::leader()).await else {
        return;
    };
    let wanted = [&CREATE, &["web", "--network=backend", "nginx:1"][..]].concat();
    docker
        .is_refused(&wanted, "network backend not found")
        .await;
    create(
        &docker,
        "first",
        &["--replicas=0", "--publish=80:80", "nginx:1"],
    )
    .await;
    let published = [&CREATE, &["web", "--publish=80:81", "nginx:1"][..]].concat();
    docker
        .is_refused(&published, "port '80' is already in use by service 'first'")
        .await;
    docker.says(&["service", "rm", "first"]).await;
    create(&docker, "web", &["--network=host", "nginx:1"]).await;
    let pretty = docker
        .says(&["service", "inspect", "--pretty", "web"])
        .await;
    assert!(pretty.contains("Networks: host"), "{pretty}");
    let tasks = docker.says(&["node", "ps", "self", "-q"]).await;
    assert_eq!(tasks.lines().count(), 1);
    let json = docker
        .says(&["node", "inspect", "self", "--format", "{{.ID}}"])
        .await;
    assert_eq!(json, id(1).to_string());
}
