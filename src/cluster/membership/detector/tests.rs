//! Verdicts under a clock that the tests turn.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::interval::pace;
use super::*;

fn id(bits: u128) -> NodeId {
    NodeId::from_bits(bits)
}

const V: u128 = 1;

/// A detector, its clock, and the probes that it asked for.
struct Bed {
    detector: Detector,
    now: Instant,
    pending: Vec<NodeId>,
    verdicts: Vec<(NodeId, Liveness)>,
    /// Heartbeat of each member, as gossip would bring it.
    heartbeat: u64,
}

impl Bed {
    fn new(members: usize) -> Self {
        let now = Instant::now();
        Self {
            detector: Detector::new(pace(members), now),
            now,
            pending: Vec::new(),
            verdicts: Vec::new(),
            heartbeat: 1,
        }
    }

    fn event(&mut self, event: Event) {
        self.detector.handle(event, self.now);
        while let Some(effect) = self.detector.poll_effect() {
            match effect {
                Effect::Probe(node) => self.pending.push(node),
                Effect::Judged(node, verdict) => self.verdicts.push((node, verdict)),
            }
        }
    }

    fn seen(&mut self, node: u128, generation: u64, heartbeat: u64) {
        self.event(Event::Seen {
            node: id(node),
            generation,
            heartbeat,
            patience: None,
        });
    }

    /// Lets time pass as it does at work: in steps of what the detector asks for, with `each` at every step.
    fn pass(&mut self, ms: u64, mut each: impl FnMut(&mut Self)) {
        let end = self.now + Duration::from_millis(ms);
        while self.now < end {
            let (due, _) = self.detector.poll_timeout().unwrap();
            self.now = due.min(end);
            each(self);
            self.event(Event::Tick);
        }
    }

    fn quiet(&mut self, ms: u64) {
        self.pass(ms, |_| ());
    }

    /// Gossip goes on telling of `V`.
    fn gossip(&mut self, ms: u64) {
        self.pass(ms, |bed| {
            bed.heartbeat += 1;
            let heartbeat = bed.heartbeat;
            bed.seen(V, 1, heartbeat);
        });
    }

    fn answer(&mut self, answered: bool) {
        for node in std::mem::take(&mut self.pending) {
            self.event(Event::Probed { node, answered });
        }
    }

    fn verdict(&self) -> Option<Liveness> {
        self.detector.verdict(id(V))
    }

    /// `V` is known and alive, and no probe is under way.
    fn settled(members: usize) -> Self {
        let mut bed = Self::new(members);
        bed.event(Event::Heard { node: id(V) });
        bed.gossip(2_000);
        bed.answer(true);
        bed.verdicts.clear();
        assert_eq!(bed.verdict(), Some(Liveness::Alive));
        assert_eq!(bed.pending, []);
        bed
    }
}

#[test]
fn a_message_from_the_node_itself_proves_it_at_once() {
    let mut bed = Bed::new(3);
    bed.event(Event::Heard { node: id(V) });
    bed.seen(V, 7, 1);
    assert_eq!(bed.verdicts, [(id(V), Liveness::Alive)]);
    assert_eq!(bed.pending, [], "no need to ask");
}

#[test]
fn what_is_only_told_is_not_believed_before_an_answer() {
    let mut bed = Bed::new(3);
    bed.seen(V, 1, 5);
    assert_eq!((bed.verdict(), bed.pending.len()), (None, 1));
    bed.quiet(40);
    bed.answer(true);
    assert_eq!(bed.verdicts, [(id(V), Liveness::Alive)]);
}

#[test]
fn last_words_of_a_dead_member_do_not_make_it_alive() {
    let mut bed = Bed::new(3);
    bed.seen(V, 1, 5);
    bed.quiet(100);
    bed.seen(V, 1, 6);
    bed.quiet(3_000);
    assert_eq!(bed.verdicts, [(id(V), Liveness::Dead)]);
}

#[test]
fn who_goes_on_is_believed_even_where_no_probe_gets_through() {
    let mut bed = Bed::new(200);
    bed.gossip(5_000);
    assert_eq!(bed.verdict(), Some(Liveness::Alive));
    bed.answer(false);
    bed.gossip(20_000);
    assert_eq!(bed.verdicts, [(id(V), Liveness::Alive)]);
}

/// An exchange with it was begun a usual while ago.
fn unanswered(node: u128) -> Event {
    Event::Suspected {
        node: id(node),
        unanswered: pace(3).answer_due,
    }
}

