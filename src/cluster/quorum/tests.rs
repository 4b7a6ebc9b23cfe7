//! Who votes: cases one by one, then any sequence of deaths and returns.

use proptest::prelude::*;

use super::*;

const LONG: Duration = Duration::from_secs(3600);

fn id(number: u8) -> NodeId {
    NodeId::from_bits(number.into())
}

fn ids(numbers: &[u8]) -> BTreeSet<NodeId> {
    numbers.iter().map(|number| id(*number)).collect()
}

fn alive() -> Candidate {
    Candidate {
        alive: true,
        unseen_for: Duration::ZERO,
        pinned: None,
        zone: String::new(),
        available_for: LONG,
    }
}

fn dead(unseen_for: Duration) -> Candidate {
    Candidate {
        alive: false,
        unseen_for,
        available_for: Duration::ZERO,
        ..alive()
    }
}

fn pinned(role: Role) -> Candidate {
    Candidate {
        pinned: Some(role),
        ..alive()
    }
}

fn zone(zone: &str) -> Candidate {
    Candidate {
        zone: zone.into(),
        ..alive()
    }
}

/// A view of node 1, with every learner caught up.
fn view(
    voters: &[u8],
    learners: &[u8],
    candidates: impl IntoIterator<Item = (u8, Candidate)>,
) -> QuorumView {
    QuorumView {
        me: id(1),
        voters: ids(voters),
        learners: ids(learners),
        caught_up: ids(learners),
        candidates: candidates
            .into_iter()
            .map(|(number, candidate)| (id(number), candidate))
            .collect(),
    }
}

fn all_alive(numbers: impl IntoIterator<Item = u8>) -> Vec<(u8, Candidate)> {
    numbers
        .into_iter()
        .map(|number| (number, alive()))
        .collect()
}

/// The voters and learners at which it settles, when each step succeeds and replicas fill at once.
fn settled(mut view: QuorumView) -> (BTreeSet<NodeId>, BTreeSet<NodeId>) {
    for _ in 0..50 {
        match next_step(&view) {
            QuorumStep::AddLearner(node) => {
                view.learners.insert(node);
                view.caught_up.insert(node);
            }
            QuorumStep::RemoveLearner(node) => {
                view.learners.remove(&node);
            }
            QuorumStep::SetVoters(voters) => change_voters(&mut view, voters),
            QuorumStep::Settled | QuorumStep::Wait(_) => return (view.voters, view.learners),
        }
    }
    panic!("it never settles: {view:?}");
}

fn change_voters(view: &mut QuorumView, voters: BTreeSet<NodeId>) {
    view.learners.extend(view.voters.difference(&voters));
    view.learners.retain(|node| !voters.contains(node));
    view.voters = voters;
}

#[test]
fn the_size_follows_the_number_of_nodes() {
    let sizes: Vec<_> = (1..=9)
        .map(|nodes| {
            let (voters, learners) = settled(view(&[1], &[], all_alive(1..=nodes)));
            (voters.len(), learners.len())
        })
        .collect();
    let expected = [
        (1, 0),
        (1, 1),
        (3, 0),
        (3, 1),
        (5, 0),
        (5, 1),
        (5, 2),
        (5, 2),
        (5, 2),
    ];
    assert_eq!(sizes, expected);
}

#[test]
fn a_dead_voter_is_replaced_by_a_standby_that_is_caught_up() {
    let gone = |after| [(1, alive()), (2, alive()), (3, dead(after)), (4, alive())];
    let just_now = view(&[1, 2, 3], &[4], gone(Duration::from_secs(2)));
    let unseen = QuorumStep::Wait(QuorumWait::Unseen(id(3)));
    assert_eq!(next_step(&just_now), unseen);
    let replaced = QuorumStep::SetVoters(ids(&[1, 2, 4]));
    let lost = view(&[1, 2, 3], &[4], gone(REPLACE_AFTER));
    assert_eq!(next_step(&lost), replaced);
    let mut behind = lost.clone();
    behind.caught_up.clear();
    let catching_up = QuorumStep::Wait(QuorumWait::CatchingUp(id(4)));
    assert_eq!(next_step(&behind), catching_up);
    let mut without = behind.clone();
    without.learners.clear();
    assert_eq!(next_step(&without), QuorumStep::AddLearner(id(4)));
    // It is not waited for without end: a quorum of two that both live is none to keep.
    let too_long = view(&[1, 2, 3], &[4], gone(REPLACE_AFTER + CATCH_UP));
    let too_long = QuorumView {
        caught_up: ids(&[]),
        ..too_long
    };
    assert_eq!(next_step(&too_long), QuorumStep::SetVoters(ids(&[1])));
}

