//! The agent's end of the session: finds the leader, registers, and takes its orders.
//!
//! Started by the node for as long as it is a member. It opens a session with whoever leads, tells what the machine
//! is, and publishes what it is told as [`Orders`]. Losing the leader changes nothing here but the search for the next.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use rand::Rng;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::runner::{Runner, Statuses, reports};
use crate::cluster::frames::{Io, MessageError, read_message, write_message};
use crate::model::facts::LeaderHint;
use crate::model::plane::PlaneUpdate;
use crate::model::{NodeDescription, NodeId, Role, Standing};
use crate::wire::Json;
use crate::wire::assignment::{Assignments, Dependencies};
use crate::wire::limits::SESSION_FRAME;
use crate::wire::session::{Downward, Upward};

/// The first wait before another attempt; doubled each time, with jitter.
const RETRY_FIRST: Duration = Duration::from_millis(50);

/// The longest wait before another attempt.
const RETRY_MOST: Duration = Duration::from_secs(2);

/// What a node says of itself when it registers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SelfPortrait {
    /// What the machine is.
    pub description: NodeDescription,
    /// Where it can be reached.
    pub addresses: Vec<SocketAddr>,
    /// The root that issued its certificate.
    pub issuer: String,
}

/// The last orders of a leader.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// The term they come from; zero before the first.
    pub term: u64,
    /// Whether a session stands at this moment.
    pub in_session: bool,
    /// What the node is.
    pub role: Role,
    /// Whether it may vote.
    pub standing: Standing,
    /// The roots to trust, PEM.
    pub roots_pem: String,
    /// The root that issues.
    pub issuer: String,
    /// Who was removed.
    pub removed: Vec<NodeId>,
    /// This node itself was removed from the cluster.
    pub expelled: bool,
}

/// A word to the leader ahead of a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// Back in a moment.
    Restarting,
    /// Gone for good.
    Leaving,
}

/// The agent's inputs and outputs.
#[derive(Debug)]
pub struct SessionChannels {
    /// Who leads, as far as is known.
    pub leader: watch::Receiver<Option<LeaderHint>>,
    /// What to register; registered again when it changes.
    pub portrait: watch::Receiver<SelfPortrait>,
    /// Words to pass on to the leader.
    pub farewells: mpsc::Receiver<Farewell>,
    /// What the leader says.
    pub orders: watch::Sender<Orders>,
    /// Takes assignments, and knows how the tasks are. There is none until the node can run containers; a leader that
    /// reads so in the portrait assigns none.
    pub runner: watch::Receiver<Option<Runner>>,
    /// Takes the cluster's intent: all of it in one, first in each session, then each change. `None` lets it go by.
    pub plane: Option<mpsc::Sender<PlaneUpdate>>,
}

/// Keeps a session with the leader until `stop`; `open` makes a stream to a node. `silent` comes true when a node that
/// was reached is reached no longer: a stream to it may stand for long, and a session over it is none.
pub async fn run<F, E, S>(
    mut channels: SessionChannels,
    open: impl Fn(NodeId) -> F,
    silent: impl Fn(NodeId) -> S,
    stop: CancellationToken,
) where
    F: Future<Output = Result<Box<dyn Io>, E>>,
    E: std::error::Error,
    S: Future<Output = ()>,
{
    let mut wait = RETRY_FIRST;
    while !stop.is_cancelled() {
        let Some(hint) = *channels.leader.borrow_and_update() else {
            if stop
                .run_until_cancelled(channels.leader.changed())
                .await
                .is_none_or(|c| c.is_err())
            {
                return;
            }
            continue;
        };
        let began = Instant::now();
        let attempt = async {
            match open(hint.leader).await {
                Ok(io) => tokio::select! {
                    outcome = talk(&mut channels, hint, io) => {
                        outcome.map_err(|error| error.to_string())
                    }
                    () = silent(hint.leader) => Err("the leader is not reached any more".into()),
                },
                Err(error) => Err(error.to_string()),
            }
        };
        let Some(outcome) = stop.run_until_cancelled(attempt).await else {
            return;
        };
        channels
            .orders
            .send_if_modified(|orders| std::mem::take(&mut orders.in_session));
        debug!(leader = %hint.leader, term = hint.term, ?outcome, "session over");
        if channels.orders.borrow().expelled {
            return;
        }
        wait = if began.elapsed() > RETRY_MOST {
            RETRY_FIRST
        } else {
            (wait * 2).min(RETRY_MOST)
        };
        let pause = tokio::time::sleep(wait.mul_f64(rand::rng().random_range(0.5..1.0)));
        tokio::select! {
            () = pause => {}
            changed = channels.leader.changed() => {
                wait = RETRY_FIRST;
                if changed.is_err() { return }
            }
            () = stop.cancelled() => return,
        }
    }
}

