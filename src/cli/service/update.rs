//! What the flags of `service update` make of a spec. Pure.
//!
//! The spec is the one that the daemon showed; what is not asked for stays as it is, fields that are not known too.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::create::{
    health_spans, log_driver, set_restart_policy, set_rollback_config, set_update_config, words,
};
use super::flags::{HealthFlags, PolicyFlags, ResourceFlags, UpdateArgs, UpdateLists};
use crate::cli::parts::small;
use crate::cli::rows::list;
use crate::cli::swarm::text;

/// Changes `spec`. Networks, secrets and configs are not its work: they need the daemon.
pub(super) fn apply(args: &UpdateArgs, spec: &mut Value) -> Result<(), String> {
    let (shared, lists) = (&args.shared, &args.lists);
    relabel(&mut spec["Labels"], &lists.label_add, &lists.label_rm);
    container(args, &mut spec["TaskTemplate"]["ContainerSpec"])?;
    let task = &mut spec["TaskTemplate"];
    resources(&shared.resources, &mut task["Resources"]);
    generic_resources(lists, &mut task["Resources"])?;
    if given_restart(&shared.policy) {
        set_restart_policy(&shared.policy, &mut task["RestartPolicy"]);
    }
    placement(args, task);
    if let Some(name) = shared.log_driver.as_ref().filter(|name| !name.is_empty()) {
        task["LogDriver"] = log_driver(name, shared);
    }
    if args.force {
        let forced = task["ForceUpdate"].as_u64().unwrap_or_default();
        task["ForceUpdate"] = (forced + 1).into();
    }
    if let Some(replicas) = shared.replicas {
        let replicated = spec["Mode"].get_mut("Replicated");
        let replicated = replicated.ok_or("replicas can only be used with replicated mode")?;
        replicated["Replicas"] = replicas.into();
    }
    keep_absent(spec, "UpdateConfig", |config| {
        set_update_config(&shared.policy, config)
    });
    keep_absent(spec, "RollbackConfig", |config| {
        set_rollback_config(&shared.policy, config)
    });
    if let Some(mode) = &shared.endpoint_mode {
        spec["EndpointSpec"]["Mode"] = mode.as_str().into();
    }
    if !lists.publish_add.is_empty() || !lists.publish_rm.is_empty() {
        let ports = ports(list(spec, "/EndpointSpec/Ports"), lists);
        spec["EndpointSpec"]["Ports"] = ports.into();
    }
    drop_nulls(spec);
    Ok(())
}

/// Looking into a field that is not there makes it null; what is null goes.
fn drop_nulls(value: &mut Value) {
    if let Value::Object(map) = value {
        map.retain(|_, value| !value.is_null());
        map.values_mut().for_each(drop_nulls);
    }
}

fn keep_absent(spec: &mut Value, name: &str, change: impl FnOnce(&mut Value) -> bool) {
    let mut config = spec[name].take();
    change(&mut config);
    spec[name] = config;
}

fn given_restart(flags: &PolicyFlags) -> bool {
    flags.restart_condition.is_some()
        || flags.restart_delay.is_some()
        || flags.restart_max_attempts.is_some()
        || flags.restart_window.is_some()
}

fn relabel(labels: &mut Value, add: &[String], remove: &[String]) {
    if let Some(map) = labels.as_object_mut() {
        remove.iter().for_each(|key| {
            map.remove(key);
        });
    }
    for (key, value) in small::map(add) {
        labels[key] = value.into();
    }
}

fn container(args: &UpdateArgs, container: &mut Value) -> Result<(), String> {
    let (flags, lists) = (&args.shared.container, &args.lists);
    relabel(
        &mut container["Labels"],
        &lists.container_label_add,
        &lists.container_label_rm,
    );
    if let Some(image) = &args.image {
        container["Image"] = image.as_str().into();
    }
    if let Some(words) = &args.args {
        container["Args"] = words.0.clone().into();
    }
    for (name, value) in words(flags) {
        container[name] = value;
    }
    for (name, value) in [
        ("Init", flags.init),
        ("TTY", flags.tty),
        ("ReadOnly", flags.read_only),
    ] {
        if let Some(value) = value {
            container[name] = value.into();
        }
    }
    if let Some(score) = flags.oom_score_adj {
        container["OomScoreAdj"] = score.into();
    }
    container["Env"] = env(list(container, "/Env"), lists).into();
    container["Mounts"] = mounts(list(container, "/Mounts"), lists)?.into();
    let sysctls: Vec<String> = small::map(&lists.sysctl_rm).into_keys().collect();
    relabel(&mut container["Sysctls"], &lists.sysctl_add, &sysctls);
    container["Ulimits"] = ulimits(list(container, "/Ulimits"), lists).into();
    if !lists.group_add.is_empty() || !lists.group_rm.is_empty() {
        let groups = texts(list(container, "/Groups"));
        let mut groups = merged(groups, &lists.group_add, &lists.group_rm);
        groups.sort();
        container["Groups"] = groups.into();
    }
    dns(lists, &mut container["DNSConfig"]);
    if !lists.host_add.is_empty() || !lists.host_rm.is_empty() {
        container["Hosts"] = hosts(&texts(list(container, "/Hosts")), lists).into();
    }
    health(&args.shared.health, &mut container["Healthcheck"])?;
    if !flags.cap_add.is_empty() || !flags.cap_drop.is_empty() {
        let (add, drop) = capabilities(container, &flags.cap_add, &flags.cap_drop);
        container["CapabilityAdd"] = add.into();
        container["CapabilityDrop"] = drop.into();
    }
    match &flags.credential_spec {
        Some(Value::Null) => container["Privileges"]["CredentialSpec"] = Value::Null,
        Some(spec) => container["Privileges"]["CredentialSpec"] = spec.clone(),
        None => {}
    }
    Ok(())
}