#[test]
fn voters_are_shed_when_nobody_can_replace_them() {
    let candidates = [(1, alive()), (2, alive()), (3, dead(REPLACE_AFTER))];
    let lost = view(&[1, 2, 3], &[], candidates);
    assert_eq!(next_step(&lost), QuorumStep::SetVoters(ids(&[1])));
    assert_eq!(settled(lost), (ids(&[1]), ids(&[2, 3])));
}

#[test]
fn nothing_is_decided_without_a_quorum() {
    let gone = dead(LONG);
    let candidates = [(1, alive()), (2, gone.clone()), (3, gone), (4, alive())];
    let stuck = view(&[1, 2, 3], &[4], candidates);
    assert_eq!(next_step(&stuck), QuorumStep::Wait(QuorumWait::NoQuorum));
    let out = view(&[2, 3], &[1], all_alive(1..=3));
    assert_eq!(next_step(&out), QuorumStep::Wait(QuorumWait::SteppingDown));
}

#[test]
fn pins_are_respected() {
    let nodes = |pins: &[(u8, Role)]| {
        let mut candidates: BTreeMap<u8, Candidate> = all_alive(1..=5).into_iter().collect();
        candidates.extend(pins.iter().map(|(number, role)| (*number, pinned(*role))));
        candidates
    };
    let worker = Role::Worker;
    let (voters, _) = settled(view(&[1], &[], nodes(&[(2, worker), (3, worker)])));
    assert_eq!(voters, ids(&[1, 4, 5]));
    let demoted = view(&[1, 2, 3, 4, 5], &[], nodes(&[(5, worker)]));
    assert_eq!(settled(demoted).0.len(), 3);
    let leader = view(&[1, 2, 3, 4, 5], &[], nodes(&[(1, worker)]));
    match next_step(&leader) {
        QuorumStep::SetVoters(voters) => assert!(!voters.contains(&id(1)) && voters.len() == 3),
        step => panic!("{step:?}"),
    }
    let manager = Role::Manager;
    let two = [(1, pinned(manager)), (2, pinned(manager))];
    assert_eq!(settled(view(&[1], &[], two)).0, ids(&[1, 2]));
    let few = (1..=4).map(|number| (number, pinned(manager)));
    assert_eq!(settled(view(&[1], &[], few)).0, ids(&[1, 2, 3, 4]));
    let seven = (1..=8).map(|number| {
        let pin = (number > 2).then_some(manager);
        (
            number,
            Candidate {
                pinned: pin,
                ..alive()
            },
        )
    });
    let (voters, _) = settled(view(&[1], &[], seven));
    assert_eq!(voters.len(), 7);
    assert!(voters.is_superset(&ids(&[1, 3, 4, 5, 6, 7, 8])));
}

#[test]
fn voters_are_spread_over_zones() {
    let zones = [
        (1, zone("a")),
        (2, zone("a")),
        (3, zone("a")),
        (4, zone("b")),
        (5, zone("c")),
        (6, zone("a")),
        (7, zone("a")),
    ];
    let (voters, _) = settled(view(&[1], &[], zones.clone()));
    assert!(voters.is_superset(&ids(&[1, 4, 5])), "{voters:?}");
    let crowded = view(&[1, 2, 3, 6, 7], &[4, 5], zones.clone());
    let (voters, _) = settled(crowded);
    assert!(voters.is_superset(&ids(&[1, 4, 5])), "{voters:?}");
    // A zone that has come a moment ago may go again.
    let young = zones.map(|(number, mut candidate)| {
        if number == 4 || number == 5 {
            candidate.available_for = IMPROVE_AFTER - Duration::from_secs(1);
        }
        (number, candidate)
    });
    let crowded = view(&[1, 2, 3, 6, 7], &[4, 5], young);
    assert_eq!(next_step(&crowded), QuorumStep::Settled);
}

