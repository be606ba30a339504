//! One pane: the partial states of its series, merged as they arrive.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::Int64Type;
use datafusion::common::Result;

use super::rows_of;
use crate::model::pipeline::Micros;
use crate::window::plan::WindowPlan;
use crate::window::table::GroupTable;

/// A pane is a table while partials arrive; `frozen` holds its state once somebody has asked for it, and then the
/// table is empty.
pub(super) struct Pane {
    plan: Arc<WindowPlan>,
    table: GroupTable,
    frozen: Option<RecordBatch>,
    /// The first partial that no snapshot contains.
    pub(super) replay_from: Option<i64>,
    /// Partials below this offset are contained (from a snapshot).
    pub(super) included_through: i64,
    /// Survived one call of [`super::OpenWindows::snapshots`]: no longer young.
    pub(super) seasoned: bool,
    /// Has rows that [`super::OpenWindows::changed`] has not shown yet.
    pub(super) changed: bool,
}

impl Pane {
    pub(super) fn new(plan: &Arc<WindowPlan>) -> Result<Self> {
        Ok(Self {
            plan: Arc::clone(plan),
            table: GroupTable::new(plan)?,
            frozen: None,
            replay_from: None,
            included_through: 0,
            seasoned: false,
            changed: false,
        })
    }

    /// A pane as a snapshot has it, which contains the partials below `through`.
    pub(super) fn restored(plan: &Arc<WindowPlan>, through: i64, state: RecordBatch) -> Result<Self> {
        let pane = Self::new(plan)?;
        Ok(Self { frozen: Some(state), included_through: through, seasoned: true, changed: true, ..pane })
    }

    /// The number of its series.
    pub(super) fn len(&self) -> usize {
        self.frozen.as_ref().map_or(self.table.len(), RecordBatch::num_rows)
    }

    /// The number of rows behind its series.
    pub(super) fn rows(&self) -> u64 {
        self.frozen.as_ref().map_or_else(|| self.table.rows(), rows_of)
    }

    /// Merges a partial that stands at `offset`; false if the pane contains it already. `series` is the limit beyond
    /// which series are folded together, at the latest when they are twice as many.
    pub(super) fn merge(&mut self, offset: i64, part: &RecordBatch, series: usize) -> Result<bool> {
        if offset < self.included_through {
            return Ok(false);
        }
        self.replay_from.get_or_insert(offset);
        self.changed = true;
        let table = self.thaw()?;
        table.merge(part, None)?;
        if table.len() > series.saturating_mul(2) {
            table.fold(series)?;
        }
        Ok(true)
    }

    /// The pane's state as a batch, with `series` series at most and the overflow series.
    pub(super) fn freeze(&mut self, series: usize) -> Result<&RecordBatch> {
        let state = match self.frozen.take() {
            Some(state) => state,
            None => {
                self.table.fold(series)?;
                self.table.emit()?
            }
        };
        Ok(self.frozen.insert(state))
    }

    /// The pane's state as a table; the pane is empty after that.
    pub(super) fn take(&mut self) -> Result<GroupTable> {
        self.thaw()?;
        Ok(std::mem::replace(&mut self.table, GroupTable::new(&self.plan)?))
    }

    /// The pane's state as a table to merge into.
    fn thaw(&mut self) -> Result<&mut GroupTable> {
        if let Some(state) = self.frozen.take() {
            self.table.merge(&state, None)?;
        }
        Ok(&mut self.table)
    }
}

/// A partial's rows, pane by pane.
pub(super) fn split_by_pane(partial: &RecordBatch) -> Result<Vec<(Micros, RecordBatch)>> {
    let panes = partial.column(0).as_primitive::<Int64Type>().values();
    let Some(first) = panes.first() else { return Ok(Vec::new()) };
    if panes.iter().all(|pane| pane == first) {
        return Ok(vec![(*first, partial.clone())]);
    }
    // A stable sort keeps the order of the series, on which it depends who is folded into the overflow series.
    let mut rows = (0..panes.len()).collect::<Vec<_>>();
    rows.sort_by_key(|row| panes[*row]);
    let sorted = take_record_batch(partial, &UInt32Array::from_iter_values(rows.iter().map(|row| *row as u32)))?;
    let runs = rows.chunk_by(|one, next| panes[*one] == panes[*next]);
    let part = |(from, run): (usize, &[usize])| (panes[run[0]], sorted.slice(from, run.len()));
    let starts = runs.clone().scan(0, |next, run| Some(std::mem::replace(next, *next + run.len())));
    Ok(starts.zip(runs).map(part).collect())
}
