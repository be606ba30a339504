//! A pipeline's SQL, taken apart into the pieces that a stream can run.
//!
//! DataFusion plans the statement; what stands below its one aggregate runs on every batch (`before`), the aggregate
//! itself becomes keys and accumulators, and what stands above runs when a window closes (`after`). A statement that
//! cannot be windowed with bounded state is refused with the reason and the position.
//! `plan` runs once per pipeline; it never sees a row.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::Result;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::Column;
use thiserror::Error;

use crate::model::pipeline::{Evaluate, Micros, Pipeline, Source, Technique};
use crate::model::schema;
use crate::model::series::{Label, OVERFLOW_LABEL, Series, stable_id};

mod lower;
mod refuse;

/// Changes whenever the meaning or layout of partial state changes, so that an older state is never misread.
const STATE_FORMAT: u32 = 1;

/// It stands in the state of every series; two statements of one pipeline that differ must not agree by chance.
const MEASURE_VERSION_DIGITS: usize = 12;

/// The column of a partial that names its pane, as microseconds.
pub const PANE_COLUMN: &str = "__pane";
/// The column of a partial that counts the rows behind each group.
pub const ROWS_COLUMN: &str = "__rows";

/// A statement that is not a usable pipeline.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{file}{}: {reason}", position.map(|(line, column)| format!(":{line}:{column}")).unwrap_or_default())]
pub struct PlanError {
    pub file: String,
    /// Line and column, from 1, where they are known.
    pub position: Option<(u64, u64)>,
    pub reason: String,
}

/// The windows of a statement: of length `size`, one starting every `slide`, made of panes of length `pane`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panes {
    pub size: Micros,
    /// Equal to `size` for tumbling windows.
    pub slide: Micros,
    /// The greatest common divisor of the two, so that each window is a whole number of panes.
    pub pane: Micros,
}

impl Panes {
    pub(super) fn new(size: Micros, slide: Micros) -> Self {
        let (mut a, mut b) = (size, slide);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        Self { size, slide, pane: a }
    }
}

/// One step below or above the aggregate.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Filter(Arc<dyn PhysicalExpr>),
    Project(Vec<Arc<dyn PhysicalExpr>>, SchemaRef),
}

impl Step {
    pub(super) fn apply(&self, batch: RecordBatch) -> Result<RecordBatch> {
        match self {
            Step::Filter(predicate) => {
                let keep = column_of(predicate, &batch)?;
                let keep = keep.as_boolean();
                if keep.null_count() == 0 && keep.true_count() == batch.num_rows() {
                    return Ok(batch);
                }
                Ok(filter_record_batch(&batch, keep)?)
            }
            Step::Project(expressions, schema) => {
                let rows = batch.num_rows();
                let columns = expressions.iter().map(|expr| column_of(expr, &batch));
                let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(rows));
                let columns = columns.collect::<Result<Vec<_>>>()?;
                Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
            }
        }
    }

    /// The input column that an output column is an unchanged copy of.
    fn origin(&self, output: usize) -> Option<usize> {
        match self {
            Step::Filter(_) => Some(output),
            Step::Project(expressions, _) => expressions.get(output)?.downcast_ref::<Column>().map(Column::index),
        }
    }
}

