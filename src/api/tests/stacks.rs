//! The real `docker stack` against the made-up cluster: its sequence of calls.

use super::docker::{Docker, both};
use super::fake::Fake;

/// Two services on the machine's network, which every machine has.
const STACK: &str = "
services:
  web:
    image: nginx:1
    networks: [outside]
    deploy:
      replicas: 2
      labels: {tier: front}
      update_config: {order: start-first, failure_action: rollback}
  agent:
    image: nginx:1
    networks: [outside]
    deploy: {mode: global}
networks:
  outside: {external: true, name: host}
";

fn deploy(file: &str) -> Vec<&str> {
    vec![
        "stack",
        "deploy",
        "--detach",
        "--resolve-image=never",
        "-c",
        file,
        "shop",
    ]
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[tokio::test]
async fn a_stack_is_deployed_looked_at_changed_and_removed() {
    for docker in both().await {
        let file = docker.file("stack.yml", STACK);
        let text = docker.says(&deploy(&file)).await;
        assert_eq!(
            sorted(&text),
            ["Creating service shop_agent", "Creating service shop_web"]
        );
        let text = docker
            .says(&["stack", "ls", "--format", "{{.Name}} {{.Services}}"])
            .await;
        assert_eq!(text, "shop 2");
        let format = "{{.Name}} {{.Mode}} {{.Replicas}}";
        let text = docker
            .says(&["stack", "services", "shop", "--format", format])
            .await;
        assert_eq!(
            sorted(&text),
            ["shop_agent global 2/2", "shop_web replicated 2/2"]
        );
        let text = docker.says(&["stack", "ps", "shop", "-q"]).await;
        assert_eq!(text.lines().count(), 4);
        let file = docker.file("stack.yml", &STACK.replace("replicas: 2", "replicas: 3"));
        let text = docker.says(&deploy(&file)).await;
        assert_eq!(text.matches("Updating service shop_").count(), 2, "{text}");
        let text = docker
            .says(&["service", "ls", "--format", "{{.Replicas}}"])
            .await;
        assert_eq!(sorted(&text), ["2/2", "3/3"]);
        let text = docker.says(&["stack", "rm", "shop"]).await;
        assert_eq!(
            sorted(&text),
            ["Removing service shop_agent", "Removing service shop_web"]
        );
        assert_eq!(
            docker.says(&["stack", "ls", "--format", "{{.Name}}"]).await,
            ""
        );
    }
}

/// A stack as people write them: its own network, a secret, a config, a port.
fn whole_stack(docker: &Docker) -> String {
    let (key, site) = (docker.file("key", "hunter2"), docker.file("site", "hello"));
    let text = format!(
        "services:
  web:
    image: nginx:1
    ports: [\"8080:80\"]
    environment: {{WHERE: \"{{{{.Node.Hostname}}}}\"}}
    networks: {{front: {{aliases: [www]}}}}
    secrets: [key]
    configs: [{{source: site, target: /etc/site, mode: 0400}}]
networks:
  front: {{driver: overlay, attachable: true}}
secrets:
  key: {{file: {key}}}
configs:
  site: {{file: {site}}}
"
    );
    docker.file("stack.yml", &text)
}

#[tokio::test]
async fn a_stack_brings_its_networks_secrets_and_configs_and_takes_them_along() {
    for docker in both().await {
        let file = whole_stack(&docker);
        let text = docker.says(&deploy(&file)).await;
        for line in [
            "Creating network shop_front",
            "Creating secret shop_key",
            "Creating config shop_site",
            "Creating service shop_web",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        let id = docker
            .says(&["network", "inspect", "shop_front", "--format", "{{.ID}}"])
            .await;
        let format = "{{json .Spec.TaskTemplate.Networks}}{{json .Spec.TaskTemplate.ContainerSpec.Secrets}}\
                      {{json .Spec.TaskTemplate.ContainerSpec.Configs}}";
        let shown = ["service", "inspect", "shop_web", "--format", format];
        let first = docker.says(&shown).await;
        assert!(first.contains(&format!("\"Target\":\"{id}\"")), "{first}");
        for part in ["www", "shop_key", "shop_site", "/etc/site"] {
            assert!(first.contains(part), "{part}: {first}");
        }
        // What is the same is let in again, and stays what it was.
        docker.says(&deploy(&file)).await;
        assert_eq!(docker.says(&shown).await, first);
        docker.file("key", "another");
        docker
            .is_refused(&deploy(&file), "only updates to Labels are allowed")
            .await;
        let text = docker.says(&["stack", "rm", "shop"]).await;
        for line in [
            "Removing service shop_web",
            "Removing secret shop_key",
            "Removing config shop_site",
            "Removing network shop_front",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }
}

#[tokio::test]
async fn a_stack_that_needs_what_is_not_there_is_refused_in_one_sentence() {
    let Some(docker) = Docker::of(Fake::leader()).await else {
        return;
    };
    let file = docker.file(
        "net.yml",
        "services: {web: {image: nginx, networks: [far]}}\nnetworks: {far: {external: true}}",
    );
    let words = "network \"far\" is declared as external, but could not be found";
    docker.is_refused(&deploy(&file), words).await;
    let file = docker.file(
        "secret.yml",
        "services: {web: {image: nginx, secrets: [far]}}\nsecrets: {far: {external: true}}",
    );
    docker
        .is_refused(&deploy(&file), "secret not found: far")
        .await;
}
