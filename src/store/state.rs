//! One table's state: which rows are in Delta, which are in memory, and the one view of both.
//!
//! Hot and cold are divided by offset, never by time: memory holds of each input what follows the offset that the
//! version of Delta has of it. Rows leave memory in the same step in which a version that has them arrives, whoever
//! committed them and whenever, and rows that it has already are not taken in. So every view shows each row exactly
//! once, whatever becomes of a commit and of the inputs' owners. `state` is pure.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;

use super::chunk::{Chunk, Input, OffsetRange, rows_since};
use super::files::FileEntry;

/// One version of a Delta table: its live files, and how far each input partition is in them.
#[derive(Clone, Debug, Default)]
pub struct Committed {
    pub version: u64,
    pub files: Vec<Arc<FileEntry>>,
    /// The next offset, in this very version, of each input partition that this process asked about.
    pub offsets: BTreeMap<Input, i64>,
}

/// What a statement reads of one table: every row exactly once.
#[derive(Clone, Debug, Default)]
pub struct TableView {
    pub committed: Arc<Committed>,
    pub hot: Vec<RecordBatch>,
}

/// See the module's head.
#[derive(Debug, Default)]
pub struct TableState {
    committed: Arc<Committed>,
    sealed: VecDeque<Arc<Chunk>>,
    open: Chunk,
}

impl TableState {
    /// Takes rows that follow those of the same input before. What Delta has of them already is left out: a commit may
    /// arrive after its input was given away, came back, and is read again.
    pub fn append(&mut self, input: &Input, range: OffsetRange, batch: RecordBatch) -> Result<(), ArrowError> {
        let start = self.committed.offsets.get(input).map_or(range.start, |next| range.start.max(*next));
        if start >= range.end {
            return Ok(());
        }
        self.open.append(input, OffsetRange { start, ..range }, rows_since(&batch, start))
    }

    /// Closes the open chunk for a commit; `None` if nothing was read since the last time.
    pub fn seal(&mut self) -> Option<Arc<Chunk>> {
        if self.open.parts.is_empty() {
            return None;
        }
        let sealed = Arc::new(std::mem::take(&mut self.open));
        self.sealed.push_back(Arc::clone(&sealed));
        Some(sealed)
    }

    /// Goes on from a version of Delta: what it has leaves memory. An older version than the present one is ignored.
    pub fn adopt(&mut self, committed: Arc<Committed>) {
        if committed.version < self.committed.version {
            return;
        }
        self.keep(|chunk| chunk.since(&committed.offsets));
        self.committed = committed;
    }

    /// Drops the rows of inputs that belong to another process now: it reads them again.
    pub fn forget(&mut self, inputs: &[Input]) {
        self.keep(|chunk| chunk.without(inputs));
    }

    fn keep(&mut self, kept: impl Fn(&Chunk) -> Option<Chunk>) {
        self.open = kept(&self.open).unwrap_or_default();
        self.sealed = self.sealed.iter().filter_map(|chunk| kept(chunk)).map(Arc::new).collect();
    }

    /// What is to be committed next.
    pub fn oldest_sealed(&self) -> Option<Arc<Chunk>> {
        self.sealed.front().cloned()
    }

    /// True while a sealed chunk has rows of this input.
    pub fn is_waiting(&self, input: &Input) -> bool {
        self.sealed.iter().any(|chunk| chunk.parts.contains_key(input))
    }

    /// Bytes of the open chunk.
    pub fn open_bytes(&self) -> usize {
        self.open.bytes()
    }

    /// Bytes of everything that is not in Delta.
    pub fn hot_bytes(&self) -> usize {
        self.open.bytes() + self.sealed.iter().map(|chunk| chunk.bytes()).sum::<usize>()
    }

    pub fn view(&self) -> TableView {
        let chunks = self.sealed.iter().map(AsRef::as_ref).chain([&self.open]);
        TableView { committed: Arc::clone(&self.committed), hot: chunks.flat_map(Chunk::batches).cloned().collect() }
    }
}

#[cfg(test)]
mod tests;
