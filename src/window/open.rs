//! Stage two: partial states in, closed windows out.
//!
//! [`OpenWindows`] keeps one partial state per pane and series and nothing else. A tumbling window is one pane; a hopping
//! window is merged from panes when it closes, over a tree of powers of two whose inner nodes are kept, so that the
//! work of a close grows with the logarithm of size / slide. A pane lives while any window that contains it is open.
//!
//! ```text
//!   partial ──▶ pane ──(watermark passes the window's end + lateness)──▶ closed window, once
//!     └── every window that contains the pane is closed ──▶ late: counted, never merged
//! ```
//!
//! It never reads a clock; merging in offset order makes floating-point sums repeat.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use datafusion::common::Result;

use super::functions::window_start;
use super::plan::{Panes, WindowPlan};
use super::table::{GroupTable, conform};
use crate::model::pipeline::{Limits, Micros};
use pane::{Pane, split_by_pane};

mod pane;

/// Windows without a row are reported one by one, so that rules see missing data, but after a gap longer than this many
/// slides only the last ones are: a year of silence must not be replayed minute by minute.
const EMPTY_WINDOWS_MAX: i64 = 1_440;

/// Besides the panes of one window at their limit, so many more panes' worth of series may be held: stragglers and panes
/// that wait for lateness.
const SPARE_PANES: usize = 10;

/// A window's rows, as the statement selects them.
#[derive(Clone, Debug)]
pub struct WindowRows {
    pub start: Micros,
    pub end: Micros,
    /// No rows: nothing happened, or nothing arrived.
    pub rows: RecordBatch,
    /// There were more series than the limit: one of the rows is [`WindowPlan::overflow`], and holds all others.
    pub has_overflow: bool,
}

/// Rows that came after a window closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LateRows {
    /// The start of the pane they belong to.
    pub pane: Micros,
    pub rows: u64,
}

/// A pane written down, so that a restart need not read its partials again.
#[derive(Clone, Debug)]
pub struct PaneSnapshot {
    pub start: Micros,
    /// Partials below this offset are contained.
    pub through: i64,
    pub state: RecordBatch,
}

/// The open windows of one pipeline in one partition of the partials.
pub struct OpenWindows {
    plan: Arc<WindowPlan>,
    lateness: Micros,
    limits: Limits,
    panes: BTreeMap<Micros, Pane>,
    /// Merged states of 2^level neighbouring panes: `(level, index)`, index in units of 2^level panes.
    nodes: BTreeMap<(u32, i64), RecordBatch>,
    /// Every window that ends here or before is closed.
    closed_through: Option<Micros>,
    /// Rows of panes before this are part of a history that was handed over.
    history_until: Option<Micros>,
}

impl OpenWindows {
    /// No window open yet; `closed_through` is what [`OpenWindows::closed_through`] said before a restart.
    pub fn new(plan: &Arc<WindowPlan>, lateness: Micros, closed_through: Option<Micros>) -> Self {
        let (plan, limits) = (Arc::clone(plan), Limits::default());
        let (panes, nodes) = (BTreeMap::new(), BTreeMap::new());
        Self { plan, lateness, limits, panes, nodes, closed_through, history_until: None }
    }

    /// Going on from a history that is whole up to this moment: whatever comes of a time before it is late.
    pub fn after_history(self, history_until: Option<Micros>) -> Self {
        Self { history_until, ..self }
    }

    /// With these limits instead of the default ones.
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Every window that ends here or before is closed.
    pub fn closed_through(&self) -> Option<Micros> {
        self.closed_through
    }

    /// The number of panes held, and the start of the oldest.
    pub fn open(&self) -> (usize, Option<Micros>) {
        (self.panes.len(), self.panes.keys().next().copied())
    }

    /// The series held, once for each pane that they are in.
    pub fn series(&self) -> usize {
        self.panes.values().map(Pane::len).sum()
    }

