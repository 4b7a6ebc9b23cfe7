//! The runtime of tasks, whose doings are told: to `docker events`, and how healthy its containers are.
//!
//! Decides nothing. What happened in another life of the daemon is not told again: a beginning and an end are told once
//! each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::agent::happenings::Happenings;
use crate::agent::runner::Clock;
use crate::agent::runner::stock::HealthExec;
use crate::agent::runtime::containerd::Containerd;
use crate::agent::runtime::{Found, Runtime, RuntimeError, Started};
use crate::agent::task::health::{Answer, Health};
use crate::agent::vitals::Vitals;
use crate::model::container::{ContainerState, Exit, ProcessConfig};
use crate::model::{ContainerConfig, ContainerId, Timestamp};

/// A runtime that is listened to.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) runtime: Containerd,
    pub(super) happenings: Happenings,
    pub(super) vitals: Vitals,
    pub(super) clock: Clocked,
    /// The containers that are there; when each began, while it runs.
    pub(super) known: Arc<Mutex<BTreeMap<ContainerId, Option<Timestamp>>>>,
}

/// A clock with a name.
#[derive(Clone)]
pub(super) struct Clocked(pub(super) Clock);

impl std::fmt::Debug for Clocked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clocked")
    }
}

impl Told {
    fn change<T>(
        &self,
        work: impl FnOnce(&mut BTreeMap<ContainerId, Option<Timestamp>>) -> T,
    ) -> T {
        work(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn tell(&self, id: ContainerId, action: &str, more: &[(&str, String)]) {
        if let Ok(Some(config)) = self.runtime.config(id) {
            self.happenings.tell_of(&config, action, more);
        }
    }
}

impl Runtime for Told {
    async fn list(&self) -> Result<Vec<Found>, RuntimeError> {
        let found = self.runtime.list().await?;
        self.change(|known| {
            for one in &found {
                let runs = matches!(one.state, Some(ContainerState::Running { .. }));
                known
                    .entry(one.id)
                    .or_insert_with(|| runs.then(Timestamp::default));
            }
        });
        Ok(found)
    }

    async fn inspect(&self, id: ContainerId) -> Result<Option<Found>, RuntimeError> {
        self.runtime.inspect(id).await
    }

    async fn create(&self, config: &ContainerConfig) -> Result<(), RuntimeError> {
        self.runtime.create(config).await?;
        if self.change(|known| known.insert(config.id, None).is_none()) {
            self.happenings.tell_of(config, "create", &[]);
        }
        Ok(())
    }

    async fn start(&self, id: ContainerId) -> Result<Started, RuntimeError> {
        let started = self.runtime.start(id).await?;
        let before = self.change(|known| known.insert(id, Some(started.at)));
        if before.flatten().is_none() {
            self.tell(id, "start", &[]);
        }
        Ok(started)
    }

    async fn wait(&self, id: ContainerId) -> Result<Exit, RuntimeError> {
        let exit = self.runtime.wait(id).await?;
        let began = self.change(|known| known.get_mut(&id).and_then(Option::take));
        if let Some(began) = began {
            if exit.oom {
                self.tell(id, "oom", &[]);
            }
            let ran = match began == Timestamp::default() {
                true => 0,
                false => exit.at.since(began).as_secs(),
            };
            let more = [
                ("exitCode", exit.code.to_string()),
                ("execDuration", ran.to_string()),
            ];
            self.tell(id, "die", &more);
        }
        Ok(exit)
    }

    async fn signal(&self, id: ContainerId, signal: i32) -> Result<(), RuntimeError> {
        self.runtime.signal(id, signal).await?;
        self.tell(id, "kill", &[("signal", signal.to_string())]);
        Ok(())
    }

    async fn remove(&self, id: ContainerId) -> Result<(), RuntimeError> {
        let config = self.runtime.config(id).ok().flatten();
        self.runtime.remove(id).await?;
        self.vitals.forget(id);
        let was_there = self.change(|known| known.remove(&id).is_some());
        if let Some(config) = config.filter(|_| was_there) {
            self.happenings.tell_of(&config, "destroy", &[]);
        }
        Ok(())
    }
}

impl HealthExec for Told {
    async fn exec(
        &self,
        container: ContainerId,
        process: ProcessConfig,
        deadline: Duration,
    ) -> Answer {
        HealthExec::exec(&self.runtime, container, process, deadline).await
    }

    fn hear(&self, container: ContainerId, health: Health, answer: Answer, changed: bool) {
        let now = (self.clock.0)();
        self.vitals.answered(container, health, (now, now, answer));
        if changed {
            let word = super::containers::health_word(health);
            self.tell(container, &format!("health_status: {word}"), &[]);
        }
    }
}
