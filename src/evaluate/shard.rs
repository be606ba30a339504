//! One partition of stage two.
//!
//! ```text
//!  partial ───▶ open windows ──┐
//!  heartbeat ─▶ clocks ────────┴─▶ closed window ─▶ detector ─▶ detections, series state
//!  inhibition ▶ silenced series ────────────────────▶│      └─▶ inhibitions, partials of pipelines that read windows
//! ```
//!
//! A [`Shard`] is a function of its messages in their order. Everything it remembers is either in [`ShardProgress`], in
//! a series' state, in a pane's snapshot, or in partials from [`Shard::replay_from`] on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::DataFusionError;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Compiled, PipelineSet, windows_source};
use crate::detect::{Observation, SeriesState};
use crate::model::detection::Detection;
use crate::model::pipeline::{Micros, RuleName, Source};
use crate::model::series::Series;
use crate::window::aggregator::Aggregator;
use crate::window::clock::{Heartbeat, SourceClock};
use crate::window::open::{OpenWindows, PaneSnapshot, WindowRows};
use crate::window::partial::{self, Inhibition, Message, PartialError};
use crate::window::rows;

/// Firing series of inhibiting rules that a shard remembers; beyond it further ones silence nobody, which errs on the
/// side of saying too much.
const INHIBITING_SERIES_MAX: usize = 10_000;

/// How long an open window waits to be looked at by a rule that another pipeline's rule can silence, in recorded wall
/// time: so that the wider verdict on the same records, made in another partition, comes first.
const LOOK_AFTER: Micros = 1_000_000;

/// Why a shard cannot go on.
#[derive(Debug, Error)]
pub enum ShardError {
    #[error("pipeline `{pipeline}` cannot be computed: {source}")]
    Compute { pipeline: String, source: DataFusionError },
    #[error(transparent)]
    Partial(#[from] PartialError),
    #[error("the state of a series of `{pipeline}` cannot be written: {reason}")]
    State { pipeline: String, reason: String },
}

/// What a shard wants written, in one transaction with the messages it was made from.
#[derive(Default)]
pub struct Outputs {
    /// Rows of closed windows: the pipeline's place, the series, the JSON.
    pub windows: Vec<(usize, Series, Vec<u8>)>,
    pub detections: Vec<Detection>,
    /// The new state of series; `None` is a tombstone.
    pub states: BTreeMap<(usize, Series), Option<Vec<u8>>>,
    /// Partials of pipelines that read windows: the pipeline's place and the states.
    pub partials: Vec<(usize, RecordBatch)>,
    pub inhibitions: Vec<Inhibition>,
    /// How far pipelines have come that others wait for or read.
    pub frontiers: Vec<Heartbeat>,
}

impl Outputs {
    /// True if nothing is to be written.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
            && self.detections.is_empty()
            && self.states.is_empty()
            && self.partials.is_empty()
            && self.inhibitions.is_empty()
            && self.frontiers.is_empty()
    }
}

/// What a shard must remember besides series and panes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ShardProgress {
    clocks: BTreeMap<String, SourceClock>,
    pipelines: BTreeMap<String, PipelineProgress>,
    inhibiting: Vec<(RuleName, Vec<Series>)>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct PipelineProgress {
    version: String,
    closed_through: Option<Micros>,
    watched_since: Option<Micros>,
    late_rows: u64,
    foreign_messages: u64,
}

/// One pipeline in one shard, in numbers.
#[derive(Clone, Debug)]
pub struct PipelineReport {
    pub pipeline: String,
    /// Rows that came after their window had closed.
    pub late_rows: u64,
    /// Messages of another version of the pipeline.
    pub foreign_messages: u64,
    pub open_panes: usize,
    pub oldest_open: Option<Micros>,
    pub closed_through: Option<Micros>,
    pub open_detections: usize,
}

/// One partition of stage two, for all pipelines.
pub struct Shard {
    set: Arc<PipelineSet>,
    number: i32,
    partitions: i32,
    idle_after: Micros,
    clocks: BTreeMap<String, SourceClock>,
    pipelines: Vec<PipelineShard>,
    inhibiting: BTreeMap<RuleName, BTreeSet<Series>>,
    /// The latest wall time that a heartbeat recorded.
    wall: Micros,
}

