//! `docker pull|push|images|…`: images of one machine, a registry on its loopback, and one load for a whole cluster.

use std::io::Write as _;
use std::path::Path;

use crate::bed::Bed;
use crate::crew::{RUNS, until_runs};
use crate::image;
use crate::run::{Said, bounded, run};
use crate::wait::{eventually, secs};

/// What the archive calls its image.
const NAME: &str = "test/busybox:latest";

/// The registry of a host, as its daemon sees it.
const REGISTRY: &str = "127.0.0.1:5000";

/// `count` hosts whose daemons can keep images. `None` as for [`Bed::hosts`].
#[track_caller]
fn hosts(count: usize) -> Option<Bed> {
    let bed = Bed::hosts(count)?;
    for host in 1..=count {
        eventually(secs(40), "images can be listed", || {
            bed.docker(host, &["images"]).result()
        });
    }
    Some(bed)
}

/// `docker load` of an archive with one image. Gives what is printed.
#[track_caller]
fn load(bed: &Bed, host: usize) -> String {
    let archive = bed.folder(host).join("load.tar");
    image::write(&archive);
    let loaded = bed.docker(host, &["load", "-i", &text(&archive)]).ok();
    std::fs::remove_file(archive).expect("it was written");
    loaded
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Starts a registry on a host's loopback. It goes with the bed.
#[track_caller]
fn registry(bed: &Bed, host: usize, password: bool) -> bool {
    if !Path::new("/usr/bin/docker-registry").exists() {
        let _ = writeln!(std::io::stderr(), "not run: this needs docker-registry");
        return false;
    }
    let dir = bed.folder(host).join("registry");
    std::fs::create_dir_all(&dir).expect("the bed is writable");
    let auth = if password {
        // `user` and `geheim`, as `htpasswd -B` writes them.
        let line = "user:$2b$05$abcdefghijklmnopqrstuuVWu8RjbNovPZWAMRdd7iqaaG0mI53Uu\n";
        std::fs::write(dir.join("passwords"), line).expect("the bed is writable");
        let path = text(&dir.join("passwords"));
        format!("auth: {{htpasswd: {{realm: test, path: {path}}}}}\n")
    } else {
        String::new()
    };
    let config = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
         http: {{addr: '{REGISTRY}'}}\n{auth}",
        text(&dir.join("data"))
    );
    std::fs::write(dir.join("config.yml"), config).expect("the bed is writable");
    let dir = text(&dir);
    let start =
        format!("setsid docker-registry serve {dir}/config.yml >{dir}/log 2>&1 </dev/null &");
    bed.exec(host, &["sh", "-c", &start]).ok();
    eventually(secs(20), "the registry answers", || {
        let ask = format!("exec 3<>/dev/tcp/{}", REGISTRY.replace(':', "/"));
        bed.exec(host, &["bash", "-c", &ask]).result()
    });
    true
}

/// The table without its times, word by word.
fn words(table: &str) -> Vec<Vec<&str>> {
    table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect()
}

/// `docker images` of one host, in short.
fn listed(bed: &Bed, host: usize) -> Vec<String> {
    let format = "{{.Repository}}:{{.Tag}}";
    let all = bed.docker(host, &["images", "--format", format]).ok();
    let own = all.lines().filter(|line| !line.starts_with("skein/"));
    let mut own: Vec<String> = own.map(str::to_owned).collect();
    // Docker's command shows the names of one image in any order.
    own.sort();
    own
}

#[test]
fn an_archive_is_loaded_and_shown() {
    let Some(bed) = hosts(1) else { return };
    assert_eq!(load(&bed, 1), format!("Loaded image: {NAME}"));
    let table = bed.docker(1, &["images", "test/busybox"]).ok();
    let rows = words(&table);
    assert_eq!(
        rows[0],
        ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    );
    assert_eq!(rows[1][..2], ["test/busybox", "latest"], "{table}");
    assert!(
        rows[1].last().is_some_and(|size| size.ends_with("MB")),
        "{table}"
    );

    let id = bed
        .docker(1, &["images", "-q", "--no-trunc", "test/busybox"])
        .ok();
    let inspect = |name: &str, format: &str| {
        bed.docker(1, &["image", "inspect", name, "--format", format])
            .ok()
    };
    for name in [NAME, "docker.io/test/busybox", &id, &id[7..19]] {
        assert_eq!(
            inspect(name, "{{.Id}} {{.Os}} {{json .Config.Cmd}}"),
            format!("{id} linux [\"sh\"]")
        );
    }
    assert_eq!(
        inspect(NAME, "{{len .RootFS.Layers}} {{.RepoTags}}"),
        format!("1 [{NAME}]")
    );
    let history = bed.docker(1, &["history", NAME]).ok();
    assert!(history.starts_with("IMAGE "), "{history}");
}

