//! What the rows of `detections` say about one incident: when, and about which series.

use std::collections::BTreeSet;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema, TimestampMicrosecondType};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::utils::{conjunction, disjunction};
use datafusion::logical_expr::{Expr, col, lit};
use serde_json::{Map, Value};

use crate::model::detection::Change;
use crate::model::pipeline::Micros;
use crate::model::schema::timestamp_type;

/// The columns of `detections` that are read.
pub(super) const COLUMNS: [&str; 6] = ["change", "series", "organisation_id", "module", "window_start", "time"];

/// Series of one incident that are looked at together.
const SERIES_MAX: usize = 64;

/// An incident.
#[derive(Debug, PartialEq)]
pub(super) struct Found {
    began: Micros,
    /// `None` while it is open.
    ended: Option<Micros>,
    /// The labels of each series, by the names of columns.
    series: BTreeSet<Vec<(String, Option<String>)>>,
}

impl Found {
    /// `None` without rows.
    pub(super) fn read(batches: &[RecordBatch]) -> Result<Option<Found>> {
        let (mut began, mut ended, mut series) = (None::<Micros>, None::<Micros>, BTreeSet::new());
        for batch in batches {
            let [change, labels, organisation, module] =
                [0, 1, 2, 3].map(|column| cast(batch.column(column), &DataType::Utf8));
            let (change, labels, organisation, module) = (change?, labels?, organisation?, module?);
            let [start, time] = [4, 5].map(|column| cast(batch.column(column), &timestamp_type()));
            let (start, time) = (start?, time?);
            for row in 0..batch.num_rows() {
                began = earliest(began, micros(&start, row));
                if text(&change, row) == Some(Change::Resolved.name()) {
                    ended = ended.max(micros(&time, row));
                }
                series.insert(labels_of(text(&labels, row), text(&organisation, row), text(&module, row)));
            }
        }
        if series.len() > SERIES_MAX {
            return exec_err!("the incident is about {} series, at most {SERIES_MAX} are looked at", series.len());
        }
        Ok(began.map(|began| Found { began, ended, series }))
    }

    /// From when to when: `around` more on both sides, but not after `now` while it is open.
    pub(super) fn times(&self, around: Micros, now: Micros) -> (Micros, Micros) {
        let to = self.ended.map_or(now, |ended| ended.saturating_add(around));
        (self.began.saturating_sub(around), to)
    }

    /// The condition that a row of a table of these columns is of any of the series.
    pub(super) fn series(&self, columns: &Schema) -> Result<Expr> {
        let series = self.series.iter().map(|labels| of_series(labels, columns)).collect::<Result<Vec<_>>>()?;
        Ok(disjunction(series).unwrap_or_else(|| lit(true)))
    }
}

/// A label without a value is a column that is null. A label that is no column (a part of another pipeline's row) says
/// nothing about a row.
fn of_series(labels: &[(String, Option<String>)], columns: &Schema) -> Result<Expr> {
    let mut wanted = vec![];
    for (name, value) in labels {
        let Ok(column) = columns.field_with_name(name) else { continue };
        wanted.push(match value {
            None => col(name).is_null(),
            Some(value) => {
                let value = ScalarValue::Utf8(Some(value.clone())).cast_to(column.data_type())?;
                col(name).eq(lit(value))
            }
        });
    }
    Ok(conjunction(wanted).unwrap_or_else(|| lit(true)))
}

/// The labels of a series, and of what stands beside them in the row those that the series does not have.
fn labels_of(series: Option<&str>, organisation: Option<&str>, module: Option<&str>) -> Vec<(String, Option<String>)> {
    let series: Map<String, Value> = series.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let beside = [("organisation_id", organisation), ("module", module)];
    let beside = beside.into_iter().filter(|(name, value)| value.is_some() && !series.contains_key(*name));
    let mut labels: Vec<_> = beside.map(|(name, value)| (name.to_owned(), value.map(str::to_owned))).collect();
    labels.extend(series.iter().map(|(name, value)| (name.clone(), label(value))));
    labels
}

fn label(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

fn text(column: &ArrayRef, row: usize) -> Option<&str> {
    let column = column.as_string::<i32>();
    column.is_valid(row).then(|| column.value(row))
}

fn micros(column: &ArrayRef, row: usize) -> Option<Micros> {
    let column = column.as_primitive::<TimestampMicrosecondType>();
    column.is_valid(row).then(|| column.value(row))
}

fn earliest(one: Option<Micros>, other: Option<Micros>) -> Option<Micros> {
    one.into_iter().chain(other).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::schema;

    fn found(ended: Option<Micros>) -> Found {
        Found { began: 100, ended, series: BTreeSet::new() }
    }

    #[test]
    fn an_open_incident_lasts_until_now() {
        assert_eq!(found(Some(200)).times(15, 1_000), (85, 215));
        assert_eq!(found(None).times(15, 1_000), (85, 1_000));
    }

    #[test]
    fn labels_become_conditions_on_columns_that_are_there() {
        let labels = labels_of(Some(r#"{"module":null,"route":"/a","worst":"x"}"#), Some("org_1"), None);
        let condition = of_series(&labels, &schema::logs()).unwrap().to_string();
        assert_eq!(condition, "organisation_id = Utf8View(\"org_1\") AND module IS NULL AND route = Utf8View(\"/a\")");
    }

    #[test]
    fn a_series_of_nothing_is_everything() {
        let labels = labels_of(Some("{}"), None, None);
        assert_eq!(of_series(&labels, &schema::logs()).unwrap(), lit(true));
        assert_eq!(labels_of(None, Some("a"), Some("b")).len(), 2);
    }
}
