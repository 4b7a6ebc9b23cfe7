//! Who asks a registry: what clients send with a pull, and what is kept in Docker's `config.json`.
//!
//! Pure. A secret is never shown: not by `Debug`, not in an error.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use super::chain::digest_of;
use super::reference::DEFAULT_REGISTRY;
use crate::model::Digest;

/// Longest header that is read.
const HEADER_LIMIT: usize = 64 << 10;

/// How Docker Hub is called in files and headers.
const HUB: [&str; 4] = [
    "https://index.docker.io/v1/",
    "index.docker.io",
    "docker.io",
    "registry-1.docker.io",
];

/// Credentials for a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum RegistryAuth {
    /// A name and a password, or an access token in its place.
    Password {
        /// The name.
        username: String,
        /// The password.
        password: Zeroizing<String>,
    },
    /// A token that the registry takes as it is.
    Token(Zeroizing<String>),
}

/// Why credentials cannot be used. None of them is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// They are not the JSON that clients send.
    #[error("invalid X-Registry-Auth header: it is not base64 of JSON")]
    Malformed,
    /// They are of a kind that only a browser's login gives.
    #[error("identity tokens are not supported: log in with a password or an access token")]
    IdentityToken,
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default, alias = "Username")]
    username: Option<String>,
    #[serde(default, alias = "Password", deserialize_with = "secret")]
    password: Option<Zeroizing<String>>,
    #[serde(default, deserialize_with = "secret")]
    auth: Option<Zeroizing<String>>,
    #[serde(default, alias = "IdentityToken", deserialize_with = "secret")]
    identitytoken: Option<Zeroizing<String>>,
    #[serde(default, alias = "RegistryToken", deserialize_with = "secret")]
    registrytoken: Option<Zeroizing<String>>,
}

fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Zeroizing<String>>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.map(Zeroizing::new))
}

impl fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { username, .. } => write!(f, "RegistryAuth({username}, …)"),
            Self::Token(_) => f.write_str("RegistryAuth(…)"),
        }
    }
}

impl RegistryAuth {
    /// What an `X-Registry-Auth` header says; `None` when it says that there is nothing.
    pub fn from_header(header: &str) -> Result<Option<Self>, AuthError> {
        let header = header.trim();
        if header.is_empty() {
            return Ok(None);
        }
        let json = Some(header)
            .filter(|header| header.len() <= HEADER_LIMIT)
            .and_then(decode)
            .ok_or(AuthError::Malformed)?;
        match serde_json::from_slice::<Raw>(&json) {
            Ok(raw) => raw.usable(),
            Err(_) => Err(AuthError::Malformed),
        }
    }

    /// What Docker's `config.json` keeps for `registry`, when it keeps it in the file itself.
    pub fn from_docker_config(json: &[u8], registry: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct File {
            #[serde(default)]
            auths: BTreeMap<String, Raw>,
        }
        let file: File = serde_json::from_slice(json).ok()?;
        let is_it = |key: &str| {
            let host = key
                .trim_start_matches("https://")
                .trim_start_matches("http://");
            let host = host.split('/').next().unwrap_or_default();
            host == registry
                || (registry == DEFAULT_REGISTRY && (HUB.contains(&key) || HUB.contains(&host)))
        };
        let (_, raw) = file.auths.into_iter().find(|(key, _)| is_it(key))?;
        raw.usable().ok()?
    }

    /// A digest of them, by which two can be told apart without keeping them.
    pub(super) fn fingerprint(auth: Option<&Self>) -> Digest {
        match auth {
            None => digest_of(b"none"),
            Some(Self::Password { username, password }) => {
                let text = Zeroizing::new(format!("{}:{username}:{}", username.len(), **password));
                digest_of(text.as_bytes())
            }
            Some(Self::Token(token)) => {
                let text = Zeroizing::new(format!("token {}", **token));
                digest_of(text.as_bytes())
            }
        }
    }
}

