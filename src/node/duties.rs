//! What a member does besides serving: tells its facts, learns others' addresses, renews its certificate, obeys the
//! leader's orders about trust and standing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};

use super::inbound::ask_leader;
use super::member::{End, Member, renewal_in, told_addresses};
use super::{clock, leaders};
use crate::agent::session::{Orders, SelfPortrait};
use crate::cluster::membership::{KnownPeers, Trouble};
use crate::cluster::store::Store;
use crate::cluster::transport::PeerEvent;
use crate::identity::credentials::Credentials;
use crate::identity::files::CertificateDir;
use crate::identity::key::NodeKey;
use crate::model::NodeId;
use crate::model::facts::{LeaderHint, key};
use crate::wire::control::{ControlReply, ControlRequest};
use crate::wire::join::JoinReply;

/// How often the machine's own addresses and resources are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// How often the peers that were met are written to disk, when they changed.
const REMEMBER_EVERY: Duration = Duration::from_secs(5);

/// A certificate that could not be renewed is asked for again after this.
const RENEW_AGAIN: Duration = Duration::from_secs(5);

/// The log's end is told by gossip at most this often.
const LOG_EVERY: Duration = Duration::from_secs(2);

/// Where members are, by ID.
type Known = BTreeMap<NodeId, Vec<SocketAddr>>;

/// Starts the duties of a membership that knows so many others.
pub fn spawn(member: &Arc<Member>, cache: KnownPeers, known: Known) {
    member.run(tell_facts(member.clone()));
    member.run(watch_machine(member.clone()));
    member.run(follow_peers(member.clone(), cache, known));
    member.run(watch_connections(member.clone()));
    member.run(obey(member.clone()));
    if let Some(store) = member.store.clone() {
        member.run(tell_leadership(member.clone(), store.clone()));
        member.run(tell_log(member.clone(), store.clone()));
        member.run(record_events(member.clone(), store.clone()));
        member.run(record_statuses(member.clone()));
        member.run(watch_store(member.clone(), store.clone()));
        member.run(follow_state(member.clone(), store));
    }
}

async fn publish<T: serde::Serialize>(member: &Member, key: &'static str, value: &T) {
    match serde_json::to_string(value) {
        Ok(text) => member.membership.publish(key, text).await,
        Err(error) => warn!(key, %error, "a fact cannot be written"),
    }
}

/// Tells what this node registers, at once and whenever it changes.
async fn tell_facts(member: Arc<Member>) {
    let mut portrait = member.portrait.subscribe();
    publish(&member, key::STANDING, &member.standing).await;
    loop {
        let SelfPortrait {
            description,
            addresses,
            ..
        } = portrait.borrow_and_update().clone();
        publish(&member, key::ADDRESSES, &addresses).await;
        publish(&member, key::DESCRIPTION, &description).await;
        member.transport.set_advertised(addresses);
        member.membership.push().await;
        if portrait.changed().await.is_err() {
            return;
        }
    }
}

/// Notices new addresses and resources of the machine.
async fn watch_machine(member: Arc<Member>) {
    let mut engine = member.engine.state();
    loop {
        engine.mark_unchanged();
        let description = member.engine.describe(&member.config.labels);
        let addresses = told_addresses(&member.config);
        member.portrait.send_if_modified(|portrait| {
            let changed = portrait.description != description || portrait.addresses != addresses;
            portrait.description = description;
            portrait.addresses = addresses;
            changed
        });
        // Looked at first: containerd may have answered since the membership's first description was made.
        tokio::select! {
            () = sleep(LOOK_EVERY) => {}
            changed = engine.changed() => if changed.is_err() { return },
        }
    }
}

/// Passes peers' addresses from gossip to the transport, and remembers them on disk.
async fn follow_peers(member: Arc<Member>, mut cache: KnownPeers, told: Known) {
    let mut remember = |known: &Known| {
        if !known.is_empty()
            && let Err(error) = cache.save(member.cluster, known)
        {
            warn!(error = %super::join::reason(&error), "peers are not remembered");
        }
    };
    // At once: a node that dies a moment after it has joined must find its cluster again.
    remember(&told);
    let mut peers = member.membership.peers();
    let mut known = Known::new();
    let mut save_at = Instant::now() + Duration::from_millis(500);
    loop {
        let seen = peers.borrow_and_update().clone();
        for (node, view) in &seen.nodes {
            let addresses = &view.facts.addresses;
            if *node != member.node && !addresses.is_empty() && known.get(node) != Some(addresses) {
                member.transport.learn(*node, addresses);
                known.insert(*node, addresses.clone());
            }
        }
        tokio::select! {
            changed = peers.changed() => if changed.is_err() { return },
            () = sleep_until(save_at) => {
                save_at = Instant::now() + REMEMBER_EVERY;
                remember(&known);
            }
        }
    }
}

