//! What the flags of `service create` ask for, in docker's JSON. Pure.
//!
//! What stands for nothing is left out or empty as docker's client has it, so that both make the same service.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::flags::{ContainerFlags, CreateArgs, HealthFlags, PolicyFlags, ResourceFlags, Shared};
use crate::cli::parts::small;

/// The spec that the flags stand for. Names of networks, secrets and configs are still names. `env` is the whole
/// environment, the files' too.
pub(super) fn spec(args: &CreateArgs, env: &[String]) -> Result<Value, String> {
    let shared = &args.shared;
    let mode = mode(args)?;
    let update = update_config(&shared.policy);
    let rollback = rollback_config(&shared.policy);
    let is_job = mode.get("ReplicatedJob").is_some() || mode.get("GlobalJob").is_some();
    if is_job && (update.is_some() || rollback.is_some()) {
        return Err("update and rollback configuration is not supported for jobs".into());
    }
    let mut spec = json!({
        "Name": args.name.clone().unwrap_or_default(),
        "Labels": small::map(&args.label),
        "TaskTemplate": task(args, env)?,
        "Mode": mode,
        "EndpointSpec": {
            "Mode": shared.endpoint_mode.as_deref().unwrap_or("vip"),
            "Ports": args.publish.iter().flat_map(|ports| ports.0.clone()).collect::<Vec<Value>>(),
        },
    });
    for (name, config) in [("UpdateConfig", update), ("RollbackConfig", rollback)] {
        if let Some(config) = config {
            spec[name] = config;
        }
    }
    Ok(spec)
}

fn mode(args: &CreateArgs) -> Result<Value, String> {
    let shared = &args.shared;
    let no = |what: &str, set: bool, modes: &str| match set {
        true => Err(format!("{what} can only be used with {modes} mode")),
        false => Ok(()),
    };
    let (replicas, concurrent) = (shared.replicas, shared.max_concurrent);
    if args.mode.starts_with("global") {
        no(
            "replicas",
            replicas.is_some(),
            "replicated or replicated-job",
        )?;
        let most = shared.replicas_max_per_node.unwrap_or_default();
        no(
            "replicas-max-per-node",
            most > 0,
            "replicated or replicated-job",
        )?;
    }
    if args.mode != "replicated-job" {
        no("max-concurrent", concurrent.is_some(), "replicated-job")?;
    }
    Ok(match args.mode.as_str() {
        "global" => json!({"Global": {}}),
        "global-job" => json!({"GlobalJob": {}}),
        "replicated-job" => job(replicas, concurrent),
        _ => json!({"Replicated": number("Replicas", replicas)}),
    })
}

/// `ReplicatedJob` with as many at a time as there are in all, unless it says otherwise.
pub(in crate::cli) fn job(replicas: Option<u64>, concurrent: Option<u64>) -> Value {
    let mut job = number("TotalCompletions", replicas);
    if let Some(concurrent) = concurrent.or(replicas) {
        job["MaxConcurrent"] = concurrent.into();
    }
    json!({"ReplicatedJob": job})
}

fn number(name: &str, value: Option<u64>) -> Value {
    value.map_or_else(|| json!({}), |value| json!({name: value}))
}

fn task(args: &CreateArgs, env: &[String]) -> Result<Value, String> {
    let shared = &args.shared;
    let mut task = json!({
        "ContainerSpec": container(args, env)?,
        "Resources": resources(&shared.resources, &args.generic_resource),
        "Placement": {
            "Constraints": args.constraint,
            "Preferences": args.placement_pref,
            "MaxReplicas": shared.replicas_max_per_node.unwrap_or_default(),
        },
        "Networks": args.network,
        "ForceUpdate": 0,
    });
    if let Some(policy) = restart_policy(&shared.policy) {
        task["RestartPolicy"] = policy;
    }
    if let Some(name) = shared.log_driver.as_ref().filter(|name| !name.is_empty()) {
        task["LogDriver"] = log_driver(name, shared);
    }
    Ok(task)
}

/// `LogDriver`.
pub(super) fn log_driver(name: &str, shared: &Shared) -> Value {
    json!({"Name": name, "Options": small::map(&shared.log_opt)})
}

