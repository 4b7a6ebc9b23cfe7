//! A model's networks, secrets, configs and the order of its services, in docker's JSON. Pure.

mod container;
mod deploy;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::NAMESPACE;
use super::load::Model;
use super::values::{At, mapping, put, switch, text};
use crate::cli::parts::references::Kind;

/// The label with the image as the file names it.
pub(super) const IMAGE: &str = "com.docker.stack.image";

/// What is to be there.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Stack {
    /// Networks that must be there already.
    pub(super) external_networks: Vec<String>,
    /// Bodies of `POST /networks/create`.
    pub(super) networks: Vec<Value>,
    /// Specs, their data in plain bytes beside them.
    pub(super) secrets: Vec<Blob>,
    /// As for secrets.
    pub(super) configs: Vec<Blob>,
    /// In the order in which they begin.
    pub(super) services: Vec<Planned>,
}

/// A secret or a config.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Blob {
    /// Without its data.
    pub(super) spec: Value,
    /// Where the data is.
    pub(super) source: Source,
}

/// Where data is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Source {
    /// With the cluster, or with a driver.
    #[default]
    Nowhere,
    /// In a file.
    File(std::path::PathBuf),
    /// In the stack file itself, or in the environment.
    Text(String),
}

/// A service and whom it waits for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Planned {
    /// Its name in the file.
    pub(super) short: String,
    /// Its spec; secrets and configs still by name.
    pub(super) spec: Value,
    /// Names in the file, and the conditions.
    pub(super) waits: BTreeMap<String, String>,
}

/// What the parts of a conversion share.
#[derive(Debug)]
struct Scope<'a> {
    stack: &'a str,
    file: &'a str,
    folder: &'a Path,
    model: &'a Value,
}

impl Scope<'_> {
    fn name(&self, name: &str) -> String {
        format!("{}_{name}", self.stack)
    }

    /// What an object of a section is called in the cluster, and whether it is somebody else's.
    fn named(&self, section: &str, name: &str) -> Result<(String, bool), String> {
        let at = At::new(self.file, format!("{section}.{name}"));
        let object = &self.model[section][name];
        let external = switch(&object["external"], &at.of("external"))?.unwrap_or_default();
        let given = text(&object["name"], &at.of("name"))?;
        let usual = match external {
            true => name.to_owned(),
            false => self.name(name),
        };
        Ok((given.unwrap_or(usual), external))
    }

    fn labels(&self, labels: &Value) -> Value {
        let mut all = labels.as_object().cloned().unwrap_or_default();
        all.values_mut()
            .filter(|value| value.is_null())
            .for_each(|value| *value = "".into());
        all.insert(NAMESPACE.into(), self.stack.into());
        all.into()
    }
}

/// Converts a model into the stack of that name.
pub(super) fn convert(
    stack: &str,
    model: &Model,
    env: &BTreeMap<String, String>,
) -> Result<Stack, String> {
    check_name(stack)?;
    let scope = Scope {
        stack,
        file: &model.file,
        folder: &model.folder,
        model: &model.value,
    };
    let mut converted = Stack::default();
    let services = scope.model["services"].as_object();
    for (name, service) in services.into_iter().flatten() {
        let waits = service["depends_on"].as_object().into_iter().flatten();
        converted.services.push(Planned {
            short: name.clone(),
            spec: container::service(&scope, name, service)?,
            waits: waits
                .map(|(other, how)| {
                    let condition = how["condition"].as_str().unwrap_or_default();
                    (other.clone(), condition.to_owned())
                })
                .collect(),
        });
    }
    converted.services = ordered(converted.services, &model.file)?;
    networks(&scope, &mut converted)?;
    converted.secrets = blobs(&scope, Kind::Secret, env)?;
    converted.configs = blobs(&scope, Kind::Config, env)?;
    Ok(converted)
}

fn check_name(stack: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-' || c == '.';
    let begins = stack.starts_with(|c: char| c.is_ascii_alphanumeric());
    match begins && stack.chars().all(plain) {
        true => Ok(()),
        false => Err(format!(
            "invalid stack name: {stack:?}: use letters, digits, _, - and ."
        )),
    }
}

/// Those that are waited for come first; among the others, the order of names.
fn ordered(mut services: Vec<Planned>, file: &str) -> Result<Vec<Planned>, String> {
    let mut order: Vec<Planned> = Vec::with_capacity(services.len());
    while !services.is_empty() {
        let there = |name: &String| order.iter().any(|done| done.short == *name);
        let Some(next) = services.iter().position(|one| one.waits.keys().all(there)) else {
            let names: Vec<&str> = services.iter().map(|one| one.short.as_str()).collect();
            return Err(format!(
                "{file}: the services {} wait for each other: change depends_on",
                names.join(", ")
            ));
        };
        order.push(services.remove(next));
    }
    Ok(order)
}

