//! Registries, asked through `oci-client`; its errors become Docker's words here.
//!
//! A client is kept for each registry and each pair of credentials: one keeps the first credentials that it is given
//! for good, and making one reads the machine's trusted roots. Registries on loopback, and those that the operator
//! named, may speak plain HTTP or have a certificate of their own; all others must prove who they are.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use oci_client::client::{BlobResponse, ClientConfig, ClientProtocol};
use oci_client::errors::{DigestError, OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth as OciAuth;
use oci_client::{Client, Reference as OciReference, RegistryOperation};

use super::auth::RegistryAuth;
use super::chain::digest_of;
use super::error::PullError;
use super::manifest::{ACCEPTED, MANIFEST_LIMIT};
use super::reference::Reference;
use crate::model::Digest;

/// Clients that are kept.
const CLIENTS: usize = 16;

/// How long a registry may take to answer the telephone.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a registry may be silent in the middle of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Every registry.
pub(super) struct Registries {
    insecure: Vec<String>,
    clients: Mutex<Vec<(Key, Client)>>,
}

#[derive(Clone, PartialEq, Eq)]
struct Key {
    registry: String,
    auth: Digest,
    scheme: Scheme,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Https,
    /// With whatever certificate.
    AnyHttps,
    Http,
}

impl fmt::Debug for Registries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registries({:?})", self.insecure)
    }
}

impl Registries {
    /// Those named in `insecure`, `host[:port]`, need no certificate that is trusted.
    pub(super) fn new(insecure: Vec<String>) -> Self {
        // It fails only when a provider is installed already, which is then the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let clients = Mutex::default();
        Self { insecure, clients }
    }

    /// A repository that answers, with the right to pull from it when the credentials give that.
    pub(super) async fn open(
        &self,
        reference: &Reference,
        auth: Option<&RegistryAuth>,
    ) -> Result<Repository, PullError> {
        self.open_to(RegistryOperation::Pull, reference, auth).await
    }

    /// A repository that answers, with the right to push to it when the credentials give that.
    pub(super) async fn open_to_push(
        &self,
        reference: &Reference,
        auth: Option<&RegistryAuth>,
    ) -> Result<Repository, PullError> {
        self.open_to(RegistryOperation::Push, reference, auth).await
    }

    async fn open_to(
        &self,
        operation: RegistryOperation,
        reference: &Reference,
        auth: Option<&RegistryAuth>,
    ) -> Result<Repository, PullError> {
        let registry = reference.registry();
        let schemes: &[Scheme] =
            match is_loopback(registry) || self.insecure.iter().any(|one| one == registry) {
                true => &[Scheme::AnyHttps, Scheme::Http],
                false => &[Scheme::Https],
            };
        let mut keys: Vec<Key> = schemes
            .iter()
            .map(|scheme| Key {
                registry: registry.into(),
                auth: RegistryAuth::fingerprint(auth),
                scheme: *scheme,
            })
            .collect();
        keys.sort_by_key(|key| !self.kept().iter().any(|(kept, _)| kept == key));
        let mut failure = None;
        for key in keys {
            match self.try_open(operation, &key, reference, auth).await {
                Err(error @ PullError::Unreachable { .. }) => failure = Some(error),
                other => return other,
            }
        }
        Err(failure.unwrap_or_else(|| PullError::Registry {
            url: registry.into(),
            why: "no way to it is known".into(),
        }))
    }

