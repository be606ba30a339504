//! One partition of stage two.
//!
//! ```text
//!  definition ▶ versions of pipelines
//!  partial ───▶ open windows ──┐
//!  heartbeat ─▶ clocks ────────┴─▶ closed window ─▶ detector ─▶ detections, series state
//!  inhibition ▶ silenced series ────────────────────▶│      └─▶ inhibitions, partials of pipelines that read windows
//! ```
//!
//! A [`Shard`] is a function of its messages in their order. Everything it remembers is either in [`ShardProgress`], in
//! a series' state, in a pane's snapshot, in a definition, or in partials from [`Shard::replay_from`] on.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::DataFusionError;
use thiserror::Error;

use super::{Compiled, PipelineSet, windows_source};
use crate::detect::{SeriesState, StateError};
use crate::model::pipeline::{Micros, Source};
use crate::model::series::Series;
use crate::window::aggregator::Aggregator;
use crate::window::clock::{Heartbeat, SourceClock};
use crate::window::open::{OpenWindows, PaneSnapshot, WindowRows};
use crate::window::partial::{self, Message, PartialError};
use ending::Ending;
use progress::{PipelineProgress, share};
use verdicts::Verdicts;
use versions::Versions;

mod ending;
mod judge;
mod outputs;
mod progress;
mod verdicts;
mod versions;

pub use outputs::{ClosedRow, OpenDetection, Outputs, PipelineReport};
pub use progress::ShardProgress;
pub use versions::VERSIONS_MAX;

/// How long the sight of an open window waits before a rule judges it that another pipeline's rule can silence, in
/// recorded wall time: so that the wider verdict on the same records, made in another partition, comes first.
const LOOK_AFTER: Micros = 1_000_000;

/// Why a shard cannot go on.
#[derive(Debug, Error)]
pub enum ShardError {
    #[error("pipeline `{pipeline}` cannot be computed: {source}")]
    Compute { pipeline: String, source: DataFusionError },
    #[error(transparent)]
    Partial(#[from] PartialError),
    #[error("the state of a series of `{pipeline}` cannot be written: {reason}")]
    Write { pipeline: String, reason: String },
    #[error("the state of a series of `{pipeline}` cannot be used: {source}")]
    State { pipeline: String, source: StateError },
}

/// One partition of stage two, for all pipelines.
pub struct Shard {
    set: Arc<PipelineSet>,
    number: i32,
    partitions: i32,
    idle_after: Micros,
    clocks: BTreeMap<String, SourceClock>,
    /// As many as the set has pipelines, in their order.
    pipelines: Vec<PipelineShard>,
    versions: Versions,
    verdicts: Verdicts,
    /// The latest wall time that a heartbeat recorded.
    wall: Micros,
    /// Rows of partials that nobody here could read.
    unreadable_rows: u64,
    /// The input has ended.
    ending: Option<Ending>,
}

struct PipelineShard {
    windows: OpenWindows,
    series: BTreeMap<Series, SeriesState>,
    /// Series that the rules may remember something of; further ones are not watched.
    series_max: usize,
    progress: PipelineProgress,
    /// For pipelines that read windows: their stage one.
    aggregator: Option<Aggregator>,
    /// Open windows as they stood when they had changed, and the recorded wall time from which on they are looked at.
    sight: Option<(Micros, Vec<WindowRows>)>,
}

impl Shard {
    /// Partition `number` of `partitions`, as far as `progress` says. `idle_after` is how long a partition without rows
    /// holds the windows back.
    pub fn new(
        set: &Arc<PipelineSet>,
        number: i32,
        partitions: i32,
        idle_after: Micros,
        progress: ShardProgress,
    ) -> Result<Self, ShardError> {
        let mut shard = Self {
            set: Arc::clone(set),
            number,
            partitions,
            idle_after,
            clocks: BTreeMap::new(),
            pipelines: Vec::new(),
            versions: Versions::default(),
            verdicts: Verdicts::default(),
            wall: 0,
            unreadable_rows: 0,
            ending: None,
        };
        shard.resume(progress)?;
        Ok(shard)
    }

    /// The versions of pipelines that this shard computes or finishes.
    pub fn set(&self) -> &Arc<PipelineSet> {
        &self.set
    }

