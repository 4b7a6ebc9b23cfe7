//! The flags of `service create` and `service update`: what both have, and what each has of its own.
//!
//! Everything is optional, so that an update knows what was said. What a flag becomes is in `create` and `update`.

use clap::Args;
use serde_json::Value;

use crate::cli::parts::{mounts, networks, ports, references, small};
use crate::cli::values::{self, Words};

/// Flags that both have.
#[derive(Clone, Debug, Default, Args)]
pub(in crate::cli) struct Shared {
    #[command(flatten)]
    pub(super) container: ContainerFlags,
    #[command(flatten)]
    pub(super) health: HealthFlags,
    #[command(flatten)]
    pub(super) resources: ResourceFlags,
    #[command(flatten)]
    pub(super) policy: PolicyFlags,
    /// Endpoint mode (vip or dnsrr)
    #[arg(long, value_parser = ["vip", "dnsrr"])]
    pub(super) endpoint_mode: Option<String>,
    /// Logging driver of the service
    #[arg(long)]
    pub(super) log_driver: Option<String>,
    /// Options of the logging driver
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) log_opt: Vec<String>,
    /// Tasks of a job that run at a time (default: as many as --replicas)
    #[arg(long)]
    pub(super) max_concurrent: Option<u64>,
    /// Number of tasks
    #[arg(long)]
    pub(super) replicas: Option<u64>,
    /// Most tasks on one node (0: any number)
    #[arg(long)]
    pub(super) replicas_max_per_node: Option<u64>,
    /// Do not ask the registry for the image's digest and platforms
    #[arg(long)]
    pub(super) no_resolve_image: bool,
    /// Send the registry's credentials to the nodes
    #[arg(long)]
    pub(super) with_registry_auth: bool,
    /// Do not wait until the service has converged
    #[arg(long, short, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(super) detach: Option<bool>,
    /// Show no progress
    #[arg(long, short)]
    pub(super) quiet: bool,
}

/// What the container is.
#[derive(Clone, Debug, Default, Args)]
pub(in crate::cli) struct ContainerFlags {
    /// Add a Linux capability
    #[arg(long, value_name = "CAPABILITY")]
    pub(super) cap_add: Vec<String>,
    /// Drop a Linux capability
    #[arg(long, value_name = "CAPABILITY")]
    pub(super) cap_drop: Vec<String>,
    /// Credential spec of a managed service account (Windows only)
    #[arg(long, value_parser = small::credential_spec)]
    pub(super) credential_spec: Option<Value>,
    /// Overwrite the image's entrypoint
    #[arg(long, value_parser = values::words, value_name = "COMMAND")]
    pub(super) entrypoint: Option<Words>,
    /// Hostname of the containers
    #[arg(long)]
    pub(super) hostname: Option<String>,
    /// Run an init in each container that forwards signals and reaps processes
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(super) init: Option<bool>,
    /// Isolation of the containers (Windows only)
    #[arg(long)]
    pub(super) isolation: Option<String>,
    /// Preference of the kernel when memory runs out, -1000 to 1000
    #[arg(long, allow_negative_numbers = true)]
    pub(super) oom_score_adj: Option<i64>,
    /// Mount the root filesystem read-only
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(super) read_only: Option<bool>,
    /// Time between asking a container to stop and killing it
    #[arg(long, value_parser = values::nanos, value_name = "DURATION")]
    pub(super) stop_grace_period: Option<i64>,
    /// Signal that asks a container to stop
    #[arg(long)]
    pub(super) stop_signal: Option<String>,
    /// Give the containers a terminal
    #[arg(long, short, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(super) tty: Option<bool>,
    /// User, name|uid[:group|gid]
    #[arg(long, short)]
    pub(super) user: Option<String>,
    /// Working directory
    #[arg(long, short, value_name = "PATH")]
    pub(super) workdir: Option<String>,
}

