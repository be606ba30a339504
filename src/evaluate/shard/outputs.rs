//! What a shard hands out: what is to be written, and how it stands.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;

use crate::model::detection::Detection;
use crate::model::pipeline::{Micros, Severity};
use crate::model::series::Series;
use crate::window::clock::Heartbeat;
use crate::window::partial::Inhibition;

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
