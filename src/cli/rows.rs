//! What all lists share: their flags, filters, and how rows become a table, JSON or a template's lines.
//!
//! A row is a JSON object whose fields have docker's names, so that `--format` means the same for both.

use clap::Args;
use serde_json::{Map, Value, json};

use super::client::encode;
use super::format::Format;
use super::output::{say, table};
use super::swarm::text;
use super::values;

/// The flags of a list.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Listing {
    /// Only what fits, key=value; may be given several times
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = values::filter)]
    pub(super) filter: Vec<(String, String)>,
    /// table, json, a template, or `table` and a template
    #[arg(long)]
    pub(super) format: Option<String>,
    /// IDs alone
    #[arg(long, short)]
    pub(super) quiet: bool,
}

/// A column of a table: its header and the row's field.
pub(super) type Column = (&'static str, &'static str);

impl Listing {
    /// `filters=…` for a query.
    pub(super) fn query(&self) -> String {
        query(&self.filter)
    }

    /// Writes rows, or their field `id` alone when that is what was asked for.
    pub(super) fn show(&self, id: &str, columns: &[Column], rows: &[Value]) -> anyhow::Result<()> {
        if self.quiet && self.format.is_none() {
            rows.iter()
                .for_each(|row| say(text(row, &format!("/{id}"))));
            return Ok(());
        }
        show(self.format.as_deref(), columns, rows)
    }
}

/// `filters=…` for a query.
pub(super) fn query(filters: &[(String, String)]) -> String {
    let mut map = json!({});
    for (key, value) in filters {
        map[key][value] = true.into();
    }
    format!("filters={}", encode(&map.to_string()))
}

/// `filters=…` of one key.
pub(super) fn only(key: &str, value: &str) -> String {
    query(&[(key.to_owned(), value.to_owned())])
}

/// Writes rows.
pub(super) fn show(format: Option<&str>, columns: &[Column], rows: &[Value]) -> anyhow::Result<()> {
    let written = written(format, columns, rows)?;
    if !written.is_empty() {
        say(written);
    }
    Ok(())
}

fn written(format: Option<&str>, columns: &[Column], rows: &[Value]) -> anyhow::Result<String> {
    let format = Format::parse(format.unwrap_or("table"))?;
    let own = |rows: &[Value]| {
        let headers: Vec<&str> = columns.iter().map(|(header, _)| *header).collect();
        let rows: Vec<Vec<String>> = rows.iter().map(|row| cells(row, columns)).collect();
        table(&headers, &rows)
    };
    Ok(format.render(rows, columns, own)?)
}

fn cells(row: &Value, columns: &[Column]) -> Vec<String> {
    let cell = |(_, field): &Column| text(row, &format!("/{field}")).to_owned();
    columns.iter().map(cell).collect()
}

/// Labels as `a=b,c=d`.
pub(super) fn labels(value: &Value) -> String {
    let pair = |(key, value): (&String, &Value)| format!("{key}={}", value.as_str().unwrap_or(""));
    let pairs: Vec<String> = value.as_object().into_iter().flatten().map(pair).collect();
    pairs.join(",")
}

/// A row of text fields.
pub(super) fn row<const N: usize>(fields: [(&str, String); N]) -> Value {
    let pairs = fields.into_iter();
    let map: Map<String, Value> = pairs
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    Value::Object(map)
}

/// The elements of a list; none where there is no list.
pub(super) fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The number at `pointer`; zero when there is none.
pub(super) fn number(value: &Value, pointer: &str) -> i64 {
    value.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_written_as_asked() {
        let rows = [row([("ID", "a".into()), ("CreatedSince", "now".into())])];
        let columns = [("IMAGE ID", "ID"), ("CREATED", "CreatedSince")];
        let shown = |format| written(format, &columns, &rows).unwrap();
        assert_eq!(shown(None), "IMAGE ID   CREATED\na          now");
        assert_eq!(shown(Some("json")), r#"{"CreatedSince":"now","ID":"a"}"#);
        assert_eq!(
            shown(Some("table {{.CreatedSince}}")),
            "CREATED\nnow",
            "a field has the header of its column"
        );
        assert_eq!(shown(Some("{{.ID}}!")), "a!");
    }

    #[test]
    fn filters_and_labels_are_written() {
        assert_eq!(
            only("label", "a=b"),
            "filters=%7B%22label%22%3A%7B%22a%3Db%22%3Atrue%7D%7D"
        );
        assert_eq!(labels(&json!({"b": "2", "a": "1"})), "a=1,b=2");
        assert_eq!(labels(&Value::Null), "");
    }
}
