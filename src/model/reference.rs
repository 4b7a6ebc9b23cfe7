//! Names of images, as Docker reads and writes them: `busybox` is `docker.io/library/busybox:latest`.
//!
//! Pure. Everything that takes a name from outside parses it here first; what is stored is the canonical form, what is
//! shown the familiar one.

use std::fmt;
use std::str::FromStr;

use crate::model::Digest;

/// The registry that names without one mean.
pub const DEFAULT_REGISTRY: &str = "docker.io";

/// Longest repository name, with its registry.
const NAME_LENGTH: usize = 255;

/// Longest tag.
const TAG_LENGTH: usize = 128;

/// A name of an image: a repository, and perhaps a tag, a digest or both.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is no name of an image. Docker's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// It does not have the form.
    #[error("invalid reference format")]
    Format,
    /// It would, in lower case.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// It is an ID.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    Id(String),
    /// It is too long.
    #[error("repository name must not be more than {NAME_LENGTH} characters")]
    Long,
}

impl Reference {
    /// The registry, `docker.io` for names without one.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository within its registry, `library/busybox` for `busybox`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The repository with its registry, `docker.io/library/busybox`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.registry, self.path)
    }

    /// The tag, when one is given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, when one is given.
    pub const fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The repository as people write it, `busybox`.
    pub fn familiar_name(&self) -> String {
        if self.registry != DEFAULT_REGISTRY {
            return self.repository();
        }
        let path = self.path.strip_prefix("library/");
        path.filter(|rest| !rest.contains('/'))
            .unwrap_or(&self.path)
            .to_string()
    }

    /// The whole name as people write it, `busybox:latest`, `busybox@sha256:…`.
    pub fn familiar(&self) -> String {
        self.after(self.familiar_name())
    }

    /// The same name, with the tag `latest` when it has neither tag nor digest.
    #[must_use]
    pub fn or_latest(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some("latest".into());
        }
        self
    }

    /// The same repository with this digest and no tag.
    #[must_use]
    pub fn at(&self, digest: Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// What an image of this name is recorded as: by its digest alone when it has one.
    pub fn record(&self) -> String {
        match self.digest {
            Some(digest) => self.at(digest).to_string(),
            None => self.clone().or_latest().to_string(),
        }
    }

    fn after(&self, mut text: String) -> String {
        if let Some(tag) = &self.tag {
            text = format!("{text}:{tag}");
        }
        match self.digest {
            Some(digest) => format!("{text}@{digest}"),
            None => text,
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.after(self.repository()))
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() == 64 && text.bytes().all(is_hex) {
            return Err(ReferenceError::Id(text.into()));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => match digest.parse() {
                Ok(digest) => (rest, Some(digest)),
                Err(_) => return Err(ReferenceError::Format),
            },
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains(['/', ']']) => (name, Some(tag)),
            _ => (rest, None),
        };
        let (registry, path) = split_registry(name);
        if tag.is_some_and(|tag| !is_tag(tag)) || !is_registry(&registry) {
            return Err(ReferenceError::Format);
        }
        if !path.split('/').all(is_component) {
            let lower = path.to_lowercase();
            return Err(match lower != path && lower.split('/').all(is_component) {
                true => ReferenceError::Uppercase(path),
                false => ReferenceError::Format,
            });
        }
        if registry.len() + 1 + path.len() > NAME_LENGTH {
            return Err(ReferenceError::Long);
        }
        Ok(Self {
            registry,
            path,
            tag: tag.map(String::from),
            digest,
        })
    }
}

