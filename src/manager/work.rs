//! The leader's loop: looks at what has changed, lets a pass decide, proposes what comes of it, and waits.
//!
//! One for each term, ended with it. Everything is decided again from what is: the loop keeps no plan, and what it could
//! not write it thinks again. Its one memory is [`Dirt`], and a new leader makes that anew.
//!
//! A task that is made twice would run twice, and no guard can tell that two new tasks are meant for one place. So the
//! loop never decides while it cannot know whether its last write has come about: it first writes an empty proposal,
//! behind which every earlier one has been applied, or never will be.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info, warn};

use super::dirt::{self, Dirt};
use super::draft::View;
use super::pass::{self, Agenda, Aids, Outcome};
use super::term::Term;
use crate::cluster::store::ProposeError;
use crate::model::{Proposal, Rejection, TaskId, Timestamp};

/// After a write that failed, the first pause; doubled up to [`PAUSE_MOST`].
const PAUSE: Duration = Duration::from_millis(20);

/// The longest pause after a write that failed.
const PAUSE_MOST: Duration = Duration::from_secs(2);

/// The loop rests at least this long between two passes: a burst of news becomes one pass.
const REST: Duration = Duration::from_millis(2);

/// And at most this long, however long a pass takes.
const REST_MOST: Duration = Duration::from_millis(200);

/// How a write ended.
enum Written {
    /// As it was meant to.
    Yes,
    /// Something has changed meanwhile; nothing of this part and those behind it was written.
    No(Rejection),
    /// It cannot be known.
    Unknown(ProposeError),
}

/// Runs until the term ends.
pub(super) async fn keep(term: Arc<Term>) {
    let mut pace = Pace::default();
    settle(&term, &mut pace).await;
    let seed = rand::rng().random();
    let mut sources = Sources::new(&term);
    let mut dirt = Dirt::new(sources.look(&term));
    info!(
        term = term.number,
        services = dirt.view().state.work.services.len(),
        tasks = dirt.view().state.work.tasks.len(),
        "took up the services"
    );
    loop {
        if dirt.is_clean() {
            if sources.wait(&term, dirt.alarm()).await.is_err() {
                return;
            }
        } else {
            let began = Instant::now();
            let agenda = dirt.take();
            let outcome = pass(&mut dirt, &agenda, seed);
            dirt.wait(&agenda.services, &outcome.waits);
            pace.pass(began.elapsed());
            match write(&term, outcome).await {
                Written::Yes => pace.well(),
                Written::No(rejection) => {
                    debug!(%rejection, "a plan came too late and is made again");
                    dirt.give_back(agenda);
                    pace.badly();
                }
                Written::Unknown(error) => {
                    warn!(%error, "a plan may or may not have been written");
                    dirt.give_back(agenda);
                    pace.badly();
                    settle(&term, &mut pace).await;
                }
            }
            pace.rest().await;
        }
        let touched = dirt.follow(sources.look(&term));
        let state = dirt.view().state.clone();
        term.picture.send_if_modified(|picture| {
            // Readers lose nothing: what is dropped they find in the state.
            picture.forget(&state, touched);
            false
        });
    }
}

/// Returns when every write that was ever begun has been applied, or never will be.
async fn settle(term: &Term, pace: &mut Pace) {
    loop {
        let nothing = Proposal {
            at: (term.context.clock)(),
            changes: Vec::new(),
        };
        match term.context.store.propose(nothing).await {
            Ok(_) => return,
            Err(error) => {
                debug!(%error, "the store does not take writes yet");
                pace.badly();
                pace.rest().await;
            }
        }
    }
}

fn pass(dirt: &mut Dirt, agenda: &Agenda, seed: u64) -> Outcome {
    let (view, board, down) = dirt.aids();
    let mut ids = || TaskId::from_bits(rand::rng().random());
    let aids = Aids {
        down,
        board,
        ids: &mut ids,
        seed,
    };
    let outcome = pass::run(view, agenda, aids);
    debug!(
        services = agenda.services.len(),
        nodes = agenda.nodes.len(),
        said = agenda.said.len(),
        proposals = outcome.proposals.len(),
        waits = ?outcome.waits,
        "pass"
    );
    outcome
}

/// Proposes one part after another, as long as they are taken.
async fn write(term: &Term, outcome: Outcome) -> Written {
    for proposal in outcome.proposals {
        match term.context.store.propose(proposal).await {
            Ok(_) => {}
            Err(ProposeError::Rejected(rejection)) => {
                if rejection != Rejection::OutOfSequence {
                    warn!(%rejection, "a plan was refused");
                }
                return Written::No(rejection);
            }
            Err(error) => return Written::Unknown(error),
        }
    }
    Written::Yes
}

/// Where news comes from.
struct Sources {
    states: tokio::sync::watch::Receiver<Arc<crate::cluster::store::State>>,
    statuses: tokio::sync::watch::Receiver<super::term::Statuses>,
    picture: tokio::sync::watch::Receiver<super::picture::Picture>,
}

/// The term's news have come to an end.
struct Ended;

impl Sources {
    fn new(term: &Term) -> Self {
        Self {
            states: term.context.store.watch(),
            statuses: term.statuses.subscribe(),
            picture: term.picture.subscribe(),
        }
    }

    /// What there is by now.
    fn look(&mut self, term: &Term) -> View {
        let picture = self.picture.borrow_and_update().clone();
        let statuses = self.statuses.borrow_and_update().clone();
        View {
            state: self.states.borrow_and_update().clone(),
            observed: picture.observed,
            nodes: dirt::as_heard(&statuses, &picture.heard),
            now: (term.context.clock)(),
        }
    }

    /// Waits for news, or until `alarm`.
    async fn wait(&mut self, term: &Term, alarm: Option<Timestamp>) -> Result<(), Ended> {
        let due = alarm.map(|at| Instant::now() + at.since((term.context.clock)()));
        let alarm = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let news = tokio::select! {
            () = alarm => return Ok(()),
            news = self.states.changed() => news,
            news = self.statuses.changed() => news,
            news = self.picture.changed() => news,
        };
        news.map_err(|_| Ended)
    }
}

/// How fast the loop goes: half of the time at most, and slower where nothing works.
#[derive(Debug, Default)]
struct Pace {
    failures: u32,
    rest: Duration,
}

impl Pace {
    fn pass(&mut self, took: Duration) {
        self.rest = took.clamp(REST, REST_MOST);
    }

    fn well(&mut self) {
        self.failures = 0;
    }

    fn badly(&mut self) {
        let pause = PAUSE.saturating_mul(1 << self.failures.min(10));
        self.failures = self.failures.saturating_add(1);
        self.rest = self.rest.max(pause.min(PAUSE_MOST));
    }

    async fn rest(&mut self) {
        sleep(std::mem::take(&mut self.rest)).await;
    }
}