async fn talk(
    channels: &mut SessionChannels,
    hint: LeaderHint,
    io: Box<dyn Io>,
) -> Result<(), MessageError> {
    let (reader, mut writer) = tokio::io::split(io);
    let portrait = channels.portrait.borrow_and_update().clone();
    register(&portrait, &mut writer).await?;
    let SessionChannels {
        leader,
        portrait,
        farewells,
        orders,
        runner,
        plane,
    } = channels;
    let runner = &*runner;
    let (told, able) = (orders.subscribe(), runner.clone());
    tokio::select! {
        never = keep_contact(told, able) => match never {},
        outcome = listen(reader, orders, runner, plane.as_ref()) => outcome,
        outcome = speak(writer, portrait, farewells, runner.clone()) => outcome,
        // A leader of a later term has taken over; this session is void even if its stream still stands.
        _ = leader.wait_for(|now| now.is_some_and(|now| now.term > hint.term)) => Ok(()),
    }
}

/// Tells the runner, for as long as this is not dropped, that the node is not cut off.
async fn keep_contact(
    mut orders: watch::Receiver<Orders>,
    mut runner: watch::Receiver<Option<Runner>>,
) -> Infallible {
    let stands = orders.wait_for(|orders| orders.in_session).await.is_ok();
    let able = runner.wait_for(Option::is_some).await;
    let able = able.ok().and_then(|runner| runner.clone());
    let _contact = able.filter(|_| stands).map(|runner| runner.contact());
    std::future::pending().await
}

