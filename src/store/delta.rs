//! One Delta table: its versions read, its commits written, each checked against what the table then is.
//!
//! Delta's own conflict rules let two commits of the same offsets, or two compactions of the same files, both succeed.
//! Here each commit names what it rests on (offsets that continue those committed, files that are live) and is tried
//! against exactly the version for which that was true: if another commit came first, the check is made again. So any
//! number of processes may write, and no lock outlives a crash.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::execution::cache::default_cache::DefaultCache;
use deltalake_core::DeltaTable;
use deltalake_core::kernel::schema::{StructField, StructType};
use deltalake_core::kernel::transaction::{CommitBuilder, CommitProperties, TableReference};
use deltalake_core::kernel::{Action, Remove, Transaction};
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use object_store::ObjectStore;
use object_store::path::Path;
use tokio::sync::Mutex;

use super::chunk::{Chunk, Input};
use super::files::{DAY, FileEntry, KEPT_DAYS};
use super::state::Committed;
use super::{Location, StoreError, encode, recover};
use crate::events;
use crate::model::schema::{StoreTable, windows_with};

/// How often a commit is tried while others come first.
const COMMIT_ATTEMPTS: usize = 20;

/// Footers of files that are kept in memory, per table. Fewer are read again.
const METADATA_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The log's own settings: a short log, no clean-up inside of commits (maintenance does it), few indexed columns.
const PROPERTIES: [(&str, &str); 3] = [
    ("delta.logRetentionDuration", "interval 6 hours"),
    ("delta.deletedFileRetentionDuration", "interval 2 hours"),
    ("delta.enableExpiredLogCleanup", "false"),
];

/// See the module's head.
pub struct Delta {
    table: StoreTable,
    schema: SchemaRef,
    folder: Arc<dyn ObjectStore>,
    metadata: Arc<FileMetadataCache>,
    delta: Mutex<Versions>,
}

/// The newest version that this process knows.
struct Versions {
    table: DeltaTable,
    /// By path: what the log says of a file never changes.
    files: HashMap<Path, Arc<FileEntry>>,
    /// The next offset, in this very version, of each input that was asked about; `None` if it was never committed.
    offsets: BTreeMap<Input, Option<i64>>,
}

/// A commit before it is tried.
pub(super) struct Change {
    pub actions: Vec<Action>,
    pub operation: DeltaOperation,
    /// Inputs with the offset that must be committed before, and the one that is after.
    pub offsets: Vec<(Input, i64, i64)>,
    /// Files that must be live.
    pub replaced: Vec<Path>,
}

impl Delta {
    /// Opens or creates a table below `location`.
    pub async fn open(location: &Location, table: StoreTable, measures: &[String]) -> Result<Self, StoreError> {
        let schema = match table {
            StoreTable::Windows => windows_with(measures),
            _ => table.schema(),
        };
        let mut delta = DeltaTable::new(location.table(table)?);
        let torn = recover::recover(delta.object_store().as_ref()).await?;
        if torn > 0 {
            events::torn_commits_removed(table.name(), torn as u64);
        }
        if delta.verify_deltatable_existence().await? {
            delta.load().await?;
        } else {
            delta = match create(delta, table, &schema).await {
                Ok(created) => created,
                Err(error) => made_by_others(location, table).await?.ok_or(error)?,
            };
        }
        let schema = reconcile(&mut delta, table, schema).await?;
        let (folder, metadata) = (delta.object_store(), Arc::new(DefaultCache::new(METADATA_BYTES_MAX)));
        let versions = Versions { table: delta, files: HashMap::new(), offsets: BTreeMap::new() };
        Ok(Delta { table, schema, folder, metadata, delta: Mutex::new(versions) })
    }

    pub fn table(&self) -> StoreTable {
        self.table
    }

