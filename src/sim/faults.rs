//! Faults: what happens to machines, disks, clocks and the network, and how it passes.
//!
//! Every fault passes by itself; several may hold at once. [`Faults::heal`] ends all.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::clock;
use super::dice::Dice;
use super::history::Entry;
use super::machine::Machine;
use super::network::Weather;
use super::node::Node;
use super::world::World;
use crate::agent::session::Farewell;
use crate::model::NodeId;

/// A clock is wrong by at most so many milliseconds: less than half of what is tolerated between two machines.
const CLOCK_OFF_MS: u64 = 25 * 60_000;

/// How often what is left of a crash is asked for: so many of one unsynced writes survive.
const SURVIVALS: [f64; 3] = [0.0, 0.5, 1.0];

/// The schedule of faults.
#[derive(Clone)]
pub(super) struct Faults {
    pub(super) world: Arc<World>,
    pub(super) dice: Dice,
    /// Between two faults, in milliseconds.
    pub(super) pause: (u64, u64),
}

impl Faults {
    fn tell(&self, what: String) {
        self.world.history.add(Entry::Fault(what));
    }

    /// One fault after another until `end`.
    pub(super) async fn rage(&self, end: Instant) {
        while Instant::now() < end {
            sleep(self.dice.millis(self.pause.0, self.pause.1)).await;
            self.strike().await;
        }
    }

    async fn strike(&self) {
        let up = self.world.network.up();
        let Some(node) = self.dice.pick(&up) else {
            return;
        };
        let Some(machine) = self.world.machine(node.life.node).cloned() else {
            return;
        };
        match self.dice.below(24) {
            0..=3 => self.crash(&machine).await,
            4..=6 => self.kill_leader().await,
            7..=9 => self.part(),
            10 => self.one_way(),
            11..=12 => self.isolate_leader(),
            13..=14 => self.storm(),
            15..=16 => self.pause(&machine),
            17..=18 => self.slow_disk(&machine),
            19..=20 => self.tear(&machine),
            21 => self.blackout().await,
            22 => self.restart(&machine, &node),
            _ => self.set_clock(&machine),
        }
    }

    async fn lose_power(&self, machine: &Machine) {
        let share = self.dice.pick(&SURVIVALS).unwrap_or(0.0);
        let dice = self.dice.clone();
        self.world.crash(machine, move || dice.chance(share)).await;
    }

    fn boot_later(&self, machine: &Arc<Machine>, most_ms: u64) {
        let (world, machine) = (self.world.clone(), machine.clone());
        let wait = self.dice.millis(20, most_ms);
        self.world.run(async move {
            sleep(wait).await;
            world.boot(&machine).await;
        });
    }

    pub(super) async fn crash(&self, machine: &Arc<Machine>) {
        self.tell(format!("{} crashes", machine.id));
        self.lose_power(machine).await;
        self.boot_later(machine, 8000);
    }

    async fn kill_leader(&self) {
        let leader = self.world.leader();
        let machine = leader.and_then(|(node, _)| self.world.machine(node.life.node).cloned());
        if let Some(machine) = machine {
            self.tell(format!("the leader {} is killed", machine.id));
            self.lose_power(&machine).await;
            self.boot_later(&machine, 6000);
        }
    }

    fn mend_later(&self, most_ms: u64) {
        let world = self.world.clone();
        let wait = self.dice.millis(300, most_ms);
        self.world.run(async move {
            sleep(wait).await;
            world.history.add(Entry::Fault("the network mends".into()));
            world.network.mend();
        });
    }

    fn members(&self) -> Vec<NodeId> {
        let members = self.world.members();
        members.iter().map(|machine| machine.id).collect()
    }

