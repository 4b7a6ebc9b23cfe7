//! What users do to a standalone container that is made: start, stop, kill, rename, update, remove, wait.
//!
//! Each act goes on to its end when whoever asks goes away.

use std::future::Future;
use std::time::Duration;

use nix::libc::SIGKILL;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::life::Phase;
use super::supplies::{Machine, Supplies};
use super::{ActError, Command, Standalone, View, lock, names};
use crate::agent::runner::stock::HealthExec;
use crate::agent::runtime::{Failure, RuntimeError};
use crate::model::ContainerId;
use crate::model::container::Exit;
use crate::model::limits::ResourceLimits;
use crate::model::signal::signal_number;
use crate::model::standalone::{RestartKind, RestartPolicy, WaitFor};

/// A killed container has ended within this, or something is wrong with the machine.
const KILL_DEADLINE: Duration = Duration::from_secs(15);

impl<M: Machine, S: Supplies, H: HealthExec> Standalone<M, S, H> {
    /// Runs `act` to its end.
    async fn carry<T, F>(&self, act: impl FnOnce(Self) -> F) -> Result<T, ActError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ActError>> + Send + 'static,
    {
        let stop = self.0.stop.clone();
        let act = act(self.clone());
        let done = self.0.tasks.spawn(async move {
            let act = Box::pin(act);
            stop.run_until_cancelled(act).await
        });
        let done = done.await.ok().flatten();
        done.unwrap_or(Err(ActError::Stopping))
    }

    async fn ask<T>(
        &self,
        id: ContainerId,
        command: impl FnOnce(oneshot::Sender<Result<T, ActError>>) -> Command,
    ) -> Result<T, ActError> {
        let entry = self.0.entry(id)?;
        let (reply, told) = oneshot::channel();
        let sent = entry.commands.send(command(reply)).await;
        sent.map_err(|_| ActError::NoSuch(id))?;
        told.await.map_err(|_| ActError::Stopping)?
    }

    /// Begins it; whether it did not run already. Returns when its process runs.
    pub async fn start(&self, id: ContainerId) -> Result<bool, ActError> {
        self.ask(id, Command::Start).await
    }

    /// Removes it, killed if it runs, with its anonymous volumes when that is wanted. Returns when it is gone.
    pub async fn remove(&self, id: ContainerId, with_volumes: bool) -> Result<(), ActError> {
        self.ask(id, |reply| Command::Remove(with_volumes, reply))
            .await
    }

    /// Sends a signal to its process. One that is to end it keeps it from beginning again.
    pub async fn kill(&self, id: ContainerId, signal: i32) -> Result<(), ActError> {
        self.carry(|own| async move { own.signal(id, signal).await })
            .await
    }

    async fn signal(&self, id: ContainerId, signal: i32) -> Result<(), ActError> {
        let entry = self.0.entry(id)?;
        let record = entry.record();
        let wanted = &record.wanted.stop_signal;
        let ends = signal == SIGKILL || wanted.is_empty() || signal_number(wanted) == Some(signal);
        if ends {
            self.stopped_by_user(id).await?;
        }
        if !self.is_running(id) {
            return Ok(());
        }
        let tools = &self.0.tools;
        let sent = tools.runtime.signal(id, signal).await;
        sent.map_err(ActError::Runtime)?;
        let told = [("signal", signal.to_string())];
        tools.happenings.tell_of(&record.config, "kill", &told);
        match tools.runtime.resume(id).await {
            Ok(()) => tools.happenings.tell_of(&record.config, "unpause", &[]),
            // It is not paused, or has ended.
            Err(error) if error.failure != Failure::Retry => {}
            Err(error) => return Err(ActError::Runtime(error)),
        }
        Ok(())
    }

    fn is_running(&self, id: ContainerId) -> bool {
        let entry = self.0.entry(id);
        entry.is_ok_and(|entry| matches!(entry.phase(), Phase::Running | Phase::Starting))
    }