    /// The offset from which partials must be read again after a restart, if any must.
    pub fn replay_from(&self) -> Option<i64> {
        self.pipelines.iter().filter_map(|pipeline| pipeline.windows.replay_from()).min()
    }

    /// Puts the written state of a series back. State that this program cannot read is left out, and the series begins
    /// anew: then the answer is false. State of a newer program is an error.
    pub fn restore_series(&mut self, pipeline: &str, series: Series, state: &[u8]) -> Result<bool, ShardError> {
        let state = match SeriesState::read(state) {
            Ok(state) => state,
            Err(StateError::Unreadable(_)) => return Ok(false),
            Err(source) => return Err(ShardError::State { pipeline: pipeline.to_owned(), source }),
        };
        match self.set.place(pipeline).filter(|place| self.set.pipelines()[*place].plan.names(&series)) {
            Some(place) => drop(self.pipelines[place].series.insert(series, state)),
            None => self.versions.keep_orphan(pipeline, series, state),
        }
        Ok(true)
    }

    /// Puts a written pane of the pipeline at `place` back.
    pub fn restore_pane(&mut self, place: usize, pane: PaneSnapshot) -> Result<(), ShardError> {
        self.pipelines[place].windows.restore(pane).map_err(|source| compute(&self.set.pipelines()[place], source))
    }

    /// Reads a message again that was taken before the restart: open windows are rebuilt, nothing is evaluated.
    pub fn replay(&mut self, offset: i64, message: Message) -> Result<(), ShardError> {
        match message {
            Message::Partial { pipeline, version, bytes } => {
                if let Some((place, partial)) = self.decode(&pipeline, &version, &bytes)? {
                    self.merge(place, offset, &partial)?;
                }
                Ok(())
            }
            Message::Definition(definition) => {
                self.versions.learn(definition);
                Ok(())
            }
            Message::Heartbeats(_) | Message::Inhibition(_) => Ok(()),
        }
    }

    /// Takes the next message in.
    pub fn take(&mut self, offset: i64, message: Message) -> Result<(), ShardError> {
        match message {
            Message::Heartbeats(beats) => {
                for beat in beats {
                    self.wall = self.wall.max(beat.wall);
                    self.clocks.entry(beat.source.clone()).or_default().observe(&beat);
                }
            }
            Message::Inhibition(inhibition) => self.verdicts.take(inhibition),
            Message::Definition(definition) => self.versions.hear(definition),
            Message::Partial { pipeline, version, bytes } => match self.decode(&pipeline, &version, &bytes)? {
                Some((place, partial)) => self.take_partial(place, offset, &partial)?,
                None => self.give_up(&pipeline, &bytes),
            },
        }
        Ok(())
    }

    /// Takes the partial states of the pipeline at `place` in, which were never written down.
    pub fn take_partial(&mut self, place: usize, offset: i64, partial: &RecordBatch) -> Result<(), ShardError> {
        let late = self.merge(place, offset, partial)?;
        let progress = &mut self.pipelines[place].progress;
        progress.late_rows += late;
        progress.seen_at = self.wall;
        Ok(())
    }

    /// True if more windows are open than the limits allow, so that [`Shard::advance`] should come before more messages.
    pub fn is_overfull(&self) -> bool {
        self.pipelines.iter().any(|pipeline| pipeline.windows.overdue().is_some())
    }

    /// Closes every window that can be closed, and evaluates it. True if it stopped because `out` is full: write it, and
    /// call again.
    pub fn advance(&mut self, out: &mut Outputs) -> Result<bool, ShardError> {
        for clock in self.clocks.values_mut() {
            clock.advance(self.idle_after);
        }
        self.note_finished();
        out.learnt.append(&mut self.versions.take_news());
        let set = Arc::clone(&self.set);
        let mut is_full = false;
        for place in self.closing_order() {
            let compiled = &set.pipelines()[place];
            let before = self.pipelines[place].windows.closed_through();
            is_full |= self.close_windows(place, compiled, out)?;
            let closed = self.pipelines[place].windows.closed_through();
            if compiled.is_awaited && closed > before {
                out.frontiers.extend(closed.map(|closed| self.frontier(compiled, closed)));
            }
        }
        if let Some(horizon) = self.left_behind() {
            self.verdicts.forget(horizon);
        }
        self.retire(out)?;
        self.finish_readers(&set, out)?;
        Ok(is_full)
    }

