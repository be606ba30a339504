//! One pipeline's file.

use std::time::Duration;

use crate::config::document::{DocumentError, Located, Origin, Table, suggestion};
use crate::model::pipeline::{Limits, Micros, Pipeline, Source};

use super::statement::Statement;
use super::{PipelineError, Statements, rule};

/// How long a window waits for late rows unless the pipeline says otherwise.
const DEFAULT_LATENESS: Duration = Duration::from_secs(30);
/// The longest time a pipeline or rule may wait for anything.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);
/// Tables of the store and the inputs: a pipeline of such a name could not be read in SQL.
const RESERVED: [&str; 9] =
    ["logs", "metrics", "windows", "detections", "incidents", "actions", "audit", "watchdog_triggers", "patterns"];

/// A pipeline and where its parts are written, for what only shows when all pipelines are known.
pub(super) struct Written {
    pub pipeline: Pipeline,
    pub name: Origin,
    pub source: Origin,
    /// In the order of the rules.
    pub rules: Vec<rule::Origins>,
}

/// Reads a pipeline from the text of its file.
pub(super) fn read(file: &str, text: &str, statements: &dyn Statements) -> Result<Written, PipelineError> {
    let mut table = Table::parse(file, text)?;
    table.allow_only(&["name", "source", "sql", "series", "lateness", "max_series", "max_open_windows", "rule"])?;
    let name = required(&mut table, "name")?;
    check_name(&name)?;
    let sql = required(&mut table, "sql")?;
    let (sql_file, sql) = statements.read(&sql.value).map_err(|reason| sql.origin.error(reason))?;
    let statement = Statement::parse(&sql_file, &sql)?;
    let (source, source_origin) = source(&mut table, &statement, &sql_file)?;
    let series = series(&mut table, &statement, &sql_file)?;
    let lateness = micros(table.duration("lateness")?, "lateness", DEFAULT_LATENESS)?;
    let limits = Limits {
        series: count(&mut table, "max_series", 10_000_000, Limits::default().series)?,
        open_windows: count(&mut table, "max_open_windows", 100_000, Limits::default().open_windows)?,
    };
    let columns: Vec<&str> = statement.columns.iter().map(String::as_str).collect();
    let (rules, rule_origins) = table
        .tables("rule")?
        .into_iter()
        .map(|rule| rule::read(rule, &name.value, &columns))
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .unzip();
    let pipeline = Pipeline { name: name.value, source, sql, sql_file, series, lateness, limits, rules };
    Ok(Written { pipeline, name: name.origin, source: source_origin, rules: rule_origins })
}

/// Takes a text that must be there.
pub(super) fn required(table: &mut Table, key: &str) -> Result<Located<String>, DocumentError> {
    table.text(key)?.ok_or_else(|| table.missing(key))
}

/// Names become topics' keys, tables and file names: `[a-z][a-z0-9_]*`, at most 64 characters.
pub(super) fn check_name(name: &Located<String>) -> Result<(), DocumentError> {
    let text = &name.value;
    let begins = text.starts_with(|first: char| first.is_ascii_lowercase());
    let rest = text.chars().all(|each| each.is_ascii_lowercase() || each.is_ascii_digit() || each == '_');
    if !(begins && rest && text.len() <= 64) {
        return Err(name
            .origin
            .error(format!("`name` must be up to 64 of a-z 0-9 _ and begin with a letter, not \"{text}\"")));
    }
    if RESERVED.contains(&text.as_str()) {
        return Err(name.origin.error(format!("`name` may not be \"{text}\", which is a table already")));
    }
    Ok(())
}

/// A length of time as event time, within what is reasonable.
pub(super) fn micros(
    written: Option<Located<Duration>>,
    key: &str,
    default: Duration,
) -> Result<Micros, DocumentError> {
    match written {
        Some(written) if written.value > LONGEST => {
            Err(written.origin.error(format!("`{key}` may be 30 days at most")))
        }
        Some(written) => Ok(written.value.as_micros() as Micros),
        None => Ok(default.as_micros() as Micros),
    }
}

/// A limit of at least 1.
fn count(table: &mut Table, key: &str, most: u64, default: usize) -> Result<usize, DocumentError> {
    match table.count(key)? {
        Some(written) if !(1..=most).contains(&written.value) => {
            Err(written.origin.error(format!("`{key}` must be from 1 to {most}, not {}", written.value)))
        }
        Some(written) => Ok(written.value as usize),
        None => Ok(default),
    }
}

/// A column of the statement, or the error that names the nearest one.
pub(super) fn column(text: &str, key: &str, origin: &Origin, columns: &[&str]) -> Result<String, DocumentError> {
    if columns.contains(&text) {
        return Ok(text.to_owned());
    }
    let hint = suggestion(text, columns);
    Err(origin.error(format!("`{key}` names the column `{text}`, which the SQL does not give; {hint}")))
}

fn source(table: &mut Table, statement: &Statement, sql_file: &str) -> Result<(Source, Origin), DocumentError> {
    let source = required(table, "source")?;
    let reads = statement.table.as_str();
    let refuse = |reason: String| Err(source.origin.error(reason));
    let value = match source.value.as_str() {
        "logs" if reads == "logs" => Source::Logs,
        "metrics" if reads == "metrics" => Source::Metrics,
        "windows" if !["logs", "metrics"].contains(&reads) => Source::Windows(reads.to_owned()),
        "windows" => {
            return refuse(format!("`source` is windows, but {sql_file} reads {reads}; read a pipeline by its name"));
        }
        known @ ("logs" | "metrics") => {
            return refuse(format!("`source` is {known}, but {sql_file} reads {reads}; make them agree"));
        }
        other => {
            return refuse(format!("`source` must be \"logs\", \"metrics\" or \"windows\", not \"{other}\""));
        }
    };
    Ok((value, source.origin))
}

fn series(table: &mut Table, statement: &Statement, sql_file: &str) -> Result<Vec<String>, DocumentError> {
    let series = table.texts("series")?.ok_or_else(|| table.missing("series"))?;
    let columns: Vec<&str> =
        statement.columns.iter().map(String::as_str).filter(|column| *column != "window_start").collect();
    for (index, label) in series.value.iter().enumerate() {
        column(label, "series", &series.origin, &columns)?;
        if series.value.iter().take(index).any(|earlier| earlier == label) {
            return Err(series.origin.error(format!("`series` names `{label}` twice")));
        }
    }
    if !statement.columns.iter().any(|column| column == "window_start") {
        return Err(series.origin.error(format!(
            "{sql_file} gives no column `window_start`; begin it with SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start"
        )));
    }
    Ok(series.value)
}