    /// The watermark that would close the oldest window, if more is open than the limits allow.
    pub fn overdue(&self) -> Option<Micros> {
        let Panes { size, pane, .. } = self.plan.panes;
        // A window is at most as many panes as memory can name.
        let panes_of_a_window = usize::try_from(size / pane).unwrap_or(usize::MAX);
        let panes_max = self.limits.open_windows.saturating_add(panes_of_a_window);
        let series_max = self.limits.series.saturating_mul(panes_of_a_window.saturating_add(SPARE_PANES));
        let is_over = self.panes.len() > panes_max || (self.panes.len() > 1 && self.series() > series_max);
        self.next_end().filter(|_| is_over).map(|end| end.saturating_add(self.lateness))
    }

    /// Closes everything that contains a moment up to `latest`, unseen: what came before this state began is not known.
    /// Returns the rows that are given up.
    pub fn skip_through(&mut self, latest: Micros) -> u64 {
        let Panes { size, slide, .. } = self.plan.panes;
        let closed = window_start(latest, slide).saturating_add(size);
        let before = self.panes.values().map(Pane::rows).sum::<u64>();
        self.closed_through = self.closed_through.max(Some(closed));
        self.drop_closed(closed);
        before - self.panes.values().map(Pane::rows).sum::<u64>()
    }

    /// True while a pane is held.
    pub fn holds(&self, pane: Micros) -> bool {
        self.panes.contains_key(&pane)
    }

    /// The offset from which partials must be read again after a restart, if any must.
    pub fn replay_from(&self) -> Option<i64> {
        self.panes.values().filter_map(|pane| pane.replay_from).min()
    }

    /// Merges a partial that stands at `offset`. Returns the rows that were too late for at least one window.
    pub fn merge(&mut self, offset: i64, partial: &RecordBatch) -> Result<Vec<LateRows>> {
        let mut late = Vec::new();
        for (start, part) in split_by_pane(partial)? {
            let rows = rows_of(&part);
            let (first_end, last_end) = ends_around(self.plan.panes, start);
            let is_history = self.history_until.is_some_and(|until| start < until);
            if is_history || self.closed_through.is_some_and(|closed| first_end <= closed) {
                late.push(LateRows { pane: start, rows });
            }
            if !is_history && self.closed_through.is_none_or(|closed| last_end > closed) {
                self.merge_pane(start, offset, &part)?;
            }
        }
        Ok(late)
    }

    /// Puts a written pane back; partials that it contains are skipped when they are read again.
    pub fn restore(&mut self, snapshot: PaneSnapshot) -> Result<()> {
        self.panes.insert(snapshot.start, Pane::restored(&self.plan, snapshot.through, snapshot.state)?);
        Ok(())
    }

    /// Closes the next window whose end plus lateness the watermark has reached; `None` when there is none.
    pub fn close_next(&mut self, watermark: Micros) -> Result<Option<WindowRows>> {
        let Panes { size, slide, .. } = self.plan.panes;
        let last = window_start(watermark.saturating_sub(self.lateness).saturating_sub(size), slide);
        let Some(start) = self.next_start(last) else {
            self.closed_through = self.closed_through.max(Some(last.saturating_add(size)));
            return Ok(None);
        };
        let end = start + size;
        let (rows, has_overflow) = self.rows_of_window(start)?;
        self.closed_through = Some(end);
        self.drop_closed(end);
        Ok(Some(WindowRows { start, end, rows, has_overflow }))
    }

    /// The open tumbling windows with rows that the last call did not see, as they stand.
    pub fn changed(&mut self) -> Result<Vec<WindowRows>> {
        let starts = self.panes.iter().filter(|(_, pane)| pane.changed).map(|(start, _)| *start).collect::<Vec<_>>();
        let mut windows = Vec::with_capacity(starts.len());
        for start in starts {
            let Some(pane) = self.panes.get_mut(&start) else { continue };
            pane.changed = false;
            let mut table = GroupTable::new(&self.plan)?;
            table.merge(pane.freeze(self.limits.series)?, None)?;
            let has_overflow = table.fold(self.limits.series)?;
            let rows = self.finish(start, &mut table)?;
            windows.push(WindowRows { start, end: start + self.plan.panes.size, rows, has_overflow });
        }
        Ok(windows)
    }