fn container(args: &CreateArgs, env: &[String]) -> Result<Value, String> {
    let flags = &args.shared.container;
    let (add, drop) = small::effective(&flags.cap_add, &flags.cap_drop);
    let hosts: Vec<String> = args
        .hosts
        .iter()
        .map(|host| small::swarm_host(host))
        .collect();
    let mut container = json!({
        "Image": args.image,
        "Labels": small::map(&args.container_label),
        "Args": args.args,
        "Env": merged_env(env),
        "Groups": args.group,
        "Init": flags.init.unwrap_or_default(),
        "TTY": flags.tty.unwrap_or_default(),
        "ReadOnly": flags.read_only.unwrap_or_default(),
        "Mounts": args.mount,
        "Hosts": hosts,
        "DNSConfig": {
            "Nameservers": args.dns, "Search": args.dns_search, "Options": args.dns_option,
        },
        "Sysctls": small::map(&args.sysctl),
        "CapabilityAdd": add,
        "CapabilityDrop": drop,
        "Ulimits": args.ulimit,
        "OomScoreAdj": flags.oom_score_adj.unwrap_or_default(),
        "Secrets": args.secret,
        "Configs": args.config,
    });
    for (name, value) in words(flags) {
        container[name] = value;
    }
    if let Some(spec) = flags
        .credential_spec
        .as_ref()
        .filter(|spec| spec.is_object())
    {
        container["Privileges"] = json!({"CredentialSpec": spec, "SELinuxContext": null});
    }
    if let Some(health) = health(&args.shared.health)? {
        container["Healthcheck"] = health;
    }
    Ok(container)
}

