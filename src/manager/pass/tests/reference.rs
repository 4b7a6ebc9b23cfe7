//! What becomes of a service, said by a model that knows nothing of how: users, nodes and processes do anything in any
//! order, and whenever all nodes are well again and everything has come to rest, the service is as the model says.
//!
//! The model is [`Model::check`]: what a user asked for last, in each slot or on each node, running or done. Everything
//! beside it is the real leader: requests are those of [`services`], passes are real, with the real scheduler, and any
//! number of a pass's proposals may be written before a new leader takes over.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::manager::restart::policy::ended_by_itself;
use crate::manager::services;
use crate::model::cluster::Secret;
use crate::model::service::UpdateState;
use crate::model::service_spec::Mode;
use crate::model::{AuthFrom, Availability, ServiceUpdate};

const NODES: u128 = 3;

/// Whatever is due within this is waited for.
const SOON: Duration = Duration::from_secs(3600);

/// One thing that happens.
#[derive(Clone, Debug)]
enum Event {
    /// A pass, of which so many proposals are written.
    Pass(usize),
    Obey,
    /// The process of some task ends by itself.
    End(usize, bool),
    Scale(u64),
    Image(u8),
    Label(u8),
    Force,
    Back,
    See(u128, NodeState),
    Set(u128, Availability),
    RemoveNode(u128),
    Time(u64),
    /// Another leader, who has heard of nobody yet.
    Leader,
    /// All nodes are well, and time goes on until nothing happens any more.
    Rest,
}

fn event() -> impl Strategy<Value = Event> {
    let seen = prop_oneof![
        2 => Just(NodeState::Ready),
        2 => Just(NodeState::Down),
        1 => Just(NodeState::Unknown),
        1 => Just(NodeState::Disconnected),
    ];
    let open = prop_oneof![
        Just(Availability::Active),
        Just(Availability::Pause),
        Just(Availability::Drain),
    ];
    prop_oneof![
        8 => prop_oneof![4 => Just(usize::MAX), 1 => 0..3_usize].prop_map(Event::Pass),
        8 => Just(Event::Obey),
        4 => (0..20_usize, any::<bool>()).prop_map(|(which, well)| Event::End(which, well)),
        2 => (0..6_u64).prop_map(Event::Scale),
        3 => (1..5_u8).prop_map(Event::Image),
        1 => (1..5_u8).prop_map(Event::Label),
        1 => Just(Event::Force),
        1 => Just(Event::Back),
        2 => (1..=NODES, seen).prop_map(|(node, state)| Event::See(node, state)),
        2 => (1..=NODES, open).prop_map(|(node, to)| Event::Set(node, to)),
        1 => (2..=NODES).prop_map(Event::RemoveNode),
        4 => (1..8_u64).prop_map(Event::Time),
        2 => Just(Event::Leader),
        2 => Just(Event::Rest),
    ]
}

/// How a service restarts and is updated.
#[derive(Clone, Debug)]
struct Policy {
    restart: Value,
    update: Value,
}

fn policy() -> impl Strategy<Value = Policy> {
    let condition = prop_oneof![3 => Just("any"), 1 => Just("on-failure"), 1 => Just("none")];
    let action = prop_oneof![Just("pause"), Just("continue"), Just("rollback")];
    let order = prop_oneof![Just("stop-first"), Just("start-first")];
    let restart = (
        condition,
        prop_oneof![3 => Just(0_u64), 1 => Just(2)],
        0..3_u64,
    );
    let update = (0..4_u64, 0..3_u64, 1..6_u64, order, action, any::<bool>());
    (restart, update).prop_map(|((condition, attempts, wait), update)| {
        let (parallelism, delay, monitor, order, action, lenient) = update;
        let nanos = |secs: u64| secs * 1_000_000_000;
        Policy {
            restart: json!({"Condition": condition, "MaxAttempts": attempts, "Delay": nanos(wait)}),
            update: json!({
                "Parallelism": parallelism, "Delay": nanos(delay), "Monitor": nanos(monitor),
                "Order": order, "FailureAction": action,
                "MaxFailureRatio": if lenient { 0.5 } else { 0.0 },
            }),
        }
    })
}

/// What was asked for and what happened, and a leader that has to cope with it.
struct Model {
    leader: Leader,
    /// What agents know, whoever has heard of it.
    truth: Observed,
    /// What the user asked for last, and what the service was then.
    asked: ServiceSpec,
    before: ServiceSpec,
    /// A process has ended by itself since then.
    hurt: bool,
    /// Jobs that may run at a time.
    concurrent: u64,
}

