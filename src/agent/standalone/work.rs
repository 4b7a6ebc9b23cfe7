//! The worker of one standalone container: begins it, watches it, begins it again, removes it.
//!
//! It alone calls the runtime's verbs that make or end something, one after another. What users do meanwhile
//! ([`acts`](super::acts)) is signals, and changes of the record, of which the worker is told.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{Instrument as _, info, info_span, warn};

use super::life::{Next, Pauses, Phase};
use super::record::Record;
use super::supplies::{Machine, Supplies};
use super::{ActError, Command, Entry, QUEUE, Shared, View, lock};
use crate::agent::runner::stock::HealthExec;
use crate::agent::runtime::{Failure, RuntimeError, Started as Begun};
use crate::agent::task::health::{Answer, Checkup, Health};
use crate::model::container::Exit;
use crate::model::{ContainerConfig, Timestamp};

/// The first wait after a failure that passes, doubled up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// A start that is asked for is tried for so long while containerd is not there.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// Tries of a removal before whoever asked is told; it goes on.
const REMOVAL_TRIES: u32 = 3;

/// A killed process is gone within this, or its removal goes on without it.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// What a container ends with of which nobody knows how it ended.
const LOST: i32 = 255;

type Started = oneshot::Sender<Result<bool, ActError>>;
type Removed = oneshot::Sender<Result<(), ActError>>;

/// Gives a container a worker.
pub(super) fn employ<M: Machine, S: Supplies, H: HealthExec>(
    shared: &Arc<Shared<M, S, H>>,
    record: Record,
    adopted: bool,
) {
    let id = record.config.id;
    let (commands, inbox) = mpsc::channel(QUEUE);
    let view = View {
        phase: record.life.phase,
        exit: record.life.exit,
        finished: 0,
        gone: false,
    };
    let entry = Arc::new(Entry {
        id,
        record: std::sync::Mutex::new(record),
        writing: tokio::sync::Mutex::default(),
        view: watch::channel(view).0,
        commands,
    });
    lock(&shared.book).entries.insert(id, entry.clone());
    let worker = Worker {
        shared: shared.clone(),
        entry,
        inbox,
        pauses: Pauses::default(),
        begins_at: Instant::now(),
        asked: None,
        leavers: Vec::new(),
        checkup: None,
        ask_at: Instant::now(),
        began: Instant::now(),
        quiet: false,
    };
    let stop = shared.stop.clone();
    let work = async move {
        stop.run_until_cancelled(Box::pin(worker.run(adopted)))
            .await;
    };
    shared
        .tasks
        .spawn(work.instrument(info_span!("container", id = %id.short())));
}

struct Worker<M, S, H> {
    shared: Arc<Shared<M, S, H>>,
    entry: Arc<Entry>,
    inbox: mpsc::Receiver<Command>,
    pauses: Pauses,
    /// When it begins again.
    begins_at: Instant,
    /// Who waits for it to begin.
    asked: Option<Started>,
    /// Who waits for it to be gone.
    leavers: Vec<Removed>,
    checkup: Option<Checkup>,
    ask_at: Instant,
    began: Instant,
    /// Nobody was told that it was made.
    quiet: bool,
}

impl<M: Machine, S: Supplies, H: HealthExec> Worker<M, S, H> {
    async fn run(mut self, adopted: bool) {
        if adopted {
            self.adopt().await;
        }
        loop {
            match self.entry.phase() {
                Phase::Starting => Box::pin(self.begin()).await,
                Phase::Running => self.watch().await,
                Phase::Restarting => self.pause().await,
                Phase::Removing => return Box::pin(self.remove()).await,
                Phase::Making | Phase::Created | Phase::Exited => match self.inbox.recv().await {
                    Some(command) => self.take(command).await,
                    None => return,
                },
            }
        }
    }

    /// Goes on where the daemon before has stopped.
    async fn adopt(&mut self) {
        let shared = self.shared.clone();
        let record = self.entry.record();
        match record.life.phase {
            Phase::Making => {
                self.quiet = true;
                let entry = self.entry.clone();
                shared
                    .note(&entry, |record| record.life.asked_to_go(true))
                    .await;
            }
            Phase::Exited if record.life.begins_with_the_daemon(record.rules()) => {
                info!("begins again with the daemon");
                let entry = self.entry.clone();
                shared
                    .note(&entry, |record| {
                        record.life.phase = Phase::Restarting;
                        record.life.stopped = false;
                        record.life.restarts += 1;
                    })
                    .await;
            }
            Phase::Running => self.examine(&record, Health::Starting),
            Phase::Created
            | Phase::Starting
            | Phase::Restarting
            | Phase::Exited
            | Phase::Removing => {}
        }
    }