#[test]
fn who_votes_goes_on_voting_when_others_come_back() {
    let nodes = view(
        &[1, 2, 6],
        &[4, 3],
        all_alive(1..=6).into_iter().filter(|n| n.0 != 5),
    );
    let (voters, learners) = settled(nodes);
    assert!(voters.is_superset(&ids(&[1, 2, 6])), "{voters:?}");
    assert_eq!((voters.len(), learners.len()), (5, 0));
    let four = view(&[2, 1, 3], &[4], all_alive(1..=4));
    assert_eq!(next_step(&four), QuorumStep::Settled);
}

#[test]
fn a_node_that_has_come_a_moment_ago_waits() {
    let young = Candidate {
        available_for: Duration::from_millis(500),
        ..alive()
    };
    let nodes = view(&[1], &[], [(1, alive()), (2, young)]);
    assert_eq!(
        next_step(&nodes),
        QuorumStep::Wait(QuorumWait::Settling(id(2)))
    );
}

#[test]
fn a_dead_learner_keeps_its_replica_for_a_while() {
    let nodes = |unseen| view(&[1], &[2], [(1, alive()), (2, dead(unseen))]);
    assert_eq!(next_step(&nodes(REPLACE_AFTER)), QuorumStep::Settled);
    let forgotten = QuorumStep::RemoveLearner(id(2));
    assert_eq!(next_step(&nodes(FORGET_AFTER)), forgotten);
    let removed = view(&[1], &[2], [(1, alive())]);
    assert_eq!(next_step(&removed), forgotten);
    let worker = view(&[1], &[2], [(1, alive()), (2, pinned(Role::Worker))]);
    assert_eq!(next_step(&worker), forgotten);
}

#[test]
fn a_dead_learner_gives_way_to_another() {
    let mut candidates = all_alive(1..=8);
    candidates[6].1 = dead(REPLACE_AFTER);
    let nodes = |learners| view(&[1, 2, 3, 4, 5], learners, candidates.clone());
    let added = QuorumStep::AddLearner(id(8));
    assert_eq!(next_step(&nodes(&[6, 7])), added);
    let removed = QuorumStep::RemoveLearner(id(7));
    assert_eq!(next_step(&nodes(&[6, 7, 8])), removed);
}

#[test]
fn the_last_manager_stays_and_so_does_the_quorum() {
    let alone = view(
        &[1],
        &[],
        [(1, alive()), (2, pinned(Role::Worker)), (3, dead(LONG))],
    );
    assert_eq!(may_demote(&alone, id(1)), Err(QuorumRefusal::LastManager));
    assert_eq!(may_remove(&alone, id(1)), Err(QuorumRefusal::LastManager));
    assert_eq!(may_remove(&alone, id(2)), Ok(()));
    let three = |third| view(&[1, 2, 3], &[], [(1, alive()), (2, alive()), (3, third)]);
    assert_eq!(may_demote(&three(alive()), id(2)), Ok(()));
    assert_eq!(may_remove(&three(alive()), id(2)), Ok(()));
    assert_eq!(may_remove(&three(dead(LONG)), id(3)), Ok(()));
    let lost = Err(QuorumRefusal::LosesQuorum);
    assert_eq!(may_remove(&three(dead(LONG)), id(2)), lost);
    assert_eq!(may_demote(&three(dead(LONG)), id(2)), Ok(()));
    let stuck = view(
        &[1, 2, 3],
        &[],
        [(1, alive()), (2, dead(LONG)), (3, dead(LONG)), (4, alive())],
    );
    assert_eq!(may_demote(&stuck, id(2)), lost);
}

/// A cluster whose nodes die and come back, one event after another, with time in between.
#[derive(Debug)]
struct World {
    view: QuorumView,
    /// When each node last died or came, in seconds.
    since: BTreeMap<NodeId, u64>,
    now: u64,
    steps: usize,
}

impl World {
    fn new(nodes: Vec<(Option<Role>, u8)>) -> Self {
        let candidates: Vec<_> = nodes
            .into_iter()
            .zip(1u8..)
            .map(|((pin, zone), number)| {
                // The first node began the cluster, and somebody must.
                let pin = if number == 1 { None } else { pin };
                let candidate = Candidate {
                    pinned: pin,
                    zone: format!("{}", zone % 3),
                    available_for: Duration::ZERO,
                    ..alive()
                };
                (number, candidate)
            })
            .collect();
        Self {
            since: candidates
                .iter()
                .map(|(number, _)| (id(*number), 0))
                .collect(),
            view: view(&[1], &[], candidates),
            now: 0,
            steps: 0,
        }
    }

