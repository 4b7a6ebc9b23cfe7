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

#[tokio::test]
async fn a_stack_that_needs_what_is_not_there_is_refused_in_one_sentence() {
    let Some(docker) = Docker::of(Fake::leader()).await else {
        return;
    };
    let file = docker.file("net.yml", "services: {web: {image: nginx}}");
    docker
        .is_refused(&deploy(&file), "skein makes no networks in this version")
        .await;
    let secret = docker.file("key", "k");
    let text = format!("{STACK}secrets:\n  key: {{file: {secret}}}\n");
    let file = docker.file("secret.yml", &text);
    docker
        .is_refused(&deploy(&file), "skein keeps no secrets in this version")
        .await;
}
