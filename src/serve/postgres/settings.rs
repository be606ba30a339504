//! `SET`, `RESET` and `SHOW`: the settings that clients expect, most of which have one value here.
//!
//! Nothing here reaches DataFusion, whose own settings could lift limits. Text is UTF-8, times are UTC and dates are
//! ISO, whatever a client would like; asking for anything else is refused, so that nobody reads a time in a zone that it
//! is not in. `statement_timeout` may only lower the limit.

use std::collections::BTreeMap;
use std::time::Duration;

use datafusion::sql::sqlparser::ast::{Expr, Reset, Set};
use datafusion_postgres::pgwire::api::Type;
use datafusion_postgres::pgwire::api::results::{FieldFormat, FieldInfo};
use datafusion_postgres::pgwire::error::PgWireResult;

use super::failure;

/// What a setting may be.
enum Kind {
    /// Anything: it has no effect.
    Free,
    /// One of these, in any case; the reason why there are no others.
    Only(&'static [&'static str], &'static str),
    /// A length of time that ends statements.
    Timeout,
    /// It can be shown.
    Fixed,
}

const UTF_8: Kind = Kind::Only(&["utf8", "utf-8", "unicode"], "text is UTF-8 here");
const UTC: Kind = Kind::Only(&["utc", "etc/utc", "gmt", "z", "0", "+00", "+00:00"], "times are UTC here");
const ISO: Kind = Kind::Only(&["iso", "iso, mdy", "iso, dmy", "iso, ymd"], "dates are ISO here");

/// Each setting with its value at the beginning.
const SETTINGS: [(&str, &str, Kind); 24] = [
    ("application_name", "", Kind::Free),
    ("bytea_output", "hex", Kind::Only(&["hex"], "bytes are hexadecimal here")),
    ("client_encoding", "UTF8", UTF_8),
    ("client_min_messages", "notice", Kind::Free),
    ("datestyle", "ISO, MDY", ISO),
    ("default_transaction_isolation", "read committed", Kind::Free),
    ("default_transaction_read_only", "on", Kind::Only(&["on", "true", "1", "yes"], "everything is only read here")),
    ("extra_float_digits", "1", Kind::Free),
    ("idle_in_transaction_session_timeout", "0", Kind::Free),
    ("integer_datetimes", "on", Kind::Fixed),
    ("intervalstyle", "postgres", Kind::Only(&["postgres"], "intervals are written as PostgreSQL does")),
    ("is_superuser", "off", Kind::Fixed),
    ("lock_timeout", "0", Kind::Free),
    ("max_identifier_length", "63", Kind::Fixed),
    ("row_security", "on", Kind::Free),
    ("search_path", "public", Kind::Free),
    ("server_encoding", "UTF8", Kind::Fixed),
    ("server_version", "16.6", Kind::Fixed),
    ("server_version_num", "160006", Kind::Fixed),
    ("standard_conforming_strings", "on", Kind::Only(&["on", "true", "1"], "a backslash is a backslash here")),
    ("statement_timeout", "", Kind::Timeout),
    ("timezone", "UTC", UTC),
    ("transaction_isolation", "read committed", Kind::Fixed),
    ("transaction_read_only", "on", Kind::Fixed),
];

/// The settings of a connection.
pub(super) struct Settings {
    limit: Duration,
    timeout: Duration,
    changed: BTreeMap<&'static str, String>,
}

impl Settings {
    /// `limit` is for how long a statement may run at most.
    pub(super) fn new(limit: Duration) -> Settings {
        Settings { limit, timeout: limit, changed: BTreeMap::new() }
    }

    /// For how long a statement may run.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// `SET …`.
    pub(super) fn set(&mut self, set: &Set) -> PgWireResult<()> {
        match set {
            Set::SingleAssignment { hivevar: false, variable, values, .. } => {
                let value = values.iter().map(text).collect::<Vec<_>>().join(", ");
                self.assign(&variable.to_string().to_lowercase(), &value)
            }
            Set::SetTimeZone { value, .. } => self.assign("timezone", &text(value)),
            Set::SetNames { charset_name, .. } => self.assign("client_encoding", &charset_name.value),
            // There are no transactions, so it does not matter what they would be like.
            Set::SetTransaction { .. } => Ok(()),
            other => Err(failure::error("42501", format!("{other} is refused: {}", known_names()))),
        }
    }

    /// `RESET …`.
    pub(super) fn reset(&mut self, reset: &Reset) -> PgWireResult<()> {
        match reset {
            Reset::ALL => {
                *self = Settings::new(self.limit);
                Ok(())
            }
            Reset::ConfigurationParameter(name) => self.assign(&name.to_string().to_lowercase(), "default"),
        }
    }

    fn assign(&mut self, name: &str, value: &str) -> PgWireResult<()> {
        let (name, _, kind) = find(name)?;
        let refuse = |reason: &str| Err(failure::error("22023", format!("{name} cannot be \"{value}\": {reason}")));
        let is_default = value.eq_ignore_ascii_case("default");
        match kind {
            Kind::Fixed => return refuse("it only tells"),
            Kind::Timeout => self.timeout = self.timeout_of(if is_default { "0" } else { value })?,
            Kind::Only(values, reason) if !is_default && !values.contains(&value.to_lowercase().as_str()) => {
                return refuse(reason);
            }
            _ if is_default => drop(self.changed.remove(name)),
            Kind::Only(..) | Kind::Free => drop(self.changed.insert(name, value.to_owned())),
        }
        Ok(())
    }

