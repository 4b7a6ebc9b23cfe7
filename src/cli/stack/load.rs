//! Reads stack files into one model: variables, several files, `extends`, `profiles`, `env_file`.
//!
//! Called by `deploy` and `config`. Reads files and the environment; decides nothing that needs the daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{interpolate, keys, merge, normal, yaml};

/// Longest file that is read.
const FILE_LIMIT: u64 = 16 << 20;

/// Deepest chain of `extends`.
const EXTENDS: usize = 16;

/// What the files say together.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Model {
    /// Services, networks, volumes, secrets and configs, written out.
    pub(super) value: Value,
    /// Keys that are passed over.
    pub(super) ignored: BTreeSet<String>,
    /// Where relative paths begin.
    pub(super) folder: PathBuf,
    /// The first file, for errors.
    pub(super) file: String,
}

/// How files are read.
#[derive(Clone, Debug, Default)]
pub(super) struct Reading<'a> {
    /// The files, `-` for standard input.
    pub(super) files: &'a [String],
    /// Profiles that are on.
    pub(super) profiles: &'a [String],
    /// The environment.
    pub(super) env: BTreeMap<String, String>,
    /// Variables stay as they are written.
    pub(super) raw: bool,
}

/// Reads them.
pub(super) fn load(reading: &Reading<'_>) -> Result<Model, String> {
    let mut model = Model::default();
    for (at, name) in reading.files.iter().enumerate() {
        let text = text_of(name)?;
        if at == 0 {
            model.file.clone_from(name);
            model.folder = folder_of(name)?;
        }
        let value = parse(name, &text, reading, &mut model.ignored)?;
        let value = extend_all(name, value, reading, &mut model.ignored)?;
        model.value = match at {
            0 => value,
            _ => merge::merge(model.value, value),
        };
    }
    select(&mut model, reading.profiles)?;
    if !reading.raw {
        fill_environments(&mut model, reading)?;
    }
    Ok(model)
}

fn text_of(name: &str) -> Result<String, String> {
    let mut text = String::new();
    let read = match name {
        "-" => std::io::stdin()
            .take(FILE_LIMIT + 1)
            .read_to_string(&mut text),
        path => std::fs::File::open(path)
            .and_then(|file| file.take(FILE_LIMIT + 1).read_to_string(&mut text)),
    };
    match read {
        Err(error) => Err(format!("{name} cannot be read: {error}")),
        Ok(length) if length as u64 > FILE_LIMIT => Err(format!("{name} is longer than 16 MiB")),
        Ok(_) => Ok(text),
    }
}

fn folder_of(name: &str) -> Result<PathBuf, String> {
    let path = match name {
        "-" => Path::new("."),
        name => Path::new(name).parent().unwrap_or_else(|| Path::new(".")),
    };
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    std::path::absolute(path).map_err(|error| format!("{name}: its folder is not found: {error}"))
}

fn parse(
    name: &str,
    text: &str,
    reading: &Reading<'_>,
    ignored: &mut BTreeSet<String>,
) -> Result<Value, String> {
    let mut value = yaml::read(text).map_err(|error| format!("{name}: {error}"))?;
    if !reading.raw {
        let lookup = |variable: &str| reading.env.get(variable).cloned();
        value = interpolate::interpolate(value, "", &lookup)
            .map_err(|error| format!("{name}: {error}"))?;
    }
    ignored.extend(keys::check(name, &value)?);
    normal::model(name, value)
}

/// Every service with `extends` over what it extends.
fn extend_all(
    name: &str,
    mut value: Value,
    reading: &Reading<'_>,
    ignored: &mut BTreeSet<String>,
) -> Result<Value, String> {
    let whole = value.clone();
    let Some(services) = value["services"].as_object_mut() else {
        return Ok(value);
    };
    for (service, value) in services {
        if value.get("extends").is_some() {
            *value = extended(name, &whole, service, reading, ignored, 0)?;
        }
    }
    Ok(value)
}