#[test]
fn who_is_silent_and_does_not_answer_is_dead() {
    let mut bed = Bed::settled(3);
    bed.quiet(1_600);
    assert_eq!(
        (bed.verdict(), bed.pending.len()),
        (Some(Liveness::Alive), 1)
    );
    bed.quiet(1_300);
    assert_eq!(bed.verdicts, [(id(V), Liveness::Dead)]);
}

/// The promise: 2.5 s from the kill. Somebody begins an exchange with it within a second, and waits 250 ms before it
/// says so.
#[test]
fn who_leaves_an_exchange_unanswered_is_dead_in_time() {
    let mut bed = Bed::settled(30);
    bed.quiet(600);
    bed.event(unanswered(V));
    bed.quiet(950);
    assert_eq!(bed.verdict(), Some(Liveness::Alive));
    bed.quiet(60);
    assert_eq!(bed.verdict(), Some(Liveness::Dead));
}

/// What the dead member last said is still told on for a while.
#[test]
fn old_news_on_its_way_does_not_put_off_the_verdict() {
    let mut bed = Bed::settled(30);
    bed.event(unanswered(V));
    bed.gossip(500);
    bed.quiet(1_300);
    assert_eq!(bed.verdict(), Some(Liveness::Dead));
}

/// Stopped for a second at any time, and then answering what waits for it.
#[test]
fn a_member_that_was_stopped_for_a_second_is_not_dead() {
    for lead in (0..1_000).step_by(10) {
        let mut bed = Bed::settled(3);
        bed.gossip(lead);
        bed.answer(true);
        bed.event(unanswered(V));
        // A quarter of the second had passed, and it does not have its turn at once.
        bed.quiet(950);
        bed.answer(true);
        bed.gossip(500);
        bed.quiet(600);
        assert_eq!(bed.verdicts, [], "after {lead} ms");
    }
}

#[test]
fn a_doubt_that_is_answered_leaves_no_trace() {
    let mut bed = Bed::settled(3);
    bed.event(unanswered(V));
    bed.quiet(160);
    let doubted: Vec<_> = bed
        .detector
        .unanswered_for(Duration::from_millis(150))
        .collect();
    assert_eq!(doubted, [id(V)]);
    bed.answer(true);
    assert_eq!(bed.detector.unanswered_for(Duration::ZERO).count(), 0);
    bed.gossip(3_000);
    assert_eq!(bed.verdicts, []);
}

/// This process was stopped, for long: no clock of it says anything about others.
#[test]
fn who_was_stopped_itself_judges_nobody_for_it() {
    for stopped in [1_000, 10_000, 3_600_000] {
        let mut bed = Bed::settled(3);
        bed.event(unanswered(V));
        bed.quiet(300);
        bed.now += Duration::from_millis(stopped);
        bed.event(Event::Tick);
        bed.event(Event::Tick);
        assert_eq!(bed.verdicts, [], "after {stopped} ms");
        bed.answer(true);
        bed.gossip(2_000);
        assert_eq!(bed.verdicts, [], "after {stopped} ms");
    }
}

/// A starved process, whose looks come late, takes longer for a verdict but does not judge wrongly, nor never.
#[test]
fn starved_looks_count_only_in_part() {
    let mut bed = Bed::settled(3);
    let begin = bed.now;
    while bed.verdict() == Some(Liveness::Alive) {
        bed.now += Duration::from_millis(400);
        bed.event(Event::Tick);
        assert!(bed.now - begin < Duration::from_secs(20));
    }
    assert!(
        bed.now - begin > Duration::from_secs(4),
        "{:?}",
        bed.now - begin
    );
}

#[test]
fn a_dead_member_that_speaks_or_answers_is_alive_again() {
    for answers in [false, true] {
        let mut bed = Bed::settled(3);
        bed.quiet(3_000);
        assert_eq!(bed.verdict(), Some(Liveness::Dead));
        if answers {
            let heartbeat = bed.heartbeat + 1;
            bed.pending.clear();
            bed.event(Event::Probed {
                node: id(V),
                answered: false,
            });
            bed.quiet(300);
            bed.seen(V, 1, heartbeat);
            assert_eq!(
                bed.verdict(),
                Some(Liveness::Dead),
                "one rise may be old news"
            );
            assert_eq!(bed.pending, [id(V)]);
            bed.answer(true);
        } else {
            bed.event(Event::Heard { node: id(V) });
        }
        assert_eq!(bed.verdict(), Some(Liveness::Alive));
    }
}

