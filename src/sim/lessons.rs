//! What went wrong in swarmkit, bug by bug: each is a scenario that happens to us on purpose.
//!
//! | what went wrong there | its scenario |
//! |---|---|
//! | statuses were acknowledged and lost with the leader (PR #2499) | [`status_lost_at_failover`] |
//! | a write for each status; leaders fell under a thousand tasks (moby #24651) | `manager::pass::tests::what_is_between_assigned_and_running_is_not_written_down`, `manager::pass::tests::ten_thousand_replicas_are_no_giant_proposal` |
//! | a lock was held while a majority was waited for (#1658, PR #2057) | [`a_lock_across_consensus`] |
//! | a slow watcher's queue grew without end | [`a_slow_watcher`] |
//! | one truth had three ways to come about: events of tasks, of services, and the start | `manager::pass::tests::a_node_that_dies_is_replaced_and_a_new_leader_does_nothing_twice`, and all that is [`each_step`](super::each_step) |
//! | a loop went on after its term was lost, timers fired after it (PR #2091) | [`a_stale_loop_after_a_lost_term`], and `old terms are over` of [`invariants`](super::invariants) in every run |
//! | "dispatcher is stopped" until managers were restarted (moby #42314, #36452, #35277) | [`a_dispatcher_that_stays_stopped`] |
//! | what a task held was let go before it had stopped (#2407, moby #37338) | [`removed_during_shutdown`]; addresses are not here yet |
//! | a network was removed during a shutdown; addresses leaked, or were given twice (moby #37338, #31694, #33795) | there are no networks yet |
//! | a rollback that failed was completed all the same | `manager::updater::tests::lessons::a_rollback_that_fails_is_paused_and_stays_so` |
//! | stuck at "update in progress" (moby #37493) | `manager::updater::tests::lessons::an_update_is_not_stuck_when_what_it_waits_for_goes` |
//! | extra tasks in a rollback (moby #41804) | `manager::updater::tests::lessons::no_slot_has_more_tasks_than_it_needs_in_a_rollback` |
//! | an update's progress was forgotten with the leader | `manager::updater::tests::lessons::a_new_leader_goes_on_in_the_middle` |
//! | a count of jobs fell below zero | `manager::orchestrator::tests::a_job_of_which_more_run_than_may_begins_nothing` |
//! | the attempts of global jobs were looked up where they never were | `manager::orchestrator::tests::the_attempts_of_a_global_job_are_counted` |
//! | tests slept, and waited for the next event whatever it was | all of this runs on a virtual clock, and waits for what is to be |

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout};

use super::client::{Order, through};
use super::converge;
use super::customer::{Customer, Kind, create, scale, spec};
use super::history::Entry;
use super::machine::Machine;
use super::node::Node;
use super::runner::run;
use super::services::{forget, kept, running, service, until_running};
use super::world::World;
use crate::manager::term::Term;
use crate::model::service_spec::Mode;
use crate::model::{Availability, JoinKind, NodeId, ServiceId, TaskState};

/// A cluster without faults is at rest within this.
const REST: Duration = Duration::from_secs(60);

/// From an answer until containers run.
const RUNS: Duration = Duration::from_secs(2);

/// A leader that is cut off is replaced, and its successor at work, within this.
const NEXT: Duration = Duration::from_secs(5);

/// Within this every request has its answer, whatever it is.
const ANSWER: Duration = Duration::from_secs(15);

/// Seeds of each.
const SEEDS: u64 = 3;

/// Machines of each.
const MACHINES: usize = 3;

type Outcome = Result<(), String>;

/// Runs a lesson on a cluster at rest.
fn teach<F>(name: &'static str, lesson: impl FnOnce(Arc<World>, Customer) -> F + Send + 'static)
where
    F: Future<Output = Outcome>,
{
    let test = format!("sim::lessons::{name}");
    run(&test, SEEDS, move |world, seed| async move {
        let customer = Customer::new(&world, seed);
        let outcome = async {
            let founder = world.machines[0].clone();
            world.found(&founder).await;
            for machine in &world.machines[1..MACHINES] {
                world.join(machine, JoinKind::Peer, founder.id).await;
            }
            converge::until_settled(&world, REST).await?;
            lesson(world.clone(), customer).await?;
            converge::until_settled(&world, REST).await.map(drop)
        };
        if let Err(why) = outcome.await {
            world.trouble(format!("{name}: {why}"));
        }
    });
}

async fn make(customer: &Customer, kind: Kind) -> Result<ServiceId, String> {
    let made = create(customer, kind, spec("web", kind, false)).await;
    made.ok_or_else(|| "no service was made".into())
}

fn leader(world: &World) -> Result<(Arc<Node>, Arc<Machine>), String> {
    let (node, _) = world.leader().ok_or("none leads")?;
    let machine = world.machine(node.life.node).ok_or("it is no machine")?;
    Ok((node, machine.clone()))
}

