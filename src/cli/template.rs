//! The part of Go's templates that `--format` understands.
//!
//! Fields (`{{.Field.Inner}}`), `if`, `else`, `with`, `range`, `end`, pipes, and the functions that docker has for
//! formats: `json`, `index`, `len`, `join`, `split`, `upper`, `lower`, `title`, `truncate`, `pad`, `println`, `print`,
//! `eq`, `ne`, `and`, `or`, `not`. `\t` and `\n` are a tab and a new line. Everything else is an error that says so. Pure.

mod parse;

use serde_json::Value;

use super::rows::Column;
use parse::{Part, Pipe, Word};

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
    /// A function with what it cannot be used on.
    #[error("{{{{{0}}}}} cannot be used like that")]
    Misused(String),
}

/// A parsed template.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Template(Vec<Part>);

impl Eq for Template {}

impl Template {
    /// Reads a template.
    pub(super) fn parse(text: &str) -> Result<Self, TemplateError> {
        parse::template(text).map(Self)
    }

    /// The template filled in from an object.
    pub(super) fn render(&self, object: &Value) -> Result<String, TemplateError> {
        let mut out = String::new();
        render(&self.0, object, object, &mut out)?;
        Ok(out)
    }

    /// The template with field names as headers in place of values: `ManagerStatus` is `MANAGER STATUS`.
    /// `known` tells those that are called otherwise.
    pub(super) fn headers(&self, known: &[Column]) -> String {
        let mut out = String::new();
        headers(&self.0, known, &mut out);
        out
    }
}

fn headers(parts: &[Part], known: &[Column], out: &mut String) {
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Show(pipe) => {
                let field = field_of(pipe).unwrap_or_default();
                match known.iter().find(|(_, name)| *name == field) {
                    Some((header, _)) => out.push_str(header),
                    None => out.push_str(&header(&field)),
                }
            }
            Part::If(_, then, _) | Part::With(_, then, _) | Part::Range(_, then, _) => {
                headers(then, known, out);
            }
        }
    }
}

/// The last name of the first field that a pipe names.
fn field_of(pipe: &Pipe) -> Option<String> {
    pipe.iter().flatten().find_map(|word| match word {
        Word::Field(path) | Word::Root(path) => path.last().cloned(),
        Word::Group(pipe) => field_of(pipe),
        Word::Value(_) | Word::Function(_) => None,
    })
}

fn render(
    parts: &[Part],
    dot: &Value,
    root: &Value,
    out: &mut String,
) -> Result<(), TemplateError> {
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Show(pipe) => out.push_str(&plain(&run(pipe, dot, root)?)),
            Part::If(pipe, then, otherwise) => {
                let branch = if is_true(&run(pipe, dot, root)?) {
                    then
                } else {
                    otherwise
                };
                render(branch, dot, root, out)?;
            }
            Part::With(pipe, then, otherwise) => {
                let value = run(pipe, dot, root)?;
                match is_true(&value) {
                    true => render(then, &value, root, out)?,
                    false => render(otherwise, dot, root, out)?,
                }
            }
            Part::Range(pipe, each, otherwise) => {
                let values = match run(pipe, dot, root)? {
                    Value::Array(list) => list,
                    Value::Object(map) => map.into_iter().map(|(_, value)| value).collect(),
                    Value::Null => Vec::new(),
                    _ => return Err(TemplateError::Misused("range".into())),
                };
                if values.is_empty() {
                    render(otherwise, dot, root, out)?;
                }
                for value in &values {
                    render(each, value, root, out)?;
                }
            }
        }
    }
    Ok(())
}

/// A value as it is written.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// What a pipe comes to: each call's result is the last word of the next.
fn run(pipe: &Pipe, dot: &Value, root: &Value) -> Result<Value, TemplateError> {
    let mut last = None;
    for call in pipe {
        let Some((first, rest)) = call.split_first() else {
            return Err(TemplateError::Action(String::new()));
        };
        let mut words = Vec::new();
        for word in rest {
            words.push(value(word, dot, root)?);
        }
        last = Some(match first {
            Word::Function(name) => {
                words.extend(last);
                function(name, words)?
            }
            word if words.is_empty() && last.is_none() => value(word, dot, root)?,
            _ => return Err(TemplateError::Misused("a value".into())),
        });
    }
    Ok(last.unwrap_or_default())
}

fn value(word: &Word, dot: &Value, root: &Value) -> Result<Value, TemplateError> {
    match word {
        Word::Field(path) => find(dot, path).cloned(),
        Word::Root(path) => find(root, path).cloned(),
        Word::Value(value) => Ok(value.clone()),
        Word::Group(pipe) => run(pipe, dot, root),
        Word::Function(name) => function(name, Vec::new()),
    }
}

