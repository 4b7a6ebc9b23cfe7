//! A runtime in memory, with a fate: it can fail, and it can end the daemon's life at any step.
//!
//! Test builds only. What it holds outlives the daemon, as containers do. Its programs are the few scripts of the
//! conformance suite. It checks what no caller may do: two verbs at once on one container, and beginning one twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Failure, Found, Runtime, RuntimeError, Started};
use crate::model::container::{ContainerState, Exit};
use crate::model::{ContainerConfig, ContainerId, Timestamp};

/// When a life of the daemon ends, and how often what it calls fails.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fate(Arc<Mutex<Course>>);

#[derive(Debug, Default)]
struct Course {
    steps: u64,
    ends_at: Option<u64>,
    life: CancellationToken,
    /// One of so many calls fails.
    fails_one_in: Option<u64>,
    random: u64,
}

impl Fate {
    fn course(&self) -> MutexGuard<'_, Course> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new life, which ends at its step `ends_at`.
    pub(crate) fn reborn(&self, ends_at: Option<u64>) -> CancellationToken {
        let mut course = self.course();
        course.steps = 0;
        course.ends_at = ends_at;
        course.life = CancellationToken::new();
        course.life.clone()
    }

    /// From here on one of `one_in` calls fails, in an order that `seed` decides.
    pub(crate) fn fail_one_in(&self, one_in: Option<u64>, seed: u64) {
        let mut course = self.course();
        course.fails_one_in = one_in;
        course.random = seed | 1;
    }

    /// One step; whether the daemon is alive after it.
    pub(crate) fn step(&self) -> bool {
        let mut course = self.course();
        course.steps += 1;
        if course.ends_at.is_some_and(|end| course.steps >= end) {
            course.life.cancel();
        }
        !course.life.is_cancelled()
    }

    /// One step; nobody who takes it after the end comes back.
    pub(crate) async fn pass(&self) {
        if !self.step() {
            std::future::pending().await
        }
    }

    /// Whether this call is to fail.
    pub(crate) fn fails(&self) -> bool {
        let mut course = self.course();
        let Some(one_in) = course.fails_one_in else {
            return false;
        };
        course.random ^= course.random << 13;
        course.random ^= course.random >> 7;
        course.random ^= course.random << 17;
        course.random.is_multiple_of(one_in)
    }
}

/// A runtime in memory. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct FakeRuntime {
    fate: Fate,
    machine: Arc<watch::Sender<Machine>>,
}

#[derive(Debug, Default)]
struct Machine {
    containers: BTreeMap<ContainerId, Container>,
    busy: BTreeSet<ContainerId>,
    pids: u32,
    clock: i128,
    /// How often a process began, by the label that says of what.
    begun: BTreeMap<String, u32>,
}

#[derive(Debug)]
struct Container {
    config: ContainerConfig,
    state: Option<ContainerState>,
}

impl Machine {
    fn now(&mut self) -> Timestamp {
        self.clock += 1;
        Timestamp::from_nanos(self.clock)
    }

    fn end(&mut self, id: ContainerId, code: i32) {
        let at = self.now();
        if let Some(container) = self.containers.get_mut(&id) {
            container.state = Some(ContainerState::Exited(Exit {
                code,
                at,
                oom: false,
            }));
        }
    }
}

/// Held while a verb works on a container.
struct Busy<'a>(&'a FakeRuntime, ContainerId);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.machine.send_modify(|machine| {
            machine.busy.remove(&self.1);
        });
    }
}

fn error(failure: Failure, message: impl Into<String>) -> RuntimeError {
    RuntimeError {
        failure,
        message: message.into(),
        source: None,
    }
}

fn gone(id: ContainerId) -> RuntimeError {
    error(Failure::Gone, format!("No such container: {id}"))
}

impl FakeRuntime {
    pub(crate) fn new(fate: Fate) -> Self {
        Self {
            fate,
            machine: Arc::new(watch::Sender::default()),
        }
    }