impl Raw {
    fn usable(self) -> Result<Option<RegistryAuth>, AuthError> {
        let given = |text: Option<Zeroizing<String>>| text.filter(|text| !text.is_empty());
        if let Some(token) = given(self.registrytoken) {
            return Ok(Some(RegistryAuth::Token(token)));
        }
        let username = self.username.unwrap_or_default();
        if let (false, Some(password)) = (username.is_empty(), given(self.password)) {
            return Ok(Some(RegistryAuth::Password { username, password }));
        }
        if let Some(both) = given(self.auth) {
            let bytes = Zeroizing::new(decode(&both).ok_or(AuthError::Malformed)?);
            let text = std::str::from_utf8(&bytes).or(Err(AuthError::Malformed))?;
            let (username, password) = text.split_once(':').ok_or(AuthError::Malformed)?;
            return Ok(Some(RegistryAuth::Password {
                username: username.into(),
                password: Zeroizing::new(password.trim_end_matches('\0').into()),
            }));
        }
        match given(self.identitytoken) {
            Some(_) => Err(AuthError::IdentityToken),
            None => Ok(None),
        }
    }
}

/// Base64 in either alphabet, padded or not.
fn decode(text: &str) -> Option<Vec<u8>> {
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    [base64::alphabet::URL_SAFE, base64::alphabet::STANDARD]
        .iter()
        .find_map(|alphabet| GeneralPurpose::new(alphabet, config).decode(text).ok())
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};

    use super::*;

    fn password(username: &str, password: &str) -> RegistryAuth {
        RegistryAuth::Password {
            username: username.into(),
            password: Zeroizing::new(password.into()),
        }
    }

    #[test]
    fn headers_are_read_in_every_form() {
        let json = r#"{"username":"u","password":"p?>","email":"","serveraddress":"x"}"#;
        for header in [BASE64_URL_SAFE.encode(json), BASE64_STANDARD.encode(json)] {
            assert_eq!(
                RegistryAuth::from_header(&header),
                Ok(Some(password("u", "p?>")))
            );
            assert_eq!(
                RegistryAuth::from_header(header.trim_end_matches('=')),
                Ok(Some(password("u", "p?>")))
            );
        }
        assert_eq!(RegistryAuth::from_header(""), Ok(None));
        assert_eq!(
            RegistryAuth::from_header(&BASE64_URL_SAFE.encode("{}")),
            Ok(None)
        );
        let token = BASE64_URL_SAFE.encode(r#"{"registrytoken":"t"}"#);
        assert_eq!(
            RegistryAuth::from_header(&token),
            Ok(Some(RegistryAuth::Token(Zeroizing::new("t".into()))))
        );
        let identity = BASE64_URL_SAFE.encode(r#"{"identitytoken":"t"}"#);
        assert_eq!(
            RegistryAuth::from_header(&identity),
            Err(AuthError::IdentityToken)
        );
        for bad in ["!", "bm9wZQ==", &"A".repeat(70_000)] {
            assert_eq!(RegistryAuth::from_header(bad), Err(AuthError::Malformed));
        }
    }

    #[test]
    fn dockers_file_is_searched_by_registry() {
        let file = format!(
            r#"{{"auths":{{"https://index.docker.io/v1/":{{"auth":"{}"}},"r.io:5000":{{"username":"a","password":"b"}},
            "helper.io":{{}}}},"credsStore":"x"}}"#,
            BASE64_STANDARD.encode("hub:secret:with colon")
        );
        let find = |registry| RegistryAuth::from_docker_config(file.as_bytes(), registry);
        assert_eq!(
            find("docker.io"),
            Some(password("hub", "secret:with colon"))
        );
        assert_eq!(find("r.io:5000"), Some(password("a", "b")));
        assert_eq!(find("r.io"), None);
        assert_eq!(find("helper.io"), None);
    }

    #[test]
    fn secrets_are_not_shown() {
        let auth = password("user", "geheim");
        assert!(!format!("{auth:?}").contains("geheim"));
        assert_ne!(
            RegistryAuth::fingerprint(Some(&auth)),
            RegistryAuth::fingerprint(None)
        );
    }
}
