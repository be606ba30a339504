//! Evidence: the SQL statement that shows the numbers behind a detection.
//!
//! It is the pipeline's own statement, so a person sees what the rule saw: the rows of one series, from the onset to the window that
//! caused the message. Labels come from tenants; each is written as a quoted literal and cannot leave it.

use crate::model::detection::format_time;
use crate::model::pipeline::Micros;
use crate::model::series::{Label, Series};

/// The pipeline's statement, ready to be narrowed to one series.
#[derive(Clone, Debug)]
pub(super) struct Evidence {
    select: String,
    /// Shows how many series there are, instead of the rows of one.
    counts_series: bool,
}

impl Evidence {
    pub(super) fn new(sql: &str) -> Self {
        // The line break ends a comment on the statement's last line.
        Evidence { select: format!("SELECT * FROM (\n{}\n) AS evidence\n", statement(sql)), counts_series: false }
    }

    /// Evidence of how many series a statement has.
    pub(super) fn of_series(sql: &str) -> Self {
        let select = format!("SELECT window_start, count(*) AS series FROM (\n{}\n) AS evidence\n", statement(sql));
        Evidence { select, counts_series: true }
    }

    /// The rows of one series whose windows begin from `first` to `last`, both included.
    pub(super) fn of(&self, series: &Series, first: Micros, last: Micros) -> String {
        let (first, last) = (format_time(first), format_time(last));
        let mut sql = format!("{}WHERE window_start BETWEEN TIMESTAMP '{first}' AND TIMESTAMP '{last}'", self.select);
        if self.counts_series {
            return format!("{sql}\nGROUP BY window_start\nORDER BY window_start");
        }
        for (name, label) in &series.0 {
            sql.push_str(&format!("\n  AND {}", equals(name, label)));
        }
        sql.push_str("\nORDER BY window_start");
        sql
    }
}

fn equals(name: &str, label: &Label) -> String {
    let name = format!("\"{}\"", name.replace('"', "\"\""));
    match label {
        Label::Null => format!("{name} IS NULL"),
        Label::Bool(value) => format!("{name} = {value}"),
        Label::Int(value) => format!("{name} = {value}"),
        Label::Text(text) => format!("{name} = '{}'", text.replace('\'', "''")),
    }
}

/// The text up to the semicolon that ends the statement. A semicolon in a literal, a quoted name or a comment ends nothing.
fn statement(sql: &str) -> &str {
    let mut rest = sql;
    while let Some(at) = rest.find(['\'', '"', ';', '-', '/']) {
        let token = &rest[at..];
        let length = match token.as_bytes() {
            [b';', ..] => return sql[..sql.len() - token.len()].trim(),
            [quote @ (b'\'' | b'"'), ..] => after(token, 1, char::from(*quote).encode_utf8(&mut [0; 4])),
            [b'-', b'-', ..] => after(token, 2, "\n"),
            [b'/', b'*', ..] => after(token, 2, "*/"),
            _ => 1,
        };
        rest = &token[length..];
    }
    sql.trim()
}

/// The length of a token up to and including its end, or all of it if it has none.
fn after(token: &str, from: usize, end: &str) -> usize {
    token[from..].find(end).map_or(token.len(), |at| from + at + end.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(labels: &[(&str, Label)]) -> String {
        let series = Series(labels.iter().map(|(name, label)| (name.to_string(), label.clone())).collect());
        Evidence::new("SELECT 1;").of(&series, 0, 60_000_000)
    }

    #[test]
    fn the_statement_shows_one_series_from_the_onset_to_the_cause() {
        let expected = "SELECT * FROM (\nSELECT 1\n) AS evidence\n\
             WHERE window_start BETWEEN TIMESTAMP '1970-01-01T00:00:00Z' AND TIMESTAMP '1970-01-01T00:01:00Z'\n  \
             AND \"organisation_id\" = 'org_1'\n  AND \"n\" = -3\n  AND \"b\" = true\nORDER BY window_start";
        let labels =
            [("organisation_id", Label::Text("org_1".into())), ("n", Label::Int(-3)), ("b", Label::Bool(true))];
        assert_eq!(of(&labels), expected);
    }

    #[test]
    fn null_is_asked_for_as_null() {
        assert!(of(&[("organisation_id", Label::Null)]).contains("\"organisation_id\" IS NULL"));
    }

    #[test]
    fn a_label_cannot_leave_its_quotes() {
        let sql = of(&[("module", Label::Text("x' OR '1'='1".into())), ("a\"b", Label::Int(1))]);
        assert!(sql.contains("\"module\" = 'x'' OR ''1''=''1'") && sql.contains("\"a\"\"b\" = 1"));
    }

    #[test]
    fn the_statement_ends_at_its_own_semicolon() {
        for (sql, expected) in [
            ("SELECT 1 ; -- done\n", "SELECT 1"),
            ("SELECT ';' -- a;b\n, \";\" /* ; */ FROM t", "SELECT ';' -- a;b\n, \";\" /* ; */ FROM t"),
            ("SELECT 'it''s;' ;", "SELECT 'it''s;'"),
            ("SELECT a - b / c", "SELECT a - b / c"),
            ("SELECT 'é", "SELECT 'é"),
        ] {
            assert_eq!(statement(sql), expected);
        }
    }
}
