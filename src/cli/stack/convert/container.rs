//! A service of a stack file as docker's `ServiceSpec`: its container. Pure.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::super::values::{At, duration, float, integer, mapping, put, size, switch, text, texts};
use super::{IMAGE, Scope, deploy};
use crate::cli::parts::references::{self, Kind};
use crate::cli::parts::small;

/// The spec of one service.
pub(super) fn service(scope: &Scope<'_>, name: &str, service: &Value) -> Result<Value, String> {
    let at = At::new(scope.file, format!("services.{name}"));
    let Some(image) = text(&service["image"], &at.of("image"))? else {
        return Err(at.error("it has no image: build one, and name it with image"));
    };
    let deploy = &service["deploy"];
    let mut labels = scope.labels(&deploy["labels"]);
    labels[IMAGE] = image.as_str().into();
    let mut task = json!({
        "ContainerSpec": container(scope, service, image, &at)?,
        "Networks": attachments(scope, name, service, &at)?,
        "Resources": deploy::resources(service, &at)?,
        "Placement": deploy::placement(deploy, &at)?,
        "ForceUpdate": 0,
    });
    if let Some(policy) = deploy::restart_policy(service, &at)? {
        task["RestartPolicy"] = policy;
    }
    let logging = &service["logging"];
    if logging.is_object() {
        let options = mapping(&logging["options"], &at.of("logging.options"))?;
        let options: Result<Map<String, Value>, String> = options
            .into_iter()
            .map(|(key, value)| {
                let value = text(&value, &at.of("logging.options"))?.unwrap_or_default();
                Ok((key, value.into()))
            })
            .collect();
        task["LogDriver"] = json!({
            "Name": text(&logging["driver"], &at.of("logging.driver"))?.unwrap_or_default(),
            "Options": options?,
        });
    }
    let mut ports: Vec<Value> = service["ports"].as_array().cloned().unwrap_or_default();
    ports.sort_by_key(|port| port["PublishedPort"].as_u64().unwrap_or_default());
    let mut spec = json!({
        "Name": scope.name(name),
        "Labels": labels,
        "TaskTemplate": task,
        "Mode": deploy::mode(service, &at)?,
        "EndpointSpec": {"Ports": ports},
    });
    let mode = text(&deploy["endpoint_mode"], &at.of("deploy.endpoint_mode"))?;
    put(
        &mut spec["EndpointSpec"],
        "Mode",
        mode.map(|mode| mode.to_lowercase()),
    );
    for (key, field) in [
        ("update_config", "UpdateConfig"),
        ("rollback_config", "RollbackConfig"),
    ] {
        let config = deploy::update_config(&deploy[key], &at.of(&format!("deploy.{key}")))?;
        put(&mut spec, field, config);
    }
    Ok(spec)
}

fn container(
    scope: &Scope<'_>,
    service: &Value,
    image: String,
    at: &At<'_>,
) -> Result<Value, String> {
    let word = |key: &str| text(&service[key], &at.of(key));
    let flag = |key: &str| switch(&service[key], &at.of(key));
    let list = |key: &str| texts(&service[key], &at.of(key));
    let (add, drop) = small::effective(&list("cap_add")?, &list("cap_drop")?);
    let hosts: Vec<String> = list("extra_hosts")?
        .iter()
        .map(|host| small::swarm_host(host))
        .collect();
    let mut container = json!({
        "Image": image,
        "Labels": scope.labels(&service["labels"]),
        "Env": environment(&service["environment"]),
        "Hosts": hosts,
        "Groups": list("group_add")?,
        "Mounts": mounts(scope, service, at)?,
        "Secrets": references(scope, Kind::Secret, service, at)?,
        "Configs": references(scope, Kind::Config, service, at)?,
        "CapabilityAdd": add,
        "CapabilityDrop": drop,
        "Sysctls": service["sysctls"].as_object().cloned().unwrap_or_default(),
        "Ulimits": ulimits(&service["ulimits"], &at.of("ulimits"))?,
        "TTY": flag("tty")?.unwrap_or_default(),
        "OpenStdin": flag("stdin_open")?.unwrap_or_default(),
        "ReadOnly": flag("read_only")?.unwrap_or_default(),
        "Privileges": privileges(&service["credential_spec"]),
    });
    for (key, field) in [("entrypoint", "Command"), ("command", "Args")] {
        put(&mut container, field, service[key].as_array().cloned());
    }
    for (key, field) in [
        ("hostname", "Hostname"),
        ("working_dir", "Dir"),
        ("user", "User"),
        ("stop_signal", "StopSignal"),
        ("isolation", "Isolation"),
    ] {
        put(&mut container, field, word(key)?);
    }
    put(&mut container, "Init", flag("init")?);
    let grace = duration(&service["stop_grace_period"], &at.of("stop_grace_period"))?;
    put(&mut container, "StopGracePeriod", grace);
    let score = integer(&service["oom_score_adj"], &at.of("oom_score_adj"))?;
    put(&mut container, "OomScoreAdj", score);
    let (dns, search, options) = (list("dns")?, list("dns_search")?, list("dns_opt")?);
    if !dns.is_empty() || !search.is_empty() || !options.is_empty() {
        container["DNSConfig"] = json!({"Nameservers": dns, "Search": search, "Options": options});
    }
    put(
        &mut container,
        "Healthcheck",
        health(&service["healthcheck"], &at.of("healthcheck"))?,
    );
    Ok(container)
}

