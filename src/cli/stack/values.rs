//! Reading values of a stack file: what may be written in several ways becomes one. Pure.

use serde_json::{Map, Value, json};

use crate::cli::values::{bytes, nanos};

/// Where a value stands, for errors.
#[derive(Clone, Debug)]
pub(super) struct At<'a> {
    pub(super) file: &'a str,
    pub(super) path: String,
}

impl<'a> At<'a> {
    /// A place in a file.
    pub(super) fn new(file: &'a str, path: impl Into<String>) -> Self {
        let path = path.into();
        Self { file, path }
    }

    /// A place within this one.
    pub(super) fn of(&self, key: &str) -> Self {
        Self::new(self.file, format!("{}.{key}", self.path))
    }

    /// An error at this place.
    pub(super) fn error(&self, what: impl std::fmt::Display) -> String {
        format!("{}: {}: {what}", self.file, self.path)
    }
}

/// A scalar as text, as Go prints it; `None` for null.
pub(super) fn text(value: &Value, at: &At<'_>) -> Result<Option<String>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Bool(value) => Ok(Some(value.to_string())),
        Value::Number(number) => Ok(Some(match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) => float.to_string(),
            None => number.to_string(),
        })),
        Value::Array(_) | Value::Object(_) => Err(at.error("a text is needed here")),
    }
}

/// A list of texts; one text alone is a list of one.
pub(super) fn texts(value: &Value, at: &At<'_>) -> Result<Vec<String>, String> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(list) => list
            .iter()
            .filter_map(|one| text(one, at).transpose())
            .collect(),
        value => Ok(text(value, at)?.into_iter().collect()),
    }
}

/// A command: a text is taken apart as a shell does it, and null says nothing.
pub(super) fn command(value: &Value, at: &At<'_>) -> Result<Value, String> {
    match value {
        Value::Null => Ok(Value::Null),
        Value::String(line) => match shlex::split(line) {
            Some(words) => Ok(words.into()),
            None => Err(at.error("a quote is not closed")),
        },
        value => Ok(texts(value, at)?.into()),
    }
}

/// `a=b` in a list, or a mapping, as a mapping of texts; a key alone is null.
pub(super) fn pairs(value: &Value, separators: &[char], at: &At<'_>) -> Result<Value, String> {
    let mut map = Map::new();
    match value {
        Value::Null => {}
        Value::Array(list) => {
            for one in list {
                let Some(one) = text(one, at)? else { continue };
                match one.split_once(separators) {
                    Some((key, value)) => map.insert(key.to_owned(), value.into()),
                    None => map.insert(one, Value::Null),
                };
            }
        }
        Value::Object(given) => {
            for (key, value) in given {
                let value = text(value, &at.of(key))?;
                map.insert(key.clone(), value.map_or(Value::Null, Value::from));
            }
        }
        _ => return Err(at.error("a mapping or a list of key=value is needed here")),
    }
    Ok(map.into())
}

/// A mapping; null is an empty one.
pub(super) fn mapping(value: &Value, at: &At<'_>) -> Result<Map<String, Value>, String> {
    match value {
        Value::Null => Ok(Map::new()),
        Value::Object(map) => Ok(map.clone()),
        _ => Err(at.error("a mapping is needed here")),
    }
}

/// A whole number, also as text.
pub(super) fn integer(value: &Value, at: &At<'_>) -> Result<Option<i64>, String> {
    let Some(text) = text(value, at)? else {
        return Ok(None);
    };
    match text.trim().parse() {
        Ok(number) => Ok(Some(number)),
        Err(_) => Err(at.error(format!("{text:?} is no whole number"))),
    }
}

/// A number, also as text.
pub(super) fn float(value: &Value, at: &At<'_>) -> Result<Option<f64>, String> {
    let Some(text) = text(value, at)? else {
        return Ok(None);
    };
    match text.trim().parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(Some(number)),
        _ => Err(at.error(format!("{text:?} is no number"))),
    }
}

/// Whether, also as text.
pub(super) fn switch(value: &Value, at: &At<'_>) -> Result<Option<bool>, String> {
    match text(value, at)?
        .as_deref()
        .map(str::to_lowercase)
        .as_deref()
    {
        None => Ok(None),
        Some("true" | "yes" | "on" | "y") => Ok(Some(true)),
        Some("false" | "no" | "off" | "n") => Ok(Some(false)),
        Some(other) => Err(at.error(format!("{other:?} is neither true nor false"))),
    }
}

/// A duration in nanoseconds.
pub(super) fn duration(value: &Value, at: &At<'_>) -> Result<Option<i64>, String> {
    let Some(text) = text(value, at)? else {
        return Ok(None);
    };
    nanos(&text).map(Some).map_err(|error| at.error(error))
}

/// A size in bytes.
pub(super) fn size(value: &Value, at: &At<'_>) -> Result<Option<i64>, String> {
    let Some(text) = text(value, at)? else {
        return Ok(None);
    };
    bytes(&text).map(Some).map_err(|error| at.error(error))
}

/// Sets a field where there is a value.
pub(super) fn put(object: &mut Value, field: &str, value: Option<impl Into<Value>>) {
    if !object.is_object() {
        *object = json!({});
    }
    if let Some(value) = value {
        object[field] = value.into();
    }
}
