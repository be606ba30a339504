//! What a shard hands out: what is to be written, and how it stands.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;

use super::Shard;
use crate::evaluate::Compiled;
use crate::model::detection::Detection;
use crate::model::pipeline::{Definition, Micros, Severity};
use crate::model::series::Series;
use crate::window::clock::{Heartbeat, SourceClock};
use crate::window::partial::Inhibition;

/// Rows and states that one transaction takes before no further window is closed in it. One window may go beyond it;
/// more holds more memory, less costs more transactions when much is closed at once.
const RECORDS_MAX: usize = 50_000;

/// What a shard wants written, in one transaction with the messages it was made from.
#[derive(Default)]
pub struct Outputs {
    pub windows: Vec<ClosedRow>,
    pub detections: Vec<Detection>,
    /// The new state of series: the pipeline's place and the series; `None` is a tombstone.
    pub states: BTreeMap<(usize, Series), Option<Vec<u8>>>,
    /// Series of pipelines that are gone, by the pipeline's name: their state is to be deleted.
    pub ended: Vec<(String, Series)>,
    /// Partials of pipelines that read windows: the pipeline's place and the states.
    pub partials: Vec<(usize, RecordBatch)>,
    pub inhibitions: Vec<Inhibition>,
    /// How far pipelines have come that others wait for or read.
    pub frontiers: Vec<Heartbeat>,
    /// Definitions that were not known before.
    pub learnt: Vec<Definition>,
    /// Pipeline and version of those whose definitions are not needed any more.
    pub retired: Vec<(String, String)>,
}

/// A row of a closed window.
#[derive(Clone, Debug)]
pub struct ClosedRow {
    /// The pipeline's place in its set.
    pub place: usize,
    pub series: Series,
    pub json: Vec<u8>,
    /// False if the window is split between two versions of the pipeline: the row holds one part of the truth.
    pub is_complete: bool,
}

impl Outputs {
    /// True if nothing is to be written.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
            && self.detections.is_empty()
            && self.states.is_empty()
            && self.ended.is_empty()
            && self.partials.is_empty()
            && self.inhibitions.is_empty()
            && self.frontiers.is_empty()
            && self.learnt.is_empty()
            && self.retired.is_empty()
    }

    /// True if no further window should be closed before this is written.
    pub fn is_full(&self) -> bool {
        self.windows.len() + self.states.len() >= RECORDS_MAX
    }
}

/// A detection that has not resolved.
#[derive(Clone, Debug)]
pub struct OpenDetection {
    pub pipeline: String,
    pub rule: String,
    pub series: Series,
    pub severity: Severity,
    /// The start of the first window in breach.
    pub onset: Micros,
}

/// One pipeline in one shard, in numbers, over all its versions.
#[derive(Clone, Debug)]
pub struct PipelineReport {
    pub pipeline: String,
    /// Rows that came after their window had closed, or of a version that nobody could read.
    pub late_rows: u64,
    /// Messages of a version that nobody could read.
    pub foreign_messages: u64,
    /// Windows that had to close before their time, because too many were open.
    pub closed_early: u64,
    pub open_panes: usize,
    /// Series held, once for each pane that they are in.
    pub open_series: usize,
    /// Series that the rules remember something of.
    pub watched_series: usize,
    pub oldest_open: Option<Micros>,
    pub closed_through: Option<Micros>,
    /// How far its source has come; `None` also for a pipeline that reads windows.
    pub watermark: Option<Micros>,
    pub open_detections: usize,
    /// Versions that run or are being finished: 1, but for a while after a change.
    pub versions: usize,
}

impl Shard {
    /// Each current pipeline in numbers.
    pub fn report(&self) -> Vec<PipelineReport> {
        let current = self.set.pipelines().iter().enumerate().filter(|(_, compiled)| compiled.is_current);
        current.map(|(place, compiled)| self.report_of(place, compiled)).collect()
    }

    fn report_of(&self, place: usize, compiled: &Compiled) -> PipelineReport {
        let current = &self.pipelines[place];
        let name = &compiled.pipeline.name;
        let versions = self.set.pipelines().iter().zip(&self.pipelines);
        let versions = versions.filter(|(other, _)| other.pipeline.name == *name && !self.versions.is_retired(other));
        let versions = versions.map(|(_, shard)| shard).collect::<Vec<_>>();
        let awaited = self.versions.awaited().get(name);
        let progress =
            || versions.iter().map(|shard| &shard.progress).chain(awaited.into_iter().flat_map(BTreeMap::values));
        PipelineReport {
            pipeline: name.clone(),
            late_rows: progress().map(|progress| progress.late_rows).sum(),
            foreign_messages: progress().map(|progress| progress.foreign_messages).sum(),
            closed_early: progress().map(|progress| progress.closed_early).sum(),
            open_panes: versions.iter().map(|shard| shard.windows.open().0).sum(),
            open_series: versions.iter().map(|shard| shard.windows.series()).sum(),
            watched_series: current.series.len(),
            oldest_open: versions.iter().filter_map(|shard| shard.windows.open().1).min(),
            closed_through: current.windows.closed_through(),
            watermark: self.clock_of(&compiled.pipeline.source).and_then(SourceClock::reached),
            open_detections: current.series.values().map(|state| state.firing().count()).sum(),
            versions: progress().count(),
        }
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
}
