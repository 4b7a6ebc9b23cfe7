//! How a service of a stack file is deployed: mode, resources, placement, restarts, updates. Pure.

use serde_json::{Value, json};

use super::super::values::{At, duration, float, integer, put, size, text, texts};
use super::container::cpus;

/// `Mode`.
pub(super) fn mode(service: &Value, at: &At<'_>) -> Result<Value, String> {
    let deploy = &service["deploy"];
    let replicas = match integer(&deploy["replicas"], &at.of("deploy.replicas"))? {
        Some(replicas) => Some(replicas),
        None => integer(&service["scale"], &at.of("scale"))?,
    };
    let Ok(replicas) = replicas.map(u64::try_from).transpose() else {
        return Err(at.of("deploy.replicas").error("it cannot be negative"));
    };
    let at = at.of("deploy.mode");
    let mode = text(&deploy["mode"], &at)?.unwrap_or_default();
    match mode.as_str() {
        "global" | "global-job" if replicas.is_some() => {
            Err(at.error("replicas can only be used with replicated or replicated-job mode"))
        }
        "global" => Ok(json!({"Global": {}})),
        "global-job" => Ok(json!({"GlobalJob": {}})),
        "replicated-job" => Ok(crate::cli::service::create::job(replicas, None)),
        "" | "replicated" => {
            let mut replicated = json!({});
            put(&mut replicated, "Replicas", replicas);
            Ok(json!({"Replicated": replicated}))
        }
        mode => Err(at.error(format!(
            "unknown mode {mode}: use replicated, global, replicated-job or global-job"
        ))),
    }
}

/// `Resources`.
pub(super) fn resources(service: &Value, at: &At<'_>) -> Result<Value, String> {
    let given = &service["deploy"]["resources"];
    let (limits, reservations) = (&given["limits"], &given["reservations"]);
    let here = at.of("deploy.resources");
    let mut all = json!({});
    let or = |value: &'_ Value, key: &str| match value {
        Value::Null => service[key].clone(),
        value => value.clone(),
    };
    let limit = [
        ("NanoCPUs", cpus(&or(&limits["cpus"], "cpus"), &here)?),
        (
            "MemoryBytes",
            size(&or(&limits["memory"], "mem_limit"), &here)?,
        ),
        ("Pids", integer(&or(&limits["pids"], "pids_limit"), &here)?),
    ];
    let reserved = [
        ("NanoCPUs", cpus(&reservations["cpus"], &here)?),
        (
            "MemoryBytes",
            size(&or(&reservations["memory"], "mem_reservation"), &here)?,
        ),
    ];
    for (part, fields) in [("Limits", &limit[..]), ("Reservations", &reserved[..])] {
        for (field, value) in fields.iter().filter(|(_, value)| value.is_some()) {
            put(&mut all[part], field, *value);
        }
    }
    if reservations["devices"].is_array() {
        return Err(
            here.error("devices are not supported: use generic_resources, which nodes declare")
        );
    }
    let generic = reservations["generic_resources"]
        .as_array()
        .into_iter()
        .flatten();
    let mut found = Vec::new();
    for resource in generic {
        let spec = &resource["discrete_resource_spec"];
        let (Some(kind), Some(value)) = (spec["kind"].as_str(), integer(&spec["value"], &here)?)
        else {
            return Err(
                here.error("generic_resources need discrete_resource_spec with kind and value")
            );
        };
        found.push(json!({"DiscreteResourceSpec": {"Kind": kind, "Value": value}}));
    }
    if !found.is_empty() {
        put(&mut all["Reservations"], "GenericResources", Some(found));
    }
    Ok(all)
}

/// `Placement`.
pub(super) fn placement(deploy: &Value, at: &At<'_>) -> Result<Value, String> {
    let (placement, at) = (&deploy["placement"], at.of("deploy.placement"));
    let mut preferences = Vec::new();
    for preference in placement["preferences"].as_array().into_iter().flatten() {
        let Some(spread) = preference["spread"].as_str() else {
            return Err(at.of("preferences").error("each one needs spread"));
        };
        preferences.push(json!({"Spread": {"SpreadDescriptor": spread}}));
    }
    let mut all = json!({
        "Constraints": texts(&placement["constraints"], &at.of("constraints"))?,
        "Preferences": preferences,
    });
    let most = integer(
        &placement["max_replicas_per_node"],
        &at.of("max_replicas_per_node"),
    )?;
    put(&mut all, "MaxReplicas", most);
    Ok(all)
}

/// `RestartPolicy`; the key `restart` stands for it where `deploy` says nothing.
pub(super) fn restart_policy(service: &Value, at: &At<'_>) -> Result<Option<Value>, String> {
    let policy = &service["deploy"]["restart_policy"];
    if !policy.is_object() {
        let at = at.of("restart");
        let restart = text(&service["restart"], &at)?.unwrap_or_default();
        let (name, attempts) = restart.split_once(':').unwrap_or((&restart, "0"));
        let attempts: u64 = attempts
            .parse()
            .map_err(|_| at.error("the number of attempts is no number"))?;
        return match name {
            // As docker has it: then the cluster's usual policy counts.
            "" | "no" | "false" => Ok(None),
            "always" | "unless-stopped" => Ok(Some(json!({"Condition": "any"}))),
            "on-failure" => Ok(Some(
                json!({"Condition": "on-failure", "MaxAttempts": attempts}),
            )),
            name => Err(at.error(format!(
                "unknown policy {name}: use no, always, unless-stopped or on-failure"
            ))),
        };
    }
    let at = at.of("deploy.restart_policy");
    let mut all = json!({});
    let condition = text(&policy["condition"], &at.of("condition"))?;
    put(&mut all, "Condition", condition);
    for (key, field) in [("delay", "Delay"), ("window", "Window")] {
        put(&mut all, field, duration(&policy[key], &at.of(key))?);
    }
    let attempts = integer(&policy["max_attempts"], &at.of("max_attempts"))?;
    put(&mut all, "MaxAttempts", attempts);
    Ok(Some(all))
}

/// `UpdateConfig` and `RollbackConfig`; one at a time where nothing is said.
pub(super) fn update_config(config: &Value, at: &At<'_>) -> Result<Option<Value>, String> {
    if !config.is_object() {
        return Ok(None);
    }
    let parallelism = integer(&config["parallelism"], &at.of("parallelism"))?;
    let mut all = json!({"Parallelism": parallelism.unwrap_or(1), "MaxFailureRatio": 0.0});
    for (key, field) in [("failure_action", "FailureAction"), ("order", "Order")] {
        put(&mut all, field, text(&config[key], &at.of(key))?);
    }
    for (key, field) in [("delay", "Delay"), ("monitor", "Monitor")] {
        put(&mut all, field, duration(&config[key], &at.of(key))?);
    }
    let ratio = float(&config["max_failure_ratio"], &at.of("max_failure_ratio"))?;
    put(&mut all, "MaxFailureRatio", ratio);
    Ok(Some(all))
}
