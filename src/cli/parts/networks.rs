//! `--network web`, `--network name=web,alias=db,driver-opt=a=b`.

use serde_json::{Value, json};

use super::fields;

/// Reads an attachment. Its target is still what the user calls the network.
pub(in crate::cli) fn attachment(text: &str) -> Result<Value, String> {
    if !text.contains('=') {
        return match text {
            "" => Err("network name/id is not specified".into()),
            text => Ok(json!({"Target": text})),
        };
    }
    let mut attachment = json!({});
    let mut aliases = Vec::new();
    for field in fields(&text.to_lowercase())? {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| format!("invalid field {field}"))?;
        match (key.trim(), value.trim()) {
            ("name", value) => attachment["Target"] = value.into(),
            ("alias", value) => aliases.push(value.to_owned()),
            ("driver-opt", value) => {
                let (key, value) = value
                    .split_once('=')
                    .ok_or_else(|| "invalid key value pair format in driver options".to_owned())?;
                attachment["DriverOpts"][key] = value.into();
            }
            // Addresses of single containers; a service's are given by the cluster.
            (key @ ("ip" | "ip6" | "mac-address" | "link-local-ip" | "gw-priority"), value) => {
                attachment["Endpoint"][key] = value.into();
            }
            (key, _) => return Err(format!("invalid field key {key}")),
        }
    }
    if attachment["Target"].as_str().unwrap_or_default().is_empty() {
        return Err("network name/id is not specified".into());
    }
    if !aliases.is_empty() {
        attachment["Aliases"] = aliases.into();
    }
    Ok(attachment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attachments_are_read() {
        assert_eq!(attachment("web"), Ok(json!({"Target": "web"})));
        assert_eq!(
            attachment("name=web,alias=a,alias=b,driver-opt=k=v"),
            Ok(json!({"Target": "web", "Aliases": ["a", "b"], "DriverOpts": {"k": "v"}}))
        );
        for text in [
            "",
            "alias=a",
            "name=a,b",
            "name=a,x=y",
            "name=a,driver-opt=k",
        ] {
            assert!(attachment(text).is_err(), "{text}");
        }
    }
}
