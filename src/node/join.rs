//! Asking to be let in, and asking for a new certificate after the old one has ended.
//!
//! The one conversation that a node has without a valid certificate. It checks the root against the token's digest, or
//! against the roots that it already trusts, and gives up with words after a stated time.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info};

use super::clock;
use crate::cluster::transport::{JoinCallError, join_call};
use crate::identity::key::NodeKey;
use crate::identity::tls::{JoinTls, join_tls, renew_tls};
use crate::identity::token::JoinToken;
use crate::model::{Availability, NodeDescription};
use crate::wire::join::{Admission, JoinBody, JoinReply, JoinRequest};
use crate::wire::{DEFAULT_PORT, Json};

/// Docker's client waits this long for a join.
pub const JOIN_DEADLINE: Duration = Duration::from_secs(20);

/// One address is given this long before the next is tried.
const CALL_DEADLINE: Duration = Duration::from_secs(5);

/// The pause after every address has been tried once.
const ROUND_PAUSE: Duration = Duration::from_millis(250);

/// Why a node was not let in. It is in no cluster, as before.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Neither the token nor the command names a member.
    #[error(
        "no member's address is known: give one after the token, as in {token}@192.168.1.10",
        token = "SWMTKN-1-…"
    )]
    NoAddress,
    /// A name does not resolve.
    #[error(
        "the address {0} cannot be resolved: give an IP address, or a name that this machine knows"
    )]
    Unresolved(String),
    /// A member said no, or every address belongs to another cluster than the token.
    #[error("{0}")]
    Refused(String),
    /// Nobody answered in time.
    #[error(
        "no answer from {addresses} within {seconds} s ({last}): is skein running there, and is UDP port {port} open between the machines?"
    )]
    Unreachable {
        /// What was tried.
        addresses: String,
        /// For how long.
        seconds: u64,
        /// The last failure.
        last: String,
        /// The first address's port.
        port: u16,
    },
    /// The request could not be made.
    #[error("the join request cannot be made")]
    Request(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What a joining machine says of itself.
#[derive(Clone, Debug)]
pub struct Applicant {
    /// The machine.
    pub description: NodeDescription,
    /// Whether it wants tasks.
    pub availability: Availability,
    /// Where it can be reached.
    pub addresses: Vec<SocketAddr>,
}

/// Asks the members at `hosts` until one lets the node in, one refuses it, or [`JOIN_DEADLINE`] is over. Returns the
/// admission and the address that gave it.
pub async fn join(
    token: &JoinToken,
    hosts: &[String],
    key: &NodeKey,
    applicant: Applicant,
) -> Result<(Admission, SocketAddr), JoinError> {
    let addresses = resolve(hosts).await?;
    let request = JoinRequest::Join(Box::new(JoinBody {
        secret: token.secret.clone(),
        csr_der: key
            .csr_der()
            .map_err(|error| JoinError::Request(error.into()))?,
        description: Json(applicant.description),
        availability: applicant.availability,
        addresses: applicant.addresses,
        clock: clock::now(),
    }));
    let (tls, _root) = join_tls(token.digest).map_err(|error| JoinError::Request(error.into()))?;
    ask(addresses, tls, &request, JOIN_DEADLINE).await
}

/// Asks any known member for a certificate; the signature on the request proves the key.
pub async fn renew(
    addresses: Vec<SocketAddr>,
    key: &NodeKey,
    roots_pem: &str,
    within: Duration,
) -> Result<Admission, JoinError> {
    let request = JoinRequest::Renew {
        csr_der: key
            .csr_der()
            .map_err(|error| JoinError::Request(error.into()))?,
    };
    let tls = renew_tls(roots_pem).map_err(|error| JoinError::Request(error.into()))?;
    ask(addresses, tls, &request, within)
        .await
        .map(|(admission, _door)| admission)
}

async fn resolve(hosts: &[String]) -> Result<Vec<SocketAddr>, JoinError> {
    let mut found = Vec::new();
    for host in hosts {
        let bare_v6 = host.parse::<std::net::Ipv6Addr>().is_ok();
        let target = match host.parse::<SocketAddr>() {
            Ok(addr) => addr.to_string(),
            Err(_) if bare_v6 => format!("[{host}]:{DEFAULT_PORT}"),
            Err(_)
                if host
                    .rsplit_once(':')
                    .is_some_and(|(_, port)| port.parse::<u16>().is_ok()) =>
            {
                host.clone()
            }
            Err(_) => format!("{host}:{DEFAULT_PORT}"),
        };
        let resolved = tokio::net::lookup_host(&target)
            .await
            .map_err(|_| JoinError::Unresolved(host.clone()))?;
        found.extend(resolved);
    }
    if found.is_empty() {
        Err(JoinError::NoAddress)
    } else {
        Ok(found)
    }
}

async fn ask(
    mut addresses: Vec<SocketAddr>,
    tls: JoinTls,
    request: &JoinRequest,
    within: Duration,
) -> Result<(Admission, SocketAddr), JoinError> {
    let deadline = Instant::now() + within;
    let tried: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let port = addresses.first().map_or(DEFAULT_PORT, SocketAddr::port);
    let mut last = String::from("nobody was asked");
    while Instant::now() < deadline {
        let mut next = addresses.clone();
        let mut refusals = 0;
        for addr in &addresses {
            let call = join_call(*addr, tls.clone(), request, CALL_DEADLINE);
            let remaining = deadline.saturating_duration_since(Instant::now());
            match timeout(remaining, call).await {
                Ok(Ok(JoinReply::Admitted(admission))) => {
                    info!(%addr, node = %admission.node, "let in");
                    return Ok((*admission, *addr));
                }
                Ok(Ok(JoinReply::Refused(why))) => return Err(JoinError::Refused(why)),
                Ok(Ok(JoinReply::Later(why))) => last = why,
                Ok(Ok(JoinReply::Elsewhere(others))) => {
                    last = format!("{addr} is a worker and cannot let anyone in");
                    next.extend(
                        others
                            .into_iter()
                            .filter(|other| !addresses.contains(other)),
                    );
                }
                Ok(Err(error @ JoinCallError::Refused { .. })) => {
                    refusals += 1;
                    last = reason(&error);
                }
                Ok(Err(error)) => last = reason(&error),
                Err(_elapsed) => break,
            }
            debug!(%addr, last, "not let in yet");
        }
        if refusals == addresses.len() {
            return Err(JoinError::Refused(last));
        }
        if next.len() == addresses.len() {
            sleep(ROUND_PAUSE).await;
        }
        addresses = next;
    }
    Err(JoinError::Unreachable {
        addresses: tried.join(", "),
        seconds: within.as_secs(),
        last,
        port,
    })
}

/// An error and its causes in one line.
pub fn reason(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
