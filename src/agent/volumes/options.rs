//! The options of the `local` driver, as what `mount(2)` is told, in Docker's words where they are refused.
//!
//! Pure: a host's name among them is left for who mounts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use nix::mount::MsFlags;

/// Why options are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// No such option.
    #[error("invalid option: {0:?}")]
    Unknown(String),
    /// One that another needs.
    #[error("missing required option: {0:?}")]
    Missing(&'static str),
    /// A limit on the size of a directory.
    #[error("quota size requested but no quota support")]
    Quota,
}

/// What to mount on a volume's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountPlan {
    /// The device, the remote directory, or the directory that is shown.
    pub device: PathBuf,
    /// The file system; `none` for a bind mount.
    pub kind: String,
    /// Everything but propagation.
    pub flags: MsFlags,
    /// How mounts below it spread.
    pub propagation: MsFlags,
    /// What the file system is told, options as they were given.
    pub data: String,
}

/// Words that are flags: to set, or to clear.
const FLAGS: [(&str, bool, MsFlags); 30] = [
    ("defaults", true, MsFlags::empty()),
    ("ro", true, MsFlags::MS_RDONLY),
    ("rw", false, MsFlags::MS_RDONLY),
    ("suid", false, MsFlags::MS_NOSUID),
    ("nosuid", true, MsFlags::MS_NOSUID),
    ("dev", false, MsFlags::MS_NODEV),
    ("nodev", true, MsFlags::MS_NODEV),
    ("exec", false, MsFlags::MS_NOEXEC),
    ("noexec", true, MsFlags::MS_NOEXEC),
    ("sync", true, MsFlags::MS_SYNCHRONOUS),
    ("async", false, MsFlags::MS_SYNCHRONOUS),
    ("dirsync", true, MsFlags::MS_DIRSYNC),
    ("remount", true, MsFlags::MS_REMOUNT),
    ("mand", true, MsFlags::MS_MANDLOCK),
    ("nomand", false, MsFlags::MS_MANDLOCK),
    ("atime", false, MsFlags::MS_NOATIME),
    ("noatime", true, MsFlags::MS_NOATIME),
    ("diratime", false, MsFlags::MS_NODIRATIME),
    ("nodiratime", true, MsFlags::MS_NODIRATIME),
    ("bind", true, MsFlags::MS_BIND),
    ("rbind", true, MsFlags::MS_BIND.union(MsFlags::MS_REC)),
    ("relatime", true, MsFlags::MS_RELATIME),
    ("norelatime", false, MsFlags::MS_RELATIME),
    ("strictatime", true, MsFlags::MS_STRICTATIME),
    ("nostrictatime", false, MsFlags::MS_STRICTATIME),
    ("private", true, MsFlags::MS_PRIVATE),
    ("rprivate", true, MsFlags::MS_PRIVATE.union(MsFlags::MS_REC)),
    ("shared", true, MsFlags::MS_SHARED),
    ("rshared", true, MsFlags::MS_SHARED.union(MsFlags::MS_REC)),
    ("slave", true, MsFlags::MS_SLAVE),
];

const RSLAVE: MsFlags = MsFlags::MS_SLAVE.union(MsFlags::MS_REC);

const PROPAGATION: MsFlags = MsFlags::MS_PRIVATE
    .union(MsFlags::MS_SHARED)
    .union(MsFlags::MS_SLAVE);

/// What `options` ask for; `None` for a plain directory.
pub fn plan(options: &BTreeMap<String, String>) -> Result<Option<MountPlan>, OptionsError> {
    for name in options.keys() {
        match name.as_str() {
            "type" | "o" | "device" => {}
            "size" => return Err(OptionsError::Quota),
            _ => return Err(OptionsError::Unknown(name.clone())),
        }
    }
    let option = |name: &str| options.get(name);
    let (device, kind) = match (option("device"), option("type"), option("o")) {
        (None, None, None) => return Ok(None),
        (Some(device), Some(kind), _) => (device, kind),
        (None, _, _) => return Err(OptionsError::Missing("device")),
        (Some(_), None, _) => return Err(OptionsError::Missing("type")),
    };
    let mut flags = MsFlags::empty();
    let mut propagation = MsFlags::empty();
    let mut data = Vec::new();
    for word in option("o").map_or("", String::as_str).split(',') {
        let flag = FLAGS.iter().find(|(name, ..)| *name == word);
        match flag {
            _ if word.is_empty() => {}
            _ if word == "rslave" => propagation = RSLAVE,
            Some((_, _, flag)) if flag.intersects(PROPAGATION) => propagation = *flag,
            Some((_, true, flag)) => flags |= *flag,
            Some((_, false, flag)) => flags &= !*flag,
            None => data.push(word),
        }
    }
    Ok(Some(MountPlan {
        device: device.into(),
        kind: kind.clone(),
        flags,
        propagation,
        data: data.join(","),
    }))
}

