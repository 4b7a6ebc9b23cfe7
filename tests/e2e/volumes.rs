//! `docker volume …`: volumes of one machine, and what services hold of them.

use crate::bed::Bed;
use crate::crew::{RUNS, create, until_containers, until_runs, up};
use crate::wait::{eventually, secs};

#[test]
fn volumes_are_made_shown_and_removed() {
    let Some(bed) = Bed::hosts(1) else { return };
    eventually(secs(40), "volumes can be listed", || {
        bed.docker(1, &["volume", "ls"]).result()
    });
    let create = |options: &[&str]| {
        let all = [&["volume", "create"], options].concat();
        bed.docker(1, &all)
    };
    assert_eq!(create(&["--label", "tier=db", "data"]).ok(), "data");
    assert_eq!(create(&["data"]).ok(), "data", "it is there already");
    let options = [
        "-o",
        "type=tmpfs",
        "-o",
        "device=tmpfs",
        "-o",
        "o=size=1m",
        "scratch",
    ];
    assert_eq!(create(&options).ok(), "scratch");
    let made_up = create(&[]).ok();
    assert_eq!(made_up.len(), 64);
    create(&["a/b"]).refused_with("includes invalid characters for a local volume name");
    create(&["-o", "colour=red", "red"]).refused_with("invalid option: \"colour\"");
    create(&["-d", "nfs", "far"]).refused_with("plugin \"nfs\" not found");

    let list = |filter: &str| {
        bed.docker(1, &["volume", "ls", "-q", "--filter", filter])
            .ok()
    };
    assert_eq!(list("label=tier=db"), "data");
    assert_eq!(list("name=scr"), "scratch");
    assert_eq!(list("dangling=false"), "");
    let table = bed.docker(1, &["volume", "ls"]).ok();
    assert!(table.starts_with("DRIVER    VOLUME NAME\n"), "{table}");
    assert!(table.contains("local     data"), "{table}");
    let inspect = |name: &str, format: &str| {
        bed.docker(1, &["volume", "inspect", name, "--format", format])
            .ok()
    };
    let place = bed.folder(1).join("data/volumes/data/_data");
    assert_eq!(
        inspect(
            "data",
            "{{.Driver}} {{.Scope}} {{json .Labels}} {{json .Options}}"
        ),
        r#"local local {"tier":"db"} null"#
    );
    assert!(place.is_dir() && inspect("data", "{{.Mountpoint}}").ends_with("/volumes/data/_data"));
    assert_eq!(inspect("scratch", "{{index .Options \"o\"}}"), "size=1m");

    std::fs::write(place.join("file"), vec![7; 20_000]).expect("it can be written to");
    go(&bed, &made_up);
    assert_eq!(list("dangling=true"), "");
    assert!(!place.exists());
}

/// What the volumes of [`volumes_are_made_shown_and_removed`] take, and how they go.
#[track_caller]
fn go(bed: &Bed, made_up: &str) {
    let format = "{{range .Volumes}}{{.Name}} {{.Size}} {{.Links}}\n{{end}}";
    let df = bed
        .docker(1, &["system", "df", "-v", "--format", format])
        .ok();
    assert!(
        df.lines()
            .any(|line| line.starts_with("data 2") && line.ends_with("kB 0")),
        "{df}"
    );

    assert_eq!(bed.docker(1, &["volume", "rm", "scratch"]).ok(), "scratch");
    bed.docker(1, &["volume", "rm", "scratch"])
        .refused_with("get scratch: no such volume");
    bed.docker(1, &["volume", "rm", "-f", "scratch"]).ok();
    let pruned = bed.docker(1, &["volume", "prune", "-f"]).ok();
    assert!(
        pruned.contains(made_up) && !pruned.contains("\ndata"),
        "{pruned}"
    );
    let pruned = bed.docker(1, &["volume", "prune", "-af"]).ok();
    assert!(
        pruned.contains("data") && pruned.contains("Total reclaimed space: 2"),
        "{pruned}"
    );
}

#[test]
fn what_a_service_holds_stays() {
    let Some(bed) = up(1) else { return };
    create(
        &bed,
        1,
        &["--name", "db", "--mount", "source=store,target=/data"],
        RUNS,
    );
    until_runs(&bed, 1, "db", 1, secs(30));
    assert_eq!(
        bed.docker(1, &["volume", "ls", "-q", "--filter", "dangling=false"])
            .ok(),
        "store"
    );
    bed.docker(1, &["volume", "rm", "store"])
        .refused_with("volume is in use - [");
    let pruned = bed.docker(1, &["volume", "prune", "-af"]).ok();
    assert!(!pruned.contains("store"), "{pruned}");
    let df = bed.docker(1, &["system", "df"]).ok();
    let row = df.lines().find(|line| line.starts_with("Local Volumes"));
    let row: Vec<&str> = row.unwrap_or_default().split_whitespace().collect();
    assert_eq!(row[2..4], ["1", "1"], "{df}");
    bed.docker(1, &["service", "rm", "db"]).ok();
    until_containers(&bed, 1, 0);
    eventually(secs(20), "nobody holds it", || {
        bed.docker(1, &["volume", "rm", "store"]).result()
    });
}