    async fn stopped_by_user(&self, id: ContainerId) -> Result<(), ActError> {
        let entry = self.0.entry(id)?;
        let changed = self.0.change(&entry, |record| record.life.asked_to_stop());
        if changed.await.map_err(ActError::Disk)? {
            // Its worker is gone only when it is removed.
            let _ = entry.commands.send(Command::Look).await;
        }
        Ok(())
    }

    /// Asks it to end with `signal` or its own, and kills it after `grace` or its own; `None` inside waits for ever.
    /// Returns when it has ended; whether it ran.
    pub async fn stop(
        &self,
        id: ContainerId,
        signal: Option<i32>,
        grace: Option<Option<Duration>>,
    ) -> Result<bool, ActError> {
        self.carry(|own| async move { own.end(id, signal, grace).await })
            .await
    }

    async fn end(
        &self,
        id: ContainerId,
        signal: Option<i32>,
        grace: Option<Option<Duration>>,
    ) -> Result<bool, ActError> {
        let entry = self.0.entry(id)?;
        if !entry.phase().is_active() {
            return Ok(false);
        }
        let config = entry.record().config;
        self.stopped_by_user(id).await?;
        let usual = signal_number(&config.stop_signal).unwrap_or(nix::libc::SIGTERM);
        let mut view = entry.view.subscribe();
        let ended = |view: &View| !view.phase.is_active() || view.gone;
        // Over before it was asked, it is not asked.
        if !ended(&view.borrow_and_update()) {
            self.send(id, signal.unwrap_or(usual)).await?;
        }
        let in_time = match grace.unwrap_or(Some(config.stop_grace)) {
            None => view.wait_for(ended).await.is_ok(),
            Some(grace) => timeout(grace, view.wait_for(ended)).await.is_ok(),
        };
        if !in_time {
            self.send(id, SIGKILL).await?;
            if timeout(KILL_DEADLINE, view.wait_for(ended)).await.is_err() {
                return Err(ActError::Runtime(RuntimeError {
                    failure: Failure::Retry,
                    message: format!(
                        "container {id} did not end within {} s of SIGKILL",
                        KILL_DEADLINE.as_secs()
                    ),
                    source: None,
                }));
            }
        }
        self.0.tools.happenings.tell_of(&config, "stop", &[]);
        Ok(true)
    }

    /// A signal on the way to an end.
    async fn send(&self, id: ContainerId, signal: i32) -> Result<(), ActError> {
        match self.signal(id, signal).await {
            Err(ActError::NoSuch(_)) => Ok(()),
            Err(ActError::Runtime(error)) if error.failure == Failure::Gone => Ok(()),
            sent => sent,
        }
    }

    /// Ends it if it runs, and begins it.
    pub async fn restart(
        &self,
        id: ContainerId,
        signal: Option<i32>,
        grace: Option<Option<Duration>>,
    ) -> Result<(), ActError> {
        self.carry(|own| async move {
            let config = own.0.entry(id)?.record().config;
            own.end(id, signal, grace).await?;
            own.start(id).await?;
            own.0.tools.happenings.tell_of(&config, "restart", &[]);
            Ok(())
        })
        .await
    }

    /// Gives it another name.
    pub async fn rename(&self, id: ContainerId, name: &str) -> Result<(), ActError> {
        let new = name.trim_start_matches('/').to_owned();
        if new.is_empty() {
            let words = "Neither old nor new names may be empty";
            return Err(ActError::Invalid(words.into()));
        }
        if !names::is_name(&new) {
            return Err(ActError::Invalid(format!(
                "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
            )));
        }
        self.carry(|own| async move { own.take_name(id, new).await })
            .await
    }

