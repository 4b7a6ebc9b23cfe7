//! Namespaces of a test: the machine's, which the resolver runs in, and those of containers. They end with the test.

use std::cell::Cell;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Uid, gettid};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::Resolver;
use crate::model::{ContainerId, NetworkId};

/// Longest time that anything takes here.
const PATIENCE: Duration = Duration::from_secs(30);

/// The result of `work`, which a test has to have.
pub(super) async fn within<T>(work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, work).await;
    done.expect("it comes to an end")
}

/// A machine with a resolver.
pub(super) struct Bed {
    pub(super) resolver: Resolver,
    folder: TempDir,
    /// Where the last container's questions are to be sent: by datagram and by stream.
    ports: Arc<Mutex<(u16, u16)>>,
}

impl Bed {
    /// Runs a test on a machine of its own, or says why it cannot.
    pub(super) fn run(test: impl AsyncFnOnce(Self) + Send + 'static) {
        if !Uid::effective().is_root() {
            println!("skipped: only root can make network namespaces");
            return;
        }
        let machine = thread::spawn(move || {
            if let Err(error) = namespace() {
                println!("skipped: no network namespace can be made here: {error}");
                return;
            }
            let mut builder = tokio::runtime::Builder::new_current_thread();
            let runtime = builder.enable_all().build().unwrap();
            runtime.block_on(async {
                let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
                test(Self::new(stop.clone(), &tracker)).await;
                stop.cancel();
                tracker.close();
                within(tracker.wait()).await;
            });
        });
        if let Err(panic) = machine.join() {
            std::panic::resume_unwind(panic);
        }
    }

    fn new(stop: CancellationToken, tracker: &TaskTracker) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ports: Arc<Mutex<(u16, u16)>> = Arc::default();
        let seen = ports.clone();
        let redirect = move |udp, tcp| {
            *seen.lock().unwrap() = (udp, tcp);
            io::Result::Ok(())
        };
        let list = folder.path().join("resolv.conf");
        Self {
            resolver: Resolver::with(redirect, list, stop, tracker),
            folder,
            ports,
        }
    }

    /// Has the machine's `resolv.conf` list these.
    pub(super) fn write_servers(&self, servers: &[IpAddr]) {
        let lines = servers.iter().map(|addr| format!("nameserver {addr}\n"));
        let new = self.folder.path().join("new");
        fs::write(&new, lines.collect::<String>()).unwrap();
        fs::rename(&new, self.folder.path().join("resolv.conf")).unwrap();
    }

    /// A container that is served.
    pub(super) async fn container(
        &self,
        id: ContainerId,
        networks: Vec<NetworkId>,
        servers: Vec<IpAddr>,
    ) -> Container {
        let inside = Arc::new(Inside::new());
        self.serve(id, inside, networks, servers).await
    }

    /// The same container, served anew.
    pub(super) async fn attach(
        &self,
        container: &Container,
        networks: Vec<NetworkId>,
        servers: Vec<IpAddr>,
    ) -> Container {
        let inside = container.inside.clone();
        self.serve(container.id, inside, networks, servers).await
    }

    async fn serve(
        &self,
        id: ContainerId,
        inside: Arc<Inside>,
        networks: Vec<NetworkId>,
        servers: Vec<IpAddr>,
    ) -> Container {
        let attached = self.resolver.attach(id, &inside.path, networks, servers);
        within(attached).await.unwrap();
        let ports = *self.ports.lock().unwrap();
        Container::new(id, inside, ports)
    }
}

/// Moves this thread into a new network namespace with a loopback interface.
fn namespace() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()?;
    if up.success() {
        return Ok(());
    }
    Err(io::Error::other("the loopback interface stays down"))
}

type Job = Box<dyn FnOnce() + Send>;

/// A namespace that lasts as long as this: a thread in it, which does what it is given.
struct Inside {
    jobs: mpsc::Sender<Job>,
    path: PathBuf,
}

impl Inside {
    fn new() -> Self {
        let (jobs, given) = mpsc::channel::<Job>();
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            namespace().unwrap();
            let path = format!("/proc/self/task/{}/ns/net", gettid());
            tell.send(PathBuf::from(path)).unwrap();
            given.into_iter().for_each(|job| job());
        });
        let path = told.recv_timeout(PATIENCE).unwrap();
        Self { jobs, path }
    }

    fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = mpsc::channel();
        let job = Box::new(move || tell.send(job()).unwrap());
        self.jobs.send(job).unwrap();
        told.recv_timeout(PATIENCE).unwrap()
    }
}

