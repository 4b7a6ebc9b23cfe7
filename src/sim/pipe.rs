//! Streams between machines: bytes in order, none lost, until the connection is given up.
//!
//! As over QUIC, a cut shorter than the idle time only delays; a machine that dies says nothing, and the other end
//! learns of it when the time is over, or when the machine comes back and has forgotten the connection.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::history::Life;
use super::network::Network;
use super::node::Node;

/// Bytes in flight.
const PIPE: usize = 64 << 10;

/// A connection over which nothing passes is given up after this: the transport's own idle time and one keep-alive.
const IDLE: Duration = Duration::from_secs(40);

/// Two machines and what lies between them.
#[derive(Clone)]
struct Line {
    network: Network,
    ends: [Life; 2],
    broken: CancellationToken,
}

/// A stream between two lives: the end of the first, and the end of the second.
pub(super) fn connect(
    network: &Network,
    tasks: &TaskTracker,
    one: &Arc<Node>,
    other: &Arc<Node>,
) -> (DuplexStream, DuplexStream) {
    let line = Line {
        network: network.clone(),
        ends: [one.life, other.life],
        broken: CancellationToken::new(),
    };
    let (one_near, one_far) = duplex(PIPE);
    let (other_near, other_far) = duplex(PIPE);
    let (one_reads, one_writes) = split(one_far);
    let (other_reads, other_writes) = split(other_far);
    let [there, back] = line.ends;
    tasks.spawn(line.clone().pump(there, back, one_reads, other_writes));
    tasks.spawn(line.clone().pump(back, there, other_reads, one_writes));
    tasks.spawn(line.give_up());
    (one_near, other_near)
}

impl Line {
    async fn pump(
        self,
        from: Life,
        to: Life,
        mut reads: ReadHalf<DuplexStream>,
        mut writes: WriteHalf<DuplexStream>,
    ) {
        let flow = async {
            let mut bytes = vec![0; PIPE];
            loop {
                let read = reads.read(&mut bytes).await.unwrap_or(0);
                if !self.lives(from) {
                    // The dead send nothing, not even that the stream is over.
                    return std::future::pending().await;
                }
                self.network.carry(from.node, to.node).await;
                if read == 0 || writes.write_all(&bytes[..read]).await.is_err() {
                    return;
                }
            }
        };
        let _ = self.broken.run_until_cancelled(flow).await;
        self.broken.cancel();
    }

    fn lives(&self, life: Life) -> bool {
        let now = self.network.life(life.node);
        now.is_some_and(|now| now.life == life)
    }

    /// Whether the machine runs again and knows nothing of this connection.
    fn forgot(&self, life: Life) -> bool {
        let now = self.network.life(life.node);
        now.is_some_and(|now| now.life != life)
    }

    async fn give_up(self) {
        let [one, other] = self.ends;
        let mut deadline = None;
        while !self.broken.is_cancelled() {
            let stands =
                self.network.reaches(one.node, other.node) && self.lives(one) && self.lives(other);
            if self.forgot(one) || self.forgot(other) {
                break;
            }
            deadline = match stands {
                true => None,
                false => Some(deadline.unwrap_or_else(|| Instant::now() + IDLE)),
            };
            let idle = async {
                match deadline {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.broken.cancelled() => {}
                () = self.network.changed() => {}
                () = idle => break,
            }
        }
        self.broken.cancel();
    }
}
