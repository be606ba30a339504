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

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::DataFusionError;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Compiled, PipelineSet, windows_source};
use crate::detect::SeriesState;
use crate::model::pipeline::{Micros, RuleName, Severity, Source};
use crate::model::series::Series;
use crate::window::aggregator::Aggregator;
use crate::window::clock::{Heartbeat, SourceClock};
use crate::window::open::{OpenWindows, PaneSnapshot, WindowRows};
use crate::window::partial::{self, Inhibition, Message, PartialError};

mod judge;
mod outputs;

pub use outputs::{OpenDetection, Outputs, PipelineReport};

/// Firing series of inhibiting rules that a shard remembers; beyond it further ones silence nobody, which errs on the
/// side of saying too much.
const INHIBITING_SERIES_MAX: usize = 10_000;

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
    State { pipeline: String, reason: String },
}

/// What a shard must remember besides series and panes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ShardProgress {
    clocks: BTreeMap<String, SourceClock>,
    pipelines: BTreeMap<String, PipelineProgress>,
    inhibiting: Vec<(RuleName, Vec<(Series, Verdicts)>)>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct PipelineProgress {
    version: String,
    closed_through: Option<Micros>,
    watched_since: Option<Micros>,
    late_rows: u64,
    foreign_messages: u64,
}

/// What an inhibiting rule said of a series: from the end of a window on, this severity, or nothing any more. A shard
/// that catches up hears several verdicts at once and must know which of them a window stands under.
type Verdicts = Vec<(Micros, Option<Severity>)>;

/// One partition of stage two, for all pipelines.
pub struct Shard {
    set: Arc<PipelineSet>,
    number: i32,
    partitions: i32,
    idle_after: Micros,
    clocks: BTreeMap<String, SourceClock>,
    pipelines: Vec<PipelineShard>,
    inhibiting: BTreeMap<RuleName, BTreeMap<Series, Verdicts>>,
    /// The latest wall time that a heartbeat recorded.
    wall: Micros,
}

struct PipelineShard {
    windows: OpenWindows,
    series: BTreeMap<Series, SeriesState>,
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
        let inhibiting =
            self.inhibiting.iter().map(|(rule, series)| (rule.clone(), series.clone().into_iter().collect()));
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
        self.forget_verdicts();
        self.finish_readers(&set, out)
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
                if self.pipelines[place].windows.closed_through().is_none_or(|closed| window.end > closed) {
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

    /// The detections that have not resolved, by pipeline and series.
    pub fn open_detections(&self) -> impl Iterator<Item = OpenDetection> {
        let pipelines = self.set.pipelines().iter().zip(&self.pipelines);
        let series = pipelines
            .flat_map(|(compiled, shard)| shard.series.iter().map(move |(series, state)| (compiled, series, state)));
        series.flat_map(|(compiled, series, state)| {
            state.open().map(|(rule, severity, onset)| OpenDetection {
                pipeline: compiled.pipeline.name.clone(),
                rule: rule.to_owned(),
                series: series.clone(),
                severity,
                onset,
            })
        })
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
        let merged = self.pipelines[place].windows.merge(offset, partial);
        let late = merged.map_err(|source| compute(&self.set.pipelines()[place], source))?;
        Ok(late.iter().map(|late| late.rows).sum())
    }

    fn inhibit(&mut self, inhibition: Inhibition) {
        let known = self.inhibiting.values().map(BTreeMap::len).sum::<usize>();
        let series = self.inhibiting.entry(inhibition.rule).or_default();
        if known < INHIBITING_SERIES_MAX || series.contains_key(&inhibition.series) {
            series.entry(inhibition.series).or_default().push((inhibition.since, inhibition.severity));
        }
    }

    /// Forgets verdicts of inhibiting rules on moments that every pipeline that can be silenced has left behind. One that
    /// has not closed a window yet may still ask about any moment.
    fn forget_verdicts(&mut self) {
        let listens = |(compiled, _): &(&Compiled, &PipelineShard)| !compiled.waits_for.is_empty();
        let listeners = self.set.pipelines().iter().zip(&self.pipelines).filter(listens);
        let horizon = listeners.map(|(_, listener)| listener.windows.closed_through()).min();
        let Some(horizon) = horizon.flatten() else { return };
        for series in self.inhibiting.values_mut() {
            for verdicts in series.values_mut() {
                let passed = verdicts.iter().filter(|(since, _)| *since <= horizon).count();
                verdicts.drain(..passed.saturating_sub(1));
            }
            series.retain(|_, verdicts| !matches!(verdicts.as_slice(), [] | [(_, None)]));
        }
        self.inhibiting.retain(|_, series| !series.is_empty());
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
            sight: None,
        })
    }
}

fn compute(compiled: &Compiled, source: DataFusionError) -> ShardError {
    ShardError::Compute { pipeline: compiled.pipeline.name.clone(), source }
}