    /// The panes worth writing down, given that partials below `through` are merged: those with partials that no
    /// snapshot contains and that were already open at the call before.
    pub fn snapshots(&mut self, through: i64) -> Result<Vec<PaneSnapshot>> {
        let mut snapshots = Vec::new();
        for (start, pane) in &mut self.panes {
            if pane.seasoned && pane.replay_from.is_some() {
                pane.replay_from = None;
                pane.included_through = through;
                snapshots.push(PaneSnapshot {
                    start: *start,
                    through,
                    state: pane.freeze(self.limits.series)?.clone(),
                });
            }
            pane.seasoned = true;
        }
        Ok(snapshots)
    }

    fn merge_pane(&mut self, start: Micros, offset: i64, part: &RecordBatch) -> Result<()> {
        let pane = match self.panes.entry(start) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Pane::new(&self.plan)?),
        };
        if !pane.merge(offset, part, self.limits.series)? {
            return Ok(());
        }
        let index = start.div_euclid(self.plan.panes.pane);
        for level in 1..=levels(self.plan.panes) {
            self.nodes.remove(&(level, index >> level));
        }
        Ok(())
    }

    /// The end of the first window with rows that is still open.
    fn next_end(&self) -> Option<Micros> {
        let Panes { slide, .. } = self.plan.panes;
        let first = self.panes.keys().next().map(|pane| ends_around(self.plan.panes, *pane).0)?;
        Some(self.closed_through.map_or(first, |closed| first.max(closed.saturating_add(slide))))
    }

    /// The start of the next window to close, not after `last`.
    fn next_start(&self, last: Micros) -> Option<Micros> {
        let Panes { size, slide, .. } = self.plan.panes;
        let first_with_rows = self.panes.keys().next().map(|pane| ends_around(self.plan.panes, *pane).0 - size);
        let next = match self.closed_through {
            Some(closed) => closed.saturating_sub(size).saturating_add(slide),
            None => first_with_rows?,
        };
        let skip_to = last.saturating_sub(EMPTY_WINDOWS_MAX.saturating_mul(slide));
        let next = next.max(first_with_rows.map_or(skip_to, |first| first.min(skip_to)));
        (next <= last).then_some(next)
    }

    /// A window's rows, and whether one of them is the overflow series.
    fn rows_of_window(&mut self, start: Micros) -> Result<(RecordBatch, bool)> {
        let Panes { size, slide, pane } = self.plan.panes;
        let mut table = GroupTable::new(&self.plan)?;
        if size == slide {
            if let Some(mut pane) = self.panes.remove(&start) {
                table = pane.take()?;
            }
        } else {
            for (level, index) in cover(start.div_euclid(pane), size / pane) {
                if let Some(state) = self.node(level, index)? {
                    table.merge(&state, Some(start))?;
                }
            }
        }
        let has_overflow = table.fold(self.limits.series)?;
        Ok((self.finish(start, &mut table)?, has_overflow))
    }

    /// The merged state of 2^level panes; `None` if none of them has rows.
    fn node(&mut self, level: u32, index: i64) -> Result<Option<RecordBatch>> {
        if level == 0 {
            let pane = self.panes.get_mut(&(index * self.plan.panes.pane));
            return pane.map(|pane| pane.freeze(self.limits.series).cloned()).transpose();
        }
        if let Some(state) = self.nodes.get(&(level, index)) {
            return Ok(Some(state.clone()));
        }
        let state = match (self.node(level - 1, index * 2)?, self.node(level - 1, index * 2 + 1)?) {
            (Some(left), Some(right)) => {
                let mut table = GroupTable::new(&self.plan)?;
                table.merge(&left, Some(index))?;
                table.merge(&right, Some(index))?;
                table.fold(self.limits.series)?;
                table.emit()?
            }
            (Some(only), None) | (None, Some(only)) => only,
            (None, None) => return Ok(None),
        };
        self.nodes.insert((level, index), state.clone());
        Ok(Some(state))
    }

    /// Results of a table, run through what stands above the aggregate.
    fn finish(&self, start: Micros, table: &mut GroupTable) -> Result<RecordBatch> {
        if table.len() == 0 {
            return Ok(RecordBatch::new_empty(self.plan.output_schema()));
        }
        let (keys, results) = table.finish()?;
        let window: ArrayRef = Arc::new(Int64Array::from_value(start, keys[0].len()));
        let groups = self.plan.groups.iter().map(|key| match key {
            Some(key) => Arc::clone(&keys[1 + key]),
            None => Arc::clone(&window),
        });
        let mut batch = conform(&self.plan.aggregate_schema, groups.chain(results).collect())?;
        for step in &self.plan.after {
            batch = step.apply(batch)?;
        }
        Ok(batch)
    }

    /// Forgets panes and nodes that no open window contains.
    fn drop_closed(&mut self, closed: Micros) {
        let panes = self.plan.panes;
        self.panes.retain(|start, _| ends_around(panes, *start).1 > closed);
        let oldest = closed.saturating_sub(panes.size).saturating_add(panes.slide).div_euclid(panes.pane);
        self.nodes.retain(|(level, index), _| (index + 1) << level > oldest);
    }
}

