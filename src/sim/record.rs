//! Writes down what a node shows to the rest of its machine: states, changes, leadership, replicas, orders, statuses.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;

use super::history::{Entry, History};
use super::node::Node;
use super::world::World;
use crate::agent::runner::Statuses;
use crate::cluster::store::Store;
use crate::model::NodeState;

/// Starts the scribes of a node.
pub(super) fn spawn(world: &Arc<World>, node: &Arc<Node>) {
    let history = world.history.clone();
    if let Some(store) = &node.store {
        node.run(states(history.clone(), node.clone(), store.clone()));
        node.run(changes(history.clone(), node.clone(), store.clone()));
        node.run(leadership(history.clone(), node.clone(), store.clone()));
        node.run(replicas(history.clone(), node.clone(), store.clone()));
        node.run(terms(history.clone(), node.clone()));
        node.run(statuses(history.clone(), node.clone()));
    }
    node.run(tasks(history.clone(), node.clone()));
    node.run(orders(history, node.clone()));
}

async fn tasks(history: History, node: Arc<Node>) {
    let mut statuses = node.runner.statuses();
    let mut told = Statuses::new();
    loop {
        let now = statuses.borrow_and_update().clone();
        for (task, status) in &now {
            if told.get(task) != Some(status) {
                history.add(Entry::Told(node.life, *task, status.clone()));
            }
        }
        told = now;
        if statuses.changed().await.is_err() {
            return;
        }
    }
}

async fn states(history: History, node: Arc<Node>, store: Store) {
    let mut states = store.watch();
    loop {
        let state = states.borrow_and_update().clone();
        if state.version > 0 {
            history.add(Entry::Shows(node.life, state));
        }
        if states.changed().await.is_err() {
            return;
        }
    }
}

async fn changes(history: History, node: Arc<Node>, store: Store) {
    let mut events = store.events();
    loop {
        match events.recv().await {
            Ok(event) => history.add(Entry::Applied(node.life, event)),
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

async fn leadership(history: History, node: Arc<Node>, store: Store) {
    let mut leadership = store.leadership();
    let mut led = None;
    loop {
        let now = *leadership.borrow_and_update();
        let leads = now.me.then_some(now.term);
        if leads != led {
            if let Some(term) = led {
                history.add(Entry::Ceased(node.life, term));
            }
            if let Some(term) = leads {
                history.add(Entry::Leads(node.life, term));
            }
            led = leads;
        }
        if leadership.changed().await.is_err() {
            return;
        }
    }
}

async fn replicas(history: History, node: Arc<Node>, store: Store) {
    let mut replicas = store.replicas();
    let mut told = None;
    loop {
        let (voters, learners) = {
            let now = replicas.borrow_and_update();
            (now.voters.clone(), now.learners.clone())
        };
        let known = Some((voters.clone(), learners.clone()));
        if known != told {
            told = known;
            history.add(Entry::Replicas {
                life: node.life,
                voters,
                learners,
            });
        }
        if replicas.changed().await.is_err() {
            return;
        }
    }
}

async fn terms(history: History, node: Arc<Node>) {
    let mut terms = node.term.clone();
    let mut before: Option<Arc<crate::manager::term::Term>> = None;
    loop {
        let now = terms.borrow_and_update().clone();
        if let Some(term) = now {
            history.add(Entry::TermBegan {
                life: node.life,
                term: term.number,
                clean: before.as_ref().is_none_or(|before| before.is_over()),
            });
            before = Some(term);
        }
        if terms.changed().await.is_err() {
            return;
        }
    }
}

async fn statuses(history: History, node: Arc<Node>) {
    let mut terms = node.term.clone();
    loop {
        let Some(term) = terms.borrow_and_update().clone() else {
            if terms.changed().await.is_err() {
                return;
            }
            continue;
        };
        let mut statuses = term.statuses();
        drop(term);
        let mut told: BTreeMap<_, NodeState> = BTreeMap::new();
        loop {
            let now = statuses.borrow_and_update().clone();
            for (id, status) in now.iter() {
                if told.insert(*id, status.state) != Some(status.state) {
                    history.add(Entry::Shown {
                        life: node.life,
                        node: *id,
                        state: status.state,
                    });
                }
            }
            tokio::select! {
                biased;
                changed = terms.changed() => if changed.is_err() { return } else { break },
                changed = statuses.changed() => if changed.is_err() { break },
            }
        }
    }
}

async fn orders(history: History, node: Arc<Node>) {
    let mut orders = node.orders.clone();
    let mut told = None;
    loop {
        let (term, in_session) = {
            let now = orders.borrow_and_update();
            (now.term, now.in_session)
        };
        if told != Some((term, in_session)) {
            told = Some((term, in_session));
            history.add(Entry::Obeys {
                life: node.life,
                term,
                in_session,
            });
        }
        if orders.changed().await.is_err() {
            return;
        }
    }
}
