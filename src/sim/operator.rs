//! What an operator does to a cluster while it has other troubles: machines join, leave, are promoted, demoted and
//! removed; the root is rotated; leadership is handed on.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, sleep};

use super::client::{Order, through};
use super::dice::Dice;
use super::history::{Answer, Ask, Entry};
use super::machine::{Machine, Out};
use super::node::Node;
use super::world::World;
use crate::agent::session::Farewell;
use crate::manager::AdminError;
use crate::manager::settings::SettingsChange;
use crate::manager::term::Term;
use crate::model::{JoinKind, NodeId, Role};
use crate::wire::control::{ControlReply, ControlRequest};

/// A node that leaves says good-bye within this, or stays.
const LEAVE_DEADLINE: Duration = Duration::from_secs(10);

/// The pause between two tries while leadership settles.
const PAUSE: Duration = Duration::from_millis(100);

/// Between two looks at whether a node has given up its vote.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// In peace a node that is to go has given up its vote, is removed, and knows it within this.
const GOES_WITHIN: Duration = Duration::from_secs(30);

/// Machines that are members at the least and at the most.
const MEMBERS: (usize, usize) = (3, 7);

/// The operator.
#[derive(Clone)]
pub(super) struct Operator {
    pub(super) world: Arc<World>,
    pub(super) dice: Dice,
}

impl Operator {
    /// Does one thing, or nothing when that cannot be done now.
    pub(super) async fn act(&self) {
        let members = self.world.members();
        let up = self.world.network.up();
        let (Some(machine), Some(entry)) = (self.dice.pick(&members), self.door(&up)) else {
            return;
        };
        match self.dice.below(12) {
            0..=2 => self.let_in(&entry).await,
            3..=5 => self.set_role(&entry, machine.id).await,
            6..=7 if members.len() > MEMBERS.0 => self.remove(&entry, &machine).await,
            8 if members.len() > MEMBERS.0 => self.leave(&machine).await,
            9 => self.hand_on().await,
            10 => self.rotate(&entry).await,
            _ => self.clear_away(&entry).await,
        }
    }

    fn door(&self, up: &[Arc<Node>]) -> Option<Arc<Node>> {
        let doors: Vec<_> = up
            .iter()
            .filter(|node| node.store.is_some())
            .cloned()
            .collect();
        self.dice.pick(&doors)
    }

    async fn let_in(&self, entry: &Arc<Node>) {
        if self.world.members().len() >= MEMBERS.1 {
            return;
        }
        if self.dice.chance(0.5) && self.come_back(entry).await {
            return;
        }
        let stranger = |machine: &&Arc<Machine>| machine.out() == Some(Out::Stranger);
        let Some(machine) = self.world.machines.iter().find(stranger).cloned() else {
            return;
        };
        let kind = match self.dice.below(4) {
            0 => JoinKind::Worker,
            1 => JoinKind::Manager,
            _ => JoinKind::Peer,
        };
        self.world.join(&machine, kind, entry.life.node).await;
    }

    /// Machines that were told to go.
    fn expelled(&self) -> Vec<Arc<Machine>> {
        let gone = |machine: &&Arc<Machine>| machine.out() == Some(Out::Expelled);
        self.world.machines.iter().filter(gone).cloned().collect()
    }

    /// A machine that was told to go asks to be let in with the key that it has. False when there is none.
    async fn come_back(&self, entry: &Arc<Node>) -> bool {
        let Some(machine) = self.dice.pick(&self.expelled()) else {
            return false;
        };
        let door = entry.life.node;
        self.world.join(&machine, JoinKind::Peer, door).await;
        true
    }

    /// Takes some member out for good, in peace, and has all who were ever told to go ask to be let in again.
    pub(super) async fn see_one_off(&self) -> Result<(), String> {
        let leader = self.world.leader().map(|(node, _)| node.life.node);
        let mut others = self.world.members();
        others.retain(|machine| Some(machine.id) != leader);
        if others.len() < 2 {
            return Ok(());
        }
        let deadline = Instant::now() + GOES_WITHIN;
        let machine = self.dice.pick(&others).expect("there are two at least");
        while machine.is_member() {
            if Instant::now() >= deadline {
                return Err(format!("{} is not gone in {GOES_WITHIN:?}", machine.id));
            }
            let known = self.world.newest().nodes.get(&machine.id).cloned();
            if let (Some(known), Some(entry)) = (known, self.door(&self.world.network.up())) {
                match known.role {
                    Role::Manager => self.make(&entry, machine.id, Role::Worker).await,
                    Role::Worker => self.remove(&entry, &machine).await,
                }
            }
            sleep(LOOK_AGAIN).await;
        }
        for machine in self.expelled() {
            if let Some(entry) = self.door(&self.world.network.up()) {
                let door = entry.life.node;
                self.world.join(&machine, JoinKind::Peer, door).await;
            }
        }
        Ok(())
    }

    /// Has the leader do `order` and writes it down as `ask`.
    async fn have_done(&self, entry: &Arc<Node>, ask: Ask, order: Order<()>) -> Answer {
        let number = self.world.history.ask(ask);
        let answer = match through(&self.world, entry, order).await {
            Ok(()) => Answer::Written(None),
            Err(failure) => failure.into(),
        };
        self.world
            .history
            .add(Entry::Answered(number, answer.clone()));
        answer
    }

