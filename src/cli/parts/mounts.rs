//! `--mount type=volume,source=data,target=/data,readonly`.

use serde_json::{Value, json};

use super::{fields, switch};
use crate::cli::values::bytes;

/// Keys that may stand without a value.
const SWITCHES: [&str; 5] = [
    "readonly",
    "ro",
    "volume-nocopy",
    "bind-nonrecursive",
    "bind-create-src",
];

/// Reads a mount.
pub(in crate::cli) fn mount(text: &str) -> Result<Value, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("value is empty".into());
    }
    let mut mount = json!({"Type": "volume"});
    for field in fields(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field.as_str(), None),
        };
        if key.trim() != key || value.is_some_and(|value| value.trim() != value) {
            return Err(format!(
                "invalid option '{field}': it should not have whitespace"
            ));
        }
        let key = key.to_lowercase();
        match value {
            None if !SWITCHES.contains(&key.as_str()) => {
                return Err(format!("invalid field '{field}' must be a key=value pair"));
            }
            Some("") => return Err(format!("invalid value for '{key}': value is empty")),
            value => set(&mut mount, &key, value)?,
        }
        // Along with any option of a volume docker's client names a driver, if only an empty one.
        if key.starts_with("volume-") && mount["VolumeOptions"].get("DriverConfig").is_none() {
            mount["VolumeOptions"]["DriverConfig"] = json!({});
        }
    }
    check(mount)
}

fn set(mount: &mut Value, key: &str, given: Option<&str>) -> Result<(), String> {
    let value = given.unwrap_or_default();
    match key {
        "type" => mount["Type"] = value.to_lowercase().into(),
        "source" | "src" => mount["Source"] = absolute(value).into(),
        "target" | "dst" | "destination" => mount["Target"] = value.into(),
        "readonly" | "ro" => mount["ReadOnly"] = switch(key, given)?.into(),
        "consistency" => mount["Consistency"] = value.to_lowercase().into(),
        "bind-propagation" => mount["BindOptions"]["Propagation"] = value.to_lowercase().into(),
        "bind-nonrecursive" => {
            return Err(
                "bind-nonrecursive is deprecated, use bind-recursive=disabled instead".into(),
            );
        }
        "bind-recursive" => {
            let option = match value {
                "enabled" => return Ok(()),
                "disabled" => "NonRecursive",
                "writable" => "ReadOnlyNonRecursive",
                "readonly" => "ReadOnlyForceRecursive",
                _ => {
                    return Err(format!(
                        "invalid value for {key}: {value} (must be \"enabled\", \"disabled\", \"writable\", or \
                         \"readonly\")"
                    ));
                }
            };
            mount["BindOptions"][option] = true.into();
        }
        "bind-create-src" => {
            mount["BindOptions"]["CreateMountpoint"] = switch(key, given)?.into();
        }
        "volume-subpath" => mount["VolumeOptions"]["Subpath"] = value.into(),
        "volume-nocopy" => mount["VolumeOptions"]["NoCopy"] = switch(key, given)?.into(),
        "volume-label" => {
            let (key, value) = value.split_once('=').unwrap_or((value, ""));
            mount["VolumeOptions"]["Labels"][key] = value.into();
        }
        "volume-driver" => mount["VolumeOptions"]["DriverConfig"]["Name"] = value.into(),
        "volume-opt" => {
            let (key, value) = value.split_once('=').unwrap_or((value, ""));
            mount["VolumeOptions"]["DriverConfig"]["Options"][key] = value.into();
        }
        "image-subpath" => mount["ImageOptions"]["Subpath"] = value.into(),
        "tmpfs-size" => {
            let size = bytes(value).map_err(|_| format!("invalid value for {key}: {value}"))?;
            mount["TmpfsOptions"]["SizeBytes"] = size.into();
        }
        "tmpfs-mode" => {
            let mode = u32::from_str_radix(value, 8)
                .map_err(|_| format!("invalid value for {key}: {value}"))?;
            mount["TmpfsOptions"]["Mode"] = mode.into();
        }
        _ => return Err(format!("unknown option '{key}'")),
    }
    Ok(())
}

/// A path that begins with a dot is this folder's.
fn absolute(source: &str) -> String {
    match std::path::absolute(source) {
        Ok(path) if source.starts_with('.') => path.display().to_string(),
        _ => source.to_owned(),
    }
}

fn check(mount: Value) -> Result<Value, String> {
    let kind = mount["Type"].as_str().unwrap_or_default();
    if mount["Target"].as_str().unwrap_or_default().is_empty() {
        return Err("target is required".into());
    }
    for (options, of, prefix) in [
        ("VolumeOptions", "volume", "volume"),
        ("BindOptions", "bind", "bind"),
        ("TmpfsOptions", "tmpfs", "tmpfs"),
        ("ImageOptions", "image", "image"),
    ] {
        if mount.get(options).is_some() && kind != of {
            return Err(format!(
                "cannot mix '{prefix}-*' options with mount type '{kind}'"
            ));
        }
    }
    match kind {
        "bind" | "image" | "npipe" | "cluster" if mount.get("Source").is_none() => Err(format!(
            "source is required when specifying mounts of type {kind}"
        )),
        "tmpfs" if mount.get("Source").is_some() => {
            Err("cannot specify source on a tmpfs mount".into())
        }
        _ => Ok(mount),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read() {
        for (text, value) in [
            (
                "type=bind,source=/a,target=/b,ro",
                json!({"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true}),
            ),
            (
                "src=data,dst=/d,volume-nocopy,volume-driver=local,volume-opt=type=nfs,volume-label=a=b",
                json!({
                    "Type": "volume", "Source": "data", "Target": "/d",
                    "VolumeOptions": {
                        "NoCopy": true, "Labels": {"a": "b"},
                        "DriverConfig": {"Name": "local", "Options": {"type": "nfs"}},
                    },
                }),
            ),
            (
                "type=tmpfs,target=/t,tmpfs-size=64m,tmpfs-mode=1770",
                json!({"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 64 << 20, "Mode": 0o1770}}),
            ),
            (
                "type=bind,src=/a,dst=/a,bind-propagation=rslave,bind-recursive=disabled",
                json!({
                    "Type": "bind", "Source": "/a", "Target": "/a",
                    "BindOptions": {"Propagation": "rslave", "NonRecursive": true},
                }),
            ),
        ] {
            assert_eq!(mount(text), Ok(value), "{text}");
        }
        for (text, words) in [
            ("", "empty"),
            ("type=bind,source=/a", "target is required"),
            ("type=bind,target=/a", "source is required"),
            ("type=tmpfs,source=a,target=/b", "cannot specify source"),
            (
                "type=bind,source=/a,target=/b,volume-nocopy",
                "cannot mix 'volume-*'",
            ),
            ("target", "key=value"),
            ("target=/a,colour=red", "unknown option 'colour'"),
            ("target=", "value is empty"),
            ("target=/a,ro=maybe", "must be true or false"),
        ] {
            let error = mount(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
