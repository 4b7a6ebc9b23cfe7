//! `--secret`, `--config`: `name`, or `source=name,target=file,uid=0,gid=0,mode=0440`.

use serde_json::{Value, json};

use super::fields;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Kind {
    /// `--secret`.
    Secret,
    /// `--config`.
    Config,
}

impl Kind {
    /// The field of a reference that has the object's name.
    pub(in crate::cli) const fn name(self) -> &'static str {
        match self {
            Self::Secret => "SecretName",
            Self::Config => "ConfigName",
        }
    }

    /// The field of a reference that has the object's ID.
    pub(in crate::cli) const fn id(self) -> &'static str {
        match self {
            Self::Secret => "SecretID",
            Self::Config => "ConfigID",
        }
    }

    /// The collection in the API.
    pub(in crate::cli) const fn collection(self) -> &'static str {
        match self {
            Self::Secret => "secrets",
            Self::Config => "configs",
        }
    }

    /// In words.
    pub(in crate::cli) const fn word(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Config => "config",
        }
    }
}

/// A secret's reference, still without its ID.
pub(in crate::cli) fn secret(text: &str) -> Result<Value, String> {
    read(Kind::Secret, text)
}

/// A config's reference, still without its ID.
pub(in crate::cli) fn config(text: &str) -> Result<Value, String> {
    read(Kind::Config, text)
}

fn read(kind: Kind, text: &str) -> Result<Value, String> {
    let mut file = json!({"Name": "", "UID": "0", "GID": "0", "Mode": 0o444});
    let mut source = String::new();
    let fields = fields(text)?;
    if let [name] = fields.as_slice()
        && !name.contains('=')
    {
        source.clone_from(name);
    } else {
        for field in &fields {
            let (key, value) = field
                .split_once('=')
                .ok_or_else(|| format!("invalid field '{field}' must be a key=value pair"))?;
            match key.to_lowercase().as_str() {
                "source" | "src" => source = value.to_owned(),
                "target" => file["Name"] = value.into(),
                "uid" => file["UID"] = value.into(),
                "gid" => file["GID"] = value.into(),
                "mode" => file["Mode"] = mode(value)?.into(),
                key => return Err(format!("invalid field in {} request: {key}", kind.word())),
            }
        }
    }
    if source.is_empty() {
        return Err("source is required".into());
    }
    if file["Name"] == "" {
        file["Name"] = source.clone().into();
    }
    Ok(json!({"File": file, kind.id(): "", kind.name(): source}))
}

/// A file's mode: `0440` is octal.
pub(in crate::cli) fn mode(text: &str) -> Result<u32, String> {
    let octal = text.strip_prefix("0o").or_else(|| text.strip_prefix('0'));
    let parsed = match octal {
        Some("") => Ok(0),
        Some(digits) => u32::from_str_radix(digits, 8),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("invalid mode specified: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read() {
        assert_eq!(
            secret("key"),
            Ok(json!({
                "SecretName": "key", "SecretID": "",
                "File": {"Name": "key", "UID": "0", "GID": "0", "Mode": 0o444},
            }))
        );
        assert_eq!(
            config("source=c,target=/etc/c,uid=1,gid=2,mode=0440"),
            Ok(json!({
                "ConfigName": "c", "ConfigID": "",
                "File": {"Name": "/etc/c", "UID": "1", "GID": "2", "Mode": 0o440},
            }))
        );
        for text in [
            "",
            "target=a",
            "source=a,b",
            "source=a,mode=x",
            "source=a,x=y",
        ] {
            assert!(secret(text).is_err(), "{text}");
        }
        assert_eq!(
            (mode("0"), mode("292"), mode("0o444")),
            (Ok(0), Ok(292), Ok(0o444))
        );
    }
}