fn texts(values: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    values.iter().map(text).collect()
}

/// With `add`, without `remove`.
fn merged(mut values: Vec<String>, add: &[String], remove: &[String]) -> Vec<String> {
    values.extend(add.iter().cloned());
    values.retain(|value| !remove.contains(value));
    values
}

/// Variables are replaced where they stand, so that saying the same again changes nothing.
fn env(old: &[Value], lists: &UpdateLists) -> Vec<String> {
    let key = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    let mut env = texts(old);
    env.retain(|variable| !lists.env_rm.contains(&key(variable)));
    for variable in &lists.env_add {
        match env.iter_mut().find(|other| key(other) == key(variable)) {
            Some(other) => other.clone_from(variable),
            None => env.push(variable.clone()),
        }
    }
    env
}

fn mounts(old: &[Value], lists: &UpdateLists) -> Result<Vec<Value>, String> {
    let mut by_target: BTreeMap<&str, &Value> = BTreeMap::new();
    for mount in &lists.mount_add {
        if by_target.insert(text(mount, "/Target"), mount).is_some() {
            return Err("duplicate mount target".into());
        }
    }
    for mount in old {
        by_target.entry(text(mount, "/Target")).or_insert(mount);
    }
    by_target.retain(|target, _| !lists.mount_rm.iter().any(|gone| gone == target));
    let mut mounts: Vec<Value> = by_target.into_values().cloned().collect();
    mounts.sort_by(|a, b| {
        let key = |mount: &Value| {
            (
                text(mount, "/Source").to_owned(),
                text(mount, "/Target").to_owned(),
            )
        };
        key(a).cmp(&key(b))
    });
    Ok(mounts)
}

fn ulimits(old: &[Value], lists: &UpdateLists) -> Vec<Value> {
    let remove = small::map(&lists.ulimit_rm);
    let mut by_name: BTreeMap<&str, &Value> = old
        .iter()
        .map(|limit| (text(limit, "/Name"), limit))
        .collect();
    by_name.retain(|name, _| !remove.contains_key(*name));
    by_name.extend(
        lists
            .ulimit_add
            .iter()
            .map(|limit| (text(limit, "/Name"), limit)),
    );
    by_name.into_values().cloned().collect()
}

fn dns(lists: &UpdateLists, config: &mut Value) {
    let servers: Vec<String> = lists.dns_add.iter().map(ToString::to_string).collect();
    for (name, add, remove) in [
        ("Nameservers", &servers, &lists.dns_rm),
        ("Search", &lists.dns_search_add, &lists.dns_search_rm),
        ("Options", &lists.dns_option_add, &lists.dns_option_rm),
    ] {
        if add.is_empty() && remove.is_empty() {
            continue;
        }
        let old = texts(list(config, &format!("/{name}")));
        let new: BTreeSet<String> = merged(old, add, remove).into_iter().collect();
        config[name] = json!(new);
    }
}

/// Entries are `IP name [alias…]`; `name` and `name:IP` take a name out of all entries, or of those of the address.
fn hosts(old: &[String], lists: &UpdateLists) -> Vec<String> {
    let gone: Vec<(&str, &str)> = lists
        .host_rm
        .iter()
        .map(|entry| entry.split_once(':').unwrap_or((entry, "")))
        .collect();
    let mut new = Vec::new();
    for entry in old {
        let mut words = entry.split_whitespace();
        let Some(address) = words.next() else {
            continue;
        };
        let stays = |name: &&str| {
            !gone
                .iter()
                .any(|(host, of)| host == name && (of.is_empty() || *of == address))
        };
        let names: Vec<&str> = words.filter(stays).collect();
        if !names.is_empty() {
            new.push(format!("{address} {}", names.join(" ")));
        }
    }
    new.extend(lists.host_add.iter().map(|host| small::swarm_host(host)));
    let mut seen = BTreeSet::new();
    new.retain(|entry| seen.insert(entry.clone()));
    new
}

fn health(flags: &HealthFlags, health: &mut Value) -> Result<(), String> {
    let spans = health_spans(flags);
    let any = !spans.is_empty() || flags.health_cmd.is_some();
    if flags.no_healthcheck {
        if any {
            return Err("--no-healthcheck conflicts with --health-* options".into());
        }
        *health = json!({"Test": ["NONE"]});
        return Ok(());
    }
    if !any {
        return Ok(());
    }
    if health.pointer("/Test/0") == Some(&"NONE".into()) {
        health["Test"] = Value::Null;
    }
    for (name, value) in spans {
        health[name] = value.into();
    }
    match flags.health_cmd.as_deref() {
        Some("") => health["Test"] = Value::Null,
        Some(command) => health["Test"] = json!(["CMD-SHELL", command]),
        None => {}
    }
    Ok(())
}