fn extended(
    file: &str,
    whole: &Value,
    service: &str,
    reading: &Reading<'_>,
    ignored: &mut BTreeSet<String>,
    depth: usize,
) -> Result<Value, String> {
    if depth > EXTENDS {
        return Err(format!(
            "{file}: services.{service}.extends goes in a circle"
        ));
    }
    let Some(found) = whole["services"].get(service) else {
        return Err(format!("{file}: there is no service {service} to extend"));
    };
    let mut own = found.clone();
    let Some(extends) = own.as_object_mut().and_then(|own| own.remove("extends")) else {
        return Ok(own);
    };
    let Some(of) = extends["service"].as_str() else {
        return Err(format!(
            "{file}: services.{service}.extends needs a service"
        ));
    };
    let mut base = match extends["file"].as_str() {
        None => extended(file, whole, of, reading, ignored, depth + 1)?,
        Some(other) => {
            let path = folder_of(file)?.join(other).display().to_string();
            let whole = parse(&path, &text_of(&path)?, reading, ignored)?;
            extended(&path, &whole, of, reading, ignored, depth + 1)?
        }
    };
    // Whom the other one waits for is not this file's.
    if let Some(base) = base.as_object_mut() {
        base.remove("depends_on");
        base.remove("profiles");
    }
    Ok(merge::merge(base, own))
}

/// Leaves the services whose profile is on, and checks that nobody waits for one that is not there.
fn select(model: &mut Model, profiles: &[String]) -> Result<(), String> {
    let file = model.file.clone();
    let Some(services) = model.value["services"].as_object_mut() else {
        return Ok(());
    };
    let known: BTreeSet<String> = services.keys().cloned().collect();
    services.retain(|_, service| {
        let named = service["profiles"].as_array();
        named.is_none_or(|named| {
            named.is_empty()
                || named
                    .iter()
                    .any(|one| profiles.iter().any(|on| one == on || on == "*"))
        })
    });
    let left: BTreeSet<String> = services.keys().cloned().collect();
    for (name, service) in services {
        let Some(waits) = service.get_mut("depends_on").and_then(Value::as_object_mut) else {
            continue;
        };
        for (other, how) in waits.iter() {
            if left.contains(other) || how["required"] == false {
                continue;
            }
            let why = match known.contains(other) {
                true => format!(
                    "whose profile is off: give --profile, or required: false to services.{name}"
                ),
                false => "which is not there".to_owned(),
            };
            return Err(format!(
                "{file}: services.{name}.depends_on names {other}, {why}"
            ));
        }
        waits.retain(|other, _| left.contains(other));
    }
    Ok(())
}

/// `env_file` and names without a value become variables.
fn fill_environments(model: &mut Model, reading: &Reading<'_>) -> Result<(), String> {
    let (folder, file) = (model.folder.clone(), model.file.clone());
    let Some(services) = model.value["services"].as_object_mut() else {
        return Ok(());
    };
    for (name, service) in services {
        let mut all = serde_json::Map::new();
        for entry in service["env_file"].as_array().into_iter().flatten() {
            let path = folder.join(entry["path"].as_str().unwrap_or_default());
            if entry["required"] == false && !path.exists() {
                continue;
            }
            let text = text_of(&path.display().to_string())
                .map_err(|error| format!("{file}: services.{name}.env_file: {error}"))?;
            all.extend(env_file(&text, &reading.env)?);
        }
        for (key, value) in service["environment"].as_object().into_iter().flatten() {
            match value {
                Value::Null => match reading.env.get(key) {
                    Some(value) => all.insert(key.clone(), value.as_str().into()),
                    None => all.remove(key),
                },
                value => all.insert(key.clone(), value.clone()),
            };
        }
        if let Some(service) = service.as_object_mut() {
            service.remove("env_file");
            match all.is_empty() {
                true => service.remove("environment"),
                false => service.insert("environment".into(), all.into()),
            };
        }
    }
    Ok(())
}

