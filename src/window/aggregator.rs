//! Stage one: rows in, partial states out.
//!
//! An [`Aggregator`] never judges lateness and holds nothing between two calls of [`Aggregator::finish`], so a
//! transaction that is aborted costs exactly the rows read since the last commit.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use datafusion::common::Result;

use super::functions::window_starts;
use super::plan::{WindowPlan, column_of};
use super::table::GroupTable;
use crate::model::schema::timestamp_type;

/// The partial aggregation of one pipeline over the rows of one transaction.
pub struct Aggregator {
    plan: Arc<WindowPlan>,
    table: GroupTable,
}

impl Aggregator {
    /// An empty aggregation.
    pub fn new(plan: &Arc<WindowPlan>) -> Result<Self> {
        Ok(Self { plan: Arc::clone(plan), table: GroupTable::new(plan)? })
    }

    /// The plan it runs.
    pub fn plan(&self) -> &Arc<WindowPlan> {
        &self.plan
    }

    /// Adds a batch of the source's rows, with the source's columns. Rows without an event time are in no window.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut batch = batch.project(&self.plan.scan)?;
        for step in &self.plan.before {
            batch = step.apply(batch)?;
        }
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let times = cast(&column_of(&self.plan.time, &batch)?, &timestamp_type())?;
        let panes = window_starts(times.as_primitive::<TimestampMicrosecondType>(), self.plan.panes.pane);
        self.table.update(cast(&panes, &DataType::Int64)?, &batch)
    }

    /// Bytes held since the last [`Aggregator::finish`].
    pub fn size(&self) -> usize {
        self.table.size()
    }

    /// The partial states of everything pushed since the last call; `None` if no row passed the filter.
    pub fn finish(&mut self) -> Result<Option<RecordBatch>> {
        if self.table.len() == 0 {
            return Ok(None);
        }
        self.table.emit().map(Some)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringViewArray, TimestampMicrosecondArray, new_null_array};
    use arrow::datatypes::Int64Type;

    use super::*;
    use crate::model::pipeline::{Limits, Pipeline, Source};
    use crate::model::schema;

    const SQL: &str =
        "SELECT tumble(timestamp, INTERVAL '1 second') AS window_start, organisation_id, module, count(*) AS n
                       FROM logs GROUP BY 1, 2, 3";

    fn aggregator() -> Aggregator {
        let pipeline = Pipeline {
            name: "counts".into(),
            source: Source::Logs,
            sql: SQL.into(),
            sql_file: "counts.sql".into(),
            series: vec!["organisation_id".into(), "module".into()],
            lateness: 0,
            limits: Limits::default(),
            rules: vec![],
        };
        Aggregator::new(&Arc::new(WindowPlan::new(&pipeline, None).unwrap())).unwrap()
    }

    /// Logs of these modules, one a second, everything else null but where the schema forbids it.
    fn logs(modules: &[&str]) -> RecordBatch {
        let rows = modules.len();
        let schema = schema::logs();
        let columns = schema.fields().iter().map(|field| match field.name().as_str() {
            "timestamp" => {
                let times = (0..rows as i64).map(|row| row * 1_000_000);
                Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_data_type(timestamp_type())) as _
            }
            "module" => Arc::new(StringViewArray::from_iter_values(modules)) as _,
            "kafka_partition" => Arc::new(arrow::array::Int32Array::from_value(0, rows)) as _,
            "kafka_offset" => Arc::new(Int64Array::from_value(0, rows)) as _,
            _ => new_null_array(field.data_type(), rows),
        });
        RecordBatch::try_new(Arc::clone(&schema), columns.collect()).unwrap()
    }

    fn rows(partial: &RecordBatch) -> i64 {
        partial.column(partial.num_columns() - 1).as_primitive::<Int64Type>().values().iter().sum()
    }

    #[test]
    fn finish_empties_it_and_it_goes_on_with_the_same_groups() {
        let mut aggregator = aggregator();
        for _ in 0..3 {
            aggregator.push(&logs(&["a", "b", "a long name of a module"])).unwrap();
            let partial = aggregator.finish().unwrap().unwrap();
            assert_eq!((partial.num_rows(), rows(&partial)), (3, 3));
            assert!(aggregator.finish().unwrap().is_none());
        }
    }
}
