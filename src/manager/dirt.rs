//! What the leader's loop has to look at: kept up to date by what differs between two views, never by counting events.
//!
//! Comparing costs what has changed and not what there is, because views share what they have in common. Nothing is
//! missed, since nothing is a message: whatever happened between two looks is in the difference. Pure; the loop
//! ([`work`](super::work)) reads the clock, proposes, and gives back what came to nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::OrdSet;
use imbl::ordmap::DiffItem;

use super::allocator;
use super::draft::{Nodes, View, Wait};
use super::enforcer::GIVE_UP;
use super::pass::{Agenda, is_kept};
use super::scheduler::Board;
use super::term::Statuses;
use crate::model::{Node, NodeId, NodeState, ServiceId, Task, TaskId, Timestamp};

/// Tasks whose services one pass looks at, about; more make passes long, and what is urgent waits for their end.
const TASKS_A_PASS: usize = 4096;

/// Services in one pass at most, for those that have hardly any tasks.
const SERVICES_A_PASS: usize = 1024;

/// Nodes in one pass at most.
const NODES_A_PASS: usize = 256;

/// How nodes look to a pass: one that has not told of its tasks yet is not known, though it may be in session. Nothing
/// is given to it, and nothing is decided on what it may have ended.
pub fn as_heard(statuses: &Statuses, heard: &OrdSet<NodeId>) -> Nodes {
    let silent = |(node, status): &(&NodeId, &crate::model::NodeStatus)| {
        status.state == NodeState::Ready && !heard.contains(*node)
    };
    if !statuses.iter().any(|entry| silent(&entry)) {
        return statuses.clone();
    }
    let mut nodes = BTreeMap::clone(statuses);
    for (node, status) in &mut nodes {
        if status.state == NodeState::Ready && !heard.contains(node) {
            status.state = NodeState::Unknown;
        }
    }
    Arc::new(nodes)
}

/// What the loop has seen, and what it has not dealt with yet.
#[derive(Debug)]
pub struct Dirt {
    view: View,
    board: Board,
    agenda: Agenda,
    /// When to look at services again although nothing has happened.
    alarms: BTreeMap<ServiceId, Timestamp>,
    /// Since when nodes are down, and whether they were given up.
    down: BTreeMap<NodeId, Timestamp>,
    given_up: BTreeSet<NodeId>,
    /// Where the last pass left off, so that none that is always dirty keeps others waiting.
    next: ServiceId,
}

impl Dirt {
    /// All of it.
    pub fn new(view: View) -> Self {
        let work = &view.state.work;
        let hosts = work.tasks.values().filter_map(|task| task.node);
        let mut agenda = Agenda {
            services: work.services.keys().copied().collect(),
            // Hosts that are no members any more are among them.
            nodes: hosts.chain(view.state.nodes.keys().copied()).collect(),
            said: BTreeSet::new(),
            ingress: allocator::lacks_ingress(&view.state),
        };
        agenda.said.extend(view.observed.keys().copied());
        let mut dirt = Self {
            board: Board::new(&view),
            alarms: BTreeMap::new(),
            down: BTreeMap::new(),
            given_up: BTreeSet::new(),
            next: ServiceId::default(),
            agenda,
            view,
        };
        dirt.note_down();
        dirt
    }

    /// What was last looked at.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Whether there is anything to do.
    pub fn is_clean(&self) -> bool {
        self.agenda == Agenda::default()
    }

    /// Takes note of all that differs in `next`. Returns the tasks of which something was said or written.
    pub fn follow(&mut self, next: View) -> BTreeSet<TaskId> {
        let old = std::mem::replace(&mut self.view, next);
        let mut touched = BTreeSet::new();
        self.follow_cluster(&old);
        self.follow_networks(&old);
        self.follow_services(&old);
        self.follow_nodes(&old);
        self.follow_tasks(&old, &mut touched);
        self.follow_words(&old, &mut touched);
        if self.view.now < old.now {
            // The clock was set back: alarms that were set by it would ring too late by as much.
            self.agenda.services.extend(self.alarms.keys());
        }
        let loosened = self.board.addresses.to_look_at();
        self.agenda.services.extend(loosened);
        self.ring();
        touched
    }