/// What was added is taken back by dropping it, and only a second time dropped; and the other way around.
fn capabilities(container: &Value, add: &[String], drop: &[String]) -> (Vec<String>, Vec<String>) {
    let old =
        |name: &str| small::capabilities(list(container, name).iter().filter_map(Value::as_str));
    let (mut added, mut dropped) = (old("/CapabilityAdd"), old("/CapabilityDrop"));
    let mut add = small::capabilities(add.iter().map(String::as_str));
    let mut drop = small::capabilities(drop.iter().map(String::as_str));
    if add.remove("RESET") {
        added.clear();
    }
    if drop.remove("RESET") {
        dropped.clear();
    }
    for name in drop.difference(&add) {
        if !added.remove(name) {
            dropped.insert(name.clone());
        }
    }
    for name in add {
        if !dropped.remove(&name) {
            added.insert(name);
        }
    }
    let shown = |set: BTreeSet<String>| match set.contains("ALL") {
        true => vec!["ALL".to_owned()],
        false => set.into_iter().collect(),
    };
    (shown(added), shown(dropped))
}

fn resources(flags: &ResourceFlags, resources: &mut Value) {
    for (part, name, value) in [
        ("Limits", "NanoCPUs", flags.limit_cpu),
        ("Limits", "MemoryBytes", flags.limit_memory),
        ("Limits", "Pids", flags.limit_pids),
        ("Reservations", "NanoCPUs", flags.reserve_cpu),
        ("Reservations", "MemoryBytes", flags.reserve_memory),
    ] {
        if let Some(value) = value {
            resources[part][name] = value.into();
        }
    }
}

fn generic_resources(lists: &UpdateLists, resources: &mut Value) -> Result<(), String> {
    if lists.generic_resource_add.is_empty() && lists.generic_resource_rm.is_empty() {
        return Ok(());
    }
    let kind = |resource: &Value| text(resource, "/DiscreteResourceSpec/Kind").to_owned();
    let old = list(resources, "/Reservations/GenericResources").iter();
    let new = lists.generic_resource_add.iter();
    let mut by_kind: BTreeMap<String, Value> = old
        .chain(new)
        .map(|resource| (kind(resource), resource.clone()))
        .collect();
    for gone in &lists.generic_resource_rm {
        if by_kind.remove(gone).is_none() {
            return Err(format!(
                "could not find generic-resource `{gone}` to remove it"
            ));
        }
    }
    let kept: Vec<Value> = by_kind.into_values().collect();
    resources["Reservations"]["GenericResources"] = kept.into();
    Ok(())
}

fn placement(args: &UpdateArgs, task: &mut Value) {
    let lists = &args.lists;
    if !lists.constraint_add.is_empty() || !lists.constraint_rm.is_empty() {
        let old = texts(list(task, "/Placement/Constraints"));
        let mut new = merged(old, &lists.constraint_add, &lists.constraint_rm);
        new.sort();
        task["Placement"]["Constraints"] = new.into();
    }
    if !lists.placement_pref_add.is_empty() || !lists.placement_pref_rm.is_empty() {
        let mut new = list(task, "/Placement/Preferences").to_vec();
        new.retain(|preference| !lists.placement_pref_rm.contains(preference));
        new.extend(lists.placement_pref_add.iter().cloned());
        task["Placement"]["Preferences"] = new.into();
    }
    if let Some(most) = args.shared.replicas_max_per_node {
        task["Placement"]["MaxReplicas"] = most.into();
    }
}

fn ports(old: &[Value], lists: &UpdateLists) -> Vec<Value> {
    let or = |value: &Value, pointer: &str, usual: &str| match text(value, pointer) {
        "" => usual.to_owned(),
        text => text.to_owned(),
    };
    let target = |port: &Value| {
        (
            port["TargetPort"].as_u64(),
            or(port, "/Protocol", "tcp"),
            or(port, "/PublishMode", "ingress"),
        )
    };
    let published = |port: &Value| port["PublishedPort"].as_u64().unwrap_or_default();
    let remove: Vec<_> = lists
        .publish_rm
        .iter()
        .flat_map(|ports| &ports.0)
        .map(target)
        .collect();
    let mut new: Vec<Value> = old
        .iter()
        .filter(|port| !remove.contains(&target(port)))
        .cloned()
        .collect();
    for port in lists.publish_add.iter().flat_map(|ports| &ports.0) {
        let same =
            |other: &Value| (published(other), target(other)) == (published(port), target(port));
        if !old.iter().any(same) {
            new.push(port.clone());
        }
    }
    new.sort_by_key(|port| {
        let (to, protocol, mode) = target(port);
        format!(
            "{}:{}/{protocol}/{mode}",
            published(port),
            to.unwrap_or_default()
        )
    });
    new
}
