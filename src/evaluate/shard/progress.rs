//! Where a shard stands: what it must remember besides series and panes, and how it goes on from there.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use serde::{Deserialize, Serialize};

use super::verdicts::Verdicts;
use super::{PipelineShard, Shard, ShardError};
use crate::evaluate::Compiled;
use crate::model::pipeline::{Limits, Micros};
use crate::window::clock::SourceClock;

/// What a shard must remember besides series, panes and definitions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ShardProgress {
    clocks: BTreeMap<String, SourceClock>,
    /// By pipeline, then by version.
    pipelines: BTreeMap<String, BTreeMap<String, PipelineProgress>>,
    verdicts: Verdicts,
    #[serde(default)]
    unreadable_rows: u64,
    /// What was known is lost; see [`ShardProgress::lost`].
    #[serde(skip)]
    is_lost: bool,
}

/// How far one version of a pipeline is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct PipelineProgress {
    pub(super) closed_through: Option<Micros>,
    pub(super) watched_since: Option<Micros>,
    pub(super) late_rows: u64,
    pub(super) foreign_messages: u64,
    /// Windows that had to close before their time.
    pub(super) closed_early: u64,
    /// The start of the first and the end of the last pane that had rows.
    pub(super) span: Option<(Micros, Micros)>,
    /// The recorded wall time of the last partial.
    pub(super) seen_at: Micros,
    /// Nothing is known about windows that had begun: they are given up as soon as it is clear which these are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_rebuilding: bool,
    /// Where it went on from a history: rows before this are part of what was handed over, and late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) history_until: Option<Micros>,
}

impl ShardProgress {
    /// The progress of a shard whose own is of a form that this program cannot read. Windows that had begun cannot be
    /// completed and might have been written, so it starts with the first ones that nobody can have seen a row of.
    pub fn lost() -> Self {
        Self { is_lost: true, ..Self::default() }
    }
}

impl PipelineProgress {
    /// Remembers which panes a partial has rows in.
    pub(super) fn cover(&mut self, partial: &RecordBatch, pane: Micros) {
        let panes = partial.column(0).as_primitive::<Int64Type>().values();
        if let (Some(first), Some(last)) = (panes.iter().min(), panes.iter().max()) {
            let (from, to) = self.span.unwrap_or((*first, *last));
            self.span = Some((from.min(*first), to.max(last.saturating_add(pane))));
        }
    }

    /// True if both versions may have rows in it.
    pub(super) fn overlaps(&self, start: Micros, end: Micros) -> bool {
        self.span.is_some_and(|(first, last)| first < end && start < last)
    }
}

impl Shard {
    /// Goes on from `progress`.
    pub(super) fn resume(&mut self, progress: ShardProgress) -> Result<(), ShardError> {
        self.clocks = progress.clocks;
        self.verdicts = progress.verdicts;
        self.unreadable_rows = progress.unreadable_rows;
        self.versions.await_definitions(progress.pipelines);
        let set = Arc::clone(&self.set);
        for compiled in set.pipelines() {
            let mut known = self.versions.progress_of(compiled);
            known.is_rebuilding |= progress.is_lost;
            self.pipelines.push(PipelineShard::new(compiled, self.partitions, known)?);
        }
        Ok(())
    }

    /// What must be remembered besides series, panes and definitions.
    pub fn progress(&self) -> ShardProgress {
        let mut pipelines = self.versions.awaited().clone();
        for (compiled, shard) in self.set.pipelines().iter().zip(&self.pipelines) {
            if self.versions.is_retired(compiled) {
                continue;
            }
            let closed_through = shard.windows.closed_through();
            let known = PipelineProgress { closed_through, ..shard.progress.clone() };
            let versions = pipelines.entry(compiled.pipeline.name.clone()).or_default();
            versions.insert(compiled.plan.version.clone(), known);
        }
        ShardProgress {
            clocks: self.clocks.clone(),
            pipelines,
            verdicts: self.verdicts.clone(),
            unreadable_rows: self.unreadable_rows,
            is_lost: false,
        }
    }

    /// The same for the partitions of a stream that goes on at `moment`: without clocks, which the stream has its own of, and
    /// without counters, which history has told.
    pub fn handover(&self, moment: Micros) -> ShardProgress {
        let mut progress = ShardProgress { clocks: BTreeMap::new(), unreadable_rows: 0, ..self.progress() };
        for known in progress.pipelines.values_mut().flat_map(BTreeMap::values_mut) {
            (known.late_rows, known.foreign_messages, known.closed_early) = (0, 0, 0);
            known.seen_at = 0;
            known.history_until = Some(moment);
        }
        progress
    }

    /// True unless the pipeline still waits to learn which windows had begun before its state was lost.
    pub(super) fn is_rebuilt(&mut self, place: usize, compiled: &Compiled) -> bool {
        if !self.pipelines[place].progress.is_rebuilding {
            return true;
        }
        let clock = self.clock_of(&compiled.pipeline.source);
        // Once every partition has reported, nothing beyond the latest event time has been seen by anybody.
        let Some(latest) = clock.filter(|clock| clock.reached().is_some()).and_then(SourceClock::latest) else {
            return false;
        };
        let pipeline = &mut self.pipelines[place];
        pipeline.progress.late_rows += pipeline.windows.skip_through(latest);
        pipeline.progress.is_rebuilding = false;
        true
    }
}

/// One partition's share of a pipeline's limits. Series are spread by a hash, not evenly, so a share has some room.
pub(super) fn share(limits: Limits, partitions: i32) -> Limits {
    let partitions = usize::try_from(partitions).unwrap_or(1).max(1);
    if partitions == 1 {
        return limits;
    }
    let series = limits.series.div_ceil(partitions);
    Limits { series: series + series / 8 + 16, ..limits }
}
