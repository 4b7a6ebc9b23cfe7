//! What happened in one run, in order: the only thing that the invariants look at.
//!
//! Machines, clients and the schedule write it; nobody reads it before the run is over.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::clock;
use super::customer::Kind;
use crate::cluster::store::{Changed, State, StateEvent};
use crate::model::{Node, NodeId, NodeState, ServiceId, ServiceSpec, Task, TaskId, TaskStatus};

/// One start of one machine's daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Life {
    /// The machine.
    pub(super) node: NodeId,
    /// How often it was started before, and one.
    pub(super) count: u64,
}

/// What a client wants.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Ask {
    /// Write the operation's number into the label `c<client>` of `target`, through the leader's term.
    Label { client: usize, target: NodeId },
    /// The same as a proposal to the store of `at`, leader or not.
    Propose {
        client: usize,
        target: NodeId,
        at: NodeId,
    },
    /// Read through the leader's term.
    Read,
    /// Read from the store of this node, leader or not.
    ReadAt(NodeId),
    /// Remove a node from the cluster.
    Remove(NodeId),
    /// Let a machine in.
    Join(NodeId),
    /// Make a service of this name.
    Create(String, Kind),
    /// Make this of a service that is of this version; `None` is what it was before.
    Update(ServiceId, u64, Option<Box<ServiceSpec>>),
    /// Remove a service.
    Forget(ServiceId),
    /// Anything else that an operator or a customer does.
    Operate(String),
}

/// What became of it.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// It was written; the version where the store told it.
    Written(Option<u64>),
    /// It was read.
    Read(Arc<State>),
    /// It certainly changed nothing, and will not.
    Refused(String),
    /// It may have taken effect, or may yet.
    Unknown(String),
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    /// The schedule did this.
    Fault(String),
    /// A machine's daemon runs.
    Began(Life),
    /// It runs no more.
    Ended(Life),
    /// A store did not open although its disk works.
    Unopened(Life, String),
    /// A replica applied a change.
    Applied(Life, StateEvent),
    /// A replica shows this state.
    Shows(Life, Arc<State>),
    /// A replica says that it leads, in this term.
    Leads(Life, u64),
    /// It no longer does.
    Ceased(Life, u64),
    /// A replica knows these to be the replicas.
    Replicas {
        life: Life,
        voters: BTreeSet<NodeId>,
        learners: BTreeSet<NodeId>,
    },
    /// The work of a term began on a node; the work before it there was over or was not.
    TermBegan { life: Life, term: u64, clean: bool },
    /// The handle of a term that had ended was used, and it worked or did not.
    OldTermUsed { life: Life, term: u64, worked: bool },
    /// An agent follows the orders of this term, or has lost its session.
    Obeys {
        life: Life,
        term: u64,
        in_session: bool,
    },
    /// A leader shows a node in this state.
    Shown {
        life: Life,
        node: NodeId,
        state: NodeState,
    },
    /// A node's agent says this of a task.
    Told(Life, TaskId, TaskStatus),
    /// So often a process began on a machine that names this ID, in the whole run.
    Processes {
        node: NodeId,
        task: TaskId,
        begun: u32,
    },
    /// An operation began.
    Asked(u64, Ask),
    /// It ended.
    Answered(u64, Answer),
    /// The faults have ended and all machines run.
    Healed,
}

/// An entry and when it happened.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// Since the run's beginning.
    pub(super) at: Duration,
    /// What.
    pub(super) entry: Entry,
}

/// The history of one run. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct History(Arc<Mutex<Pages>>);

#[derive(Debug, Default)]
struct Pages {
    records: Vec<Record>,
    operations: u64,
}

impl History {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what happens at this moment.
    pub(super) fn add(&self, entry: Entry) {
        let at = clock::elapsed();
        tracing::trace!(?at, ?entry, "history");
        self.pages().records.push(Record { at, entry });
    }

    /// An operation begins; its number is returned.
    pub(super) fn ask(&self, ask: Ask) -> u64 {
        let number = {
            let mut pages = self.pages();
            pages.operations += 1;
            pages.operations
        };
        self.add(Entry::Asked(number, ask));
        number
    }

    /// Everything so far.
    pub(super) fn records(&self) -> Vec<Record> {
        self.pages().records.clone()
    }
}

/// Short names of the machines, the same in every run.
#[derive(Clone, Debug, Default)]
pub(super) struct Names(pub(super) BTreeMap<NodeId, usize>);

impl Names {
    fn name(&self, node: NodeId) -> String {
        self.0
            .get(&node)
            .map_or_else(|| node.to_string(), |slot| format!("n{slot}"))
    }

    fn all(&self, nodes: &BTreeSet<NodeId>) -> String {
        let names: Vec<String> = nodes.iter().map(|node| self.name(*node)).collect();
        names.join(" ")
    }