/// Makes new connections known to gossip, and stops a node whose identity is in use elsewhere.
async fn watch_connections(member: Arc<Member>) {
    let mut events = member.transport.events();
    let mut trouble = member.membership.trouble();
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Ok(PeerEvent::Connected { node, .. }) => member.membership.meet(node),
                // A peer that knows the older process refused this one: it is the copy.
                Ok(PeerEvent::Twin { node, .. }) if node == member.node => member.finish(End::Twin),
                Ok(PeerEvent::ShutOut { by, standing }) => {
                    let leader = member.leader.borrow().map(|hint| hint.leader);
                    if leaders::believes_removal(leader, &member.peers(), by, standing) {
                        member.finish(End::Expelled);
                    }
                }
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            changed = trouble.changed() => {
                if changed.is_err() { return }
                match &*trouble.borrow_and_update() {
                    // The newer of the two is the copy: it gives way.
                    Some(Trouble::Twin(twin)) if twin.generation <= member.generation => member.finish(End::Twin),
                    Some(Trouble::Twin(twin)) => {
                        warn!(generation = twin.generation, "another machine runs with a copy of this node's data directory: stop it there");
                    }
                    Some(Trouble::Ended(why)) => member.finish(End::Broken(why.clone())),
                    None => {}
                }
            }
        }
    }
}

/// Tells everyone at once that this node leads.
async fn tell_leadership(member: Arc<Member>, store: Store) {
    let mut leadership = store.leadership();
    loop {
        let now = *leadership.borrow_and_update();
        if now.me {
            publish(
                &member,
                key::LEADER,
                &LeaderHint {
                    term: now.term,
                    leader: member.node,
                },
            )
            .await;
            member.membership.push().await;
        }
        if leadership.changed().await.is_err() {
            return;
        }
    }
}

/// Tells how long this node's log is, so that the newest survivor can be found when a quorum is lost.
async fn tell_log(member: Arc<Member>, store: Store) {
    let mut replicas = store.replicas();
    let mut told = None;
    loop {
        let last = replicas.borrow_and_update().last_log;
        if last != told {
            publish(&member, key::LAST_LOG, &last).await;
            told = last;
        }
        sleep(LOG_EVERY).await;
        if replicas.changed().await.is_err() {
            return;
        }
    }
}

async fn record_events(member: Arc<Member>, store: Store) {
    let mut events = store.events();
    loop {
        match events.recv().await {
            Ok(event) => member.events.applied(&event, clock::now()),
            Err(RecvError::Lagged(missed)) => warn!(missed, "events were missed"),
            Err(RecvError::Closed) => return,
        }
    }
}

/// Records changes of nodes' statuses while this node leads.
async fn record_statuses(member: Arc<Member>) {
    let mut terms = member.term.clone();
    loop {
        let term = terms.borrow_and_update().clone();
        let Some(term) = term else {
            if terms.changed().await.is_err() {
                return;
            }
            continue;
        };
        let mut statuses = term.statuses();
        let mut before = statuses.borrow_and_update().clone();
        loop {
            tokio::select! {
                changed = statuses.changed() => if changed.is_err() { break },
                changed = terms.changed() => if changed.is_err() { return } else { break },
            }
            let after = statuses.borrow_and_update().clone();
            let peers = member.peers();
            let names = |node| {
                let view = peers.nodes.get(&node);
                let described = view.and_then(|view| view.facts.description.as_ref());
                described
                    .map(|description| description.hostname.clone())
                    .unwrap_or_default()
            };
            member
                .events
                .statuses(&before, &after, &names, clock::now());
            before = after;
        }
        drop(term);
    }
}

/// Ends the membership when the store can no longer be written.
async fn watch_store(member: Arc<Member>, store: Store) {
    let mut stopped = store.stopped();
    if let Ok(stopped) = stopped.wait_for(Option::is_some).await
        && let Some(stopped) = &*stopped
    {
        member.finish(End::Broken(stopped.to_string()));
    }
}