/// The ends of the first and of the last window that contain the pane.
fn ends_around(panes: Panes, pane: Micros) -> (Micros, Micros) {
    let last_start = window_start(pane, panes.slide);
    let steps = (panes.size - (pane - last_start) - panes.pane) / panes.slide;
    (last_start - steps * panes.slide + panes.size, last_start + panes.size)
}

/// The levels of the tree above the panes that a window can use.
fn levels(panes: Panes) -> u32 {
    (panes.size / panes.pane).ilog2()
}

/// The fewest aligned nodes that cover `count` panes from `first` on, in order.
fn cover(first: i64, count: i64) -> Vec<(u32, i64)> {
    let (mut next, end) = (first, first + count);
    let mut nodes = Vec::new();
    while next < end {
        let mut level = next.trailing_zeros().min(62);
        while next + (1_i64 << level) > end {
            level -= 1;
        }
        nodes.push((level, next >> level));
        next += 1 << level;
    }
    nodes
}

fn rows_of(partial: &RecordBatch) -> u64 {
    let rows = partial.column(partial.num_columns() - 1).as_primitive::<Int64Type>();
    rows.values().iter().map(|rows| u64::try_from(*rows).unwrap_or(0)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tumbling_pane_is_in_one_window() {
        assert_eq!(ends_around(Panes::new(60, 60), 120), (180, 180));
    }

    #[test]
    fn a_hopping_pane_is_in_size_over_slide_windows() {
        assert_eq!(ends_around(Panes::new(600, 60), 600), (660, 1_200));
        // Windows of 100 every 40: panes of 20. The pane at 60 is in those that start at 0 and 40.
        assert_eq!(ends_around(Panes::new(100, 40), 60), (100, 140));
        assert_eq!(ends_around(Panes::new(100, 40), 80), (100, 180));
    }

    #[test]
    fn a_cover_is_exact_and_logarithmic() {
        for first in -20..20 {
            for count in 1..400 {
                let nodes = cover(first, count);
                let panes = nodes.iter().flat_map(|(level, index)| (index << level)..((index + 1) << level));
                assert_eq!(panes.collect::<Vec<_>>(), (first..first + count).collect::<Vec<_>>());
                assert!(nodes.len() <= 2 * 9, "{first} {count}: {nodes:?}");
            }
        }
    }
}