/// How its health is looked at.
#[derive(Clone, Debug, Default, Args)]
pub(in crate::cli) struct HealthFlags {
    /// Command that tells whether it is healthy
    #[arg(long, value_name = "COMMAND")]
    pub(super) health_cmd: Option<String>,
    /// Time between two checks
    #[arg(long, value_parser = values::nanos, value_name = "DURATION")]
    pub(super) health_interval: Option<i64>,
    /// Failures in a row that make it unhealthy
    #[arg(long)]
    pub(super) health_retries: Option<i64>,
    /// Time between two checks while it starts
    #[arg(long, value_parser = values::nanos, value_name = "DURATION")]
    pub(super) health_start_interval: Option<i64>,
    /// Time in which failures do not count yet
    #[arg(long, value_parser = values::nanos, value_name = "DURATION")]
    pub(super) health_start_period: Option<i64>,
    /// Longest that one check may take
    #[arg(long, value_parser = values::nanos, value_name = "DURATION")]
    pub(super) health_timeout: Option<i64>,
    /// No check, whatever the image says
    #[arg(long)]
    pub(super) no_healthcheck: bool,
}

/// What it may use, and what is kept for it.
#[derive(Clone, Debug, Default, Args)]
pub(in crate::cli) struct ResourceFlags {
    /// Most CPUs
    #[arg(long, value_parser = values::cpus, value_name = "CPUS")]
    pub(super) limit_cpu: Option<i64>,
    /// Most memory
    #[arg(long, value_parser = values::bytes, value_name = "BYTES")]
    pub(super) limit_memory: Option<i64>,
    /// Most processes (0: any number)
    #[arg(long)]
    pub(super) limit_pids: Option<i64>,
    /// CPUs kept for each task
    #[arg(long, value_parser = values::cpus, value_name = "CPUS")]
    pub(super) reserve_cpu: Option<i64>,
    /// Memory kept for each task
    #[arg(long, value_parser = values::bytes, value_name = "BYTES")]
    pub(super) reserve_memory: Option<i64>,
}

/// How tasks are restarted, updated and rolled back.
#[derive(Clone, Debug, Default, Args)]
pub(in crate::cli) struct PolicyFlags {
    /// When a task is restarted (default any)
    #[arg(long, value_parser = ["none", "on-failure", "any"])]
    pub(super) restart_condition: Option<String>,
    /// Time between two attempts (default 5s)
    #[arg(long, value_parser = values::nanos, value_name = "DURATION")]
    pub(super) restart_delay: Option<i64>,
    /// Most attempts
    #[arg(long)]
    pub(super) restart_max_attempts: Option<u64>,
    /// Time in which attempts are counted
    #[arg(long, value_parser = values::nanos, value_name = "DURATION")]
    pub(super) restart_window: Option<i64>,
    /// Time between two tasks of an update (default 0s)
    #[arg(long, value_parser = values::nanos, value_name = "DURATION")]
    pub(super) update_delay: Option<i64>,
    /// What a failed update does (default pause)
    #[arg(long, value_parser = ["pause", "continue", "rollback"])]
    pub(super) update_failure_action: Option<String>,
    /// Failures that an update bears, 0 to 1
    #[arg(long)]
    pub(super) update_max_failure_ratio: Option<f32>,
    /// Time in which an updated task is watched (default 5s)
    #[arg(long, value_parser = values::nanos, value_name = "DURATION")]
    pub(super) update_monitor: Option<i64>,
    /// Order of an update (default stop-first)
    #[arg(long, value_parser = ["start-first", "stop-first"])]
    pub(super) update_order: Option<String>,
    /// Tasks updated at a time (0: all; default 1)
    #[arg(long)]
    pub(super) update_parallelism: Option<u64>,
    /// Time between two tasks of a rollback (default 0s)
    #[arg(long, value_parser = values::nanos, value_name = "DURATION")]
    pub(super) rollback_delay: Option<i64>,
    /// What a failed rollback does (default pause)
    #[arg(long, value_parser = ["pause", "continue"])]
    pub(super) rollback_failure_action: Option<String>,
    /// Failures that a rollback bears, 0 to 1
    #[arg(long)]
    pub(super) rollback_max_failure_ratio: Option<f32>,
    /// Time in which a task that was rolled back is watched (default 5s)
    #[arg(long, value_parser = values::nanos, value_name = "DURATION")]
    pub(super) rollback_monitor: Option<i64>,
    /// Order of a rollback (default stop-first)
    #[arg(long, value_parser = ["start-first", "stop-first"])]
    pub(super) rollback_order: Option<String>,
    /// Tasks rolled back at a time (0: all; default 1)
    #[arg(long)]
    pub(super) rollback_parallelism: Option<u64>,
}

