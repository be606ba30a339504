//! What a backfill reads: files, or the tables of the store.

use std::path::Path;
use std::sync::Arc;

use crate::backfill::{self, Batches, Files, History, Settings};
use crate::cli::{Failure, output};
use crate::config::Config;
use crate::decode::Table;
use crate::evaluate::{PipelineSet, tables};
use crate::model::schema::StoreTable;
use crate::roles::{Clock, SystemClock};
use crate::store::history::StoredHistory;
use crate::store::{Location, Store};

use super::BackfillArguments;

/// What stands for the store in place of a path. A file of this name is `./table`.
const STORE: &str = "table";

/// A history that was looked at and not read yet.
pub(super) enum Input {
    Files(Files),
    Tables(Vec<StoredHistory>),
}

impl Input {
    /// Finds what was asked for, and tells what a user should know about it.
    pub(super) fn open(
        config: &Config,
        arguments: &BackfillArguments,
        sets: &[Arc<PipelineSet>],
        settings: &Settings,
    ) -> Result<Self, Failure> {
        let table = arguments.source.map(Table::from);
        let of_store = arguments.input.iter().filter(|path| path.as_path() == Path::new(STORE)).count();
        match (of_store, arguments.input.len()) {
            (0, _) => {
                let files = Files::open(&arguments.input, table, &backfill::needed(sets))?;
                files.notes.iter().for_each(|note| output::note(note));
                Ok(Input::Files(files))
            }
            (1, 1) => Ok(Input::Tables(of_tables(config, table, sets, settings)?)),
            _ => Err(Failure::Unusable(format!(
                "--input: `{STORE}` is the store and stands alone; a file of that name is ./{STORE}"
            ))),
        }
    }

    /// Bytes of files, or rows of tables.
    pub(super) fn size(&self) -> u64 {
        match self {
            Input::Files(files) => files.bytes,
            Input::Tables(tables) => tables.iter().map(StoredHistory::rows).sum(),
        }
    }

    /// What is in it, for its job.
    pub(super) fn digests(&self) -> Result<Vec<String>, Failure> {
        match self {
            Input::Files(files) => Ok(files.digests()?),
            Input::Tables(tables) => Ok(tables.iter().map(StoredHistory::digest).collect()),
        }
    }

    pub(super) fn into_history(self) -> History {
        let rows = self.size();
        match self {
            Input::Files(files) => History::of_files(files),
            Input::Tables(tables) => {
                History::of_batches(tables.into_iter().map(|table| Box::new(table) as Batches).collect(), rows)
            }
        }
    }
}

/// The tables that the pipelines read, or the one that was named.
fn of_tables(
    config: &Config,
    table: Option<Table>,
    sets: &[Arc<PipelineSet>],
    settings: &Settings,
) -> Result<Vec<StoredHistory>, Failure> {
    let location = Location::existing(&config.store.url, &config.store.folder);
    let location = location.map_err(|error| Failure::Unusable(error.to_string()))?;
    let measures = sets.first().map(|set| tables::measures(set)).unwrap_or_default();
    let store = Store::open(&location, &measures).map_err(Failure::work)?;
    let (needed, now) = (backfill::needed(sets), SystemClock::default().wall());
    let inputs =
        [(Table::Logs, StoreTable::Logs, &needed.logs), (Table::Metrics, StoreTable::Metrics, &needed.metrics)];
    let wanted =
        inputs.into_iter().filter(|(kind, _, columns)| !columns.is_empty() && table.is_none_or(|table| table == *kind));
    let open = |(_, table, columns): (Table, StoreTable, &Vec<usize>)| {
        let schema = table.schema();
        let mut names = vec![table.time_column().to_owned()];
        names.extend(columns.iter().map(|place| schema.field(*place).name().clone()));
        names.dedup();
        StoredHistory::open(&store, table, names, (settings.from, settings.to), now).map_err(Failure::work)
    };
    wanted.map(open).collect()
}
