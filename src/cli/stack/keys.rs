//! Which keys of a stack file mean something here, which are passed over with a warning, and which are refused. Pure.

use serde_json::Value;

/// Keys of a service that are carried out.
const SERVICE: [&str; 47] = [
    "annotations",
    "attach",
    "cap_add",
    "cap_drop",
    "command",
    "configs",
    "cpus",
    "credential_spec",
    "depends_on",
    "deploy",
    "develop",
    "dns",
    "dns_opt",
    "dns_search",
    "entrypoint",
    "env_file",
    "environment",
    "extends",
    "extra_hosts",
    "group_add",
    "healthcheck",
    "hostname",
    "image",
    "init",
    "isolation",
    "labels",
    "logging",
    "mem_limit",
    "mem_reservation",
    "networks",
    "oom_score_adj",
    "pids_limit",
    "ports",
    "profiles",
    "pull_policy",
    "read_only",
    "restart",
    "scale",
    "secrets",
    "stdin_open",
    "stop_grace_period",
    "stop_signal",
    "sysctls",
    "tmpfs",
    "tty",
    "ulimits",
    "user",
];

/// More of them.
const SERVICE_TOO: [&str; 2] = ["volumes", "working_dir"];

/// Keys that docker's stacks pass over, and what single containers alone can have.
const IGNORED: [&str; 30] = [
    "blkio_config",
    "build",
    "cgroup",
    "cgroup_parent",
    "cgroupns_mode",
    "container_name",
    "device_cgroup_rules",
    "devices",
    "domainname",
    "expose",
    "external_links",
    "gpus",
    "ipc",
    "label_file",
    "links",
    "mac_address",
    "mem_swappiness",
    "network_mode",
    "oom_kill_disable",
    "pid",
    "platform",
    "post_start",
    "pre_stop",
    "privileged",
    "runtime",
    "security_opt",
    "shm_size",
    "storage_opt",
    "userns_mode",
    "uts",
];

/// Keys that are refused, and what to do instead.
const REFUSED: [(&str, &str); 9] = [
    ("cpu_count", "use deploy.resources.limits.cpus"),
    ("cpu_percent", "use deploy.resources.limits.cpus"),
    ("cpu_quota", "use deploy.resources.limits.cpus"),
    ("cpu_shares", "use deploy.resources.reservations.cpus"),
    ("cpuset", "no service can be bound to processors: remove it"),
    ("memswap_limit", "no service has swap of its own: remove it"),
    (
        "provider",
        "only services of images can be deployed: remove it",
    ),
    (
        "volume_driver",
        "set the driver of the volume under volumes",
    ),
    ("volumes_from", "name the volumes under volumes"),
];

/// Keys of the whole file.
const FILE: [&str; 7] = [
    "configs", "name", "networks", "secrets", "services", "version", "volumes",
];

/// Keys of `deploy`.
const DEPLOY: [&str; 9] = [
    "endpoint_mode",
    "labels",
    "mode",
    "placement",
    "replicas",
    "resources",
    "restart_policy",
    "rollback_config",
    "update_config",
];

/// Checks the keys of a file; gives those that are passed over.
pub(super) fn check(file: &str, model: &Value) -> Result<Vec<String>, String> {
    let Value::Object(top) = model else {
        return Err(format!("{file}: it is no mapping: begin with `services:`"));
    };
    for key in top.keys() {
        match key.as_str() {
            "include" => {
                return Err(format!(
                    "{file}: include is not supported: give each file with --compose-file"
                ));
            }
            key if is_extension(key) || FILE.contains(&key) => {}
            key => return Err(unknown(file, "", key, &FILE)),
        }
    }
    let mut ignored = Vec::new();
    let services = match top.get("services") {
        None | Some(Value::Null) => return Ok(ignored),
        Some(Value::Object(services)) => services,
        Some(_) => {
            return Err(format!(
                "{file}: services must be a mapping of names to services"
            ));
        }
    };
    for (name, service) in services {
        let Value::Object(service) = service else {
            return Err(format!(
                "{file}: services.{name} must be a mapping: give it an image"
            ));
        };
        for key in service.keys() {
            ignored.extend(service_key(file, name, key)?);
        }
        if let Some(Value::Object(deploy)) = service.get("deploy") {
            let at = format!("services.{name}.deploy.");
            let strange = deploy
                .keys()
                .find(|key| !is_extension(key) && !DEPLOY.contains(&key.as_str()));
            if let Some(key) = strange {
                return Err(unknown(file, &at, key, &DEPLOY));
            }
        }
    }
    Ok(ignored)
}

fn is_extension(key: &str) -> bool {
    key.starts_with("x-")
}

fn service_key(file: &str, name: &str, key: &str) -> Result<Option<String>, String> {
    if SERVICE.contains(&key) || SERVICE_TOO.contains(&key) || is_extension(key) {
        return Ok(None);
    }
    if IGNORED.contains(&key) {
        return Ok(Some(key.to_owned()));
    }
    if let Some((_, instead)) = REFUSED.iter().find(|(refused, _)| *refused == key) {
        return Err(format!(
            "{file}: services.{name}.{key} is not supported: {instead}"
        ));
    }
    let all: Vec<&str> = SERVICE
        .iter()
        .chain(&SERVICE_TOO)
        .chain(&IGNORED)
        .copied()
        .collect();
    Err(unknown(file, &format!("services.{name}."), key, &all))
}

fn unknown(file: &str, at: &str, key: &str, known: &[&str]) -> String {
    let nearest = known.iter().min_by_key(|known| distance(known, key));
    match nearest.filter(|known| distance(known, key) <= 2) {
        Some(nearest) => format!("{file}: {at}{key} is not known: did you mean {nearest}?"),
        None => format!("{file}: {at}{key} is not known: remove it, or call it x-{key}"),
    }
}

/// How many letters differ between two words.
pub(super) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = before + usize::from(x != *y);
            before = row[j + 1];
            row[j + 1] = change.min(before + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_told_apart() {
        let model = json!({
            "version": "3.8", "x-a": 1,
            "services": {"web": {"image": "a", "privileged": true, "build": ".", "x-b": 2}},
        });
        let mut ignored = check("f.yml", &model).unwrap();
        ignored.sort();
        assert_eq!(ignored, ["build", "privileged"]);
        for (model, words) in [
            (json!([]), "f.yml: it is no mapping"),
            (
                json!({"service": {}}),
                "service is not known: did you mean services?",
            ),
            (json!({"include": []}), "include is not supported"),
            (
                json!({"services": {"web": null}}),
                "services.web must be a mapping",
            ),
            (
                json!({"services": {"web": {"imgae": "a"}}}),
                "services.web.imgae is not known: did you mean image?",
            ),
            (
                json!({"services": {"web": {"cpu_quota": 1}}}),
                "services.web.cpu_quota is not supported: use deploy.resources.limits.cpus",
            ),
            (
                json!({"services": {"web": {"deploy": {"replica": 1}}}}),
                "services.web.deploy.replica is not known: did you mean replicas?",
            ),
            (
                json!({"services": {"web": {"whatever": 1}}}),
                "call it x-whatever",
            ),
        ] {
            let error = check("f.yml", &model).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