/// Make a service, and wait until it has converged
#[derive(Clone, Debug, Default, Args)]
#[command(
    after_help = "Examples:\n  skein service create --name web --replicas 3 --publish 8080:80 nginx\n  \
    skein service create --mode global --mount type=bind,src=/,dst=/host,ro agent:1\n  \
    skein service create --mode replicated-job --replicas 10 --max-concurrent 2 worker:1 run"
)]
pub(in crate::cli) struct CreateArgs {
    #[command(flatten)]
    pub(super) shared: Shared,
    /// Show a config to the containers
    #[arg(long, value_parser = references::config, value_name = "NAME|source=NAME,target=PATH,…")]
    pub(super) config: Vec<Value>,
    /// Where tasks may run, such as node.role==worker
    #[arg(long)]
    pub(super) constraint: Vec<String>,
    /// Label of the containers
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) container_label: Vec<String>,
    /// DNS server
    #[arg(long)]
    pub(super) dns: Vec<std::net::IpAddr>,
    /// DNS option
    #[arg(long)]
    pub(super) dns_option: Vec<String>,
    /// DNS search domain
    #[arg(long)]
    pub(super) dns_search: Vec<String>,
    /// Environment variable; without a value, the one of this shell
    #[arg(long, short, value_name = "KEY[=VALUE]")]
    pub(super) env: Vec<String>,
    /// File of environment variables
    #[arg(long, value_name = "PATH")]
    pub(super) env_file: Vec<std::path::PathBuf>,
    /// Resources of your own that are kept for each task
    #[arg(long, value_parser = small::generic_resource, value_name = "KIND=COUNT")]
    pub(super) generic_resource: Vec<Value>,
    /// Further group of the user
    #[arg(long)]
    pub(super) group: Vec<String>,
    /// Further line of the hosts file; `--host HOST:IP` as well
    #[arg(long = "add-host", value_parser = small::host, value_name = "HOST:IP")]
    pub(in crate::cli) hosts: Vec<String>,
    /// Label of the service
    #[arg(long, short, value_name = "KEY=VALUE")]
    pub(super) label: Vec<String>,
    /// What kind of service
    #[arg(long, default_value = "replicated", value_parser = ["replicated", "global", "replicated-job", "global-job"])]
    pub(super) mode: String,
    /// Volume, bind or tmpfs
    #[arg(long, value_parser = mounts::mount, value_name = "type=…,source=…,target=…")]
    pub(super) mount: Vec<Value>,
    /// The service's name
    #[arg(long)]
    pub(super) name: Option<String>,
    /// Network
    #[arg(long, value_parser = networks::attachment, value_name = "NAME|name=NAME,alias=…")]
    pub(super) network: Vec<Value>,
    /// How tasks are spread, such as spread=node.labels.zone
    #[arg(long, value_parser = small::preference, value_name = "spread=…")]
    pub(super) placement_pref: Vec<Value>,
    /// Published port
    #[arg(long, short, value_parser = ports::publish, value_name = "PUBLISHED:TARGET")]
    pub(super) publish: Vec<ports::Ports>,
    /// Show a secret to the containers
    #[arg(long, value_parser = references::secret, value_name = "NAME|source=NAME,target=FILE,…")]
    pub(super) secret: Vec<Value>,
    /// Kernel setting of the containers
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) sysctl: Vec<String>,
    /// Limit of the processes
    #[arg(long, value_parser = small::ulimit, value_name = "NAME=SOFT[:HARD]")]
    pub(super) ulimit: Vec<Value>,
    /// The image
    pub(super) image: String,
    /// Its command and arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(super) args: Vec<String>,
}

/// Change a service, and wait until it has converged
#[derive(Clone, Debug, Default, Args)]
#[command(
    after_help = "Examples:\n  skein service update --image nginx:1.27 web\n  \
    skein service update --env-add LEVEL=debug --publish-rm 80 web\n  skein service update --force web"
)]
pub(in crate::cli) struct UpdateArgs {
    #[command(flatten)]
    pub(super) shared: Shared,
    #[command(flatten)]
    pub(super) lists: UpdateLists,
    /// Arguments of the command
    #[arg(long, value_parser = values::words, value_name = "COMMAND")]
    pub(super) args: Option<Words>,
    /// The image
    #[arg(long)]
    pub(super) image: Option<String>,
    /// Replace the tasks even where nothing has changed
    #[arg(long)]
    pub(super) force: bool,
    /// Back to what the service was before its last update
    #[arg(long)]
    pub(super) rollback: bool,
    /// The service
    pub(super) service: String,
}

