//! `--format`: a table, JSON, or a template for each row.

use serde_json::Value;

use super::output::table;
use super::rows::Column;
use super::template::{Template, TemplateError};

/// What `--format` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// The command's own table.
    Table,
    /// A table with these columns, `\t` between them.
    TableOf(Template),
    /// One JSON object a line.
    Json,
    /// One line a row.
    Lines(Template),
}

impl Format {
    /// Reads `table`, `table TEMPLATE`, `json` or `TEMPLATE`.
    pub(super) fn parse(text: &str) -> Result<Self, TemplateError> {
        match text.trim() {
            "" | "table" => Ok(Self::Table),
            "json" => Ok(Self::Json),
            text => match text.strip_prefix("table ") {
                Some(columns) => Template::parse(columns.trim()).map(Self::TableOf),
                None => Template::parse(text).map(Self::Lines),
            },
        }
    }

    /// The rows, written; `own` makes the command's own table, and `columns` tells the headers of its fields.
    pub(super) fn render(
        &self,
        rows: &[Value],
        columns: &[Column],
        own: impl FnOnce(&[Value]) -> String,
    ) -> Result<String, TemplateError> {
        let lines = |render: &dyn Fn(&Value) -> Result<String, TemplateError>| {
            let lines: Result<Vec<String>, _> = rows.iter().map(render).collect();
            lines.map(|lines| lines.join("\n"))
        };
        match self {
            Self::Table => Ok(own(rows)),
            Self::Json => lines(&|row| Ok(row.to_string())),
            Self::Lines(template) => lines(&|row| template.render(row)),
            Self::TableOf(template) => {
                let headers = template.headers(columns);
                let headers: Vec<&str> = headers.split('\t').collect();
                let cells: Result<Vec<Vec<String>>, _> = rows
                    .iter()
                    .map(|row| {
                        let line = template.render(row)?;
                        Ok(line.split('\t').map(Into::into).collect())
                    })
                    .collect();
                Ok(table(&headers, &cells?))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rendered(format: &str) -> String {
        let rows = [
            json!({"ID": "a", "Name": "x"}),
            json!({"ID": "b", "Name": "longer"}),
        ];
        let format = Format::parse(format).unwrap();
        format
            .render(&rows, &[], |rows| format!("{} rows", rows.len()))
            .unwrap()
    }

    #[test]
    fn each_form_is_written() {
        assert_eq!(rendered("table"), "2 rows");
        assert_eq!(
            rendered("json"),
            "{\"ID\":\"a\",\"Name\":\"x\"}\n{\"ID\":\"b\",\"Name\":\"longer\"}"
        );
        assert_eq!(rendered("{{.Name}}={{.ID}}"), "x=a\nlonger=b");
        assert_eq!(
            rendered("table {{.Name}}\\t{{.ID}}"),
            "NAME     ID\nx        a\nlonger   b"
        );
    }
}
