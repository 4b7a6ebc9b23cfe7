//! What a test has to itself: a containerd, registries, and nodes on them. All of it goes when the test ends.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use skein::agent::images::{Images, ImagesSettings, NoPeers, Peers, Progress, Update};
use skein::model::NodeId;
use tempfile::TempDir;

use crate::make::{Layout, skopeo};
use crate::wait::eventually;

/// `user` and `geheim`, as `htpasswd -B` writes them.
const PASSWORDS: &str = "user:$2b$05$abcdefghijklmnopqrstuuVWu8RjbNovPZWAMRdd7iqaaG0mI53Uu\n";

/// A process of the test's own, killed when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A containerd and a directory.
pub(crate) struct World {
    _containerd: Running,
    dir: TempDir,
    state: PathBuf,
}

/// A registry on loopback.
pub(crate) struct Registry {
    /// `127.0.0.1:port`.
    pub(crate) address: String,
    process: Running,
}

/// Why tests cannot run here.
fn obstacle() -> Option<String> {
    if !nix::unistd::Uid::effective().is_root() {
        return Some("this needs root".into());
    }
    ["containerd", "docker-registry", "skopeo", "umoci"]
        .into_iter()
        .find(|program| !Path::new("/usr/bin").join(program).exists())
        .map(|program| format!("this needs {program}"))
}

impl World {
    /// Content of one namespace is shared with the others, as containerd does by itself.
    pub(crate) fn new() -> Option<Self> {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let state = dir.path().join("root");
        Self::in_state(dir, state, "shared")
    }

    /// Each namespace fetches for itself, as if it were on a machine of its own.
    pub(crate) fn isolated() -> Option<Self> {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let state = dir.path().join("root");
        Self::in_state(dir, state, "isolated")
    }

    /// containerd's content lies in `state`.
    pub(crate) fn in_state(dir: TempDir, state: PathBuf, sharing: &str) -> Option<Self> {
        if let Some(obstacle) = obstacle() {
            eprintln!("not run: {obstacle}");
            return None;
        }
        let path = dir.path();
        let (socket, run) = (path.join("c.sock"), path.join("run"));
        let off: Vec<String> = ["cri", "aufs", "btrfs", "devmapper", "zfs"]
            .map(plugin)
            .into();
        let config = format!(
            "version = 2\nroot = {state:?}\nstate = {run:?}\ndisabled_plugins = {off:?}\n\
             [grpc]\naddress = {socket:?}\n[ttrpc]\naddress = {:?}\n\
             [plugins.\"io.containerd.metadata.v1.bolt\"]\ncontent_sharing_policy = {sharing:?}\n\
             [plugins.\"io.containerd.internal.v1.opt\"]\npath = {:?}\n",
            path.join("t.sock"),
            path.join("opt"),
        );
        fs::write(path.join("config.toml"), config).unwrap();
        let log = fs::File::create(path.join("containerd.log")).unwrap();
        let mut command = Command::new("containerd");
        command.arg("--config").arg(path.join("config.toml"));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let containerd = Running(command.spawn().unwrap());
        eventually(Duration::from_secs(30), "containerd answers", || {
            UnixStream::connect(&socket).ok()
        });
        Some(Self {
            _containerd: containerd,
            dir,
            state,
        })
    }

    /// The directory of the test.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where containerd keeps content.
    pub(crate) fn content(&self) -> PathBuf {
        self.state.join("io.containerd.content.v1.content")
    }

    /// The snapshots that containerd keeps.
    pub(crate) fn snapshots(&self) -> usize {
        let dir = self
            .state
            .join("io.containerd.snapshotter.v1.overlayfs/snapshots");
        fs::read_dir(dir).map_or(0, Iterator::count)
    }