impl Model {
    fn new(mode: Value, policy: Policy) -> Self {
        let mut leader = Leader::new(NODES);
        let mut web = service(mode, policy.restart);
        web.spec.update_config = serde_json::from_value(policy.update.clone()).unwrap();
        web.spec.rollback_config = serde_json::from_value(policy.update).unwrap();
        let (state, now) = (&leader.state, leader.now);
        let made = services::create(state, WEB, web.spec.clone(), Secret::default(), now);
        leader.write(made.unwrap());
        let concurrent = match web.spec.mode.read() {
            Mode::ReplicatedJob { concurrent, .. } => concurrent,
            _ => u64::MAX,
        };
        Self {
            leader,
            truth: Observed::new(),
            asked: web.spec.clone(),
            before: web.spec,
            hurt: false,
            concurrent,
        }
    }

    fn web(&self) -> &Service {
        &self.leader.state.work.services[&WEB]
    }

    fn happen(&mut self, event: Event) {
        let known = |number| self.leader.state.nodes.contains_key(&node(number));
        match event {
            Event::Pass(parts) => self.pass(parts),
            Event::Obey => drop(self.obey(false)),
            Event::End(which, well) => self.end(which, well),
            Event::Scale(count) => self.scale(count),
            Event::Image(number) => self.ask(|spec| {
                let container = spec.task_template.container_spec.as_mut().unwrap();
                container.image = format!("web:{number}");
            }),
            Event::Label(number) => self.ask(|spec| {
                spec.labels.insert("a".into(), number.to_string());
            }),
            Event::Force => self.ask(|spec| spec.task_template.force_update += 1),
            Event::Back => self.go_back(),
            Event::See(number, state) if known(number) => self.leader.see(number, state),
            Event::Set(number, to) if known(number) => self.set(number, to),
            Event::RemoveNode(number) if known(number) => self.remove_node(number),
            Event::See(..) | Event::Set(..) | Event::RemoveNode(_) => {}
            Event::Time(secs) => {
                self.leader.now = self.leader.now.after(Duration::from_secs(secs));
            }
            Event::Leader => self.change_leader(),
            Event::Rest => {
                self.mend();
                self.rest();
                self.check();
            }
        }
        self.check_at_any_time();
    }

    /// A pass, the rest of which is refused, as what has changed meanwhile would have it.
    fn pass(&mut self, parts: usize) {
        let (agenda, outcome) = self.leader.plan();
        let all = outcome.proposals.len();
        for proposal in outcome.proposals.into_iter().take(parts) {
            self.leader.state.apply(proposal, &mut Vec::new()).unwrap();
        }
        if parts < all {
            self.leader.dirt.give_back(agenda);
        }
    }

    fn scale(&mut self, count: u64) {
        self.ask(|spec| {
            if let Some(replicated) = &mut spec.mode.replicated {
                replicated.replicas = Some(count);
            }
            if let Some(job) = &mut spec.mode.replicated_job {
                job.total_completions = Some(count);
            }
        });
    }

    /// A user reads the service, and asks for it as it is with a change.
    fn ask(&mut self, edit: impl FnOnce(&mut ServiceSpec)) {
        let mut spec = self.web().spec.clone();
        edit(&mut spec);
        self.send(ServiceUpdate {
            spec: spec.clone(),
            rollback: false,
            registry_auth: AuthFrom::Spec,
        });
        self.asked = spec;
    }

    fn go_back(&mut self) {
        let Some(previous) = self.web().previous.clone() else {
            return;
        };
        self.send(ServiceUpdate {
            rollback: true,
            ..ServiceUpdate::default()
        });
        self.asked = previous.spec;
    }

    fn send(&mut self, update: ServiceUpdate) {
        let web = self.web();
        let (state, now) = (&self.leader.state, self.leader.now);
        let change = services::update(state, WEB, web.meta.version, update, now).unwrap();
        self.before = web.spec.clone();
        // What has ended, and nobody knows yet, is held against what comes next.
        self.hurt = self
            .tasks()
            .iter()
            .any(|task| ended_by_itself(self.state_of(task)) && !task.status.state.is_terminal());
        self.leader.write(change);
    }

    fn set(&mut self, number: u128, to: Availability) {
        let mut next = Node::clone(&self.leader.state.nodes[&node(number)]);
        let version = next.meta.version;
        next.spec.availability = to;
        let change = Change::PutNode(Expect::Version(version), Box::new(next));
        self.leader.write(change);
    }