async fn listen(
    mut reader: ReadHalf<Box<dyn Io>>,
    orders: &watch::Sender<Orders>,
    runner: &watch::Receiver<Option<Runner>>,
    plane: Option<&mpsc::Sender<PlaneUpdate>>,
) -> Result<(), MessageError> {
    let mut intent = Intent::default();
    // The beginning of a complete set that is not all here yet.
    let mut more = Vec::new();
    let mut complete = false;
    // Secrets and configs have come in this session.
    let mut told = false;
    while let Some(message) = read_message(&mut reader, SESSION_FRAME).await? {
        match message {
            Downward::Membership {
                term,
                role,
                standing,
                roots_pem,
                issuer,
                removed,
            } => {
                let now = Orders {
                    term,
                    in_session: true,
                    role,
                    standing,
                    roots_pem,
                    issuer,
                    removed,
                    expelled: false,
                };
                if !take(orders, now) {
                    return Ok(());
                }
            }
            Downward::More(tasks) => more.extend(tasks),
            Downward::Assignments(mut assignments) => {
                assignments.tasks.splice(0..0, more.drain(..));
                complete |= assignments.complete;
                if !complete {
                    // What came in between is not known. All of it is said again in the next session.
                    warn!("assignments refused: the set that they add to was not said");
                    return Ok(());
                }
                if !assign(assignments, told, runner).await {
                    return Ok(());
                }
            }
            Downward::Dependencies(news) => {
                told = true;
                runner.borrow().iter().for_each(|it| it.keep(news.clone()));
            }
            Downward::Plane(Json(update)) => {
                if let (Some(update), Some(plane)) = (intent.take(update), plane) {
                    // Gone at the end of the daemon alone.
                    let _ = plane.send(update).await;
                }
            }
            Downward::Removed => {
                orders.send_modify(|orders| orders.expelled = true);
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Hands assignments to the runner; `told` when secrets and configs came before them. False when they were not taken: they
/// are said again, complete, in the next session.
async fn assign(
    assignments: Assignments,
    told: bool,
    runner: &watch::Receiver<Option<Runner>>,
) -> bool {
    let Some(runner) = runner.borrow().clone() else {
        warn!("this node runs no tasks yet; assignments refused");
        return true;
    };
    if assignments.complete && !told {
        // Its tasks name none, and what an earlier leader has sent is of no use any more.
        runner.keep(nothing());
    }
    let taken = runner.assign(assignments).await;
    taken
        .inspect_err(|error| warn!(%error, "assignments refused"))
        .is_ok()
}

/// Makes one of the parts in which the whole of the cluster's intent comes.
#[derive(Debug, Default)]
struct Intent {
    begun: PlaneUpdate,
    whole: bool,
}

impl Intent {
    /// What is to be passed on by now: nothing before the whole of it is here.
    fn take(&mut self, update: PlaneUpdate) -> Option<PlaneUpdate> {
        if self.whole && !update.complete {
            return Some(update);
        }
        let complete = update.complete;
        self.begun.networks.extend(update.networks);
        self.begun.services.extend(update.services);
        self.begun.blocks.extend(update.blocks);
        complete.then(|| {
            self.whole = true;
            PlaneUpdate {
                complete,
                ..std::mem::take(&mut self.begun)
            }
        })
    }
}

/// Takes orders; false for those of a term that is over.
fn take(orders: &watch::Sender<Orders>, now: Orders) -> bool {
    let known = orders.borrow().term;
    if now.term < known {
        info!(term = now.term, "orders of an older term refused");
        return false;
    }
    orders.send_replace(now);
    true
}

/// No secret and no config, and none from before.
fn nothing() -> Dependencies {
    Dependencies {
        complete: true,
        ..Dependencies::default()
    }
}

async fn speak(
    mut writer: WriteHalf<Box<dyn Io>>,
    portrait: &mut watch::Receiver<SelfPortrait>,
    farewells: &mut mpsc::Receiver<Farewell>,
    mut runner: watch::Receiver<Option<Runner>>,
) -> Result<(), MessageError> {
    let (mut statuses, mut told) = (None, None);
    loop {
        tokio::select! {
            now = news(&mut runner, &mut statuses, told.is_none()) => {
                for report in reports(told.as_ref(), &now) {
                    write_message(&mut writer, &Upward::Statuses(report), SESSION_FRAME).await?;
                }
                told = Some(now);
            }
            word = farewells.recv() => {
                let message = match word {
                    Some(Farewell::Restarting) => Upward::Restarting,
                    Some(Farewell::Leaving) => Upward::Leaving,
                    None => return Ok(()),
                };
                write_message(&mut writer, &message, SESSION_FRAME).await?;
            }
            changed = portrait.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                let portrait = portrait.borrow_and_update().clone();
                register(&portrait, &mut writer).await?;
            }
        }
    }
}

/// How the tasks are: at once when `first`, else once that has changed. Never, without a runner or after its end.
async fn news(
    runner: &mut watch::Receiver<Option<Runner>>,
    statuses: &mut Option<watch::Receiver<Statuses>>,
    first: bool,
) -> Statuses {
    if statuses.is_none()
        && let Ok(there) = runner.wait_for(Option::is_some).await
    {
        *statuses = there.as_ref().map(Runner::statuses);
    }
    if let Some(statuses) = statuses
        && (first || statuses.changed().await.is_ok())
    {
        return statuses.borrow_and_update().clone();
    }
    std::future::pending().await
}

async fn register(
    portrait: &SelfPortrait,
    writer: &mut WriteHalf<Box<dyn Io>>,
) -> Result<(), MessageError> {
    let message = Upward::Register {
        description: Box::new(Json(portrait.description.clone())),
        addresses: portrait.addresses.clone(),
        issuer: portrait.issuer.clone(),
    };
    write_message(writer, &message, SESSION_FRAME).await
}
