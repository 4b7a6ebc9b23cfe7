//! Decides who is alive and who is dead.
//!
//! Pure: signs of life go in by [`Detector::handle`], probes to start and verdicts come out of
//! [`Detector::poll_effect`]. The gossip loop calls it; it must never judge by a clock that ran while this
//! process did not. So it has its own clock, which advances with each event by at most a little more than
//! was to pass until then: the time for which this process was stopped or starved counts for nobody's silence.
//!
//! ```text
//!             first heard of                  sign of life
//!  (unknown) ───────────────▶ Unproven ───────────────────────▶ Alive ◀─────────┐
//!                                │                                │ silent,      │ sign of life
//!                                │                                │ or doubted   │
//!                                │                                ▼              │
//!                                │                             Doubted ──────────┤
//!                                │ silent for longer,             │ the same     │
//!                                ▼ and a probe unanswered         ▼              │
//!                              Dead ◀──────────────────────────  Dead ───────────┘
//! ```
//!
//! A *sign of life* is a message that came from the node itself, an answered probe, or heartbeats that rise and go on
//! rising: what others tell of a node that is not believed alive may be old news that was long on its way.
//!
//! A member comes into doubt when nothing is heard of it for long, by phi-accrual; when it leaves an exchange
//! unanswered; or when another member doubts it. Doubt costs one probe. What protects a member that was only stopped
//! for a second is that the probe waits for longer than that: it is answered as soon as the member runs again.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::interval::{Pace, SMALL};
use super::peers::Liveness;
use crate::model::NodeId;

/// Probes that may be under way at once.
const MAX_PROBES: usize = 64;

/// Between a probe that failed at once (nothing to dial, connection refused) and the next.
const PROBE_RETRY: Duration = Duration::from_millis(200);

const FIRST_LOOK: &str = "nobody was looked at yet";

/// Something was learned of a member, or time has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Gossip holds this of a member, at first hand or not.
    Seen {
        /// Whom.
        node: NodeId,
        /// The life of it that this heartbeat belongs to; older ones are ignored.
        generation: u64,
        /// Rises while it lives.
        heartbeat: u64,
        /// The silence at which phi-accrual gives it up, where there are samples enough. It is of use for who
        /// [is silent](Detector::is_silent).
        patience: Option<Duration>,
    },
    /// A message came from the member itself.
    Heard {
        /// Whom.
        node: NodeId,
    },
    /// A probe that was asked for has ended.
    Probed {
        /// Whom.
        node: NodeId,
        /// Whether it answered.
        answered: bool,
    },
    /// It left an exchange unanswered, or another member doubts it.
    Suspected {
        /// Whom.
        node: NodeId,
        /// How long it has left an exchange unanswered.
        unanswered: Duration,
    },
    /// The member is no member any more.
    Forgotten {
        /// Whom.
        node: NodeId,
    },
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask the member for an answer, and report [`Event::Probed`].
    Probe(NodeId),
    /// The member is judged anew.
    Judged(NodeId, Liveness),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Heard of, but it may be old news. The time is of the first risen heartbeat, if any.
    Unproven(Option<Duration>),
    Alive,
    /// Since when.
    Doubted(Duration),
    /// As with `Unproven`.
    Dead(Option<Duration>),
}

#[derive(Clone, Copy, Debug, Default)]
struct Probing {
    /// The first probe of this doubt.
    since: Option<Duration>,
    under_way: bool,
    /// No other probe before this.
    not_before: Duration,
}

#[derive(Debug)]
struct Peer {
    generation: u64,
    heartbeat: u64,
    patience: Option<Duration>,
    state: State,
    /// The last verdict given out.
    shown: Option<Liveness>,
    /// When the last sign of life came, or when the present state began.
    last_sign: Duration,
    probing: Probing,
}

/// The judge of all other members.
#[derive(Debug)]
pub struct Detector {
    pace: Pace,
    peers: BTreeMap<NodeId, Peer>,
    effects: VecDeque<Effect>,
    probes: usize,
    present: usize,
    /// When, by the clock, time alone may change something, and why.
    next_look: (Duration, &'static str),
    /// The clock that runs only while this process does.
    clock: Duration,
    last: Instant,
}

impl Detector {
    /// A detector that knows nobody.
    pub fn new(pace: Pace, now: Instant) -> Self {
        Self {
            pace,
            peers: BTreeMap::new(),
            effects: VecDeque::new(),
            probes: 0,
            present: 0,
            next_look: (Duration::ZERO, FIRST_LOOK),
            clock: Duration::ZERO,
            last: now,
        }
    }

