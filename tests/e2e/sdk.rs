//! A second client, written by others and in another language than docker: bollard, as programs use it.

use std::collections::HashMap;

use bollard::Docker;
use bollard::errors::Error;
use bollard::exec::StartExecResults;
use bollard::models::{ExecConfig, ServiceSpec, ServiceSpecMode, ServiceSpecModeReplicated};
use bollard::models::{TaskSpec, TaskSpecContainerSpec};
use bollard::query_parameters as query;
use futures_util::StreamExt as _;

use crate::bed::Bed;
use crate::crew::{RUNS, pinned, until_runs, up};
use crate::wait::secs;

/// Seconds that one request may take.
const PATIENCE: u64 = 30;

fn connect(bed: &Bed, host: usize) -> Docker {
    let socket = bed.socket(host).display().to_string();
    let docker = Docker::connect_with_unix(&socket, PATIENCE, bollard::API_DEFAULT_VERSION);
    docker.expect("a client is made of any path")
}

fn spec(name: &str) -> ServiceSpec {
    ServiceSpec {
        name: Some(name.to_owned()),
        mode: Some(ServiceSpecMode {
            replicated: Some(ServiceSpecModeReplicated { replicas: Some(2) }),
            ..ServiceSpecMode::default()
        }),
        task_template: Some(TaskSpec {
            container_spec: Some(TaskSpecContainerSpec {
                image: Some(pinned()),
                command: Some(["sh", "-c"].map(str::to_owned).to_vec()),
                args: Some(vec![format!("echo from bollard; {RUNS}")]),
                ..TaskSpecContainerSpec::default()
            }),
            ..TaskSpec::default()
        }),
        ..ServiceSpec::default()
    }
}

/// What is asked, host by host: everything of the cluster on one that does not lead, containers from afar.
async fn talk(docker: &Docker, far: &str) -> Result<(), Error> {
    let info = docker.info().await?;
    assert_eq!(info.swarm.and_then(|swarm| swarm.nodes), Some(2));
    assert_eq!(
        docker
            .list_nodes(None::<query::ListNodesOptions>)
            .await?
            .len(),
        2
    );
    let services = docker
        .list_services(None::<query::ListServicesOptions>)
        .await?;
    let names: Vec<_> = services
        .iter()
        .filter_map(|service| service.spec.as_ref()?.name.clone())
        .collect();
    assert_eq!(names, ["sdk"]);
    let filters = HashMap::from([("service".to_owned(), vec!["sdk".to_owned()])]);
    let wanted = query::ListTasksOptions {
        filters: Some(filters),
    };
    assert_eq!(docker.list_tasks(Some(wanted)).await?.len(), 2);
    let listed = docker
        .list_containers(None::<query::ListContainersOptions>)
        .await?;
    assert_eq!(listed.len(), 1);
    let container = docker
        .inspect_container(far, None::<query::InspectContainerOptions>)
        .await?;
    assert_eq!(container.id.as_deref(), Some(far));

    run_in(docker, far).await?;
    let wanted = query::LogsOptions {
        stdout: true,
        ..query::LogsOptions::default()
    };
    let lines: Vec<_> = docker.logs(far, Some(wanted)).collect().await;
    let first = lines.into_iter().next().expect("it has said something")?;
    assert_eq!(first.to_string(), "from bollard\n");
    let images = docker.list_images(None::<query::ListImagesOptions>).await?;
    assert!(!images.is_empty());
    match docker.inspect_service("none", None).await {
        Err(Error::DockerResponseServerError {
            status_code,
            message,
        }) => {
            assert_eq!(
                (status_code, message.as_str()),
                (404, "service none not found")
            );
        }
        other => panic!("{other:?}"),
    }
    Ok(())
}

/// A further process in a container, heard to its end.
async fn run_in(docker: &Docker, far: &str) -> Result<(), Error> {
    let exec = ExecConfig {
        attach_stdout: Some(true),
        cmd: Some(["echo", "hello"].map(str::to_owned).to_vec()),
        ..ExecConfig::default()
    };
    let exec = docker.create_exec(far, exec).await?;
    let StartExecResults::Attached { mut output, .. } = docker.start_exec(&exec.id, None).await?
    else {
        panic!("it was to be attached");
    };
    let mut said = String::new();
    while let Some(line) = output.next().await {
        said.push_str(&line?.to_string());
    }
    assert_eq!(said, "hello\n");
    assert_eq!(docker.inspect_exec(&exec.id).await?.exit_code, Some(0));
    Ok(())
}

#[test]
fn bollard_is_served() {
    let Some(bed) = up(2) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made");
    let docker = runtime.block_on(async { connect(&bed, 2).negotiate_version().await });
    let docker = docker.expect("a version that both speak");
    // The events of the machine's containers come between those of the cluster.
    let told = runtime.block_on(async {
        let mut events = std::pin::pin!(docker.events(None::<query::EventsOptions>));
        let told = async {
            loop {
                let of = events.next().await?.ok()?.actor?.attributes?;
                if of.get("name").is_some_and(|name| name == "sdk") {
                    return Some(());
                }
            }
        };
        let made = docker.create_service(spec("sdk"), None);
        let both = async { tokio::join!(told, made) };
        let both = tokio::time::timeout(secs(PATIENCE), both).await;
        let (told, made) = both.expect("both in time");
        made.expect("the service is made");
        told
    });
    assert_eq!(told, Some(()), "the service's own event is told");

    let tasks = until_runs(&bed, 2, "sdk", 2, secs(30));
    let own = bed.node(2).id().to_owned();
    let far = tasks.iter().find(|task| task.node() != own);
    let far = far.expect("they are spread").container().to_owned();
    runtime
        .block_on(talk(&docker, &far))
        .expect("each is answered");
    runtime
        .block_on(docker.delete_service("sdk"))
        .expect("it is removed");
}
