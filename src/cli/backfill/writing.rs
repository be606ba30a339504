//! Results into the tables of the store, once, however often and by however many processes they are computed.

use std::sync::Arc;

use crate::backfill::{BackfillError, Job, Recorder};
use crate::cli::Failure;
use crate::cli::output::counted;
use crate::config::Config;
use crate::evaluate::PipelineSet;
use crate::evaluate::shard::Outputs;
use crate::model::schema::StoreTable;
use crate::roles::runtime::open_store;
use crate::roles::{Clock, SystemClock};
use crate::store::{Store, StoreError};

/// Commits after which a table is tended: its small files are merged, and its log is kept short.
const TENDED_AFTER: u64 = 50;

/// A job whose rows are not all stored yet.
pub(super) struct Writing {
    recorder: Recorder,
    tables: Tables,
    url: String,
}

struct Tables {
    store: Arc<Store>,
    job: Job,
    /// The number of the next row of windows, and of detections.
    next: [i64; 2],
    commits: u64,
}

/// What has become of a job.
pub(super) enum Begun {
    Writing(Box<Writing>),
    /// All its rows are stored. The sentence says so.
    IsDone(String),
}

impl Writing {
    /// Opens the store and asks it about the job.
    pub(super) fn begin(config: &Config, set: &Arc<PipelineSet>, names: &[String], job: Job) -> Result<Begun, Failure> {
        let store = open_store(config, set).map_err(Failure::work)?;
        let url = config.store.url.clone();
        if store.is_done(&job.done().into()).map_err(Failure::work)? {
            let id = &job.id;
            return Ok(Begun::IsDone(format!(
                "the results of this backfill are in {url} already (job {id}); nothing was written\n"
            )));
        }
        let tables = Tables { store, job, next: [0, 0], commits: 0 };
        Ok(Begun::Writing(Box::new(Writing { recorder: Recorder::new(set, names), tables, url })))
    }

    pub(super) fn take(&mut self, outputs: &Outputs) -> Result<(), BackfillError> {
        let Self { recorder, tables, .. } = self;
        recorder.take(outputs, &mut |table, rows| tables.write(table, &rows).map_err(|error| error.to_string()))
    }

    /// Writes what is left, and that all is there; what was done, in a sentence.
    pub(super) fn finish(mut self) -> Result<String, Failure> {
        let Self { recorder, tables, url } = &mut self;
        recorder.finish(&mut |table, rows| tables.write(table, &rows).map_err(|error| error.to_string()))?;
        tables.store.finish(&tables.job.done().into()).map_err(Failure::work)?;
        let windows = counted(recorder.rows(StoreTable::Windows), "row");
        let detections = counted(recorder.rows(StoreTable::Detections), "row");
        Ok(format!("stored {windows} of windows and {detections} of detections in {url} (job {})\n", tables.job.id))
    }
}

impl Tables {
    fn write(&mut self, table: StoreTable, rows: &arrow::array::RecordBatch) -> Result<(), StoreError> {
        let next = &mut self.next[usize::from(table == StoreTable::Detections)];
        self.store.write_once(table, &self.job.rows().into(), *next, rows)?;
        *next += i64::try_from(rows.num_rows()).unwrap_or(i64::MAX);
        self.commits += 1;
        if self.commits.is_multiple_of(TENDED_AFTER) {
            self.store.maintain(table, SystemClock::default().wall())?;
        }
        Ok(())
    }
}