    fn change<T>(&self, work: impl FnOnce(&mut Machine) -> T) -> T {
        let mut outcome = None;
        self.machine
            .send_modify(|machine| outcome = Some(work(machine)));
        outcome.unwrap()
    }

    fn busy(&self, id: ContainerId) -> Busy<'_> {
        let free = self.change(|machine| machine.busy.insert(id));
        assert!(free, "two verbs at once on container {id:?}");
        Busy(self, id)
    }

    /// A step, and perhaps a failure.
    async fn chance(&self) -> Result<(), RuntimeError> {
        self.fate.pass().await;
        match self.fate.fails() {
            true => Err(error(Failure::Retry, "containerd is not there")),
            false => Ok(()),
        }
    }

    /// Every container, in whatever state.
    pub(crate) fn containers(&self) -> BTreeMap<ContainerId, Option<ContainerState>> {
        let machine = self.machine.borrow();
        let all = machine.containers.iter();
        all.map(|(id, container)| (*id, container.state.clone()))
            .collect()
    }

    /// The config that a container was made with.
    pub(crate) fn config(&self, id: ContainerId) -> Option<ContainerConfig> {
        let machine = self.machine.borrow();
        machine.containers.get(&id).map(|it| it.config.clone())
    }

    /// How often a process of a container with this value of `label` began.
    pub(crate) fn begun(&self, value: &str) -> u32 {
        self.machine.borrow().begun.get(value).copied().unwrap_or(0)
    }

    /// The same of every value.
    pub(crate) fn all_begun(&self) -> BTreeMap<String, u32> {
        self.machine.borrow().begun.clone()
    }

    /// The process of a container ends by itself.
    pub(crate) fn exits(&self, id: ContainerId, code: i32) {
        self.change(|machine| machine.end(id, code));
    }

    /// A container that has ended may begin once more.
    pub(crate) async fn rewind(&self, id: ContainerId) -> Result<(), RuntimeError> {
        let _busy = self.busy(id);
        self.chance().await?;
        self.change(|machine| {
            let container = machine.containers.get_mut(&id).ok_or_else(|| gone(id))?;
            match container.state {
                Some(ContainerState::Running { .. }) => {
                    return Err(error(Failure::Refused, "it runs"));
                }
                Some(ContainerState::Exited(_)) => {
                    container.state = Some(ContainerState::Created);
                }
                Some(ContainerState::Created) | None => {}
            }
            Ok(())
        })?;
        self.chance().await
    }

    /// The machine was off: no process is left, and no container is whole.
    pub(crate) fn reboot(&self) {
        self.change(|machine| {
            for container in machine.containers.values_mut() {
                container.state = None;
            }
        });
    }

    /// Everything is removed from outside.
    pub(crate) fn clear(&self) {
        self.change(|machine| machine.containers.clear());
    }

    fn begin(&self, id: ContainerId) -> Result<Started, RuntimeError> {
        self.change(|machine| {
            let at = machine.now();
            machine.pids += 1;
            let pid = machine.pids;
            let container = machine.containers.get_mut(&id).ok_or_else(|| gone(id))?;
            match container.state {
                Some(ContainerState::Created) => {}
                Some(ContainerState::Running { pid, .. }) => return Ok(Started { pid, at }),
                Some(ContainerState::Exited(_)) => return Ok(Started { pid: 0, at }),
                None => return Err(error(Failure::Retry, "the container is not whole")),
            }
            let args = &container.config.process.args;
            if args[0].starts_with("/no/such") {
                let words = format!(
                    "exec: {:?}: stat {}: no such file or directory",
                    args[0], args[0]
                );
                return Err(error(Failure::Refused, words));
            }
            let script = args[args.len() - 1].clone();
            container.state = Some(ContainerState::Running { pid, paused: false });
            for label in container.config.labels.values() {
                *machine.begun.entry(label.clone()).or_default() += 1;
            }
            if let Some(code) = script.strip_prefix("exit ") {
                machine.end(id, code.parse().unwrap());
            }
            Ok(Started { pid, at })
        })
    }
}