    /// The cluster has another size: judge by its rhythm from here on.
    pub fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    /// Takes in what was learned.
    pub fn handle(&mut self, event: Event, now: Instant) {
        self.advance(now);
        match event {
            Event::Seen {
                node,
                generation,
                heartbeat,
                patience,
            } => self.seen(node, generation, heartbeat, patience),
            Event::Heard { node } => self.alive(node),
            Event::Probed { node, answered } => self.probed(node, answered),
            Event::Suspected { node, unanswered } => self.suspected(node, unanswered),
            Event::Forgotten { node } => self.forgotten(node),
            Event::Tick => self.tick(),
        }
    }

    /// The next thing to do, in the order in which it arose.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`Event::Tick`] is due, and why. What was heard since the last one may only put it off.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let (at, why) = self.next_look;
        Some((self.last + at.saturating_sub(self.clock), why))
    }

    /// Whether this member is believed alive; `None` while it is not judged.
    pub fn verdict(&self, node: NodeId) -> Option<Liveness> {
        self.peers.get(&node).and_then(|peer| peer.shown)
    }

    /// Whether this member has been silent for so long that it matters how patient one should be with it.
    pub fn is_silent(&self, node: NodeId) -> bool {
        let peer = self.peers.get(&node);
        peer.is_some_and(|peer| self.clock >= peer.last_sign + self.pace.doubt_min)
    }

    /// Members that were not dead at the last tick, proven alive or not.
    pub fn present(&self) -> usize {
        self.present
    }

    /// Members in doubt whose probe has been without an answer for so long; others may want to know.
    pub fn unanswered_for(&self, span: Duration) -> impl Iterator<Item = NodeId> {
        self.peers.iter().filter_map(move |(node, peer)| {
            let in_doubt = matches!(peer.state, State::Doubted(_));
            let since = peer.probing.since.filter(|_| in_doubt)?;
            (self.clock >= since + span).then_some(*node)
        })
    }