impl MountPlan {
    /// The host whose address the kernel must be given, when it is given a name: file systems of other machines.
    pub fn host(&self) -> Option<&str> {
        if !matches!(self.kind.as_str(), "nfs" | "nfs4" | "cifs") {
            return None;
        }
        let host = self
            .data
            .split(',')
            .find_map(|word| word.strip_prefix("addr="))?;
        host.parse::<std::net::IpAddr>().is_err().then_some(host)
    }

    /// With a host's address in the place of its name.
    #[must_use]
    pub fn with_address(mut self, address: std::net::IpAddr) -> Self {
        if let Some(host) = self.host() {
            let (named, known) = (format!("addr={host}"), format!("addr={address}"));
            self.data = self.data.replacen(&named, &known, 1);
        }
        self
    }

    /// What is shown when it fails: as Docker does, and no password.
    pub(super) fn words(&self, target: &std::path::Path, reason: &dyn std::fmt::Display) -> String {
        let mut words = format!("mount {}:{}", self.device.display(), target.display());
        if !self.flags.is_empty() {
            words += &format!(", flags: 0x{:x}", self.flags.bits());
        }
        if !self.data.is_empty() {
            let secret = |word: &str| match word.split_once('=') {
                Some((name @ ("password" | "pass"), _)) => format!("{name}=********"),
                _ => word.to_string(),
            };
            let data: Vec<String> = self.data.split(',').map(secret).collect();
            words += &format!(", data: {}", data.join(","));
        }
        format!("{words}: {reason}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(options: &[(&str, &str)]) -> Result<Option<MountPlan>, String> {
        let options = options.iter().map(|(k, v)| ((*k).into(), (*v).into()));
        plan(&options.collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_usual_ones_are_understood() {
        assert_eq!(planned(&[]), Ok(None));
        let bind = planned(&[
            ("type", "none"),
            ("o", "bind,ro,rslave"),
            ("device", "/srv"),
        ]);
        let bind = bind.unwrap().unwrap();
        assert_eq!(bind.flags, MsFlags::MS_BIND | MsFlags::MS_RDONLY);
        assert_eq!(bind.propagation, RSLAVE);
        assert_eq!(bind.data, "");
        let tmpfs = planned(&[
            ("type", "tmpfs"),
            ("o", "size=1m,uid=7,noexec"),
            ("device", "tmpfs"),
        ]);
        let tmpfs = tmpfs.unwrap().unwrap();
        assert_eq!(
            (tmpfs.flags, tmpfs.data.as_str()),
            (MsFlags::MS_NOEXEC, "size=1m,uid=7")
        );
        let nfs = [
            ("type", "nfs"),
            ("o", "addr=files.example,rw,nolock"),
            ("device", ":/export"),
        ];
        let nfs = planned(&nfs).unwrap().unwrap();
        assert_eq!(nfs.host(), Some("files.example"));
        let nfs = nfs.with_address("192.0.2.1".parse().unwrap());
        assert_eq!(
            (nfs.host(), nfs.data.as_str()),
            (None, "addr=192.0.2.1,nolock")
        );
    }

    #[test]
    fn refusals_have_dockers_words() {
        for (options, words) in [
            (&[("foo", "x")][..], "invalid option: \"foo\""),
            (&[("device", "/x")], "missing required option: \"type\""),
            (&[("type", "none")], "missing required option: \"device\""),
            (&[("o", "bind")], "missing required option: \"device\""),
            (
                &[("size", "1g")],
                "quota size requested but no quota support",
            ),
        ] {
            assert_eq!(planned(options).unwrap_err(), words);
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        let cifs = [
            ("type", "cifs"),
            ("o", "ro,username=me,password=secret"),
            ("device", "//host/x"),
        ];
        let words = planned(&cifs)
            .unwrap()
            .unwrap()
            .words("/v".as_ref(), &"no such device");
        assert_eq!(
            words,
            "mount //host/x:/v, flags: 0x1, data: username=me,password=********: no such device"
        );
    }
}
