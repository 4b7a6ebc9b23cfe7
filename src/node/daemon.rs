//! The daemon's situation: in no cluster, joining, a member, or unable to be one; and the ways between.
//!
//! `init`, `join`, `leave` and `recover` happen one at a time. A membership that cannot start is tried again, since
//! what is in its way (a port, a clock, a cluster that is off) may go; the API answers meanwhile and says why.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use super::engine::Engine;
use super::found::{self, FoundError};
use super::join::{self, Applicant, JoinError};
use super::local::{MemberDir, Memory, MemoryError};
use super::member::{End, Host, Member, MemberConfig, StartError, told_addresses};
use super::{depart, machine};
use crate::agent::session::Farewell;
use crate::cluster::store::{self, StoreConfig};
use crate::config::Config;
use crate::identity::files::CertificateDir;
use crate::identity::key::NodeKey;
use crate::identity::token::JoinToken;
use crate::model::{Availability, NodeId, Proposal};

/// A new member has a session with the leader within this, or the user is told that it takes longer.
const SESSION_DEADLINE: Duration = Duration::from_secs(15);

/// A membership that could not start is tried again after this, at first; doubled up to [`START_AGAIN_MOST`].
const START_AGAIN: Duration = Duration::from_secs(1);

/// The longest wait between two tries to start.
const START_AGAIN_MOST: Duration = Duration::from_secs(30);

/// Where the daemon stands.
#[derive(Clone, Debug)]
pub enum Situation {
    /// In no cluster.
    Inactive,
    /// Founding, joining or starting again.
    Pending,
    /// A member.
    Active(Arc<Member>),
    /// It should be a member and cannot be, for this reason.
    Failed(String),
}

/// Why a change of the situation was refused. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// Already in a cluster.
    #[error(
        "This node is already part of a swarm. Use \"docker swarm leave\" to leave this swarm and join another one."
    )]
    AlreadyMember,
    /// In no cluster.
    #[error("This node is not part of a swarm")]
    NotMember,
    /// The token does not parse.
    #[error("invalid join token: {0}")]
    Token(String),
    /// Not let in.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The cluster could not be founded.
    #[error(transparent)]
    Found(#[from] FoundError),
    /// The membership did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The node's own files failed.
    #[error("{0}")]
    Files(String),
    /// Started, but the leader was not reached in time.
    #[error(
        "Timeout was reached before node joined. The attempt to join the swarm will continue in the background. Use the \"docker info\" command to see the current swarm status of your node."
    )]
    Slow,
    /// Leaving would cost the cluster something; `--force` does it all the same.
    #[error("{0}")]
    Leave(String),
    /// There is nothing to recover, or not from here.
    #[error("{0}")]
    Recover(String),
}

impl From<MemoryError> for ChangeError {
    fn from(error: MemoryError) -> Self {
        Self::Files(join::reason(&error))
    }
}

/// What `join` was asked.
#[derive(Clone, Debug)]
pub struct JoinOrder {
    /// The token as given.
    pub token: String,
    /// Members to ask, besides those in the token.
    pub hosts: Vec<String>,
    /// Where to listen; `None` for the daemon's own setting.
    pub listen: Option<SocketAddr>,
    /// What to advertise; `None` for the daemon's own setting.
    pub advertise: Option<SocketAddr>,
    /// Whether the node wants tasks.
    pub availability: Availability,
}