    /// Bytes of content that containerd keeps, whole or not.
    pub(crate) fn content_bytes(&self) -> u64 {
        fn size(path: &Path) -> u64 {
            let Ok(entries) = fs::read_dir(path) else {
                return 0;
            };
            let one = |entry: fs::DirEntry| match entry.metadata() {
                Ok(meta) if meta.is_dir() => size(&entry.path()),
                Ok(meta) => meta.len(),
                Err(_) => 0,
            };
            entries.flatten().map(one).sum()
        }
        size(&self.content())
    }

    /// A node that is alone, in a namespace of its own.
    pub(crate) async fn node(&self) -> Images {
        self.node_with(Arc::new(NoPeers(NodeId::from_bits(1))))
            .await
    }

    /// A node with peers.
    pub(crate) async fn node_with(&self, peers: Arc<dyn Peers>) -> Images {
        self.node_in(&unique("skein-test"), peers).await
    }

    /// A node in a namespace that may have been used before.
    pub(crate) async fn node_in(&self, namespace: &str, peers: Arc<dyn Peers>) -> Images {
        let settings = ImagesSettings {
            address: self.path("c.sock"),
            namespace: namespace.into(),
            snapshotter: "overlayfs".into(),
            scratch: self.path("scratch"),
            insecure_registries: Vec::new(),
            clock: skein::node::clock::now,
        };
        Images::connect(settings, peers).await.unwrap()
    }

    /// A registry, with or without a password.
    pub(crate) fn registry(&self, password: bool) -> Registry {
        let address = format!("127.0.0.1:{}", free_port());
        Registry::start(&self.path(&unique("registry")), address, password)
    }
}

fn plugin(name: &str) -> String {
    match name {
        "cri" => "io.containerd.grpc.v1.cri".into(),
        other => format!("io.containerd.snapshotter.v1.{other}"),
    }
}

/// A name that no other test of this machine uses.
pub(crate) fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(
        "{prefix}-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// A port that is free at this moment.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

impl Registry {
    /// It, with all that it has in `dir`.
    pub(crate) fn start(dir: &Path, address: String, password: bool) -> Self {
        fs::create_dir_all(dir).unwrap();
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{address}'}}\n",
            dir.join("data").display()
        );
        if password {
            fs::write(dir.join("passwords"), PASSWORDS).unwrap();
            let path = dir.join("passwords");
            config += &format!(
                "auth: {{htpasswd: {{realm: test, path: {}}}}}\n",
                path.display()
            );
        }
        fs::write(dir.join("config.yml"), config).unwrap();
        let log = fs::File::create(dir.join("log")).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(dir.join("config.yml"));
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let process = Running(command.spawn().unwrap());
        eventually(Duration::from_secs(30), "the registry answers", || {
            TcpStream::connect(&address).ok()
        });
        Self { address, process }
    }

    /// Copies an image of a layout into it, all platforms.
    pub(crate) fn push(&self, layout: &Layout, source: &str, name: &str) {
        let target = format!("docker://{}/{name}", self.address);
        let mut args = vec![
            "copy",
            "--all",
            "--dest-tls-verify=false",
            "--preserve-digests",
        ];
        args.extend(["--dest-creds", "user:geheim"]);
        let source = layout.source(source);
        args.extend([source.as_str(), target.as_str()]);
        skopeo(&args);
    }

    /// Ends it.
    pub(crate) fn stop(self) -> String {
        drop(self.process);
        self.address
    }
}

/// What was told while something went on.
#[derive(Clone, Default)]
pub(crate) struct Told(Arc<Mutex<Vec<Update>>>);

impl Told {
    /// Tells here.
    pub(crate) fn progress(&self) -> Progress {
        let told = self.clone();
        Progress::to(move |update| told.0.lock().unwrap().push(update))
    }

    /// Each line, `id: status`.
    pub(crate) fn lines(&self) -> Vec<String> {
        let told = self.0.lock().unwrap();
        told.iter()
            .map(|update| format!("{}: {}", update.id, update.step.status()))
            .collect()
    }

    /// Whether a line holds these words.
    pub(crate) fn says(&self, words: &str) -> bool {
        self.lines().iter().any(|line| line.contains(words))
    }
}