fn privileges(credential: &Value) -> Value {
    let mut spec = json!({});
    for (key, field) in [
        ("config", "Config"),
        ("file", "File"),
        ("registry", "Registry"),
    ] {
        put(&mut spec, field, credential[key].as_str());
    }
    match credential.is_object() {
        true => json!({"CredentialSpec": spec, "SELinuxContext": null}),
        false => json!({"CredentialSpec": null, "SELinuxContext": null}),
    }
}

/// `NAME=value`, in order; a name alone where there is no value.
fn environment(map: &Value) -> Vec<String> {
    let pairs = map.as_object().into_iter().flatten();
    pairs
        .map(|(key, value)| match value.as_str() {
            Some(value) => format!("{key}={value}"),
            None => key.clone(),
        })
        .collect()
}

fn ulimits(map: &Value, at: &At<'_>) -> Result<Vec<Value>, String> {
    let mut all = Vec::new();
    for (name, limit) in mapping(map, at)? {
        let at = at.of(&name);
        let number = |value: &Value| integer(value, &at);
        let (soft, hard) = match &limit {
            Value::Object(_) => (number(&limit["soft"])?, number(&limit["hard"])?),
            single => (number(single)?, number(single)?),
        };
        let (Some(soft), Some(hard)) = (soft, hard) else {
            return Err(at.error("give a number, or soft and hard"));
        };
        all.push(json!({"Name": name, "Soft": soft, "Hard": hard}));
    }
    Ok(all)
}

fn health(check: &Value, at: &At<'_>) -> Result<Option<Value>, String> {
    if !check.is_object() {
        return Ok(None);
    }
    if switch(&check["disable"], &at.of("disable"))? == Some(true) {
        if check.get("test").is_some() {
            return Err(at.error("test and disable can't be set at the same time"));
        }
        return Ok(Some(json!({"Test": ["NONE"]})));
    }
    let mut health = json!({});
    match &check["test"] {
        Value::Null => {}
        Value::String(line) => health["Test"] = json!(["CMD-SHELL", line]),
        test => health["Test"] = texts(test, &at.of("test"))?.into(),
    }
    for (key, field) in [
        ("interval", "Interval"),
        ("timeout", "Timeout"),
        ("start_period", "StartPeriod"),
        ("start_interval", "StartInterval"),
    ] {
        put(&mut health, field, duration(&check[key], &at.of(key))?);
    }
    put(
        &mut health,
        "Retries",
        integer(&check["retries"], &at.of("retries"))?,
    );
    Ok(Some(health))
}

/// The networks of a service by name; by its short name the others find it.
fn attachments(
    scope: &Scope<'_>,
    name: &str,
    service: &Value,
    at: &At<'_>,
) -> Result<Vec<Value>, String> {
    let default = Map::from_iter([("default".to_owned(), Value::Null)]);
    let named = service["networks"]
        .as_object()
        .filter(|named| !named.is_empty());
    let mut all = Vec::new();
    for (network, how) in named.unwrap_or(&default) {
        let (target, _) = scope.named("networks", network)?;
        let at = at.of(&format!("networks.{network}"));
        let mut aliases = texts(&how["aliases"], &at.of("aliases"))?;
        // The service's own name comes last, and only where names are given at all.
        if !["bridge", "default", "host", "none"].contains(&target.as_str()) {
            aliases.push(name.to_owned());
        }
        let options = mapping(&how["driver_opts"], &at.of("driver_opts"))?;
        all.push(json!({"Target": target, "Aliases": aliases, "DriverOpts": options}));
    }
    all.sort_by(|a, b| a["Target"].as_str().cmp(&b["Target"].as_str()));
    Ok(all)
}

fn references(
    scope: &Scope<'_>,
    kind: Kind,
    service: &Value,
    at: &At<'_>,
) -> Result<Vec<Value>, String> {
    let section = kind.collection();
    let mut all = Vec::new();
    for one in service[section].as_array().into_iter().flatten() {
        let source = one["source"].as_str().unwrap_or_default();
        if scope.model[section].get(source).is_none() {
            return Err(at.of(section).error(format!(
                "undefined {} {source:?}: add it below {section}",
                kind.word()
            )));
        }
        let (called, _) = scope.named(section, source)?;
        let at = at.of(section);
        let word = |key: &str| text(&one[key], &at);
        let mode = match &one["mode"] {
            Value::String(octal) => Some(i64::from(
                references::mode(octal).map_err(|error| at.error(error))?,
            )),
            mode => integer(mode, &at)?,
        };
        all.push(json!({
            "File": {
                "Name": word("target")?.unwrap_or_else(|| source.to_owned()),
                "UID": word("uid")?.unwrap_or_else(|| "0".into()),
                "GID": word("gid")?.unwrap_or_else(|| "0".into()),
                "Mode": mode.unwrap_or(0o444),
            },
            kind.id(): "",
            kind.name(): called,
        }));
    }
    all.sort_by(|a, b| a[kind.name()].as_str().cmp(&b[kind.name()].as_str()));
    Ok(all)
}