/// `NAME=value` lines, quoted or not; `export` before a name is passed over.
fn env_file(
    text: &str,
    env: &BTreeMap<String, String>,
) -> Result<serde_json::Map<String, Value>, String> {
    let mut found = serde_json::Map::new();
    for line in text.trim_start_matches('\u{feff}').lines() {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            if let Some(value) = env.get(line) {
                found.insert(line.to_owned(), value.as_str().into());
            }
            continue;
        };
        let key = key.trim_end();
        if key.is_empty() || key.contains(char::is_whitespace) {
            return Err(format!("`{line}` is no variable: write NAME=value"));
        }
        let value = value.trim_start();
        let quoted = |quote: char| {
            let inner = value.strip_prefix(quote)?;
            inner.rsplit_once(quote).map(|(inner, _)| inner)
        };
        let value = match (quoted('\''), quoted('"')) {
            (Some(inner), _) => json!(inner),
            (_, Some(inner)) => json!(inner.replace("\\n", "\n").replace("\\\"", "\"")),
            _ => json!(value.split(" #").next().unwrap_or_default().trim_end()),
        };
        found.insert(key.to_owned(), value);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Files(tempfile::TempDir);

    impl Files {
        fn new(files: &[(&str, &str)]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            for (name, text) in files {
                std::fs::write(dir.path().join(name), text).unwrap();
            }
            Self(dir)
        }

        fn load(&self, names: &[&str], profiles: &[&str]) -> Result<Model, String> {
            let path = |name: &&str| self.0.path().join(name).display().to_string();
            let files: Vec<String> = names.iter().map(path).collect();
            let profiles: Vec<String> = profiles.iter().map(|name| (*name).to_owned()).collect();
            let env = BTreeMap::from([
                ("TAG".to_owned(), "7".to_owned()),
                ("HOME_ENV".to_owned(), "h".to_owned()),
            ]);
            load(&Reading {
                files: &files,
                profiles: &profiles,
                env,
                raw: false,
            })
        }
    }

    #[test]
    fn files_become_one_model() {
        let files = Files::new(&[
            (
                "a.yml",
                "services:\n  web:\n    image: a:${TAG:-1}\n    env_file: web.env\n    environment: [HOME_ENV, NOT_SET, B=own]\n    \
                 depends_on: [db]\n  db:\n    extends: {file: base.yml, service: base}\n    user: me\n  tool:\n    image: t\n    profiles: [debug]\n",
            ),
            (
                "b.yml",
                "services:\n  web:\n    image: b\n    privileged: true\n",
            ),
            (
                "base.yml",
                "services:\n  base:\n    image: base\n    depends_on: [other]\n    user: nobody\n",
            ),
            (
                "web.env",
                "# comment\nA='quoted # value'\nexport B=file\nC=x # not this\n",
            ),
        ]);
        let model = files.load(&["a.yml", "b.yml"], &[]).unwrap();
        let services = &model.value["services"];
        assert_eq!(services["web"]["image"], "b");
        assert_eq!(
            services["web"]["environment"],
            json!({"A": "quoted # value", "B": "own", "C": "x", "HOME_ENV": "h"})
        );
        assert_eq!(services["db"], json!({"image": "base", "user": "me"}));
        assert!(services.get("tool").is_none());
        assert_eq!(model.ignored, BTreeSet::from(["privileged".to_owned()]));
        let model = files.load(&["a.yml"], &["debug"]).unwrap();
        assert_eq!(model.value["services"]["tool"]["image"], "t");
        assert_eq!(model.value["services"]["web"]["image"], "a:7");
    }

    #[test]
    fn what_is_wrong_is_one_sentence() {
        let files = Files::new(&[
            (
                "circle.yml",
                "services:\n  a: {image: x, extends: b}\n  b: {image: x, extends: a}\n",
            ),
            ("gone.yml", "services:\n  a: {image: x, depends_on: [b]}\n"),
            (
                "off.yml",
                "services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, profiles: [p]}\n",
            ),
            ("env.yml", "services:\n  a: {image: x, env_file: no.env}\n"),
            (
                "need.yml",
                "services:\n  a: {image: '${NEED:?say which}'}\n",
            ),
            ("bad.yml", "services: [\n"),
        ]);
        for (name, words) in [
            ("circle.yml", "goes in a circle"),
            ("gone.yml", "names b, which is not there"),
            ("off.yml", "whose profile is off"),
            ("env.yml", "no.env cannot be read"),
            (
                "need.yml",
                "services.a.image: required variable NEED is missing a value: say which",
            ),
            ("bad.yml", "bad.yml: line"),
            ("none.yml", "none.yml cannot be read"),
        ] {
            let error = files.load(&[name], &[]).unwrap_err();
            assert!(error.contains(words), "{name}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