/// A container, as a program in it sees its resolver.
pub(super) struct Container {
    id: ContainerId,
    inside: Arc<Inside>,
    ports: (u16, u16),
    socket: UdpSocket,
    next: Cell<u16>,
}

impl Container {
    fn new(id: ContainerId, inside: Arc<Inside>, ports: (u16, u16)) -> Self {
        let socket = inside.run(move || {
            let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            socket.connect(("127.0.0.11", ports.0)).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        });
        Self {
            id,
            inside,
            ports,
            socket: UdpSocket::from_std(socket).unwrap(),
            next: Cell::new(1000),
        }
    }

    /// The same one, at another port of its own.
    pub(super) fn another_socket(&self) -> Self {
        Self::new(self.id, self.inside.clone(), self.ports)
    }

    /// Sends a datagram.
    pub(super) async fn send(&self, bytes: &[u8]) {
        within(self.socket.send(bytes)).await.unwrap();
    }

    /// The next answer, whatever it is to.
    pub(super) async fn receive(&self) -> Told {
        let mut bytes = vec![0; 65536];
        let length = within(self.socket.recv(&mut bytes)).await.unwrap();
        Told::read(&bytes[..length])
    }

    /// The answer to a question.
    pub(super) async fn ask(&self, name: &str, kind: RecordType) -> Told {
        let id = self.next.replace(self.next.get() + 1);
        self.send(&question(id, name, kind)).await;
        loop {
            let told = self.receive().await;
            if told.0.metadata.id == id {
                return told;
            }
        }
    }

    /// The answer to a question on a stream.
    pub(super) async fn ask_by_stream(&self, name: &str, kind: RecordType) -> Told {
        self.conversation(&[(name, kind)]).await.remove(0)
    }

    /// The answers to questions that are sent at once, on one stream.
    pub(super) async fn conversation(&self, questions: &[(&str, RecordType)]) -> Vec<Told> {
        let framed = |message: Vec<u8>| {
            let length = u16::try_from(message.len()).unwrap().to_be_bytes();
            [&length, &message[..]].concat()
        };
        let sent = questions.iter().enumerate().map(|(id, (name, kind))| {
            let id = u16::try_from(id).unwrap();
            framed(question(id, name, *kind))
        });
        let mut stream = self.stream_of(&sent.collect::<Vec<_>>().concat()).await;
        let mut answers = Vec::new();
        for id in 0..questions.len() {
            let length = within(stream.read_u16()).await.unwrap();
            let mut bytes = vec![0; usize::from(length)];
            within(stream.read_exact(&mut bytes)).await.unwrap();
            let told = Told::read(&bytes);
            assert_eq!(usize::from(told.0.metadata.id), id);
            answers.push(told);
        }
        answers
    }

    /// A stream on which these bytes were sent.
    pub(super) async fn stream_of(&self, bytes: &[u8]) -> TcpStream {
        let port = self.ports.1;
        let stream = self.inside.run(move || {
            let stream = std::net::TcpStream::connect(("127.0.0.11", port)).unwrap();
            stream.set_nonblocking(true).unwrap();
            stream
        });
        let mut stream = TcpStream::from_std(stream).unwrap();
        within(stream.write_all(bytes)).await.unwrap();
        stream
    }

    /// Waits until nobody listens any more where this one asks.
    pub(super) async fn is_closed(&self) {
        let (udp, tcp) = self.ports;
        let bind = move || {
            let at = |port| SocketAddr::from(([127, 0, 0, 11], port));
            std::net::UdpSocket::bind(at(udp)).is_ok()
                && std::net::TcpStream::connect(at(tcp)).is_err()
        };
        within(async {
            while !self.inside.run(bind) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

/// An answer.
pub(super) struct Told(Message);

impl Told {
    fn read(bytes: &[u8]) -> Self {
        let message = Message::from_vec(bytes).unwrap();
        assert_eq!(message.metadata.message_type, MessageType::Response);
        Self(message)
    }

    pub(super) fn code(&self) -> ResponseCode {
        self.0.metadata.response_code
    }

    pub(super) fn is_cut_short(&self) -> bool {
        self.0.metadata.truncation
    }

    /// The addresses in it, as text.
    pub(super) fn addresses(&self) -> Vec<String> {
        let data = self.0.answers.iter().map(|record| record.data.to_string());
        data.collect()
    }
}

/// A question's bytes.
pub(super) fn question(id: u16, name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.to_vec().unwrap()
}
