//! The simulated network: the one truth about which machine reaches which at this moment, and how badly.
//!
//! Raft's calls, sessions, control requests, forwarded API requests and the failure detector all ask it. A message is
//! on its way by itself: that its sender has given up waiting, or has died, does not stop it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

use super::dice::Dice;
use super::history::Life;
use super::node::Node;
use super::tripwire::Tripwire;
use crate::cluster::store::{LinkError, RaftLink};
use crate::model::NodeId;

/// What is sent into a cut is sent again for so long.
const RESENDS: Duration = Duration::from_secs(5);

/// How badly messages travel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    /// The shortest way.
    pub(super) least: Duration,
    /// The usual longest.
    pub(super) most: Duration,
    /// So many of one take much longer, up to `late`.
    pub(super) lates: f64,
    /// The longest of all.
    pub(super) late: Duration,
    /// So many of one are lost.
    pub(super) losses: f64,
    /// So many of one arrive twice, where that is possible.
    pub(super) doubles: f64,
}

impl Weather {
    /// A quiet local network.
    pub(super) const FAIR: Self = Self {
        least: Duration::from_micros(200),
        most: Duration::from_millis(2),
        lates: 0.0,
        late: Duration::from_millis(2),
        losses: 0.0,
        doubles: 0.0,
    };
}

/// What a message does where it arrives.
pub(super) type Job<T> = Arc<dyn Fn(Arc<Node>) -> BoxFuture<'static, T> + Send + Sync>;

/// The network. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Network(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    truth: Mutex<Truth>,
    /// Rises with each change of the truth.
    turns: watch::Sender<u64>,
    dice: Dice,
    wire: Tripwire,
    /// Messages on their way.
    flights: TaskTracker,
}

#[derive(Debug)]
struct Truth {
    up: BTreeMap<NodeId, Arc<Node>>,
    /// Directed pairs over which nothing passes.
    cut: BTreeSet<(NodeId, NodeId)>,
    paused: BTreeSet<NodeId>,
    weather: Weather,
}

impl Network {
    pub(super) fn new(dice: Dice, flights: TaskTracker) -> Self {
        Self(Arc::new(Inner {
            truth: Mutex::new(Truth {
                up: BTreeMap::new(),
                cut: BTreeSet::new(),
                paused: BTreeSet::new(),
                weather: Weather::FAIR,
            }),
            turns: watch::Sender::new(0),
            dice,
            wire: Tripwire::default(),
            flights,
        }))
    }

    fn truth(&self) -> MutexGuard<'_, Truth> {
        self.0.truth.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn<T>(&self, change: impl FnOnce(&mut Truth) -> T) -> T {
        let changed = change(&mut self.truth());
        self.0.turns.send_modify(|turns| *turns += 1);
        changed
    }

    /// `node` answers from now on.
    pub(super) fn appear(&self, node: &Arc<Node>) {
        self.turn(|truth| truth.up.insert(node.life.node, node.clone()));
    }

    /// What counts steps and kills at one.
    pub(super) fn wire(&self) -> &Tripwire {
        &self.0.wire
    }

    /// It answers no more.
    pub(super) fn vanish(&self, node: NodeId) {
        self.0.wire.spent(node);
        self.turn(|truth| truth.up.remove(&node));
    }

    /// Nothing passes from any of the ones to any of the others.
    pub(super) fn cut(&self, ones: &[NodeId], others: &[NodeId]) {
        self.turn(|truth| {
            for one in ones {
                truth.cut.extend(others.iter().map(|other| (*one, *other)));
            }
        });
    }

    /// Everything passes.
    pub(super) fn mend(&self) {
        self.turn(|truth| truth.cut.clear());
    }

    /// A machine stands still, as one whose processes got SIGSTOP: what it would send and what it is sent waits.
    pub(super) fn pause(&self, node: NodeId) {
        self.turn(|truth| truth.paused.insert(node));
    }

    /// It goes on.
    pub(super) fn resume(&self, node: NodeId) {
        self.turn(|truth| truth.paused.remove(&node));
    }

    /// All go on.
    pub(super) fn resume_all(&self) {
        self.turn(|truth| truth.paused.clear());
    }

    pub(super) fn set_weather(&self, weather: Weather) {
        self.turn(|truth| truth.weather = weather);
    }

    /// Nodes that run, in order of their identity.
    pub(super) fn up(&self) -> Vec<Arc<Node>> {
        self.truth().up.values().cloned().collect()
    }

    /// The present life of a node that runs.
    pub(super) fn life(&self, node: NodeId) -> Option<Arc<Node>> {
        self.truth().up.get(&node).cloned()
    }

    pub(super) fn is_paused(&self, node: NodeId) -> bool {
        self.truth().paused.contains(&node)
    }

    /// Whether packets of `from` get an answer of `to`, if it runs and takes them.
    pub(super) fn reaches(&self, from: NodeId, to: NodeId) -> bool {
        let (one, other) = (self.life(from), self.life(to));
        one.is_some_and(|one| !one.shuts_out(to))
            && other.is_some_and(|other| !other.shuts_out(from))
            && self.passes(from, to)
    }

    /// Whether packets of `from` get an answer of `to`, be it a refusal.
    pub(super) fn passes(&self, from: NodeId, to: NodeId) -> bool {
        let truth = self.truth();
        let up = truth.up.contains_key(&from) && truth.up.contains_key(&to);
        let cut = truth.cut.contains(&(from, to)) || truth.cut.contains(&(to, from));
        up && !cut && !truth.paused.contains(&to)
    }