fn function(name: &str, words: Vec<Value>) -> Result<Value, TemplateError> {
    let misused = || TemplateError::Misused(name.to_owned());
    let text = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(misused);
    let count = |value: &Value| {
        let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
        count.ok_or_else(misused)
    };
    Ok(match (name, words.as_slice()) {
        ("json", [value]) => value.to_string().into(),
        ("len", [Value::String(text)]) => text.len().into(),
        ("len", [Value::Array(list)]) => list.len().into(),
        ("len", [Value::Object(map)]) => map.len().into(),
        ("len", [Value::Null]) => 0.into(),
        ("upper", [one]) => text(one)?.to_uppercase().into(),
        ("lower", [one]) => text(one)?.to_lowercase().into(),
        ("title", [one]) => super::human::capital(&text(one)?).into(),
        ("split", [one, by]) => {
            let (one, by) = (text(one)?, text(by)?);
            one.split(by.as_str())
                .map(Value::from)
                .collect::<Vec<_>>()
                .into()
        }
        ("join", [Value::Array(list), by]) => {
            let list: Vec<String> = list.iter().map(plain).collect();
            list.join(&text(by)?).into()
        }
        ("join", [Value::Null, _]) => "".into(),
        ("truncate", [one, width]) => text(one)?
            .chars()
            .take(count(width)?)
            .collect::<String>()
            .into(),
        ("pad", [one, before, after]) => match text(one)? {
            empty if empty.is_empty() => "".into(),
            one => format!(
                "{}{one}{}",
                " ".repeat(count(before)?.min(256)),
                " ".repeat(count(after)?.min(256))
            )
            .into(),
        },
        ("print", all) => all.iter().map(plain).collect::<String>().into(),
        ("println", all) => {
            let all: Vec<String> = all.iter().map(plain).collect();
            format!("{}\n", all.join(" ")).into()
        }
        ("eq", [one, others @ ..]) if !others.is_empty() => others.contains(one).into(),
        ("ne", [one, other]) => (one != other).into(),
        ("not", [one]) => (!is_true(one)).into(),
        ("and", [.., last]) => words
            .iter()
            .find(|one| !is_true(one))
            .unwrap_or(last)
            .clone(),
        ("or", [.., last]) => words
            .iter()
            .find(|one| is_true(one))
            .unwrap_or(last)
            .clone(),
        ("index", [value, path @ ..]) => index(value, path).ok_or_else(misused)?,
        _ => return Err(misused()),
    })
}

/// What is not in a mapping is nothing; what is not in a list is an error.
fn index(value: &Value, path: &[Value]) -> Option<Value> {
    let mut at = value.clone();
    for step in path {
        at = match (&at, step) {
            (Value::Object(map), Value::String(key)) => map.get(key).cloned().unwrap_or_default(),
            (Value::Array(list), step) => {
                let place = usize::try_from(step.as_u64()?).ok()?;
                list.get(place)?.clone()
            }
            (Value::Null, _) => Value::Null,
            _ => return None,
        };
    }
    Some(at)
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
        let node = json!({
            "ID": "abc", "Self": true, "Spec": {"Role": "manager", "Labels": {}}, "Version": 7, "No": null,
            "Ports": [{"To": 80}, {"To": 81}], "Map": {"a.b": "c"}, "Words": ["x", "y"],
        });
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
    fn functions_and_loops_are_carried_out() {
        for (template, text) in [
            ("{{range .Ports}}{{.To}},{{end}}", "80,81,"),
            ("{{range .No}}x{{else}}none{{end}}", "none"),
            ("{{with .Spec}}{{.Role}}{{end}}", "manager"),
            ("{{with .Spec}}{{$.ID}}{{end}}", "abc"),
            ("{{index .Map \"a.b\"}}{{index .Map \"no\"}}", "c"),
            ("{{(index .Ports 1).To}}", "81"),
            ("{{len .Ports}}", "2"),
            ("{{join .Words \"-\"}}", "x-y"),
            ("{{.ID | upper | printf}}", ""),
            ("{{.ID | upper | lower}}", "abc"),
            ("{{title .Spec.Role}}", "Manager"),
            ("{{truncate .ID 2}}", "ab"),
            ("{{if eq .ID \"abc\"}}yes{{end}}", "yes"),
            ("{{if and .Self (not .No)}}yes{{end}}", "yes"),
            ("{{if ne .Version 7}}no{{else if .Self}}else{{end}}", "else"),
            ("a {{- .ID -}} b", "aabcb"),
            ("{{/* nothing */}}x", "x"),
            ("{{println .ID `q`}}", "abc q\n"),
        ] {
            let found = filled(template);
            match text {
                "" => assert!(found.is_err(), "{template}"),
                text => assert_eq!(found.as_deref(), Ok(text), "{template}"),
            }
        }
    }

    #[test]
    fn what_is_not_understood_is_an_error_that_says_what_is() {
        for (template, words) in [
            ("{{.ID", "without its }}"),
            ("{{range .}}", "do not match"),
            ("{{ID}}", "{{ID}} is not understood: use {{.Field}}"),
            ("{{if .ID}}", "do not match"),
            ("{{end}}", "do not match"),
            ("{{$x := .ID}}", "is not understood"),
            ("{{upper .Version}}", "{{upper}} cannot be used like that"),
            ("{{range .ID}}{{end}}", "{{range}} cannot be used like that"),
            (
                "{{.Nmae}}",
                "there is no field .Nmae; there are .ID, .Map, .No",
            ),
        ] {
            let error = filled(template).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn headers_are_words() {
        let template = Template::parse("{{.ID}} {{.ManagerStatus}}\t{{upper .TLSStatus}}").unwrap();
        assert_eq!(template.headers(&[]), "ID MANAGER STATUS\tTLS STATUS");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[{}a-z. \\\\()|\"$-]{0,40}") {
            let _ = filled(&text);
        }
    }
}