fn others(world: &World, one: NodeId) -> Vec<NodeId> {
    let members = world.members().into_iter().map(|machine| machine.id);
    members.filter(|id| *id != one).collect()
}

/// Cuts a node off from all others, both ways.
fn cut_off(world: &World, one: NodeId) {
    let words = format!("{one} is cut off");
    world.history.add(Entry::Fault(words));
    let others = others(world, one);
    world.network.cut(&[one], &others);
    world.network.cut(&others, &[one]);
}

async fn until_led_by_another(world: &World, old: NodeId) -> Outcome {
    let began = Instant::now();
    while began.elapsed() < NEXT {
        let mut nodes = world.network.up().into_iter();
        let mut terms = nodes.by_ref().filter(|node| node.life.node != old);
        if terms.any(|node| node.term.borrow().is_some()) {
            return Ok(());
        }
        sleep(Duration::from_millis(10)).await;
    }
    Err(format!("none but {old} leads after {NEXT:?}"))
}

/// The leader dies at the moment in which it hears that tasks run. The next one knows it from their agents.
#[test]
fn status_lost_at_failover() {
    teach("status_lost_at_failover", |world, customer| async move {
        let web = make(&customer, Kind::Replicas(6)).await?;
        let count = |world: &World| {
            let members = world.members().into_iter();
            members.map(|one| one.host.running().len()).sum::<usize>()
        };
        let began = Instant::now();
        while count(&world) < 6 {
            if began.elapsed() > RUNS {
                return Err("they do not run".into());
            }
            sleep(Duration::from_micros(500)).await;
        }
        let (_, dies) = leader(&world)?;
        let first = state_tasks(&world, web);
        world.crash(&dies, || false).await;
        until_led_by_another(&world, dies.id).await?;
        // Those that are not on the dead machine are the same, and are known to run.
        let second = until_running(&world, web, 6, NEXT).await?;
        kept(&first, &second, dies.id)?;
        world.boot(&dies).await;
        Ok(())
    });
}

fn state_tasks(world: &World, web: ServiceId) -> Vec<crate::model::Task> {
    let state = world.newest();
    let tasks = state.work.tasks_of(web);
    tasks.map(|task| crate::model::Task::clone(task)).collect()
}

/// No majority is there while many ask for something: each has its answer in time, and afterwards all goes on.
#[test]
fn a_lock_across_consensus() {
    teach("a_lock_across_consensus", |world, customer| async move {
        let web = make(&customer, Kind::Replicas(3)).await?;
        until_running(&world, web, 3, RUNS).await?;
        let (node, machine) = leader(&world)?;
        for one in world.members() {
            cut_off(&world, one.id);
        }
        let label: Order<()> = Arc::new(|term: Arc<Term>| {
            async move {
                let state = term.read().await?;
                let (id, node) = state.nodes.iter().next().expect("there is a node");
                let (version, role) = (node.meta.version, node.shown_role());
                term.update_node(*id, version, node.spec.clone(), role)
                    .await
            }
            .boxed()
        });
        let asked = (0..20).map(|_| through(&world, &node, label.clone()));
        let answers = timeout(ANSWER, join_all(asked)).await;
        let answers = answers.map_err(|_| format!("there is no answer after {ANSWER:?}"))?;
        if answers.iter().any(Result::is_ok) {
            return Err("something was written without a majority".into());
        }
        world.network.mend();
        converge::until_written(&world, NEXT).await?;
        let found = service(&world, web)?;
        scale(&customer, &found, 5).await;
        until_running(&world, web, 5, NEXT).await?;
        match machine.running().is_some() {
            true => Ok(()),
            false => Err("the leader of then is gone".into()),
        }
    });
}

/// A node hears nothing while much is decided about it. It holds up none of the others, and then gets what is, and
/// not all that was.
#[test]
fn a_slow_watcher() {
    teach("a_slow_watcher", |world, customer| async move {
        let web = make(&customer, Kind::Replicas(6)).await?;
        until_running(&world, web, 6, RUNS).await?;
        let (_, machine) = leader(&world)?;
        let slow = others(&world, machine.id)[0];
        world.network.pause(slow);
        for round in 0..20 {
            let found = service(&world, web)?;
            scale(&customer, &found, [0, 6][round % 2]).await;
            sleep(Duration::from_millis(20)).await;
        }
        // Those who ask the slow one may be refused.
        while service(&world, web)?.spec.mode.read() != (Mode::Replicated { replicas: 6 }) {
            let found = service(&world, web)?;
            scale(&customer, &found, 6).await;
        }
        // The others have all of it, once the slow one is not counted on any more.
        until_running_elsewhere(&world, web, slow, 6).await?;
        world.network.resume(slow);
        converge::until_settled(&world, NEXT).await?;
        let found = world.machine(slow).ok_or("it is no machine")?;
        let begun = found.host.processes().len();
        // Six services' worth of tasks were made for it at the most, had it been told of each.
        match begun < 10 {
            true => Ok(()),
            false => Err(format!(
                "it began {begun} tasks, of which nobody wants most"
            )),
        }
    });
}