/// Keeps the list of those who are shut out, on a node with a replica.
async fn follow_state(member: Arc<Member>, store: Store) {
    let mut states = store.watch();
    loop {
        let removed = states.borrow_and_update().removed.keys().copied().collect();
        shut_out(&member, removed);
        if states.changed().await.is_err() {
            return;
        }
    }
}

fn shut_out(member: &Member, removed: BTreeSet<NodeId>) {
    for node in member.shut_out.set(removed) {
        info!(%node, "shut out");
        member
            .transport
            .drop_peer(node, "this node was removed from the cluster");
        member.membership.forget(node);
    }
}

/// Does what the leader says, and renews the certificate in time.
async fn obey(member: Arc<Member>) {
    let mut orders = member.orders.clone();
    let mut due = {
        let credentials = member.credentials.borrow();
        Instant::now() + renewal_in(&credentials, rand::rng().random(), clock::now())
    };
    loop {
        let now = orders.borrow_and_update().clone();
        if now.expelled {
            member.finish(End::Expelled);
            return;
        }
        let wanted = now.term > 0 && wants_renewal(&member, &now);
        if wanted || Instant::now() >= due {
            if renew(&member).await {
                let credentials = member.credentials.borrow().clone();
                if credentials.standing() != member.standing {
                    member.finish(End::StandingChanged);
                    return;
                }
                due = Instant::now() + renewal_in(&credentials, rand::rng().random(), clock::now());
            } else {
                due = Instant::now() + RENEW_AGAIN;
            }
        }
        if now.term > 0 && member.store.is_none() {
            shut_out(&member, now.removed.iter().copied().collect());
        }
        let wake = if wanted {
            due.min(Instant::now() + RENEW_AGAIN)
        } else {
            due
        };
        tokio::select! {
            changed = orders.changed() => if changed.is_err() { return },
            () = sleep_until(wake) => {}
        }
    }
}

fn wants_renewal(member: &Member, orders: &Orders) -> bool {
    let credentials = member.credentials.borrow();
    credentials.issuer() != orders.issuer
        || credentials.standing() != orders.standing
        || credentials.roots_pem() != orders.roots_pem
}

/// Gets another certificate from the leader and puts it to use. False when it has to be tried again.
async fn renew(member: &Member) -> bool {
    match fetch(member).await {
        Ok(credentials) => {
            info!(until = %credentials.not_after(), standing = ?credentials.standing(), "certificate renewed");
            let issuer = credentials.issuer().to_owned();
            member.credentials.send_replace(Arc::new(credentials));
            member.portrait.send_if_modified(|portrait| {
                let changed = portrait.issuer != issuer;
                portrait.issuer = issuer;
                changed
            });
            true
        }
        Err(why) => {
            warn!(why, "the certificate was not renewed");
            false
        }
    }
}

async fn fetch(member: &Member) -> Result<Credentials, String> {
    let files = CertificateDir::new(&member.config.data_root);
    let stored = files
        .load()
        .map_err(|error| super::join::reason(&error))?
        .ok_or("the node's key is missing")?;
    let key = NodeKey::from_pem(&stored.key_pem).map_err(|error| super::join::reason(&error))?;
    let csr_der = key.csr_der().map_err(|error| super::join::reason(&error))?;
    let admission = match ask_leader(member, ControlRequest::Certificate { csr_der }).await {
        ControlReply::Join(JoinReply::Admitted(admission)) => admission,
        ControlReply::Join(JoinReply::Refused(why) | JoinReply::Later(why))
        | ControlReply::Refused(why) => {
            return Err(why);
        }
        ControlReply::NotLeader(_) => return Err("the leader was not reached".into()),
        ControlReply::Join(JoinReply::Elsewhere(_)) | ControlReply::Done => {
            return Err("the leader answered something else".into());
        }
    };
    let credentials =
        Credentials::from_pem(&stored.key_pem, &admission.chain_pem, &admission.roots_pem)
            .map_err(|error| super::join::reason(&error))?;
    files
        .save_certificates(&admission.chain_pem, &admission.roots_pem)
        .map_err(|error| super::join::reason(&error))?;
    Ok(credentials)
}