#[test]
fn a_new_life_is_asked_for_and_the_old_one_is_ignored() {
    let mut bed = Bed::settled(3);
    bed.seen(V, 2, 1);
    assert_eq!(bed.pending, [id(V)]);
    assert_eq!(
        bed.verdicts,
        [],
        "it was alive and is not yet known to be otherwise"
    );
    bed.answer(true);
    bed.pass(3_000, |bed| {
        bed.heartbeat += 1;
        let heartbeat = bed.heartbeat;
        bed.seen(V, 1, heartbeat);
    });
    assert_eq!(
        bed.verdicts,
        [(id(V), Liveness::Dead)],
        "an old life's heartbeat keeps none alive"
    );
}

#[test]
fn a_forgotten_member_is_not_judged() {
    let mut bed = Bed::settled(3);
    bed.event(unanswered(V));
    bed.event(Event::Forgotten { node: id(V) });
    bed.answer(true);
    bed.quiet(5_000);
    assert_eq!((bed.verdict(), bed.verdicts.len()), (None, 0));
}

#[test]
fn probes_under_way_are_bounded_and_all_have_their_turn() {
    let mut bed = Bed::new(3);
    for node in 0..200 {
        bed.seen(1000 + node, 1, 1);
    }
    assert_eq!(
        bed.pending.len(),
        SMALL,
        "no more than these at first sight"
    );
    bed.quiet(1_000);
    assert_eq!(bed.pending.len(), MAX_PROBES);
    for _ in 0..10 {
        bed.answer(true);
        bed.quiet(300);
    }
    let judged: BTreeSet<NodeId> = bed.verdicts.iter().map(|(node, _)| *node).collect();
    assert_eq!(judged.len(), 200);
    assert!(
        bed.verdicts
            .iter()
            .all(|(_, verdict)| *verdict == Liveness::Alive)
    );
}

proptest! {
    /// Whatever happens: no verdict is given twice, nobody is dead who was not asked, and the probes stay bounded.
    #[test]
    fn any_order_of_events(events in proptest::collection::vec((0u8..7, 0u128..3, 0u64..4, 0u64..700), 1..300)) {
        let mut bed = Bed::new(3);
        let mut last = BTreeMap::new();
        let mut asked = BTreeMap::new();
        for (kind, node, number, ms) in events {
            bed.now += Duration::from_millis(ms);
            match kind {
                0 | 1 => bed.seen(node, 1 + number / 2, number * ms),
                2 => bed.event(Event::Heard { node: id(node) }),
                3 => bed.answer(number % 2 == 0),
                4 => bed.event(unanswered(node)),
                5 => {
                    bed.event(Event::Forgotten { node: id(node) });
                    last.remove(&id(node));
                }
                _ => bed.quiet(ms),
            }
            prop_assert!(bed.pending.len() <= MAX_PROBES);
            for node in &bed.pending {
                asked.insert(*node, true);
            }
            for (node, verdict) in std::mem::take(&mut bed.verdicts) {
                prop_assert_ne!(last.insert(node, verdict), Some(verdict));
                if verdict == Liveness::Dead {
                    prop_assert!(asked.contains_key(&node));
                }
            }
        }
    }
}

#[test]
fn looks_are_rare_while_all_are_heard_and_frequent_while_one_is_in_doubt() {
    let mut bed = Bed::new(3);
    bed.event(Event::Heard { node: id(V) });
    bed.event(Event::Tick);
    let pace = pace(3);
    let until_look = |bed: &Bed| bed.detector.poll_timeout().unwrap().0 - bed.now;
    assert_eq!(until_look(&bed), pace.round);
    assert!(!bed.detector.is_silent(id(V)));
    bed.event(Event::Suspected {
        node: id(V),
        unanswered: Duration::ZERO,
    });
    bed.event(Event::Tick);
    assert_eq!(until_look(&bed), pace.tick);
    assert_eq!(bed.detector.present(), 1);
    bed.quiet(3_000);
    assert_eq!(bed.verdicts.last(), Some(&(id(V), Liveness::Dead)));
    assert!(bed.detector.is_silent(id(V)));
    assert_eq!(bed.detector.present(), 0);
}

#[test]
fn a_member_that_falls_silent_is_looked_at_no_later_than_it_comes_into_doubt() {
    let mut bed = Bed::new(3);
    bed.event(Event::Heard { node: id(V) });
    bed.event(Event::Tick);
    let heard = bed.now;
    while bed.pending.is_empty() {
        bed.now = bed.detector.poll_timeout().unwrap().0;
        bed.event(Event::Tick);
        assert!(
            bed.now - heard <= pace(3).doubt_max,
            "it is looked at too late"
        );
    }
    assert_eq!(bed.now - heard, pace(3).doubt_max);
}