#[test]
fn an_image_is_named_saved_and_removed() {
    let Some(bed) = hosts(1) else { return };
    load(&bed, 1);
    let id = bed.docker(1, &["images", "-q", "--no-trunc", NAME]).ok();
    bed.docker(1, &["tag", NAME, "r.example:5000/team/app:2"])
        .ok();
    assert_eq!(listed(&bed, 1), ["r.example:5000/team/app:2", NAME]);
    let archive = text(&bed.folder(1).join("saved.tar"));
    bed.docker(
        1,
        &["save", "-o", &archive, NAME, "r.example:5000/team/app:2"],
    )
    .ok();
    bed.docker(1, &["rmi", &id])
        .refused_with("image is referenced in multiple repositories");
    let untagged = bed.docker(1, &["rmi", "r.example:5000/team/app:2"]).ok();
    assert_eq!(untagged, "Untagged: r.example:5000/team/app:2");
    let gone = bed.docker(1, &["rmi", "test/busybox"]).ok();
    assert!(gone.contains("Untagged: test/busybox:latest\n"), "{gone}");
    assert!(gone.contains(&format!("Deleted: {id}")), "{gone}");
    assert_eq!(listed(&bed, 1), Vec::<String>::new());
    for command in [
        &["image", "inspect", "test/busybox"][..],
        &["rmi", "test/busybox"],
        &["save", "test/busybox"],
    ] {
        bed.docker(1, command)
            .refused_with("No such image: test/busybox:latest");
    }

    let again = bed.docker(1, &["load", "-i", &archive]).ok();
    assert_eq!(
        again,
        format!("Loaded image: {NAME}\nLoaded image: r.example:5000/team/app:2")
    );
    let same = bed.docker(1, &["images", "-q", "--no-trunc", NAME]).ok();
    assert_eq!(same, id, "it is the same as before");
    std::fs::remove_file(archive).expect("it was written");
    let garbage = bed.folder(1).join("garbage.tar");
    std::fs::write(&garbage, vec![7; 5000]).expect("the bed is writable");
    bed.docker(1, &["load", "-i", &text(&garbage)]).refused();
}

#[test]
fn what_has_no_name_is_pruned() {
    let Some(bed) = hosts(1) else { return };
    load(&bed, 1);
    let id = bed.docker(1, &["images", "-q", "--no-trunc", NAME]).ok();
    let none = bed.docker(1, &["image", "prune", "-f"]).ok();
    assert_eq!(none, "Total reclaimed space: 0B");
    let df = bed.docker(1, &["system", "df"]).ok();
    let images = words(&df).into_iter().find(|row| row[0] == "Images");
    let images = images.unwrap_or_else(|| panic!("no images in {df}"));
    assert_eq!(images[2], "0", "none is in use: {df}");
    assert!(
        images[3].ends_with("MB") && images[4].ends_with("MB"),
        "{df}"
    );
    let filter = format!("label={}", "made=nowhere");
    let kept = bed
        .docker(1, &["image", "prune", "-af", "--filter", &filter])
        .ok();
    assert_eq!(kept, "Total reclaimed space: 0B");
    let pruned = bed.docker(1, &["image", "prune", "-af"]).ok();
    assert!(pruned.contains(&format!("deleted: {id}")), "{pruned}");
    assert!(
        pruned.contains("Total reclaimed space: ") && !pruned.ends_with(" 0B"),
        "{pruned}"
    );
    assert_eq!(listed(&bed, 1), Vec::<String>::new());
}

#[test]
fn a_registry_takes_and_gives() {
    let Some(bed) = hosts(1) else { return };
    if !registry(&bed, 1, false) {
        return;
    }
    load(&bed, 1);
    let name = format!("{REGISTRY}/team/app:1");
    bed.docker(1, &["tag", NAME, &name]).ok();
    let pushed = bed.docker(1, &["push", &name]).ok();
    assert!(
        pushed.starts_with(&format!(
            "The push refers to repository [{REGISTRY}/team/app]"
        )),
        "{pushed}"
    );
    assert!(pushed.contains(": Pushed"), "{pushed}");
    let last = pushed.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("1: digest: sha256:") && last.contains(" size: "),
        "{pushed}"
    );
    let again = bed.docker(1, &["push", &name]).ok();
    assert!(again.contains(": Layer already exists"), "{again}");
    bed.docker(1, &["push", &format!("{REGISTRY}/team/none:1")])
        .refused_with("tag does not exist: 127.0.0.1:5000/team/none:1");

    let id = bed.docker(1, &["images", "-q", "--no-trunc", NAME]).ok();
    bed.docker(1, &["rmi", "-f", &id]).ok();
    let pulled = bed.docker(1, &["pull", &name]).ok();
    let lines: Vec<&str> = pulled.lines().collect();
    assert_eq!(lines[0], "1: Pulling from team/app", "{pulled}");
    assert!(
        lines.iter().any(|line| line.ends_with(": Pull complete")),
        "{pulled}"
    );
    assert!(
        lines[lines.len() - 3].starts_with("Digest: sha256:"),
        "{pulled}"
    );
    assert_eq!(
        lines[lines.len() - 2..],
        [
            format!("Status: Downloaded newer image for {name}"),
            name.clone()
        ]
    );
    let newest = bed.docker(1, &["pull", &name]).ok();
    assert!(
        newest.contains(&format!("Status: Image is up to date for {name}")),
        "{newest}"
    );
    assert_eq!(
        bed.docker(1, &["images", "-q", "--no-trunc", &name]).ok(),
        id
    );
    let format = "{{index .RepoDigests 0}}";
    let by_digest = bed
        .docker(1, &["image", "inspect", &name, "--format", format])
        .ok();
    assert!(by_digest.starts_with(&format!("{REGISTRY}/team/app@sha256:")));
    assert_eq!(bed.docker(1, &["pull", "-q", &by_digest]).ok(), by_digest);

    no_pull(&bed, &name);
}