async fn until_running_elsewhere(
    world: &World,
    web: ServiceId,
    slow: NodeId,
    count: usize,
) -> Outcome {
    let began = Instant::now();
    loop {
        let tasks = running(world, web).unwrap_or_default();
        let elsewhere = tasks.iter().filter(|task| task.node != Some(slow)).count();
        if elsewhere == count {
            return Ok(());
        }
        if began.elapsed() > NEXT {
            return Err(format!("{elsewhere} of {count} run on the other nodes"));
        }
        sleep(Duration::from_millis(10)).await;
    }
}

async fn until_over(term: &Term) -> Outcome {
    let began = Instant::now();
    while !term.is_over() {
        if began.elapsed() > NEXT {
            return Err("a term goes on that was lost".into());
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Leaders are cut off in the middle of a job, one after another, and come back. None of them goes on with what it had
/// begun: the job has as many tasks as it is to have.
#[test]
fn a_stale_loop_after_a_lost_term() {
    teach(
        "a_stale_loop_after_a_lost_term",
        |world, customer| async move {
            const TOTAL: u64 = 7;
            let job = make(&customer, Kind::Job(TOTAL)).await?;
            for _ in 0..3 {
                let (node, machine) = leader(&world)?;
                let term = node.term.borrow().clone().ok_or("it has no term")?;
                cut_off(&world, machine.id);
                until_led_by_another(&world, machine.id).await?;
                world.network.mend();
                converge::until_written(&world, NEXT).await?;
                until_over(&term).await?;
                if term.read().await.is_ok() {
                    return Err("a term that is over answers".into());
                }
            }
            converge::until_settled(&world, REST).await?;
            let tasks = state_tasks(&world, job);
            let done = tasks
                .iter()
                .filter(|task| task.status.state == TaskState::Complete);
            match (done.count() as u64, tasks.len() as u64) {
                (TOTAL, TOTAL) => Ok(()),
                (done, all) => Err(format!("{done} of {all} tasks are complete, for {TOTAL}")),
            }
        },
    );
}

/// Leadership goes round, back to those that had it before. Each time all nodes are in session with the next leader,
/// and what is asked of it runs.
#[test]
fn a_dispatcher_that_stays_stopped() {
    teach(
        "a_dispatcher_that_stays_stopped",
        |world, customer| async move {
            let web = make(&customer, Kind::Global).await?;
            until_running(&world, web, MACHINES, RUNS).await?;
            for round in 0..6 {
                let (node, machine) = leader(&world)?;
                let next = node.successor().ok_or("there is no successor")?;
                let store = node.store.clone().ok_or("it has no store")?;
                let moved = store.transfer(next).await;
                moved.map_err(|error| format!("leadership is not handed on: {error}"))?;
                until_led_by_another(&world, machine.id).await?;
                converge::until_settled(&world, NEXT).await?;
                let to = [Availability::Drain, Availability::Active][round % 2];
                customer.set(machine.id, to).await;
                let count = [MACHINES - 1, MACHINES][round % 2];
                until_running(&world, web, count, RUNS).await?;
                customer.set(machine.id, Availability::Active).await;
                until_running(&world, web, MACHINES, RUNS).await?;
            }
            Ok(())
        },
    );
}

/// A service is removed while one of its nodes is cut off: what it has there is not forgotten before it has stopped.
#[test]
fn removed_during_shutdown() {
    teach("removed_during_shutdown", |world, customer| async move {
        let web = make(&customer, Kind::Replicas(6)).await?;
        until_running(&world, web, 6, RUNS).await?;
        let (_, machine) = leader(&world)?;
        let lost = others(&world, machine.id)[0];
        cut_off(&world, lost);
        let began = Instant::now();
        // Those who ask the lost node are refused.
        while customer.forget(web).await.is_none() {
            if began.elapsed() > REST {
                return Err("it cannot be removed".into());
            }
        }
        sleep(NEXT).await;
        let left = state_tasks(&world, web);
        let there = world.machine(lost).ok_or("it is no machine")?;
        let mut runs = there.host.running();
        let mut known: Vec<_> = left.iter().map(|task| task.id).collect();
        runs.sort();
        known.sort();
        if runs.is_empty() || known != runs {
            return Err(format!("{runs:?} run, and {known:?} are known of"));
        }
        world.network.mend();
        // Sessions are over connections that are given up after 40 s, and what is asked for again is done at once.
        let began = Instant::now();
        while !there.host.running().is_empty() {
            if began.elapsed() > REST {
                return Err("they run on".into());
            }
            sleep(Duration::from_millis(10)).await;
        }
        let again = make(&customer, Kind::Replicas(3)).await?;
        until_running(&world, again, 3, RUNS).await?;
        forget(&customer, again).await
    });
}
