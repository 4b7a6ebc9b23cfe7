//! Templates in a task's spec: `{{.Service.Name}}-{{.Task.Slot}}`.
//!
//! The part of Go's templates that Docker's documentation shows: fields, texts, `join` and `index`, and pipes between
//! them. The agent expands what a container is made with; the API expands the same with made-up values when a service
//! is created, so that a wrong template is refused before any task exists. What is missing is an error, never empty.

use std::collections::BTreeMap;

use crate::model::dependency::Payload;

/// What a template may name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TemplateContext {
    /// `.Service.ID`.
    pub service_id: String,
    /// `.Service.Name`.
    pub service_name: String,
    /// `.Service.Labels.x`, or `index .Service.Labels "x"`.
    pub service_labels: BTreeMap<String, String>,
    /// `.Node.ID`.
    pub node_id: String,
    /// `.Node.Hostname`.
    pub node_hostname: String,
    /// `.Node.Platform.Architecture`.
    pub architecture: String,
    /// `.Node.Platform.OS`.
    pub os: String,
    /// `.Task.ID`.
    pub task_id: String,
    /// `.Task.Name`.
    pub task_name: String,
    /// `.Task.Slot`: a number, or the node of a global service.
    pub task_slot: String,
    /// What the template of a secret or config may name beside that.
    pub inside: Option<Inside>,
}

/// What a container has: for templates inside of its secrets and configs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inside {
    /// `secret "target"`.
    pub secrets: BTreeMap<String, Payload>,
    /// `config "target"`.
    pub configs: BTreeMap<String, Payload>,
    /// `env "NAME"`.
    pub env: BTreeMap<String, String>,
}

impl Inside {
    /// The text of one of them; `None` when `kind` is none of the functions.
    fn text(&self, kind: &str, name: &str) -> Option<Result<String, TemplateError>> {
        let missing = || TemplateError::Target(kind.into(), name.into());
        let from = |all: &BTreeMap<String, Payload>| {
            let bytes = all.get(name).map(|it| it.bytes().to_vec());
            let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
            text.ok_or_else(missing)
        };
        Some(match kind {
            "secret" => from(&self.secrets),
            "config" => from(&self.configs),
            "env" => self.env.get(name).cloned().ok_or_else(missing),
            _ => return None,
        })
    }
}

/// Why a template cannot be expanded; words as Go's where it has any.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// `{{` without an end.
    #[error("template: expansion:1: unclosed action")]
    Unclosed,
    /// A text without an end.
    #[error("template: expansion:1: unterminated quoted string")]
    Quote,
    /// Nothing between the braces, or between two pipes.
    #[error("template: expansion:1: missing value for command")]
    Empty,
    /// Not a function that there is.
    #[error("template: expansion:1: function {0:?} not defined")]
    Function(String),
    /// Not a field that there is.
    #[error("template: expansion:1: executing \"expansion\" at <{0}>: can't evaluate field")]
    Field(String),
    /// A label that the service does not have.
    #[error("template: expansion:1: executing \"expansion\": map has no entry for key {0:?}")]
    Key(String),
    /// Nothing of that name is in the container, or it is no text.
    #[error("template: expansion:1: executing \"expansion\": {0} target {1} not found")]
    Target(String, String),
    /// Not what stands there.
    #[error(
        "template: expansion:1: executing \"expansion\" at <{0}>: wrong number or type of arguments"
    )]
    Arguments(String),
}

enum Value<'a> {
    Text(String),
    Labels(&'a BTreeMap<String, String>),
}