/// One node's daemon.
#[derive(Debug)]
pub struct Daemon {
    /// Its settings.
    pub config: Config,
    /// What runs this machine's containers.
    pub engine: Arc<Engine>,
    situation: watch::Sender<Situation>,
    leader: watch::Sender<Option<NodeId>>,
    change: Mutex<()>,
    host: Host,
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl Daemon {
    /// A daemon in no cluster yet.
    pub fn new(
        config: Config,
        host: Host,
        tracker: TaskTracker,
        stop: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            config,
            situation: watch::channel(Situation::Inactive).0,
            leader: watch::channel(None).0,
            change: Mutex::new(()),
            engine: host.engine.clone(),
            host,
            stop,
            tracker,
        })
    }

    /// Where the daemon stands, as it changes.
    pub fn situation(&self) -> watch::Receiver<Situation> {
        self.situation.subscribe()
    }

    /// Whom this node believes to lead, as it changes.
    pub fn leader(&self) -> watch::Receiver<Option<NodeId>> {
        self.leader.subscribe()
    }

    /// The membership, if there is one.
    pub fn member(&self) -> Option<Arc<Member>> {
        match &*self.situation.borrow() {
            Situation::Active(member) => Some(member.clone()),
            Situation::Inactive | Situation::Pending | Situation::Failed(_) => None,
        }
    }

    /// Where all of this node's files are.
    pub fn data_root(&self) -> PathBuf {
        self.config.data_root.clone()
    }

    fn dir(&self) -> MemberDir {
        MemberDir::new(&self.config.data_root)
    }

    fn member_config(&self, memory: &Memory) -> MemberConfig {
        MemberConfig {
            data_root: self.config.data_root.clone(),
            listen: machine::bindable(memory.listen.unwrap_or(self.config.listen_addr)),
            advertise: memory.advertise.or(self.config.advertise_addr),
            labels: self.config.labels.clone(),
        }
    }

    /// Takes an earlier membership up again, if there was one; keeps trying until it starts or the daemon stops.
    pub fn resume(self: &Arc<Self>) -> Result<(), MemoryError> {
        if self.dir().load()?.is_none() {
            return Ok(());
        }
        self.situation.send_replace(Situation::Pending);
        let daemon = self.clone();
        self.tracker.spawn(async move {
            let stop = daemon.stop.clone();
            stop.run_until_cancelled(Box::pin(daemon.start_again()))
                .await;
        });
        Ok(())
    }

    async fn start_again(&self) {
        let mut wait = START_AGAIN;
        loop {
            {
                let _one = self.change.lock().await;
                match self.dir().load() {
                    Ok(None) => return,
                    Ok(Some(memory)) => match self.begin(&memory, None, Vec::new()).await {
                        Ok(_) => return,
                        Err(error) => self.fail(error.to_string()),
                    },
                    Err(error) => self.fail(join::reason(&error)),
                }
            }
            sleep(wait).await;
            wait = (wait * 2).min(START_AGAIN_MOST);
        }
    }

    fn fail(&self, why: String) {
        error!(why, "this node cannot take part in its cluster");
        self.situation.send_replace(Situation::Failed(why));
    }

    async fn begin(
        &self,
        memory: &Memory,
        first: Option<Proposal>,
        peers: Vec<(NodeId, Vec<SocketAddr>)>,
    ) -> Result<Arc<Member>, StartError> {
        let member =
            Member::start(self.member_config(memory), first, peers, self.host.clone()).await?;
        self.situation
            .send_replace(Situation::Active(member.clone()));
        Ok(member)
    }

    /// Watches over each membership: passes on whom it believes to lead, and does what follows from its end.
    pub async fn supervise(self: Arc<Self>) {
        let mut situation = self.situation.subscribe();
        loop {
            let current = situation.borrow_and_update().clone();
            let Situation::Active(member) = current else {
                self.leader.send_replace(None);
                if situation.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let (mut leader, mut end) = (member.leader.clone(), member.end.subscribe());
            let why = loop {
                let hint = leader.borrow_and_update().map(|hint| hint.leader);
                self.leader
                    .send_if_modified(|known| std::mem::replace(known, hint) != hint);
                let ended = end.borrow_and_update().clone();
                if ended.is_some() {
                    break ended;
                }
                tokio::select! {
                    _ = end.changed() => {}
                    _ = leader.changed() => {}
                    _ = situation.changed() => break None,
                }
            };
            if let Some(why) = why {
                self.end(member, why).await;
            }
        }
    }

    /// Does what follows from the end of a membership, unless it was replaced meanwhile.
    async fn end(&self, member: Arc<Member>, why: End) {
        let one = self.change.lock().await;
        if !self
            .member()
            .is_some_and(|current| Arc::ptr_eq(&current, &member))
        {
            return;
        }
        match why {
            End::StandingChanged => {
                info!("this node's standing has changed; it starts again with the new one");
                self.situation.send_replace(Situation::Pending);
                member.stop(Farewell::Restarting).await;
                drop((one, member));
                Box::pin(self.start_again()).await;
            }
            End::Expelled => {
                member.stop(Farewell::Leaving).await;
                self.engine.forget().await;
                self.fail("this node was removed from the cluster: run \"skein leave --force\", then join again with a token".into());
            }
            End::Twin => {
                member.stop(Farewell::Restarting).await;
                self.fail("another running node has this node's identity: its data directory was copied. Run \"skein leave --force\" on the copy and join it as a node of its own".into());
            }
            End::Broken(words) => {
                member.stop(Farewell::Restarting).await;
                self.fail(words);
                drop((one, member));
                // What broke it may be mended from outside: a full disk, say.
                sleep(START_AGAIN).await;
                Box::pin(self.start_again()).await;
            }
        }
    }

    /// Founds a cluster of this one node.
    pub async fn init(&self, order: found::Order) -> Result<NodeId, ChangeError> {
        let _one = self.change.lock().await;
        self.check_inactive()?;
        self.situation.send_replace(Situation::Pending);
        let outcome = self.found(order).await;
        if outcome.is_err() {
            self.forget().await;
        }
        outcome
    }

    async fn found(&self, order: found::Order) -> Result<NodeId, ChangeError> {
        let memory = Memory {
            listen: order.listen,
            advertise: order.advertise,
            ..Memory::default()
        };
        let config = self.member_config(&memory);
        let description = self.engine.describe(&config.labels);
        let first = found::prepare(&config, order, description)?;
        self.dir().save(&memory)?;
        let member = self.begin(&memory, Some(first), Vec::new()).await?;
        self.wait_for_session(&member).await?;
        Ok(member.node)
    }

    /// Joins a cluster.
    pub async fn join(&self, order: JoinOrder) -> Result<(), ChangeError> {
        let _one = self.change.lock().await;
        self.check_inactive()?;
        let token: JoinToken =
            order
                .token
                .parse()
                .map_err(|error: crate::identity::token::TokenError| {
                    ChangeError::Token(join::reason(&error))
                })?;
        self.situation.send_replace(Situation::Pending);
        match self.enter(&token, order).await {
            Ok(member) => self.wait_for_session(&member).await,
            Err(error) => {
                self.forget().await;
                Err(error)
            }
        }
    }

    async fn enter(&self, token: &JoinToken, order: JoinOrder) -> Result<Arc<Member>, ChangeError> {
        let memory = Memory {
            listen: order.listen,
            advertise: order.advertise,
            ..Memory::default()
        };
        let config = self.member_config(&memory);
        let mut hosts = order.hosts;
        hosts.extend(token.addresses.iter().cloned());
        let key = NodeKey::generate().map_err(|error| ChangeError::Files(join::reason(&error)))?;
        let applicant = Applicant {
            description: self.engine.describe(&config.labels),
            availability: order.availability,
            addresses: told_addresses(&config),
        };
        let (admission, door) = join::join(token, &hosts, &key, applicant).await?;
        let files = CertificateDir::new(&config.data_root);
        let saved = files
            .save_key(&key.to_pem())
            .and_then(|()| files.save_certificates(&admission.chain_pem, &admission.roots_pem));
        saved.map_err(|error| ChangeError::Files(join::reason(&error)))?;
        self.dir().hand_on(&memory)?;
        let member = self.begin(&memory, None, admission.peers).await?;
        let knocker = member.clone();
        member.run(async move {
            // The address that let us in may be the only one that works from here.
            if let Err(error) = knocker.transport.knock(door).await {
                warn!(%door, error = %join::reason(&error), "the member that let this node in does not answer");
            }
        });
        Ok(member)
    }

    async fn wait_for_session(&self, member: &Member) -> Result<(), ChangeError> {
        let mut orders = member.orders.clone();
        match timeout(
            SESSION_DEADLINE,
            orders.wait_for(|orders| orders.in_session),
        )
        .await
        {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(ChangeError::Slow),
        }
    }

    fn check_inactive(&self) -> Result<(), ChangeError> {
        match &*self.situation.borrow() {
            Situation::Inactive => Ok(()),
            Situation::Pending | Situation::Active(_) | Situation::Failed(_) => {
                Err(ChangeError::AlreadyMember)
            }
        }
    }

    /// Goes back to being in no cluster.
    async fn forget(&self) {
        let member = self.member();
        if let Some(member) = member {
            member.stop(Farewell::Leaving).await;
        }
        self.engine.forget().await;
        if let Err(error) = self.dir().wipe() {
            error!(error = %join::reason(&error), "the membership's files are left behind");
        }
        self.situation.send_replace(Situation::Inactive);
    }

    /// Leaves the cluster. Without `force` only when the cluster can do without this node.
    pub async fn leave(&self, force: bool) -> Result<(), ChangeError> {
        let _one = self.change.lock().await;
        let situation = self.situation.borrow().clone();
        match situation {
            Situation::Inactive => return Err(ChangeError::NotMember),
            Situation::Active(member) => {
                let asked = depart::give_up_duties(&member).await;
                match asked {
                    Ok(()) => {}
                    Err(why) if force => warn!(why, "leaving by force"),
                    Err(why) => return Err(ChangeError::Leave(why)),
                }
            }
            Situation::Pending | Situation::Failed(_) if force => {}
            Situation::Pending | Situation::Failed(_) => {
                return Err(ChangeError::Leave(
                    "this node is not connected to its cluster and cannot say good-bye. Use `--force` to leave all the same".into(),
                ));
            }
        }
        self.forget().await;
        Ok(())
    }

    /// Makes this node the only voter, with all that its log holds; `check` refuses when the cluster needs no rescue.
    pub async fn recover(&self, check: bool) -> Result<String, ChangeError> {
        let _one = self.change.lock().await;
        let Some(memory) = self.dir().load()? else {
            return Err(ChangeError::NotMember);
        };
        let config = StoreConfig::new(self.dir().store(), self.own_id()?);
        if !store::Store::exists(&config.dir) {
            return Err(ChangeError::Recover(
                "this node holds no copy of the cluster's state: run \"skein recover\" on a manager".into(),
            ));
        }
        if let Some(member) = self.member() {
            if check {
                depart::check_recoverable(&member)
                    .await
                    .map_err(ChangeError::Recover)?;
            }
            self.situation.send_replace(Situation::Pending);
            member.stop(Farewell::Restarting).await;
        }
        let begun = Instant::now();
        let recovered = tokio::task::spawn_blocking(move || store::recover(&config))
            .await
            .map_err(|error| ChangeError::Recover(error.to_string()))?;
        let started = self.begin(&memory, None, Vec::new()).await;
        let recovered = recovered.map_err(|error| ChangeError::Recover(join::reason(&error)))?;
        let member = started?;
        self.wait_for_session(&member).await?;
        info!(?recovered, took = ?begun.elapsed(), "recovered");
        Ok(format!(
            "This node leads again, the only manager for the moment, with everything up to version {} and {} members. Those of them that run come back by themselves.",
            recovered.version, recovered.members
        ))
    }

    fn own_id(&self) -> Result<NodeId, ChangeError> {
        let stored = CertificateDir::new(&self.config.data_root)
            .load()
            .map_err(|error| ChangeError::Files(join::reason(&error)))?
            .ok_or(ChangeError::NotMember)?;
        let key = NodeKey::from_pem(&stored.key_pem)
            .map_err(|error| ChangeError::Files(join::reason(&error)))?;
        Ok(key.node_id())
    }

    /// Ends the daemon's membership for a while: it is taken up again at the next start.
    pub async fn drain(&self) {
        let _one = self.change.lock().await;
        if let Some(member) = self.member() {
            self.situation.send_replace(Situation::Pending);
            member.stop(Farewell::Restarting).await;
        }
    }
}
