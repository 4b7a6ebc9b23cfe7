//! Docker's `ContainerSpec`: the container of a task, in the user's words.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{MountSpec, unset};
use crate::model::dependency::DependencyKind;
use crate::model::image::Healthcheck;

/// The container that a task runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerSpec {
    /// What it is made of; the leader adds a digest when it can.
    #[serde(skip_serializing_if = "unset")]
    pub image: String,
    /// Labels of the container.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Replaces the image's entrypoint, and then its arguments too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Replaces the image's arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// May be a template.
    #[serde(skip_serializing_if = "unset")]
    pub hostname: String,
    /// `NAME=value`, the value perhaps a template; `NAME` alone takes the image's away.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Where the program starts.
    #[serde(skip_serializing_if = "unset")]
    pub dir: String,
    /// `user[:group]`.
    #[serde(skip_serializing_if = "unset")]
    pub user: String,
    /// Groups beside the user's own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// What it may do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privileges: Option<Privileges>,
    /// Whether a tiny init is its first process; as the node is set up when it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<bool>,
    /// What asks it to end.
    #[serde(skip_serializing_if = "unset")]
    pub stop_signal: String,
    /// It has a terminal.
    #[serde(rename = "TTY", skip_serializing_if = "unset")]
    pub tty: bool,
    /// Its standard input is kept open.
    #[serde(skip_serializing_if = "unset")]
    pub open_stdin: bool,
    /// Its root file system cannot be written.
    #[serde(skip_serializing_if = "unset")]
    pub read_only: bool,
    /// What is mounted into it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<MountSpec>,
    /// How long it has from the stop signal until it is killed, nanoseconds; 10 s when it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_grace_period: Option<i64>,
    /// How its health is asked.
    #[serde(alias = "HealthCheck", skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// `address name …`, as in `/etc/hosts`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// How it finds names.
    #[serde(rename = "DNSConfig", skip_serializing_if = "Option::is_none")]
    pub dns_config: Option<DnsSpec>,
    /// Secrets that it is given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretReference>,
    /// Configs that it is given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub configs: Vec<ConfigReference>,
    /// Of Windows; kept.
    #[serde(skip_serializing_if = "unset")]
    pub isolation: String,
    /// Kernel parameters of its namespaces.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
    /// Capabilities beside the usual ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub capability_add: Vec<String>,
    /// Capabilities that are taken away.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub capability_drop: Vec<String>,
    /// Limits of its processes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ulimits: Vec<UlimitSpec>,
    /// Added to the chance that the kernel kills it for want of memory, -1000 to 1000.
    #[serde(skip_serializing_if = "unset")]
    pub oom_score_adj: i64,
}

/// A secret or config that a container names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DependencyReference<'a> {
    /// Which of both.
    pub kind: DependencyKind,
    /// Which.
    pub id: &'a str,
    /// What it is called.
    pub name: &'a str,
    /// As what file, if as one.
    pub file: Option<&'a FileTarget>,
}

impl ContainerSpec {
    /// The secrets and configs that it names, secrets first.
    pub fn dependencies(&self) -> impl Iterator<Item = DependencyReference<'_>> {
        let secrets = self.secrets.iter().map(|one| DependencyReference {
            kind: DependencyKind::Secret,
            id: &one.secret_id,
            name: &one.secret_name,
            file: one.file.as_ref(),
        });
        let configs = self.configs.iter().map(|one| DependencyReference {
            kind: DependencyKind::Config,
            id: &one.config_id,
            name: &one.config_name,
            file: one.file.as_ref(),
        });
        secrets.chain(configs)
    }
}

/// What a container may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Privileges {
    /// Of Windows; kept.
    pub credential_spec: Option<CredentialSpec>,
    /// Kept; no node of ours has SELinux labels.
    #[serde(rename = "SELinuxContext")]
    pub selinux_context: Option<SelinuxContext>,
    /// Which system calls are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<SeccompOpts>,
    /// Which AppArmor profile holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_armor: Option<AppArmorOpts>,
    /// No program gains more than its parent had.
    pub no_new_privileges: bool,
}

/// A credential of Windows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CredentialSpec {
    /// The config that holds it.
    pub config: String,
    /// The file that holds it.
    pub file: String,
    /// The registry value that holds it.
    pub registry: String,
}

/// Labels of SELinux.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SelinuxContext {
    /// None at all.
    pub disable: bool,
    /// User.
    pub user: String,
    /// Role.
    pub role: String,
    /// Type.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Level.
    pub level: String,
}

/// Which system calls are refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SeccompOpts {
    /// `default`, `unconfined` or `custom`; `default` when empty.
    #[serde(skip_serializing_if = "unset")]
    pub mode: String,
    /// The custom profile: Docker's JSON form, in base64.
    #[serde(skip_serializing_if = "unset")]
    pub profile: String,
}

/// Which AppArmor profile holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AppArmorOpts {
    /// `default` or `disabled`; `default` when empty.
    #[serde(skip_serializing_if = "unset")]
    pub mode: String,
}

/// How a container finds names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DnsSpec {
    /// Addresses of servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// Domains to search.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Options as they stand in `resolv.conf`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// A secret that a container is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SecretReference {
    /// As what file.
    pub file: Option<FileTarget>,
    /// Which.
    #[serde(rename = "SecretID")]
    pub secret_id: String,
    /// What it is called; must be the name of that ID.
    pub secret_name: String,
}

/// A config that a container is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ConfigReference {
    /// As what file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<FileTarget>,
    /// Not as a file, but for the runtime.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<RuntimeTarget>,
    /// Which.
    #[serde(rename = "ConfigID")]
    pub config_id: String,
    /// What it is called; must be the name of that ID.
    pub config_name: String,
}

/// For the runtime; it has no settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeTarget {}

/// A file in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct FileTarget {
    /// Its name, or its path.
    pub name: String,
    /// Its owner, a number.
    #[serde(rename = "UID")]
    pub uid: String,
    /// Its group, a number.
    #[serde(rename = "GID")]
    pub gid: String,
    /// Its permissions.
    pub mode: u32,
}

/// A limit of the container's processes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UlimitSpec {
    /// As in `nofile`.
    pub name: String,
    /// Up to where a process may raise it; -1 for no bound.
    pub hard: i64,
    /// What holds; -1 for no bound.
    pub soft: i64,
}
