//! The part of Go's templates that `--format` understands.
//!
//! `{{.Field}}`, `{{.Field.Inner}}`, `{{json .Field}}`, `{{json .}}` and `{{if .Field}}…{{else}}…{{end}}`; `\t` and
//! `\n` are a tab and a new line. Everything else is an error that says so. Pure.

use serde_json::Value;

/// Why a template cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TemplateError {
    /// A `{{` without its `}}`.
    #[error("the template has a {{{{ without its }}}}")]
    Open,
    /// Something within the braces that is not understood.
    #[error(
        "{{{{{0}}}}} is not understood: use {{{{.Field}}}}, {{{{json .Field}}}} or \
         {{{{if .Field}}}}…{{{{else}}}}…{{{{end}}}}"
    )]
    Action(String),
    /// An `if` without its end, or an end without its `if`.
    #[error("the template's {{{{if}}}} and {{{{end}}}} do not match")]
    Unbalanced,
    /// A field that the object has not.
    #[error("there is no field .{field}; there are {}", .known.join(", "))]
    NoField {
        /// As it was asked for.
        field: String,
        /// What there is.
        known: Vec<String>,
    },
}

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(Vec<String>),
    Json(Vec<String>),
    If(Vec<String>, Vec<Self>, Vec<Self>),
}

enum Token<'a> {
    Text(&'a str),
    Action(&'a str),
}

/// How a run of parts ended.
enum Stop {
    Template,
    Else,
    Fi,
}

impl Template {
    /// Reads a template.
    pub(super) fn parse(text: &str) -> Result<Self, TemplateError> {
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        let tokens = tokens(&text)?;
        let (parts, end) = parts(&mut tokens.into_iter())?;
        match end {
            Stop::Template => Ok(Self(parts)),
            Stop::Else | Stop::Fi => Err(TemplateError::Unbalanced),
        }
    }

    /// The template filled in from an object.
    pub(super) fn render(&self, object: &Value) -> Result<String, TemplateError> {
        let mut out = String::new();
        render(&self.0, object, &mut out)?;
        Ok(out)
    }

    /// The template with field names as headers in place of values: `ManagerStatus` is `MANAGER STATUS`.
    pub(super) fn headers(&self) -> String {
        fn write(parts: &[Part], out: &mut String) {
            for part in parts {
                match part {
                    Part::Text(text) => out.push_str(text),
                    Part::Field(path) | Part::Json(path) => {
                        out.push_str(&header(path.last().map_or("", String::as_str)));
                    }
                    Part::If(_, then, _) => write(then, out),
                }
            }
        }
        let mut out = String::new();
        write(&self.0, &mut out);
        out
    }
}

fn tokens(text: &str) -> Result<Vec<Token<'_>>, TemplateError> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (action, after) = after.split_once("}}").ok_or(TemplateError::Open)?;
        tokens.push(Token::Text(before));
        tokens.push(Token::Action(action.trim()));
        rest = after;
    }
    tokens.push(Token::Text(rest));
    Ok(tokens)
}

fn parts<'a>(
    tokens: &mut impl Iterator<Item = Token<'a>>,
) -> Result<(Vec<Part>, Stop), TemplateError> {
    let mut found = Vec::new();
    while let Some(token) = tokens.next() {
        let action = match token {
            Token::Text("") => continue,
            Token::Text(text) => {
                found.push(Part::Text(text.into()));
                continue;
            }
            Token::Action(action) => action,
        };
        let words: Vec<&str> = action.split_whitespace().collect();
        let unknown = || TemplateError::Action(action.into());
        match words.as_slice() {
            ["else"] => return Ok((found, Stop::Else)),
            ["end"] => return Ok((found, Stop::Fi)),
            ["if", field] => {
                let field = path(field).ok_or_else(unknown)?;
                let (then, end) = parts(tokens)?;
                let otherwise = match end {
                    Stop::Fi => Vec::new(),
                    Stop::Template => return Err(TemplateError::Unbalanced),
                    Stop::Else => match parts(tokens)? {
                        (otherwise, Stop::Fi) => otherwise,
                        (_, Stop::Else | Stop::Template) => return Err(TemplateError::Unbalanced),
                    },
                };
                found.push(Part::If(field, then, otherwise));
            }
            ["json", field] => found.push(Part::Json(path(field).ok_or_else(unknown)?)),
            [field] => found.push(Part::Field(path(field).ok_or_else(unknown)?)),
            _ => return Err(unknown()),
        }
    }
    Ok((found, Stop::Template))
}