    async fn take(&mut self, command: Command) {
        let phase = self.entry.phase();
        match command {
            Command::Look => {}
            Command::Start(reply) => match phase {
                Phase::Starting | Phase::Running | Phase::Restarting => drop(reply.send(Ok(false))),
                Phase::Making | Phase::Created | Phase::Exited => {
                    match self.make_ready(|record| record.life.asked_to_start()).await {
                        Ok(()) => self.asked = Some(reply),
                        Err(error) => drop(reply.send(Err(error))),
                    }
                }
                Phase::Removing => {
                    let words = "container is marked for removal and cannot be started";
                    drop(reply.send(Err(ActError::Conflict(words.into()))));
                }
            },
            Command::Remove(with_volumes, reply) => {
                let (shared, entry) = (self.shared.clone(), self.entry.clone());
                let marked = shared.change(&entry, |record| record.life.asked_to_go(with_volumes));
                match marked.await {
                    Ok(()) => self.leavers.push(reply),
                    Err(error) => drop(reply.send(Err(ActError::Disk(error)))),
                }
            }
        }
    }

    /// Has the runtime forget the process that was, and then notes that there is to be another.
    async fn make_ready(&mut self, mark: impl FnOnce(&mut Record)) -> Result<(), ActError> {
        let (shared, entry) = (self.shared.clone(), self.entry.clone());
        let mut patience = Patience::new();
        loop {
            match shared.tools.runtime.again(entry.id).await {
                Ok(()) => break,
                // It is made anew when it begins.
                Err(error) if error.failure == Failure::Gone => break,
                Err(error) if patience.tries_again(&error).await => {}
                Err(error) => return Err(ActError::Runtime(error)),
            }
        }
        shared.change(&entry, mark).await.map_err(ActError::Disk)
    }

    /// Begins its process, unless it has begun.
    async fn begin(&mut self) {
        let (shared, entry) = (self.shared.clone(), self.entry.clone());
        let record = entry.record();
        let tools = &shared.tools;
        let mut patience = Patience::new();
        let begun = loop {
            match self.try_to_begin(&record).await {
                Err(error) if patience.tries_again(&error).await => {}
                begun => break begun,
            }
        };
        match begun {
            Ok(started) => {
                shared
                    .note(&entry, |record| record.life.begun(started.at))
                    .await;
                self.examine(&record, Health::Starting);
                tools.happenings.tell_of(&record.config, "start", &[]);
                if let Some(reply) = self.asked.take() {
                    let _ = reply.send(Ok(true));
                }
            }
            Err(error) => self.not_begun(&record, error).await,
        }
    }

    async fn try_to_begin(&self, record: &Record) -> Result<Begun, RuntimeError> {
        let (tools, id) = (&self.shared.tools, record.config.id);
        for volume in &record.volumes {
            let held = tools.supplies.hold(id, volume).await;
            held.map_err(|error| RuntimeError {
                failure: error.failure,
                message: error.message.clone(),
                source: Some(Box::new(error)),
            })?;
        }
        tools.runtime.create(&record.config).await?;
        tools.runtime.start(id).await
    }

    async fn not_begun(&mut self, record: &Record, error: RuntimeError) {
        let (shared, entry) = (self.shared.clone(), self.entry.clone());
        warn!(%error, "the container could not begin");
        let exit = Exit {
            code: error.exit_code(),
            at: (shared.tools.clock)(),
            oom: false,
        };
        let (words, rules, pauses) = (error.message.clone(), record.rules(), &mut self.pauses);
        let next = shared
            .note(&entry, |record| {
                record.life.refused(&words, exit, rules, pauses)
            })
            .await;
        let code = [("exitCode", exit.code.to_string())];
        shared
            .tools
            .happenings
            .tell_of(&record.config, "die", &code);
        self.next(next);
        entry.finished();
        if let Some(reply) = self.asked.take() {
            let refused = match error.failure {
                Failure::Refused => ActError::Refused(error.message),
                Failure::Gone | Failure::Retry => ActError::Runtime(error),
            };
            let _ = reply.send(Err(refused));
        }
    }