/// Expands every action in `text`.
pub fn expand(text: &str, context: &TemplateContext) -> Result<String, TemplateError> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(begin) = rest.find("{{") {
        let (before, action) = (&rest[..begin], &rest[begin + 2..]);
        let end = end_of(action)?;
        let (mut inner, mut after) = (&action[..end], &action[end + 2..]);
        let mut before = before;
        if let Some(trimmed) = inner.strip_prefix("- ") {
            (inner, before) = (trimmed, before.trim_end());
        }
        if let Some(trimmed) = inner.strip_suffix(" -") {
            (inner, after) = (trimmed, after.trim_start());
        }
        out.push_str(before);
        if !inner.starts_with("/*") {
            out.push_str(&action_text(inner, context)?);
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// Where the action ends, texts aside.
fn end_of(action: &str) -> Result<usize, TemplateError> {
    let mut quote = None;
    let mut escaped = false;
    for (at, byte) in action.bytes().enumerate() {
        match (quote, byte) {
            (Some(_), _) if escaped => escaped = false,
            (Some(b'"'), b'\\') => escaped = true,
            (Some(open), byte) if open == byte => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'`') => quote = Some(byte),
            (None, b'}') if action[at..].starts_with("}}") => return Ok(at),
            (None, _) => {}
        }
    }
    Err(match quote {
        Some(_) => TemplateError::Quote,
        None => TemplateError::Unclosed,
    })
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Pipe,
}

fn tokens(inner: &str) -> Result<Vec<Token>, TemplateError> {
    let mut found = Vec::new();
    let mut chars = inner.chars().peekable();
    while let Some(first) = chars.next() {
        match first {
            '|' => found.push(Token::Pipe),
            '"' | '`' => {
                let mut text = String::new();
                loop {
                    match chars.next().ok_or(TemplateError::Quote)? {
                        end if end == first => break,
                        '\\' if first == '"' => match chars.next().ok_or(TemplateError::Quote)? {
                            'n' => text.push('\n'),
                            't' => text.push('\t'),
                            other => text.push(other),
                        },
                        other => text.push(other),
                    }
                }
                found.push(Token::Text(text));
            }
            space if space.is_whitespace() => {}
            other => {
                let mut word = String::from(other);
                while let Some(next) =
                    chars.next_if(|c| !c.is_whitespace() && !matches!(c, '|' | '"' | '`'))
                {
                    word.push(next);
                }
                found.push(Token::Word(word));
            }
        }
    }
    Ok(found)
}

fn action_text(inner: &str, context: &TemplateContext) -> Result<String, TemplateError> {
    let tokens = tokens(inner)?;
    let mut piped: Option<Value<'_>> = None;
    for command in tokens.split(|token| *token == Token::Pipe) {
        piped = Some(run(command, piped, context)?);
    }
    match piped {
        Some(Value::Text(text)) => Ok(text),
        Some(Value::Labels(_)) => Err(TemplateError::Arguments(inner.trim().into())),
        None => Err(TemplateError::Empty),
    }
}

fn run<'a>(
    command: &[Token],
    piped: Option<Value<'a>>,
    context: &'a TemplateContext,
) -> Result<Value<'a>, TemplateError> {
    let (first, rest) = command.split_first().ok_or(TemplateError::Empty)?;
    let function = match first {
        Token::Word(word) if !word.starts_with('.') => word.as_str(),
        Token::Word(word) if rest.is_empty() && piped.is_none() => return field(word, context),
        Token::Text(text) if rest.is_empty() && piped.is_none() => {
            return Ok(Value::Text(text.clone()));
        }
        Token::Word(word) | Token::Text(word) => {
            return Err(TemplateError::Arguments(word.clone()));
        }
        Token::Pipe => return Err(TemplateError::Empty),
    };
    let mut arguments = Vec::new();
    for token in rest {
        arguments.push(match token {
            Token::Text(text) => Value::Text(text.clone()),
            Token::Word(word) => field(word, context)?,
            Token::Pipe => return Err(TemplateError::Empty),
        });
    }
    arguments.extend(piped);
    let wrong = || TemplateError::Arguments(function.into());
    match function {
        "join" => {
            let texts: Option<Vec<String>> = arguments
                .into_iter()
                .map(|value| match value {
                    Value::Text(text) => Some(text),
                    Value::Labels(_) => None,
                })
                .collect();
            let texts = texts.ok_or_else(wrong)?;
            let (between, parts) = texts.split_first().ok_or_else(wrong)?;
            Ok(Value::Text(parts.join(between)))
        }
        "index" => match &arguments[..] {
            [Value::Labels(labels), Value::Text(key)] => labels
                .get(key)
                .map(|value| Value::Text(value.clone()))
                .ok_or_else(|| TemplateError::Key(key.clone())),
            _ => Err(wrong()),
        },
        other => {
            let unknown = || TemplateError::Function(other.into());
            let inside = context.inside.as_ref().ok_or_else(unknown)?;
            match &arguments[..] {
                [Value::Text(name)] => {
                    let text = inside.text(other, name).ok_or_else(unknown)?;
                    Ok(Value::Text(text?))
                }
                _ => Err(inside.text(other, "").map_or_else(unknown, |_| wrong())),
            }
        }
    }
}

