//! Rows of the table `windows`.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::columns::{Cell, Columns};
use super::{Place, RowError, time};
use crate::evaluate::shard::ClosedRow;
use crate::model::schema::{StoreTable, windows_with};

/// Collects messages of `maturion.windows` as rows, for one batch after the other.
pub struct WindowTable {
    columns: Columns,
}

impl WindowTable {
    /// An empty table with these measures, which [`super::measures`] gives.
    pub fn new(measures: &[String]) -> Self {
        WindowTable { columns: Columns::new(windows_with(measures)) }
    }

    /// The columns of the batches.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(self.columns.schema())
    }

    /// How many rows the next batch has so far.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.columns.len() == 0
    }

    /// Appends a message as one row, or says why not and appends nothing.
    pub fn push(&mut self, value: &[u8], headers: &[(&str, &[u8])], place: Place) -> Result<(), RowError> {
        let is_incomplete = headers.iter().any(|(name, value)| *name == "complete" && *value == b"false");
        self.append(value, !is_incomplete, place)
    }

    /// Appends a row that was never in Kafka.
    pub fn push_closed(&mut self, row: &ClosedRow, place: Place) -> Result<(), RowError> {
        self.append(&row.json, row.is_complete, place)
    }

    fn append(&mut self, value: &[u8], is_complete: bool, place: Place) -> Result<(), RowError> {
        let unreadable = |reason: String| RowError { table: StoreTable::Windows, reason };
        let text = std::str::from_utf8(value).map_err(|error| unreadable(error.to_string()))?;
        let members: Members = serde_json::from_str(text).map_err(|error| unreadable(error.to_string()))?;
        let start = time(StoreTable::Windows, "window_start", members.text("window_start"))?;
        let end = time(StoreTable::Windows, "window_end", members.text("window_end"))?;
        self.columns.append(|name| match name {
            "window_start" => Cell::Time(start),
            "window_end" => Cell::Time(end),
            "organisation_id" | "module" | "pipeline" => members.text(name).map_or(Cell::Null, Cell::Text),
            "complete" => Cell::Truth(is_complete),
            "row" => Cell::Text(text),
            "kafka_partition" => Cell::Whole(place.partition.into()),
            "kafka_offset" => Cell::Whole(place.offset),
            measure => members.get(measure).and_then(Value::as_f64).map_or(Cell::Null, Cell::Number),
        });
        Ok(())
    }

    /// The rows since the last call. It fails only if the schema has a column that no builder fills.
    pub fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        self.columns.finish()
    }
}

/// The members of an object in their order. A statement may name a column like one of the members that stand before its
/// own, and then the first one counts.
struct Members(Vec<(String, Value)>);

impl Members {
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(member, _)| member == name).map(|(_, value)| value)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Value::as_str)
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Members;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};

    use super::*;
    use crate::model::schema::windows;

    const ROW: &str = r#"{"pipeline":"api_errors","window_start":"2025-12-03T10:00:00Z","window_end":"2025-12-03T10:01:00Z","organisation_id":"org_1","module":null,"requests":4210,"error_rate":0.101,"mean":null,"name":"x"}"#;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    fn push(table: &mut WindowTable, value: &str) -> Result<(), RowError> {
        table.push(value.as_bytes(), &[], Place { partition: 3, offset: 42 })
    }

    #[test]
    fn a_message_becomes_a_row_with_its_measures_and_its_own_text() {
        let mut table = WindowTable::new(&names(&["requests", "error_rate", "mean", "other", "name"]));
        push(&mut table, ROW).unwrap();
        assert_eq!(table.len(), 1);
        let batch = table.finish().unwrap();
        assert!(table.is_empty());
        let time = |name: &str| {
            batch.column_by_name(name).unwrap().as_primitive::<TimestampMicrosecondType>().value(0) / 1_000_000
        };
        assert_eq!((time("window_start"), time("window_end")), (1_764_756_000, 1_764_756_060));
        let text = |name: &str| {
            let column = batch.column_by_name(name).unwrap().as_string_view();
            column.is_valid(0).then(|| column.value(0).to_owned())
        };
        assert_eq!(text("pipeline").as_deref(), Some("api_errors"));
        assert_eq!(text("organisation_id").as_deref(), Some("org_1"));
        assert_eq!(text("module"), None);
        assert_eq!(text("row").as_deref(), Some(ROW));
        let measure = |name: &str| {
            let column = batch.column_by_name(name).unwrap().as_primitive::<Float64Type>();
            column.is_valid(0).then(|| column.value(0))
        };
        assert_eq!((measure("requests"), measure("error_rate")), (Some(4210.0), Some(0.101)));
        assert_eq!((measure("mean"), measure("other"), measure("name")), (None, None, None));
        assert!(batch.column_by_name("complete").unwrap().as_boolean().value(0));
        assert_eq!(batch.column_by_name("kafka_offset").unwrap().as_primitive::<Int64Type>().value(0), 42);
    }

    #[test]
    fn the_header_says_that_a_window_is_not_complete() {
        let mut table = WindowTable::new(&[]);
        let place = Place { partition: 0, offset: 0 };
        table.push(ROW.as_bytes(), &[("complete", b"false")], place).unwrap();
        table.push(ROW.as_bytes(), &[("complete", b"true")], place).unwrap();
        let batch = table.finish().unwrap();
        let complete = batch.column_by_name("complete").unwrap().as_boolean();
        assert_eq!((complete.value(0), complete.value(1)), (false, true));
    }

    #[test]
    fn a_column_cannot_pass_for_the_pipeline() {
        let mut table = WindowTable::new(&[]);
        push(&mut table, &ROW.replace("\"name\":\"x\"", "\"pipeline\":\"forged\"")).unwrap();
        let batch = table.finish().unwrap();
        assert_eq!(batch.column_by_name("pipeline").unwrap().as_string_view().value(0), "api_errors");
    }

    #[test]
    fn a_measure_named_like_a_fixed_column_stands_in_the_text_only() {
        let mut table = WindowTable::new(&names(&["kafka_offset", "requests"]));
        push(&mut table, ROW).unwrap();
        assert_eq!(table.finish().unwrap().num_columns(), windows().fields().len() + 1);
    }

    #[test]
    fn what_is_no_window_is_refused_and_leaves_no_part_of_a_row() {
        let mut table = WindowTable::new(&names(&["requests"]));
        for value in ["", "[]", "{}", "{\"window_start\":\"2025-12-03T10:00:00Z\"}", "{\"window_start\":7}"] {
            let error = push(&mut table, value).unwrap_err();
            assert_eq!(error.table, StoreTable::Windows);
        }
        table.push(b"\xff", &[], Place { partition: 0, offset: 0 }).unwrap_err();
        push(&mut table, ROW).unwrap();
        assert_eq!(table.finish().unwrap().num_rows(), 1);
    }
}
