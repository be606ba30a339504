//! Rows as they come from files and from the store, as batches of a table's own schema.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::SchemaRef;

use crate::decode::Table;

/// A value that does not fit its column is an error, not null.
const STRICT: CastOptions<'static> =
    CastOptions { safe: false, format_options: arrow::util::display::FormatOptions::new() };

/// Makes batches conform to one table. Columns that nobody reads are null, at no cost.
pub(super) struct Conform {
    schema: SchemaRef,
    needed: Vec<bool>,
    /// For each column as many fillers as the largest batch so far had rows.
    fillers: Vec<ArrayRef>,
}

impl Conform {
    /// For the columns at these places.
    pub(super) fn new(table: Table, needed: &[usize]) -> Self {
        let schema = table.schema();
        let is_needed = |column: usize| needed.contains(&column) || schema.field(column).name() == "timestamp";
        let needed = (0..schema.fields().len()).map(is_needed).collect();
        Self { schema, needed, fillers: Vec::new() }
    }

    /// The batch with exactly the columns of the table: those that it lacks, or that nobody reads, are null.
    pub(super) fn apply(&mut self, batch: &RecordBatch) -> Result<RecordBatch, String> {
        self.fill(batch.num_rows());
        let columns = self.schema.fields().iter().enumerate().map(|(place, field)| {
            match batch.column_by_name(field.name()).filter(|_| self.needed[place]) {
                Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
                Some(column) => cast_with_options(column, field.data_type(), &STRICT)
                    .map_err(|error| format!("its column `{}` cannot be read: {error}", field.name())),
                None => Ok(self.fillers[place].slice(0, batch.num_rows())),
            }
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(|error| error.to_string())
    }

    fn fill(&mut self, rows: usize) {
        if self.fillers.first().is_some_and(|filler| filler.len() >= rows) {
            return;
        }
        let filler = |field: &Arc<arrow::datatypes::Field>| -> ArrayRef {
            match field.name().as_str() {
                "kafka_partition" => Arc::new(Int32Array::from_value(-1, rows)),
                "kafka_offset" => Arc::new(Int64Array::from_value(-1, rows)),
                _ => new_null_array(field.data_type(), rows),
            }
        };
        self.fillers = self.schema.fields().iter().map(filler).collect();
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray, StringArray, TimestampMillisecondArray};
    use arrow::datatypes::{Int32Type, TimestampMicrosecondType};

    use super::*;
    use crate::model::schema;

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter(columns).unwrap()
    }

    #[test]
    fn columns_take_the_types_of_the_table_and_missing_ones_are_null() {
        let module = schema::logs().index_of("module").unwrap();
        let mut conform = Conform::new(Table::Logs, &[module]);
        let rows = batch(vec![
            ("module", Arc::new(StringArray::from(vec!["a", "b"]))),
            ("event", Arc::new(StringArray::from(vec!["nobody", "reads it"]))),
            ("timestamp", Arc::new(TimestampMillisecondArray::from(vec![1, 2]))),
        ]);
        let rows = conform.apply(&rows).unwrap();
        assert_eq!(rows.schema(), schema::logs());
        let times = rows.column_by_name("timestamp").unwrap().as_primitive::<TimestampMicrosecondType>();
        assert_eq!(times.values(), &[1_000, 2_000]);
        assert_eq!(rows.column_by_name("module").unwrap().as_string_view().value(1), "b");
        assert_eq!(rows.column_by_name("event").unwrap().null_count(), 2);
        assert_eq!(rows.column_by_name("kafka_partition").unwrap().as_primitive::<Int32Type>().value(0), -1);
    }

    #[test]
    fn a_value_that_does_not_fit_is_an_error() {
        let status = schema::logs().index_of("status_code").unwrap();
        let mut conform = Conform::new(Table::Logs, &[status]);
        let rows = batch(vec![
            ("status_code", Arc::new(Int64Array::from(vec![1_i64 << 40]))),
            ("timestamp", Arc::new(TimestampMillisecondArray::from(vec![1]))),
        ]);
        assert!(conform.apply(&rows).unwrap_err().contains("status_code"));
    }
}
