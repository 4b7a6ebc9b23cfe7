//! The filter of system calls of one container: Docker's default, none, or a profile that the user wrote.
//!
//! Pure. Both kinds become rules with conditions (kernel, architecture, capabilities), of which those that hold for
//! this container on this machine are handed to the runtime.

use std::collections::BTreeSet;

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompOperator, LinuxSyscall,
};
use serde::Deserialize;

use super::seccomp_default as data;
use super::{HostFacts, SpecError};
use crate::model::container::Seccomp;

/// The filter for a container with these capabilities; `None` when it is to have none, or the kernel has no filters.
pub(super) fn filter(
    wanted: &Seccomp,
    capabilities: &BTreeSet<String>,
    host: &HostFacts,
) -> Result<Option<LinuxSeccomp>, SpecError> {
    let profile = match wanted {
        Seccomp::Unconfined => return Ok(None),
        Seccomp::Default if !host.seccomp => return Ok(None),
        Seccomp::Profile(_) if !host.seccomp => return Err(SpecError::NoSeccomp),
        Seccomp::Default => default_profile(host),
        Seccomp::Profile(json) => {
            serde_json::from_str::<Profile>(json).map_err(SpecError::SeccompProfile)?
        }
    };
    profile.for_container(capabilities, host).map(Some)
}

/// A profile in Docker's JSON form.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: LinuxSeccompAction,
    #[serde(default)]
    default_errno_ret: Option<u32>,
    /// Either these two …
    #[serde(default)]
    architectures: Option<Vec<Arch>>,
    /// … or this, which also names the main architecture that each entry is for.
    #[serde(default)]
    arch_map: Option<Vec<ArchEntry>>,
    #[serde(default)]
    syscalls: Option<Vec<Rule>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchEntry {
    architecture: Arch,
    #[serde(default)]
    sub_architectures: Option<Vec<Arch>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    /// One name, the old form.
    #[serde(default)]
    name: String,
    #[serde(default)]
    names: Vec<String>,
    action: LinuxSeccompAction,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<LinuxSeccompArg>>,
    #[serde(default)]
    includes: Option<Conditions>,
    #[serde(default)]
    excludes: Option<Conditions>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Conditions {
    #[serde(default)]
    caps: Vec<String>,
    #[serde(default)]
    arches: Vec<String>,
    #[serde(default)]
    min_kernel: Option<String>,
}

impl Profile {
    fn for_container(
        self,
        capabilities: &BTreeSet<String>,
        host: &HostFacts,
    ) -> Result<LinuxSeccomp, SpecError> {
        let mut filter = LinuxSeccomp::default();
        filter
            .set_default_action(self.default_action)
            .set_default_errno_ret(self.default_errno_ret);
        let own = native(&host.arch);
        let mut architectures = self.architectures.unwrap_or_default();
        for entry in self.arch_map.into_iter().flatten() {
            if Some(entry.architecture) == own {
                architectures.push(entry.architecture);
                architectures.extend(entry.sub_architectures.into_iter().flatten());
            }
        }
        if !architectures.is_empty() {
            filter.set_architectures(Some(architectures));
        }
        let mut calls = Vec::new();
        for rule in self.syscalls.into_iter().flatten() {
            if rule.holds(capabilities, host)? {
                calls.push(rule.into_call());
            }
        }
        filter.set_syscalls(Some(calls));
        Ok(filter)
    }
}

impl Rule {
    fn holds(&self, capabilities: &BTreeSet<String>, host: &HostFacts) -> Result<bool, SpecError> {
        let arch = docker_name(&host.arch);
        if let Some(excludes) = &self.excludes {
            let out = excludes.caps.iter().any(|cap| capabilities.contains(cap))
                || excludes.arches.iter().any(|name| name == arch);
            if out || reached(excludes.min_kernel.as_deref(), host)? == Some(true) {
                return Ok(false);
            }
        }
        let Some(includes) = &self.includes else {
            return Ok(true);
        };
        let arches = includes.arches.is_empty() || includes.arches.iter().any(|name| name == arch);
        let caps = includes.caps.iter().all(|cap| capabilities.contains(cap));
        let kernel = reached(includes.min_kernel.as_deref(), host)?.unwrap_or(true);
        Ok(arches && caps && kernel)
    }

    fn into_call(mut self) -> LinuxSyscall {
        if !self.name.is_empty() {
            self.names.push(self.name);
        }
        let mut call = LinuxSyscall::default();
        call.set_names(self.names)
            .set_action(self.action)
            .set_errno_ret(self.errno_ret)
            .set_args(self.args.filter(|args| !args.is_empty()));
        call
    }
}

/// Whether the kernel is as new as a condition asks; `None` without a condition.
fn reached(version: Option<&str>, host: &HostFacts) -> Result<Option<bool>, SpecError> {
    let Some(version) = version else {
        return Ok(None);
    };
    let parsed = version
        .split_once('.')
        .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    match parsed {
        Some(wanted) => Ok(Some(host.kernel >= wanted)),
        None => Err(SpecError::SeccompKernel(version.to_owned())),
    }
}

/// Docker's name of an architecture as Rust names it.
fn docker_name(arch: &str) -> &str {
    match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

fn native(arch: &str) -> Option<Arch> {
    match arch {
        "x86_64" => Some(Arch::ScmpArchX86_64),
        "aarch64" => Some(Arch::ScmpArchAarch64),
        "s390x" => Some(Arch::ScmpArchS390x),
        "riscv64" => Some(Arch::ScmpArchRiscv64),
        _ => None,
    }
}

/// Docker's default, made of [`data`].
fn default_profile(host: &HostFacts) -> Profile {
    let mut rules: Vec<Rule> = data::ALWAYS
        .iter()
        .map(|names| Rule::allow(names))
        .collect();
    rules.push(Rule::allow(data::FROM_4_8).since_kernel("4.8"));
    rules.push(Rule::allow("socket").when(
        0,
        LinuxSeccompOperator::ScmpCmpNe,
        data::AF_VSOCK,
        None,
    ));
    for value in data::PERSONALITIES {
        let rule = Rule::allow("personality");
        rules.push(rule.when(0, LinuxSeccompOperator::ScmpCmpEq, value, None));
    }
    for (arch, names) in data::ON_ARCHITECTURE {
        rules.push(Rule::allow(names).on(arch));
    }
    for (capability, names) in data::WITH_CAPABILITY {
        rules.push(Rule::allow(names).with(capability));
    }
    rules.push(Rule::allow("clone").without("CAP_SYS_ADMIN").when(
        0,
        LinuxSeccompOperator::ScmpCmpMaskedEq,
        data::NAMESPACE_FLAGS,
        Some(0),
    ));
    rules.push(Rule {
        action: LinuxSeccompAction::ScmpActErrno,
        errno_ret: Some(data::NO_SUCH_CALL),
        ..Rule::allow("clone3").without("CAP_SYS_ADMIN")
    });
    Profile {
        default_action: LinuxSeccompAction::ScmpActErrno,
        default_errno_ret: Some(data::NOT_PERMITTED),
        architectures: Some(match &*host.arch {
            // Each costs a start milliseconds, and hardly any kernel has x32.
            "x86_64" if host.x32 => {
                vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32]
            }
            "x86_64" => vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86],
            "aarch64" => vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm],
            _ => Vec::new(),
        }),
        arch_map: None,
        syscalls: Some(rules),
    }
}

