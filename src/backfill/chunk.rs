//! What the parts of backfill hand to each other.

use std::sync::Arc;

use arrow::array::RecordBatch;

use super::Rejected;
use super::lines::Block;
use super::parquet::ParquetFile;
use crate::decode::Table;
use crate::model::pipeline::Micros;

/// Some rows of one lane, not decoded yet.
pub(super) struct Chunk {
    /// The place of the lane.
    pub(super) lane: usize,
    /// What positions in it are called.
    pub(super) name: Arc<str>,
    pub(super) table: Table,
    pub(super) content: Content,
    /// No later row of the lane is before this, if anybody knows.
    pub(super) rest: Option<Micros>,
    /// It is the last of its lane.
    pub(super) is_last: bool,
}

pub(super) enum Content {
    /// Whole lines of NDJSON.
    Lines(Block),
    /// Rows with the columns of the table, or some of them.
    Rows(RecordBatch),
    /// A row group of a file.
    RowGroup(Arc<ParquetFile>, usize),
}

/// A chunk, decoded and aggregated.
#[derive(Default)]
pub(super) struct Work {
    pub(super) lane: usize,
    pub(super) rest: Option<Micros>,
    pub(super) is_last: bool,
    /// The place of a set, that of a pipeline in it, and partial states.
    pub(super) partials: Vec<(usize, usize, RecordBatch)>,
    pub(super) rows: u64,
    pub(super) outside: u64,
    /// The first and the last event time of the rows, those outside the range included.
    pub(super) span: Option<(Micros, Micros)>,
    /// The first and the last event time of the rows within the range.
    pub(super) earliest: Option<Micros>,
    pub(super) latest: Option<Micros>,
    /// Lines of the chunk, empty ones too.
    pub(super) lines: u64,
    pub(super) rejected: Vec<RejectedRow>,
}

/// A record that is no row, before anybody knows how many lines stand before its chunk.
pub(super) struct RejectedRow {
    /// From 0, in the chunk.
    pub(super) line: u64,
    pub(super) record: Rejected,
}