fn mounts(scope: &Scope<'_>, service: &Value, at: &At<'_>) -> Result<Vec<Value>, String> {
    let mut all = Vec::new();
    for (index, volume) in service["volumes"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        all.push(mount(scope, volume, &at.of(&format!("volumes.{index}")))?);
    }
    for target in texts(&service["tmpfs"], &at.of("tmpfs"))? {
        let target = target.split(':').next().unwrap_or_default().to_owned();
        all.push(json!({"Type": "tmpfs", "Target": target}));
    }
    Ok(all)
}

fn mount(scope: &Scope<'_>, volume: &Value, at: &At<'_>) -> Result<Value, String> {
    let kind = volume["type"].as_str().unwrap_or_default();
    let source = text(&volume["source"], &at.of("source"))?;
    let mut mount = json!({"Type": kind, "Target": volume["target"]});
    if switch(&volume["read_only"], &at.of("read_only"))? == Some(true) {
        mount["ReadOnly"] = true.into();
    }
    put(&mut mount, "Consistency", text(&volume["consistency"], at)?);
    match (kind, source) {
        ("bind", Some(source)) => {
            mount["Source"] = absolute(scope.folder, &source).display().to_string().into();
            let bind = &volume["bind"];
            if bind.is_object() {
                mount["BindOptions"] = json!({});
                put(
                    &mut mount["BindOptions"],
                    "Propagation",
                    text(&bind["propagation"], at)?,
                );
                let create = switch(&bind["create_host_path"], at)?;
                put(
                    &mut mount["BindOptions"],
                    "CreateMountpoint",
                    create.filter(|create| *create),
                );
            }
        }
        ("bind", None) => return Err(at.error("a bind needs a source")),
        ("tmpfs", _) => {
            let tmpfs = &volume["tmpfs"];
            if tmpfs.is_object() {
                mount["TmpfsOptions"] = json!({});
                put(
                    &mut mount["TmpfsOptions"],
                    "SizeBytes",
                    size(&tmpfs["size"], &at.of("tmpfs.size"))?,
                );
                put(
                    &mut mount["TmpfsOptions"],
                    "Mode",
                    integer(&tmpfs["mode"], &at.of("tmpfs.mode"))?,
                );
            }
        }
        ("volume", Some(source)) => named_volume(scope, volume, &source, &mut mount, at)?,
        ("volume", None) => {}
        (_, source) => put(&mut mount, "Source", source),
    }
    Ok(mount)
}

fn named_volume(
    scope: &Scope<'_>,
    volume: &Value,
    source: &str,
    mount: &mut Value,
    at: &At<'_>,
) -> Result<(), String> {
    let Some(known) = scope.model["volumes"].get(source) else {
        return Err(at.error(format!("undefined volume {source:?}: add it below volumes")));
    };
    let (called, external) = scope.named("volumes", source)?;
    mount["Source"] = called.into();
    let mut options = json!({});
    let nocopy = switch(&volume["volume"]["nocopy"], &at.of("volume.nocopy"))?;
    put(&mut options, "NoCopy", nocopy.filter(|nocopy| *nocopy));
    put(
        &mut options,
        "Subpath",
        text(&volume["volume"]["subpath"], &at.of("volume.subpath"))?,
    );
    if !external {
        options["Labels"] = scope.labels(&known["labels"]);
        let driver = text(&known["driver"], at)?;
        let driver_opts = mapping(&known["driver_opts"], at)?;
        if driver.is_some() || !driver_opts.is_empty() {
            options["DriverConfig"] = json!({"Options": driver_opts});
            put(&mut options["DriverConfig"], "Name", driver);
        }
    }
    mount["VolumeOptions"] = options;
    Ok(())
}

/// A path of the file's folder, or of the user's.
fn absolute(folder: &Path, source: &str) -> PathBuf {
    let home = source.strip_prefix('~').and_then(|rest| {
        let home = std::env::home_dir()?;
        Some(home.join(rest.trim_start_matches('/')))
    });
    let path = home.unwrap_or_else(|| folder.join(source));
    // `./x` and `x` are the same place.
    path.components().collect()
}

/// CPUs as billionths, as a text or a number.
pub(super) fn cpus(value: &Value, at: &At<'_>) -> Result<Option<i64>, String> {
    Ok(float(value, at)?.map(|cpus| (cpus * 1e9).round() as i64))
}
