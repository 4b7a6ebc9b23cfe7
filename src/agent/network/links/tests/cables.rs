//! Cables of containers: packets pass, whatever an attempt has left is completed, nothing stays.

use std::ops::{AddAssign, Div, Sub};
use std::sync::OnceLock;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

use super::*;

#[test]
fn a_container_reaches_its_machine_by_every_cable() {
    alone(|bed| async move {
        let links = bed.open("127.0.0.1").await;
        let wanted = [
            interface(&["10.0.1.11"], &["10.0.0.0/16"], true),
            interface(
                &["10.1.1.12", "fd10::12"],
                &["10.1.0.0/16", "fd10::/64"],
                false,
            ),
        ];
        let path = links.wire(container(1), &wanted).await.unwrap();
        // The machine is the one neighbour, and the way out.
        assert_eq!(reaches(&path, "10.0.1.11:5000").to_string(), "169.254.1.1");
        assert_eq!(reaches(&path, "10.1.1.12:5000").to_string(), "169.254.1.1");
        reaches(&path, "[fd10::12]:5000");
        let routes = ip_in(&path, "route");
        assert!(
            routes.contains("default via 169.254.1.1 dev eth0"),
            "{routes}"
        );
        assert!(
            routes.contains("10.1.0.0/16 via 169.254.1.1 dev eth1"),
            "{routes}"
        );
        // Once more is no harm.
        let before = ip("-br link");
        assert_eq!(links.wire(container(1), &wanted).await.unwrap(), path);
        assert_eq!(ip("-br link"), before);
        reaches(&path, "10.0.1.11:5000");
        assert_eq!(links.wired().await.unwrap(), [container(1)].into());
        links.unwire(container(1)).await.unwrap();
        links.unwire(container(1)).await.unwrap();
        assert!(links.wired().await.unwrap().is_empty());
        assert!(!path.exists());
        let left = ip("-br link");
        assert!(!left.contains("sk0101"), "{left}");
        bed.end().await;
    });
}

#[test]
fn containers_come_and_go_without_a_trace() {
    alone(|bed| async move {
        let links = bed.open("127.0.0.1").await;
        links.apply(&Desired::default()).await.unwrap();
        let traces = || [ours(), ip("-br link"), ip("route"), ip("netns")].concat();
        let before = traces();
        let interfaces = [
            interface(&["10.0.1.11"], &["10.0.0.0/16"], true),
            interface(&["10.1.1.12"], &["10.1.0.0/16"], false),
        ];
        let cycles: u32 = 100;
        let (mut wire, mut unwire) = (Spent::default(), Spent::default());
        for number in 0..cycles {
            let container = container(u8::try_from(number % 200).unwrap());
            let since = Spent::now();
            links.wire(container, &interfaces).await.unwrap();
            let between = Spent::now();
            links.unwire(container).await.unwrap();
            wire += between - since;
            unwire += Spent::now() - between;
        }
        println!("wire: {}, unwire: {}", wire / cycles, unwire / cycles);
        assert_eq!(traces(), before);
        let mounts = fs::read_to_string("/proc/thread-self/mounts").unwrap();
        let folder = bed.folder.path();
        assert!(!mounts.contains(folder.to_str().unwrap()), "{mounts}");
        let files = fs::read_dir(folder.join("netns")).unwrap().count();
        assert_eq!(files, 0);
        bed.end().await;
    });
}

fn two() -> [Interface; 2] {
    [
        interface(&["10.0.1.11"], &["10.0.0.0/16"], true),
        interface(
            &["10.1.1.12", "fd10::12"],
            &["10.1.0.0/16", "fd10::/64"],
            false,
        ),
    ]
}

/// All that both ends of a container's cables are, but for the numbers of links, and what the kernel adds in its own time.
fn cables(namespace: &Path) -> Vec<String> {
    let outside = ["-br addr", "route", "-6 route", "neigh show nud permanent"].map(ip);
    let inside = [
        "-br addr",
        "route",
        "-6 route",
        "rule",
        "route show table 101",
        "neigh",
    ];
    let inside = inside.map(|what| ip_in(namespace, what));
    let all = [outside.concat(), inside.concat()].concat();
    let mut lines: Vec<String> = all
        .lines()
        .filter(|line| !line.starts_with("fe80::/64"))
        .map(|line| {
            let words = line.split_whitespace();
            let states = ["UP", "DOWN", "LOWERLAYERDOWN", "UNKNOWN"];
            let stays = |word: &&str| {
                let automatic = word.contains("fe80::") && word.ends_with("/64");
                !automatic && !states.contains(word)
            };
            let words = words.filter(stays);
            let words = words.map(|word| word.split("@if").next().unwrap());
            words.collect::<Vec<&str>>().join(" ")
        })
        .collect();
    lines.sort();
    lines
}