    fn remove_node(&mut self, number: u128) {
        let version = self.leader.state.nodes[&node(number)].meta.version;
        self.leader.nodes.remove(&node(number));
        let change = Change::RemoveNode(Expect::Version(version), node(number));
        self.leader.write(change);
    }

    /// The next leader takes a look before it has heard of anybody; then all tell it all.
    fn change_leader(&mut self) {
        let nodes = std::mem::take(&mut self.leader.nodes);
        self.leader.change();
        self.leader.pass(usize::MAX);
        self.leader.nodes = nodes;
        self.leader.observed = self.truth.clone();
    }

    fn is_up(&self, task: &Task) -> bool {
        let seen = task.node.and_then(|node| self.leader.nodes.get(&node));
        seen.is_some_and(|seen| seen.state == NodeState::Ready)
    }

    fn state_of(&self, task: &Task) -> TaskState {
        let seen = self.truth.get(&task.id).map(|seen| seen.state);
        task.status.state.max(seen.unwrap_or_default())
    }

    fn tasks(&self) -> Vec<Arc<Task>> {
        self.leader.state.work.tasks.values().cloned().collect()
    }

    fn say(&mut self, task: TaskId, state: TaskState) {
        self.leader.say(task, state);
        let status = self.leader.observed[&task].clone();
        self.truth.insert(task, status);
    }

    /// All agents that are heard do what they are told. Jobs end well, if they are to. Whether anybody did anything.
    fn obey(&mut self, finish: bool) -> bool {
        let mut busy = false;
        for task in self.tasks() {
            let state = self.state_of(&task);
            if !self.is_up(&task) || state < TaskState::Assigned || state.is_terminal() {
                continue;
            }
            let to = match task.desired {
                TaskState::Ready => TaskState::Ready,
                TaskState::Complete if finish && state == TaskState::Running => TaskState::Complete,
                TaskState::Running | TaskState::Complete => TaskState::Running,
                _ => TaskState::Shutdown,
            };
            if to > state {
                self.say(task.id, to);
                busy = true;
            }
        }
        busy
    }

    fn end(&mut self, which: usize, well: bool) {
        let mut running = self.tasks();
        running.retain(|task| self.is_up(task) && self.state_of(task) == TaskState::Running);
        if let Some(task) = running.get(which % running.len().max(1)) {
            let end = match well {
                true => TaskState::Complete,
                false => TaskState::Failed,
            };
            self.say(task.id, end);
            self.hurt = true;
        }
    }

    fn mend(&mut self) {
        let nodes: Vec<u128> = self.leader.state.nodes.keys().map(|id| id.bits()).collect();
        for number in nodes {
            self.leader.see(number, NodeState::Ready);
            self.set(number, Availability::Active);
        }
    }

    /// Until nothing happens any more, and nothing is waited for that comes soon.
    fn rest(&mut self) {
        for _ in 0..2000 {
            let planned = self.leader.pass(usize::MAX);
            if self.obey(true) || planned {
                continue;
            }
            self.leader.dirt.follow(self.leader.view());
            if !self.leader.dirt.is_clean() {
                continue;
            }
            let now = self.leader.now;
            match self.leader.dirt.alarm() {
                Some(at) if at <= now.after(SOON) => self.leader.now = at.max(now),
                _ => return,
            }
        }
        panic!("this finds no rest: {:#?}", self.leader.state.work);
    }

    /// In each place one task of a version at most, and of a job no more than may run.
    fn check_at_any_time(&self) {
        let Some(web) = self.leader.state.work.services.get(&WEB) else {
            return;
        };
        let run = web.job.map(|job| job.iteration);
        let mut places = BTreeMap::new();
        for task in self.tasks() {
            let wanted = task.desired <= TaskState::Complete;
            if wanted && !self.state_of(&task).is_terminal() && task.iteration == run {
                let place = (task.slot, task.spec_version);
                assert_eq!(places.insert(place, task.id), None, "{place:?}");
            }
        }
        let job = run.is_some() && !web.spec.mode.read().is_global();
        assert!(!job || places.len() as u64 <= self.concurrent, "{places:?}");
    }

