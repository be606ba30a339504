//! Rows in memory: what was read from Kafka and is not in Delta yet, with the offsets it came from.
//!
//! ```text
//!   append            seal                commit
//!  ────────▶ open ──────────▶ sealed ──────────────▶ in Delta, and no longer here
//!                               │ the input went to another process
//!                               └─────────────────▶ forgotten; its new owner reads the rows again
//! ```
//!
//! `chunk` is pure: it knows no clock, no file and no Delta.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

/// An input partition as the store names it in Delta's `txn` actions, such as `telemetry.logs-0`.
pub type Input = Arc<str>;

/// Batches smaller than this are joined with the one before, so that a view holds few of them however often rows
/// arrive. Larger copies each row more often.
const BATCH_ROWS: usize = 8_192;

/// Offsets from `start` up to, and without, `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetRange {
    pub start: i64,
    pub end: i64,
}

/// The rows of one input partition.
#[derive(Clone, Debug)]
pub struct Part {
    pub range: OffsetRange,
    pub batches: Vec<RecordBatch>,
}

impl Part {
    /// Adds what follows. A read without rows (all of them were unreadable, or none was there) advances the range.
    fn append(&mut self, range: OffsetRange, batch: RecordBatch) -> Result<(), ArrowError> {
        self.range.end = range.end;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.batches.push(batch);
        self.join_small()
    }

    /// Joins the newest batches like the digits of a counter: each row is copied about log2([`BATCH_ROWS`]) times.
    fn join_small(&mut self) -> Result<(), ArrowError> {
        while let [.., before, last] = self.batches.as_slice() {
            let rows = before.num_rows() + last.num_rows();
            if rows > BATCH_ROWS || before.num_rows() > 2 * last.num_rows() {
                break;
            }
            let joined = compact(&concat_batches(&before.schema(), [before, last])?)?;
            self.batches.truncate(self.batches.len() - 2);
            self.batches.push(joined);
        }
        Ok(())
    }

    fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }
}

/// Text views point into the buffers they were cut from: without a copy each joined batch would keep all of them.
fn compact(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let column = |column: &ArrayRef| -> ArrayRef {
        match column.data_type() {
            DataType::Utf8View => Arc::new(column.as_string_view().gc()),
            _ => Arc::clone(column),
        }
    };
    RecordBatch::try_new(batch.schema(), batch.columns().iter().map(column).collect())
}

/// The rows of several input partitions that are committed together.
#[derive(Clone, Debug, Default)]
pub struct Chunk {
    pub parts: BTreeMap<Input, Part>,
}

impl Chunk {
    /// Adds rows of one input partition; their range begins where the one before ended.
    pub fn append(&mut self, input: &Input, range: OffsetRange, batch: RecordBatch) -> Result<(), ArrowError> {
        let empty = || Part { range: OffsetRange { start: range.start, end: range.start }, batches: Vec::new() };
        self.parts.entry(Arc::clone(input)).or_insert_with(empty).append(range, batch)
    }

    /// Every batch, in the order of the inputs and of arrival.
    pub fn batches(&self) -> impl Iterator<Item = &RecordBatch> {
        self.parts.values().flat_map(|part| &part.batches)
    }

    pub fn rows(&self) -> usize {
        self.parts.values().map(Part::rows).sum()
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.batches().map(RecordBatch::get_array_memory_size).sum()
    }

    /// This chunk without the parts of which `is_gone` says so; `None` if nothing is left.
    pub fn without(&self, is_gone: impl Fn(&Input, &Part) -> bool) -> Option<Chunk> {
        let kept = self.parts.iter().filter(|(input, part)| !is_gone(input, part));
        let parts = kept.map(|(input, part)| (Arc::clone(input), part.clone())).collect::<BTreeMap<_, _>>();
        (!parts.is_empty()).then_some(Chunk { parts })
    }
}