    fn living(&self) -> impl Iterator<Item = NodeId> {
        let alive = self.view.candidates.iter().filter(|(_, seen)| seen.alive);
        alive.map(|(node, _)| *node)
    }

    fn is_writable(&self) -> bool {
        let voters = &self.view.voters;
        let alive = voters
            .iter()
            .filter(|voter| self.view.candidates[voter].alive);
        alive.count() > voters.len() / 2
    }

    fn flip(&mut self, node: NodeId) {
        let seen = self.view.candidates.get_mut(&node).unwrap();
        seen.alive = !seen.alive;
        self.since.insert(node, self.now);
        self.elect();
    }

    fn elect(&mut self) {
        let leads = |node: &&NodeId| self.view.candidates[node].alive;
        if !self.view.candidates[&self.view.me].alive || !self.view.voters.contains(&self.view.me) {
            let next = self.view.voters.iter().find(leads);
            self.view.me = *next.expect("a writable cluster has a voter alive");
        }
    }

    /// Lets a second pass.
    fn tick(&mut self) {
        self.now += 1;
        for (node, seen) in &mut self.view.candidates {
            let span = Duration::from_secs(self.now - self.since[node]);
            let none = Duration::ZERO;
            (seen.available_for, seen.unseen_for) = if seen.alive {
                (span, none)
            } else {
                (none, span)
            };
        }
        // A replica is filled within a second.
        self.view.caught_up = self
            .living()
            .filter(|node| self.view.learners.contains(node))
            .collect();
    }

    /// Takes steps until nothing more is to be done, and checks each.
    fn settle(&mut self, seconds: u64) -> Result<(), TestCaseError> {
        let end = self.now + seconds;
        let mut quiet = 0;
        while self.now < end {
            prop_assert!(self.is_writable(), "{self:?}");
            let step = next_step(&self.view);
            match step {
                QuorumStep::AddLearner(node) => {
                    prop_assert!(self.view.candidates[&node].alive);
                    prop_assert!(self.view.candidates[&node].pinned != Some(Role::Worker));
                    prop_assert!(self.view.learners.insert(node));
                    prop_assert!(!self.view.voters.contains(&node));
                }
                QuorumStep::RemoveLearner(node) => prop_assert!(self.view.learners.remove(&node)),
                QuorumStep::SetVoters(voters) => {
                    for voter in voters.difference(&self.view.voters) {
                        prop_assert!(self.view.caught_up.contains(voter), "{voter} {self:?}");
                        prop_assert!(self.view.learners.contains(voter));
                    }
                    for voter in &voters {
                        prop_assert!(self.view.candidates[voter].pinned != Some(Role::Worker));
                    }
                    change_voters(&mut self.view, voters);
                    self.elect();
                }
                QuorumStep::Settled => {
                    quiet += 1;
                    self.tick();
                    if quiet > 1 && self.now + 40 < end {
                        // Nothing is in motion: the wait for zones and the forgotten is what is left.
                        self.now += 1;
                    }
                    continue;
                }
                QuorumStep::Wait(_) => {
                    self.tick();
                    continue;
                }
            }
            self.steps += 1;
        }
        Ok(())
    }