/// Fields of the container that are one value each, as far as they were given.
pub(super) fn words(flags: &ContainerFlags) -> Vec<(&'static str, Value)> {
    let text = |name, value: &Option<String>| value.clone().map(|value| (name, value.into()));
    let entrypoint = flags.entrypoint.as_ref();
    [
        entrypoint.map(|words| ("Command", words.0.clone().into())),
        text("Hostname", &flags.hostname),
        text("Dir", &flags.workdir),
        text("User", &flags.user),
        text("Isolation", &flags.isolation),
        text("StopSignal", &flags.stop_signal),
        flags
            .stop_grace_period
            .map(|nanos| ("StopGracePeriod", nanos.into())),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Of variables that were given twice the last one counts, at its own place.
pub(in crate::cli) fn merged_env(all: &[String]) -> Vec<String> {
    let mut kept: Vec<String> = Vec::with_capacity(all.len());
    for variable in all {
        if kept.contains(variable) {
            continue;
        }
        let key = variable.split('=').next().unwrap_or_default();
        kept.retain(|other| other.split('=').next() != Some(key));
        kept.push(variable.clone());
    }
    kept
}

fn health(flags: &HealthFlags) -> Result<Option<Value>, String> {
    let spans = health_spans(flags);
    let command = flags
        .health_cmd
        .as_ref()
        .filter(|command| !command.is_empty());
    let any = !spans.is_empty() || command.is_some();
    if flags.no_healthcheck {
        return match any {
            true => Err("--no-healthcheck conflicts with --health-* options".into()),
            false => Ok(Some(json!({"Test": ["NONE"]}))),
        };
    }
    if !any {
        return Ok(None);
    }
    let mut health = json!({});
    if let Some(command) = command {
        health["Test"] = json!(["CMD-SHELL", command]);
    }
    for (name, value) in spans {
        health[name] = value.into();
    }
    Ok(Some(health))
}

/// The numbers of a health check that were given.
pub(super) fn health_spans(flags: &HealthFlags) -> Vec<(&'static str, i64)> {
    [
        ("Interval", flags.health_interval),
        ("Timeout", flags.health_timeout),
        ("Retries", flags.health_retries),
        ("StartPeriod", flags.health_start_period),
        ("StartInterval", flags.health_start_interval),
    ]
    .into_iter()
    .filter_map(|(name, value)| value.map(|value| (name, value)))
    .collect()
}

fn resources(flags: &ResourceFlags, generic: &[Value]) -> Value {
    let some = |pairs: &[(&str, Option<i64>)]| {
        let pairs = pairs.iter();
        let given: BTreeMap<String, i64> = pairs
            .filter_map(|(name, value)| value.map(|value| ((*name).to_owned(), value)))
            .collect();
        json!(given)
    };
    let limits = some(&[
        ("NanoCPUs", flags.limit_cpu),
        ("MemoryBytes", flags.limit_memory),
        ("Pids", flags.limit_pids),
    ]);
    let mut reservations = some(&[
        ("NanoCPUs", flags.reserve_cpu),
        ("MemoryBytes", flags.reserve_memory),
    ]);
    if !generic.is_empty() {
        reservations["GenericResources"] = generic.into();
    }
    json!({"Limits": limits, "Reservations": reservations})
}

/// Sets what was given in a restart policy; what is usual stands in one that is new. `None` when nothing was given.
pub(super) fn restart_policy(flags: &PolicyFlags) -> Option<Value> {
    let mut policy = Value::Null;
    set_restart_policy(flags, &mut policy).then_some(policy)
}

/// Sets what was given; false when nothing was.
pub(super) fn set_restart_policy(flags: &PolicyFlags, policy: &mut Value) -> bool {
    let given = [
        (
            "Condition",
            flags.restart_condition.as_deref().map(Value::from),
        ),
        ("Delay", flags.restart_delay.map(Value::from)),
        ("MaxAttempts", flags.restart_max_attempts.map(Value::from)),
        ("Window", flags.restart_window.map(Value::from)),
    ];
    let usual = || json!({"Condition": "any", "Delay": 5_000_000_000_i64, "MaxAttempts": 0});
    set(policy, given, usual)
}

fn update_config(flags: &PolicyFlags) -> Option<Value> {
    let mut config = Value::Null;
    set_update_config(flags, &mut config).then_some(config)
}

fn rollback_config(flags: &PolicyFlags) -> Option<Value> {
    let mut config = Value::Null;
    set_rollback_config(flags, &mut config).then_some(config)
}

fn usual_update() -> Value {
    json!({
        "Parallelism": 1, "FailureAction": "pause", "Monitor": 5_000_000_000_i64, "MaxFailureRatio": 0,
        "Order": "stop-first",
    })
}

/// Sets what was given of `--update-*`; false when nothing was.
pub(super) fn set_update_config(flags: &PolicyFlags, config: &mut Value) -> bool {
    let given = [
        ("Parallelism", flags.update_parallelism.map(Value::from)),
        ("Delay", flags.update_delay.map(Value::from)),
        (
            "FailureAction",
            flags.update_failure_action.as_deref().map(Value::from),
        ),
        ("Monitor", flags.update_monitor.map(Value::from)),
        (
            "MaxFailureRatio",
            flags.update_max_failure_ratio.map(Value::from),
        ),
        ("Order", flags.update_order.as_deref().map(Value::from)),
    ];
    set(config, given, usual_update)
}

/// Sets what was given of `--rollback-*`; false when nothing was.
pub(super) fn set_rollback_config(flags: &PolicyFlags, config: &mut Value) -> bool {
    let given = [
        ("Parallelism", flags.rollback_parallelism.map(Value::from)),
        ("Delay", flags.rollback_delay.map(Value::from)),
        (
            "FailureAction",
            flags.rollback_failure_action.as_deref().map(Value::from),
        ),
        ("Monitor", flags.rollback_monitor.map(Value::from)),
        (
            "MaxFailureRatio",
            flags.rollback_max_failure_ratio.map(Value::from),
        ),
        ("Order", flags.rollback_order.as_deref().map(Value::from)),
    ];
    set(config, given, usual_update)
}

fn set<const N: usize>(
    object: &mut Value,
    given: [(&str, Option<Value>); N],
    usual: impl FnOnce() -> Value,
) -> bool {
    let any = given.iter().any(|(_, value)| value.is_some());
    if any && !object.is_object() {
        *object = usual();
    }
    for (name, value) in given {
        if let Some(value) = value {
            object[name] = value;
        }
    }
    any
}
