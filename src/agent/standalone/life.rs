//! The life of a standalone container: pure, Docker's rules.
//!
//! ```text
//! Making ─made→ Created ─asked→ Starting ─begun→ Running ─ended→ Exited ─asked→ Starting …
//!                                  │                │ └──ended, policy→ Restarting ─time→ Starting
//!                                  └─refused→ Created or Exited, with the reason
//! any ─asked, or --rm→ Removing → gone
//! ```
//!
//! A phase is on disk before its effects are begun: `Starting` before a process, `Removing` before anything is taken
//! away. So a daemon that finds one goes on with it. What is paused is the runtime's to know.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::Timestamp;
use crate::model::container::Exit;
use crate::model::standalone::{RestartKind, RestartPolicy};

/// The first pause before a container begins again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A container that ran for so long is taken for well, and its pauses begin anew.
const RAN_WELL: Duration = Duration::from_secs(10);

/// How far a standalone container is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Its parts are being made. Nobody was told of it yet.
    #[default]
    Making,
    /// Made. No process of it has run.
    Created,
    /// A process of it is to run.
    Starting,
    /// Its process runs.
    Running,
    /// Its process has ended, and another is to run after a pause.
    Restarting,
    /// Its process has ended.
    Exited,
    /// It is being removed.
    Removing,
}

impl Phase {
    /// Whether it counts as running for who waits until it does not.
    pub const fn is_active(self) -> bool {
        match self {
            Self::Starting | Self::Running | Self::Restarting => true,
            Self::Making | Self::Created | Self::Exited | Self::Removing => false,
        }
    }
}

/// What is remembered of a life.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Life {
    /// How far it is.
    pub phase: Phase,
    /// Its user has ended it since it was last asked to start.
    pub stopped: bool,
    /// How often it has begun again by itself since then.
    pub restarts: u32,
    /// When its last process began.
    pub started: Option<Timestamp>,
    /// How its last process ended.
    pub exit: Option<Exit>,
    /// Why its last process could not begin.
    pub error: String,
    /// Its removal takes its anonymous volumes along.
    pub with_volumes: bool,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing, until somebody asks.
    Rest,
    /// To begin it again after this.
    BeginAfter(Duration),
    /// To remove it.
    Remove,
}

/// The rules for one container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Whether it begins again.
    pub restart: RestartPolicy,
    /// It is removed when it has ended.
    pub auto_remove: bool,
}

/// The pauses before a container begins again, each twice the one before. Not remembered over a daemon's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pauses(Duration);

impl Pauses {
    fn next(&mut self, ran: Duration) -> Duration {
        if ran >= RAN_WELL {
            self.0 = Duration::ZERO;
        }
        self.0 = match self.0 {
            Duration::ZERO => FIRST_PAUSE,
            before => (before * 2).min(LONGEST_PAUSE),
        };
        self.0
    }
}

impl Life {
    /// Its user asks for a process.
    pub fn asked_to_start(&mut self) {
        self.phase = Phase::Starting;
        self.stopped = false;
        self.restarts = 0;
        self.error.clear();
    }

    /// Its process runs.
    pub fn begun(&mut self, at: Timestamp) {
        self.phase = Phase::Running;
        self.started = Some(at);
        self.exit = None;
        self.error.clear();
    }

    /// No process could begin. One that begins again by itself is tried again, as Docker does.
    pub fn refused(&mut self, why: &str, exit: Exit, rules: Rules, pauses: &mut Pauses) -> Next {
        self.error = why.to_owned();
        self.exit = Some(exit);
        if self.restarts > 0 && !self.stopped {
            return self.rest(exit, Duration::ZERO, rules, pauses);
        }
        self.phase = match self.started {
            None => Phase::Created,
            Some(_) => Phase::Exited,
        };
        self.end(rules)
    }

    /// Its process has ended.
    pub fn ended(&mut self, exit: Exit, rules: Rules, pauses: &mut Pauses) -> Next {
        let ran = self.started.map_or(Duration::ZERO, |at| exit.at.since(at));
        self.exit = Some(exit);
        self.rest(exit, ran, rules, pauses)
    }

    fn rest(&mut self, exit: Exit, ran: Duration, rules: Rules, pauses: &mut Pauses) -> Next {
        let policy = rules.restart;
        let pause = pauses.next(ran);
        let again = match policy.kind {
            RestartKind::No => false,
            RestartKind::Always | RestartKind::UnlessStopped => true,
            RestartKind::OnFailure => {
                exit.code != 0 && (policy.most == 0 || self.restarts < policy.most)
            }
        };
        if again && !self.stopped {
            self.phase = Phase::Restarting;
            self.restarts = self.restarts.saturating_add(1);
            return Next::BeginAfter(pause);
        }
        self.phase = Phase::Exited;
        self.end(rules)
    }

    fn end(&mut self, rules: Rules) -> Next {
        if !rules.auto_remove {
            return Next::Rest;
        }
        self.asked_to_go(true);
        Next::Remove
    }

    /// Its user has ended it: it does not begin again. Whether that ends a pause.
    pub fn asked_to_stop(&mut self) -> bool {
        self.stopped = true;
        let pauses = self.phase == Phase::Restarting;
        if pauses {
            self.phase = Phase::Exited;
        }
        pauses
    }

    /// It is to be removed.
    pub fn asked_to_go(&mut self, with_volumes: bool) {
        self.phase = Phase::Removing;
        self.stopped = true;
        self.with_volumes = with_volumes;
    }

