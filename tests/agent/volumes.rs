//! Volumes of tasks: filled with what the image has, held for as long as there is the task, and let go.

use std::fs;

use skein::model::TaskState;
use skein::model::task_spec::{MountKind, MountSpec, VolumeOptions};
use skein::wire::assignment::Assigned;

use crate::agent::{Agent, id, task};
use crate::bed::{Bed, within};
use crate::crash::Process;

const LOOK: &str = "stat -c '%a %u %g %Y %n' /srv/site /srv/site/index; readlink /srv/site/link; cat /srv/site/index";

/// A task that says what it finds at `/srv/site`, where `source` is mounted.
fn looks(bed: &Bed, number: u128, source: &str, no_copy: bool) -> Assigned {
    mounted(task(bed, number, LOOK), source, "/srv/site", no_copy)
}

fn mounted(mut task: Assigned, source: &str, target: &str, no_copy: bool) -> Assigned {
    if let Some(spec) = &mut task.spec.container_spec {
        spec.mounts.push(MountSpec {
            kind: Some(MountKind::Volume),
            source: source.into(),
            target: target.into(),
            volume_options: Some(VolumeOptions {
                no_copy,
                ..VolumeOptions::default()
            }),
            ..MountSpec::default()
        });
    }
    task
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_volume_is_filled_with_what_the_image_has() {
    let Some(bed) = Bed::up() else { return };
    let agent = Agent::up(&bed).await;
    let all = [
        looks(&bed, 1, "site", false),
        looks(&bed, 2, "", false),
        looks(&bed, 3, "bare", true),
    ];
    agent.assign(1, &all, &[]).await;
    let content =
        "2750 33 50 1000000000 /srv/site\n4640 33 33 1000000000 /srv/site/index\nindex\nhello\n";
    for number in [1, 2] {
        let done = agent.until(id(number), TaskState::Complete).await;
        assert_eq!(
            bed.output(done.container.unwrap()),
            content,
            "task {number}"
        );
    }
    agent.until(id(3), TaskState::Failed).await;
    let volume = |name: &str| agent.stock.volumes.inspect(name).unwrap().mountpoint;
    assert_eq!(fs::read_dir(volume("bare")).unwrap().count(), 0);

    // What is there is not touched, whatever the image has.
    fs::write(volume("site").join("index"), "changed\n").unwrap();
    fs::remove_file(volume("site").join("link")).unwrap();
    agent.assign(2, &[looks(&bed, 4, "site", false)], &[]).await;
    let done = agent.until(id(4), TaskState::Complete).await;
    let said = bed.output(done.container.unwrap());
    assert!(said.ends_with("/srv/site/index\nchanged\n"), "{said}");

    let removed = [1, 2, 3, 4].map(id);
    agent.assign(3, &[], &removed).await;
    for task in removed {
        agent.until_forgotten(task).await;
    }
    let names = agent
        .stock
        .volumes
        .list()
        .into_iter()
        .map(|volume| volume.name);
    assert_eq!(
        names.collect::<Vec<_>>(),
        ["bare", "site"],
        "an anonymous one goes with its task"
    );
    agent.down().await;
    bed.nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filling_that_was_cut_short_is_done_again_from_the_beginning() {
    let Some(bed) = Bed::up() else { return };
    let place = bed.place();
    let image = format!("test/busybox@{}", bed.image);
    // Killed while it copies: sooner or later the copy is not done by then.
    let (mut caught, mut generation) = (0, 0);
    let mut next = || {
        generation += 1;
        generation
    };
    for number in 1..=40 {
        let mut agent = Process::start(&place, &image).await;
        agent.tell("fill", next(), number);
        let volume = bed.directory.join(format!("volumes/fill-{number}"));
        let filling = volume.join("_filling");
        let deadline = std::time::Instant::now() + crate::bed::DEADLINE;
        while !filling.exists() && !volume.join("_data/busybox").exists() {
            assert!(std::time::Instant::now() < deadline, "it is not filled");
            std::hint::spin_loop();
        }
        agent.kill();
        caught += usize::from(filling.exists());
        let mut agent = Process::start(&place, &image).await;
        agent.tell("fill", next(), number);
        agent.until_done("run", number).await;
        let busybox = fs::read(volume.join("_data/busybox")).unwrap();
        assert_eq!(
            busybox.len() as u64,
            fs::metadata("/bin/busybox").unwrap().len()
        );
        assert!(volume.join("_data/sh").is_symlink());
        assert!(!filling.exists());
        agent.tell("forget", next(), number);
        agent.until_done("forget", number).await;
        drop(agent);
        bed.nothing_left();
        if caught > 1 {
            break;
        }
    }
    assert!(caught > 1, "no filling was cut short");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_task_holds_is_known_after_a_restart_of_the_daemon() {
    let Some(bed) = Bed::up() else { return };
    let agent = Agent::up(&bed).await;
    let mut runs = mounted(
        task(&bed, 1, "echo ready; while :; do sleep 0.1; done"),
        "memory",
        "/data",
        false,
    );
    let options = runs.spec.container_spec.as_mut().unwrap().mounts[0]
        .volume_options
        .as_mut();
    options.unwrap().driver_config = Some(skein::model::task_spec::DriverConfig {
        name: "local".into(),
        options: [("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
    });
    agent.assign(1, &[runs], &[]).await;
    let status = agent.until(id(1), TaskState::Running).await;
    bed.until_said(status.container.unwrap(), "ready");
    agent.down().await;

    let agent = Agent::up(&bed).await;
    let refused = within(agent.stock.volumes.remove("memory", false)).await;
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("volume is in use")
    );
    agent.assign(2, &[], &[id(1)]).await;
    agent.until_forgotten(id(1)).await;
    assert!(
        agent
            .stock
            .volumes
            .inspect("memory")
            .unwrap()
            .users
            .is_empty()
    );
    agent.down().await;
    // The mount as well.
    bed.nothing_left();
}
