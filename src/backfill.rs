//! Backfill: pipelines over history, with the answer that streaming gives.
//!
//! ```text
//!  files ─▶ lanes ─▶ chunks ─┬▶ worker: decode ─▶ window::aggregator ─┬▶ merge ─▶ evaluate::single ─▶ Sink
//!  (by event time)           └▶ worker                               ┘  (by chunk number)
//! ```
//!
//! A window's rows are those that a stream would have had: a row is late only if it comes more than
//! [`Settings::disorder`] and the pipeline's lateness after later ones of its own file. Windows are judged when they
//! close, `continuous` rules too. The end of the input is the final watermark.
//!
//! Chunks are computed on all cores and merged in their order, so the same input gives the same sums to the last bit.
//! Memory is bounded by the chunks under way ([`chunk_bytes`]) and by the pipelines' own limits for open windows, whatever
//! the size of the input. A record that cannot be read is counted and handed out, never dropped in silence.
//! `backfill` never writes to a log, never acts, and never looks at a clock.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use datafusion::common::DataFusionError;
use thiserror::Error;

use crate::evaluate::PipelineSet;
use crate::evaluate::shard::{Outputs, PipelineReport, ShardError, ShardProgress};
use crate::model::pipeline::Micros;
use crate::model::series::Series;
use crate::window::open::PaneSnapshot;

mod chunk;
mod compare;
mod conform;
mod episodes;
mod files;
mod job;
mod lanes;
mod lines;
mod merge;
mod parquet;
mod record;
mod threads;
mod worker;

pub use compare::{Comparison, RuleDifference};
pub use episodes::{Episode, Episodes};
pub use files::{Files, Needed};
pub use job::Job;
pub use lanes::{Batches, History};
pub use lines::chunk_bytes;
pub use record::{Recorder, WriteRows};
pub use worker::needed;

/// Cores that are used; more gain little, because reading and merging are one thread each.
const WORKERS_MAX: usize = 16;

/// How history is read.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Rows before this are left out.
    pub from: Micros,
    /// Rows from this on are left out.
    pub to: Micros,
    /// How far a row's event time may lie before that of rows ahead of it in its file. More holds more windows open.
    pub disorder: Micros,
    /// Threads that decode and aggregate.
    pub workers: usize,
    /// A stream goes on at `to`: windows that end by then are closed, and no other, and what is open is handed over.
    pub hands_over: bool,
}

impl Default for Settings {
    /// All of the input, an hour of disorder, every core.
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let workers = cores.min(WORKERS_MAX);
        Settings { from: Micros::MIN, to: Micros::MAX, disorder: 3_600_000_000, workers, hands_over: false }
    }
}

/// Why history could not be evaluated.
#[derive(Debug, Error)]
pub enum BackfillError {
    #[error("{0}")]
    Unusable(String),
    #[error("{}: {reason}", file.display())]
    File { file: PathBuf, reason: String },
    #[error("pipeline `{pipeline}` cannot be computed: {source}")]
    Compute { pipeline: String, source: DataFusionError },
    #[error(transparent)]
    Shard(#[from] ShardError),
    #[error("rows cannot be read: {0}")]
    Rows(String),
    #[error("results cannot be written: {0}")]
    Output(String),
    #[error("a thread cannot be started: {0}")]
    Thread(std::io::Error),
}

impl BackfillError {
    /// True if other arguments are needed, rather than another try.
    pub fn is_unusable(&self) -> bool {
        matches!(self, BackfillError::Unusable(_))
    }
}

/// Takes what backfill finds, in the order of event time.
pub trait Sink {
    /// What the pipelines of the set at place `set` said.
    fn say(&mut self, set: usize, outputs: &Outputs) -> Result<(), BackfillError>;

    /// A record that cannot be read, as it was.
    fn reject(&mut self, record: &Rejected) -> Result<(), BackfillError>;

    /// How far it is; after every chunk.
    fn progress(&mut self, progress: &Progress);
}

/// A record that is no row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Where it stands, in words: file and line.
    pub position: String,
    /// The kind of reason, for counting.
    pub kind: &'static str,
    pub reason: String,
    /// The bytes of the line.
    pub bytes: Vec<u8>,
}

/// How far a backfill is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub rows: u64,
    /// Of the files, as they are on disk; of rows from elsewhere, how many.
    pub bytes_read: u64,
    pub bytes: u64,
}

/// What a backfill did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Rows that the pipelines were shown.
    pub rows: u64,
    /// Rows that are not in the range asked for.
    pub outside: u64,
    /// The first and the last event time of the rows.
    pub span: Option<(Micros, Micros)>,
    /// Records that cannot be read, by kind of reason: how many, and the first of them in words.
    pub rejected: BTreeMap<&'static str, (u64, String)>,
    /// For each set of pipelines, how it ended.
    pub sets: Vec<SetReport>,
    /// It was told to stop: windows that were open then are not among the results.
    pub is_interrupted: bool,
}

/// How a set of pipelines ended.
#[derive(Clone, Debug, Default)]
pub struct SetReport {
    /// Late rows and windows that had to close early are counted here.
    pub pipelines: Vec<PipelineReport>,
    /// What the rules remember of each series in the end, by the pipeline's place: the state that streaming goes on from.
    pub states: BTreeMap<(usize, Series), Vec<u8>>,
    /// What else streaming goes on from, with [`Settings::hands_over`].
    pub handover: Option<Handover>,
}

/// What a stream needs, besides the series' states, to go on where a history ended.
#[derive(Clone, Debug)]
pub struct Handover {
    /// Windows that end by then are closed; a row of before then is late.
    pub at: Micros,
    pub progress: ShardProgress,
    /// Panes of windows that end later, with the pipelines' places.
    pub panes: Vec<(usize, PaneSnapshot)>,
}

/// Evaluates history with each of the sets of pipelines, reading it once. With `stop` set it ends after the chunks under way.
pub fn run(
    history: History,
    sets: &[Arc<PipelineSet>],
    settings: &Settings,
    sink: &mut dyn Sink,
    stop: &AtomicBool,
) -> Result<Report, BackfillError> {
    let mut merger = merge::Merger::new(sets, settings, &history)?;
    let is_interrupted = threads::run(history, sets, settings, stop, &mut |work| merger.merge(work, sink))?;
    merger.finish(is_interrupted, sink)
}
