//! Random clusters, against a chooser that looks at every node for every task.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::*;
use super::world::*;
use crate::model::Template;

/// What the service asks for.
#[derive(Clone, Copy, Debug)]
enum Ask {
    Nothing,
    Processors,
    Label,
    Few,
    Port,
    Disks,
}

fn template(ask: Ask) -> Template {
    match ask {
        Ask::Nothing => Template::default(),
        Ask::Processors => reserving(2, 0),
        Ask::Label => constrained("node.labels.ssd==a"),
        Ask::Few => placement(|placement| placement.max_replicas = 2),
        Ask::Port => publishing(80, "tcp", "host"),
        Ask::Disks => {
            placement(|placement| placement.preferences = spread_over(&["node.labels.ssd"]))
        }
    }
}

fn asks() -> impl Strategy<Value = Ask> {
    prop_oneof![
        Just(Ask::Nothing),
        Just(Ask::Processors),
        Just(Ask::Label),
        Just(Ask::Few),
        Just(Ask::Port),
        Just(Ask::Disks),
    ]
}

#[derive(Default)]
struct Naive {
    active: BTreeMap<(u64, u64), u32>,
    load: BTreeMap<u64, u32>,
    cpus: BTreeMap<u64, i64>,
    ports: BTreeMap<u64, u32>,
}

impl Naive {
    /// What no chooser may do better: fewest of the service, then fewest in all, of those that fit.
    fn best(&self, nodes: u64, service: u64, ask: Ask) -> Option<(u32, u32)> {
        let fits = (1..=nodes).filter(|node| self.fits(*node, service, ask));
        fits.map(|node| self.rank(node, service)).min()
    }

    fn rank(&self, node: u64, service: u64) -> (u32, u32) {
        let active = self.active.get(&(service, node)).copied().unwrap_or(0);
        (active, self.load.get(&node).copied().unwrap_or(0))
    }

    fn fits(&self, node: u64, service: u64, ask: Ask) -> bool {
        match ask {
            Ask::Nothing | Ask::Disks => true,
            Ask::Processors => self.cpus.get(&node).copied().unwrap_or(0) + 2 <= 4,
            Ask::Label => node.is_multiple_of(3),
            Ask::Few => self.rank(node, service).0 < 2,
            Ask::Port => !self.ports.contains_key(&node),
        }
    }

    fn count(&mut self, node: u64, service: u64, ask: Ask) {
        *self.active.entry((service, node)).or_default() += 1;
        *self.load.entry(node).or_default() += 1;
        match ask {
            Ask::Processors => *self.cpus.entry(node).or_default() += 2,
            Ask::Port => *self.ports.entry(node).or_default() += 1,
            Ask::Nothing | Ask::Label | Ask::Few | Ask::Disks => {}
        }
    }

    /// Tasks of a service on nodes with `ssd=a`, and on the others.
    fn branches(&self, nodes: u64, service: u64) -> (u32, u32) {
        let sum = |rest: fn(u64) -> bool| {
            let of = (1..=nodes).filter(|node| rest(*node));
            of.map(|node| self.rank(node, service).0).sum()
        };
        (sum(|node| node % 3 == 0), sum(|node| node % 3 != 0))
    }
}

fn cluster(nodes: u64) -> World {
    let mut world = World::new(nodes);
    for number in (3..=nodes).step_by(3) {
        world.edit_node(number, |node| {
            node.spec.labels.insert("ssd".into(), "a".into());
        });
    }
    world
}

/// Makes the tasks and places them, in one pass or in one for each round.
fn run(nodes: u64, services: &[(Ask, u8)], rounds: u8, seed: u64) -> World {
    let mut world = cluster(nodes);
    for _ in 0..rounds {
        for (number, (ask, count)) in services.iter().enumerate() {
            for _ in 0..*count {
                world.task(number as u64 + 1, template(*ask));
            }
        }
        world.pass(seed);
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_choice_is_the_best_that_there_was(
        nodes in 1u64..30,
        services in proptest::collection::vec((asks(), 1u8..12), 1..5),
        seed: u64,
    ) {
        let world = run(nodes, &services, 2, seed);
        let mut naive = Naive::default();
        for round in 0..2 {
            for (number, (ask, count)) in services.iter().enumerate() {
                let number = number as u64 + 1;
                let tasks = world.tasks_of(number);
                let now = tasks.iter().skip(round * usize::from(*count)).take((*count).into());
                for id in now {
                    let best = naive.best(nodes, number, *ask);
                    let Some(node) = world.placed(*id) else {
                        prop_assert_eq!(best, None, "{:?} could be placed", id);
                        prop_assert!(world.err(*id).starts_with("no suitable node ("));
                        continue;
                    };
                    prop_assert!(naive.fits(node, number, *ask));
                    if !matches!(ask, Ask::Disks) {
                        prop_assert_eq!(Some(naive.rank(node, number)), best);
                    }
                    naive.count(node, number, *ask);
                }
                let (a, rest) = naive.branches(nodes, number);
                if matches!(ask, Ask::Disks) && nodes >= 3 {
                    prop_assert!(a.abs_diff(rest) <= 1, "{} and {}", a, rest);
                }
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_placements_and_a_new_board_knows_the_same(
        nodes in 1u64..20,
        services in proptest::collection::vec((asks(), 1u8..12), 1..5),
        seed: u64,
    ) {
        let [mut one, mut two] = [(); 2].map(|()| run(nodes, &services, 1, seed));
        prop_assert_eq!(&one.view.state, &two.view.state);
        two.board = Board::new(&two.view);
        for world in [&mut one, &mut two] {
            for number in 1..=services.len() as u64 {
                world.task(number, Template::default());
            }
            world.pass(seed ^ 1);
        }
        prop_assert_eq!(&one.view.state, &two.view.state);
    }
}
