//! A file's short syntaxes written out, so that files can be laid over each other and converted. Pure.

use serde_json::{Map, Value, json};

use super::values::{At, command, integer, mapping, pairs, text, texts};
use crate::cli::parts::ports;

/// Writes out all services of a file; null sections become empty ones.
pub(super) fn model(file: &str, mut model: Value) -> Result<Value, String> {
    for section in ["services", "networks", "volumes", "secrets", "configs"] {
        let at = At::new(file, section);
        let found = mapping(&model[section], &at)?;
        let mut written = Map::new();
        for (name, value) in found {
            let at = at.of(&name);
            let value = match section {
                "services" => service(value, &at)?,
                _ => resource(value, &at)?,
            };
            written.insert(name, value);
        }
        model[section] = written.into();
    }
    Ok(model)
}

/// A network, volume, secret or config: `external: {name: x}` is `external: true` with that name.
fn resource(value: Value, at: &At<'_>) -> Result<Value, String> {
    let mut value = Value::Object(mapping(&value, at)?);
    if let Some(name) = value.pointer("/external/name").cloned() {
        value["name"] = name;
        value["external"] = true.into();
    }
    for key in ["labels", "driver_opts"] {
        if let Some(found) = value.get(key) {
            value[key] = pairs(found, &['='], &at.of(key))?;
        }
    }
    Ok(value)
}

fn service(value: Value, at: &At<'_>) -> Result<Value, String> {
    let mut service = mapping(&value, at)?;
    for key in ["environment", "labels", "sysctls", "annotations"] {
        rewrite(&mut service, key, at, |value, at| pairs(value, &['='], at))?;
    }
    for key in ["command", "entrypoint"] {
        rewrite(&mut service, key, at, command)?;
    }
    for key in [
        "dns",
        "dns_search",
        "dns_opt",
        "tmpfs",
        "cap_add",
        "cap_drop",
        "group_add",
        "profiles",
    ] {
        rewrite(&mut service, key, at, |value, at| {
            Ok(texts(value, at)?.into())
        })?;
    }
    rewrite(&mut service, "env_file", at, env_files)?;
    rewrite(&mut service, "extra_hosts", at, hosts)?;
    rewrite(&mut service, "networks", at, networks)?;
    rewrite(&mut service, "depends_on", at, depends_on)?;
    rewrite(&mut service, "ports", at, |value, at| each(value, at, port))?;
    rewrite(&mut service, "volumes", at, |value, at| {
        each(value, at, volume)
    })?;
    for key in ["secrets", "configs"] {
        rewrite(&mut service, key, at, |value, at| {
            each(value, at, reference)
        })?;
    }
    rewrite(&mut service, "extends", at, |value, at| match value {
        Value::String(service) => Ok(json!({"service": service})),
        value => Ok(mapping(value, at)?.into()),
    })?;
    rewrite(&mut service, "deploy", at, |value, at| {
        let mut deploy = mapping(value, at)?;
        rewrite(&mut deploy, "labels", at, |value, at| {
            pairs(value, &['='], at)
        })?;
        Ok(deploy.into())
    })?;
    Ok(service.into())
}

