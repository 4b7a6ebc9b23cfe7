//! The gossip loop of one node: it owns chitchat's handle and the timers, and feeds the deciding parts.
//!
//! Started by [`Membership`](super::Membership) and stopped by its token. What it reads is in [`scan`](super::scan);
//! here it acts: it probes, shows what has changed, and gossips with whoever is due.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chitchat::ChitchatHandle;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::book::Book;
use super::desk::Desk;
use super::detector::{Detector, Effect, Event};
use super::doubts::Doubts;
use super::interval::{Lag, Pace, pace};
use super::peers::Liveness;
use super::rounds::{Candidates, Rounds, relays};
use super::twin::TwinWatch;
use super::{MembershipConfig, PROBE_DEADLINE, Probe, Trouble, facts};
use crate::model::NodeId;

/// How long chitchat may take to end.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(1);

/// An exchange that was ordered begins within this.
const SLACK: Duration = Duration::from_millis(3);

/// When more members than this have news at once, as when many join, the rounds spread it well enough.
const MAX_ORIGINS: usize = 4;

pub(super) struct Gossip<P> {
    pub(super) me: NodeId,
    pub(super) generation: u64,
    pub(super) handle: ChitchatHandle,
    pub(super) desk: Desk,
    probe: P,
    probes: JoinSet<(NodeId, bool)>,
    pub(super) trouble: watch::Sender<Option<Trouble>>,
    pub(super) detector: Detector,
    pub(super) doubts: Doubts,
    rounds: Rounds,
    pub(super) twin: TwinWatch,
    pub(super) pace: Pace,
    pub(super) lag: Lag,
    pub(super) book: Book,
    pub(super) live: BTreeSet<NodeId>,
    /// The others have not been told whom `live` holds.
    pub(super) live_changed: bool,
    pub(super) dead: BTreeSet<NodeId>,
    pub(super) seeds: BTreeSet<NodeId>,
    pub(super) forgotten: BTreeSet<NodeId>,
    rng: StdRng,
    pub(super) last_scan: Instant,
    next_scan: Instant,
    next_round: Instant,
    pub(super) last_push: Instant,
    /// This node has news, to be told not before this.
    pub(super) push_due: Option<Instant>,
    /// News of these is to be passed on, not before the time.
    pub(super) to_relay: BTreeSet<NodeId>,
    pub(super) relay_due: Option<Instant>,
}

