//! Reads templates. Pure.

use serde_json::Value;

use super::TemplateError;

/// Deepest nesting of blocks and of parentheses.
const DEPTH: usize = 32;

/// The functions that there are.
const FUNCTIONS: [&str; 17] = [
    "and", "eq", "index", "join", "json", "len", "lower", "ne", "not", "or", "pad", "print",
    "println", "split", "title", "truncate", "upper",
];

/// A piece of a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    Text(String),
    Show(Pipe),
    If(Pipe, Vec<Self>, Vec<Self>),
    With(Pipe, Vec<Self>, Vec<Self>),
    Range(Pipe, Vec<Self>, Vec<Self>),
}

/// Calls, each of which takes what the one before gives.
pub(super) type Pipe = Vec<Vec<Word>>;

/// A word of a call.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Word {
    /// `.A.B`.
    Field(Vec<String>),
    /// `$.A.B`.
    Root(Vec<String>),
    /// A text, a number, true or false.
    Value(Value),
    /// A function's name.
    Function(String),
    /// What stands in parentheses.
    Group(Pipe),
}

enum Token {
    Text(String),
    Action(String),
}

/// How a run of parts ended; an `else if` has its own words.
enum Stop {
    Template,
    Else(String),
    End,
}

/// Reads a whole template.
pub(super) fn template(text: &str) -> Result<Vec<Part>, TemplateError> {
    let text = text.replace("\\t", "\t").replace("\\n", "\n");
    let mut tokens = tokens(&text)?.into_iter();
    match parts(&mut tokens, 0)? {
        (parts, Stop::Template) => Ok(parts),
        (_, Stop::Else(_) | Stop::End) => Err(TemplateError::Unbalanced),
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, TemplateError> {
    let mut tokens = Vec::new();
    let mut rest = text;
    let mut trims = false;
    while let Some((before, after)) = rest.split_once("{{") {
        let end = closing(after).ok_or(TemplateError::Open)?;
        let mut action = &after[..end];
        let mut before = if trims { before.trim_start() } else { before };
        if let Some(inner) = action.strip_prefix("- ") {
            action = inner;
            before = before.trim_end();
        }
        trims = action.ends_with(" -");
        let action = action.strip_suffix(" -").unwrap_or(action).trim();
        tokens.push(Token::Text(before.to_owned()));
        if !(action.starts_with("/*") && action.ends_with("*/")) {
            tokens.push(Token::Action(action.to_owned()));
        }
        rest = &after[end + 2..];
    }
    let rest = if trims { rest.trim_start() } else { rest };
    tokens.push(Token::Text(rest.to_owned()));
    Ok(tokens)
}

/// Where the braces close that are open, quotes passed over.
fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some('"'), '\\') if !escaped => {
                escaped = true;
                continue;
            }
            (Some(open), c) if open == c && !escaped => quote = None,
            (None, '"' | '`') => quote = Some(c),
            (None, '}') if text[at..].starts_with("}}") => return Some(at),
            _ => {}
        }
        escaped = false;
    }
    None
}

fn parts(
    tokens: &mut std::vec::IntoIter<Token>,
    depth: usize,
) -> Result<(Vec<Part>, Stop), TemplateError> {
    if depth > DEPTH {
        return Err(TemplateError::Unbalanced);
    }
    let mut found = Vec::new();
    while let Some(token) = tokens.next() {
        let action = match token {
            Token::Text(text) => {
                if !text.is_empty() {
                    found.push(Part::Text(text));
                }
                continue;
            }
            Token::Action(action) => action,
        };
        let (first, rest) = action
            .split_once(char::is_whitespace)
            .unwrap_or((&action, ""));
        match first {
            "end" if rest.is_empty() => return Ok((found, Stop::End)),
            "else" => return Ok((found, Stop::Else(rest.trim().to_owned()))),
            "if" | "with" | "range" => found.push(block(first, rest, tokens, depth)?),
            _ => found.push(Part::Show(pipe(&action)?)),
        }
    }
    Ok((found, Stop::Template))
}

