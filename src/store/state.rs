//! One table's state: which rows are in Delta, which are in memory, and the one view of both.
//!
//! Hot and cold are divided by what is committed, never by time: a chunk leaves memory in the same step in which the
//! version of Delta that has its offsets arrives, so that every view shows each row exactly once. `state` is pure.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;

use super::chunk::{Chunk, Input, OffsetRange, Part};
use super::files::FileEntry;

/// One version of a Delta table: its live files, and how far each input partition is in them.
#[derive(Clone, Debug, Default)]
pub struct Committed {
    pub version: u64,
    pub files: Vec<Arc<FileEntry>>,
    /// The next offset of each input partition that this process asked about.
    pub offsets: BTreeMap<Input, i64>,
}

impl Committed {
    fn covers(&self, input: &Input, part: &Part) -> bool {
        self.offsets.get(input).is_some_and(|next| *next >= part.range.end)
    }
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
    /// Takes rows that follow those of the same input before.
    pub fn append(&mut self, input: &Input, range: OffsetRange, batch: RecordBatch) -> Result<(), ArrowError> {
        self.open.append(input, range, batch)
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
        let kept = self.sealed.drain(..).filter_map(|chunk| {
            if !chunk.parts.iter().any(|(input, part)| committed.covers(input, part)) {
                return Some(chunk);
            }
            chunk.without(|input, part| committed.covers(input, part)).map(Arc::new)
        });
        self.sealed = kept.collect();
        self.committed = committed;
    }

    /// Drops the rows of inputs that belong to another process now: it reads them again.
    pub fn forget(&mut self, inputs: &[Input]) {
        let is_gone = |input: &Input, _: &Part| inputs.contains(input);
        self.open = self.open.without(is_gone).unwrap_or_default();
        self.sealed = self.sealed.iter().filter_map(|chunk| chunk.without(is_gone)).map(Arc::new).collect();
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
