//! Who a node is and who is let in: keys, certificates, roots, join tokens.
//!
//! | file | decides |
//! |---|---|
//! | [`key`] | a node's ID: the hash of its public key |
//! | [`ca`] | what a certificate says, and which root is good enough to sign one |
//! | [`token`] | what a join token is, and whom it admits |
//! | [`attempts`] | how often a stranger may try a secret |
//! | [`renewal`] | when a certificate is replaced |
//! | [`credentials`] | what this node proves with, and what a peer's certificate says of it |
//! | [`tls`] | who passes the handshake |
//! | [`files`] | where all of it lies on disk |
//!
//! Roles are checked after the handshake, by whoever serves the request: a certificate only says what its node may
//! become. Nothing here reads the clock, except through rustls, and nothing opens a socket.

pub mod attempts;
pub mod ca;
pub mod credentials;
pub mod files;
pub mod key;
pub mod pem;
pub mod renewal;
pub mod tls;
pub mod token;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
pub(crate) mod testing;

pub use attempts::Attempts;
pub use ca::{
    Authority, CaError, Grant, Issued, RootFacts, check_own_root, issuer_of, node_of_csr,
};
pub use credentials::{CertificateProblem, Credentials, CredentialsError, PeerIdentity};
pub use files::{CertificateDir, FilesError, StoredIdentity};
pub use key::{KeyError, NodeKey, node_id_of_spki};
pub use renewal::renew_at;
pub use tls::{LearnedRoot, RemovedNodes, TlsError, client_tls, join_tls, renew_tls, server_tls};
pub use token::{JoinToken, RootDigest, TokenError, admits, new_secret};