    /// Waits until `condition` holds of the network.
    async fn until(&self, condition: impl Fn(&Truth) -> bool) {
        let mut turns = self.0.turns.subscribe();
        while !condition(&self.truth()) {
            if turns.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits for any change of the network.
    pub(super) async fn changed(&self) {
        // The sender is behind this handle and outlives the wait.
        let _ = self.0.turns.subscribe().changed().await;
    }

    fn way(&self) -> Duration {
        let weather = self.truth().weather;
        match weather.lates > 0.0 && self.0.dice.chance(weather.lates) {
            true => self.0.dice.span(weather.most, weather.late),
            false => self.0.dice.span(weather.least, weather.most),
        }
    }

    fn happens(&self, share: impl Fn(&Weather) -> f64) -> bool {
        let share = share(&self.truth().weather);
        share > 0.0 && self.0.dice.chance(share)
    }

    /// One message's way. False when it does not arrive.
    async fn travel(&self, from: NodeId, to: NodeId) -> bool {
        if !self.0.wire.step(from) {
            return false;
        }
        self.until(|truth| !truth.paused.contains(&from)).await;
        if self.happens(|weather| weather.losses) {
            return false;
        }
        let is_cut = |truth: &Truth| truth.cut.contains(&(from, to));
        if is_cut(&self.truth()) {
            let resent = self.0.dice.chance(0.3);
            let mended = self.until(|truth| !is_cut(truth));
            if !resent || timeout(RESENDS, mended).await.is_err() {
                return false;
            }
        }
        sleep(self.way()).await;
        if is_cut(&self.truth()) {
            return false;
        }
        self.until(|truth| !truth.paused.contains(&to)).await;
        true
    }

    /// The way of the next bytes of a stream, which are sent again until they arrive.
    pub(super) async fn carry(&self, from: NodeId, to: NodeId) {
        if !self.0.wire.step(from) {
            return std::future::pending().await;
        }
        loop {
            self.until(|truth| {
                let cut = truth.cut.contains(&(from, to));
                !cut && !truth.paused.contains(&from) && !truth.paused.contains(&to)
            })
            .await;
            sleep(self.way()).await;
            if !self.happens(|weather| weather.losses) {
                return;
            }
        }
    }

    /// Sends `job` to `to` and waits for what it comes to. `from` must live on to hear it, if it has a life.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        from: (NodeId, Option<Life>),
        to: NodeId,
        deadline: Duration,
        twice: bool,
        job: Job<T>,
    ) -> Result<T, LinkError> {
        let (answer, answered) = oneshot::channel();
        let answer = Arc::new(Mutex::new(Some(answer)));
        let copies = 1 + usize::from(twice && self.happens(|weather| weather.doubles));
        for _ in 0..copies {
            let (network, job, answer) = (self.clone(), job.clone(), answer.clone());
            self.0.flights.spawn(async move {
                let Some(result) = network.fly(from, to, job).await else {
                    return;
                };
                let waits = answer.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(waits) = waits {
                    // Who asked may have given up.
                    let _ = waits.send(result);
                }
            });
        }
        drop(answer);
        let heard = async {
            match answered.await {
                Ok(result) => result,
                // Lost on the way, which nobody can tell from slow.
                Err(_) => std::future::pending().await,
            }
        };
        timeout(deadline, heard)
            .await
            .unwrap_or(Err(LinkError::TimedOut))
    }

    /// There and back; `None` when either message is lost.
    async fn fly<T: Send + 'static>(
        &self,
        (from, life): (NodeId, Option<Life>),
        to: NodeId,
        job: Job<T>,
    ) -> Option<Result<T, LinkError>> {
        if !self.travel(from, to).await {
            return None;
        }
        let Some(node) = self.life(to) else {
            let refused = self.0.dice.chance(0.5);
            return refused.then(|| Err(LinkError::Unreachable("nothing listens there".into())));
        };
        let caller = self.life(from);
        let shut = node.shuts_out(from) || caller.is_some_and(|caller| caller.shuts_out(to));
        // A stranger at the door shows no certificate: who it is is told by what it asks for.
        if life.is_some() && shut {
            if let Some(caller) = self.life(from)
                && node.shuts_out(from)
            {
                caller.was_refused(&node);
            }
            return Some(Err(LinkError::Unreachable("the node was removed".into())));
        }
        let result = node.stop.run_until_cancelled(job(node.clone())).await?;
        if !self.travel(to, from).await {
            return None;
        }
        let listens = life.is_none_or(|life| self.life(from).is_some_and(|now| now.life == life));
        listens.then_some(Ok(result))
    }
}

/// Raft's way out of one life of a machine.
pub(super) struct SimLink {
    pub(super) network: Network,
    pub(super) life: Life,
}

impl RaftLink for SimLink {
    fn call(
        &self,
        to: NodeId,
        request: Vec<u8>,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Vec<u8>, LinkError>> {
        let from = self.life.node;
        let request = Arc::new(request);
        let job: Job<Result<Vec<u8>, LinkError>> = Arc::new(move |node: Arc<Node>| {
            let request = request.clone();
            async move {
                let gone = || LinkError::Unreachable("the stream was closed".into());
                let store = node.store.as_ref().ok_or_else(gone)?;
                let answer = store.handle(from, &request).await;
                answer.map_err(|error| LinkError::Refused(error.to_string()))
            }
            .boxed()
        });
        async move {
            let sent = self
                .network
                .call((from, Some(self.life)), to, deadline, true, job);
            sent.await?
        }
        .boxed()
    }
}