/// What an update adds and removes.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub(in crate::cli) struct UpdateLists {
    /// Add or replace a config
    #[arg(long, value_parser = references::config)]
    pub(super) config_add: Vec<Value>,
    /// Remove a config
    #[arg(long)]
    pub(super) config_rm: Vec<String>,
    /// Add a constraint
    #[arg(long)]
    pub(super) constraint_add: Vec<String>,
    /// Remove a constraint
    #[arg(long)]
    pub(super) constraint_rm: Vec<String>,
    /// Add or replace a label of the containers
    #[arg(long)]
    pub(super) container_label_add: Vec<String>,
    /// Remove a label of the containers
    #[arg(long)]
    pub(super) container_label_rm: Vec<String>,
    /// Add a DNS server
    #[arg(long)]
    pub(super) dns_add: Vec<std::net::IpAddr>,
    /// Remove a DNS server
    #[arg(long)]
    pub(super) dns_rm: Vec<String>,
    /// Add a DNS option
    #[arg(long)]
    pub(super) dns_option_add: Vec<String>,
    /// Remove a DNS option
    #[arg(long)]
    pub(super) dns_option_rm: Vec<String>,
    /// Add a DNS search domain
    #[arg(long)]
    pub(super) dns_search_add: Vec<String>,
    /// Remove a DNS search domain
    #[arg(long)]
    pub(super) dns_search_rm: Vec<String>,
    /// Add or replace an environment variable
    #[arg(long)]
    pub(super) env_add: Vec<String>,
    /// Remove an environment variable
    #[arg(long)]
    pub(super) env_rm: Vec<String>,
    /// Add or replace a resource of your own
    #[arg(long, value_parser = small::generic_resource)]
    pub(super) generic_resource_add: Vec<Value>,
    /// Remove a resource of your own
    #[arg(long)]
    pub(super) generic_resource_rm: Vec<String>,
    /// Add a group of the user
    #[arg(long)]
    pub(super) group_add: Vec<String>,
    /// Remove a group of the user
    #[arg(long)]
    pub(super) group_rm: Vec<String>,
    /// Add a line of the hosts file, HOST:IP
    #[arg(long, value_parser = small::host)]
    pub(super) host_add: Vec<String>,
    /// Remove a line of the hosts file, HOST or HOST:IP
    #[arg(long)]
    pub(super) host_rm: Vec<String>,
    /// Add or replace a label
    #[arg(long)]
    pub(super) label_add: Vec<String>,
    /// Remove a label
    #[arg(long)]
    pub(super) label_rm: Vec<String>,
    /// Add or replace a mount
    #[arg(long, value_parser = mounts::mount)]
    pub(super) mount_add: Vec<Value>,
    /// Remove a mount, by its target
    #[arg(long)]
    pub(super) mount_rm: Vec<String>,
    /// Add a network
    #[arg(long, value_parser = networks::attachment)]
    pub(super) network_add: Vec<Value>,
    /// Remove a network
    #[arg(long)]
    pub(super) network_rm: Vec<String>,
    /// Add a placement preference
    #[arg(long, value_parser = small::preference)]
    pub(super) placement_pref_add: Vec<Value>,
    /// Remove a placement preference
    #[arg(long, value_parser = small::preference)]
    pub(super) placement_pref_rm: Vec<Value>,
    /// Add or replace a published port
    #[arg(long, value_parser = ports::publish)]
    pub(super) publish_add: Vec<ports::Ports>,
    /// Remove a published port, by its target
    #[arg(long, value_parser = ports::publish)]
    pub(super) publish_rm: Vec<ports::Ports>,
    /// Add or replace a secret
    #[arg(long, value_parser = references::secret)]
    pub(super) secret_add: Vec<Value>,
    /// Remove a secret
    #[arg(long)]
    pub(super) secret_rm: Vec<String>,
    /// Add or replace a kernel setting
    #[arg(long)]
    pub(super) sysctl_add: Vec<String>,
    /// Remove a kernel setting
    #[arg(long)]
    pub(super) sysctl_rm: Vec<String>,
    /// Add or replace a limit of the processes
    #[arg(long, value_parser = small::ulimit)]
    pub(super) ulimit_add: Vec<Value>,
    /// Remove a limit of the processes
    #[arg(long)]
    pub(super) ulimit_rm: Vec<String>,
}