    fn follow_networks(&mut self, old: &View) {
        let new = &self.view.state.objects.networks;
        for item in old.state.objects.networks.diff(new) {
            let (DiffItem::Add(id, _)
            | DiffItem::Remove(id, _)
            | DiffItem::Update { new: (id, _), .. }) = item;
            self.board.addresses.see_network(&self.view, *id);
        }
    }

    fn follow_cluster(&mut self, old: &View) {
        let history = |view: &View| {
            let cluster = view.state.cluster.as_ref();
            cluster.map(|cluster| cluster.spec.task_history_limit)
        };
        if history(old) != history(&self.view) {
            let all = self.view.state.work.services.keys();
            self.agenda.services.extend(all.copied());
        }
    }

    fn follow_services(&mut self, old: &View) {
        let new = &self.view.state.work.services;
        for item in old.state.work.services.diff(new) {
            match item {
                DiffItem::Add(id, _) | DiffItem::Update { new: (id, _), .. } => {
                    self.agenda.services.insert(*id);
                    self.board.addresses.see_service(&self.view, *id);
                }
                DiffItem::Remove(id, _) => {
                    self.board.addresses.see_service(&self.view, *id);
                    self.agenda.services.remove(id);
                    self.alarms.remove(id);
                    self.board.forget_service(*id);
                }
            }
        }
    }

    fn follow_nodes(&mut self, old: &View) {
        let mut moved = BTreeSet::new();
        for item in old.state.nodes.diff(&self.view.state.nodes) {
            match item {
                DiffItem::Add(id, _) | DiffItem::Remove(id, _) => {
                    moved.insert(*id);
                }
                DiffItem::Update { old, new } => {
                    if is_another(old.1, new.1) {
                        moved.insert(*new.0);
                    }
                }
            }
        }
        if !Arc::ptr_eq(&old.nodes, &self.view.nodes) {
            let known = |id| old.nodes.get(id);
            let now = &self.view.nodes;
            moved.extend(
                now.iter()
                    .filter(|(id, seen)| known(id) != Some(*seen))
                    .map(|(id, _)| *id),
            );
            moved.extend(old.nodes.keys().filter(|id| !now.contains_key(id)));
        }
        if moved.is_empty() {
            return;
        }
        for node in &moved {
            self.board.see_node(&self.view, *node);
            let tasks = self.view.state.work.tasks_on(*node);
            self.agenda.services.extend(tasks.map(|task| task.service));
        }
        let services = self.view.state.work.services.values();
        let global = services.filter(|service| service.spec.mode.read().is_global());
        self.agenda
            .services
            .extend(global.map(|service| service.id));
        self.agenda.nodes.extend(moved);
        self.note_down();
    }

    /// Keeps since when nodes are down.
    fn note_down(&mut self) {
        let (now, seen) = (self.view.now, &self.view.nodes);
        let is_down = |node: &NodeId| {
            let status = seen.get(node);
            status.is_some_and(|status| status.state == NodeState::Down)
        };
        self.down.retain(|node, _| is_down(node));
        self.given_up.retain(is_down);
        for node in seen.keys().filter(|node| is_down(node)) {
            self.down.entry(*node).or_insert(now);
        }
    }

    fn follow_tasks(&mut self, old: &View, touched: &mut BTreeSet<TaskId>) {
        for item in old.state.work.tasks.diff(&self.view.state.work.tasks) {
            let (id, task): (&TaskId, &Arc<Task>) = match item {
                DiffItem::Add(id, task)
                | DiffItem::Update {
                    new: (id, task), ..
                } => (id, task),
                DiffItem::Remove(id, task) => {
                    self.agenda.said.remove(id);
                    (id, task)
                }
            };
            touched.insert(*id);
            self.board.see_task(&self.view, *id);
            if self.view.state.work.services.contains_key(&task.service) {
                self.agenda.services.insert(task.service);
            }
        }
    }

