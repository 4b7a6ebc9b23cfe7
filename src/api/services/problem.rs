//! Why a service's spec is refused, in Docker's words.

use crate::api::backend::{Refusal, RefusalClass};
use crate::api::lookup::LookupError;
use crate::model::constraints::ConstraintError;
use crate::model::task_spec::template::TemplateError;

/// What is wrong with a spec. Nothing was done.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(in crate::api) enum SpecProblem {
    #[error("name must be valid as a DNS name component")]
    Name,
    #[error("meta: name must be provided")]
    NoName,
    #[error("name must be 63 characters or fewer")]
    LongName,
    #[error("the spec of a service is {0} bytes long here, and at most {max} bytes are possible", max = super::check::SPEC_LIMIT)]
    TooLong(usize),

    #[error("must specify only one service mode")]
    Modes,
    #[error("Number of replicas must be non-negative")]
    NegativeReplicas,
    #[error("Maximum concurrent jobs must not be negative")]
    NegativeConcurrent,
    #[error("Total completed jobs must not be negative")]
    NegativeTotal,
    #[error("a service has at most {max} tasks: {0} were asked for", max = super::check::MAX_TASKS)]
    TooMany(u64),
    #[error("Jobs may not have an update config")]
    JobUpdate,

    #[error("mismatched Runtime and *Spec fields")]
    Mismatched,
    #[error("unsupported runtime")]
    Runtime,
    #[error("runtime type \"plugin\" only supported in experimental")]
    Plugin,

    #[error("unrecognized update failure action {0}")]
    FailureAction(String),
    #[error("unrecognized update order {0}")]
    Order(String),
    #[error("TaskSpec: update-delay cannot be negative")]
    UpdateDelay,
    #[error("TaskSpec: update-monitor cannot be negative")]
    Monitor,
    #[error("TaskSpec: update-maxfailureratio cannot be less than 0 or bigger than 1")]
    FailureRatio,

    #[error("invalid resolution mode: {0:?}")]
    Resolution(String),
    #[error("invalid protocol {0:?} of a published port: it is tcp, udp or sctp")]
    Protocol(String),
    #[error("invalid publish mode {0:?} of a port: it is ingress or host")]
    PublishMode(String),
    #[error("EndpointSpec: port published with ingress mode can't be used with dnsrr mode")]
    IngressWithDnsrr,
    #[error("EndpointSpec: duplicate published ports provided")]
    DuplicatePorts,
    #[error("a published port needs the port of the container that it leads to: set TargetPort")]
    NoTargetPort,

    #[error("invalid cpu value {}: Must be at least 0.001", *.0 as f64 / 1e9)]
    Cpu(i64),
    #[error("invalid memory value {0}: Must be at least 4MiB")]
    Memory(i64),
    #[error(
        "invalid generic resource: it needs a Kind, and either a Value of at least 1 or a name"
    )]
    GenericResource,
    #[error("invalid RestartCondition: {0:?}")]
    RestartCondition(String),
    #[error("TaskSpec: restart-delay cannot be negative")]
    RestartDelay,
    #[error("TaskSpec: restart-window cannot be negative")]
    RestartWindow,
    #[error("{0}")]
    Constraint(ConstraintError),

    #[error("ContainerSpec: image reference must be provided")]
    NoImage,
    #[error("ContainerSpec: {0:?} is not a valid repository/tag")]
    Image(String),
    #[error("{0}")]
    Template(TemplateError),
    #[error("invalid MountType: {0:?}")]
    MountKind(String),
    #[error("invalid MountPropagation: {0:?}")]
    Propagation(String),
    #[error("ContainerSpec: duplicate mount point: {0}")]
    DuplicateMount(String),
    #[error("ContainerSpec: {0} in HealthConfig cannot be less than 1ms")]
    HealthSpan(&'static str),
    #[error("ContainerSpec: Retries in HealthConfig cannot be negative")]
    HealthRetries,
    #[error("malformed {0} reference")]
    Reference(&'static str),
    #[error("malformed {0} reference, no target provided")]
    ReferenceTarget(&'static str),
    #[error("malformed file {0} reference, invalid target file name provided")]
    ReferenceFile(&'static str),
    #[error("{kind} references '{first}' and '{second}' have a conflicting target: '{target}'")]
    ReferenceConflict {
        kind: &'static str,
        first: String,
        second: String,
        target: String,
    },
    #[error("invalid Config: either File or Runtime should be set")]
    ConfigTarget,
    #[error("invalid Config: cannot specify both File and Runtime")]
    ConfigTargets,
    #[error(
        "invalid CredentialSpec: must either provide \"file\", \"registry\", or \"config\" for credential spec"
    )]
    NoCredential,
    #[error(
        "invalid CredentialSpec: cannot specify more than one of \"config\", \"file\" and \"registry\" credential specs"
    )]
    Credentials,
    #[error(
        "CredentialSpec references config '{0}', but that config isn't in config references with RuntimeTarget"
    )]
    CredentialConfig(String),

    #[error("{kinds} not found: {names}")]
    Missing { kinds: String, names: String },
    #[error("{0}")]
    NoNetwork(LookupError),
    #[error(
        "skein attaches no task to the network {0:?} in this version: use \"host\", or no network"
    )]
    Network(String),
    #[error("Service cannot be explicitly attached to the ingress network {0:?}")]
    OnIngress(String),
    #[error("invalid label skein.mesh={0}: it is keep, snat or local")]
    Mesh(String),
    #[error("port '{port}' is already in use by service '{name}' ({id}) as {how}")]
    PortInUse {
        port: u16,
        name: String,
        id: String,
        how: &'static str,
    },

    #[error("networks must be migrated to TaskSpec before being changed")]
    OldNetworks,
}

impl From<SpecProblem> for Refusal {
    fn from(problem: SpecProblem) -> Self {
        let class = match problem {
            SpecProblem::NoNetwork(error) => return error.into(),
            SpecProblem::OldNetworks | SpecProblem::Network(_) => RefusalClass::NotImplemented,
            _ => RefusalClass::Invalid,
        };
        Self::new(class, problem.to_string())
    }
}