/// Splits a name into registry and path, as Docker does: the first part is a registry when it looks like a host.
fn split_registry(name: &str) -> (String, String) {
    let is_host = |part: &str| {
        part.contains(['.', ':']) || part == "localhost" || part.to_lowercase() != part
    };
    let (registry, path) = match name.split_once('/') {
        Some((first, rest)) if is_host(first) => (first, rest),
        _ => (DEFAULT_REGISTRY, name),
    };
    let registry = match registry {
        "index.docker.io" => DEFAULT_REGISTRY,
        other => other,
    };
    match registry == DEFAULT_REGISTRY && !path.contains('/') {
        true => (registry.into(), format!("library/{path}")),
        false => (registry.into(), path.into()),
    }
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

fn is_tag(tag: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (1..=TAG_LENGTH).contains(&tag.len())
        && tag.starts_with(word)
        && tag.chars().all(|c| word(c) || c == '.' || c == '-')
}

fn is_registry(registry: &str) -> bool {
    let (host, port) = match registry.strip_prefix('[').and_then(|v6| v6.split_once(']')) {
        Some((v6, after)) => {
            let hex = |c: char| c.is_ascii_hexdigit() || c == ':';
            if v6.is_empty() || !v6.chars().all(hex) {
                return false;
            }
            ("v6", after)
        }
        None => match registry.find(':') {
            Some(at) => registry.split_at(at),
            None => (registry, ""),
        },
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    let digits = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    host.split('.').all(label) && (port.is_empty() || port.strip_prefix(':').is_some_and(digits))
}

/// Whether this is one part of a path: letters and digits, with `.`, `_`, `__` or dashes between them.
fn is_component(part: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = part.as_bytes();
    let ends = |byte: Option<&u8>| byte.is_some_and(|byte| plain(*byte));
    let separators = part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    ends(bytes.first())
        && ends(bytes.last())
        && separators.into_iter().all(|between| {
            matches!(between, "" | "." | "_" | "__") || between.bytes().all(|byte| byte == b'-')
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, canonical: &str, familiar: &str) {
        let reference: Reference = text.parse().unwrap();
        let full = reference.clone().or_latest();
        assert_eq!(full.to_string(), canonical, "{text}");
        assert_eq!(full.familiar(), familiar, "{text}");
        assert_eq!(canonical.parse::<Reference>().unwrap(), full, "{text}");
        assert_eq!(familiar.parse::<Reference>().unwrap(), full, "{text}");
    }

    #[test]
    fn names_are_completed_as_docker_does() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        check(
            "busybox",
            "docker.io/library/busybox:latest",
            "busybox:latest",
        );
        check(
            "index.docker.io/busybox:1",
            "docker.io/library/busybox:1",
            "busybox:1",
        );
        check(
            "skein/whoami",
            "docker.io/skein/whoami:latest",
            "skein/whoami:latest",
        );
        check(
            "library/x/y",
            "docker.io/library/x/y:latest",
            "library/x/y:latest",
        );
        check("localhost/x", "localhost/x:latest", "localhost/x:latest");
        check(
            "127.0.0.1:5000/a/b:v1.0-x_y",
            "127.0.0.1:5000/a/b:v1.0-x_y",
            "127.0.0.1:5000/a/b:v1.0-x_y",
        );
        check("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest");
        check(
            "a__b--c.d_e",
            "docker.io/library/a__b--c.d_e:latest",
            "a__b--c.d_e:latest",
        );
        check(
            &format!("busybox@{digest}"),
            &format!("docker.io/library/busybox@{digest}"),
            &format!("busybox@{digest}"),
        );
        let both: Reference = format!("x.io/b:1@{digest}").parse().unwrap();
        assert_eq!(both.record(), format!("x.io/b@{digest}"));
        assert_eq!(both.tag(), Some("1"));
    }

    #[test]
    fn what_is_no_name_is_refused_in_dockers_words() {
        let refused = |text: &str| text.parse::<Reference>().unwrap_err().to_string();
        for text in [
            "",
            ":",
            "a:",
            "a b",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "/a",
            "a/",
            "a//b",
            "a:b:c",
            "a@sha256:1",
            "a@",
            "x.io:/a",
            "x..io/a",
            "[]:1/a",
            "x.io:b/a",
            "a:-x",
            "ä",
            "a\n",
            "A_/_",
        ] {
            assert!(
                refused(text).starts_with("invalid reference format"),
                "{text}: {}",
                refused(text)
            );
        }
        assert_eq!(
            refused("Busybox"),
            "invalid reference format: repository name (library/Busybox) must be lowercase"
        );
        assert_eq!(
            refused(&"a1".repeat(32)),
            format!(
                "invalid repository name ({}), cannot specify 64-byte hexadecimal strings",
                "a1".repeat(32)
            )
        );
        assert_eq!(
            refused(&"a".repeat(300)),
            "repository name must not be more than 255 characters"
        );
        assert_eq!(
            refused(&format!("a:{}", "t".repeat(129))),
            "invalid reference format"
        );
    }

    proptest! {
        #[test]
        fn no_text_panics_and_names_round_trip(text in "[a-z0-9A-Z./:@_\\[\\]-]{0,40}|.{0,20}") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(&reference.to_string().parse::<Reference>().unwrap(), &reference);
                prop_assert_eq!(&reference.familiar().parse::<Reference>().unwrap(), &reference);
            }
        }
    }
}