    async fn try_open(
        &self,
        operation: RegistryOperation,
        key: &Key,
        reference: &Reference,
        auth: Option<&RegistryAuth>,
    ) -> Result<Repository, PullError> {
        let scheme = if key.scheme == Scheme::Http {
            "http"
        } else {
            "https"
        };
        let base = OciReference::with_tag(
            reference.registry().into(),
            reference.path().into(),
            reference.tag().unwrap_or("latest").into(),
        );
        let url = format!("{scheme}://{}/v2/", base.resolve_registry());
        let oci_auth = match auth {
            None => OciAuth::Anonymous,
            Some(RegistryAuth::Password { username, password }) => {
                OciAuth::Basic(username.clone(), password.to_string())
            }
            Some(RegistryAuth::Token(token)) => OciAuth::Bearer(token.to_string()),
        };
        let client = self
            .client(key)
            .map_err(|error| unreachable(&url, Box::new(error)))?;
        let mut repository = Repository {
            name: reference.familiar_name(),
            shown: reference.clone().or_latest().familiar(),
            url,
            base,
            auth: oci_auth,
            client,
            by_token: false,
        };
        let admitted = repository
            .client
            .auth(&repository.base, &repository.auth, operation)
            .await;
        match admitted {
            Ok(token) => repository.by_token = token.is_some(),
            Err(OciDistributionError::RequestError(error)) => {
                self.kept().retain(|(kept, _)| kept != key);
                return Err(unreachable(&repository.url, Box::new(error)));
            }
            Err(error) => return Err(repository.words(&repository.url, error)),
        }
        let mut kept = self.kept();
        kept.retain(|(other, _)| other != key);
        kept.insert(0, (key.clone(), repository.client.clone()));
        kept.truncate(CLIENTS);
        drop(kept);
        Ok(repository)
    }

