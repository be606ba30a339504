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

use arrow::array::{Array, AsArray, Int32Array, RecordBatch};
use datafusion::functions::string::expr_fn::starts_with;
use datafusion::logical_expr::{Expr, col, lit};

use crate::model::pipeline::Micros;
use crate::model::schema::StoreTable;

/// Microseconds of a day.
pub const DAY_MICROS: Micros = 86_400_000_000;

const SHORT_DAYS: i32 = 30;
const MIDDLE_DAYS: i32 = 90;
const LONG_DAYS: i32 = 365;

/// Metrics that the business is steered by.
const BUSINESS_PREFIX: &str = "business.";

/// How many days each row of a batch is kept.
pub fn kept_days(table: StoreTable, rows: &RecordBatch) -> Int32Array {
    let of = |column: &str, days: fn(&str) -> i32| match rows.column_by_name(column) {
        Some(texts) => {
            let texts = texts.as_string_view();
            (0..texts.len()).map(|row| if texts.is_valid(row) { days(texts.value(row)) } else { MIDDLE_DAYS }).collect()
        }
        None => Int32Array::from_value(MIDDLE_DAYS, rows.num_rows()),
    };
    match table {
        StoreTable::Logs => of("source", source_days),
        StoreTable::Metrics => of("name", metric_days),
        StoreTable::Windows | StoreTable::Detections | StoreTable::IncidentChanges | StoreTable::Audit => {
            Int32Array::from_value(LONG_DAYS, rows.num_rows())
        }
    }
}

fn source_days(source: &str) -> i32 {
    match source {
        "supabase" | "edge" => SHORT_DAYS,
        "audit" => LONG_DAYS,
        _ => MIDDLE_DAYS,
    }
}

fn metric_days(name: &str) -> i32 {
    if name.starts_with(BUSINESS_PREFIX) { LONG_DAYS } else { MIDDLE_DAYS }
}

/// The first moment that is still kept at `now`.
pub fn kept_from(now: Micros, kept_days: i64) -> Micros {
    now.saturating_sub(kept_days.saturating_mul(DAY_MICROS))
}

/// True of a row that is kept, where `from` says what it means to be kept for so many days.
pub fn kept(table: StoreTable, from: impl Fn(i64) -> Expr) -> Expr {
    let [short, middle, long] = [SHORT_DAYS, MIDDLE_DAYS, LONG_DAYS].map(|days| from(i64::from(days)));
    let is_long = match table {
        StoreTable::Windows | StoreTable::Detections | StoreTable::IncidentChanges | StoreTable::Audit => return long,
        StoreTable::Metrics => starts_with(col("name"), lit(BUSINESS_PREFIX)),
        StoreTable::Logs => col("source").eq(lit("audit")),
    };
    let is_long = is_long.is_true();
    let is_short = match table {
        StoreTable::Logs => col("source").in_list(vec![lit("supabase"), lit("edge")], false).is_true(),
        _ => lit(false),
    };
    is_long.clone().and(long).or(is_short.clone().and(short)).or((!is_long.or(is_short)).and(middle))
}