    async fn take_name(&self, id: ContainerId, new: String) -> Result<(), ActError> {
        let entry = self.0.entry(id)?;
        let old = entry.record().config.name;
        if old == new {
            return Err(ActError::Invalid(
                "Renaming a container with the same name as its current name".into(),
            ));
        }
        {
            let mut book = lock(&self.0.book);
            if let Some(holder) = book.names.get(&new) {
                return Err(ActError::Conflict(format!(
                    "Conflict. The container name \"/{new}\" is already in use by container \"{holder}\". \
                     You have to remove (or rename) that container to be able to reuse that name."
                )));
            }
            book.names.insert(new.clone(), id);
        }
        let changed = self.0.change(&entry, |record| {
            record.config.name.clone_from(&new);
            record.wanted.name.clone_from(&new);
            record.config.clone()
        });
        let gone = match &changed.await {
            Ok(config) => {
                if let Err(error) = self.0.tools.runtime.rename(config) {
                    tracing::warn!(container = ?id, %error, "the log has the old name");
                }
                let told = [("oldName", format!("/{old}"))];
                self.0.tools.happenings.tell_of(config, "rename", &told);
                Ok(old)
            }
            Err(error) => Err((new, error.to_string())),
        };
        let mut book = lock(&self.0.book);
        match gone {
            Ok(old) => {
                book.names.remove(&old);
                Ok(())
            }
            Err((new, why)) => {
                book.names.remove(&new);
                Err(ActError::Disk(std::io::Error::other(why)))
            }
        }
    }

    /// Writes other limits down, and has a container that does not run have them. Those of one that runs have been
    /// given to it.
    pub async fn limit(
        &self,
        id: ContainerId,
        limits: ResourceLimits,
        restart: Option<RestartPolicy>,
    ) -> Result<(), ActError> {
        self.carry(|own| async move {
            let entry = own.0.entry(id)?;
            let record = entry.record();
            if record.wanted.auto_remove && restart.is_some_and(|one| one.kind != RestartKind::No) {
                return Err(ActError::Conflict(
                    "Restart policy cannot be updated because AutoRemove is enabled for the container".into(),
                ));
            }
            let mut config = record.config;
            if config.limits != limits {
                config.limits = limits.clone();
                if !record.life.phase.is_active() {
                    let given = own.0.tools.runtime.reconfigure(&config).await;
                    given.map_err(ActError::Runtime)?;
                }
            }
            let changed = own.0.change(&entry, |record| {
                record.config.limits.clone_from(&limits);
                record.wanted.limits = limits;
                if let Some(restart) = restart {
                    record.wanted.restart = restart;
                }
                record.config.clone()
            });
            let config = changed.await.map_err(ActError::Disk)?;
            own.0.tools.happenings.tell_of(&config, "update", &[]);
            Ok(())
        })
        .await
    }

    /// What comes when what is waited for has come about. Looks as of now: nothing is missed between this and that.
    pub fn wait(
        &self,
        id: ContainerId,
        what: WaitFor,
    ) -> Result<impl Future<Output = Result<Exit, ActError>> + Send + use<M, S, H>, ActError> {
        let entry = self.0.entry(id)?;
        let mut view = entry.view.subscribe();
        let first = view.borrow().finished;
        // Without an end of its own it counts as one that went well.
        let none = Exit {
            code: 0,
            at: Default::default(),
            oom: false,
        };
        Ok(async move {
            let over = |view: &View| match what {
                _ if view.gone => true,
                WaitFor::NotRunning => !view.phase.is_active(),
                WaitFor::NextExit => view.finished > first,
                WaitFor::Removed => false,
            };
            match view.wait_for(over).await {
                Ok(view) => Ok(view.exit.unwrap_or(none)),
                Err(_) => Err(ActError::Stopping),
            }
        })
    }

    /// Returns when it runs, or never will again.
    pub async fn until_it_runs(&self, id: ContainerId) -> bool {
        let Ok(entry) = self.0.entry(id) else {
            return false;
        };
        let mut view = entry.view.subscribe();
        let first = view.borrow().finished;
        let settled =
            |view: &View| view.gone || view.finished > first || view.phase == Phase::Running;
        let settled = view.wait_for(settled).await;
        settled.is_ok_and(|view| view.phase == Phase::Running)
    }
}