    /// What every settled cluster is like.
    fn check_settled(&self) -> Result<(), TestCaseError> {
        let may_vote = |node: &NodeId| self.view.candidates[node].pinned != Some(Role::Worker);
        let living: BTreeSet<NodeId> = self.living().filter(may_vote).collect();
        let managers: BTreeSet<NodeId> = living
            .iter()
            .copied()
            .filter(|node| self.view.candidates[node].pinned == Some(Role::Manager))
            .collect();
        let voters = &self.view.voters;
        prop_assert_eq!(next_step(&self.view), QuorumStep::Settled);
        prop_assert!(voters.is_subset(&living), "{:?}", self);
        prop_assert!(voters.is_superset(&managers), "{:?}", self);
        let base = match living.len() {
            1 | 2 => 1,
            3 | 4 => 3,
            _ => 5,
        };
        prop_assert!(voters.len() >= base);
        prop_assert!(voters.len() <= base.max(managers.len() + 2));
        if managers.len() <= 1 && voters.contains(&self.view.me) {
            prop_assert!(voters.len() <= base.max(2));
        }
        let zones = |nodes: &BTreeSet<NodeId>| -> BTreeSet<String> {
            let zone = |node| self.view.candidates[node].zone.clone();
            nodes.iter().map(zone).collect()
        };
        if managers.is_empty() {
            let most = zones(&living).len().min(voters.len());
            prop_assert_eq!(zones(voters).len(), most, "{:?}", self);
        }
        let standbys = self.view.learners.intersection(&living).count();
        prop_assert_eq!(standbys, STANDBYS.min(living.len() - voters.len()));
        Ok(())
    }
}

fn any_nodes() -> impl Strategy<Value = Vec<(Option<Role>, u8)>> {
    let pin = prop_oneof![
        6 => Just(None),
        1 => Just(Some(Role::Manager)),
        1 => Just(Some(Role::Worker)),
    ];
    prop::collection::vec((pin, any::<u8>()), 1..9)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Nodes die and come back one at a time, never so that a quorum is lost: it always settles, with
    /// the right voters, and each step on the way keeps the quorum.
    #[test]
    fn it_settles_whatever_comes_and_goes(
        nodes in any_nodes(),
        events in prop::collection::vec((any::<prop::sample::Index>(), 0u64..90), 0..12),
    ) {
        let all: Vec<NodeId> = (1..=nodes.len() as u8).map(id).collect();
        let mut world = World::new(nodes);
        world.settle(100)?;
        world.check_settled()?;
        for (which, pause) in events {
            let node = *which.get(&all);
            world.flip_if_survivable(node);
            world.settle(pause)?;
        }
        world.settle(200)?;
        world.check_settled()?;
        let steps = world.steps;
        world.settle(100)?;
        prop_assert_eq!(world.steps, steps, "it is never at rest");
    }

    /// Of up to seven nodes without pins any may die, ten seconds apart, in any order, until two are
    /// left: there is a quorum after each death.
    #[test]
    fn two_are_left_and_still_write(
        nodes in 3u8..8,
        order in Just((1u8..8).collect::<Vec<_>>()).prop_shuffle(),
        zones in prop::collection::vec(any::<u8>(), 7),
    ) {
        let zones = zones.into_iter().take(nodes.into());
        let mut world = World::new(zones.map(|zone| (None, zone)).collect());
        world.settle(60)?;
        let order: Vec<u8> = order.into_iter().filter(|number| *number <= nodes).collect();
        for dead in &order[..usize::from(nodes) - 2] {
            world.flip(id(*dead));
            prop_assert!(world.is_writable(), "{:?}", world);
            world.settle(10)?;
        }
        prop_assert_eq!(world.view.voters.len(), 1);
    }

    /// One node that comes and goes does not move anybody else.
    #[test]
    fn a_restless_node_moves_nobody_else(nodes in 4u8..9, restless in 2u8..9, pauses in prop::collection::vec(1u64..40, 1..10)) {
        prop_assume!(restless <= nodes);
        let mut world = World::new(vec![(None, 0); nodes.into()]);
        world.settle(60)?;
        let others = |world: &World| -> BTreeSet<NodeId> {
            let moved = |node: &NodeId| *node != id(restless);
            world.view.voters.iter().copied().filter(moved).collect()
        };
        let before = others(&world);
        for pause in pauses {
            world.flip(id(restless));
            world.settle(pause)?;
            let now = others(&world);
            prop_assert!(now.is_superset(&before) || now.is_subset(&before), "{:?} {:?}", before, now);
        }
    }
}

impl World {
    /// Flips a node unless that would take the quorum.
    fn flip_if_survivable(&mut self, node: NodeId) {
        let seen = &self.view.candidates[&node];
        if seen.alive {
            let voters = &self.view.voters;
            let left = voters
                .iter()
                .filter(|voter| **voter != node && self.view.candidates[voter].alive);
            if left.count() <= voters.len() / 2 {
                return;
            }
        }
        self.flip(node);
    }
}
