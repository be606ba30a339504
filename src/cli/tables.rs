//! Rows for `sql` and `explain`: from the running instance, or from the store's files where none runs.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::config::{Config, Secret};
use crate::events;
use crate::model::principal::Principal;
use crate::query::{Engine, Limits, Rows};
use crate::roles::{Clock, SystemClock};
use crate::serve::{self, AskError, Question};
use crate::store::scan::table_source;
use crate::store::{Location, Store};

use super::Failure;

/// Rows as they come.
pub(super) struct Found {
    pub(super) schema: SchemaRef,
    pub(super) batches: Box<dyn Iterator<Item = Result<RecordBatch, Failure>>>,
}

/// Asks the instance at `serve.http`, which also has rows that are not committed yet. If none answers, the store itself.
pub(super) fn ask(config: &Config, question: Question) -> Result<Found, Failure> {
    let token = config.serve.token.as_ref().map(Secret::reveal);
    match serve::ask(config.serve.http, token, question.clone()) {
        Ok(answer) => {
            let schema = answer.schema();
            Ok(Found { schema, batches: Box::new(answer.map(|batch| batch.map_err(Failure::work))) })
        }
        Err(AskError::Unreachable { address, reason }) => {
            let location = Location::existing(&config.store.url, &config.store.folder);
            let location = location.map_err(|_| Failure::work(AskError::Unreachable { address, reason }))?;
            events::asked_the_store(&config.store.url);
            read(&location, question)
        }
        Err(error) => Err(Failure::work(error)),
    }
}

fn read(location: &Location, question: Question) -> Result<Found, Failure> {
    let store = Store::open(location, &[]).map_err(Failure::work)?;
    let clock = SystemClock::default();
    let engine = Engine::start(table_source(store, move || clock.wall()), Limits::default()).map_err(Failure::work)?;
    let principal = question.tenant.map_or(Principal::Operator, Principal::Organisation);
    let rows = engine.run_waiting(&principal, &question.sql).map_err(Failure::work)?;
    Ok(Found { schema: rows.schema(), batches: Box::new(Waiting { rows, _engine: engine }) })
}

/// Keeps the threads for as long as rows come.
struct Waiting {
    rows: Rows,
    _engine: std::sync::Arc<Engine>,
}

impl Iterator for Waiting {
    type Item = Result<RecordBatch, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rows.wait().map(|batch| batch.map_err(Failure::work))
    }
}