fn block(
    kind: &str,
    condition: &str,
    tokens: &mut std::vec::IntoIter<Token>,
    depth: usize,
) -> Result<Part, TemplateError> {
    let condition = pipe(condition)?;
    let (then, stop) = parts(tokens, depth + 1)?;
    let otherwise = match stop {
        Stop::End => Vec::new(),
        Stop::Template => return Err(TemplateError::Unbalanced),
        Stop::Else(more) if more.is_empty() => match parts(tokens, depth + 1)? {
            (otherwise, Stop::End) => otherwise,
            (_, Stop::Else(_) | Stop::Template) => return Err(TemplateError::Unbalanced),
        },
        Stop::Else(more) => match more.split_once(char::is_whitespace) {
            Some(("if", condition)) => vec![block("if", condition, tokens, depth + 1)?],
            _ => return Err(TemplateError::Action(format!("else {more}"))),
        },
    };
    Ok(match kind {
        "if" => Part::If(condition, then, otherwise),
        "with" => Part::With(condition, then, otherwise),
        _ => Part::Range(condition, then, otherwise),
    })
}

/// Reads what stands in the braces.
fn pipe(action: &str) -> Result<Pipe, TemplateError> {
    let unknown = || TemplateError::Action(action.to_owned());
    let words = split(action).ok_or_else(unknown)?;
    let mut words = words.into_iter();
    let pipe = calls(&mut words, 0).ok_or_else(unknown)?;
    match words.next() {
        None => Ok(pipe),
        Some(_) => Err(unknown()),
    }
}

/// Calls up to the end, or to the parenthesis that closes.
fn calls(words: &mut std::vec::IntoIter<String>, depth: usize) -> Option<Pipe> {
    if depth > DEPTH {
        return None;
    }
    let mut pipe = vec![Vec::new()];
    let mut closed = depth == 0;
    while let Some(word) = words.next() {
        let call: &mut Vec<Word> = pipe.last_mut()?;
        match word.as_str() {
            "(" => call.push(Word::Group(calls(words, depth + 1)?)),
            ")" if depth > 0 => {
                closed = true;
                break;
            }
            "|" => pipe.push(Vec::new()),
            text => match (call.last_mut(), text.strip_prefix(").")) {
                // A field of what stands in parentheses.
                (Some(Word::Group(inner)), Some(field)) => {
                    let group = Word::Group(std::mem::take(inner));
                    let mut index = vec![Word::Function("index".into()), group];
                    index.extend(field.split('.').map(|name| Word::Value(name.into())));
                    call.pop();
                    call.push(Word::Group(vec![index]));
                }
                _ => call.push(word_of(text)?),
            },
        }
    }
    let whole = pipe.iter().all(|call| !call.is_empty());
    (closed && whole).then_some(pipe)
}

fn word_of(text: &str) -> Option<Word> {
    if let Some(quoted) = text.strip_prefix('"') {
        let inner = quoted.strip_suffix('"')?;
        return serde_json::from_str(&format!("\"{inner}\""))
            .ok()
            .map(Word::Value);
    }
    if let Some(quoted) = text.strip_prefix('`') {
        return Some(Word::Value(quoted.strip_suffix('`')?.into()));
    }
    if let Some(field) = text.strip_prefix('$') {
        return match field {
            "" => Some(Word::Root(Vec::new())),
            field => path(field).map(Word::Root),
        };
    }
    if text.starts_with('.') {
        return path(text).map(Word::Field);
    }
    match text {
        "true" => return Some(Word::Value(true.into())),
        "false" => return Some(Word::Value(false.into())),
        "nil" => return Some(Word::Value(Value::Null)),
        _ => {}
    }
    if let Ok(number) = text.parse::<i64>() {
        return Some(Word::Value(number.into()));
    }
    FUNCTIONS
        .contains(&text)
        .then(|| Word::Function(text.to_owned()))
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

/// The words of an action: quoted texts, parentheses, pipes, and what stands between spaces.
fn split(action: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut chars = action.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' | '`' if word.is_empty() => {
                word.push(c);
                loop {
                    let inner = chars.next()?;
                    word.push(inner);
                    match inner {
                        '\\' if c == '"' => word.push(chars.next()?),
                        inner if inner == c => break,
                        _ => {}
                    }
                }
                words.push(std::mem::take(&mut word));
            }
            ')' => {
                words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty()));
                words.push(")".into());
                if chars.peek() == Some(&'.') {
                    word.push(')');
                }
            }
            '(' | '|' => {
                words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty()));
                words.push(c.into());
            }
            c if c.is_whitespace() => {
                words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty()));
            }
            c => word.push(c),
        }
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    (!words.is_empty()).then_some(words)
}