    /// The columns in SQL.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The table's folder.
    pub fn folder(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.folder)
    }

    /// Footers of files, read once for all sessions.
    pub fn metadata(&self) -> Arc<FileMetadataCache> {
        Arc::clone(&self.metadata)
    }

    /// The version as this process knows it.
    pub async fn committed(&self) -> Result<Arc<Committed>, StoreError> {
        self.delta.lock().await.committed(self.table)
    }

    /// The newest version, of whoever wrote it.
    pub async fn refresh(&self) -> Result<Arc<Committed>, StoreError> {
        let mut versions = self.delta.lock().await;
        versions.refresh().await?;
        versions.committed(self.table)
    }

    /// How far an input is; looked up in the newest version.
    pub async fn offset(&self, input: &Input) -> Result<Option<i64>, StoreError> {
        let mut versions = self.delta.lock().await;
        versions.reopen().await?;
        versions.look_up(input).await
    }

    /// Writes a chunk's rows and commits them together with the offsets after them.
    pub async fn append(&self, chunk: &Chunk) -> Result<Arc<Committed>, StoreError> {
        let batches = chunk.batches().cloned().collect::<Vec<_>>();
        let adds = match batches.as_slice() {
            [] => Vec::new(),
            batches => encode::write(self.table, &self.schema, self.folder(), batches).await?,
        };
        let offset =
            |(input, part): (&Input, &super::chunk::Part)| (Arc::clone(input), part.range.start, part.range.end);
        self.commit(Change {
            actions: adds.into_iter().map(Action::Add).collect(),
            operation: appending(),
            offsets: chunk.parts.iter().map(offset).collect(),
            replaced: Vec::new(),
        })
        .await
    }

    /// Commits a change against the version for which it holds.
    pub(super) async fn commit(&self, change: Change) -> Result<Arc<Committed>, StoreError> {
        let mut versions = self.delta.lock().await;
        for _ in 0..COMMIT_ATTEMPTS {
            versions.check(&change, self.table).await?;
            match versions.attempt(&change).await {
                Ok(()) => return versions.committed(self.table),
                Err(error) => {
                    let known = versions.table.version();
                    versions.refresh().await?;
                    if versions.table.version() == known {
                        return Err(error);
                    }
                    if versions.has(&change).await? {
                        return versions.committed(self.table);
                    }
                }
            }
        }
        Err(StoreError::Busy(self.table.name()))
    }

    /// Runs a step of maintenance on the table itself, and goes on from a fresh look at its log: only that keeps the
    /// memory of a frequent writer small, and the step may have deleted what the look before rests on.
    pub(super) async fn tend(
        &self,
        work: impl AsyncFnOnce(&DeltaTable) -> Result<(), StoreError>,
    ) -> Result<Arc<Committed>, StoreError> {
        let mut versions = self.delta.lock().await;
        versions.refresh().await?;
        work(&versions.table).await?;
        versions.reopen().await?;
        versions.committed(self.table)
    }

    /// The actions that remove these files from the table.
    pub(super) async fn removals(&self, paths: &[Path], data_change: bool) -> Result<Vec<Remove>, StoreError> {
        let versions = self.delta.lock().await;
        let files = versions.table.snapshot()?.log_data();
        let wanted = files.iter().filter(|file| paths.contains(&file.object_store_path()));
        Ok(wanted.map(|file| file.remove_action(data_change)).collect())
    }
}

impl Versions {
    async fn refresh(&mut self) -> Result<(), StoreError> {
        let mut newest = self.table.clone();
        if newest.update_incremental(None).await.is_ok() && self.go_to(newest).await.is_ok() {
            return Ok(());
        }
        self.reopen().await
    }

    /// The newest version by a fresh look at the log: another process may have cleaned away what the last one rests on.
    async fn reopen(&mut self) -> Result<(), StoreError> {
        let mut fresh = DeltaTable::new(self.table.log_store());
        fresh.load().await?;
        self.go_to(fresh).await
    }

    /// Goes on from another version, once it is known how far every input is in it: by that, rows leave memory.
    async fn go_to(&mut self, table: DeltaTable) -> Result<(), StoreError> {
        if table.version() != self.table.version() {
            let mut offsets = BTreeMap::new();
            for input in self.offsets.keys() {
                offsets.insert(Arc::clone(input), offset_in(&table, input).await?);
            }
            self.offsets = offsets;
        }
        self.table = table;
        Ok(())
    }

    async fn look_up(&mut self, input: &Input) -> Result<Option<i64>, StoreError> {
        if let Some(offset) = self.offsets.get(input) {
            return Ok(*offset);
        }
        let offset = offset_in(&self.table, input).await?;
        self.offsets.insert(Arc::clone(input), offset);
        Ok(offset)
    }

    /// True if the offsets of a change are committed: its answer was lost, and it was not.
    async fn has(&mut self, change: &Change) -> Result<bool, StoreError> {
        for (input, _, end) in &change.offsets {
            if self.look_up(input).await? != Some(*end) {
                return Ok(false);
            }
        }
        Ok(!change.offsets.is_empty())
    }

    async fn check(&mut self, change: &Change, table: StoreTable) -> Result<(), StoreError> {
        for (input, start, _) in &change.offsets {
            // An input that was never committed begins wherever Kafka's earliest record is.
            let committed = self.look_up(input).await?;
            if let Some(committed) = committed.filter(|committed| committed != start) {
                return Err(StoreError::NotNext { input: input.to_string(), committed, start: *start });
            }
        }
        if !change.replaced.is_empty() {
            let live = self.committed(table)?;
            let is_live = |path: &Path| live.files.iter().any(|file| file.path == *path);
            if !change.replaced.iter().all(is_live) {
                return Err(StoreError::Replaced);
            }
        }
        Ok(())
    }

    async fn attempt(&mut self, change: &Change) -> Result<(), StoreError> {
        let transaction = |(input, _, end): &(Input, i64, i64)| Transaction::new(input, *end);
        let properties = CommitProperties::default()
            .with_max_retries(0)
            .with_create_checkpoint(false)
            .with_cleanup_expired_logs(Some(false))
            .with_application_transactions(change.offsets.iter().map(transaction).collect());
        let state = self.table.snapshot()?;
        let reference: &dyn TableReference = state;
        let commit = CommitBuilder::from(properties)
            .with_actions(change.actions.clone())
            .build(Some(reference), self.table.log_store(), change.operation.clone())
            .await?;
        self.table.state = Some(commit.snapshot());
        self.offsets.extend(change.offsets.iter().map(|(input, _, end)| (Arc::clone(input), Some(*end))));
        Ok(())
    }

