//! Whether a container is healthy: when it is asked, and what the answers mean.
//!
//! Docker's rules. The runner asks by running a program in the container and tells [`Checkup`] what came of it; all
//! times are since the container began, so that a clock that is set does not matter.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::ContainerConfig;
use crate::model::container::ProcessConfig;
use crate::model::image::Healthcheck;

/// Between two questions when nobody says; also how long an answer may take.
const USUAL: Duration = Duration::from_secs(30);

/// Between two questions while it starts, when nobody says.
const START_INTERVAL: Duration = Duration::from_secs(5);

/// Failures in a row that make it unhealthy when nobody says.
const RETRIES: u32 = 3;

/// How a container's health is asked, complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthPlan {
    /// The program that asks, and its arguments.
    pub args: Vec<String>,
    /// Between two questions.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Failures in a row that make it unhealthy.
    pub retries: u32,
    /// How long failures do not count after its start.
    pub start_period: Duration,
    /// Between two questions in that time.
    pub start_interval: Duration,
}

impl HealthPlan {
    /// What the user says, and the image where the user does not; `None` when it is not to be asked.
    pub fn of(user: Option<&Healthcheck>, image: Option<&Healthcheck>) -> Option<Self> {
        let (user, image) = (user.cloned(), image.cloned());
        let (user, image) = (user.unwrap_or_default(), image.unwrap_or_default());
        let test = match user.test.is_empty() {
            true => image.test,
            false => user.test,
        };
        let args = match test.split_first()? {
            (kind, args) if kind == "CMD" && !args.is_empty() => args.to_vec(),
            (kind, [line, ..]) if kind == "CMD-SHELL" => {
                vec!["/bin/sh".into(), "-c".into(), line.clone()]
            }
            // `NONE`, and what says nothing.
            _ => return None,
        };
        let first = |user: Duration, image: Duration, usual: Duration| {
            let said = [user, image].into_iter().find(|said| !said.is_zero());
            said.unwrap_or(usual)
        };
        let retries = [user.retries, image.retries];
        Some(Self {
            args,
            interval: first(user.interval, image.interval, USUAL),
            timeout: first(user.timeout, image.timeout, USUAL),
            retries: retries.into_iter().find(|n| *n > 0).unwrap_or(RETRIES),
            start_period: first(user.start_period, image.start_period, Duration::ZERO),
            start_interval: first(user.start_interval, image.start_interval, START_INTERVAL),
        })
    }

    /// The program that asks, in the container that it asks: its user, environment and directory.
    pub fn process(&self, container: &ContainerConfig) -> ProcessConfig {
        ProcessConfig {
            args: self.args.clone(),
            tty: false,
            stdin: false,
            ..container.process.clone()
        }
    }
}

/// How healthy a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// It has not said yet that it is well.
    Starting,
    /// It was well when it was asked last, or has not failed often enough since.
    Healthy,
    /// It has failed too often in a row.
    Unhealthy,
}

/// What came of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The program ended with this code; zero is well.
    Exited(i32),
    /// It did not end in time.
    TimedOut,
    /// It could not be run.
    Failed,
}

/// A container under observation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkup {
    plan: HealthPlan,
    health: Health,
    failures: u32,
}

impl Checkup {
    /// One that begins with `health`: [`Health::Healthy`] for a container that was found running well.
    pub fn new(plan: HealthPlan, health: Health) -> Self {
        Self {
            plan,
            health,
            failures: 0,
        }
    }

    /// How it is.
    pub fn health(&self) -> Health {
        self.health
    }

    /// How it is asked.
    pub fn plan(&self) -> &HealthPlan {
        &self.plan
    }

    /// How long to wait until the next question, for a container that runs for `age`.
    pub fn pause(&self, age: Duration) -> Duration {
        match self.health {
            Health::Starting if age < self.plan.start_period => self.plan.start_interval,
            Health::Starting | Health::Healthy | Health::Unhealthy => self.plan.interval,
        }
    }

