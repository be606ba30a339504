//! The store: every row of telemetry, window and detection, readable by SQL as soon as it was read from Kafka.
//!
//! ```text
//!  Kafka ─▶ decode ─▶ open chunk ─seal─▶ sealed chunks ─▶ Parquet + one commit with the inputs' offsets ─▶ Delta
//!                         └───────── hot ─────┴───────────────────── one view ──────────────────────────────┘
//! ```
//!
//! Rows are readable from memory at once; a commit (every 30 s or 64 MB) moves them to Delta Lake in one step. A
//! statement reads one view of all tables, in which each row is exactly once. After a crash, reading goes on from the
//! offsets that Delta has; if Kafka no longer has them, the store says so and stops. Anything that reads Delta Lake
//! reads the tables; nobody but Maturion may write them.
//!
//! `store` never judges a row, never lets a principal see rows of another, and never shows a row twice or half a commit.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use thiserror::Error;
use tokio::runtime;

use crate::model::schema::StoreTable;
use chunk::{Chunk, Input, OffsetRange, Part};
use delta::Delta;
use state::{Committed, TableState, TableView};

pub mod chunk;
pub mod delta;
mod durable;
mod encode;
pub mod files;
pub mod history;
pub mod location;
pub mod maintain;
mod recover;
pub mod retention;
pub mod scan;
pub mod state;

pub use location::Location;

/// Threads that write files and commits. More commit several tables at once and take processor time from detection.
const STORE_THREADS: usize = 2;

/// The table whose log knows which jobs are done.
const JOBS: StoreTable = StoreTable::Windows;

