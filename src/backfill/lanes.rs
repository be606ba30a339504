//! Lanes: the files of a history side by side, read in the order of their event times.
//!
//! A lane is one file. The lane whose rows are the earliest gives the next chunk, so that files of neighbouring hours come
//! one after the other and files of the same hours together, and few windows are open at once. The order depends on the
//! files alone.

use std::collections::VecDeque;
use std::iter::Peekable;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;

use super::BackfillError;
use super::chunk::{Chunk, Content};
use super::files::{FileKind, Files, incoming};
use super::lines::{Lines, Packing, Spare};
use super::parquet::ParquetFile;
use crate::decode::{DecodeLimits, Decoder, Table};
use crate::model::pipeline::Micros;
use crate::model::schema::StoreTable;

/// Files that are open at once. More that overlap in event time wait, and hold windows open; each may hold 8 MB or more
/// of a packed file.
const OPEN_LANES_MAX: usize = 64;
/// Lines at the end of a chunk that are asked for their time until one has it.
const TIMED_LINES_MAX: usize = 8;

/// Rows of a table in any order.
pub type Batches = Box<dyn Iterator<Item = Result<(StoreTable, RecordBatch), String>> + Send>;

/// What is read: files, or rows from elsewhere.
pub struct History {
    lanes: Vec<Lane>,
    /// Of the files, as they are on disk.
    pub(super) bytes: u64,
    pub(super) read: Arc<AtomicU64>,
}

struct Lane {
    kind: LaneKind,
    /// The event time that it begins with.
    first: Micros,
}

enum LaneKind {
    Lines { path: PathBuf, packing: Packing, table: Table },
    Parquet(Arc<ParquetFile>),
    Batches(Batches),
}

impl History {
    /// The files.
    pub fn of_files(files: Files) -> Self {
        let lane = |file: super::files::HistoryFile| {
            let super::files::HistoryFile { path, table, kind, first, .. } = file;
            let kind = match kind {
                FileKind::Lines(packing) => LaneKind::Lines { path, packing, table },
                FileKind::Parquet(file) => LaneKind::Parquet(file),
            };
            Lane { kind, first }
        };
        let mut lanes = files.files.into_iter().map(lane).collect::<Vec<_>>();
        lanes.sort_by_key(|lane| lane.first);
        History { lanes, bytes: files.bytes, read: Arc::default() }
    }

    /// Rows of `logs` and `metrics` from elsewhere, such as the store, with the columns of their tables or some of them.
    /// Rows of other tables are refused. Several are read side by side, like files; `rows` is how many all of them have, if
    /// anybody knows, and counts as bytes.
    pub fn of_batches(batches: Vec<Batches>, rows: u64) -> Self {
        let lane = |batches| Lane { kind: LaneKind::Batches(batches), first: Micros::MIN };
        History { lanes: batches.into_iter().map(lane).collect(), bytes: rows, read: Arc::default() }
    }

    /// For each lane the event time that it cannot go behind before it is read.
    pub(super) fn floors(&self, disorder: Micros) -> Vec<Micros> {
        let floor = |lane: &Lane| match &lane.kind {
            LaneKind::Parquet(file) if file.rest(0).is_some() => lane.first,
            _ => lane.first.saturating_sub(disorder),
        };
        self.lanes.iter().map(floor).collect()
    }
}

/// Reads the lanes.
pub(super) struct Reader {
    read: Arc<AtomicU64>,
    /// Memory of blocks of lines, for all lanes.
    spare: Spare,
    waiting: VecDeque<(usize, Lane)>,
    open: Vec<OpenLane>,
}

struct OpenLane {
    lane: usize,
    name: Arc<str>,
    source: Source,
    /// The event time that it has come to.
    position: Micros,
}

enum Source {
    Lines(Lines, Table),
    RowGroups(Arc<ParquetFile>, usize),
    Batches(Peekable<Batches>),
}

impl Reader {
    pub(super) fn new(history: History) -> Self {
        let waiting = history.lanes.into_iter().enumerate().collect();
        Reader { read: history.read, spare: Spare::default(), waiting, open: Vec::new() }
    }

    /// The next chunk; `None` after the last one of the last lane.
    pub(super) fn next(&mut self) -> Result<Option<Chunk>, BackfillError> {
        self.open_what_begins()?;
        let earliest = self.open.iter_mut().min_by_key(|lane| lane.position);
        let Some(lane) = earliest else { return Ok(None) };
        let chunk = lane.next(&self.read)?;
        if chunk.is_last {
            self.open.retain(|lane| lane.lane != chunk.lane);
        }
        Ok(Some(chunk))
    }