    /// Other versions come first: their windows are older, and the rules remember the same series.
    fn closing_order(&self) -> impl Iterator<Item = usize> + use<> {
        let current = self.set.pipelines().iter().filter(|compiled| compiled.is_current).count();
        (current..self.pipelines.len()).chain(0..current)
    }

    /// Closes the windows of one pipeline that are due; true if `out` is full.
    fn close_windows(&mut self, place: usize, compiled: &Compiled, out: &mut Outputs) -> Result<bool, ShardError> {
        if !self.is_rebuilt(place, compiled) {
            return Ok(false);
        }
        let watermark = self.watermark(compiled);
        loop {
            if out.is_full() {
                return Ok(true);
            }
            let windows = &mut self.pipelines[place].windows;
            let due = watermark.max(windows.overdue());
            let Some(closed) = due.map(|due| windows.close_next(due)) else { return Ok(false) };
            let Some(window) = closed.map_err(|source| compute(compiled, source))? else { return Ok(false) };
            self.pipelines[place].progress.closed_early += u64::from(due > watermark);
            self.close(place, compiled, &window, out)?;
        }
    }

    /// Shows the open windows to the rules that look at them.
    pub fn look(&mut self, out: &mut Outputs) -> Result<(), ShardError> {
        let set = Arc::clone(&self.set);
        for (place, compiled) in set.pipelines().iter().enumerate().filter(|(_, compiled)| compiled.is_continuous) {
            let wait = if compiled.waits_for.is_empty() { 0 } else { LOOK_AFTER };
            let pipeline = &mut self.pipelines[place];
            if pipeline.sight.is_none() {
                let windows = pipeline.windows.changed().map_err(|source| compute(compiled, source))?;
                pipeline.sight = (!windows.is_empty()).then(|| (self.wall.saturating_add(wait), windows));
            }
            let wall = self.wall;
            for window in pipeline.sight.take_if(|(from, _)| *from <= wall).into_iter().flat_map(|(_, seen)| seen) {
                let is_open = self.pipelines[place].windows.closed_through().is_none_or(|closed| window.end > closed);
                if is_open && !self.is_split(place, &window) {
                    self.evaluate(place, compiled, &window, false, out)?;
                }
            }
        }
        Ok(())
    }

    /// Panes worth writing down, with their pipelines' places; `through` is the next offset to be taken.
    pub fn snapshots(&mut self, through: i64) -> Result<Vec<(usize, PaneSnapshot)>, ShardError> {
        let mut all = Vec::new();
        for (place, compiled) in self.set.pipelines().iter().enumerate() {
            let panes = self.pipelines[place].windows.snapshots(through).map_err(|source| compute(compiled, source))?;
            all.extend(panes.into_iter().map(|pane| (place, pane)));
        }
        Ok(all)
    }

    /// True while a pane is held: its snapshot is still needed.
    pub fn holds(&self, place: usize, pane: Micros) -> bool {
        self.pipelines.get(place).is_some_and(|pipeline| pipeline.windows.holds(pane))
    }

    /// The moment that every pipeline that can be silenced has left behind. One that has not closed a window yet may
    /// still ask about any.
    fn left_behind(&self) -> Option<Micros> {
        let listens = |(compiled, _): &(&Compiled, &PipelineShard)| !compiled.waits_for.is_empty();
        let listeners = self.set.pipelines().iter().zip(&self.pipelines).filter(listens);
        listeners.map(|(_, listener)| listener.windows.closed_through()).min().flatten()
    }

    /// The event time up to which every pipeline that has rows is complete.
    pub fn closed_through(&self) -> Option<Micros> {
        let current = self.set.pipelines().iter().zip(&self.pipelines).filter(|(compiled, _)| compiled.is_current);
        current.filter_map(|(_, pipeline)| pipeline.windows.closed_through()).min()
    }

    /// The rows of a partial; `None` if its version is not known here, or cannot be computed by this program.
    fn decode(
        &mut self,
        pipeline: &str,
        version: &str,
        bytes: &[u8],
    ) -> Result<Option<(usize, RecordBatch)>, ShardError> {
        let Some(place) = self.place_or_admit(pipeline, version)? else { return Ok(None) };
        let plan = &self.set.pipelines()[place].plan;
        Ok(Some((place, partial::decode(pipeline, &plan.partial_schema(), bytes)?)))
    }

