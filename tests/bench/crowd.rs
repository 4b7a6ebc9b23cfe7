//! Nodes that only talk: each keeps a session with the leader, says that it runs whatever it is given, and runs nothing.
//!
//! They are in another process than the leader, at the other end of sockets, so that what the leader costs is its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::future::{Either, select};
use skein::cluster::frames::{MessageError, read_message, write_message};
use skein::manager::measure::{node_id, portrait};
use skein::model::{NodeId, TaskId, TaskState, TaskStatus};
use skein::node::clock;
use skein::wire::Json;
use skein::wire::assignment::{Assigned, Report};
use skein::wire::limits::SESSION_FRAME;
use skein::wire::session::{Downward, Upward};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::watch::until;

/// A node looks for its leader again after up to this long.
const RETRY: Duration = Duration::from_millis(50);

/// The nodes. Dropping it ends them.
pub(crate) struct Crowd {
    alive: BTreeMap<u64, watch::Sender<bool>>,
    _nodes: JoinSet<()>,
}

impl Crowd {
    /// So many nodes, who find their leader at `socket`. To be called inside a runtime.
    pub(crate) fn gather(socket: &Path, count: u64) -> Self {
        let mut nodes = JoinSet::new();
        let mut alive = BTreeMap::new();
        for number in 1..=count {
            let (sender, lives) = watch::channel(true);
            alive.insert(number, sender);
            nodes.spawn(live(number, socket.to_owned(), lives));
        }
        Self {
            alive,
            _nodes: nodes,
        }
    }

    /// A node falls silent, or comes back with nothing of what it had.
    pub(crate) fn set_alive(&self, number: u64, alive: bool) {
        if let Some(node) = self.alive.get(&number) {
            node.send_replace(alive);
        }
    }
}

async fn live(number: u64, socket: PathBuf, mut lives: watch::Receiver<bool>) {
    let mut node = Node {
        number,
        tasks: BTreeMap::new(),
    };
    while lives.wait_for(|lives| *lives).await.is_ok() {
        let session = node.talk(&socket);
        let died = lives.wait_for(|lives| !*lives);
        let died = match select(pin!(session), pin!(died)).await {
            // Whatever ended it, the next session begins as this one did.
            Either::Left(_) => false,
            Either::Right(_) => true,
        };
        match died {
            true => node.tasks.clear(),
            false => until(Instant::now() + RETRY.mul_f64(rand::random_range(0.0..1.0))).await,
        }
    }
}

struct Node {
    number: u64,
    tasks: BTreeMap<TaskId, TaskStatus>,
}

impl Node {
    async fn talk(&mut self, socket: &Path) -> Result<(), MessageError> {
        let stream = UnixStream::connect(socket).await;
        let mut stream = stream.map_err(MessageError::Broken)?;
        let name = node_id(self.number).bits().to_be_bytes();
        stream
            .write_all(&name)
            .await
            .map_err(MessageError::Broken)?;
        let (mut reader, mut writer) = stream.into_split();
        let register = Upward::Register {
            description: Box::new(Json(portrait(self.number))),
            addresses: Vec::new(),
            issuer: String::new(),
        };
        write_message(&mut writer, &register, SESSION_FRAME).await?;
        let all = self.tasks.iter().map(|(id, status)| (*id, status.clone()));
        say(&mut writer, true, all.collect()).await?;
        self.listen(&mut reader, &mut writer).await
    }

    async fn listen(
        &mut self,
        reader: &mut OwnedReadHalf,
        writer: &mut OwnedWriteHalf,
    ) -> Result<(), MessageError> {
        let mut more = Vec::new();
        while let Some(message) = read_message(reader, SESSION_FRAME).await? {
            let assignments = match message {
                Downward::Assignments(assignments) => assignments,
                Downward::More(tasks) => {
                    more.extend(tasks);
                    continue;
                }
                Downward::Membership { .. } | Downward::Dependencies(_) | Downward::Plane(_) => {
                    continue;
                }
                Downward::Removed => return Ok(()),
            };
            for id in assignments.removed {
                self.tasks.remove(&id);
            }
            let told: Vec<Assigned> = more
                .drain(..)
                .chain(assignments.tasks)
                .map(|task| task.0)
                .collect();
            // As an agent does, in two words: what it prepares, and what then runs or has ended.
            for step in [TaskState::Preparing, TaskState::Running] {
                let news = told.iter().filter_map(|task| self.step(task, step));
                let news: Vec<_> = news.collect();
                if !news.is_empty() {
                    say(writer, false, news).await?;
                }
            }
        }
        Ok(())
    }

    /// How a task goes on, if it does.
    fn step(&mut self, task: &Assigned, step: TaskState) -> Option<(TaskId, TaskStatus)> {
        let state = match task.desired {
            TaskState::Running => step,
            TaskState::Ready => step.min(TaskState::Ready),
            desired if desired > TaskState::Running => TaskState::Shutdown,
            _ => return None,
        };
        let known = self.tasks.get(&task.task);
        let known = known.map_or(task.observed, |status| status.state);
        if known >= state {
            return None;
        }
        let status = TaskStatus {
            state,
            at: clock::now(),
            message: state.message().into(),
            pid: 4242,
            ..TaskStatus::default()
        };
        self.tasks.insert(task.task, status.clone());
        Some((task.task, status))
    }
}

async fn say(
    writer: &mut OwnedWriteHalf,
    complete: bool,
    statuses: Vec<(TaskId, TaskStatus)>,
) -> Result<(), MessageError> {
    let statuses = statuses.into_iter();
    let report = Report {
        complete,
        statuses: statuses.map(|(id, status)| (id, Json(status))).collect(),
    };
    write_message(writer, &Upward::Statuses(report), SESSION_FRAME).await
}

/// Who is at the other end of a stream.
pub(crate) async fn name_of(stream: &mut UnixStream) -> std::io::Result<NodeId> {
    use tokio::io::AsyncReadExt as _;
    let mut name = [0; 16];
    stream.read_exact(&mut name).await?;
    Ok(NodeId::from_bits(u128::from_be_bytes(name)))
}