    /// Opens each waiting lane that begins before the open ones go on.
    fn open_what_begins(&mut self) -> Result<(), BackfillError> {
        while self.open.len() < OPEN_LANES_MAX {
            let reached = self.open.iter().map(|lane| lane.position).min().unwrap_or(Micros::MAX);
            let Some((number, lane)) = self.waiting.pop_front_if(|(_, lane)| lane.first <= reached) else { break };
            let opened = OpenLane::open(number, lane, &self.read, &self.spare)?;
            self.open.push(opened);
        }
        Ok(())
    }
}

impl OpenLane {
    fn open(number: usize, lane: Lane, read: &Arc<AtomicU64>, spare: &Spare) -> Result<Self, BackfillError> {
        let (name, source) = match lane.kind {
            LaneKind::Lines { path, packing, table } => {
                let lines = Lines::open(&path, packing, read, spare);
                let name = path.display().to_string();
                let lines = lines.map_err(|error| BackfillError::File { file: path, reason: error.to_string() })?;
                (name, Source::Lines(lines, table))
            }
            LaneKind::Parquet(file) => (file.name(), Source::RowGroups(file, 0)),
            LaneKind::Batches(batches) => ("the table".to_owned(), Source::Batches(batches.peekable())),
        };
        Ok(Self { lane: number, name: name.into(), source, position: lane.first })
    }

    fn next(&mut self, read: &AtomicU64) -> Result<Chunk, BackfillError> {
        match &mut self.source {
            Source::Lines(lines, table) => {
                let (table, next) = (*table, lines.next());
                let failed = |error: std::io::Error| BackfillError::File {
                    file: self.name.as_ref().into(),
                    reason: error.to_string(),
                };
                let (block, is_last) = next.map_err(failed)?;
                self.position = last_time(table, &block).map_or(self.position, |last| last.max(self.position));
                Ok(self.chunk(table, Content::Lines(block), None, is_last))
            }
            Source::RowGroups(file, next) => {
                let (file, group) = (Arc::clone(file), *next);
                *next += 1;
                if group >= file.row_groups() {
                    let nothing = RecordBatch::new_empty(file.table.schema());
                    return Ok(self.chunk(file.table, Content::Rows(nothing), Some(Micros::MAX), true));
                }
                read.fetch_add(file.bytes_of(group), Ordering::Relaxed);
                let (rest, is_last) = (file.rest(group + 1), group + 1 == file.row_groups());
                self.position = rest.unwrap_or(self.position);
                Ok(self.chunk(file.table, Content::RowGroup(file, group), rest, is_last))
            }
            Source::Batches(batches) => {
                let (table, rows) = match batches.next() {
                    None => (Table::Logs, RecordBatch::new_empty(Table::Logs.schema())),
                    Some(next) => input(next.map_err(BackfillError::Rows)?)?,
                };
                let is_last = batches.peek().is_none();
                read.fetch_add(rows.num_rows() as u64, Ordering::Relaxed);
                self.position = latest(&rows).map_or(self.position, |latest| latest.max(self.position));
                Ok(self.chunk(table, Content::Rows(rows), None, is_last))
            }
        }
    }

    fn chunk(&self, table: Table, content: Content, rest: Option<Micros>, is_last: bool) -> Chunk {
        Chunk { lane: self.lane, name: Arc::clone(&self.name), table, content, rest, is_last }
    }
}

/// Rows of a table that pipelines read.
fn input((table, rows): (StoreTable, RecordBatch)) -> Result<(Table, RecordBatch), BackfillError> {
    match table {
        StoreTable::Logs => Ok((Table::Logs, rows)),
        StoreTable::Metrics => Ok((Table::Metrics, rows)),
        StoreTable::Windows | StoreTable::Detections | StoreTable::IncidentChanges | StoreTable::Audit => {
            Err(BackfillError::Unusable(format!("the table `{}` is no input of pipelines", table.name())))
        }
    }
}

/// The latest event time of some rows.
fn latest(rows: &RecordBatch) -> Option<Micros> {
    let times = rows.column_by_name("timestamp")?.as_primitive_opt::<TimestampMicrosecondType>()?;
    arrow::compute::max(times)
}

/// The event time of the last line of a block that has one.
fn last_time(table: Table, block: &[u8]) -> Option<Micros> {
    let lines = block.rsplit(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let mut decoder = Decoder::new(table, DecodeLimits::default());
    lines.take(TIMED_LINES_MAX).find_map(|line| decoder.push(&incoming(line)).ok())
}