/// Why the store cannot be opened, read or written.
#[derive(Debug, Error)]
pub enum StoreError {
    #[error("store.url = \"{url}\" cannot be used: {reason}")]
    Location { url: String, reason: String },
    #[error("the store cannot be read or written: {0}")]
    Files(#[from] object_store::Error),
    #[error("the Delta table cannot be read or written: {0}")]
    Delta(#[from] deltalake_core::DeltaTableError),
    #[error("rows cannot be put in order: {0}")]
    Rows(#[from] ArrowError),
    #[error("rows of the table `{0}` lack a column; this is a defect of Maturion")]
    Schema(&'static str),
    #[error(
        "the commit {path} of the store is damaged, and what it held cannot be taken from Kafka again, because newer \
         commits rest on it; restore the folder from a backup, or give the store a new url"
    )]
    Damaged { path: String },
    #[error(
        "the columns of the table `{table}` in the store are not those of this program ({reason}); give the store a new \
         url, or use the program that wrote it"
    )]
    OtherSchema { table: &'static str, reason: String },
    /// Another process has committed these offsets, or something before them is missing.
    #[error("{input} stands at offset {committed} in the store, so rows from {start} on do not follow")]
    NotNext { input: String, committed: i64, start: i64 },
    #[error("a file that was to be replaced is no longer part of the table")]
    Replaced,
    #[error("the table `{0}` of the store changes too often for this commit; it will be tried again")]
    Busy(&'static str),
    #[error("rows of the store cannot be read: {0}")]
    Read(String),
    #[error("the store cannot start a thread: {0}")]
    Thread(std::io::Error),
}

impl StoreError {
    /// True if a worker that begins anew, from what Delta has, may succeed.
    pub fn passes(&self) -> bool {
        match self {
            StoreError::Files(_)
            | StoreError::Read(_)
            | StoreError::Delta(_)
            | StoreError::NotNext { .. }
            | StoreError::Busy(_) => true,
            StoreError::Location { .. }
            | StoreError::Rows(_)
            | StoreError::Schema(_)
            | StoreError::Damaged { .. }
            | StoreError::OtherSchema { .. }
            | StoreError::Replaced
            | StoreError::Thread(_) => false,
        }
    }
}

/// All tables of one store, open for reading and writing in this process.
pub struct Store {
    tables: Vec<StoreTableState>,
    runtime: runtime::Runtime,
}

struct StoreTableState {
    delta: Arc<Delta>,
    state: Mutex<TableState>,
}

/// One view of all tables: what one statement reads.
#[derive(Clone, Debug)]
pub struct StoreView {
    tables: Vec<TableView>,
}

impl StoreView {
    pub fn table(&self, table: StoreTable) -> &TableView {
        &self.tables[table as usize]
    }
}

impl Store {
    /// Opens the tables below `location`, and creates those that are missing. `measures` are the columns that `windows`
    /// must have. Torn commits are taken away first.
    pub fn open(location: &Location, measures: &[String]) -> Result<Arc<Store>, StoreError> {
        let mut builder = runtime::Builder::new_multi_thread();
        builder.worker_threads(STORE_THREADS).thread_name("store").enable_all();
        let runtime = builder.build().map_err(StoreError::Thread)?;
        let tables = runtime.block_on(async {
            let mut tables = Vec::new();
            for table in StoreTable::ALL {
                let delta = Delta::open(location, table, measures).await?;
                let mut state = TableState::default();
                state.adopt(delta.committed().await?);
                tables.push(StoreTableState { delta: Arc::new(delta), state: Mutex::new(state) });
            }
            Ok::<_, StoreError>(tables)
        })?;
        Ok(Arc::new(Store { tables, runtime }))
    }

    /// The columns of a table in SQL.
    pub fn schema(&self, table: StoreTable) -> &SchemaRef {
        self.delta(table).schema()
    }

    /// The newest view of all tables.
    pub fn view(&self) -> Arc<StoreView> {
        let tables = StoreTable::ALL.map(|table| self.state(table).view());
        Arc::new(StoreView { tables: tables.into() })
    }

    /// The state of a table. Whoever holds it does no I/O.
    pub fn state(&self, table: StoreTable) -> MutexGuard<'_, TableState> {
        self.tables[table as usize].state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far an input is in a table; `None` if it was never committed. What is committed up to there is readable from
    /// now on, whoever wrote it.
    pub fn offset(&self, table: StoreTable, input: &Input) -> Result<Option<i64>, StoreError> {
        let offset = self.runtime.block_on(self.delta(table).offset(input))?;
        self.refresh(table)?;
        Ok(offset)
    }

    /// Writes a sealed chunk, and lets it leave memory in the same step in which it is in Delta. An error leaves it in
    /// memory, for another try. [`StoreError::NotNext`] means that its inputs belong to somebody else now.
    pub fn commit(&self, table: StoreTable, chunk: &Arc<Chunk>) -> Result<Arc<Committed>, StoreError> {
        let committed = self.runtime.block_on(self.delta(table).append(chunk))?;
        self.state(table).adopt(Arc::clone(&committed));
        Ok(committed)
    }

    /// Writes rows of a job, numbered from `first` on, that are not in the table yet: whoever writes the same rows again, now
    /// or later, here or in another process, writes nothing. `job` names them for good.
    pub fn write_once(&self, table: StoreTable, job: &Input, first: i64, rows: &RecordBatch) -> Result<(), StoreError> {
        let end = first.saturating_add(i64::try_from(rows.num_rows()).unwrap_or(i64::MAX));
        let rows = encode::conform(self.schema(table), rows)?;
        self.reach(table, job, first, end, |start| {
            // At most as many as there are rows.
            let written = usize::try_from(start.saturating_sub(first)).unwrap_or(0).min(rows.num_rows());
            vec![rows.slice(written, rows.num_rows() - written)]
        })
    }

    /// Notes that all rows of a job are in the tables; see [`Store::is_done`].
    pub fn finish(&self, job: &Input) -> Result<(), StoreError> {
        self.reach(JOBS, job, 0, 1, |_| Vec::new())
    }

    /// True once [`Store::finish`] was called with this name, by whomever.
    pub fn is_done(&self, job: &Input) -> Result<bool, StoreError> {
        Ok(self.offset(JOBS, job)?.is_some())
    }

    /// Brings an input from where it is to `end`, unless others do. `batches` gives the rows from a number on.
    fn reach(
        &self,
        table: StoreTable,
        input: &Input,
        first: i64,
        end: i64,
        batches: impl Fn(i64) -> Vec<RecordBatch>,
    ) -> Result<(), StoreError> {
        loop {
            let start = self.offset(table, input)?.unwrap_or(0);
            if start >= end {
                return Ok(());
            }
            if start < first {
                return Err(StoreError::NotNext { input: input.to_string(), committed: start, start: first });
            }
            let part = Part::of(OffsetRange { start, end }, batches(start));
            match self.commit(table, &Arc::new(Chunk { parts: [(Arc::clone(input), part)].into() })) {
                Ok(_) => return Ok(()),
                // Another process was faster.
                Err(StoreError::NotNext { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes over what other processes have committed.
    pub fn refresh(&self, table: StoreTable) -> Result<(), StoreError> {
        let committed = self.runtime.block_on(self.delta(table).refresh())?;
        self.state(table).adopt(committed);
        Ok(())
    }

    /// One round of maintenance of a table; see [`maintain`].
    pub fn maintain(
        &self,
        table: StoreTable,
        now: crate::model::pipeline::Micros,
    ) -> Result<maintain::Done, StoreError> {
        let (done, committed) = self.runtime.block_on(maintain::maintain(self.delta(table), now))?;
        self.state(table).adopt(committed);
        Ok(done)
    }

    fn delta(&self, table: StoreTable) -> &Delta {
        &self.tables[table as usize].delta
    }
}