    /// Some of these and the others, neither empty when there are two at least.
    fn split<'a>(&self, nodes: &'a mut [NodeId]) -> (&'a [NodeId], &'a [NodeId]) {
        self.dice.shuffle(nodes);
        let most = nodes.len().saturating_sub(1).max(1);
        nodes.split_at(nodes.len().min(1 + self.dice.below(most)))
    }

    fn part(&self) {
        let mut nodes = self.members();
        let (ones, others) = self.split(&mut nodes);
        self.tell(format!("parted: {ones:?} from {others:?}"));
        self.world.network.cut(ones, others);
        self.world.network.cut(others, ones);
        self.mend_later(12_000);
    }

    fn one_way(&self) {
        let mut nodes = self.members();
        let (ones, others) = self.split(&mut nodes);
        self.tell(format!("cut one way: {ones:?} to {others:?}"));
        self.world.network.cut(ones, others);
        self.mend_later(6000);
    }

    fn isolate_leader(&self) {
        let Some((leader, _)) = self.world.leader() else {
            return;
        };
        let one = [leader.life.node];
        let others: Vec<NodeId> = self
            .members()
            .into_iter()
            .filter(|node| !one.contains(node))
            .collect();
        self.tell(format!("the leader {} is cut off", one[0]));
        self.world.network.cut(&one, &others);
        self.world.network.cut(&others, &one);
        self.mend_later(9000);
    }

    fn storm(&self) {
        let weather = Weather {
            least: Duration::from_micros(200),
            most: self.dice.millis(2, 60),
            lates: 0.1,
            late: self.dice.millis(80, 1500),
            losses: self.dice.pick(&[0.0, 0.05, 0.3]).unwrap_or(0.0),
            doubles: 0.2,
        };
        self.tell(format!("bad weather: {weather:?}"));
        self.world.network.set_weather(weather);
        let world = self.world.clone();
        let wait = self.dice.millis(500, 8000);
        self.world.run(async move {
            sleep(wait).await;
            world.network.set_weather(Weather::FAIR);
        });
    }

    fn pause(&self, machine: &Arc<Machine>) {
        self.tell(format!("{} stands still", machine.id));
        self.world.network.pause(machine.id);
        let (world, node) = (self.world.clone(), machine.id);
        let wait = self.dice.millis(100, 5000);
        self.world.run(async move {
            sleep(wait).await;
            world.network.resume(node);
        });
    }

    fn slow_disk(&self, machine: &Arc<Machine>) {
        let most = 1000 * (20 + self.dice.below(900)) as u64;
        self.tell(format!("{} has a slow disk: up to {most} us", machine.id));
        self.world.set_disk_latency(machine, most / 4, most);
        let (world, machine) = (self.world.clone(), machine.clone());
        let wait = self.dice.millis(500, 6000);
        self.world.run(async move {
            sleep(wait).await;
            world.set_disk_latency(&machine, 100, 3000);
        });
    }

    /// The disk fails in the middle of some write, and then the power does.
    fn tear(&self, machine: &Arc<Machine>) {
        let writes = self.dice.below(40) as u64;
        self.tell(format!("{}'s disk fails after {writes} writes", machine.id));
        machine.set_failing(Some(writes));
        let (faults, machine) = (self.clone(), machine.clone());
        let wait = self.dice.millis(100, 2500);
        self.world.run(async move {
            sleep(wait).await;
            if machine.is_failing() {
                faults.lose_power(&machine).await;
                machine.set_failing(None);
                faults.boot_later(&machine, 3000);
            }
        });
    }

    async fn blackout(&self) {
        self.tell("every machine loses power".into());
        for machine in self.world.members() {
            self.lose_power(&machine).await;
            self.boot_later(&machine, 5000);
        }
    }

    fn restart(&self, machine: &Arc<Machine>, node: &Arc<Node>) {
        self.tell(format!("{} restarts", machine.id));
        let (faults, machine, node) = (self.clone(), machine.clone(), node.clone());
        self.world.run(async move {
            let world = &faults.world;
            world.halt(&machine, &node, Farewell::Restarting).await;
            faults.boot_later(&machine, 2000);
        });
    }

    fn set_clock(&self, machine: &Machine) {
        let off = self.dice.millis(0, 2 * CLOCK_OFF_MS).as_millis();
        let off = i64::try_from(off).unwrap_or(0) - CLOCK_OFF_MS.cast_signed();
        self.tell(format!("{}'s clock is off by {off} ms", machine.id));
        clock::set_off(machine.slot, off);
    }

    /// Ends every fault, and starts every member that does not run.
    pub(super) async fn heal(&self) {
        let world = &self.world;
        world.network.mend();
        world.network.resume_all();
        world.network.set_weather(Weather::FAIR);
        world.make_mistakes(false);
        for machine in world.members() {
            world.set_disk_latency(&machine, 100, 3000);
            if machine.is_failing() {
                self.lose_power(&machine).await;
                machine.set_failing(None);
            }
            world.boot(&machine).await;
        }
        world.history.add(Entry::Healed);
    }
}
