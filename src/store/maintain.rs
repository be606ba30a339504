//! Maintenance of one table, in one order: compact, expire, checkpoint, look afresh, clean the log, vacuum, look afresh.
//!
//! A crash between any two steps is harmless: each is a commit of its own or deletes only what no version needs. Each is
//! bounded. Two processes that maintain one table at once do double work and no damage: whoever replaces files that are
//! no longer live is turned away ([`super::delta`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use chrono::{DateTime, Duration, NaiveDate};
use deltalake_core::DeltaTable;
use deltalake_core::kernel::Action;
use deltalake_core::operations::vacuum::VacuumMode;
use deltalake_core::protocol::DeltaOperation;
use deltalake_core::protocol::checkpoints::{cleanup_expired_logs_for, create_checkpoint};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::delta::{Change, Delta};
use super::files::FileEntry;
use super::state::Committed;
use super::{StoreError, encode, retention};
use crate::model::pipeline::Micros;

/// Files of one day and size class that are made into one. More leaves more files to open, less writes rows more often.
const MERGE_FILES: usize = 16;
/// A class has files up to sixteen times as large as the class before; the first ends here.
const SMALLEST_CLASS_BYTES: u64 = 256 * 1024;
/// Files larger than this are left alone; what is merged at once is at most twice as much. In memory it is about ten
/// times that.
const MERGED_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Merges of one round: a round must end.
const MERGES_MAX: usize = 8;
/// Commits between two checkpoints: a new reader reads so many small files at most.
const CHECKPOINT_COMMITS: u64 = 50;
/// Commits older than this are not needed to see the past any more.
const LOG_KEPT: Duration = Duration::hours(6);
/// Files that no version names are deleted after this: longer than any statement runs and any commit takes.
const ORPHANS_KEPT: Duration = Duration::hours(2);
/// How often, in checkpoints, the whole folder is listed for files that no version names.
const VACUUM_CHECKPOINTS: u64 = 10;

/// What a round did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    pub merged: u64,
    pub expired: u64,
    pub is_checkpointed: bool,
}

/// One round, at wall time `now`.
pub(super) async fn maintain(delta: &Delta, now: Micros) -> Result<(Done, Arc<Committed>), StoreError> {
    let mut committed = delta.refresh().await?;
    let mut done = Done::default();
    for group in groups(&committed.files).into_iter().take(MERGES_MAX) {
        if let Some(newer) = unless_replaced(merge(delta, &group).await)? {
            (committed, done.merged) = (newer, done.merged + group.len() as u64);
        }
    }
    let expired = committed.files.iter().filter(|file| is_expired(file, now)).map(|file| file.path.clone());
    let expired = expired.collect::<Vec<_>>();
    let files = expired.len() as u64;
    if files > 0
        && let Some(newer) = unless_replaced(expire(delta, expired).await)?
    {
        (committed, done.expired) = (newer, files);
    }
    if committed.version.is_multiple_of(CHECKPOINT_COMMITS) || done.merged + done.expired > 0 {
        done.is_checkpointed = true;
        delta.tend(async |table| Ok(create_checkpoint(table, None).await?)).await?;
        committed = delta.tend(async |table| clean(table, now).await).await?;
    }
    Ok((done, committed))
}

/// `None` if the files are gone: another process was faster, or this one was and did not hear of it.
fn unless_replaced(result: Result<Arc<Committed>, StoreError>) -> Result<Option<Arc<Committed>>, StoreError> {
    match result {
        Err(StoreError::Replaced) => Ok(None),
        other => other.map(Some),
    }
}

/// Files to be made into one: of one day, kept equally long, of one size class.
fn groups(files: &[Arc<FileEntry>]) -> Vec<Vec<Arc<FileEntry>>> {
    let mut classes: BTreeMap<(NaiveDate, i64, u32), Vec<Arc<FileEntry>>> = BTreeMap::new();
    for file in files.iter().filter(|file| file.bytes <= MERGED_BYTES_MAX) {
        classes.entry((file.day, file.kept_days, class(file.bytes))).or_default().push(Arc::clone(file));
    }
    let full = classes.into_values().flat_map(|files| bundles(&files));
    full.collect()
}

