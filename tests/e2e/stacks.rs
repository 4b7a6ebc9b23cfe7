//! `docker stack …` with the stock command: stack files as people write them, of images that stand in for theirs.

use std::collections::BTreeSet;
use std::fs;

use crate::bed::Bed;
use crate::crew::{RUNS, TaskView, ctr, ids, pinned, until_containers, until_runs, up};
use crate::run::{Said, bounded, run};
use crate::wait::{eventually, secs};

/// Runs `docker` in a folder of the bed with these files, as a user would, with variables for the stack file.
struct Desk<'a> {
    bed: &'a Bed,
}

impl Desk<'_> {
    fn write(&self, name: &str, text: &str) {
        let path = self.bed.folder(1).join("stack").join(name);
        let folder = path.parent().expect("it is in a folder");
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&path, text))
            .expect("the bed's folder can be written");
    }

    fn says(&self, line: &str) -> Said {
        let host = format!("unix://{}", self.bed.socket(1).display());
        run(bounded(secs(60), "docker")
            .current_dir(self.bed.folder(1).join("stack"))
            .env("DOCKER_HOST", host)
            .env("DOCKER_CONFIG", self.bed.folder(1))
            .env("DOMAIN", "example.com")
            .env("SECRET_WORD", "hunter2")
            .args(line.split(' ')))
    }

    /// The tasks of a service that are to run, once so many do.
    #[track_caller]
    fn runs(&self, service: &str, count: usize) -> Vec<TaskView> {
        until_runs(self.bed, 1, service, count, secs(40))
    }
}

/// Other names of the image that each host has.
fn stand_in(bed: &Bed, host: usize, names: &[&str]) {
    for name in names {
        ctr(
            bed,
            host,
            &[
                "images",
                "tag",
                "--force",
                "docker.io/test/busybox:latest",
                name,
            ],
        )
        .ok();
    }
}

const SHOP: &str = "
version: '3.8'
x-deploy: &calm
  update_config: {parallelism: 2, delay: 0s, order: start-first}
  restart_policy: {condition: on-failure, delay: 5s, max_attempts: 3, window: 120s}
services:
  web:
    image: IMAGE
    command: [sh, -c, RUNS]
    ports: ['8080:80']
    environment:
      WHERE: '{{.Node.Hostname}}'
      PASSWORD_FILE: /run/secrets/password
    networks:
      front: {aliases: [www]}
      back:
    secrets: [password]
    configs:
      - {source: site, target: /etc/site, uid: '33', mode: 0400}
    deploy:
      <<: *calm
      replicas: 2
      labels: ['traefik.rule=Host(`${DOMAIN?not set}`)']
      placement: {constraints: [node.role == manager]}
  agent:
    image: IMAGE
    command: [sh, -c, RUNS]
    networks: [back]
    volumes: ['data:/data', '/sys:/host/sys:ro']
    depends_on: [web]
    stop_grace_period: 1s
    deploy: {mode: global, resources: {limits: {memory: 64M}}}
networks:
  front: {driver: overlay, attachable: true}
  back:
volumes:
  data:
secrets:
  password: {file: ./secrets/password}
configs:
  site: {file: ./site}
";

fn shop() -> String {
    let script = RUNS.replace('$', "$$");
    SHOP.replace("IMAGE", &pinned())
        .replace("RUNS", &format!("\"{script}\""))
}