impl<P: Probe> Gossip<P> {
    pub(super) fn new(
        config: MembershipConfig,
        handle: ChitchatHandle,
        desk: Desk,
        probe: P,
        book: Book,
        trouble: watch::Sender<Option<Trouble>>,
        now: Instant,
    ) -> Self {
        let pace = pace(1);
        let me = config.node;
        Self {
            me,
            generation: config.generation,
            handle,
            desk,
            probe,
            probes: JoinSet::new(),
            trouble,
            detector: Detector::new(pace, now),
            doubts: Doubts::default(),
            rounds: Rounds::default(),
            twin: TwinWatch::new(config.generation, now),
            pace,
            lag: Lag::default(),
            book,
            live: BTreeSet::new(),
            live_changed: false,
            dead: BTreeSet::new(),
            seeds: config
                .seeds
                .into_iter()
                .filter(|seed| *seed != me)
                .collect(),
            forgotten: BTreeSet::new(),
            rng: StdRng::from_os_rng(),
            last_scan: now,
            next_scan: now,
            next_round: now,
            last_push: now,
            push_due: None,
            to_relay: BTreeSet::new(),
            relay_due: None,
        }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        self.listen().await;
        let news = Arc::clone(&self.desk.news);
        let mut ended = std::pin::pin!(self.handle.termination_watcher());
        loop {
            let wake = self.next_wake();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                end = &mut ended => return self.ended(end),
                Some(Ok((node, answered))) = self.probes.join_next() => {
                    self.detector.handle(Event::Probed { node, answered }, Instant::now());
                }
                () = news.notified() => {}
                () = tokio::time::sleep_until(wake) => {}
            }
            let now = Instant::now();
            self.lag.observe(now.saturating_duration_since(wake));
            self.turn(now).await;
        }
        self.probes.abort_all();
        if tokio::time::timeout(SHUTDOWN_DEADLINE, self.handle.shutdown())
            .await
            .is_err()
        {
            tracing::warn!("gossip did not end in time");
        }
    }

    /// Hears of others' changed keys as chitchat applies them.
    async fn listen(&self) {
        let (me, desk) = (self.me, self.desk.clone());
        let tell = move |change: chitchat::KeyChangeEvent<'_>| {
            let origin = NodeId::from_gossip_addr(change.node.gossip_advertise_addr);
            if let Some(origin) = origin.filter(|origin| *origin != me) {
                let urgent = facts::is_urgent(change.key, change.value);
                desk.leave(|slips| urgent && slips.pass_on.insert(origin));
            }
        };
        self.handle
            .with_chitchat(|chitchat| chitchat.subscribe_event("", tell.clone()).forever())
            .await;
    }

    fn ended(&self, end: anyhow::Result<()>) {
        let reason = match end {
            Ok(()) => "it was stopped".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        tracing::error!(reason, "gossip has ended");
        self.trouble.send_replace(Some(Trouble::Ended(reason)));
    }

    fn next_wake(&self) -> Instant {
        let pushes = self.push_due.into_iter().chain(self.relay_due);
        pushes.fold(self.next_scan.min(self.next_round), Instant::min)
    }

    /// How long a member may take to answer in an exchange before it is in doubt.
    pub(super) fn answer_due(&self) -> Duration {
        self.pace.answer_due + self.lag.allowance()
    }

    /// When something may have become due without news.
    fn next_look(&self, now: Instant) -> Instant {
        let tick = self.detector.poll_timeout().map(|(at, _why)| at);
        let due = self.answer_due();
        let slips = self.desk.slips();
        let asked = slips.asked.values().min().map(|at| *at + due);
        // Where all is late an exchange begins after the look that was meant for it.
        let to_begin = (!slips.ordered.is_empty()).then(|| now + due);
        let next = tick.into_iter().chain(asked).chain(to_begin);
        next.fold(now + self.pace.round, Instant::min)
            .max(now + self.pace.coalesce)
    }

    /// Takes in what has come, judges, publishes, and gossips where it is due.
    async fn turn(&mut self, now: Instant) {
        let met = self.read_desk(now);
        self.next_scan = self.next_scan.min(self.last_scan + self.pace.coalesce);
        if now >= self.next_scan {
            self.scan(now).await;
            self.detector.handle(Event::Tick, now);
            self.share_doubts(now).await;
            self.last_scan = now;
            self.next_scan = self.next_look(now);
        }
        self.carry_out_effects();
        self.book.show(|node| self.detector.verdict(node), now);
        self.gossip(met, now);
    }

    fn carry_out_effects(&mut self) {
        while let Some(effect) = self.detector.poll_effect() {
            match effect {
                Effect::Probe(node) => self.start_probe(node),
                Effect::Judged(node, verdict) => {
                    tracing::info!(member = %node, ?verdict, "member judged");
                    self.seeds.remove(&node);
                    let (here, there) = match verdict {
                        Liveness::Alive => (&mut self.live, &mut self.dead),
                        Liveness::Dead => {
                            self.doubts.drop_teller(node);
                            (&mut self.dead, &mut self.live)
                        }
                    };
                    here.insert(node);
                    there.remove(&node);
                    self.live_changed = true;
                    self.book.judged(node);
                }
            }
        }
        if std::mem::take(&mut self.live_changed) {
            self.desk.slips().live.clone_from(&self.live);
        }
        self.pace = pace(self.detector.present().max(self.live.len()) + 1);
        self.detector.set_pace(self.pace);
    }

    fn start_probe(&mut self, node: NodeId) {
        let probe = self.probe.clone();
        self.probes.spawn(async move {
            let answered = tokio::time::timeout(PROBE_DEADLINE, probe.probe(node)).await;
            (node, answered.unwrap_or(false))
        });
    }

    fn gossip(&mut self, met: BTreeSet<NodeId>, now: Instant) {
        let mut partners = met;
        if now >= self.next_round {
            let candidates = self.candidates(now);
            partners.extend(self.rounds.choose(&candidates, &self.pace, &mut self.rng));
            let jitter = self.rng.random_range(0.9..1.1);
            self.next_round = now + self.pace.round.mul_f64(jitter) + self.lag.allowance();
        }
        let is_due = |due: Option<Instant>| due.is_some_and(|due| now >= due);
        if is_due(self.push_due) {
            partners.extend(relays(self.me, self.me, &self.live));
            self.push_due = None;
            self.last_push = now;
        }
        if is_due(self.relay_due) {
            let origins = std::mem::take(&mut self.to_relay);
            if origins.len() <= MAX_ORIGINS {
                for origin in origins {
                    partners.extend(relays(self.me, origin, &self.live));
                }
            }
            self.relay_due = None;
            self.last_push = now;
        }
        if partners.is_empty() {
            return;
        }
        self.desk.slips().ordered.extend(partners.iter().copied());
        // The exchanges begin in a moment; whoever does not answer is noticed in time.
        let due = now + self.answer_due() + SLACK;
        self.next_scan = self.next_scan.min(due);
        for partner in partners {
            // It fails only when chitchat has ended, which the loop is told of by another way.
            let _ = self.handle.gossip(partner.gossip_addr());
        }
    }

    fn candidates(&self, now: Instant) -> Candidates {
        let slips = self.desk.slips();
        let ago = |node: &NodeId| {
            slips
                .heard
                .get(node)
                .map_or(Duration::MAX, |at| now.duration_since(*at))
        };
        Candidates {
            live: self.live.iter().map(|node| (*node, ago(node))).collect(),
            dead: self
                .dead
                .iter()
                .copied()
                .filter(|node| !self.book.has_left(*node))
                .collect(),
            seeds: self.seeds.clone(),
        }
    }
}