fn class(bytes: u64) -> u32 {
    let (mut class, mut limit) = (0, SMALLEST_CLASS_BYTES);
    while bytes > limit {
        (class, limit) = (class + 1, limit * 16);
    }
    class
}

/// Divides files of one class into bundles of [`MERGE_FILES`], fewer where they are large; a rest waits.
fn bundles(files: &[Arc<FileEntry>]) -> Vec<Vec<Arc<FileEntry>>> {
    let mut bundles = Vec::new();
    let (mut open, mut bytes) = (Vec::new(), 0);
    for file in files {
        open.push(Arc::clone(file));
        bytes += file.bytes;
        if open.len() >= MERGE_FILES || (bytes > MERGED_BYTES_MAX && open.len() > 1) {
            bundles.push(std::mem::take(&mut open));
            bytes = 0;
        }
    }
    bundles
}

async fn merge(delta: &Delta, files: &[Arc<FileEntry>]) -> Result<Arc<Committed>, StoreError> {
    let paths = files.iter().map(|file| file.path.clone()).collect::<Vec<_>>();
    let mut batches = Vec::new();
    for file in files {
        batches.extend(read(delta, file).await?);
    }
    let mut adds = encode::write(delta.table(), delta.schema(), delta.folder(), &batches).await?;
    adds.iter_mut().for_each(|add| add.data_change = false);
    let removes = delta.removals(&paths, false).await?;
    if removes.len() != paths.len() {
        return Err(StoreError::Replaced);
    }
    let target_size = i64::try_from(MERGED_BYTES_MAX).unwrap_or(i64::MAX);
    let actions = removes.into_iter().map(Action::Remove).chain(adds.into_iter().map(Action::Add));
    let operation = DeltaOperation::Optimize { predicate: None, target_size };
    delta.commit(Change { actions: actions.collect(), operation, offsets: Vec::new(), replaced: paths }).await
}

/// A file's rows with the columns of the table in SQL; a column that the file does not have is null.
async fn read(delta: &Delta, file: &FileEntry) -> Result<Vec<RecordBatch>, StoreError> {
    let bytes = delta.folder().get(&file.path).await?.bytes().await?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).and_then(|builder| builder.build());
    let batches = reader.map_err(|error| unreadable(file, &error))?;
    batches.map(|batch| encode::conform(delta.schema(), &batch?)).collect()
}

fn unreadable(file: &FileEntry, error: &dyn std::fmt::Display) -> StoreError {
    let (url, reason) = (file.path.to_string(), error.to_string());
    StoreError::Location { url, reason }
}

/// True once every row of the file's day has expired.
fn is_expired(file: &FileEntry, now: Micros) -> bool {
    let day_after = file.day.succ_opt().and_then(|day| day.and_hms_opt(0, 0, 0));
    let end = day_after.map(|end| end.and_utc().timestamp_micros());
    end.is_some_and(|end| end <= retention::kept_from(now, file.kept_days))
}

async fn expire(delta: &Delta, expired: Vec<Path>) -> Result<Arc<Committed>, StoreError> {
    let removes = delta.removals(&expired, true).await?;
    let actions = removes.into_iter().map(Action::Remove).collect();
    let operation = DeltaOperation::Delete { predicate: Some("expired".to_owned()) };
    delta.commit(Change { actions, operation, offsets: Vec::new(), replaced: expired }).await
}

/// Deletes what no version needs. The table must have been looked at since the last checkpoint: commits before that go.
async fn clean(table: &DeltaTable, now: Micros) -> Result<(), StoreError> {
    let version = table.version().unwrap_or_default();
    let now = DateTime::from_timestamp_micros(now).unwrap_or_default();
    let cut = (now - LOG_KEPT).timestamp_millis();
    cleanup_expired_logs_for(version, table.log_store().as_ref(), cut, None).await?;
    if (version / CHECKPOINT_COMMITS).is_multiple_of(VACUUM_CHECKPOINTS) {
        let vacuum = table.clone().vacuum().with_mode(VacuumMode::Full).with_retention_period(ORPHANS_KEPT);
        vacuum.with_enforce_retention_duration(false).await?;
    }
    Ok(())
}