    /// A daemon begins and finds it without a process: whether it is to begin again.
    pub fn begins_with_the_daemon(&self, rules: Rules) -> bool {
        let failed = self.exit.is_some_and(|exit| exit.code != 0);
        match (self.phase, rules.restart.kind) {
            (Phase::Starting | Phase::Restarting, _) => true,
            (Phase::Exited, RestartKind::Always) => true,
            (Phase::Exited, RestartKind::UnlessStopped) => !self.stopped,
            (Phase::Exited, RestartKind::OnFailure) => {
                let most = rules.restart.most;
                failed && !self.stopped && (most == 0 || self.restarts < most)
            }
            (Phase::Exited, RestartKind::No)
            | (Phase::Making | Phase::Created | Phase::Running | Phase::Removing, _) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(code: i32, second: i128) -> Exit {
        Exit {
            code,
            at: Timestamp::from_nanos(second * 1_000_000_000),
            oom: false,
        }
    }

    fn rules(kind: RestartKind, most: u32) -> Rules {
        Rules {
            restart: RestartPolicy { kind, most },
            auto_remove: false,
        }
    }

    fn running(at: i128) -> Life {
        let mut life = Life::default();
        life.asked_to_start();
        life.begun(Timestamp::from_nanos(at * 1_000_000_000));
        life
    }

    #[test]
    fn each_policy_decides_as_docker_does() {
        use RestartKind::*;
        let again = Next::BeginAfter(FIRST_PAUSE);
        for (kind, code, stopped, expected) in [
            (No, 1, false, Next::Rest),
            (OnFailure, 0, false, Next::Rest),
            (OnFailure, 3, false, again),
            (OnFailure, 3, true, Next::Rest),
            (Always, 0, false, again),
            (Always, 0, true, Next::Rest),
            (UnlessStopped, 0, false, again),
            (UnlessStopped, 137, true, Next::Rest),
        ] {
            let mut life = running(0);
            if stopped {
                life.asked_to_stop();
            }
            let next = life.ended(exit(code, 1), rules(kind, 0), &mut Pauses::default());
            assert_eq!(next, expected, "{kind:?} {code} {stopped}");
            let active = expected != Next::Rest;
            assert_eq!(life.phase.is_active(), active);
        }
    }

    #[test]
    fn failures_are_counted_and_pauses_double_up_to_a_minute() {
        let policy = rules(RestartKind::OnFailure, 3);
        let (mut life, mut pauses) = (running(0), Pauses::default());
        let mut seen = Vec::new();
        while let Next::BeginAfter(pause) = life.ended(exit(1, 1), policy, &mut pauses) {
            seen.push(pause.as_millis());
            life.begun(Timestamp::from_nanos(0));
        }
        assert_eq!(seen, [100, 200, 400]);
        assert_eq!((life.phase, life.restarts), (Phase::Exited, 3));

        let mut pauses = Pauses::default();
        let all: Vec<u128> = (0..12)
            .map(|_| pauses.next(Duration::ZERO).as_millis())
            .collect();
        assert_eq!(all[9..], [51_200, 60_000, 60_000]);
        assert_eq!(pauses.next(RAN_WELL), FIRST_PAUSE);
    }

    #[test]
    fn what_cannot_begin_says_why_and_is_tried_again_only_by_itself() {
        let policy = rules(RestartKind::Always, 0);
        let mut life = Life::default();
        life.asked_to_start();
        let next = life.refused("no", exit(127, 0), policy, &mut Pauses::default());
        assert_eq!((next, life.phase), (Next::Rest, Phase::Created));
        assert_eq!(life.error, "no");
        let (mut life, mut pauses) = (running(0), Pauses::default());
        life.ended(exit(0, 1), policy, &mut pauses);
        let next = life.refused("no", exit(127, 2), policy, &mut pauses);
        assert_eq!(next, Next::BeginAfter(2 * FIRST_PAUSE));
    }

    #[test]
    fn a_container_is_removed_when_it_has_ended_or_could_not_begin() {
        let once = Rules {
            auto_remove: true,
            ..Rules::default()
        };
        let mut life = running(0);
        let next = life.ended(exit(0, 1), once, &mut Pauses::default());
        assert_eq!((next, life.phase), (Next::Remove, Phase::Removing));
        let mut life = Life::default();
        life.asked_to_start();
        let next = life.refused("no", exit(127, 0), once, &mut Pauses::default());
        assert_eq!((next, life.with_volumes), (Next::Remove, true));
    }

    #[test]
    fn with_the_daemon_begins_what_was_not_ended_for_good() {
        use RestartKind::*;
        for (kind, stopped, code, begins) in [
            (No, false, 1, false),
            (Always, false, 0, true),
            (Always, true, 0, true),
            (UnlessStopped, false, 0, true),
            (UnlessStopped, true, 0, false),
            (OnFailure, false, 0, false),
            (OnFailure, false, 255, true),
            (OnFailure, true, 255, false),
        ] {
            let life = Life {
                phase: Phase::Exited,
                stopped,
                exit: Some(exit(code, 0)),
                ..Life::default()
            };
            let found = life.begins_with_the_daemon(rules(kind, 0));
            assert_eq!(found, begins, "{kind:?} {stopped} {code}");
        }
        let created = Life {
            phase: Phase::Created,
            ..Life::default()
        };
        assert!(!created.begins_with_the_daemon(rules(Always, 0)));
    }

    #[test]
    fn a_pause_ends_when_its_user_ends_the_container() {
        let mut life = running(0);
        life.ended(
            exit(1, 1),
            rules(RestartKind::Always, 0),
            &mut Pauses::default(),
        );
        assert!(life.asked_to_stop());
        assert_eq!(life.phase, Phase::Exited);
        assert!(!life.asked_to_stop());
    }
}
