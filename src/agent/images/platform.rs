//! Which of the images that one name stands for is the one for a machine.
//!
//! Pure. The pull chooses by it from an index; nothing else decides about platforms.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::manifest::Descriptor;

/// What an image is built for.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`.
    #[serde(default)]
    pub os: String,
    /// As Go names it: `amd64`, `arm64`, `arm`.
    #[serde(default)]
    pub architecture: String,
    /// A kind of the architecture, `v7`; empty when it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// Why a text is no platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\": unknown operating system or architecture: invalid argument")]
pub struct ParsePlatformError(String);

impl Platform {
    /// This machine's.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "x86" => ("386", ""),
            "aarch64" => ("arm64", ""),
            "arm" => ("arm", "v7"),
            "powerpc64" => ("ppc64le", ""),
            other => (other, ""),
        };
        Self {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: variant.into(),
        }
    }

    /// Architecture and variant under the names that are compared: `arm64/v8` is `arm64`, `arm` is `arm/v7`.
    fn normal(&self) -> (&str, &str, &str) {
        let architecture = match self.architecture.as_str() {
            "x86_64" | "x86-64" => "amd64",
            "aarch64" => "arm64",
            "i386" | "i686" => "386",
            "armhf" => "arm",
            other => other,
        };
        let variant = match (architecture, self.variant.as_str()) {
            ("arm64", "v8" | "8") | ("amd64", "v1") => "",
            ("arm", "" | "7") => "v7",
            (_, variant) => variant,
        };
        (&self.os, architecture, variant)
    }

    /// How well a machine of this platform runs what is built for `image`, higher is better; `None` when it does not.
    fn fit(&self, image: &Self) -> Option<u8> {
        let ((os, arch, variant), (image_os, image_arch, image_variant)) =
            (self.normal(), image.normal());
        let level = |variant: &str| variant.trim_start_matches('v').parse::<u8>().unwrap_or(0);
        if os != image_os {
            return None;
        }
        if arch == image_arch {
            return match variant == image_variant {
                true => Some(100),
                false if level(image_variant) < level(variant) => Some(50 + level(image_variant)),
                false => None,
            };
        }
        match (arch, image_arch) {
            ("arm64", "arm") => Some(level(image_variant).min(8)),
            ("amd64", "386") => Some(1),
            _ => None,
        }
    }

    /// The entry of an index that suits best; of several that are equally good, the first. What names no platform, and
    /// attestations, which are no images, are passed over.
    pub fn choose<'a>(&self, entries: &'a [Descriptor]) -> Option<&'a Descriptor> {
        let fits = entries
            .iter()
            .filter_map(|entry| Some((self.fit(entry.platform.as_ref()?)?, entry)));
        fits.rev()
            .max_by_key(|(fit, _)| *fit)
            .map(|(_, entry)| entry)
    }

    /// Whether a machine of this platform runs what is built for `image`.
    pub fn runs(&self, image: &Self) -> bool {
        self.fit(image).is_some()
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match self.variant.is_empty() {
            true => Ok(()),
            false => write!(f, "/{}", self.variant),
        }
    }
}

impl FromStr for Platform {
    type Err = ParsePlatformError;

    /// `os/architecture[/variant]`, or an architecture alone.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split('/').collect();
        let word = |part: &&str| {
            !part.is_empty()
                && part
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
        };
        let (os, architecture, variant) = match parts.as_slice() {
            [architecture] => ("linux", *architecture, ""),
            [os, architecture] => (*os, *architecture, ""),
            [os, architecture, variant] => (*os, *architecture, *variant),
            _ => return Err(ParsePlatformError(text.into())),
        };
        if !parts.iter().all(word) {
            return Err(ParsePlatformError(text.into()));
        }
        Ok(Self {
            os: os.to_lowercase(),
            architecture: architecture.to_lowercase(),
            variant: variant.to_lowercase(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Digest;

    fn check(machine: &str, entries: &[&str], expected: Option<usize>) {
        let entries: Vec<Descriptor> = (0u8..)
            .zip(entries)
            .map(|(n, entry)| Descriptor {
                digest: Digest::from_bytes([n; 32]),
                platform: entry.parse().ok(),
                ..Descriptor::default()
            })
            .collect();
        let machine: Platform = machine.parse().unwrap();
        let chosen = machine
            .choose(&entries)
            .map(|entry| usize::from(entry.digest.bytes()[0]));
        assert_eq!(chosen, expected, "{machine} of {entries:?}");
    }

    #[test]
    fn the_best_that_runs_is_chosen() {
        check(
            "linux/amd64",
            &["linux/arm64", "linux/amd64", "linux/amd64"],
            Some(1),
        );
        check(
            "linux/amd64",
            &["windows/amd64", "linux/arm64", "linux/386"],
            Some(2),
        );
        check("linux/amd64", &["linux/386", "linux/amd64/v1"], Some(1));
        check("linux/amd64", &["linux/amd64/v3"], None);
        check("linux/arm64", &["linux/arm/v6", "linux/arm/v7"], Some(1));
        check("linux/arm64", &["linux/arm/v7", "linux/arm64/v8"], Some(1));
        check("linux/arm/v6", &["linux/arm/v7", "linux/arm/v5"], Some(1));
        check("arm64", &["linux/amd64"], None);
        check("linux/amd64", &["", "/"], None);
    }

    #[test]
    fn what_is_no_platform_is_refused() {
        for bad in ["", "a/b/c/d", "linux//v7", "a b"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
        assert_eq!(
            "Linux/ARM/v7".parse::<Platform>().unwrap().to_string(),
            "linux/arm/v7"
        );
    }
}
