//! Rows in memory: what was read from Kafka and is not in Delta yet, with the offsets it came from.
//!
//! ```text
//!   append            seal                commit
//!  ────────▶ open ──────────▶ sealed ──────────────▶ in Delta, and no longer here
//!                               │ the input went to another process
//!                               └─────────────────▶ forgotten; its new owner reads the rows again
//! ```
//!
//! Whatever Delta turns out to have, by whomever it was committed, leaves: a chunk can be cut at any offset.
//! `chunk` is pure: it knows no clock, no file and no Delta.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Int64Type};
use arrow::error::ArrowError;

/// An input partition as the store names it in Delta's `txn` actions, such as `telemetry.logs-0`.
pub type Input = Arc<str>;

/// Batches smaller than this are joined with the one before, so that a view holds few of them however often rows
/// arrive. Larger copies each row more often.
const BATCH_ROWS: usize = 8_192;

/// The column that tells from which record a row comes. Every batch has it, and rises in it.
const OFFSET: &str = "kafka_offset";

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
    batches: Vec<RecordBatch>,
    /// Of all batches, in memory: counted along, because it is asked for all the time.
    bytes: usize,
}

impl Part {
    fn new(start: i64) -> Part {
        Part { range: OffsetRange { start, end: start }, batches: Vec::new(), bytes: 0 }
    }

    /// These rows, as what there is of a range.
    pub(super) fn of(range: OffsetRange, batches: Vec<RecordBatch>) -> Part {
        let empty = Part { range, batches: Vec::new(), bytes: 0 };
        batches.into_iter().fold(empty, |mut part, batch| {
            part.push(batch);
            part
        })
    }

    /// Adds what follows. A read without rows (all of them were unreadable, or none was there) advances the range.
    fn append(&mut self, range: OffsetRange, batch: RecordBatch) -> Result<(), ArrowError> {
        self.range.end = range.end;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.push(batch);
        self.join_small()
    }

    fn push(&mut self, batch: RecordBatch) {
        self.bytes += batch.get_array_memory_size();
        self.batches.push(batch);
    }

    /// Joins the newest batches like the digits of a counter: each row is copied about log2([`BATCH_ROWS`]) times.
    fn join_small(&mut self) -> Result<(), ArrowError> {
        while let [.., before, last] = self.batches.as_slice() {
            let rows = before.num_rows() + last.num_rows();
            if rows > BATCH_ROWS || before.num_rows() > 2 * last.num_rows() {
                break;
            }
            let joined = compact(&concat_batches(&before.schema(), [before, last])?)?;
            self.bytes -= before.get_array_memory_size() + last.get_array_memory_size();
            self.batches.truncate(self.batches.len() - 2);
            self.push(joined);
        }
        Ok(())
    }

    /// What of it stands at `start` or later; `None` if that is nothing.
    fn since(&self, start: i64) -> Option<Part> {
        if start <= self.range.start {
            return Some(self.clone());
        }
        if start >= self.range.end {
            return None;
        }
        let mut rest = Part::new(start);
        rest.range.end = self.range.end;
        for batch in &self.batches {
            let batch = rows_since(batch, start);
            if batch.num_rows() > 0 {
                rest.push(batch);
            }
        }
        Some(rest)
    }

    fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }
}

/// The rows of a batch that come from `start` or later.
pub(super) fn rows_since(batch: &RecordBatch, start: i64) -> RecordBatch {
    let offsets = batch.column_by_name(OFFSET).and_then(|column| column.as_primitive_opt::<Int64Type>());
    let before = offsets.map_or(0, |offsets| offsets.values().partition_point(|offset| *offset < start));
    batch.slice(before, batch.num_rows() - before)
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
        self.parts.entry(Arc::clone(input)).or_insert_with(|| Part::new(range.start)).append(range, batch)
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
        self.parts.values().map(|part| part.bytes).sum()
    }

    /// This chunk without all rows of these inputs; `None` if nothing is left.
    pub fn without(&self, inputs: &[Input]) -> Option<Chunk> {
        self.kept(|input, part| (!inputs.contains(input)).then(|| part.clone()))
    }

    /// This chunk without what stands before these offsets; `None` if nothing is left.
    pub fn since(&self, offsets: &BTreeMap<Input, i64>) -> Option<Chunk> {
        self.kept(|input, part| offsets.get(input).map_or_else(|| Some(part.clone()), |start| part.since(*start)))
    }

    fn kept(&self, keep: impl Fn(&Input, &Part) -> Option<Part>) -> Option<Chunk> {
        let kept = self.parts.iter().filter_map(|(input, part)| Some((Arc::clone(input), keep(input, part)?)));
        let parts = kept.collect::<BTreeMap<_, _>>();
        (!parts.is_empty()).then_some(Chunk { parts })
    }
}