/// The networks that services use.
fn networks(scope: &Scope<'_>, converted: &mut Stack) -> Result<(), String> {
    let mut used: Vec<String> = Vec::new();
    for service in scope.model["services"]
        .as_object()
        .into_iter()
        .flat_map(Map::values)
    {
        let named = service["networks"]
            .as_object()
            .filter(|named| !named.is_empty());
        match named {
            Some(named) => used.extend(named.keys().cloned()),
            None => used.push("default".into()),
        }
    }
    used.sort();
    used.dedup();
    for name in used {
        let at = At::new(scope.file, format!("networks.{name}"));
        let network = &scope.model["networks"][&name];
        if name != "default" && scope.model["networks"].get(&name).is_none() {
            return Err(format!(
                "{}: undefined network {name:?}: add it below networks",
                scope.file
            ));
        }
        let (called, external) = scope.named("networks", &name)?;
        if external {
            converted.external_networks.push(called);
            continue;
        }
        converted
            .networks
            .push(network_body(scope, &called, network, &at)?);
    }
    Ok(())
}

fn network_body(
    scope: &Scope<'_>,
    called: &str,
    network: &Value,
    at: &At<'_>,
) -> Result<Value, String> {
    let driver = text(&network["driver"], &at.of("driver"))?;
    let flag = |key: &str| Ok::<_, String>(switch(&network[key], &at.of(key))?.unwrap_or_default());
    let mut body = json!({
        "Name": called,
        "Labels": scope.labels(&network["labels"]),
        "Driver": driver.unwrap_or_else(|| "overlay".into()),
        "Options": mapping(&network["driver_opts"], &at.of("driver_opts"))?,
        "Internal": flag("internal")?,
        "Attachable": flag("attachable")?,
    });
    if flag("enable_ipv6")? {
        body["EnableIPv6"] = true.into();
    }
    let ipam = mapping(&network["ipam"], &at.of("ipam"))?;
    if !ipam.is_empty() {
        let config = network.pointer("/ipam/config").and_then(Value::as_array);
        let pools = config.into_iter().flatten().map(|pool| {
            let mut written = json!({});
            for (key, field) in [
                ("subnet", "Subnet"),
                ("gateway", "Gateway"),
                ("ip_range", "IPRange"),
            ] {
                put(&mut written, field, pool[key].as_str());
            }
            written
        });
        body["IPAM"] = json!({"Config": pools.collect::<Vec<Value>>()});
        put(
            &mut body["IPAM"],
            "Driver",
            ipam.get("driver").and_then(Value::as_str),
        );
    }
    Ok(body)
}

/// The secrets or configs of the file that are not somebody else's.
fn blobs(
    scope: &Scope<'_>,
    kind: Kind,
    env: &BTreeMap<String, String>,
) -> Result<Vec<Blob>, String> {
    let section = kind.collection();
    let mut all = Vec::new();
    for (name, object) in scope.model[section].as_object().into_iter().flatten() {
        let at = At::new(scope.file, format!("{section}.{name}"));
        let (called, external) = scope.named(section, name)?;
        if external {
            continue;
        }
        let mut spec = json!({"Name": called, "Labels": scope.labels(&object["labels"])});
        if let Some(driver) = text(&object["template_driver"], &at)? {
            spec["Templating"] = json!({"Name": driver});
        }
        let source = match (
            object["file"].as_str(),
            object["content"].as_str(),
            object["environment"].as_str(),
            object["driver"].as_str(),
        ) {
            (Some(file), None, None, None) => Source::File(scope.folder.join(file)),
            (None, Some(content), None, None) => Source::Text(content.to_owned()),
            (None, None, Some(variable), None) => match env.get(variable) {
                Some(value) => Source::Text(value.clone()),
                None => return Err(at.error(format!("the environment has no {variable}"))),
            },
            (None, None, None, Some(driver)) => {
                let options = mapping(&object["driver_opts"], &at)?;
                spec["Driver"] = json!({"Name": driver, "Options": options});
                Source::Nowhere
            }
            _ => {
                return Err(at.error(
                    "give it one of file, content, environment, driver, or external: true",
                ));
            }
        };
        all.push(Blob { spec, source });
    }
    Ok(all)
}

#[cfg(test)]
mod tests;