impl Rule {
    fn allow(names: &str) -> Self {
        Self {
            name: String::new(),
            names: names.split_whitespace().map(str::to_owned).collect(),
            action: LinuxSeccompAction::ScmpActAllow,
            errno_ret: None,
            args: None,
            includes: None,
            excludes: None,
        }
    }

    fn when(self, index: usize, op: LinuxSeccompOperator, value: u64, two: Option<u64>) -> Self {
        let arg = LinuxSeccompArgBuilder::default()
            .index(index)
            .op(op)
            .value(value);
        let arg = match two {
            Some(two) => arg.value_two(two),
            None => arg,
        };
        let arg = arg.build().expect("index, operator and value are given");
        Self {
            args: Some(vec![arg]),
            ..self
        }
    }

    fn including(self, conditions: Conditions) -> Self {
        Self {
            includes: Some(conditions),
            ..self
        }
    }

    fn since_kernel(self, version: &str) -> Self {
        self.including(Conditions {
            min_kernel: Some(version.to_owned()),
            ..Conditions::default()
        })
    }

    fn on(self, arch: &str) -> Self {
        self.including(Conditions {
            arches: vec![arch.to_owned()],
            ..Conditions::default()
        })
    }

    fn with(self, capability: &str) -> Self {
        self.including(Conditions {
            caps: vec![capability.to_owned()],
            ..Conditions::default()
        })
    }

    fn without(self, capability: &str) -> Self {
        Self {
            excludes: Some(Conditions {
                caps: vec![capability.to_owned()],
                ..Conditions::default()
            }),
            ..self
        }
    }
}