    /// Reads each file that is new, and forgets those that are gone.
    fn committed(&mut self, table: StoreTable) -> Result<Arc<Committed>, StoreError> {
        let state = self.table.snapshot()?;
        let mut files = HashMap::new();
        for file in &state.log_data().iter().collect::<Vec<_>>() {
            let path = file.object_store_path();
            let known = self.files.get(&path).cloned().or_else(|| FileEntry::read(file, table.time_column()));
            files.extend(known.map(|entry| (path, entry)));
        }
        self.files = files;
        let mut live = self.files.values().cloned().collect::<Vec<_>>();
        live.sort_by(|one, other| one.path.cmp(&other.path));
        let offsets = self.offsets.iter().filter_map(|(input, offset)| Some((Arc::clone(input), (*offset)?))).collect();
        Ok(Arc::new(Committed { version: state.version(), files: live, offsets }))
    }
}

/// How far an input is in a version. This reads the log from its newest checkpoint on.
async fn offset_in(table: &DeltaTable, input: &Input) -> Result<Option<i64>, StoreError> {
    Ok(table.snapshot()?.transaction_version(table.log_store().as_ref(), input.as_ref()).await?)
}

/// What an append is, in the log's words.
fn appending() -> DeltaOperation {
    let partition_by = Some(vec![DAY.to_owned(), KEPT_DAYS.to_owned()]);
    DeltaOperation::Write { mode: SaveMode::Append, partition_by, predicate: None }
}

async fn create(delta: DeltaTable, table: StoreTable, schema: &SchemaRef) -> Result<DeltaTable, StoreError> {
    let stored = kernel_schema(schema)?;
    let indexed = ("delta.dataSkippingNumIndexedCols", encode::INDEXED_COLUMNS.to_string());
    let properties = PROPERTIES.map(|(key, value)| (key, value.to_owned()));
    Ok(delta
        .create()
        .with_table_name(table.name())
        .with_columns(stored.fields().cloned())
        .with_partition_columns([DAY, KEPT_DAYS])
        .with_configuration(properties.into_iter().chain([indexed]).map(|(key, value)| (key, Some(value))))
        .with_save_mode(SaveMode::Ignore)
        .await?)
}

/// A table that another process has made in the meantime.
async fn made_by_others(location: &Location, table: StoreTable) -> Result<Option<DeltaTable>, StoreError> {
    let mut delta = DeltaTable::new(location.table(table)?);
    if !delta.verify_deltatable_existence().await? {
        return Ok(None);
    }
    delta.load().await?;
    Ok(Some(delta))
}

/// The columns of an existing table, after those that are new here were added to it. Columns that only the table has
/// stay (another pipeline filled them); a column of another type is refused.
async fn reconcile(delta: &mut DeltaTable, table: StoreTable, schema: SchemaRef) -> Result<SchemaRef, StoreError> {
    for _ in 0..COMMIT_ATTEMPTS {
        let added = missing(delta, table, &schema)?;
        if added.is_empty() {
            break;
        }
        match delta.clone().add_columns().with_fields(added).await {
            Ok(wider) => *delta = wider,
            Err(error) => {
                let known = delta.version();
                delta.update_incremental(None).await?;
                if delta.version() == known {
                    return Err(error.into());
                }
            }
        }
    }
    if table != StoreTable::Windows {
        return Ok(schema);
    }
    let fixed = table.schema();
    let present = delta.snapshot()?.schema();
    let is_measure =
        |name: &&String| fixed.column_with_name(name).is_none() && ![DAY, KEPT_DAYS].contains(&name.as_str());
    let measures = present.fields().map(|field| field.name().clone()).collect::<Vec<_>>();
    Ok(windows_with(&measures.iter().filter(is_measure).cloned().collect::<Vec<_>>()))
}

/// The columns that a table lacks.
fn missing(delta: &DeltaTable, table: StoreTable, schema: &SchemaRef) -> Result<Vec<StructField>, StoreError> {
    let stored = kernel_schema(schema)?;
    let present = delta.snapshot()?.schema();
    let mut missing = Vec::new();
    for field in stored.fields() {
        match present.field(field.name()) {
            Some(known) if known.data_type() != field.data_type() => {
                let reason =
                    format!("`{}` is {} there and {} here", field.name(), known.data_type(), field.data_type());
                return Err(StoreError::OtherSchema { table: table.name(), reason });
            }
            Some(_) => {}
            None => missing.push(field.clone()),
        }
    }
    Ok(missing)
}

fn kernel_schema(schema: &SchemaRef) -> Result<StructType, StoreError> {
    use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel;
    let stored = encode::stored_schema(schema);
    let converted: Result<StructType, _> = stored.as_ref().try_into_kernel();
    Ok(converted?)
}
