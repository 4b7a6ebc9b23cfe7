//! `${NAME}` in a stack file: what the environment says is put in its place. Pure.

use serde_json::Value;

/// Deepest default within a default.
const DEPTH: usize = 16;

/// Puts values in for variables in all texts of `value`; `at` is where it stands, for errors.
pub(super) fn interpolate(
    value: Value,
    at: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Value, String> {
    Ok(match value {
        Value::String(text) if text.contains('$') => {
            let text = fill(&text, lookup, 0).map_err(|error| format!("{at}: {error}"))?;
            Value::String(text)
        }
        Value::Array(list) => {
            let list = list.into_iter().enumerate();
            let filled: Result<Vec<Value>, String> = list
                .map(|(index, value)| interpolate(value, &format!("{at}.{index}"), lookup))
                .collect();
            filled?.into()
        }
        Value::Object(map) => {
            let filled: Result<serde_json::Map<String, Value>, String> = map
                .into_iter()
                .map(|(key, value)| {
                    let at = if at.is_empty() {
                        key.clone()
                    } else {
                        format!("{at}.{key}")
                    };
                    interpolate(value, &at, lookup).map(|value| (key, value))
                })
                .collect();
            filled?.into()
        }
        value => value,
    })
}

/// `$$` is a dollar; `$NAME`, `${NAME}` and `${NAME:-default}`, `-`, `:?`, `?`, `:+`, `+` are variables.
fn fill(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    depth: usize,
) -> Result<String, String> {
    if depth > DEPTH {
        return Err("defaults stand within defaults too deep".into());
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = after.strip_prefix('{') {
            let end = closing(after).ok_or_else(|| wrong(text))?;
            out.push_str(&braced(&after[..end], text, lookup, depth)?);
            rest = &after[end + 1..];
        } else {
            let length = name_length(after);
            if length == 0 {
                return Err(wrong(text));
            }
            out.push_str(&lookup(&after[..length]).unwrap_or_default());
            rest = &after[length..];
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn wrong(text: &str) -> String {
    format!("invalid interpolation format {text:?}: write ${{NAME}}, or $$ for a dollar")
}

/// Where the brace ends that is open at the beginning.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// How many bytes at the beginning are a variable's name.
fn name_length(text: &str) -> usize {
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    if starts { end.unwrap_or(text.len()) } else { 0 }
}

fn braced(
    inner: &str,
    whole: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    depth: usize,
) -> Result<String, String> {
    let length = name_length(inner);
    if length == 0 {
        return Err(wrong(whole));
    }
    let (name, rest) = inner.split_at(length);
    let (strict, operator) = match rest.strip_prefix(':') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let mut chars = operator.chars();
    let kind = chars.next();
    let word = chars.as_str();
    let value = lookup(name).filter(|value| !strict || !value.is_empty());
    match (kind, value) {
        (None, value) if !strict => Ok(value.unwrap_or_default()),
        (Some('-'), Some(value)) | (Some('?'), Some(value)) => Ok(value),
        (Some('-'), None) => fill(word, lookup, depth + 1),
        (Some('+'), Some(_)) => fill(word, lookup, depth + 1),
        (Some('+'), None) => Ok(String::new()),
        (Some('?'), None) => {
            let word = fill(word, lookup, depth + 1)?;
            Err(format!(
                "required variable {name} is missing a value: {word}"
            ))
        }
        _ => Err(wrong(whole)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "SET" => Some("value".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    fn filled(text: &str) -> Result<String, String> {
        fill(text, &env, 0)
    }

    #[test]
    fn each_form_is_filled_in() {
        for (text, result) in [
            ("plain", "plain"),
            ("$SET-${SET}", "value-value"),
            ("$NOT${NOT}", ""),
            ("${EMPTY:-d}${EMPTY-d}", "d"),
            ("${NOT:-${SET}/x}", "value/x"),
            ("${NOT-a:b}", "a:b"),
            ("${SET:+yes}${NOT:+no}${EMPTY+e}", "yese"),
            ("$$SET $${SET}", "$SET ${SET}"),
            ("${SET:?gone}", "value"),
        ] {
            assert_eq!(filled(text).as_deref(), Ok(result), "{text}");
        }
    }

    #[test]
    fn what_is_missing_or_wrong_is_told_with_its_place() {
        let error = interpolate(json!({"a": [{"b": "${NOT:?say it}"}]}), "", &env).unwrap_err();
        assert_eq!(
            error,
            "a.0.b: required variable NOT is missing a value: say it"
        );
        for text in ["$", "${", "${}", "${SET", "$1", "${SET!x}", "${SET:}"] {
            assert!(filled(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[${}A-Z:?+ü-]{0,20}") {
            let _ = filled(&text);
        }

        #[test]
        fn a_text_of_doubled_dollars_is_itself(text in "[a-z$]{0,12}") {
            prop_assert_eq!(filled(&text.replace('$', "$$")), Ok(text));
        }
    }
}
