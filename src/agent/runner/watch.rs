//! Waits for what may happen to a container that runs: it ends, its health changes, its time is over, or something
//! else is wanted.

use std::pin::pin;

use tokio::time::{Instant, sleep_until};
use tracing::info;

use super::stock::{HealthExec, Stock};
use super::work::{Hitch, Work};
use crate::agent::runtime::{Failure, Runtime};
use crate::agent::task::health::{Answer, Checkup};
use crate::agent::task::kept::Want;
use crate::agent::task::machine::{Sight, Stopping};
use crate::model::ContainerId;
use crate::model::container::ProcessConfig;

/// A question that is due.
struct Question {
    at: Instant,
    process: ProcessConfig,
    deadline: std::time::Duration,
}

impl<R: Runtime, S: Stock, H: HealthExec> Work<R, S, H> {
    /// Returns once something has happened, which is then in `seen` or in the orders.
    pub(super) async fn watch(&mut self, want: Want) -> Result<(), Hitch> {
        let Some(id) = self.progress.container else {
            self.sees(Sight::Absent);
            return Ok(());
        };
        let shared = self.shared.clone();
        let mut exit = pin!(shared.runtime.wait(id));
        loop {
            let stops = self.seen.stopping != Stopping::No;
            let (patience_ends, question) = (self.patience_ends, self.question());
            tokio::select! {
                biased;
                exit = &mut exit => return match exit {
                    Ok(exit) => {
                        self.sees(Sight::Exited(exit));
                        Ok(())
                    }
                    Err(error) if error.failure == Failure::Gone => {
                        self.sees(Sight::Absent);
                        Ok(())
                    }
                    Err(error) => Err(error.into()),
                },
                () = self.otherwise(want) => return Ok(()),
                () = sleep_until(patience_ends), if stops => {
                    self.seen.stopping = Stopping::Overdue;
                    return Ok(());
                }
                // Boxed, for most tasks are never asked.
                (asked, answer) = async { match question {
                    Some(question) => Box::pin(ask(&shared.health, id, question)).await,
                    None => std::future::pending().await,
                } }, if !stops => {
                    if self.answered(asked, answer) {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// The next question for its health, if it is asked at all.
    fn question(&self) -> Option<Question> {
        let plan = self.checkup.as_ref()?.plan();
        let process = self.manners.as_ref()?.asks.as_deref()?;
        Some(Question {
            at: self.ask_at,
            process: process.clone(),
            deadline: plan.timeout,
        })
    }

    /// Takes an answer; whether that changes how it is.
    fn answered(&mut self, asked: Instant, answer: Answer) -> bool {
        let Some(checkup) = &mut self.checkup else {
            return false;
        };
        checkup.answered(answer, asked.duration_since(self.began));
        self.ask_at = Instant::now() + checkup.pause(self.began.elapsed());
        let health = Some(Checkup::health(checkup));
        let changed = self.seen.health != health;
        if changed {
            info!(?health, ?answer, "health changed");
        }
        self.seen.health = health;
        if let (Some(id), Some(health)) = (self.progress.container, health) {
            self.shared.health.hear(id, health, answer, changed);
        }
        changed
    }
}

/// Asks when it is time: when it was asked, and what came of it.
async fn ask<H: HealthExec>(health: &H, id: ContainerId, question: Question) -> (Instant, Answer) {
    sleep_until(question.at).await;
    let asked = Instant::now();
    let answer = health.exec(id, question.process, question.deadline).await;
    (asked, answer)
}