    /// A text in which short names stand for IDs.
    pub(super) fn shorten(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (node, slot)| {
            text.replace(&node.to_string(), &format!("n{slot}"))
        })
    }

    /// One line that tells a record, without anything that differs between two runs of the same seed.
    pub(super) fn line(&self, record: &Record) -> String {
        let at = record.at.as_secs_f64();
        let what = match &record.entry {
            Entry::Fault(words) => format!("* {}", self.shorten(words)),
            Entry::Began(life) => format!("{} runs", self.life(*life)),
            Entry::Ended(life) => format!("{} ended", self.life(*life)),
            Entry::Unopened(life, why) => format!("{} did not open: {why}", self.life(*life)),
            Entry::Applied(life, event) => {
                format!("{} applied {}", self.life(*life), self.event(event))
            }
            Entry::Shows(life, state) => {
                format!("{} shows version {}", self.life(*life), state.version)
            }
            Entry::Leads(life, term) => format!("{} leads term {term}", self.life(*life)),
            Entry::Ceased(life, term) => {
                format!("{} no longer leads term {term}", self.life(*life))
            }
            Entry::Replicas {
                life,
                voters,
                learners,
            } => format!(
                "{} knows voters {} and learners {}",
                self.life(*life),
                self.all(voters),
                self.all(learners)
            ),
            Entry::TermBegan { life, term, clean } => {
                format!("{} works for term {term}, clean {clean}", self.life(*life))
            }
            Entry::OldTermUsed { life, term, worked } => {
                format!("{} used old term {term}: {worked}", self.life(*life))
            }
            Entry::Obeys {
                life,
                term,
                in_session,
            } => format!(
                "{} obeys term {term}, session {in_session}",
                self.life(*life)
            ),
            Entry::Shown { life, node, state } => {
                format!("{} sees {} {state:?}", self.life(*life), self.name(*node))
            }
            Entry::Told(life, task, status) => {
                let (state, err) = (status.state, &status.err);
                format!("{} says {task} is {state} {err}", self.life(*life))
            }
            Entry::Processes { node, task, begun } => {
                format!("{} began {task} {begun} times", self.name(*node))
            }
            Entry::Asked(number, ask) => format!("#{number} {}", self.asked(ask)),
            Entry::Answered(number, answer) => match answer {
                Answer::Read(state) => format!("#{number} read version {}", state.version),
                Answer::Written(None) => format!("#{number} is written"),
                Answer::Written(Some(version)) => format!("#{number} is version {version}"),
                Answer::Refused(why) => self.shorten(&format!("#{number} is refused: {why}")),
                Answer::Unknown(why) => self.shorten(&format!("#{number} is uncertain: {why}")),
            },
            Entry::Healed => "healed".into(),
        };
        format!("{at:9.4} {what}")
    }

    fn asked(&self, ask: &Ask) -> String {
        match ask {
            Ask::Operate(words) => self.shorten(words),
            Ask::Update(service, version, spec) => {
                let to = spec
                    .as_ref()
                    .map(|spec| (spec.mode.read(), &spec.update_config));
                format!("{service} of version {version} is to be {to:?}")
            }
            Ask::ReadAt(node) => format!("read at {}", self.name(*node)),
            ask => self.shorten(&format!("{ask:?}")),
        }
    }

    fn life(&self, life: Life) -> String {
        format!("{}.{}", self.name(life.node), life.count)
    }

    fn event(&self, event: &StateEvent) -> String {
        let what = match &event.changed {
            Changed::Cluster { .. } => "the cluster".into(),
            Changed::Node { id, new: None, .. } => format!("{} removed", self.name(*id)),
            Changed::Node {
                id, new: Some(new), ..
            } => format!("{} {}", self.name(*id), marks(new)),
            Changed::Service { id, new: None, .. } => format!("service {id} removed"),
            Changed::Service {
                id, new: Some(new), ..
            } => format!("service {id} {:?} {}", new.spec.mode.read(), new.removed),
            Changed::Task { id, new: None, .. } => format!("task {id} removed"),
            Changed::Task {
                new: Some(task), ..
            } => self.task(task),
            Changed::Dependency { id, new, .. } => format!("{id} kept: {}", new.is_some()),
            Changed::Network { id, new, .. } => format!("network {id}: {}", new.is_some()),
        };
        format!("{} {what}", event.version)
    }

    fn task(&self, task: &Task) -> String {
        let node = task
            .node
            .map_or_else(|| "nowhere".into(), |node| self.name(node));
        let slot = self.shorten(&task.slot.to_string());
        let (desired, status) = (task.desired, &task.status);
        format!(
            "task {} of {}.{slot} on {node}: {} to be {desired} {}",
            task.id, task.service, status.state, status.err
        )
    }

    /// A number that is the same for two runs that went the same way.
    pub(super) fn digest(&self, records: &[Record]) -> u64 {
        let mut hasher = DefaultHasher::new();
        for record in records {
            record.at.hash(&mut hasher);
            self.line(record).hash(&mut hasher);
        }
        hasher.finish()
    }
}

/// What clients and the cluster wrote into a node.
fn marks(node: &Node) -> impl fmt::Display {
    let labels: Vec<String> = node
        .spec
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    format!("{:?} {:?} {}", node.role, node.pinned, labels.join(","))
}