    /// 0 is PostgreSQL's word for no limit of one's own.
    fn timeout_of(&self, value: &str) -> PgWireResult<Duration> {
        let refuse =
            |reason: String| failure::error("22023", format!("statement_timeout cannot be \"{value}\": {reason}"));
        let asked =
            milliseconds(value).ok_or_else(|| refuse("write milliseconds, or a number with ms, s or min".into()))?;
        match Duration::from_millis(asked) {
            Duration::ZERO => Ok(self.limit),
            asked if asked <= self.limit => Ok(asked),
            _ => Err(refuse(format!("it may only be lowered, and the limit is {} s", self.limit.as_secs_f64()))),
        }
    }

    /// `SHOW …`: the value.
    pub(super) fn show(&self, name: &str) -> PgWireResult<String> {
        let (name, value, _) = find(&canonical(name))?;
        if *name == "statement_timeout" {
            return Ok(format!("{}ms", self.timeout.as_millis()));
        }
        Ok(self.changed.get(name).cloned().unwrap_or_else(|| (*value).to_owned()))
    }
}

/// The one column of what `SHOW` answers.
pub(super) fn shown_field(name: &str) -> FieldInfo {
    FieldInfo::new(canonical(name), None, None, Type::TEXT, FieldFormat::Text)
}

fn canonical(name: &str) -> String {
    match name {
        "time zone" => "timezone".to_owned(),
        "transaction isolation level" => "transaction_isolation".to_owned(),
        name => name.to_owned(),
    }
}

fn find(name: &str) -> PgWireResult<&'static (&'static str, &'static str, Kind)> {
    let found = SETTINGS.iter().find(|(known, _, _)| *known == name);
    found.ok_or_else(|| failure::error("42704", format!("there is no setting \"{name}\" here; {}", known_names())))
}

fn known_names() -> String {
    let names: Vec<&str> = SETTINGS.iter().map(|(name, _, _)| *name).collect();
    format!("known are {}", names.join(", "))
}

fn text(value: &Expr) -> String {
    match value {
        Expr::Value(value) => value.clone().into_string().unwrap_or_else(|| value.to_string()),
        Expr::Identifier(name) => name.value.clone(),
        other => other.to_string(),
    }
}

fn milliseconds(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let unit = match text[digits..].trim() {
        "" | "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    text[..digits].parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::ast::Statement;

    use super::*;
    use crate::query::guard;

    fn told(settings: &mut Settings, sql: &str) -> Result<(), String> {
        let done = match guard::parse_one(sql).unwrap() {
            Statement::Set(set) => settings.set(&set),
            Statement::Reset(reset) => settings.reset(&reset.reset),
            other => panic!("{other}"),
        };
        done.map_err(|error| error.to_string())
    }

    #[test]
    fn what_clients_send_is_taken() {
        let mut settings = Settings::new(Duration::from_secs(60));
        for sql in [
            "SET client_encoding TO 'UTF8'",
            "SET NAMES 'utf8'",
            "SET DateStyle = ISO, MDY",
            "SET datestyle TO 'ISO'",
            "SET TimeZone TO 'UTC'",
            "SET TIME ZONE 'UTC'",
            "SET application_name = 'psql'",
            "SET extra_float_digits = 3",
            "SET search_path TO public, pg_catalog",
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            "SET SESSION statement_timeout TO 0",
            "RESET ALL",
            "RESET timezone",
        ] {
            assert_eq!(told(&mut settings, sql), Ok(()), "{sql}");
        }
    }

    #[test]
    fn what_would_change_an_answer_is_refused() {
        let mut settings = Settings::new(Duration::from_secs(60));
        for sql in [
            "SET TimeZone TO 'Europe/Zurich'",
            "SET client_encoding TO 'LATIN1'",
            "SET default_transaction_read_only TO off",
            "SET datafusion.execution.batch_size TO 1",
            "SET ROLE admin",
            "SET SESSION AUTHORIZATION admin",
            "SET is_superuser TO on",
            "SET statement_timeout TO '1h'",
            "SET statement_timeout TO 'soon'",
            "RESET datafusion.execution.batch_size",
        ] {
            assert!(told(&mut settings, sql).is_err(), "{sql}");
        }
        assert_eq!(settings.show("time zone").unwrap(), "UTC");
    }

    #[test]
    fn a_statement_may_be_given_less_time() {
        let mut settings = Settings::new(Duration::from_secs(60));
        for (sql, milliseconds) in [
            ("SET statement_timeout TO 250", 250),
            ("SET statement_timeout TO '2s'", 2_000),
            ("SET statement_timeout TO '1min'", 60_000),
            ("SET statement_timeout TO 100", 100),
            ("SET statement_timeout TO 0", 60_000),
            ("SET statement_timeout TO 100", 100),
            ("RESET statement_timeout", 60_000),
        ] {
            told(&mut settings, sql).unwrap();
            assert_eq!(settings.timeout(), Duration::from_millis(milliseconds), "{sql}");
        }
    }

    #[test]
    fn a_setting_is_shown_as_it_was_set() {
        let mut settings = Settings::new(Duration::from_secs(60));
        told(&mut settings, "SET application_name = 'a'").unwrap();
        assert_eq!(settings.show("application_name").unwrap(), "a");
        assert_eq!(settings.show("transaction isolation level").unwrap(), "read committed");
        assert_eq!(settings.show("statement_timeout").unwrap(), "60000ms");
        assert!(settings.show("nothing").is_err());
    }
}