    fn next(&mut self, next: Next) {
        if let Next::BeginAfter(pause) = next {
            self.begins_at = Instant::now() + pause;
        }
    }

    /// Waits between two processes.
    async fn pause(&mut self) {
        tokio::select! {
            biased;
            command = self.inbox.recv() => match command {
                Some(command) => self.take(command).await,
                None => std::future::pending().await,
            },
            () = sleep_until(self.begins_at) => {
                // Its user may have ended it just now.
                let mark = |record: &mut Record| {
                    if record.life.phase == Phase::Restarting {
                        record.life.phase = Phase::Starting;
                    }
                };
                if let Err(error) = self.make_ready(mark).await {
                    warn!(%error, "the container is not ready to begin again yet");
                    self.begins_at = Instant::now() + LONGEST_WAIT;
                }
            }
        }
    }

    /// Waits for its end, and asks for its health meanwhile.
    async fn watch(&mut self) {
        let shared = self.shared.clone();
        let entry = self.entry.clone();
        let mut exit = Box::pin(async {
            let mut wait = FIRST_WAIT;
            loop {
                match shared.tools.runtime.wait(entry.id).await {
                    Ok(exit) => return Some(exit),
                    Err(error) if error.failure == Failure::Gone => return None,
                    Err(error) => warn!(%error, "the container's end is waited for again"),
                }
                sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        });
        loop {
            let question = self.question();
            tokio::select! {
                biased;
                exit = &mut exit => return self.ended(exit).await,
                command = self.inbox.recv() => match command {
                    Some(command) => {
                        self.take(command).await;
                        if self.entry.phase() == Phase::Removing {
                            break;
                        }
                    }
                    None => std::future::pending().await,
                },
                (asked, answer) = async { match question {
                    Some((at, config, plan)) => {
                        sleep_until(at).await;
                        let asked = (Instant::now(), (shared.tools.clock)());
                        let process = plan.process(&config);
                        (asked, shared.tools.health.exec(config.id, process, plan.timeout).await)
                    }
                    None => std::future::pending().await,
                } } => self.answered(asked, answer),
            }
        }
        // It is to be removed while it runs.
        let record = self.entry.record();
        let signal = nix::libc::SIGKILL;
        let told = [("signal", signal.to_string())];
        shared
            .tools
            .happenings
            .tell_of(&record.config, "kill", &told);
        if let Err(error) = shared.tools.runtime.signal(self.entry.id, signal).await {
            warn!(%error, "the container that is to go was not killed at once");
        }
        if let Ok(Some(exit)) = timeout(KILL_DEADLINE, exit).await {
            self.tell_end(&record, exit);
            shared
                .note(&self.entry, |record| record.life.exit = Some(exit))
                .await;
        }
        self.entry.finished();
    }

    async fn ended(&mut self, exit: Option<Exit>) {
        let (shared, entry) = (self.shared.clone(), self.entry.clone());
        let exit = exit.unwrap_or_else(|| Exit {
            code: LOST,
            at: (shared.tools.clock)(),
            oom: false,
        });
        let before = entry.record();
        let (rules, pauses) = (before.rules(), &mut self.pauses);
        let next = shared
            .note(&entry, |record| record.life.ended(exit, rules, pauses))
            .await;
        self.tell_end(&before, exit);
        self.next(next);
        self.checkup = None;
        entry.finished();
    }

    fn tell_end(&self, record: &Record, exit: Exit) {
        let happenings = &self.shared.tools.happenings;
        if exit.oom {
            happenings.tell_of(&record.config, "oom", &[]);
        }
        let ran = record
            .life
            .started
            .map_or(0, |at| exit.at.since(at).as_secs());
        let more = [
            ("exitCode", exit.code.to_string()),
            ("execDuration", ran.to_string()),
        ];
        happenings.tell_of(&record.config, "die", &more);
    }

    /// Begins to ask for its health, if it is to be asked.
    fn examine(&mut self, record: &Record, health: Health) {
        self.began = Instant::now();
        self.checkup = record.health.clone().map(|plan| Checkup::new(plan, health));
        let vitals = &self.shared.tools.vitals;
        match &self.checkup {
            Some(checkup) => {
                self.ask_at = self.began + checkup.pause(Duration::ZERO);
                vitals.begin(self.entry.id, health);
            }
            None => vitals.forget(self.entry.id),
        }
    }

    fn question(
        &self,
    ) -> Option<(
        Instant,
        ContainerConfig,
        crate::agent::task::health::HealthPlan,
    )> {
        let plan = self.checkup.as_ref()?.plan().clone();
        Some((self.ask_at, self.entry.record().config, plan))
    }

    fn answered(&mut self, (asked, at): (Instant, Timestamp), answer: Answer) {
        let Some(checkup) = &mut self.checkup else {
            return;
        };
        let before = checkup.health();
        checkup.answered(answer, asked.duration_since(self.began));
        self.ask_at = Instant::now() + checkup.pause(self.began.elapsed());
        let health = checkup.health();
        let tools = &self.shared.tools;
        tools
            .vitals
            .answered(self.entry.id, health, (at, (tools.clock)(), answer));
        if health != before {
            info!(?health, "health changed");
            let record = self.entry.record();
            let action = format!("health_status: {}", word(health));
            tools.happenings.tell_of(&record.config, action, &[]);
        }
    }

    /// Removes all of it, however long that takes.
    async fn remove(mut self) {
        let (shared, entry) = (self.shared.clone(), self.entry.clone());
        let (mut wait, mut tries) = (FIRST_WAIT, 0);
        while let Err(why) = self.try_to_remove().await {
            tries += 1;
            warn!(why, tries, "the container cannot be removed yet");
            if tries == REMOVAL_TRIES {
                for leaver in self.leavers.drain(..) {
                    let words = format!("container is not removed yet, which goes on: {why}");
                    let _ = leaver.send(Err(ActError::Conflict(words)));
                }
            }
            sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
        let record = entry.record();
        {
            let mut book = lock(&shared.book);
            book.entries.remove(&entry.id);
            book.names.remove(&record.config.name);
        }
        shared.tools.vitals.forget(entry.id);
        info!(name = record.config.name, "container removed");
        if !self.quiet {
            shared
                .tools
                .happenings
                .tell_of(&record.config, "destroy", &[]);
        }
        entry.view.send_modify(|view| view.gone = true);
        for leaver in self.leavers.drain(..) {
            let _ = leaver.send(Ok(()));
        }
        self.inbox.close();
        while let Some(command) = self.inbox.recv().await {
            match command {
                Command::Remove(_, reply) => drop(reply.send(Ok(()))),
                Command::Start(reply) => drop(reply.send(Err(ActError::NoSuch(entry.id)))),
                Command::Look => {}
            }
        }
    }

    async fn try_to_remove(&self) -> Result<(), String> {
        let tools = &self.shared.tools;
        let record = self.entry.record();
        let id = self.entry.id;
        let removed = tools.runtime.remove(id).await;
        removed.map_err(|error| error.to_string())?;
        let volumes: &[String] = match record.life.with_volumes {
            true => &record.anonymous,
            false => &[],
        };
        let released = tools.supplies.release(id, volumes).await;
        released.map_err(|error| error.to_string())?;
        self.shared
            .shelf
            .remove(id)
            .map_err(|error| error.to_string())
    }
}

/// Patience with what may fail for reasons that pass, until [`START_DEADLINE`].
struct Patience {
    ends: Instant,
    wait: Duration,
}

impl Patience {
    fn new() -> Self {
        Self {
            ends: Instant::now() + START_DEADLINE,
            wait: FIRST_WAIT,
        }
    }

    /// Waits a moment when another try is worth it; else no.
    async fn tries_again(&mut self, error: &RuntimeError) -> bool {
        if error.failure != Failure::Retry || Instant::now() >= self.ends {
            return false;
        }
        warn!(%error, "tried again");
        sleep(self.wait).await;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        true
    }
}

/// As Docker writes it.
const fn word(health: Health) -> &'static str {
    match health {
        Health::Starting => "starting",
        Health::Healthy => "healthy",
        Health::Unhealthy => "unhealthy",
    }
}