    /// All nodes are well and all is at rest: this is what a user sees.
    fn check(&self) {
        let web = self.web();
        let update = web.update.as_ref().map(|update| update.state);
        if web.spec != self.asked {
            let goes_back = update.is_some_and(UpdateState::is_rollback);
            assert!(self.hurt && goes_back, "it went back for no reason");
            assert_eq!(web.spec, self.before, "it went back to what it was");
        }
        let paused = matches!(
            update,
            Some(UpdateState::Paused | UpdateState::RollbackPaused)
        );
        assert!(!paused || self.hurt, "it stopped for no reason");
        assert!(!update.is_some_and(UpdateState::is_active), "it goes on");
        let mut slots: BTreeMap<Slot, Vec<Arc<Task>>> = BTreeMap::new();
        let run = web.job.map(|job| job.iteration);
        for task in self.tasks() {
            assert!(task.desired < TaskState::Remove, "what is to go is gone");
            assert_eq!(task.iteration, run, "what ran before is forgotten");
            slots.entry(task.slot).or_default().push(task);
        }
        let nodes = self.leader.state.nodes.keys().copied().map(Slot::Node);
        let expected: Vec<Slot> = match web.spec.mode.read() {
            Mode::Replicated { .. } => Vec::new(),
            Mode::ReplicatedJob { total, .. } => (0..total).map(Slot::Number).collect(),
            Mode::Global | Mode::GlobalJob => nodes.collect(),
        };
        match web.spec.mode.read() {
            // Which numbers these are depends on which went first.
            Mode::Replicated { replicas } => assert_eq!(slots.len() as u64, replicas),
            _ => {
                let found: Vec<Slot> = slots.keys().copied().collect();
                assert_eq!(found, expected);
            }
        }
        for (slot, tasks) in slots {
            self.check_slot(web, slot, tasks, paused);
        }
    }

    /// One task in a slot runs, and is what was asked for, or is done; or all has ended as the policy lets it.
    fn check_slot(&self, web: &Service, slot: Slot, mut tasks: Vec<Arc<Task>>, paused: bool) {
        tasks.sort_by_key(|task| (task.meta.created_at, task.meta.version));
        let live: Vec<&Arc<Task>> = tasks
            .iter()
            .filter(|task| task.desired <= TaskState::Complete)
            .filter(|task| !self.state_of(task).is_terminal())
            .collect();
        let last = |state| tasks.iter().any(|task| self.state_of(task) == state);
        let (done, failed) = (last(TaskState::Complete), last(TaskState::Failed));
        let policy = web.spec.task_template.restart_policy.clone();
        let policy = policy.unwrap_or_default();
        let limited = policy.max_attempts.unwrap_or(0) > 0;
        let once = policy.condition == "none";
        if let [task] = live[..] {
            assert!(web.job.is_none(), "a job ends");
            assert_eq!(self.state_of(task), TaskState::Running, "{slot}");
            let made_of = self.leader.state.work.template(WEB, task.spec_version);
            let same = made_of.unwrap().task == web.spec.task_template;
            // A new task that starts first and fails for good takes nobody's place.
            let order = web.spec.update_config.as_ref().map(|config| &*config.order);
            let kept = order == Some("start-first") && failed && (limited || once);
            assert!(same || paused || kept, "{slot} is not what was asked for");
            return;
        }
        assert!(live.is_empty(), "{slot} has {} tasks", live.len());
        let may_end = match (policy.condition.as_str(), web.job) {
            (_, Some(_)) if done => true,
            // What was lost with its node is not made good either, unless the slot is the node.
            ("none", _) => done || failed || matches!(slot, Slot::Number(_)),
            ("any", None) => limited && (done || failed),
            _ => done || limited && failed,
        };
        assert!(may_end, "{slot} is empty, under {policy:?}");
    }

    /// A service that is removed is gone, and nothing is left of it.
    fn remove(&mut self) {
        let change = services::remove(&self.leader.state, WEB).unwrap();
        self.leader.write(change);
        self.rest();
        assert_eq!(self.leader.state.work, Default::default());
    }
}

fn follow(mode: Value, policy: Policy, events: Vec<Event>) {
    let mut model = Model::new(mode, policy);
    for event in events {
        model.happen(event);
    }
    model.happen(Event::Rest);
    model.remove();
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    prop::collection::vec(event(), 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_replicated_service_becomes_what_the_model_says(policy in policy(), events in events()) {
        follow(replicas(3), policy, events);
    }

    #[test]
    fn a_global_service_becomes_what_the_model_says(policy in policy(), events in events()) {
        follow(json!({"Global": {}}), policy, events);
    }

    #[test]
    fn a_job_becomes_what_the_model_says(policy in policy(), events in events()) {
        let job = json!({"ReplicatedJob": {"MaxConcurrent": 2, "TotalCompletions": 4}});
        follow(job, policy, events);
    }

    #[test]
    fn a_global_job_becomes_what_the_model_says(policy in policy(), events in events()) {
        follow(json!({"GlobalJob": {}}), policy, events);
    }
}