    async fn set_role(&self, entry: &Arc<Node>, node: NodeId) {
        let role = match self.dice.chance(0.5) {
            true => Role::Manager,
            false => Role::Worker,
        };
        self.make(entry, node, role).await;
    }

    async fn make(&self, entry: &Arc<Node>, node: NodeId, role: Role) {
        let order: Order<()> = Arc::new(move |term: Arc<Term>| {
            async move {
                let state = term.read().await?;
                let known = state.nodes.get(&node).ok_or(AdminError::NoSuchNode(node))?;
                let (version, spec) = (known.meta.version, known.spec.clone());
                term.update_node(node, version, spec, role).await
            }
            .boxed()
        });
        let ask = Ask::Operate(format!("make {node} a {role:?}"));
        self.have_done(entry, ask, order).await;
    }

    async fn remove(&self, entry: &Arc<Node>, machine: &Arc<Machine>) {
        let node = machine.id;
        let order: Order<()> = Arc::new(move |term: Arc<Term>| {
            async move { term.remove_node(node, true).await }.boxed()
        });
        self.have_done(entry, Ask::Remove(node), order).await;
    }

    /// Removes the records of machines that left, without force.
    async fn clear_away(&self, entry: &Arc<Node>) {
        let left = |machine: &&Arc<Machine>| machine.out() == Some(Out::Left);
        let state = self.world.newest();
        let gone = self.world.machines.iter().filter(left);
        let gone: Vec<NodeId> = gone
            .map(|machine| machine.id)
            .filter(|node| state.nodes.contains_key(node))
            .collect();
        let Some(node) = self.dice.pick(&gone) else {
            return;
        };
        let order: Order<()> = Arc::new(move |term: Arc<Term>| {
            async move { term.remove_node(node, false).await }.boxed()
        });
        self.have_done(entry, Ask::Remove(node), order).await;
    }

    async fn hand_on(&self) {
        let Some((leader, _)) = self.world.leader() else {
            return;
        };
        let (Some(store), Some(successor)) = (&leader.store, leader.successor()) else {
            return;
        };
        self.world.history.add(Entry::Fault(format!(
            "{} hands over to {successor}",
            leader.life.node
        )));
        // Who cannot hand over leads on, or is replaced.
        let _ = leader
            .stop
            .run_until_cancelled(store.transfer(successor))
            .await;
    }

    async fn rotate(&self, entry: &Arc<Node>) {
        let root = self.dice.chance(0.5);
        let order: Order<()> = Arc::new(move |term: Arc<Term>| {
            async move {
                let state = term.read().await?;
                let cluster = state.cluster.clone().ok_or(AdminError::NoLeader)?;
                let mut spec = cluster.spec.clone();
                spec.force_rotate += u64::from(root);
                let wanted = SettingsChange {
                    spec,
                    rotate_worker: !root,
                    rotate_peer: !root,
                    ..SettingsChange::default()
                };
                term.update_cluster(cluster.meta.version, wanted).await
            }
            .boxed()
        });
        let what = if root { "the root" } else { "the tokens" };
        let ask = Ask::Operate(format!("rotate {what}"));
        self.have_done(entry, ask, order).await;
    }

    /// Leaves as [`crate::node::depart`] does: duties first, then the machine forgets the cluster.
    async fn leave(&self, machine: &Arc<Machine>) {
        let Some(node) = machine.running() else {
            return;
        };
        let ask = Ask::Operate(format!("{} leaves", machine.id));
        let number = self.world.history.ask(ask);
        let given = node
            .stop
            .run_until_cancelled(give_up_duties(&self.world, &node))
            .await;
        let answer = match given {
            Some(true) => Answer::Written(None),
            Some(false) => Answer::Refused("it stays".into()),
            None => Answer::Unknown("the node ended".into()),
        };
        if matches!(answer, Answer::Written(_)) {
            machine.set_out(Out::Left);
            self.world.halt(machine, &node, Farewell::Leaving).await;
        }
        self.world.history.add(Entry::Answered(number, answer));
    }
}

async fn give_up_duties(world: &World, node: &Arc<Node>) -> bool {
    let deadline = Instant::now() + LEAVE_DEADLINE;
    while Instant::now() < deadline {
        let leads = node.term.borrow().is_some();
        if leads {
            if !pass_leadership(node).await {
                return false;
            }
        } else {
            let me = node.life.node;
            let asked = node.ask_leader(world, ControlRequest::Leave { node: me });
            if matches!(asked.await, ControlReply::Done) {
                return true;
            }
        }
        sleep(PAUSE).await;
    }
    false
}

/// False when nobody else could lead.
async fn pass_leadership(node: &Arc<Node>) -> bool {
    let Some(store) = &node.store else {
        return true;
    };
    let successor = match node.successor() {
        Some(voter) => voter,
        None => {
            let peers = node.peers.borrow().clone();
            let learners = store.replicas().borrow().learners.clone();
            let Some(learner) = learners.into_iter().find(|one| peers.is_alive(*one)) else {
                return false;
            };
            let voters = [node.life.node, learner].into();
            // What fails now may work in a moment.
            let _ = store.set_voters(voters, true).await;
            learner
        }
    };
    let _ = store.transfer(successor).await;
    true
}
