//! What the tasks of one version of a service need of a node, read once from their template.

use super::constraints::Subject;
use super::resources::Demand;
use crate::model::Template;
use crate::model::task_spec::PlatformSpec;

/// A port of a machine, with its protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HostPort {
    port: u16,
    protocol: Protocol,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

/// Which nodes fit, by what they are: services that ask for the same share the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) constraints: Vec<String>,
    /// Architecture and operating system, in Docker's short names.
    pub(super) platforms: Vec<(String, String)>,
}

impl Place {
    /// Whether it is any node.
    pub(super) fn is_anywhere(&self) -> bool {
        self.constraints.is_empty() && self.platforms.is_empty()
    }
}

/// What a task needs.
#[derive(Clone, Debug, Default)]
pub(super) struct Needs {
    pub(super) demand: Demand,
    /// Those that it names itself; a port that its machine chooses is free.
    pub(super) ports: Vec<HostPort>,
    /// Of its service on one node; `None` is no bound.
    pub(super) max_replicas: Option<u64>,
    /// What to spread over, the most important first.
    pub(super) preferences: Vec<Subject>,
    pub(super) place: Place,
}

impl Needs {
    /// Reads a template.
    pub(super) fn of(template: &Template) -> Self {
        let resources = template.task.resources.as_ref();
        let reservation = resources.and_then(|resources| resources.reservations.as_ref());
        let published = template
            .endpoint
            .iter()
            .flat_map(|endpoint| &endpoint.ports);
        let ports = published
            .filter(|port| port.is_host() && port.published_port != 0)
            .map(|port| HostPort {
                port: port.published_port,
                protocol: match port.protocol() {
                    "udp" => Protocol::Udp,
                    "sctp" => Protocol::Sctp,
                    _ => Protocol::Tcp,
                },
            })
            .collect();
        let needs = Self {
            demand: reservation.map(Demand::of).unwrap_or_default(),
            ports,
            ..Self::default()
        };
        let Some(placement) = &template.task.placement else {
            return needs;
        };
        let spread = placement.preferences.iter();
        let spread = spread.filter_map(|preference| preference.spread.as_ref());
        Self {
            max_replicas: (placement.max_replicas > 0).then_some(placement.max_replicas),
            preferences: spread
                .filter_map(|over| Subject::of(over.spread_descriptor.trim()))
                .filter(|subject| *subject != Subject::Ip)
                .collect(),
            place: Place {
                constraints: placement.constraints.clone(),
                platforms: placement.platforms.iter().map(short).collect(),
            },
            ..needs
        }
    }
}

/// A platform in Docker's short names.
pub(super) fn short(platform: &PlatformSpec) -> (String, String) {
    let architecture = short_architecture(&platform.architecture);
    (architecture.into(), platform.os.clone())
}

/// Docker's own name for what machines call otherwise.
pub(super) fn short_architecture(name: &str) -> &str {
    match name {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