/// An expression's value for each row of a batch, constants spread out.
pub(super) fn column_of(expr: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Result<ArrayRef> {
    expr.evaluate(batch)?.into_array(batch.num_rows())
}

/// One aggregate call with what it reads.
#[derive(Clone, Debug)]
pub(super) struct Aggregation {
    pub(super) expr: Arc<AggregateFunctionExpr>,
    pub(super) arguments: Vec<Arc<dyn PhysicalExpr>>,
    pub(super) filter: Option<Arc<dyn PhysicalExpr>>,
}

/// A pipeline's statement, ready to run. Shared by both stages, by backfill and by tests.
#[derive(Debug)]
pub struct WindowPlan {
    /// The pipeline's name.
    pub pipeline: String,
    /// Identifies statement, windows and state layout: partials of another version are never merged.
    pub version: String,
    pub panes: Panes,
    /// Columns of the source that the statement uses.
    pub(super) scan: Vec<usize>,
    pub(super) before: Vec<Step>,
    pub(super) time: Arc<dyn PhysicalExpr>,
    /// The group columns but the window, in the order of `series`.
    pub(super) keys: Vec<Arc<dyn PhysicalExpr>>,
    pub(super) aggregations: Vec<Aggregation>,
    /// The types of `keys` as the rows have them.
    pub(super) key_types: Vec<DataType>,
    /// For each group column of the aggregate: its place in `keys`, or `None` for the window.
    pub(super) groups: Vec<Option<usize>>,
    /// The aggregate's own output: groups, then aggregates.
    pub(super) aggregate_schema: SchemaRef,
    pub(super) after: Vec<Step>,
    output: SchemaRef,
    partial: SchemaRef,
    /// Name and place in the output of each series column.
    pub(super) series: Vec<(String, usize)>,
    pub(super) window_start: usize,
    /// For each column of the output what it measures, as a short hash.
    measures: BTreeMap<String, String>,
}

impl WindowPlan {
    /// Plans a pipeline over the rows of its source. For [`Source::Windows`] that is the output of the pipeline it
    /// reads, given as `upstream`.
    pub fn new(pipeline: &Pipeline, upstream: Option<&WindowPlan>) -> Result<Self, PlanError> {
        let (table, source, time_column) = match &pipeline.source {
            Source::Logs => ("logs", schema::logs(), "timestamp"),
            Source::Metrics => ("metrics", schema::metrics(), "timestamp"),
            Source::Windows(name) => {
                let upstream =
                    upstream.ok_or_else(|| refuse::whole(pipeline, format!("there is no pipeline `{name}`")))?;
                (name.as_str(), upstream.output_schema(), "window_start")
            }
        };
        let lowered = lower::lower(pipeline, table, source, time_column)?;
        let plan = Self::assemble(pipeline, lowered)?;
        plan.check_rules(pipeline)?;
        Ok(plan)
    }

    fn assemble(pipeline: &Pipeline, lowered: lower::Lowered) -> Result<Self, PlanError> {
        let places = series_places(pipeline, &lowered)?;
        let window_slot = lowered.window_slot;
        let window_start = lowered
            .output
            .fields()
            .iter()
            .enumerate()
            .find(|(index, field)| field.name() == "window_start" && trace(&lowered.after, *index) == Some(window_slot))
            .map(|(index, _)| index)
            .ok_or_else(|| refuse::whole(pipeline, "the select list needs the window as `window_start`".to_owned()))?;
        let groups = (0..lowered.group_exprs.len())
            .map(|slot| places.iter().position(|(group, _)| *group == slot))
            .collect::<Vec<_>>();
        let keys = places.iter().map(|(group, _)| Arc::clone(&lowered.group_exprs[*group])).collect::<Vec<_>>();
        let key_types =
            places.iter().map(|(group, _)| lowered.aggregate_schema.field(*group).data_type().clone()).collect();
        let partial =
            partial_schema(&lowered, &places).map_err(|error| refuse::whole(pipeline, refuse::sentence(&error)))?;
        let series = pipeline.series.iter().cloned().zip(places.iter().map(|(_, output)| *output)).collect();
        let layout = format!("{partial:?}");
        let version = stable_id(&[
            &STATE_FORMAT.to_be_bytes(),
            pipeline.name.as_bytes(),
            lowered.display.as_bytes(),
            layout.as_bytes(),
            &lowered.panes.size.to_be_bytes(),
            &lowered.panes.slide.to_be_bytes(),
        ]);
        Ok(Self {
            pipeline: pipeline.name.clone(),
            version,
            panes: lowered.panes,
            scan: lowered.scan,
            before: lowered.before,
            time: lowered.time,
            keys,
            key_types,
            aggregations: lowered.aggregations,
            groups,
            aggregate_schema: lowered.aggregate_schema,
            after: lowered.after,
            output: lowered.output,
            partial,
            series,
            window_start,
            measures: measure_versions(pipeline, lowered.measures, lowered.panes),
        })
    }

    /// The columns of a closed window's row, as the statement names them.
    pub fn output_schema(&self) -> SchemaRef {
        Arc::clone(&self.output)
    }

    /// The columns of the source that the statement uses, as places in its schema.
    pub fn reads(&self) -> &[usize] {
        &self.scan
    }

    /// The columns of a partial: pane, keys in the order of `series`, the aggregates' states, rows.
    pub fn partial_schema(&self) -> SchemaRef {
        Arc::clone(&self.partial)
    }

    /// The series that holds all others once a window has more than the pipeline's limit.
    pub fn overflow(&self) -> Series {
        let label = |data_type| if is_text(data_type) { Label::Text(OVERFLOW_LABEL.to_owned()) } else { Label::Null };
        let labels = self.series.iter().zip(&self.key_types);
        Series(labels.map(|((name, _), data_type)| (name.clone(), label(data_type))).collect())
    }

    /// True if the series has the labels that this plan gives.
    pub fn names(&self, series: &Series) -> bool {
        self.series.iter().map(|(name, _)| name).eq(series.0.iter().map(|(name, _)| name))
    }

    /// Identifies what a column of the output measures: as long as it stays the same, so does what was learnt of it.
    pub fn measure_version(&self, column: &str) -> &str {
        self.measures.get(column).map_or("", String::as_str)
    }

    fn check_rules(&self, pipeline: &Pipeline) -> Result<(), PlanError> {
        for rule in &pipeline.rules {
            if rule.evaluate == Evaluate::Continuous && self.panes.size != self.panes.slide {
                let reason =
                    format!("rule `{}` is continuous, which only a tumbling window can be; use tumble", rule.name);
                return Err(refuse::at_word(pipeline, "hop", reason));
            }
            if rule.technique == Technique::NewFingerprint && self.output.column_with_name(&rule.measure).is_none() {
                continue;
            }
            for column in std::iter::once(&rule.measure).chain(&rule.samples) {
                match self.output.column_with_name(column) {
                    Some((_, field)) if field.data_type().is_numeric() => {}
                    Some((_, field)) => {
                        let reason = format!(
                            "rule `{}` needs a number in `{column}`, which is {}",
                            rule.name,
                            field.data_type()
                        );
                        return Err(refuse::whole(pipeline, reason));
                    }
                    None => {
                        let names = self.output.fields().iter().map(|field| format!("`{}`", field.name()));
                        let names = names.collect::<Vec<_>>().join(", ");
                        let reason = format!("rule `{}` needs the column `{column}`; there are {names}", rule.name);
                        return Err(refuse::whole(pipeline, reason));
                    }
                }
            }
        }
        Ok(())
    }
}

/// What each column measures depends on its expression, the rows that reach it, and what is one series and one window.
fn measure_versions(pipeline: &Pipeline, measures: BTreeMap<String, String>, panes: Panes) -> BTreeMap<String, String> {
    let series = pipeline.series.join("\n");
    let version = |text: &str| {
        let (size, slide) = (panes.size.to_be_bytes(), panes.slide.to_be_bytes());
        stable_id(&[text.as_bytes(), series.as_bytes(), &size, &slide])[..MEASURE_VERSION_DIGITS].to_owned()
    };
    measures.into_iter().map(|(column, text)| (column, version(&text))).collect()
}

/// For each series column: its group expression and its place in the output.
fn series_places(pipeline: &Pipeline, lowered: &lower::Lowered) -> Result<Vec<(usize, usize)>, PlanError> {
    let mut places = Vec::with_capacity(pipeline.series.len());
    for name in &pipeline.series {
        let (output, field) = lowered.output.column_with_name(name).ok_or_else(|| {
            refuse::at_word(pipeline, "select", format!("`series` names `{name}`, which the statement does not select"))
        })?;
        let group = trace(&lowered.after, output)
            .filter(|group| *group < lowered.group_exprs.len() && *group != lowered.window_slot)
            .ok_or_else(|| {
                refuse::at_word(
                    pipeline,
                    name,
                    format!("the series column `{name}` must be a group column, selected as it is"),
                )
            })?;
        let data_type = field.data_type();
        if !is_text(data_type) && *data_type != DataType::Boolean && !data_type.is_integer() {
            let reason = format!(
                "the series column `{name}` is {}; a series is named by text, integers or booleans",
                field.data_type()
            );
            return Err(refuse::at_word(pipeline, name, reason));
        }
        places.push((group, output));
    }
    for (slot, name) in lowered.group_names.iter().enumerate() {
        if slot != lowered.window_slot && !places.iter().any(|(group, _)| *group == slot) {
            let reason = format!(
                "the statement groups by `{name}`, which `series` does not name: a series has one row in a window"
            );
            return Err(refuse::at_word(pipeline, name, reason));
        }
    }
    Ok(places)
}

/// The aggregate's output column that an output column is an unchanged copy of.
fn trace(after: &[Step], output: usize) -> Option<usize> {
    after.iter().rev().try_fold(output, |column, step| step.origin(column))
}

fn partial_schema(lowered: &lower::Lowered, places: &[(usize, usize)]) -> Result<SchemaRef> {
    let mut fields = vec![Field::new(PANE_COLUMN, DataType::Int64, false)];
    for (index, (group, _)) in places.iter().enumerate() {
        let data_type = stored_type(lowered.aggregate_schema.field(*group).data_type());
        fields.push(Field::new(format!("key{index}"), data_type, true));
    }
    for (index, aggregation) in lowered.aggregations.iter().enumerate() {
        for (part, state) in aggregation.expr.state_fields()?.iter().enumerate() {
            fields.push(Field::new(format!("state{index}_{part}"), stored_type(state.data_type()), true));
        }
    }
    fields.push(Field::new(ROWS_COLUMN, DataType::Int64, false));
    Ok(Arc::new(Schema::new(fields)))
}

pub(super) fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8)
}

/// How a value travels: a view drags its whole buffer along when a few rows of a batch are sent, a plain array does not.
fn stored_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        other => other.clone(),
    }
}