#[test]
fn whatever_an_attempt_has_left_is_completed() {
    alone(|bed| async move {
        let links = bed.open("127.0.0.1").await;
        let path = links.wire(container(1), &two()).await.unwrap();
        let whole = cables(&path);
        let text = path.display();
        let (first, second) = (veth::name(container(1), 0), veth::name(container(1), 1));
        let outside = [
            format!("link set {first} down"),
            format!("link set {first} mtu 1000"),
            format!("addr flush dev {second}"),
            "route del 10.0.1.11".into(),
            format!("neigh del 10.0.1.11 dev {first}"),
            format!("link del {first}"),
            format!("link del {second}"),
            format!("link set {second} group 1936423032"),
        ];
        let inside = [
            "link set eth0 down",
            "link set eth1 down",
            "addr flush dev eth1",
            "addr add 10.0.7.7/32 dev eth0",
            "route del default",
            "neigh flush nud permanent",
            "rule del pref 1000",
            "link set eth1 address 02:00:00:00:00:77",
            "link del eth0",
        ];
        let outside = outside.iter().map(|damage| format!("ip {damage}"));
        let inside = inside
            .iter()
            .map(|damage| format!("nsenter --net={text} ip {damage}"));
        let files = [
            format!("umount -l {text}"),
            format!("mount --bind {text} {text}"),
        ];
        for damage in outside.chain(inside).chain(files) {
            let (command, arguments) = damage.split_once(' ').unwrap();
            run(command, arguments);
            links.wire(container(1), &two()).await.unwrap();
            eventually_is(&damage, || cables(&path), &whole);
            reaches(&path, "10.0.1.11:5000");
            reaches(&path, "10.1.1.12:5000");
        }
        links.unwire(container(1)).await.unwrap();
        assert!(!path.exists());
        // An attempt that came no further than its file, and one of which the container has another shape.
        fs::write(&path, "").unwrap();
        assert_eq!(links.wired().await.unwrap(), [container(1)].into());
        links.wire(container(1), &two()[..1]).await.unwrap();
        ip(&format!("link add {second} type veth peer name elsewhere"));
        links.wire(container(1), &two()).await.unwrap();
        eventually_is("a name that was taken", || cables(&path), &whole);
        links.wire(container(1), &two()[..1]).await.unwrap();
        assert!(!ip("-br link").contains(&second), "{}", ip("-br link"));
        bed.end().await;
    });
}

#[test]
fn work_that_nobody_waits_for_is_done_and_undone() {
    alone(|bed| async move {
        let links = bed.open("127.0.0.1").await;
        let before = ip("-br link");
        for _ in 0..10 {
            let _ = tokio::time::timeout(Duration::ZERO, links.wire(container(1), &two())).await;
            let _ = tokio::time::timeout(Duration::ZERO, links.unwire(container(1))).await;
        }
        let path = links.wire(container(1), &two()).await.unwrap();
        reaches(&path, "10.0.1.11:5000");
        links.unwire(container(1)).await.unwrap();
        assert_eq!(ip("-br link"), before);
        bed.end().await;
    });
}

#[test]
fn many_containers_at_once_are_each_their_own() {
    alone(|bed| async move {
        let links = bed.open("127.0.0.1").await;
        let before = ip("-br link");
        let shape = |number: u8| {
            let addr = format!("10.0.1.{number}");
            [interface(&[&addr], &["10.0.0.0/16"], true)]
        };
        let since = Instant::now();
        let all = (1..=20).map(|number| {
            let links = links.clone();
            async move { links.wire(container(number), &shape(number)).await.unwrap() }
        });
        let paths = futures_util::future::join_all(all).await;
        println!("20 containers wired in {:?}", since.elapsed());
        for (path, number) in paths.iter().zip(1..) {
            reaches(path, &format!("10.0.1.{number}:5000"));
        }
        let since = Instant::now();
        let all = (1..=20).map(|number| links.unwire(container(number)));
        for gone in futures_util::future::join_all(all).await {
            gone.unwrap();
        }
        println!("and unwired in {:?}", since.elapsed());
        assert_eq!(ip("-br link"), before);
        assert!(links.wired().await.unwrap().is_empty());
        bed.end().await;
    });
}

/// Time and work that something took: the process' own work, and what the kernel did for it.
#[derive(Clone, Copy, Default)]
struct Spent {
    wall: Duration,
    cpu: Duration,
}

impl Spent {
    fn now() -> Self {
        let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
        let of = |time: TimeVal| {
            Duration::from_micros(
                u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).unwrap(),
            )
        };
        static START: OnceLock<Instant> = OnceLock::new();
        Self {
            wall: START.get_or_init(Instant::now).elapsed(),
            cpu: of(usage.user_time()) + of(usage.system_time()),
        }
    }
}

impl Sub for Spent {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self {
            wall: self.wall - other.wall,
            cpu: self.cpu - other.cpu,
        }
    }
}
impl AddAssign for Spent {
    fn add_assign(&mut self, other: Self) {
        self.wall += other.wall;
        self.cpu += other.cpu;
    }
}
impl Div<u32> for Spent {
    type Output = String;
    fn div(self, by: u32) -> String {
        format!("{:?} of time, {:?} of work", self.wall / by, self.cpu / by)
    }
}