impl Runtime for FakeRuntime {
    async fn list(&self) -> Result<Vec<Found>, RuntimeError> {
        self.chance().await?;
        let machine = self.machine.borrow();
        let all = machine.containers.iter();
        let all = all.map(|(id, container)| Found {
            id: *id,
            labels: container.config.labels.clone(),
            state: container.state.clone(),
        });
        Ok(all.collect())
    }

    async fn inspect(&self, id: ContainerId) -> Result<Option<Found>, RuntimeError> {
        self.chance().await?;
        let machine = self.machine.borrow();
        let container = machine.containers.get(&id);
        Ok(container.map(|container| Found {
            id,
            labels: container.config.labels.clone(),
            state: container.state.clone(),
        }))
    }

    async fn create(&self, config: &ContainerConfig) -> Result<(), RuntimeError> {
        let id = config.id;
        let _busy = self.busy(id);
        self.chance().await?;
        let there = self.change(|machine| {
            let old = machine.containers.get(&id);
            let there = old.is_some_and(|old| old.state.is_some());
            if !there {
                let container = Container {
                    config: config.clone(),
                    state: None,
                };
                machine.containers.insert(id, container);
            }
            there
        });
        if !there {
            if let Err(error) = self.chance().await {
                self.change(|machine| machine.containers.remove(&id));
                return Err(error);
            }
            self.change(|machine| {
                if let Some(container) = machine.containers.get_mut(&id) {
                    container.state = Some(ContainerState::Created);
                }
            });
        }
        self.chance().await
    }

    async fn start(&self, id: ContainerId) -> Result<Started, RuntimeError> {
        let _busy = self.busy(id);
        self.chance().await?;
        let started = self.begin(id)?;
        self.chance().await?;
        Ok(started)
    }

    async fn wait(&self, id: ContainerId) -> Result<Exit, RuntimeError> {
        self.chance().await?;
        let mut machine = self.machine.subscribe();
        let ended = |machine: &Machine| match machine.containers.get(&id) {
            None => Some(Err(gone(id))),
            Some(container) => match &container.state {
                Some(ContainerState::Exited(exit)) => Some(Ok(*exit)),
                Some(ContainerState::Created | ContainerState::Running { .. }) => None,
                None => Some(Err(gone(id))),
            },
        };
        let machine = machine.wait_for(|machine| ended(machine).is_some()).await;
        let outcome = ended(&machine.unwrap());
        outcome.unwrap()
    }

    async fn signal(&self, id: ContainerId, signal: i32) -> Result<(), RuntimeError> {
        let _busy = self.busy(id);
        self.chance().await?;
        self.change(|machine| {
            let container = machine.containers.get(&id).ok_or_else(|| gone(id))?;
            if matches!(container.state, Some(ContainerState::Running { .. })) {
                let script = container.config.process.args.last().cloned();
                match signal {
                    9 => machine.end(id, 137),
                    15 if script.is_some_and(|script| script.starts_with("trap ''")) => {}
                    other => machine.end(id, 128 + other),
                }
            }
            Ok(())
        })?;
        self.chance().await
    }

    async fn remove(&self, id: ContainerId) -> Result<(), RuntimeError> {
        let _busy = self.busy(id);
        self.chance().await?;
        self.change(|machine| {
            if let Some(container) = machine.containers.get_mut(&id) {
                container.state = None;
            }
        });
        self.chance().await?;
        self.change(|machine| machine.containers.remove(&id));
        self.chance().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::runtime::conformance::{self, Facts};
    use crate::model::Digest;
    use crate::model::container::ImageRef;

    #[tokio::test]
    async fn the_runtime_in_memory_does_what_every_runtime_must() {
        let facts = Facts {
            image: ImageRef {
                name: "busybox".into(),
                manifest: Digest::from_bytes([1; 32]),
            },
            shell: vec!["/bin/sh".into(), "-c".into()],
            seed: 0,
        };
        let runtime = FakeRuntime::new(Fate::default());
        conformance::all(&runtime, &facts).await;
        assert_eq!(runtime.containers(), BTreeMap::new());
    }
}
