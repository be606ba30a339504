//! Groups and their accumulators: one hash table that takes rows or partial states and gives states or results.
//!
//! This is DataFusion's own inner loop (`GroupValues` and `GroupsAccumulator`), driven without a plan, so that one
//! table can live across batches. `table` knows neither windows nor time: the pane is a key like any other.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::GroupsAccumulatorAdapter;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;

use super::plan::{PANE_COLUMN, WindowPlan, column_of, is_text};
use crate::model::series::OVERFLOW_LABEL;

/// The groups of one aggregation. Keys are the pane and the series columns.
pub(super) struct GroupTable {
    plan: Arc<WindowPlan>,
    keys: Box<dyn GroupValues>,
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
    rows: Vec<i64>,
    /// The group of each row of the batch at hand; kept to save the allocation.
    groups: Vec<usize>,
}

impl GroupTable {
    pub(super) fn new(plan: &Arc<WindowPlan>) -> Result<Self> {
        let accumulators = plan.aggregations.iter().map(|aggregation| accumulator(&aggregation.expr));
        Ok(Self {
            keys: new_group_values(key_schema(plan), &GroupOrdering::None)?,
            accumulators: accumulators.collect::<Result<_>>()?,
            plan: Arc::clone(plan),
            rows: Vec::new(),
            groups: Vec::new(),
        })
    }

    /// The number of groups.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The number of rows behind the groups.
    pub(super) fn rows(&self) -> u64 {
        self.rows.iter().map(|rows| u64::try_from(*rows).unwrap_or(0)).sum()
    }

    /// Bytes held by keys and states.
    pub(super) fn size(&self) -> usize {
        let states = self.accumulators.iter().map(|accumulator| accumulator.size()).sum::<usize>();
        self.keys.size() + states + self.rows.capacity() * size_of::<i64>()
    }

    /// Adds raw rows, after the steps below the aggregate.
    pub(super) fn update(&mut self, panes: ArrayRef, batch: &RecordBatch) -> Result<()> {
        let mut keys = vec![panes];
        for key in &self.plan.keys {
            keys.push(column_of(key, batch)?);
        }
        self.intern(&keys)?;
        for group in &self.groups {
            self.rows[*group] += 1;
        }
        for (aggregation, accumulator) in self.plan.aggregations.iter().zip(&mut self.accumulators) {
            let arguments = aggregation.arguments.iter().map(|expr| column_of(expr, batch));
            let arguments = arguments.collect::<Result<Vec<_>>>()?;
            let filter = aggregation.filter.as_ref().map(|expr| column_of(expr, batch)).transpose()?;
            let filter = filter.as_ref().map(|filter| filter.as_boolean());
            accumulator.update_batch(&arguments, &self.groups, filter, self.rows.len())?;
        }
        Ok(())
    }

    /// Merges partial states: a batch of [`WindowPlan::partial_schema`], its pane column replaced by `pane` if given.
    pub(super) fn merge(&mut self, partial: &RecordBatch, pane: Option<i64>) -> Result<()> {
        let columns = partial.columns();
        let key_count = 1 + self.plan.keys.len();
        let mut keys = match pane {
            Some(pane) => vec![Arc::new(Int64Array::from_value(pane, partial.num_rows())) as ArrayRef],
            None => vec![Arc::clone(&columns[0])],
        };
        for (column, data_type) in columns[1..key_count].iter().zip(&self.plan.key_types) {
            keys.push(cast(column, data_type)?);
        }
        self.intern(&keys)?;
        let rows = columns[columns.len() - 1].as_primitive::<Int64Type>();
        for (group, rows) in self.groups.iter().zip(rows.values()) {
            self.rows[*group] = self.rows[*group].saturating_add(*rows);
        }
        let mut states = &columns[key_count..columns.len() - 1];
        for (aggregation, accumulator) in self.plan.aggregations.iter().zip(&mut self.accumulators) {
            let fields = aggregation.expr.state_fields()?;
            let (state, rest) = states.split_at(fields.len());
            let state = state.iter().zip(&fields).map(|(column, field)| cast(column, field.data_type()));
            accumulator.merge_batch(&state.collect::<Result<Vec<_>, _>>()?, &self.groups, self.rows.len())?;
            states = rest;
        }
        Ok(())
    }

