//! A leader that dies at each step of its work in turn: whatever it was about, the next one finishes it, once.
//!
//! Each script is one thing that happens to services on three machines. It is run once to count the leader's steps
//! ([`tripwire`](super::tripwire)) until the cluster is at rest again, and then once for each of them.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::converge;
use super::customer::{Customer, Kind, change, create, spec, update};
use super::history::Entry;
use super::machine::Machine;
use super::runner::tell_steps;
use super::world::World;
use crate::cluster::store::State;
use crate::model::service_spec::UpdateConfig;
use crate::model::{Availability, JoinKind, NodeId, Service, ServiceUpdate};

/// The cluster is at rest within this, before it begins and when it is over.
const REST: Duration = Duration::from_secs(60);

/// What is asked for is asked for until it is so, and is so within this.
const ASKED: Duration = Duration::from_secs(15);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// The dead leader's machine is back after this.
const BACK: Duration = Duration::from_secs(2);

/// The service of most scripts.
const WEB: &str = "web";

/// What is there when a script begins.
const BEFORE: u64 = 3;

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Create(Kind),
    Scale(u64),
    /// Another image, in this order, with tasks that run or that fail at once.
    Renew(&'static str, bool),
    /// As it was before the last change.
    GoBack,
    Remove,
    /// A process ends by itself.
    End,
    Drain,
}

const ACTS: [Act; 13] = [
    Act::Create(Kind::Replicas(4)),
    Act::Create(Kind::Global),
    Act::Create(Kind::Job(3)),
    Act::Create(Kind::GlobalJob),
    Act::Scale(5),
    Act::Scale(1),
    Act::Renew("stop-first", true),
    Act::Renew("start-first", true),
    Act::Renew("start-first", false),
    Act::GoBack,
    Act::Remove,
    Act::End,
    Act::Drain,
];

/// How many scripts there are.
pub(super) const SCRIPTS: u64 = ACTS.len() as u64;

/// One script, from one on, with a death at `step`, or none at step zero. What goes wrong is left in the world.
pub(super) async fn run(world: &Arc<World>, script: u64, step: u64) {
    let acts = usize::try_from(script).ok();
    let act = acts.and_then(|number| ACTS.get(number.checked_sub(1)?));
    let Some(act) = act.copied() else {
        return world.trouble(format!("there is no script {script}"));
    };
    let customer = Customer {
        aside: true,
        ..Customer::new(world, script)
    };
    let script = Script { customer, act };
    if let Err(why) = script.play(world, step).await {
        world.trouble(format!("{act:?} survives a leader's death: {why}"));
    }
}

struct Script {
    customer: Customer,
    act: Act,
}

impl Script {
    async fn play(&self, world: &Arc<World>, step: u64) -> Result<(), String> {
        let founder = world.machines[0].clone();
        world.found(&founder).await;
        for machine in &world.machines[1..3] {
            world.join(machine, JoinKind::Peer, founder.id).await;
        }
        converge::until_settled(world, REST).await?;
        if !matches!(self.act, Act::Create(_)) {
            self.prepare(world).await?;
        }
        let (leader, _) = world.leader().ok_or("none leads")?;
        let leader = world.machine(leader.life.node).cloned().ok_or("no such")?;
        let other = world.machines[..3].iter().find(|one| one.id != leader.id);
        let other = other.cloned().ok_or("it is alone")?;
        let before = world.newest();
        let wire = world.network.wire().clone();
        wire.stretch(leader.id, (step > 0).then_some(step));
        self.kill_at_last_step(world, &leader);
        self.act(world, &before, &other).await?;
        converge::until_settled(world, REST).await?;
        if step == 0 {
            tell_steps(wire.steps());
        }
        match self.is_done(&before, &world.newest(), &other) {
            true => Ok(()),
            false => Err("it was so, and is not any more".into()),
        }
    }

    fn kill_at_last_step(&self, world: &Arc<World>, leader: &Arc<Machine>) {
        let (world, leader) = (world.clone(), leader.clone());
        self.customer.world.run(async move {
            world.network.wire().tripped().await;
            let words = format!("the leader {} dies at its last step", leader.id);
            world.history.add(Entry::Fault(words));
            world.crash(&leader, || false).await;
            sleep(BACK).await;
            world.boot(&leader).await;
        });
    }