struct PipelineShard {
    windows: OpenWindows,
    series: BTreeMap<Series, SeriesState>,
    progress: PipelineProgress,
    /// For pipelines that read windows: their stage one.
    aggregator: Option<Aggregator>,
    /// The recorded wall time from which on changed windows are looked at; `None` while nothing changed.
    look_from: Option<Micros>,
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
        let pipelines = set.pipelines().iter().map(|compiled| {
            let known = progress.pipelines.get(&compiled.pipeline.name).cloned().unwrap_or_default();
            PipelineShard::new(compiled, known)
        });
        let inhibiting = progress.inhibiting.into_iter().map(|(rule, series)| (rule, series.into_iter().collect()));
        Ok(Self {
            number,
            partitions,
            idle_after,
            clocks: progress.clocks,
            pipelines: pipelines.collect::<Result<_, _>>()?,
            inhibiting: inhibiting.collect(),
            wall: 0,
            set: Arc::clone(set),
        })
    }

    /// What must be remembered besides series and panes.
    pub fn progress(&self) -> ShardProgress {
        let names = self.set.pipelines().iter().map(|compiled| compiled.pipeline.name.clone());
        let pipelines = names.zip(&self.pipelines).map(|(name, shard)| {
            let closed_through = shard.windows.closed_through();
            (name, PipelineProgress { closed_through, ..shard.progress.clone() })
        });
        let inhibiting = self.inhibiting.iter().map(|(rule, series)| (rule.clone(), series.iter().cloned().collect()));
        ShardProgress { clocks: self.clocks.clone(), pipelines: pipelines.collect(), inhibiting: inhibiting.collect() }
    }

    /// The offset from which partials must be read again after a restart, if any must.
    pub fn replay_from(&self) -> Option<i64> {
        self.pipelines.iter().filter_map(|pipeline| pipeline.windows.replay_from()).min()
    }

    /// Puts the written state of a series back. A pipeline that is gone is ignored.
    pub fn restore_series(&mut self, pipeline: &str, series: Series, state: &[u8]) -> Result<(), ShardError> {
        let Some(place) = self.set.place(pipeline) else { return Ok(()) };
        let state = serde_json::from_slice(state)
            .map_err(|error| ShardError::State { pipeline: pipeline.to_owned(), reason: error.to_string() })?;
        self.pipelines[place].series.insert(series, state);
        Ok(())
    }

    /// Puts a written pane back. One of another version of the pipeline is ignored.
    pub fn restore_pane(&mut self, pipeline: &str, version: &str, pane: PaneSnapshot) -> Result<(), ShardError> {
        let Some(place) = self.set.place(pipeline) else { return Ok(()) };
        let compiled = &self.set.pipelines()[place];
        if compiled.plan.version == version {
            self.pipelines[place].windows.restore(pane).map_err(|source| compute(compiled, source))?;
        }
        Ok(())
    }

    /// Reads a message again that was taken before the restart: open windows are rebuilt, nothing is evaluated.
    pub fn replay(&mut self, offset: i64, message: Message) -> Result<(), ShardError> {
        if let Message::Partial { pipeline, version, bytes } = message
            && let Some((place, partial)) = self.decode(&pipeline, &version, &bytes)?
        {
            self.merge(place, offset, &partial)?;
        }
        Ok(())
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
            Message::Inhibition(inhibition) => self.inhibit(inhibition),
            Message::Partial { pipeline, version, bytes } => match self.decode(&pipeline, &version, &bytes)? {
                Some((place, partial)) => {
                    self.pipelines[place].progress.late_rows += self.merge(place, offset, &partial)?
                }
                None => {
                    if let Some(place) = self.set.place(&pipeline) {
                        self.pipelines[place].progress.foreign_messages += 1;
                    }
                }
            },
        }
        Ok(())
    }

    /// Closes every window that can be closed, and evaluates it.
    pub fn advance(&mut self, out: &mut Outputs) -> Result<(), ShardError> {
        let set = Arc::clone(&self.set);
        for clock in self.clocks.values_mut() {
            clock.advance(self.idle_after);
        }
        for (place, compiled) in set.pipelines().iter().enumerate() {
            let Some(watermark) = self.watermark(compiled) else { continue };
            let before = self.pipelines[place].windows.closed_through();
            loop {
                let closed = self.pipelines[place].windows.close_next(watermark);
                let Some(window) = closed.map_err(|source| compute(compiled, source))? else { break };
                self.close(place, compiled, &window, out)?;
            }
            let closed = self.pipelines[place].windows.closed_through();
            if compiled.is_awaited && closed > before {
                out.frontiers.extend(closed.map(|closed| self.frontier(compiled, closed)));
            }
        }
        self.finish_readers(&set, out)
    }

    /// Shows the open windows to the rules that look at them.
    pub fn look(&mut self, out: &mut Outputs) -> Result<(), ShardError> {
        let set = Arc::clone(&self.set);
        for (place, compiled) in set.pipelines().iter().enumerate().filter(|(_, compiled)| compiled.is_continuous) {
            if self.pipelines[place].look_from.is_none_or(|from| from > self.wall) {
                continue;
            }
            self.pipelines[place].look_from = None;
            let changed = self.pipelines[place].windows.changed().map_err(|source| compute(compiled, source))?;
            for window in changed {
                self.evaluate(place, compiled, &window, false, out)?;
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

    /// Each pipeline in numbers.
    pub fn report(&self) -> Vec<PipelineReport> {
        let report = |(compiled, shard): (&Compiled, &PipelineShard)| {
            let (open_panes, oldest_open) = shard.windows.open();
            PipelineReport {
                pipeline: compiled.pipeline.name.clone(),
                late_rows: shard.progress.late_rows,
                foreign_messages: shard.progress.foreign_messages,
                open_panes,
                oldest_open,
                closed_through: shard.windows.closed_through(),
                open_detections: shard.series.values().map(|state| state.firing().count()).sum(),
            }
        };
        self.set.pipelines().iter().zip(&self.pipelines).map(report).collect()
    }

    /// The event time up to which every pipeline that has rows is complete.
    pub fn closed_through(&self) -> Option<Micros> {
        self.pipelines.iter().filter_map(|pipeline| pipeline.windows.closed_through()).min()
    }

    fn decode(&self, pipeline: &str, version: &str, bytes: &[u8]) -> Result<Option<(usize, RecordBatch)>, ShardError> {
        let Some(place) = self.set.place(pipeline) else { return Ok(None) };
        let plan = &self.set.pipelines()[place].plan;
        if plan.version != version {
            return Ok(None);
        }
        Ok(Some((place, partial::decode(pipeline, &plan.partial_schema(), bytes)?)))
    }

    /// Merges a partial; the number of its rows that were late.
    fn merge(&mut self, place: usize, offset: i64, partial: &RecordBatch) -> Result<u64, ShardError> {
        let wait = if self.set.pipelines()[place].waits_for.is_empty() { 0 } else { LOOK_AFTER };
        self.pipelines[place].look_from.get_or_insert(self.wall.saturating_add(wait));
        let merged = self.pipelines[place].windows.merge(offset, partial);
        let late = merged.map_err(|source| compute(&self.set.pipelines()[place], source))?;
        Ok(late.iter().map(|late| late.rows).sum())
    }

    fn inhibit(&mut self, inhibition: Inhibition) {
        let known = self.inhibiting.values().map(BTreeSet::len).sum::<usize>();
        let series = self.inhibiting.entry(inhibition.rule).or_default();
        if !inhibition.firing {
            series.remove(&inhibition.series);
        } else if known < INHIBITING_SERIES_MAX {
            series.insert(inhibition.series);
        }
    }

    /// How far the windows of a pipeline may close: as far as its source has come, but not past what the pipelines
    /// that silence it have judged.
    fn watermark(&self, compiled: &Compiled) -> Option<Micros> {
        let reached = |source: &str| self.clocks.get(source).and_then(SourceClock::reached);
        let mut watermark = match &compiled.pipeline.source {
            Source::Logs => reached(LOGS_SOURCE)?,
            Source::Metrics => reached(METRICS_SOURCE)?,
            Source::Windows(upstream) => reached(&windows_source(upstream))?,
        };
        for place in &compiled.waits_for {
            let first = &self.set.pipelines()[*place];
            let panes = first.plan.panes;
            let judged = reached(&windows_source(&first.pipeline.name))?.saturating_add(panes.size - panes.slide);
            watermark = watermark.min(judged.saturating_add(compiled.pipeline.lateness));
        }
        Some(watermark)
    }

    fn close(
        &mut self,
        place: usize,
        compiled: &Compiled,
        window: &WindowRows,
        out: &mut Outputs,
    ) -> Result<(), ShardError> {
        let in_words = |source| compute(compiled, source);
        self.pipelines[place].progress.watched_since.get_or_insert(window.start);
        let seen = self.evaluate(place, compiled, window, true, out)?;
        self.miss(place, compiled, window, &seen, out)?;
        let lines = rows::to_json(&compiled.plan, window.start, window.end, &window.rows).map_err(in_words)?;
        out.windows.extend(seen.into_iter().zip(lines).map(|(series, line)| (place, series, line)));
        for reader in &compiled.readers {
            if let Some(aggregator) = &mut self.pipelines[*reader].aggregator {
                aggregator.push(&window.rows).map_err(|source| compute(&self.set.pipelines()[*reader], source))?;
            }
        }
        Ok(())
    }

    /// Shows each row to the detector; the series of the rows, in their order.
    fn evaluate(
        &mut self,
        place: usize,
        compiled: &Compiled,
        window: &WindowRows,
        is_closed: bool,
        out: &mut Outputs,
    ) -> Result<Vec<Series>, ShardError> {
        let in_words = |source| compute(compiled, source);
        let series = rows::series_of(&compiled.plan, &window.rows).map_err(in_words)?;
        let measures = rows::measures_of(&window.rows, compiled.detector.columns()).map_err(in_words)?;
        let watched_since = self.pipelines[place].progress.watched_since.unwrap_or(window.start);
        for (series, values) in series.iter().zip(&measures) {
            let seen =
                Observation { series, window_start: window.start, window_end: window.end, watched_since, values };
            let mut state = self.pipelines[place].series.remove(series).unwrap_or_default();
            let firing = state.firing().map(str::to_owned).collect::<Vec<_>>();
            let inhibited = |rule: &RuleName| self.is_inhibited(rule, series);
            let is_changed = if is_closed {
                compiled.detector.on_close(&mut state, &seen, &inhibited, &mut out.detections)
            } else {
                compiled.detector.on_change(&mut state, &seen, &inhibited, &mut out.detections)
            };
            self.keep(place, compiled, series, state, is_changed, &firing, window.end, out)?;
        }
        Ok(series)
    }

    /// Tells the detector about series with state that have no row in a closed window.
    fn miss(
        &mut self,
        place: usize,
        compiled: &Compiled,
        window: &WindowRows,
        seen: &[Series],
        out: &mut Outputs,
    ) -> Result<(), ShardError> {
        let seen = seen.iter().collect::<BTreeSet<_>>();
        let missing = self.pipelines[place].series.keys().filter(|series| !seen.contains(series));
        for series in missing.cloned().collect::<Vec<_>>() {
            let Some(mut state) = self.pipelines[place].series.remove(&series) else { continue };
            let firing = state.firing().map(str::to_owned).collect::<Vec<_>>();
            let span = (window.start, window.end);
            let is_changed = compiled.detector.on_missing(&mut state, &series, span, &mut out.detections);
            self.keep(place, compiled, &series, state, is_changed, &firing, window.end, out)?;
        }
        Ok(())
    }

    /// Puts a series' state back, and says what must be written and who must know.
    #[expect(clippy::too_many_arguments, reason = "one step of two loops; a struct for it would be used nowhere else")]
    fn keep(
        &mut self,
        place: usize,
        compiled: &Compiled,
        series: &Series,
        state: SeriesState,
        is_changed: bool,
        fired_before: &[String],
        since: Micros,
        out: &mut Outputs,
    ) -> Result<(), ShardError> {
        for rule in &compiled.pipeline.rules {
            let name = RuleName { pipeline: compiled.pipeline.name.clone(), rule: rule.name.clone() };
            let firing = state.firing().any(|firing| firing == rule.name);
            let is_heard = rule.inhibits.iter().any(|silenced| silenced.pipeline != name.pipeline);
            if is_heard && firing != fired_before.contains(&rule.name) {
                out.inhibitions.push(Inhibition { rule: name, series: series.clone(), firing, since });
            }
        }
        if is_changed {
            let written = if state.is_idle() { None } else { Some(write_state(compiled, &state)?) };
            out.states.insert((place, series.clone()), written);
        }
        if !state.is_idle() {
            self.pipelines[place].series.insert(series.clone(), state);
        }
        Ok(())
    }

    fn is_inhibited(&self, rule: &RuleName, series: &Series) -> bool {
        let covers = |inhibitor: &RuleName| {
            self.inhibiting.get(inhibitor).is_some_and(|firing| firing.iter().any(|wide| wide.covers(series)))
        };
        self.set.inhibitors(rule).iter().any(covers)
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
    fn new(compiled: &Compiled, known: PipelineProgress) -> Result<Self, ShardError> {
        let is_same = known.version == compiled.plan.version;
        let closed_through = known.closed_through.filter(|_| is_same);
        let is_reader = matches!(compiled.pipeline.source, Source::Windows(_));
        let aggregator = is_reader.then(|| Aggregator::new(&compiled.plan)).transpose();
        Ok(Self {
            windows: OpenWindows::new(&compiled.plan, compiled.pipeline.lateness, closed_through),
            series: BTreeMap::new(),
            progress: PipelineProgress { version: compiled.plan.version.clone(), closed_through, ..known },
            aggregator: aggregator.map_err(|source| compute(compiled, source))?,
            look_from: None,
        })
    }
}

fn write_state(compiled: &Compiled, state: &SeriesState) -> Result<Vec<u8>, ShardError> {
    serde_json::to_vec(state)
        .map_err(|error| ShardError::State { pipeline: compiled.pipeline.name.clone(), reason: error.to_string() })
}

fn compute(compiled: &Compiled, source: DataFusionError) -> ShardError {
    ShardError::Compute { pipeline: compiled.pipeline.name.clone(), source }
}