fn field<'a>(path: &str, context: &'a TemplateContext) -> Result<Value<'a>, TemplateError> {
    if let Some(key) = path.strip_prefix(".Service.Labels.") {
        let value = context.service_labels.get(key);
        return value
            .map(|value| Value::Text(value.clone()))
            .ok_or_else(|| TemplateError::Key(key.into()));
    }
    let text = match path {
        ".Service.Labels" => return Ok(Value::Labels(&context.service_labels)),
        ".Service.ID" => &context.service_id,
        ".Service.Name" => &context.service_name,
        ".Node.ID" => &context.node_id,
        ".Node.Hostname" => &context.node_hostname,
        ".Node.Platform.Architecture" => &context.architecture,
        ".Node.Platform.OS" => &context.os,
        ".Task.ID" => &context.task_id,
        ".Task.Name" => &context.task_name,
        ".Task.Slot" => &context.task_slot,
        other if other.starts_with('.') => return Err(TemplateError::Field(other.into())),
        other => return Err(TemplateError::Function(other.into())),
    };
    Ok(Value::Text(text.clone()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn context() -> TemplateContext {
        TemplateContext {
            service_name: "web".into(),
            service_labels: BTreeMap::from([("com.x".into(), "y".into())]),
            node_hostname: "host".into(),
            task_slot: "3".into(),
            ..TemplateContext::default()
        }
    }

    #[test]
    fn what_dockers_manual_shows_is_expanded() {
        for (text, expected) in [
            ("", ""),
            ("plain }} text", "plain }} text"),
            ("{{.Service.Name}}-{{ .Task.Slot }}", "web-3"),
            ("{{.Node.Hostname}}", "host"),
            ("{{.Service.Labels.com.x}}", "y"),
            (r#"{{index .Service.Labels "com.x"}}"#, "y"),
            (r#"{{join "-" .Service.Name "a" .Task.Slot}}"#, "web-a-3"),
            (r#"{{.Task.Slot | join "}}" .Service.Name}}"#, "web}}3"),
            ("a {{- .Task.Slot -}} b", "a3b"),
            ("{{/* nothing */}}x", "x"),
            ("{{`a\"b`}}", "a\"b"),
        ] {
            assert_eq!(expand(text, &context()).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, expected) in [
            ("{{.Service.Name", TemplateError::Unclosed),
            ("{{\"a}}", TemplateError::Quote),
            ("{{}}", TemplateError::Empty),
            ("{{.Service.Name |}}", TemplateError::Empty),
            ("{{.Foo}}", TemplateError::Field(".Foo".into())),
            ("{{secret \"x\"}}", TemplateError::Function("secret".into())),
            ("{{.Service.Labels.no}}", TemplateError::Key("no".into())),
            ("{{join}}", TemplateError::Arguments("join".into())),
            (
                "{{.Service.Labels}}",
                TemplateError::Arguments(".Service.Labels".into()),
            ),
            (
                "{{.Task.ID .Task.Slot}}",
                TemplateError::Arguments(".Task.ID".into()),
            ),
        ] {
            assert_eq!(expand(text, &context()), Err(expected), "{text}");
        }
    }

    #[test]
    fn inside_of_a_container_more_is_known() {
        let text = |text: &str| Payload::new(text.into());
        let inside = Inside {
            secrets: BTreeMap::from([("key".into(), text("hunter2"))]),
            configs: BTreeMap::from([("/etc/x".into(), text("y"))]),
            env: BTreeMap::from([("A".into(), "b".into())]),
        };
        let context = TemplateContext {
            inside: Some(inside),
            ..context()
        };
        assert!(!format!("{context:?}").contains("hunter2"));
        let whole = r#"{{secret "key"}} {{config "/etc/x"}} {{env "A"}} {{.Service.Name}}"#;
        assert_eq!(expand(whole, &context).unwrap(), "hunter2 y b web");
        for (text, words) in [
            (r#"{{secret "no"}}"#, "secret target no not found"),
            (r#"{{env "B"}}"#, "env target B not found"),
            ("{{secret}}", "wrong number or type"),
            (r#"{{printf "x"}}"#, "function \"printf\" not defined"),
        ] {
            let said = expand(text, &context).unwrap_err().to_string();
            assert!(said.contains(words), "{text}: {said}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(\\{\\{|\\}\\}|[ -~é]|\\.Task|\"|`|\\||- | -){0,20}") {
            let _ = expand(&text, &context());
        }
    }
}
