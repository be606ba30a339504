//! How long rows are kept: by what they are, from their event time.
//!
//! | rows | days |
//! |---|---|
//! | logs of `supabase` and `edge` | 30 |
//! | logs of `audit` | 365 |
//! | other logs | 90 |
//! | metrics | 90; those named `business.…` 365 |
//! | windows, detections, changes of incidents, audit | 365 |
//!
//! A query never shows an expired row; its file goes when the whole day has expired.

use arrow::array::{AsArray, Int32Array, RecordBatch};
use datafusion::common::Result;
use datafusion::functions::string::expr_fn::starts_with;
use datafusion::logical_expr::{Expr, col, lit, when};

use crate::model::pipeline::Micros;
use crate::model::schema::StoreTable;

/// Microseconds of a day.
pub const DAY_MICROS: Micros = 86_400_000_000;

const SHORT_DAYS: i32 = 30;
const MIDDLE_DAYS: i32 = 90;
const LONG_DAYS: i32 = 365;

/// How long the rows of a table are kept: the first rule whose text fits decides, or else `others`.
struct Retention {
    /// The column that the rules look at.
    column: Option<&'static str>,
    rules: &'static [(Text, i32)],
    others: i32,
}

enum Text {
    Is(&'static str),
    Begins(&'static str),
}

const LOGS: Retention = Retention {
    column: Some("source"),
    rules: &[(Text::Is("supabase"), SHORT_DAYS), (Text::Is("edge"), SHORT_DAYS), (Text::Is("audit"), LONG_DAYS)],
    others: MIDDLE_DAYS,
};

/// Metrics that the business is steered by are kept for long.
const METRICS: Retention =
    Retention { column: Some("name"), rules: &[(Text::Begins("business."), LONG_DAYS)], others: MIDDLE_DAYS };

const RESULTS: Retention = Retention { column: None, rules: &[], others: LONG_DAYS };

fn of(table: StoreTable) -> &'static Retention {
    match table {
        StoreTable::Logs => &LOGS,
        StoreTable::Metrics => &METRICS,
        StoreTable::Windows | StoreTable::Detections | StoreTable::IncidentChanges | StoreTable::Audit => &RESULTS,
    }
}

impl Text {
    fn fits(&self, text: &str) -> bool {
        match self {
            Text::Is(whole) => text == *whole,
            Text::Begins(prefix) => text.starts_with(prefix),
        }
    }

    fn fits_in(&self, column: &str) -> Expr {
        match self {
            Text::Is(whole) => col(column).eq(lit(*whole)),
            Text::Begins(prefix) => starts_with(col(column), lit(*prefix)),
        }
    }
}

impl Retention {
    fn days(&self, text: &str) -> i32 {
        let rule = self.rules.iter().find(|(rule, _)| rule.fits(text));
        rule.map_or(self.others, |(_, days)| *days)
    }
}

/// The column that tells how long a row is kept; `None` if all of a table are kept equally long.
pub fn kept_by(table: StoreTable) -> Option<&'static str> {
    of(table).column
}

/// How many days each row of a batch is kept.
pub fn kept_days(table: StoreTable, rows: &RecordBatch) -> Int32Array {
    let retention = of(table);
    let Some(texts) = retention.column.and_then(|column| rows.column_by_name(column)) else {
        return Int32Array::from_value(retention.others, rows.num_rows());
    };
    let texts = texts.as_string_view().iter();
    texts.map(|text| Some(text.map_or(retention.others, |text| retention.days(text)))).collect()
}

/// The first moment that is still kept at `now`.
pub fn kept_from(now: Micros, kept_days: i64) -> Micros {
    now.saturating_sub(kept_days.saturating_mul(DAY_MICROS))
}

/// What `value` makes of the days that a row is kept, for each row.
pub fn by_kept_days(table: StoreTable, value: impl Fn(i64) -> Expr) -> Result<Expr> {
    let Retention { column, rules, others } = of(table);
    let others = value(i64::from(*others));
    let Some(column) = column else { return Ok(others) };
    rules
        .iter()
        .rev()
        .try_fold(others, |others, (text, days)| when(text.fits_in(column), value(i64::from(*days))).otherwise(others))
}