#[track_caller]
fn begins(desk: &Desk<'_>, deploy: &str) {
    let said = desk
        .says(&deploy.replace("--detach", "--detach=false"))
        .ok();
    for line in [
        "Creating network demo_front",
        "Creating network demo_back",
        "Creating secret demo_password",
        "Creating config demo_site",
        "Creating service demo_web",
        "Creating service demo_agent",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
}

#[track_caller]
fn ends(desk: &Desk<'_>) {
    let said = desk.says("stack rm demo").ok();
    for line in [
        "Removing service demo_web",
        "Removing secret demo_password",
        "Removing config demo_site",
        "Removing network demo_front",
        "Removing network demo_back",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    until_containers(desk.bed, 1, 0);
    until_containers(desk.bed, 2, 0);
    for kind in ["secret", "config", "service"] {
        assert_eq!(desk.says(&format!("{kind} ls -q")).ok(), "", "{kind}");
    }
}

#[test]
fn a_stack_is_deployed_changed_pruned_and_removed() {
    let Some(bed) = up(2) else { return };
    let desk = Desk { bed: &bed };
    desk.write("secrets/password", "hunter2");
    desk.write("site", "hello");
    desk.write("stack.yml", &shop());
    desk.says("stack config -c stack.yml").ok();
    let deploy = "stack deploy --detach --resolve-image=never -c stack.yml demo";
    begins(&desk, deploy);
    let (web, agent) = (desk.runs("demo_web", 2), desk.runs("demo_agent", 2));
    let on: BTreeSet<&str> = (0..3)
        .map(|n| web[0].text(&format!("/NetworksAttachments/{n}/Network/Spec/Name")))
        .collect();
    assert_eq!(on, BTreeSet::from(["demo_back", "demo_front", "ingress"]));
    let read = "cat /run/secrets/password /etc/site; stat -c %u:%a /etc/site";
    let exec = ["exec", web[0].container(), "sh", "-c", read];
    assert_eq!(bed.docker(2, &exec).ok(), "hunter2hello33:400");
    assert_eq!(
        desk.says("stack ls --format {{.Name}}-{{.Services}}").ok(),
        "demo-2"
    );
    let shown = desk
        .says("stack services demo --format {{.Name}}-{{.Mode}}-{{.Replicas}}")
        .ok();
    let shown: BTreeSet<&str> = shown.lines().collect();
    assert_eq!(
        shown,
        BTreeSet::from(["demo_agent-global-2/2", "demo_web-replicated-2/2"])
    );
    assert_eq!(desk.says("stack ps -q demo").ok().lines().count(), 4);

    // Nothing has changed, so nothing is touched.
    desk.says(deploy).ok();
    assert_eq!(ids(&desk.runs("demo_web", 2)), ids(&web));
    assert_eq!(ids(&desk.runs("demo_agent", 2)), ids(&agent));
    desk.write("site", "other");
    desk.says(deploy)
        .refused_with("only updates to Labels are allowed");
    desk.write("site", "hello");

    // Another variable in one service's environment: that one alone is replaced.
    desk.write(
        "stack.yml",
        &shop().replace("WHERE:", "NEW: x\n      WHERE:"),
    );
    desk.says(deploy).ok();
    let old = ids(&web);
    eventually(secs(30), "all tasks of the changed service are new", || {
        let newer = ids(&desk.runs("demo_web", 2));
        let stay = newer.iter().filter(|id| old.contains(id)).count();
        (stay == 0)
            .then_some(())
            .ok_or_else(|| format!("{stay} stay"))
    });
    assert_eq!(ids(&desk.runs("demo_agent", 2)), ids(&agent));

    let whole = shop();
    let (before, rest) = whole.split_once("  agent:").expect("it has an agent");
    let (_, after) = rest.split_once("\nnetworks:").expect("it has networks");
    desk.write("stack.yml", &format!("{before}\nnetworks:{after}"));
    let said = desk
        .says("stack deploy --detach --prune --resolve-image=never -c stack.yml demo")
        .ok();
    assert!(said.contains("Removing service demo_agent"), "{said}");
    ends(&desk);
}

/// A proxy, an agent on each machine and a page to look at: what monitoring and proxies are deployed as. A shell with a
/// terminal stands in for each: it waits.
const TOOLS: &str = "
version: '3.3'
services:
  proxy:
    image: proxy:v2.2
    tty: true
    stdin_open: true
    ports: ['80:80', '443:443']
    volumes: ['/var/run/docker.sock:/var/run/docker.sock:ro', 'certificates:/certificates']
    networks: [public]
    deploy:
      placement: {constraints: [node.labels.public.certificates == true]}
      labels:
        - proxy.rule=Host(`${DOMAIN?not set}`)
        - proxy.user=${SECRET_WORD:-none}
  agent:
    image: agent
    tty: true
    stdin_open: true
    environment: ['PEERS=tasks.agent', 'NODE_ID={{.Node.ID}}']
    volumes: ['/var/run/docker.sock:/var/run/docker.sock', '/:/rootfs:ro', '/etc/hostname:/etc/nodename']
    networks: [inner]
    deploy: {mode: global, placement: {constraints: [node.platform.os == linux]}}
  page:
    image: page
    tty: true
    stdin_open: true
    ports: ['9000', {target: 81, published: 8081, mode: host}]
    networks: [inner, public]
    deploy: {placement: {constraints: [node.role == manager], preferences: [{spread: node.id}]}}
networks:
  inner: {attachable: true}
  public: {external: true}
volumes:
  certificates: {driver: local}
";

#[test]
fn tools_are_deployed_as_stacks_of_images_that_stand_in_for_them() {
    let Some(bed) = up(1) else { return };
    let desk = Desk { bed: &bed };
    let names = ["proxy:v2.2", "agent:latest", "page:latest"];
    let names = names.map(|name| format!("docker.io/library/{name}"));
    stand_in(&bed, 1, &names.each_ref().map(String::as_str));
    desk.write("stack.yml", TOOLS);
    let deploy = "stack deploy --detach --resolve-image=never -c stack.yml tools";
    desk.says(deploy)
        .refused_with("network \"public\" is declared as external, but could not be found");
    desk.says("network create -d overlay --attachable public")
        .ok();
    let link = "test -S /run/docker.sock || ln -s /run/skein/skein.sock /run/docker.sock";
    bed.exec(1, &["sh", "-c", link]).ok();
    desk.says(deploy).ok();
    desk.says(deploy).ok();
    desk.runs("tools_page", 1);
    desk.runs("tools_agent", 1);
    let shown = eventually(secs(20), "it says why it waits", || {
        let shown = desk
            .says("stack ps tools --no-trunc --format {{.Name}}-{{.Error}}")
            .result()?;
        let waits = shown.contains("scheduling constraints not satisfied");
        waits.then_some(shown.clone()).ok_or(shown)
    });
    assert!(shown.contains("tools_proxy.1-"), "{shown}");
    let label = "node update --label-add public.certificates=true node1";
    desk.says(label).ok();
    desk.runs("tools_proxy", 1);
    desk.says("network rm public")
        .refused_with("is in use by service");
    desk.says("stack rm tools").ok();
    until_containers(&bed, 1, 0);
    desk.says("network rm public").ok();
}