    /// Merges a partial; the number of its rows that were late.
    fn merge(&mut self, place: usize, offset: i64, partial: &RecordBatch) -> Result<u64, ShardError> {
        let compiled = &self.set.pipelines()[place];
        let pipeline = &mut self.pipelines[place];
        pipeline.progress.cover(partial, compiled.plan.panes.pane);
        let late = pipeline.windows.merge(offset, partial).map_err(|source| compute(compiled, source))?;
        Ok(late.iter().map(|late| late.rows).sum())
    }

    /// Counts a partial that nobody here can read, so that its rows are late and not nowhere.
    pub fn give_up(&mut self, pipeline: &str, bytes: &[u8]) {
        let rows = partial::rows_behind(bytes);
        match self.set.place(pipeline) {
            Some(place) => {
                self.pipelines[place].progress.foreign_messages += 1;
                self.pipelines[place].progress.late_rows += rows;
            }
            None => self.unreadable_rows += rows,
        }
    }

    /// How far the windows of a pipeline may close: as far as its source has come, but not past what the pipelines
    /// that silence it have judged.
    fn watermark(&self, compiled: &Compiled) -> Option<Micros> {
        let last = self.last_watermark(compiled);
        let mut watermark = last.or_else(|| self.clock_of(&compiled.pipeline.source)?.reached())?;
        for place in compiled.waits_for.iter().filter(|place| !self.is_finished(**place)) {
            let first = &self.set.pipelines()[*place];
            let panes = first.plan.panes;
            let judged = self.clocks.get(&windows_source(&first.pipeline.name))?.reached()?;
            let judged = judged.saturating_add(panes.size - panes.slide);
            watermark = watermark.min(judged.saturating_add(compiled.pipeline.lateness));
        }
        Some(watermark)
    }

    fn clock_of(&self, source: &Source) -> Option<&SourceClock> {
        match source {
            Source::Logs => self.clocks.get(LOGS_SOURCE),
            Source::Metrics => self.clocks.get(METRICS_SOURCE),
            Source::Windows(upstream) => self.clocks.get(&windows_source(upstream)),
        }
    }

    fn frontier(&self, compiled: &Compiled, closed: Micros) -> Heartbeat {
        let panes = compiled.plan.panes;
        // No row of a window that starts before this will come any more.
        let next_start = closed.saturating_sub(panes.size).saturating_add(panes.slide);
        Heartbeat {
            source: windows_source(&compiled.pipeline.name),
            partition: self.number,
            partitions: self.partitions,
            position: next_start,
            // Never reached: windows are never idle, they close when their own source is.
            end: Micros::MAX,
            event_time: Some(next_start),
            wall: 0,
        }
    }

    fn finish_readers(&mut self, set: &PipelineSet, out: &mut Outputs) -> Result<(), ShardError> {
        for (place, compiled) in set.pipelines().iter().enumerate() {
            let Some(aggregator) = &mut self.pipelines[place].aggregator else { continue };
            let partial = aggregator.finish().map_err(|source| compute(compiled, source))?;
            out.partials.extend(partial.map(|partial| (place, partial)));
        }
        Ok(())
    }
}

/// The source of pipelines that read logs, in heartbeats.
pub const LOGS_SOURCE: &str = "logs";
/// The source of pipelines that read metrics, in heartbeats.
pub const METRICS_SOURCE: &str = "metrics";

impl PipelineShard {
    fn new(compiled: &Compiled, partitions: i32, progress: PipelineProgress) -> Result<Self, ShardError> {
        let is_reader = compiled.is_current && matches!(compiled.pipeline.source, Source::Windows(_));
        let aggregator = is_reader.then(|| Aggregator::new(&compiled.plan)).transpose();
        let windows = OpenWindows::new(&compiled.plan, compiled.pipeline.lateness, progress.closed_through)
            .after_history(progress.history_until);
        let limits = share(compiled.pipeline.limits, partitions);
        Ok(Self {
            windows: windows.with_limits(limits),
            series: BTreeMap::new(),
            series_max: limits.series,
            progress,
            aggregator: aggregator.map_err(|source| compute(compiled, source))?,
            sight: None,
        })
    }
}

fn compute(compiled: &Compiled, source: DataFusionError) -> ShardError {
    ShardError::Compute { pipeline: compiled.pipeline.name.clone(), source }
}