/// `.A.B` is `[A, B]`, `.` is empty.
fn path(text: &str) -> Option<Vec<String>> {
    let rest = text.strip_prefix('.')?;
    if rest.is_empty() {
        return Some(Vec::new());
    }
    let names: Vec<String> = rest.split('.').map(Into::into).collect();
    let plain =
        |name: &String| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    names.iter().all(plain).then_some(names)
}

fn render(parts: &[Part], object: &Value, out: &mut String) -> Result<(), TemplateError> {
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Json(path) => out.push_str(&find(object, path)?.to_string()),
            Part::Field(path) => match find(object, path)? {
                Value::String(text) => out.push_str(text),
                Value::Null => {}
                other => out.push_str(&other.to_string()),
            },
            Part::If(path, then, otherwise) => {
                let branch = match is_true(find(object, path)?) {
                    true => then,
                    false => otherwise,
                };
                render(branch, object, out)?;
            }
        }
    }
    Ok(())
}

fn find<'a>(object: &'a Value, path: &[String]) -> Result<&'a Value, TemplateError> {
    let mut at = object;
    for name in path {
        at = match at {
            Value::Object(map) => map.get(name).ok_or_else(|| TemplateError::NoField {
                field: path.join("."),
                known: map.keys().map(|key| format!(".{key}")).collect(),
            })?,
            // What is absent has no inside either.
            _ => &Value::Null,
        };
    }
    Ok(at)
}

fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

fn header(field: &str) -> String {
    let chars: Vec<char> = field.chars().collect();
    let mut out = String::new();
    for (at, c) in chars.iter().enumerate() {
        let after_lower = at > 0 && chars[at - 1].is_lowercase();
        let before_lower = at > 0 && chars.get(at + 1).is_some_and(|next| next.is_lowercase());
        if c.is_uppercase() && (after_lower || before_lower) {
            out.push(' ');
        }
        out.extend(c.to_uppercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn filled(template: &str) -> Result<String, TemplateError> {
        let node = json!({"ID": "abc", "Self": true, "Spec": {"Role": "manager", "Labels": {}}, "Version": 7, "No": null});
        Template::parse(template)?.render(&node)
    }

    #[test]
    fn fields_are_filled_in() {
        for (template, text) in [
            ("{{.ID}}", "abc"),
            ("{{ .Spec.Role }}\\t{{.Version}}", "manager\t7"),
            ("{{json .Spec}}", r#"{"Labels":{},"Role":"manager"}"#),
            ("{{if .Self}}*{{else}} {{end}}", "*"),
            (
                "{{if .Spec.Labels}}labels{{else}}{{if .ID}}none{{end}}{{end}}",
                "none",
            ),
            ("{{.No.Inside}}x", "x"),
            ("plain }} text", "plain }} text"),
        ] {
            assert_eq!(filled(template).as_deref(), Ok(text), "{template}");
        }
    }

    #[test]
    fn what_is_not_understood_is_an_error_that_says_what_is() {
        for (template, words) in [
            ("{{.ID", "without its }}"),
            ("{{range .}}{{end}}", "{{range .}} is not understood"),
            ("{{ID}}", "{{ID}} is not understood: use {{.Field}}"),
            ("{{if .ID}}", "do not match"),
            ("{{end}}", "do not match"),
            ("{{.Nmae}}", "there is no field .Nmae; there are .ID, .No"),
        ] {
            let error = filled(template).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn headers_are_words() {
        let template = Template::parse("{{.ID}} {{.ManagerStatus}}\t{{.TLSStatus}}").unwrap();
        assert_eq!(template.headers(), "ID MANAGER STATUS\tTLS STATUS");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[{}a-z. \\\\]{0,40}") {
            let _ = filled(&text);
        }
    }
}
