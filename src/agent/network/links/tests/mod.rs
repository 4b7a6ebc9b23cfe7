//! Links in namespaces that each test makes for itself: real interfaces, routes and packets, and nothing of the machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::unshare;

use super::*;

mod cables;
mod others;
mod tunnel;

/// Runs a test on a thread with links and mounts of its own. Needs root.
pub(in crate::agent::network) fn alone<F: Future<Output = ()>>(
    test: impl FnOnce(Bed) -> F + Send + 'static,
) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can make namespaces");
        return;
    }
    if Command::new("ip").arg("-V").output().is_err() {
        eprintln!("skipped: there is no ip command on this machine");
        return;
    }
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).unwrap();
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let bed = Bed {
            folder: tempfile::tempdir().unwrap(),
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        ip("link set lo up");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(test(bed));
    });
    thread.join().unwrap();
}

pub(in crate::agent::network) struct Bed {
    folder: tempfile::TempDir,
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Bed {
    pub(in crate::agent::network) async fn open(&self, addr: &str) -> Links {
        let underlay = Underlay {
            addr: addr.parse().unwrap(),
            port: 4789,
            mac: [2, 0, 0, 0, 0, 1],
        };
        let folder = self.folder.path().join("netns");
        Links::open(underlay, folder, &self.tracker, self.stop.child_token())
            .await
            .unwrap()
    }

    pub(in crate::agent::network) async fn end(self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// Another machine beside the one that the test is on, and the way between both.
pub(in crate::agent::network) struct Neighbour {
    pub(in crate::agent::network) namespace: PathBuf,
}

impl Bed {
    /// Joins this machine to another one, each with this address.
    pub(in crate::agent::network) fn neighbour(&self, here: &str, there: &str) -> Neighbour {
        let folder = self.folder.path();
        let number = container(200);
        namespace::ensure(folder, number).unwrap();
        let namespace = namespace::path(folder, number);
        let path = namespace.display();
        ip(&format!(
            "link add under type veth peer name under netns {path}"
        ));
        let nodad = if here.contains(':') { "nodad" } else { "" };
        ip(&format!("addr add {here} dev under {nodad}"));
        ip_in(&namespace, &format!("addr add {there} dev under {nodad}"));
        ip("link set under up");
        ip_in(&namespace, "link set under up");
        ip_in(&namespace, "link set lo up");
        Neighbour { namespace }
    }
}

impl Neighbour {
    /// The links of that machine. Nobody notices what is changed there.
    fn open(&self, bed: &Bed, addr: &str) -> Links {
        let underlay = Underlay {
            addr: addr.parse().unwrap(),
            port: 4789,
            mac: [2, 0, 0, 0, 0, 2],
        };
        let folder = bed.folder.path().join("there");
        let namespace = File::open(&self.namespace).unwrap();
        namespace::inside(&namespace, || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let runtime = runtime.unwrap();
            runtime.block_on(Links::open(
                underlay,
                folder,
                &bed.tracker,
                bed.stop.child_token(),
            ))
        })
        .unwrap()
    }
}

/// Files that namespaces are mounted on cannot be taken away with their folder.
impl Drop for Bed {
    fn drop(&mut self) {
        for name in ["", "netns", "there"] {
            let folder = self.folder.path().join(name);
            for container in namespace::list(&folder).unwrap_or_default() {
                let _ = namespace::remove(&folder, container);
            }
        }
    }
}

pub(in crate::agent::network) fn run(command: &str, arguments: &str) -> String {
    let output = Command::new(command)
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command} {arguments}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

pub(in crate::agent::network) fn ip(arguments: &str) -> String {
    run("ip", arguments)
}

/// Runs `ip` in a container's namespace.
pub(in crate::agent::network) fn ip_in(namespace: &Path, arguments: &str) -> String {
    let path = namespace.display();
    run("nsenter", &format!("--net={path} ip {arguments}"))
}

/// Sends to a socket in a namespace until it comes back. Says whom the other end saw.
pub(in crate::agent::network) fn reaches(namespace: &Path, addr: &str) -> IpAddr {
    let addr: SocketAddr = addr.parse().unwrap();
    let listening = socket_in(namespace, addr);
    let any: IpAddr = match addr {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    answered(&UdpSocket::bind((any, 0)).unwrap(), &listening)
}

pub(in crate::agent::network) fn socket_in(namespace: &Path, addr: SocketAddr) -> UdpSocket {
    // An address of IPv6 is in use some time after the kernel has taken it.
    eventually(|| in_namespace(namespace, || UdpSocket::bind(addr).ok()))
}

/// Does something as a program in a namespace would.
pub(in crate::agent::network) fn in_namespace<T: Send>(
    namespace: &Path,
    work: impl FnOnce() -> T + Send,
) -> T {
    let file = File::open(namespace).unwrap();
    namespace::inside(&file, || Ok(work())).unwrap()
}

/// Asks until there is an answer. Says whom the other end saw.
pub(in crate::agent::network) fn answered(asking: &UdpSocket, listening: &UdpSocket) -> IpAddr {
    let addr = listening.local_addr().unwrap();
    for socket in [listening, asking] {
        let wait = Some(Duration::from_millis(100));
        socket.set_read_timeout(wait).unwrap();
    }
    let mut bytes = [0; 8];
    eventually(|| {
        asking.send_to(b"there", addr).unwrap();
        let (_, from) = listening.recv_from(&mut bytes).ok()?;
        listening.send_to(b"back", from).unwrap();
        asking.recv_from(&mut bytes).ok()?;
        Some(from.ip())
    })
}

/// Tries until there is something, and not for ever.
pub(in crate::agent::network) fn eventually<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(done) = attempt() {
            return done;
        }
        assert!(Instant::now() < deadline, "not in ten seconds");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(in crate::agent::network) fn container(number: u8) -> ContainerId {
    let mut bytes = [number; 32];
    bytes[31] = 0xff;
    ContainerId::from_bytes(bytes)
}

pub(in crate::agent::network) fn interface(
    addresses: &[&str],
    pools: &[&str],
    default: bool,
) -> Interface {
    Interface {
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        pools: pools.iter().map(|text| text.parse().unwrap()).collect(),
        default,
        mtu: 0,
    }
}

fn peer(number: u8) -> Peer {
    Peer {
        addr: IpAddr::from([10, 200, 0, number]),
        mac: [2, 0, 0, 0, 0, number],
        index: u16::from(number),
    }
}

fn subnet(text: &str) -> Subnet {
    text.parse().unwrap()
}

/// All that a kernel has of ours beside cables, a line each, in no order of its own.
fn ours() -> String {
    let all = [
        ip("route show table all proto 83"),
        ip("-6 route show table all proto 83"),
        ip("rule"),
        ip("-6 rule"),
        ip("neigh show dev skein0 nud permanent"),
        run("bridge", "fdb show dev skein0"),
    ];
    let all = all.concat();
    let mut lines: Vec<&str> = all.lines().map(str::trim).collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// Waits until something is as it should be.
fn eventually_is<T: PartialEq + std::fmt::Debug>(when: &str, found: impl Fn() -> T, wanted: &T) {
    let deadline = Instant::now() + Duration::from_secs(10);
    until(|| found() == *wanted || Instant::now() > deadline);
    let found = found();
    assert!(found == *wanted, "{when}: {found:#?}, not {wanted:#?}");
}

/// Looks again and again, until it is so.
fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        std::thread::sleep(Duration::from_millis(5));
    }
}