    fn client(&self, key: &Key) -> Result<Client, OciDistributionError> {
        if let Some((_, client)) = self.kept().iter().find(|(kept, _)| kept == key) {
            return Ok(client.clone());
        }
        Client::try_from(ClientConfig {
            protocol: match key.scheme {
                Scheme::Http => ClientProtocol::Http,
                Scheme::Https | Scheme::AnyHttps => ClientProtocol::Https,
            },
            accept_invalid_certificates: key.scheme != Scheme::Https,
            connect_timeout: Some(CONNECT_TIMEOUT),
            read_timeout: Some(READ_TIMEOUT),
            user_agent: concat!("skein/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        })
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Vec<(Key, Client)>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a registry is on this machine, as Docker sees it.
fn is_loopback(registry: &str) -> bool {
    let host = match registry.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => registry.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A repository of a registry.
pub(super) struct Repository {
    name: String,
    shown: String,
    url: String,
    base: OciReference,
    auth: OciAuth,
    client: Client,
    by_token: bool,
}

/// Bytes of a blob, from where they begin.
pub(super) struct BlobBytes {
    /// Whether they begin at the offset that was asked for, and not at the beginning.
    pub(super) resumed: bool,
    /// The bytes.
    pub(super) bytes: BoxStream<'static, io::Result<Bytes>>,
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Repository({})", self.shown)
    }
}

impl Repository {
    /// The manifest or index that the name's tag stands for, or of a digest.
    pub(super) async fn manifest(
        &self,
        digest: Option<Digest>,
    ) -> Result<(Digest, Bytes), PullError> {
        let reference = match digest {
            Some(digest) => self.base.clone_with_digest(digest.to_string()),
            None => self.base.clone(),
        };
        let what = digest.map_or_else(
            || self.base.tag().unwrap_or_default().to_string(),
            |digest| digest.to_string(),
        );
        let url = format!("{}{}/manifests/{what}", self.url, self.base.repository());
        let answer = self
            .client
            .pull_manifest_raw(&reference, &self.auth, &ACCEPTED)
            .await;
        let bytes = match answer {
            Ok((bytes, _)) => bytes,
            Err(OciDistributionError::DigestError(DigestError::VerificationError {
                expected,
                ..
            })) => {
                let found = digest.or_else(|| expected.parse().ok());
                return Err(found.map_or_else(
                    || PullError::Registry {
                        url: url.clone(),
                        why: "a wrong digest".into(),
                    },
                    PullError::WrongManifest,
                ));
            }
            Err(error) => return Err(self.words(&url, error)),
        };
        if bytes.len() as u64 > MANIFEST_LIMIT {
            let why = format!("the manifest has {} bytes, more than 4 MiB", bytes.len());
            return Err(PullError::Registry { url, why });
        }
        let found = digest_of(&bytes);
        match digest {
            Some(wanted) if wanted != found => Err(PullError::WrongManifest(wanted)),
            _ => Ok((found, bytes)),
        }
    }

    /// A blob from `offset` on, or from the beginning when the registry cannot do that.
    pub(super) async fn blob(&self, digest: Digest, offset: u64) -> Result<BlobBytes, PullError> {
        let text = digest.to_string();
        let url = format!("{}{}/blobs/{digest}", self.url, self.base.repository());
        let words = |error| self.words(&url, error);
        // Another pull may have made the client, and that one's token may be another's.
        self.client
            .store_auth_if_needed(self.base.resolve_registry(), &self.auth)
            .await;
        if offset == 0 {
            let whole = self
                .client
                .pull_blob_stream(&self.base, text.as_str())
                .await;
            let bytes = whole.map_err(words)?.stream.boxed();
            return Ok(BlobBytes {
                resumed: false,
                bytes,
            });
        }
        let part = self
            .client
            .pull_blob_stream_partial(&self.base, text.as_str(), offset, None)
            .await;
        Ok(match part.map_err(words)? {
            BlobResponse::Full(whole) => BlobBytes {
                resumed: false,
                bytes: whole.stream,
            },
            BlobResponse::Partial(part) => BlobBytes {
                resumed: true,
                bytes: part.stream,
            },
        })
    }

    /// Asks for something that is not there, so that the registry looks at the credentials.
    pub(super) async fn knock(&self) -> Result<(), PullError> {
        let asked = self
            .client
            .fetch_manifest_digest(&self.base, &self.auth)
            .await;
        match asked.map_err(|error| self.words(&self.url, error)) {
            // It is let in, or would be where it has rights: who it is was believed.
            Ok(_) | Err(PullError::Unknown { .. } | PullError::Denied { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The registry's address, as errors name it.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Whether a blob is known to be there already. A registry that does not say is sent it, and says then what is
    /// wrong.
    pub(super) async fn has_blob(&self, digest: Digest) -> bool {
        self.client
            .store_auth_if_needed(self.base.resolve_registry(), &self.auth)
            .await;
        let there = self
            .client
            .blob_exists(&self.base, &digest.to_string())
            .await;
        there.unwrap_or(false)
    }

    /// Sends a blob.
    pub(super) async fn put_blob(
        &self,
        digest: Digest,
        size: u64,
        bytes: BoxStream<'static, io::Result<Bytes>>,
    ) -> Result<(), PullError> {
        let url = format!("{}{}/blobs/uploads/", self.url, self.base.repository());
        let bytes = bytes.map(|piece| piece.map_err(OciDistributionError::IoError));
        let sent = self
            .client
            .push_blob_stream(&self.base, bytes, &digest.to_string(), Some(size))
            .await;
        sent.map(drop).map_err(|error| self.words(&url, error))
    }

    /// Lets the tag, or with `digest` only that, stand for a manifest or an index.
    pub(super) async fn put_manifest(
        &self,
        digest: Option<Digest>,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<(), PullError> {
        let url = format!("{}{}/manifests/", self.url, self.base.repository());
        let target = match digest {
            Some(digest) => self.base.clone_with_digest(digest.to_string()),
            None => self.base.clone(),
        };
        let Ok(kind) = media_type.parse() else {
            let why = format!("the manifest's media type {media_type:?} cannot be sent");
            return Err(PullError::Registry { url, why });
        };
        let sent = self.client.push_manifest_raw(&target, bytes, kind).await;
        sent.map(drop).map_err(|error| self.words(&url, error))
    }

    /// Docker's words for what went wrong at `url`.
    fn words(&self, url: &str, error: OciDistributionError) -> PullError {
        let unknown = |why: String| PullError::Unknown {
            name: self.shown.clone(),
            why,
        };
        let denied = || PullError::Denied {
            name: self.name.clone(),
        };
        match error {
            OciDistributionError::RequestError(error) => unreachable(url, Box::new(error)),
            OciDistributionError::UnauthorizedError { .. }
            | OciDistributionError::ServerError { code: 401, .. }
                if self.by_token =>
            {
                denied()
            }
            OciDistributionError::UnauthorizedError { .. }
            | OciDistributionError::ServerError { code: 401, .. } => PullError::Unauthorized {
                url: url.into(),
                why: match self.auth {
                    OciAuth::Anonymous => "no basic auth credentials".into(),
                    OciAuth::Basic(..) | OciAuth::Bearer(_) => {
                        "unauthorized: authentication required".into()
                    }
                },
            },
            OciDistributionError::AuthenticationFailure(why) => PullError::Unauthorized {
                url: url.into(),
                why: format!("unauthorized: {}", first_line(&why)),
            },
            OciDistributionError::RegistryError { envelope, .. } => match envelope.errors.first() {
                Some(error) => match &error.code {
                    OciErrorCode::Denied | OciErrorCode::Unauthorized => denied(),
                    OciErrorCode::ManifestUnknown | OciErrorCode::NotFound => {
                        unknown(error.message.clone())
                    }
                    OciErrorCode::NameUnknown => denied(),
                    other => PullError::Registry {
                        url: url.into(),
                        why: format!("{other:?}: {}", first_line(&error.message)),
                    },
                },
                None => unknown("no reason given".into()),
            },
            OciDistributionError::ServerError { code: 404, .. } => unknown("not found".into()),
            OciDistributionError::ServerError { code: 403, .. } => denied(),
            OciDistributionError::ServerError { code, message, .. } => PullError::Registry {
                url: url.into(),
                why: format!("{code}: {}", first_line(&message)),
            },
            other => PullError::Registry {
                url: url.into(),
                why: first_line(&other.to_string()),
            },
        }
    }
}

/// The first line of what a stranger wrote, and not too much of it.
fn first_line(text: &str) -> String {
    text.lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(300)
        .collect()
}

fn unreachable(url: &str, error: Box<dyn Error + Send + Sync>) -> PullError {
    PullError::Unreachable {
        url: url.into(),
        why: network_words(url, error.as_ref()),
        source: Some(error),
    }
}

/// Why the network failed, as Go says it.
pub(super) fn network_words(url: &str, error: &(dyn Error + 'static)) -> String {
    let host = url.split('/').nth(2).unwrap_or(url);
    let address = match host.rsplit_once(':') {
        Some((_, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host.to_string(),
        _ if url.starts_with("http:") => format!("{host}:80"),
        _ => format!("{host}:443"),
    };
    let causes: Vec<&(dyn Error + 'static)> =
        std::iter::successors(Some(error), |error| (*error).source()).collect();
    let io = causes
        .iter()
        .find_map(|error| error.downcast_ref::<io::Error>());
    let dial = |why: &str| format!("dial tcp {address}: {why}");
    if let Some(io) = io {
        match io.kind() {
            io::ErrorKind::ConnectionRefused => return dial("connect: connection refused"),
            io::ErrorKind::HostUnreachable => return dial("connect: no route to host"),
            io::ErrorKind::NetworkUnreachable => return dial("connect: network is unreachable"),
            io::ErrorKind::ConnectionReset => return "read: connection reset by peer".into(),
            _ => {}
        }
    }
    let innermost = causes
        .last()
        .map(|error| error.to_string())
        .unwrap_or_default();
    let all: Vec<String> = causes.iter().map(|error| error.to_string()).collect();
    let says = |word: &str| all.iter().any(|text| text.contains(word));
    if says("dns error") || says("failed to lookup") {
        let name = host.split(':').next().unwrap_or(host);
        return format!("dial tcp: lookup {name}: no such host");
    }
    if says("timed out") || says("deadline has elapsed") {
        return dial("i/o timeout");
    }
    match says("certificate") {
        true => format!("tls: failed to verify certificate: {innermost}"),
        false => first_line(&innermost),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loopback() {
        for here in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:5000",
            "127.9.9.9",
            "[::1]:5000",
        ] {
            assert!(is_loopback(here), "{here}");
        }
        for there in [
            "docker.io",
            "10.0.0.1:5000",
            "localhost.example",
            "127.0.0.1.example",
            "[::2]:1",
        ] {
            assert!(!is_loopback(there), "{there}");
        }
    }

    #[test]
    fn network_errors_are_told_as_go_does() {
        let check = |error: io::Error, url: &str, words: &str| {
            assert_eq!(network_words(url, &error), words)
        };
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        check(
            refused(),
            "http://127.0.0.1:1/v2/",
            "dial tcp 127.0.0.1:1: connect: connection refused",
        );
        check(
            refused(),
            "https://r.io/v2/",
            "dial tcp r.io:443: connect: connection refused",
        );
        check(
            io::Error::other("dns error: failed"),
            "https://r.io/v2/",
            "dial tcp: lookup r.io: no such host",
        );
        check(
            io::Error::other("operation timed out"),
            "http://r.io/v2/",
            "dial tcp r.io:80: i/o timeout",
        );
    }
}