    fn advance(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.last);
        // Whoever calls comes when it is told to, or half a tick later.
        let awaited = self.next_look.0.saturating_sub(self.clock);
        self.clock += passed.min(awaited.max(self.pace.tick) + self.pace.tick / 2);
        self.last = self.last.max(now);
    }

    fn seen(&mut self, node: NodeId, generation: u64, heartbeat: u64, patience: Option<Duration>) {
        let (clock, proof_after) = (self.clock, self.pace.round);
        let on_sight = self.pace.probe_on_sight && self.peers.len() < SMALL;
        let Some(peer) = self.peers.get_mut(&node) else {
            let peer = Peer::unproven(generation, heartbeat, clock);
            self.peers.insert(node, peer);
            if on_sight {
                self.probe(node);
            }
            return;
        };
        if generation > peer.generation {
            // A message from the node itself came before what it says: it is proven already.
            let heard_before_seen = peer.generation == 0;
            (peer.generation, peer.heartbeat) = (generation, heartbeat);
            if !heard_before_seen {
                peer.state = State::Unproven(None);
                peer.last_sign = clock;
                if on_sight {
                    self.probe(node);
                }
            }
            return;
        }
        if generation < peer.generation {
            return;
        }
        peer.patience = patience.or(peer.patience);
        if heartbeat <= peer.heartbeat {
            return;
        }
        peer.heartbeat = heartbeat;
        match &mut peer.state {
            State::Alive => peer.last_sign = clock,
            State::Doubted(since) => {
                // What is still on its way when a member dies comes in soon after it.
                peer.last_sign = clock;
                if clock >= *since + self.pace.dead_after {
                    self.alive(node);
                }
            }
            State::Unproven(first) | State::Dead(first) => match *first {
                Some(first) if clock >= first + proof_after => self.alive(node),
                Some(_) => {}
                None => {
                    *first = Some(clock);
                    if on_sight || matches!(peer.state, State::Dead(_)) {
                        self.probe(node);
                    }
                }
            },
        }
    }

    fn suspected(&mut self, node: NodeId, unanswered: Duration) {
        let (clock, due) = (self.clock, self.pace.answer_due);
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        if peer.state != State::Alive {
            return;
        }
        peer.state = State::Doubted(clock);
        self.probe(node);
        // Who was asked by now has been silent since the exchange began. More than what is usual until it counts as
        // unanswered is time in which this process itself had no turn.
        if let Some(peer) = self.peers.get_mut(&node)
            && peer.probing.since == Some(clock)
        {
            peer.probing.since = Some(clock.saturating_sub(unanswered.min(due)));
        }
    }

    fn alive(&mut self, node: NodeId) {
        let clock = self.clock;
        let peer = self
            .peers
            .entry(node)
            .or_insert_with(|| Peer::unproven(0, 0, clock));
        peer.last_sign = clock;
        peer.state = State::Alive;
        peer.probing.since = None;
        self.judge(node, Liveness::Alive);
    }

    fn probed(&mut self, node: NodeId, answered: bool) {
        self.probes = self.probes.saturating_sub(1);
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        peer.probing.under_way = false;
        peer.probing.not_before = self.clock + PROBE_RETRY;
        if answered {
            self.alive(node);
        }
    }

    fn forgotten(&mut self, node: NodeId) {
        self.peers.remove(&node);
    }

    fn tick(&mut self) {
        let mut silent: Vec<(Duration, NodeId)> = self
            .peers
            .iter()
            .filter(|(_, peer)| {
                let silent = self.clock >= peer.last_sign + self.pace.doubt_min;
                silent || matches!(peer.state, State::Doubted(_))
            })
            .map(|(node, peer)| (peer.last_sign, *node))
            .collect();
        // Probes are few where many are silent: who has been so for longest comes first.
        silent.sort_unstable();
        for (_, node) in silent {
            self.look(node);
        }
        let dead = |peer: &&Peer| matches!(peer.state, State::Dead(_));
        self.present = self.peers.len() - self.peers.values().filter(dead).count();
        self.next_look = self.when_to_look();
    }

    /// When time alone may change something: often while anybody is in doubt, else when the first has been silent for
    /// too long.
    fn when_to_look(&self) -> (Duration, &'static str) {
        let (clock, pace) = (self.clock, &self.pace);
        let mut next = (clock + pace.round.max(pace.tick), "look who is silent");
        for peer in self.peers.values() {
            let due = match peer.state {
                State::Dead(_) => continue,
                State::Alive => {
                    (peer.last_sign + peer.silence_allowed(pace)).max(clock + pace.tick)
                }
                State::Unproven(_) | State::Doubted(_) => {
                    let verdict = peer.probing.since.map(|since| since + pace.probe_for);
                    if let Some(at) = verdict.filter(|at| *at > clock && *at < next.0) {
                        next = (at, "a probe's time is up");
                    }
                    clock + pace.tick
                }
            };
            if due < next.0 {
                next = (due, "look who is silent");
            }
        }
        next
    }

    fn look(&mut self, node: NodeId) {
        let (clock, pace) = (self.clock, self.pace);
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        let silence = clock.saturating_sub(peer.last_sign);
        match peer.state {
            State::Alive => {
                if silence >= peer.silence_allowed(&pace) {
                    peer.state = State::Doubted(clock);
                    self.probe(node);
                }
            }
            State::Unproven(_) | State::Doubted(_) => {
                let unanswered = peer
                    .probing
                    .since
                    .is_some_and(|since| clock >= since + pace.probe_for);
                if unanswered && silence >= pace.dead_after {
                    peer.state = State::Dead(None);
                    peer.probing.since = None;
                    self.judge(node, Liveness::Dead);
                } else {
                    self.probe(node);
                }
            }
            State::Dead(_) => {}
        }
    }

    fn probe(&mut self, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        let probing = &mut peer.probing;
        if probing.under_way {
            // Left from an earlier doubt: what it brings is an answer to this one.
            probing.since.get_or_insert(self.clock);
            return;
        }
        if self.probes >= MAX_PROBES || self.clock < probing.not_before {
            return;
        }
        probing.under_way = true;
        probing.since.get_or_insert(self.clock);
        self.probes += 1;
        self.effects.push_back(Effect::Probe(node));
    }

    fn judge(&mut self, node: NodeId, verdict: Liveness) {
        if let Some(peer) = self.peers.get_mut(&node)
            && peer.shown.replace(verdict) != Some(verdict)
        {
            self.effects.push_back(Effect::Judged(node, verdict));
        }
    }
}

impl Peer {
    const fn unproven(generation: u64, heartbeat: u64, clock: Duration) -> Self {
        Self {
            generation,
            heartbeat,
            patience: None,
            state: State::Unproven(None),
            shown: None,
            last_sign: clock,
            probing: Probing {
                since: None,
                under_way: false,
                not_before: Duration::ZERO,
            },
        }
    }

    /// Silence after which it comes into doubt.
    fn silence_allowed(&self, pace: &Pace) -> Duration {
        let patience = self.patience.unwrap_or(pace.doubt_max);
        patience.clamp(pace.doubt_min, pace.doubt_max)
    }
}

#[cfg(test)]
mod tests;