    /// Takes the answer to a question that was asked at `age`.
    pub fn answered(&mut self, answer: Answer, age: Duration) {
        if answer == Answer::Exited(0) {
            self.failures = 0;
            self.health = Health::Healthy;
        } else if self.health != Health::Starting || age >= self.plan.start_period {
            self.failures = self.failures.saturating_add(1);
            if self.failures >= self.plan.retries {
                self.health = Health::Unhealthy;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn check(test: &[&str]) -> Healthcheck {
        Healthcheck {
            test: test.iter().map(ToString::to_string).collect(),
            ..Healthcheck::default()
        }
    }

    #[test]
    fn the_user_comes_before_the_image_field_by_field() {
        let image = Healthcheck {
            retries: 7,
            interval: SECOND,
            ..check(&["CMD", "ask", "it"])
        };
        let user = Healthcheck {
            interval: 2 * SECOND,
            ..Healthcheck::default()
        };
        let plan = HealthPlan::of(Some(&user), Some(&image)).unwrap();
        assert_eq!(plan.args, ["ask", "it"]);
        assert_eq!((plan.interval, plan.retries), (2 * SECOND, 7));
        assert_eq!((plan.timeout, plan.start_interval), (USUAL, START_INTERVAL));
        let shell = HealthPlan::of(Some(&check(&["CMD-SHELL", "a && b"])), Some(&image));
        assert_eq!(shell.unwrap().args, ["/bin/sh", "-c", "a && b"]);
    }

    #[test]
    fn nothing_is_asked_when_nothing_is_said() {
        let image = check(&["CMD", "ask"]);
        for user in [&["NONE"][..], &["CMD"], &["CMD-SHELL"], &["what"]] {
            assert_eq!(HealthPlan::of(Some(&check(user)), Some(&image)), None);
        }
        assert_eq!(HealthPlan::of(None, None), None);
        assert!(HealthPlan::of(None, Some(&image)).is_some());
    }

    /// Asks at each of these seconds, with what comes of it, and expects how it is after each.
    #[track_caller]
    fn course(answers: &[(u64, Answer, Health)]) {
        let said = Healthcheck {
            retries: 2,
            start_period: 10 * SECOND,
            start_interval: SECOND,
            interval: 5 * SECOND,
            ..check(&["CMD", "ask"])
        };
        let plan = HealthPlan::of(Some(&said), None).unwrap();
        let mut checkup = Checkup::new(plan, Health::Starting);
        for (at, answer, expected) in answers {
            checkup.answered(*answer, Duration::from_secs(*at));
            assert_eq!(checkup.health(), *expected, "at {at}");
        }
    }

    #[test]
    fn failures_count_after_the_start_or_after_it_was_well() {
        use Answer::*;
        use Health::*;
        course(&[
            (1, Exited(1), Starting),
            (5, TimedOut, Starting),
            (9, Failed, Starting),
            (10, Exited(1), Starting),
            (15, Exited(1), Unhealthy),
        ]);
        course(&[
            (1, Exited(0), Healthy),
            (2, Exited(1), Healthy),
            (3, Exited(0), Healthy),
            (4, Exited(1), Healthy),
            (5, TimedOut, Unhealthy),
        ]);
    }

    #[test]
    fn it_is_asked_more_often_while_it_starts() {
        let said = Healthcheck {
            start_period: 10 * SECOND,
            ..check(&["CMD", "ask"])
        };
        let plan = HealthPlan::of(Some(&said), None).unwrap();
        let mut checkup = Checkup::new(plan, Health::Starting);
        assert_eq!(checkup.pause(9 * SECOND), START_INTERVAL);
        assert_eq!(checkup.pause(10 * SECOND), USUAL);
        checkup.answered(Answer::Exited(0), SECOND);
        assert_eq!(checkup.pause(2 * SECOND), USUAL);
    }
}
