//! YAML into JSON values and back, as docker's client reads and writes it. Pure.
//!
//! Anchors, aliases and merge keys are carried out. `yes` and `no` are words, `0444` is octal, `22:22` is text. What
//! an alias repeats is bounded, so that a small file stays a small value.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};
use serde_json::{Map, Number, Value};

/// Most values of a document, repeated ones counted each time.
const VALUES: usize = 100_000;

/// Deepest nesting.
const DEPTH: usize = 64;

/// Why a text is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub(super) struct YamlError {
    line: usize,
    what: String,
}

/// Reads one document; nothing at all is null.
pub(super) fn read(text: &str) -> Result<Value, YamlError> {
    let mut reader = Reader {
        events: Parser::new_from_str(text),
        anchors: BTreeMap::new(),
        values: 0,
        line: 1,
    };
    let mut found = None;
    while let Some(event) = reader.next()? {
        match event {
            Event::DocumentStart(_) if found.is_some() => {
                return Err(reader.error("a second document begins: give it as a file of its own"));
            }
            Event::DocumentStart(_) => {
                let event = reader.expect()?;
                found = Some(reader.value(event, 0)?);
            }
            _ => {}
        }
    }
    Ok(found.unwrap_or_default())
}

struct Reader<I> {
    events: I,
    anchors: BTreeMap<usize, (Value, usize)>,
    values: usize,
    line: usize,
}

impl<'a, I: Iterator<Item = Result<(Event<'a>, Span), ScanError>>> Reader<I> {
    fn error(&self, what: impl Into<String>) -> YamlError {
        YamlError {
            line: self.line,
            what: what.into(),
        }
    }

    fn next(&mut self) -> Result<Option<Event<'a>>, YamlError> {
        match self.events.next() {
            None => Ok(None),
            Some(Ok((event, span))) => {
                self.line = span.start.line();
                Ok(Some(event))
            }
            Some(Err(error)) => Err(YamlError {
                line: error.marker().line(),
                what: error.info().to_owned(),
            }),
        }
    }

    fn expect(&mut self) -> Result<Event<'a>, YamlError> {
        let event = self.next()?;
        event.ok_or_else(|| self.error("the text ends too early"))
    }

    fn count(&mut self, values: usize) -> Result<(), YamlError> {
        self.values += values;
        match self.values > VALUES {
            true => Err(self.error(format!("there are more than {VALUES} values"))),
            false => Ok(()),
        }
    }

    fn value(&mut self, event: Event<'a>, depth: usize) -> Result<Value, YamlError> {
        if depth > DEPTH {
            return Err(self.error(format!("it is nested more than {DEPTH} times")));
        }
        let before = self.values;
        self.count(1)?;
        let (anchor, value) = match event {
            Event::Alias(anchor) => {
                let Some((value, values)) = self.anchors.get(&anchor).cloned() else {
                    return Err(self.error("an alias stands for what is not there"));
                };
                self.count(values)?;
                return Ok(value);
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.check_tag(tag.as_deref())?;
                (anchor, scalar(&text, style, tag.as_deref()))
            }
            Event::SequenceStart(anchor, tag) => {
                self.check_tag(tag.as_deref())?;
                (anchor, self.sequence(depth)?)
            }
            Event::MappingStart(anchor, tag) => {
                self.check_tag(tag.as_deref())?;
                (anchor, self.mapping(depth)?)
            }
            _ => return Err(self.error("a value is missing")),
        };
        if anchor > 0 {
            let values = self.values - before;
            self.anchors.insert(anchor, (value.clone(), values));
        }
        Ok(value)
    }

    /// `!reset` and `!override` would change what several files mean together.
    fn check_tag(&self, tag: Option<&Tag>) -> Result<(), YamlError> {
        match tag {
            Some(tag) if !tag.is_yaml_core_schema() => Err(self.error(format!(
                "the tag !{} is not supported: remove it",
                tag.suffix
            ))),
            _ => Ok(()),
        }
    }

    fn sequence(&mut self, depth: usize) -> Result<Value, YamlError> {
        let mut list = Vec::new();
        loop {
            match self.expect()? {
                Event::SequenceEnd => return Ok(list.into()),
                event => list.push(self.value(event, depth + 1)?),
            }
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Value, YamlError> {
        let (mut map, mut below) = (Map::new(), Vec::new());
        loop {
            let key = match self.expect()? {
                Event::MappingEnd => break,
                event => self.value(event, depth + 1)?,
            };
            let key = match key {
                Value::String(key) => key,
                Value::Number(key) => key.to_string(),
                Value::Bool(key) => key.to_string(),
                _ => return Err(self.error("a key is no word")),
            };
            let event = self.expect()?;
            let value = self.value(event, depth + 1)?;
            if key == "<<" {
                below.push(value);
            } else if map.contains_key(&key) {
                return Err(self.error(format!("the key {key} stands here twice")));
            } else {
                map.insert(key, value);
            }
        }
        for value in below {
            self.merge_below(&mut map, value)?;
        }
        Ok(map.into())
    }

    /// What `<<` brings counts where the mapping itself says nothing.
    fn merge_below(&self, map: &mut Map<String, Value>, below: Value) -> Result<(), YamlError> {
        match below {
            Value::Object(below) => {
                for (key, value) in below {
                    map.entry(key).or_insert(value);
                }
                Ok(())
            }
            Value::Array(list) => list
                .into_iter()
                .try_for_each(|one| self.merge_below(map, one)),
            Value::Null => Ok(()),
            _ => Err(self.error("<< needs a mapping")),
        }
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Value {
    let is_text = tag.is_some_and(|tag| tag.suffix == "str");
    if style != ScalarStyle::Plain || is_text {
        return text.into();
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => true.into(),
        "false" | "False" | "FALSE" => false.into(),
        text => integer(text)
            .or_else(|| float(text))
            .unwrap_or_else(|| text.into()),
    }
}

fn integer(text: &str) -> Option<Value> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let (radix, digits) = match digits.get(..2) {
        Some("0x") => (16, &digits[2..]),
        Some("0o") => (8, &digits[2..]),
        Some("0b") => (2, &digits[2..]),
        Some(two) if two.starts_with('0') && digits.bytes().all(|b| (b'0'..b'8').contains(&b)) => {
            (8, &digits[1..])
        }
        _ => (10, digits),
    };
    let number = i64::from_str_radix(&digits.replace('_', ""), radix).ok()?;
    Some((sign * number).into())
}

fn float(text: &str) -> Option<Value> {
    let number = text.trim_start_matches(['-', '+']);
    let plausible = number.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && number
            .chars()
            .all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '-' | '+'));
    let parsed: f64 = text.parse().ok().filter(|_| plausible)?;
    Number::from_f64(parsed).map(Value::Number)
}