fn rewrite(
    map: &mut Map<String, Value>,
    key: &str,
    at: &At<'_>,
    work: impl FnOnce(&Value, &At<'_>) -> Result<Value, String>,
) -> Result<(), String> {
    if let Some(value) = map.get_mut(key) {
        *value = work(value, &at.of(key))?;
    }
    Ok(())
}

/// Each element of a list becomes one or several.
fn each(
    value: &Value,
    at: &At<'_>,
    work: impl Fn(&Value, &At<'_>) -> Result<Vec<Value>, String>,
) -> Result<Value, String> {
    let list = match value {
        Value::Null => return Ok(json!([])),
        Value::Array(list) => list,
        _ => return Err(at.error("a list is needed here")),
    };
    let mut all = Vec::new();
    for (index, one) in list.iter().enumerate() {
        all.extend(work(one, &at.of(&index.to_string()))?);
    }
    Ok(all.into())
}

fn env_files(value: &Value, at: &At<'_>) -> Result<Value, String> {
    let list = match value {
        Value::Array(list) => list.clone(),
        Value::Null => Vec::new(),
        value => vec![value.clone()],
    };
    let one = |value: &Value| match value {
        Value::String(path) => Ok(json!({"path": path, "required": true})),
        Value::Object(map) if map.contains_key("path") => Ok(value.clone()),
        _ => Err(at.error("give a path")),
    };
    let all: Result<Vec<Value>, String> = list.iter().map(one).collect();
    Ok(all?.into())
}

/// `name:ip` and `name=ip` in a list, or a mapping, as a list of `name:ip`.
fn hosts(value: &Value, at: &At<'_>) -> Result<Value, String> {
    let mut all = Vec::new();
    match value {
        Value::Object(map) => {
            for (name, addresses) in map {
                for address in texts(addresses, &at.of(name))? {
                    all.push(format!("{name}:{address}"));
                }
            }
        }
        value => {
            for entry in texts(value, at)? {
                all.push(entry.replacen('=', ":", usize::from(!entry.contains(':'))));
            }
        }
    }
    let read = |entry: &String| crate::cli::parts::small::host(entry);
    let read: Result<Vec<String>, String> = all.iter().map(read).collect();
    Ok(read.map_err(|error| at.error(error))?.into())
}

fn networks(value: &Value, at: &At<'_>) -> Result<Value, String> {
    match value {
        Value::Array(_) => {
            let names = texts(value, at)?.into_iter();
            Ok(Value::Object(
                names.map(|name| (name, Value::Null)).collect(),
            ))
        }
        value => Ok(mapping(value, at)?.into()),
    }
}

fn depends_on(value: &Value, at: &At<'_>) -> Result<Value, String> {
    let mut all = Map::new();
    match value {
        Value::Array(_) => {
            for name in texts(value, at)? {
                all.insert(name, json!({"condition": "service_started"}));
            }
        }
        value => {
            for (name, how) in mapping(value, at)? {
                let mut how = Value::Object(mapping(&how, &at.of(&name))?);
                let condition = how["condition"].as_str().unwrap_or("service_started");
                let known = [
                    "service_started",
                    "service_healthy",
                    "service_completed_successfully",
                ];
                if !known.contains(&condition) {
                    let error = format!(
                        "the condition {condition} is not known: use {}",
                        known.join(", ")
                    );
                    return Err(at.of(&name).error(error));
                }
                how["condition"] = condition.to_owned().into();
                all.insert(name, how);
            }
        }
    }
    Ok(all.into())
}

fn port(value: &Value, at: &At<'_>) -> Result<Vec<Value>, String> {
    let Value::Object(map) = value else {
        let port = text(value, at)?.unwrap_or_default();
        return ports::short(&port, true).map_err(|error| at.error(error));
    };
    let known = [
        "target",
        "published",
        "protocol",
        "mode",
        "name",
        "app_protocol",
        "host_ip",
    ];
    if let Some(strange) = map
        .keys()
        .find(|key| !known.contains(&key.as_str()) && !key.starts_with("x-"))
    {
        return Err(at.error(format!("{strange} is no key of a port")));
    }
    let number = |key: &str| -> Result<u16, String> {
        let found = integer(&value[key], &at.of(key))?.unwrap_or_default();
        u16::try_from(found).map_err(|_| at.of(key).error(format!("{found} is no port")))
    };
    let target = number("target")?;
    if target == 0 {
        return Err(at.error("target is needed"));
    }
    let protocol = value["protocol"].as_str().unwrap_or("tcp").to_lowercase();
    let mode = value["mode"].as_str().unwrap_or("ingress");
    if !["ingress", "host"].contains(&mode) {
        return Err(at.of("mode").error("it must be ingress or host"));
    }
    Ok(vec![ports::port(
        target,
        number("published")?,
        &protocol,
        mode,
    )])
}

fn reference(value: &Value, at: &At<'_>) -> Result<Vec<Value>, String> {
    match value {
        Value::String(source) => Ok(vec![json!({"source": source})]),
        Value::Object(map) if map.get("source").is_some_and(Value::is_string) => {
            Ok(vec![value.clone()])
        }
        _ => Err(at.error("give a name, or a mapping with source")),
    }
}

fn volume(value: &Value, at: &At<'_>) -> Result<Vec<Value>, String> {
    if value.is_object() {
        let kind = value["type"].as_str().unwrap_or_default();
        if !["volume", "bind", "tmpfs", "cluster", "image", "npipe"].contains(&kind) {
            return Err(at
                .of("type")
                .error("it must be volume, bind, tmpfs or image"));
        }
        if !value["target"].is_string() {
            return Err(at.error("target is needed"));
        }
        return Ok(vec![value.clone()]);
    }
    let spec = text(value, at)?.unwrap_or_default();
    let parts: Vec<&str> = spec.split(':').collect();
    let (source, target, modes) = match parts.as_slice() {
        [""] | [_, "", ..] | ["", ..] => {
            return Err(at.error(format!("invalid volume specification: {spec:?}")));
        }
        [target] => (None, *target, ""),
        [source, target] => (Some(*source), *target, ""),
        [source, target, modes] => (Some(*source), *target, *modes),
        _ => return Err(at.error(format!("invalid volume specification: {spec:?}"))),
    };
    let is_path = |source: &str| source.starts_with(['/', '.', '~']);
    let kind = if source.is_some_and(is_path) {
        "bind"
    } else {
        "volume"
    };
    let mut volume = json!({"type": kind, "target": target});
    if let Some(source) = source {
        volume["source"] = source.into();
    }
    for mode in modes.split(',') {
        match mode {
            "ro" => volume["read_only"] = true.into(),
            "nocopy" => volume["volume"]["nocopy"] = true.into(),
            "rprivate" | "private" | "rshared" | "shared" | "rslave" | "slave" => {
                volume["bind"]["propagation"] = mode.into();
            }
            // Read-write is usual, and labels and consistency mean nothing here.
            _ => {}
        }
    }
    Ok(vec![volume])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(key: &str, value: Value) -> Result<Value, String> {
        let file = json!({"services": {"web": {key: value}}});
        model("f.yml", file).map(|model| model["services"]["web"][key].clone())
    }

    #[test]
    fn short_syntaxes_are_written_out() {
        for (key, short, long) in [
            (
                "environment",
                json!(["A=1", "B"]),
                json!({"A": "1", "B": null}),
            ),
            (
                "environment",
                json!({"A": 1, "B": true, "C": 1.5}),
                json!({"A": "1", "B": "true", "C": "1.5"}),
            ),
            ("command", json!("a 'b c'"), json!(["a", "b c"])),
            ("dns", json!("1.1.1.1"), json!(["1.1.1.1"])),
            (
                "env_file",
                json!("a.env"),
                json!([{"path": "a.env", "required": true}]),
            ),
            (
                "extra_hosts",
                json!({"db": "10.0.0.1"}),
                json!(["db:10.0.0.1"]),
            ),
            (
                "extra_hosts",
                json!(["db=10.0.0.1"]),
                json!(["db:10.0.0.1"]),
            ),
            ("networks", json!(["a"]), json!({"a": null})),
            (
                "depends_on",
                json!(["db"]),
                json!({"db": {"condition": "service_started"}}),
            ),
            (
                "ports",
                json!(["8080:80", 90, {"target": 1, "published": "2", "mode": "host"}]),
                json!([
                    ports::port(80, 8080, "tcp", "ingress"),
                    ports::port(90, 0, "tcp", "ingress"),
                    ports::port(1, 2, "tcp", "host")
                ]),
            ),
            (
                "ports",
                json!(["127.0.0.1:80:80"]),
                json!([ports::port(80, 80, "tcp", "ingress")]),
            ),
            (
                "volumes",
                json!(["data:/d:ro", "./x:/x:rslave", "/anonymous"]),
                json!([
                    {"type": "volume", "source": "data", "target": "/d", "read_only": true},
                    {"type": "bind", "source": "./x", "target": "/x", "bind": {"propagation": "rslave"}},
                    {"type": "volume", "target": "/anonymous"},
                ]),
            ),
            ("secrets", json!(["s"]), json!([{"source": "s"}])),
            ("extends", json!("base"), json!({"service": "base"})),
        ] {
            assert_eq!(written(key, short.clone()), Ok(long), "{key}: {short}");
        }
    }

    #[test]
    fn what_is_not_understood_is_told_with_its_place() {
        for (key, value, words) in [
            (
                "ports",
                json!(["a"]),
                "f.yml: services.web.ports.0: invalid port",
            ),
            ("ports", json!([{"published": 1}]), "target is needed"),
            (
                "volumes",
                json!(["a:b:c:d"]),
                "services.web.volumes.0: invalid volume",
            ),
            (
                "volumes",
                json!([{"type": "x", "target": "/a"}]),
                "services.web.volumes.0.type",
            ),
            (
                "depends_on",
                json!({"db": {"condition": "someday"}}),
                "the condition someday is not known",
            ),
            ("environment", json!("A=1"), "a mapping or a list"),
            ("command", json!("'a"), "a quote is not closed"),
        ] {
            let error = written(key, value).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