/// What cannot be pulled from the registry, and what is not done at all.
#[track_caller]
fn no_pull(bed: &Bed, name: &str) {
    bed.docker(1, &["pull", &format!("{REGISTRY}/team/app:2")])
        .refused_with("manifest for 127.0.0.1:5000/team/app:2 not found: manifest unknown");
    bed.docker(1, &["pull", "--platform", "linux/riscv64", name])
        .refused_with("does not match the specified platform");
    bed.docker(1, &["pull", "127.0.0.1:1/none"])
        .refused_with("connection refused");
    bed.docker(1, &["search", "busybox"])
        .refused_with("skein does not search");
    for source in ["http://127.0.0.1:1/x.tar", "/bin/busybox"] {
        bed.docker(1, &["import", source, "a:b"])
            .refused_with("skein does not import images");
    }
}

#[test]
fn a_registry_with_a_password_wants_it() {
    let Some(bed) = hosts(1) else { return };
    if !registry(&bed, 1, true) {
        return;
    }
    load(&bed, 1);
    let name = format!("{REGISTRY}/secret/app:1");
    bed.docker(1, &["tag", NAME, &name]).ok();
    bed.docker(1, &["push", &name])
        .refused_with("no basic auth credentials");
    let login = |password: &str| -> Said {
        let mut command = bounded(secs(60), "docker");
        command
            .env("DOCKER_HOST", format!("unix://{}", bed.socket(1).display()))
            .env("DOCKER_CONFIG", bed.folder(1))
            .args(["login", "-u", "user", "-p", password, REGISTRY]);
        run(&mut command)
    };
    login("wrong").refused_with("failed with status: 401 Unauthorized");
    assert!(login("geheim").ok().contains("Login Succeeded"));
    let pushed = bed.docker(1, &["push", &name]).ok();
    assert!(pushed.contains("1: digest: sha256:"), "{pushed}");
    bed.docker(1, &["rmi", &name]).ok();
    bed.docker(1, &["pull", &name]).ok();
    bed.docker(1, &["logout", REGISTRY]).ok();
    bed.docker(1, &["pull", &name])
        .refused_with("no basic auth credentials");
}

#[test]
fn one_load_is_enough_for_the_whole_cluster() {
    let Some(bed) = Bed::up(2) else { return };
    for host in 1..=2 {
        eventually(secs(40), "images can be listed", || {
            bed.docker(host, &["images"]).result()
        });
    }
    load(&bed, 1);
    let args = [
        "service",
        "create",
        "--detach",
        "--no-resolve-image",
        "--name",
        "web",
        "--constraint",
        "node.hostname==node2",
        NAME,
        "sh",
        "-c",
        RUNS,
    ];
    bed.docker(1, &args).ok();
    until_runs(&bed, 1, "web", 1, secs(60));
    assert_eq!(listed(&bed, 2), [NAME]);
    let ids = [1, 2].map(|host| bed.docker(host, &["images", "-q", "--no-trunc", NAME]).ok());
    assert_eq!(ids[0], ids[1]);

    // Where it runs it is in use, where it was loaded it is not.
    bed.docker(2, &["rmi", NAME])
        .refused_with("is using its referenced image");
    bed.docker(2, &["rmi", "-f", &ids[1]])
        .refused_with("image is being used by running container");
    let df = bed
        .docker(2, &["system", "df", "-v", "--format", "{{json .Images}}"])
        .ok();
    assert!(df.contains(r#""Containers":"1""#), "{df}");
    bed.docker(1, &["rmi", NAME]).ok();
}