    /// A service that runs, and was changed once.
    async fn prepare(&self, world: &Arc<World>) -> Result<(), String> {
        let kind = Kind::Replicas(BEFORE);
        let mut wanted = spec(WEB, kind, false);
        let order = match self.act {
            Act::Renew(order, _) => order,
            _ => "stop-first",
        };
        let config = UpdateConfig {
            parallelism: 2,
            order: order.into(),
            failure_action: "rollback".into(),
            monitor: 100_000_000,
            ..UpdateConfig::default()
        };
        wanted.update_config = Some(config.clone());
        wanted.rollback_config = Some(config);
        let made = create(&self.customer, kind, wanted).await;
        made.ok_or("no service was made")?;
        converge::until_settled(world, REST).await?;
        if self.act == Act::GoBack {
            let service = web(&world.newest()).cloned().ok_or("it is gone")?;
            let asked = self.renew(&service, true).await;
            asked.then_some(()).ok_or("it was not changed")?;
            converge::until_settled(world, REST).await?;
        }
        Ok(())
    }

    async fn renew(&self, service: &Service, good: bool) -> bool {
        let mut spec = service.spec.clone();
        if let Some(container) = &mut spec.task_template.container_spec {
            container.image = "web:2".into();
            if !good {
                container.command = ["/bin/sh", "-c", "exit 1"].map(String::from).to_vec();
            }
        }
        update(&self.customer, service, change(spec)).await
    }

    /// Lets it happen, and asks for it again and again until it is so.
    async fn act(
        &self,
        world: &Arc<World>,
        before: &State,
        other: &Arc<Machine>,
    ) -> Result<(), String> {
        let began = Instant::now();
        if self.act == Act::End {
            let running = other.host.running();
            let task = running.first().ok_or("nothing runs there")?;
            other.host.exit(*task, 1);
        }
        let mut acknowledged = false;
        while !self.is_done(before, &world.newest(), other) {
            if began.elapsed() > ASKED {
                return Err(format!("it is not so after {ASKED:?}"));
            }
            if acknowledged && world.leader().is_none() {
                // What was acknowledged is there, though not on those that are left in every moment.
                sleep(LOOK).await;
                continue;
            }
            acknowledged |= self.ask(world, other.id).await;
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Asks for it once; whether that was acknowledged.
    async fn ask(&self, world: &Arc<World>, other: NodeId) -> bool {
        let customer = &self.customer;
        let state = world.newest();
        match (self.act, web(&state)) {
            (Act::Create(kind), _) => {
                let made = create(customer, kind, spec(WEB, kind, false)).await;
                made.is_some()
            }
            (Act::Scale(count), Some(service)) => {
                let mut spec = service.spec.clone();
                if let Some(replicated) = &mut spec.mode.replicated {
                    replicated.replicas = Some(count);
                }
                update(customer, service, change(spec)).await
            }
            (Act::Renew(_, good), Some(service)) => self.renew(service, good).await,
            (Act::GoBack, Some(service)) => {
                let back = ServiceUpdate {
                    rollback: true,
                    ..ServiceUpdate::default()
                };
                update(customer, service, back).await
            }
            (Act::Remove, Some(service)) => customer.forget(service.id).await.is_some(),
            (Act::Drain, _) => {
                customer.set(other, Availability::Drain).await;
                false
            }
            (Act::End, _) | (_, None) => false,
        }
    }

    /// Whether what was asked for is so, by what is written down.
    fn is_done(&self, before: &State, now: &State, other: &Machine) -> bool {
        let (old, service) = (web(before), web(now));
        let version = |service: Option<&Arc<Service>>| service.map_or(0, |one| one.spec_version);
        match self.act {
            Act::Create(_) => service.is_some(),
            Act::Scale(count) => {
                let replicated = service.and_then(|service| service.spec.mode.replicated.as_ref());
                replicated.is_some_and(|replicated| replicated.replicas == Some(count))
            }
            // What fails is taken back, which is another change.
            Act::Renew(..) | Act::GoBack => version(service) > version(old),
            Act::Remove => service.is_none(),
            Act::End => true,
            Act::Drain => now
                .nodes
                .get(&other.id)
                .is_some_and(|node| node.spec.availability == Availability::Drain),
        }
    }
}

/// The service, while it is there for users.
fn web(state: &State) -> Option<&Arc<Service>> {
    let mut services = state.work.services.values();
    services.find(|service| service.spec.name == WEB && !service.removed)
}
