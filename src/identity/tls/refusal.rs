//! Why a certificate is refused: the words for the log and the user, and what the refused side is told.

use std::time::Duration;

use rustls::CertificateError;
use rustls::pki_types::UnixTime;

use crate::identity::ca::{BACKDATING, timestamp};
use crate::identity::credentials::CertificateProblem;
use crate::model::{ClusterId, NodeId, Timestamp};

/// The reason, as a sentence without its subject.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Past its end, by our clock.
    #[error(
        "expired: it ended at {not_after}, {ago} ago by this machine's clock; if that cannot be, set the clock of this machine",
        ago = in_words(*.ago)
    )]
    Expired {
        /// Its end.
        not_after: Timestamp,
        /// How long ago.
        ago: Duration,
    },
    /// Before its beginning, by our clock.
    #[error(
        "not yet valid: it begins at {not_before}, so the clocks of the issuer and of this machine differ by {apart} or more; set both by NTP",
        apart = in_words(*.apart)
    )]
    NotYetValid {
        /// Its beginning.
        not_before: Timestamp,
        /// The least difference of the clocks: certificates begin an hour before they are issued.
        apart: Duration,
    },
    /// No path to a root of ours.
    #[error("foreign root: no root that this node trusts stands behind it")]
    ForeignRoot,
    /// The root that the token names is not in the chain.
    #[error(
        "remote CA does not match fingerprint in the join token: the token belongs to another cluster, or the root was rotated; get a token with `skein token` on a member"
    )]
    NotTheTokensRoot,
    /// Not for servers or not for clients.
    #[error("wrong purpose: it is not a certificate for connections between nodes")]
    WrongPurpose,
    /// The subject alternative names.
    #[error("wrong name: it is not made out to members of a cluster")]
    WrongName,
    /// What it says of its node.
    #[error("{0}")]
    NoNode(CertificateProblem),
    /// A certificate of another cluster.
    #[error("wrong cluster: it is of cluster {theirs}, this node is of {ours}")]
    WrongCluster {
        /// By the certificate.
        theirs: ClusterId,
        /// By our own.
        ours: ClusterId,
    },
    /// The node is out for good.
    #[error(
        "removed node: {0} was removed from the cluster; to return it must leave and join anew"
    )]
    Removed(NodeId),
    /// Damaged, or refused by the X.509 library for a reason of its own.
    #[error("it does not verify: {0}")]
    Unverifiable(String),
}

impl Refusal {
    /// The reason out of what the X.509 library says.
    pub(super) fn of_rustls(error: &rustls::Error) -> Self {
        let rustls::Error::InvalidCertificate(error) = error else {
            return Self::Unverifiable(error.to_string());
        };
        match error {
            CertificateError::ExpiredContext { time, not_after } => Self::Expired {
                not_after: time_of(*not_after),
                ago: time_of(*time).since(time_of(*not_after)),
            },
            CertificateError::NotValidYetContext { time, not_before } => Self::NotYetValid {
                not_before: time_of(*not_before),
                apart: time_of(*not_before).since(time_of(*time)) + BACKDATING,
            },
            // Roots share one name, so a foreign one shows as a signature that is not its namesake's.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::ForeignRoot,
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Self::WrongPurpose
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::WrongName
            }
            CertificateError::Other(other) => Self::Unverifiable(other.to_string()),
            other => Self::Unverifiable(other.to_string()),
        }
    }

    /// As the error of a server, which tells the client by the kind of TLS alert.
    pub(super) fn to_client(&self) -> rustls::Error {
        let error = match self {
            Self::Expired { .. } => CertificateError::Expired,
            Self::NotYetValid { .. } => CertificateError::NotValidYet,
            Self::ForeignRoot | Self::NotTheTokensRoot => CertificateError::UnknownIssuer,
            Self::WrongPurpose => CertificateError::InvalidPurpose,
            Self::Removed(_) => CertificateError::Revoked,
            Self::WrongName | Self::NoNode(_) | Self::WrongCluster { .. } => {
                CertificateError::ApplicationVerificationFailure
            }
            Self::Unverifiable(_) => CertificateError::BadEncoding,
        };
        error.into()
    }

    /// As the error of a client, whose own caller is to see the words.
    pub(super) fn to_caller(&self) -> rustls::Error {
        rustls::Error::General(format!("refused the server's certificate: {self}"))
    }
}

impl From<CertificateProblem> for Refusal {
    fn from(problem: CertificateProblem) -> Self {
        Self::NoNode(problem)
    }
}

/// What a TLS alert of a server means for the client whose certificate it refused. `None` for other alerts.
pub const fn why_refused(alert: u8) -> Option<&'static str> {
    match alert {
        42 => Some("the other node cannot read this node's certificate"),
        43 => Some("this node's certificate is not one for connections between nodes"),
        44 => Some("this node was removed from the cluster: to return it must leave and join anew"),
        45 => Some(
            "this node's certificate has expired, or is not yet valid, by the other node's clock: compare the clocks",
        ),
        48 => Some("this node's certificate is not from a root that the other node trusts"),
        49 => Some("this node's certificate is of another cluster, or of no node"),
        116 => Some("the other node wants a certificate"),
        120 => Some("the other node does not speak this version of the protocol"),
        _ => None,
    }
}

fn time_of(time: UnixTime) -> Timestamp {
    timestamp(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}

/// A span in its two largest units, for people.
fn in_words(span: Duration) -> String {
    let secs = span.as_secs();
    let (days, hours, minutes) = (secs / 86_400, secs / 3600 % 24, secs / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{secs} s"),
        (0, 0, _) => format!("{minutes} min {} s", secs % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        (1, _, _) => format!("1 day {hours} h"),
        _ => format!("{days} days {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_in_two_units() {
        let words = |secs| in_words(Duration::from_secs(secs));
        assert_eq!(words(59), "59 s");
        assert_eq!(words(61), "1 min 1 s");
        assert_eq!(words(7260), "2 h 1 min");
        assert_eq!(words(86_400 + 3600), "1 day 1 h");
        assert_eq!(words(90 * 86_400), "90 days 0 h");
    }
}