    fn follow_words(&mut self, old: &View, touched: &mut BTreeSet<TaskId>) {
        for item in old.observed.diff(&self.view.observed) {
            let (id, before, seen) = match item {
                DiffItem::Add(id, seen) => (id, None, seen),
                DiffItem::Update { old, new } => (new.0, Some(old.1.state), new.1),
                DiffItem::Remove(id, _) => {
                    self.board.see_task(&self.view, *id);
                    continue;
                }
            };
            touched.insert(*id);
            let Some(task) = self.view.state.work.tasks.get(id) else {
                continue;
            };
            self.board.see_task(&self.view, *id);
            if is_kept(seen.state) && before != Some(seen.state) && seen.state > task.status.state {
                self.agenda.said.insert(*id);
                self.agenda.services.insert(task.service);
            }
        }
    }

    /// What is due by now is to be looked at.
    fn ring(&mut self) {
        let now = self.view.now;
        let services = &mut self.agenda.services;
        self.alarms.retain(|service, at| {
            let rings = *at <= now;
            if rings {
                services.insert(*service);
            }
            !rings
        });
        for (node, since) in &self.down {
            if since.after(GIVE_UP) <= now && self.given_up.insert(*node) {
                self.agenda.nodes.insert(*node);
            }
        }
    }

    /// When there is something to do next although nothing happens.
    pub fn alarm(&self) -> Option<Timestamp> {
        let waiting = self.down.iter();
        let waiting = waiting.filter(|(node, _)| !self.given_up.contains(node));
        let gone = waiting.map(|(_, since)| since.after(GIVE_UP));
        self.alarms.values().copied().chain(gone).min()
    }

    /// Takes as much as one pass is to look at.
    pub fn take(&mut self) -> Agenda {
        let mut taken = Agenda {
            said: std::mem::take(&mut self.agenda.said),
            ingress: std::mem::take(&mut self.agenda.ingress),
            ..Agenda::default()
        };
        while taken.nodes.len() < NODES_A_PASS
            && let Some(node) = self.agenda.nodes.pop_first()
        {
            taken.nodes.insert(node);
        }
        let mut tasks = 0;
        while tasks < TASKS_A_PASS && taken.services.len() < SERVICES_A_PASS {
            let after = self.agenda.services.range(self.next..).next();
            let Some(id) = after.or_else(|| self.agenda.services.first()).copied() else {
                break;
            };
            self.agenda.services.remove(&id);
            self.next = ServiceId::from_bits(id.bits().wrapping_add(1));
            tasks += self.view.state.work.count_of(id);
            taken.services.insert(id);
        }
        taken
    }

    /// Gives back what a pass came to nothing with.
    pub fn give_back(&mut self, agenda: Agenda) {
        self.agenda.services.extend(agenda.services);
        self.agenda.nodes.extend(agenda.nodes);
        self.agenda.said.extend(agenda.said);
        self.agenda.ingress |= agenda.ingress;
    }

    /// Remembers when to look again at services that were looked at.
    pub fn wait(&mut self, looked_at: &BTreeSet<ServiceId>, waits: &BTreeSet<Wait>) {
        for service in looked_at {
            self.alarms.remove(service);
        }
        for wait in waits {
            let Some(until) = wait.until else {
                continue;
            };
            let alarm = self.alarms.entry(wait.service).or_insert(until);
            *alarm = until.min(*alarm);
        }
    }

    /// What a pass needs beside the agenda.
    pub fn aids(&mut self) -> (&View, &mut Board, &BTreeMap<NodeId, Timestamp>) {
        (&self.view, &mut self.board, &self.down)
    }
}

/// Whether a node is another to those who place tasks and judge them.
fn is_another(old: &Node, new: &Node) -> bool {
    old.spec != new.spec || old.description != new.description || old.role != new.role
}

#[cfg(test)]
mod tests;