/// A value as a document, its keys in order.
pub(super) fn write(value: &Value) -> String {
    let mut out = String::new();
    block(value, 0, &mut out);
    out
}

fn block(value: &Value, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                out.push_str(&format!("{indent}{}:", plain(key)));
                inner(value, depth, out);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            for value in list {
                out.push_str(&format!("{indent}-"));
                match value {
                    Value::Object(map) if !map.is_empty() => {
                        // The first key stands behind the dash.
                        let mut lines = String::new();
                        block(value, depth + 1, &mut lines);
                        out.push(' ');
                        out.push_str(lines.trim_start_matches(' '));
                    }
                    value => inner(value, depth, out),
                }
            }
        }
        value => out.push_str(&format!("{indent}{}\n", word(value))),
    }
}

fn inner(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            block(value, depth + 1, out);
        }
        Value::Array(list) if !list.is_empty() => {
            out.push('\n');
            block(value, depth + 1, out);
        }
        value => out.push_str(&format!(" {}\n", word(value))),
    }
}

fn word(value: &Value) -> String {
    match value {
        Value::String(text) => plain(text),
        Value::Object(_) => "{}".into(),
        Value::Array(_) => "[]".into(),
        value => value.to_string(),
    }
}

/// A text without quotes where it is read back as itself.
fn plain(text: &str) -> String {
    let harmless =
        |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ' ' | '=' | '+');
    let begins = text.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '/' | '.'));
    let itself = scalar(text, ScalarStyle::Plain, None) == Value::String(text.to_owned());
    match begins && itself && text.chars().all(harmless) && !text.ends_with(' ') {
        true => text.to_owned(),
        false => Value::from(text).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn scalars_are_what_docker_takes_them_for() {
        for (text, value) in [
            ("no", json!("no")),
            ("yes", json!("yes")),
            ("true", json!(true)),
            ("~", json!(null)),
            ("0444", json!(0o444)),
            ("0o17", json!(15)),
            ("0x1f", json!(31)),
            ("3.8", json!(3.8)),
            ("22:22", json!("22:22")),
            ("1.2.3", json!("1.2.3")),
            ("\"3\"", json!("3")),
            ("!!str 3", json!("3")),
            ("-5", json!(-5)),
            ("1m30s", json!("1m30s")),
            ("0.0.0.0", json!("0.0.0.0")),
            (">\n  a\n  b\n", json!("a b\n")),
            ("", json!(null)),
        ] {
            assert_eq!(read(text).as_ref(), Ok(&value), "{text}");
        }
    }

    #[test]
    fn anchors_and_merge_keys_are_carried_out() {
        let text =
            "x-base: &base {a: 1, b: 2}\none:\n  <<: *base\n  b: 3\ntwo:\n  <<: [*base, {c: 4}]\n";
        assert_eq!(
            read(text),
            Ok(json!({
                "x-base": {"a": 1, "b": 2}, "one": {"a": 1, "b": 3}, "two": {"a": 1, "b": 2, "c": 4},
            }))
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, words) in [
            ("a: 1\nb: [", "line"),
            ("a: 1\na: 2", "line 2: the key a stands here twice"),
            ("a: *x", "line 1"),
            ("a: !reset 1", "the tag !reset is not supported"),
            ("a: 1\n---\nb: 2", "a second document begins"),
            ("? [a]\n: b", "a key is no word"),
            ("<<: 3", "<< needs a mapping"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn a_small_file_stays_a_small_value() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for at in 1..12 {
            let before = format!("*a{}", at - 1);
            text.push_str(&format!(
                "a{at}: &a{at} [{}]\n",
                [before.as_str(); 10].join(", ")
            ));
        }
        let error = read(&text).unwrap_err().to_string();
        assert!(error.contains("more than 100000 values"), "{error}");
        let deep = "[".repeat(200);
        assert!(read(&deep).is_err());
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[ -~äé\n]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[ -~]{1,6}", inner, 0..4)
                    .prop_filter("<< is a merge key", |map| !map.contains_key("<<"))
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in values()) {
            let text = write(&value);
            prop_assert_eq!(read(&text), Ok(value), "{}", text);
        }

        #[test]
        fn no_text_panics(text in "[ -~\n]{0,60}") {
            let _ = read(&text);
        }
    }
}