    /// Takes everything out as partial states, leaving the table empty.
    pub(super) fn emit(&mut self) -> Result<RecordBatch> {
        let mut columns = self.take_keys()?;
        for accumulator in &mut self.accumulators {
            columns.extend(accumulator.state(EmitTo::All)?);
        }
        columns.push(Arc::new(Int64Array::from(std::mem::take(&mut self.rows))));
        conform(&self.plan.partial_schema(), columns)
    }

    /// Keeps the first `most` groups and makes one of all others, the overflow series, which comes last. True if there
    /// were others. The groups must be of one pane. Who came first stays, so a flood of new series cannot displace known ones,
    /// and the result does not depend on when this is called.
    pub(super) fn fold(&mut self, most: usize) -> Result<bool> {
        if self.len() <= most {
            return Ok(false);
        }
        let states = self.emit()?;
        let (kept, others) = (states.slice(0, most), states.slice(most, states.num_rows() - most));
        let mut columns = others.columns().to_vec();
        for (index, data_type) in self.plan.key_types.iter().enumerate() {
            columns[1 + index] =
                overflow_keys(data_type, others.schema().field(1 + index).data_type(), others.num_rows())?;
        }
        self.merge(&kept, None)?;
        self.merge(&RecordBatch::try_new(others.schema(), columns)?, None)?;
        Ok(true)
    }

    /// Takes everything out as final results: the key columns (pane first) and one column per aggregate.
    pub(super) fn finish(&mut self) -> Result<(Vec<ArrayRef>, Vec<ArrayRef>)> {
        self.rows.clear();
        let keys = self.take_keys()?;
        let results = self.accumulators.iter_mut().map(|accumulator| accumulator.evaluate(EmitTo::All));
        Ok((keys, results.collect::<Result<_>>()?))
    }

    /// `emit` leaves the hash table pointing at groups that are gone: looking one up would read freed memory.
    fn take_keys(&mut self) -> Result<Vec<ArrayRef>> {
        let keys = self.keys.emit(EmitTo::All)?;
        self.keys.clear_shrink(0);
        Ok(keys)
    }

    fn intern(&mut self, keys: &[ArrayRef]) -> Result<()> {
        self.keys.intern(keys, &mut self.groups)?;
        self.rows.resize(self.keys.len(), 0);
        Ok(())
    }
}

/// Gives the columns the types that the schema promises; an accumulator may choose a sibling, such as Utf8 for Utf8View.
pub(super) fn conform(schema: &SchemaRef, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    if columns.len() != schema.fields().len() {
        return Err(exec_datafusion_err!(
            "{} columns of state where {} were planned",
            columns.len(),
            schema.fields().len()
        ));
    }
    let columns = columns.into_iter().zip(schema.fields()).map(|(column, field)| cast(&column, field.data_type()));
    Ok(RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_, _>>()?)?)
}

/// A key column of the overflow series: [`OVERFLOW_LABEL`] where it is text, else null.
fn overflow_keys(data_type: &DataType, stored: &DataType, rows: usize) -> Result<ArrayRef> {
    if !is_text(data_type) {
        return Ok(new_null_array(stored, rows));
    }
    let labels: ArrayRef = Arc::new(StringArray::from(vec![OVERFLOW_LABEL; rows]));
    Ok(cast(&labels, stored)?)
}

fn key_schema(plan: &WindowPlan) -> SchemaRef {
    let mut fields = vec![Field::new(PANE_COLUMN, DataType::Int64, false)];
    let keys = plan.key_types.iter().enumerate();
    fields.extend(keys.map(|(index, data_type)| Field::new(format!("key{index}"), data_type.clone(), true)));
    Arc::new(Schema::new(fields))
}

fn accumulator(expr: &Arc<AggregateFunctionExpr>) -> Result<Box<dyn GroupsAccumulator>> {
    if expr.groups_accumulator_supported() {
        return expr.create_groups_accumulator();
    }
    let expr = Arc::clone(expr);
    Ok(Box::new(GroupsAccumulatorAdapter::new(move || expr.create_accumulator())))
}
