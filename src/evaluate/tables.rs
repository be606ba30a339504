//! What the output topics say, as rows of the tables.
//!
//! ```text
//!  a message of maturion.windows ─────▶ WindowTable ────┐
//!  a message of the remediation topic ─▶ DetectionTable ┤
//!  a message of maturion.incidents ───▶ IncidentTable ──┼─▶ record batches of model::schema
//!  a message of maturion.audit ───────▶ AuditTable ─────┘
//! ```
//!
//! The store fills its tables from the topics by these functions, and backfill those of windows and detections from its own
//! results, so that both write the same rows. A message becomes exactly one row, or a reason why not and none. `tables` never decides which rows
//! are kept.

use std::collections::BTreeSet;

use chrono::DateTime;
use thiserror::Error;

use super::PipelineSet;
use crate::model::pipeline::Micros;
use crate::model::schema::StoreTable;

mod audit;
mod columns;
mod detections;
mod incidents;
mod windows;

pub use audit::AuditTable;
pub use detections::DetectionTable;
pub use incidents::IncidentTable;
pub use windows::WindowTable;

/// A message that is no row of its table.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "a message cannot become a row of the table `{}`: {reason}; it was written by another version, or damaged",
    .table.name()
)]
pub struct RowError {
    pub table: StoreTable,
    pub reason: String,
}

/// Where a message stands in Kafka. Rows that never were in Kafka have partition -1 and are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub partition: i32,
    pub offset: i64,
}

/// The measures of an installation, for [`crate::model::schema::windows_with`]: each numeric column of its statements,
/// once, in the order of their names.
pub fn measures(set: &PipelineSet) -> Vec<String> {
    let mut names = BTreeSet::new();
    for compiled in set.pipelines() {
        let output = compiled.plan.output_schema();
        let numeric = output.fields().iter().filter(|field| field.data_type().is_numeric());
        names.extend(numeric.map(|field| field.name().clone()));
    }
    let fixed = StoreTable::Windows.schema();
    names.into_iter().filter(|name| fixed.column_with_name(name).is_none()).collect()
}

/// A time as [`crate::model::detection::format_time`] writes it.
fn time(table: StoreTable, name: &str, text: Option<&str>) -> Result<Micros, RowError> {
    let text = text.ok_or_else(|| RowError { table, reason: format!("it has no `{name}`") })?;
    let time = DateTime::parse_from_rfc3339(text);
    time.map(|time| time.timestamp_micros())
        .map_err(|error| RowError { table, reason: format!("its `{name}` is no time ({error})") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PipelineFiles;

    #[test]
    fn measures_are_the_numbers_of_all_statements_once() {
        let pipelines = crate::pipelines::load(&PipelineFiles::Shipped).unwrap();
        let measures = measures(&PipelineSet::compile(pipelines).unwrap());
        assert!(measures.is_sorted_by(|one, other| one < other), "{measures:?}");
        let has = |name: &str| measures.iter().any(|measure| measure == name);
        assert!(has("requests") && has("error_rate"), "{measures:?}");
        assert!(!has("window_start") && !has("organisation_id") && !has("module"), "{measures:?}");
    }
}
