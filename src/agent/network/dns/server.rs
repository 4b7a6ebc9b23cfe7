//! Serves one container's sockets: reads questions, answers what is known at once, has the rest asked for outside.
//!
//! Who asks is known by the socket. A container that asks much is answered less, and takes nothing from others: its
//! open questions and its streams are counted, and what is too many is refused.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::forward::{self, Machine, framed, read_message};
use super::message::{self, Asked, Reply, Via};
use super::names::Names;
use super::sockets::Sockets;
use crate::model::NetworkId;

/// Questions of one container that servers outside are asked at a time. Each holds a socket for some seconds at most.
const MOST_OPEN: usize = 128;

/// The same of all containers together.
pub(super) const MOST_OPEN_OF_ALL: usize = 1024;

/// Streams of one container at a time.
const MOST_STREAMS: usize = 32;

/// Longest question, in bytes. Real ones have less than 512.
const LONGEST_QUESTION: usize = 4096;

/// Time that a stream stays without a question, or without taking an answer.
const STREAM_IDLE: Duration = Duration::from_secs(10);

/// Rest after a socket's error, so that one that stays costs little.
const REST: Duration = Duration::from_millis(50);

/// A container as its resolver sees it.
#[derive(Debug)]
pub(super) struct Asker {
    names: watch::Receiver<Arc<Names>>,
    /// In the order in which they are looked into.
    networks: Vec<NetworkId>,
    /// Those that its user named; the machine's own are asked when there are none.
    servers: Arc<[SocketAddr]>,
    machine: Arc<Machine>,
    /// Room for its open questions.
    open: Arc<Semaphore>,
    /// Room for those of all containers.
    open_of_all: Arc<Semaphore>,
    /// Room for its streams.
    streams: Arc<Semaphore>,
}

impl Asker {
    pub(super) fn new(
        names: watch::Receiver<Arc<Names>>,
        networks: Vec<NetworkId>,
        servers: &[IpAddr],
        machine: Arc<Machine>,
        open_of_all: Arc<Semaphore>,
    ) -> Self {
        Self {
            names,
            networks,
            servers: forward::named(servers),
            machine,
            open: Arc::new(Semaphore::new(MOST_OPEN)),
            open_of_all,
            streams: Arc::new(Semaphore::new(MOST_STREAMS)),
        }
    }

    fn reply(&self, packet: &[u8], via: Via) -> Reply {
        let names = self.names.borrow().clone();
        message::reply(&names, &self.networks, packet, via, &mut rand::rng())
    }

    /// Room for one more open question, if there is any.
    fn room(&self) -> Option<[OwnedSemaphorePermit; 2]> {
        let own = self.open.clone().try_acquire_owned().ok()?;
        let of_all = self.open_of_all.clone().try_acquire_owned().ok()?;
        Some([own, of_all])
    }

    async fn ask(&self, asked: &Asked) -> Vec<u8> {
        let servers = match &*self.servers {
            [] => self.machine.servers(),
            _ => self.servers.clone(),
        };
        forward::ask(asked, &servers).await
    }
}

/// Serves the sockets until `stop`. They are closed soon after, whoever is waiting for an answer.
pub(super) fn serve(
    sockets: Sockets,
    asker: Asker,
    stop: &CancellationToken,
    tracker: &TaskTracker,
) -> io::Result<()> {
    let udp = Arc::new(UdpSocket::from_std(sockets.udp)?);
    let tcp = TcpListener::from_std(sockets.tcp)?;
    let asker = Arc::new(asker);
    let work = Work {
        stop: stop.clone(),
        tracker: tracker.clone(),
    };
    work.spawn(datagrams(udp, asker.clone(), work.clone()));
    work.spawn(streams(tcp, asker, work.clone()));
    Ok(())
}

/// Owner of everything that is done for one container.
#[derive(Clone, Debug)]
struct Work {
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl Work {
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tracker.spawn(async move {
            stop.run_until_cancelled(work).await;
        });
    }
}

async fn datagrams(socket: Arc<UdpSocket>, asker: Arc<Asker>, work: Work) {
    let mut bytes = vec![0; LONGEST_QUESTION];
    loop {
        let (length, from) = match socket.recv_from(&mut bytes).await {
            Ok(received) => received,
            Err(error) => {
                debug!(%error, "a question cannot be received");
                sleep(REST).await;
                continue;
            }
        };
        match asker.reply(&bytes[..length], Via::Udp) {
            Reply::Send(answer) => send(&socket, &answer, from).await,
            Reply::Nothing => {}
            Reply::Forward(asked) => {
                let Some(room) = asker.room() else {
                    send(&socket, &asked.failed(), from).await;
                    continue;
                };
                let (socket, asker) = (socket.clone(), asker.clone());
                work.spawn(async move {
                    let answer = asker.ask(&asked).await;
                    send(&socket, &answer, from).await;
                    drop(room);
                });
            }
        }
    }
}

/// Who asked may be gone; it asks again when it is not.
async fn send(socket: &UdpSocket, answer: &[u8], to: SocketAddr) {
    if let Err(error) = socket.send_to(answer, to).await {
        debug!(%error, "an answer cannot be sent");
    }
}

async fn streams(listener: TcpListener, asker: Arc<Asker>, work: Work) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                debug!(%error, "a stream of questions cannot be accepted");
                sleep(REST).await;
                continue;
            }
        };
        // Without room the stream is closed at once.
        if let Ok(room) = asker.streams.clone().try_acquire_owned() {
            let asker = asker.clone();
            work.spawn(async move {
                if let Err(error) = converse(stream, &asker).await {
                    debug!(%error, "a stream of questions has ended");
                }
                drop(room);
            });
        }
    }
}

/// Answers the questions of a stream one after the other, until it ends or nothing comes for a while.
async fn converse(mut stream: TcpStream, asker: &Asker) -> io::Result<()> {
    loop {
        let question = read_message(&mut stream, LONGEST_QUESTION);
        let question = timeout(STREAM_IDLE, question).await??;
        let answer = match asker.reply(&question, Via::Tcp) {
            Reply::Send(answer) => answer,
            Reply::Nothing => return Ok(()),
            Reply::Forward(asked) => match asker.room() {
                Some(_room) => asker.ask(&asked).await,
                None => asked.failed(),
            },
        };
        let answer = framed(&answer);
        timeout(STREAM_IDLE, stream.write_all(&answer)).await??;
    }
}
