//! Values of several parts that flags and stack files share: ports, mounts, references. Pure.
//!
//! Each reads docker's syntax and gives docker's JSON.

pub(super) mod mounts;
pub(super) mod networks;
pub(super) mod ports;
pub(super) mod references;
pub(super) mod small;

/// The fields of `a=b,"c=d,e",f`, quoted as in a table of comma-separated values.
pub(super) fn fields(text: &str) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let mut field = String::new();
    let mut chars = text.chars().peekable();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if quoted || field.is_empty() => quoted = !quoted,
            ',' if !quoted => found.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    if quoted {
        return Err(format!("a quote is not closed in {text}"));
    }
    found.push(field);
    Ok(found)
}

/// A switch within a value: `ro`, `ro=true`, `ro=0`.
fn switch(key: &str, value: Option<&str>) -> Result<bool, String> {
    match value {
        None | Some("true" | "1" | "t" | "T" | "TRUE" | "True") => Ok(true),
        Some("false" | "0" | "f" | "F" | "FALSE" | "False") => Ok(false),
        Some(other) => Err(format!(
            "invalid value for {key}: {other} (must be true or false)"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_may_be_quoted() {
        assert_eq!(fields("a,b=c").unwrap(), ["a", "b=c"]);
        assert_eq!(
            fields(r#"type=volume,"volume-opt=o=a,b","x=""y""""#).unwrap(),
            ["type=volume", "volume-opt=o=a,b", r#"x="y""#]
        );
        assert!(fields(r#"a,"b"#).is_err());
    }
}
