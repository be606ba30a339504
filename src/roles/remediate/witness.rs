//! Witnesses: what the logs say about an incident, looked up once, before its ticket is first written.
//!
//! ```text
//!  Incident ──▶ Question: whose, when, where ──▶ Logs::ask, on a thread of its own ──▶ Witness: scrubbed, cut, counted
//! ```
//!
//! An incident of one organisation is looked up as that organisation: its session has no rows of others. Of a row a line
//! shows the time, level, event, route, status, exception and message; never who it was or where from. A line is scrubbed
//! here, before it is kept anywhere. Nothing is written, and nobody waits longer than [`WAIT`]: a ticket without lines
//! says why it has none.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::error::ArrowError;
use thiserror::Error;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use crate::events;
use crate::incident::Incident;
use crate::incident::witness::{Unheard, Witness};
use crate::model::pipeline::Micros;
use crate::model::principal::Principal;
use crate::model::schema::{self, StoreTable};
use crate::model::series::Label;
use crate::model::time::format_time;
use crate::query::{Engine, Limits, QueryError, TableSource};
use crate::roles::{Clock, SystemClock};
use crate::scrub::scrub;
use crate::store::scan::table_source;
use crate::store::{Location, Store, StoreError};
use lines::Row;

mod lines;

/// How long a ticket waits for lines of logs, from the question on. Longer finds them in slower stores, and tells people later.
const WAIT: Duration = Duration::from_secs(10);
/// How long one of the two statements may run.
const STATEMENT_WAIT: Duration = Duration::from_secs(4);
/// Questions that are answered at once; further ones wait within their time. More takes memory and processor time from the rest.
const AT_ONCE: usize = 2;
/// Memory of the statements of one question, and of all.
const MEMORY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How far around the incident's windows it is looked.
const AROUND: Micros = 60 * 1_000_000;
/// The longest time that is looked at; of a longer one its end. More reads more.
const LOOKED_AT_MAX: Micros = 3_600 * 1_000_000;
/// Rows of which the lines are chosen: so many may say the same before another is missed.
const CANDIDATES_MAX: usize = 200;

/// How bad a row is, from 0.
const RANK: &str = "CASE WHEN level = 'CRITICAL' THEN 0 WHEN level = 'ERROR' OR status_code >= 500 THEN 1 \
                    WHEN level = 'WARN' OR status_code >= 400 THEN 2 ELSE 3 END";
/// Rows of what failed.
const FAILED: &str = "(level IN ('CRITICAL', 'ERROR') OR status_code >= 500)";

/// The tables that lines are looked for in.
#[derive(Clone)]
pub enum Tables {
    /// Those of this process: what it has just read is there.
    Here(TableSource),
    /// What the processes that run the role `store` have committed.
    Committed { url: String, folder: PathBuf },
}

/// What is to be looked up: rows that may be seen, and a condition on them.
#[derive(Clone, Debug)]
pub struct Question {
    principal: Principal,
    condition: String,
}

/// Why there is no answer.
#[derive(Debug, Error)]
enum LookError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error("the answer cannot be read: {0}")]
    Answer(#[from] ArrowError),
    #[error("no thread can be started: {0}")]
    Thread(#[from] std::io::Error),
}

impl LookError {
    fn unheard(&self) -> Unheard {
        match self {
            LookError::Store(StoreError::Location { .. }) => Unheard::NoStore,
            LookError::Query(QueryError::Time(_)) => Unheard::Late,
            _ => Unheard::Unreadable,
        }
    }
}

impl Question {
    /// About the time from the window in which it began to the newest one that shows it.
    pub(super) fn of(incident: &Incident) -> Question {
        let numbers = &incident.numbers;
        let length = numbers.window_end.saturating_sub(numbers.window_start);
        let last = if incident.is_firing { numbers.window_end } else { incident.opened_at };
        let to = last.max(incident.opened_at).saturating_add(AROUND);
        let from = incident.opened_at.saturating_sub(length).saturating_sub(AROUND);
        let from = from.max(to.saturating_sub(LOOKED_AT_MAX));
        let mut condition =
            format!("timestamp >= TIMESTAMP '{}' AND timestamp < TIMESTAMP '{}'", format_time(from), format_time(to));
        // A label that is no text of a log (a part of another pipeline's row) says nothing about a line.
        let logs = schema::logs();
        let is_text = |name: &str| logs.field_with_name(name).is_ok_and(|column| column.data_type().is_string());
        for (name, label) in incident.series.0.iter().filter(|(name, _)| is_text(name)) {
            match label {
                Label::Null => condition.push_str(&format!(" AND {name} IS NULL")),
                Label::Text(text) => condition.push_str(&format!(" AND {name} = '{}'", text.replace('\'', "''"))),
                Label::Bool(_) | Label::Int(_) => {}
            }
        }
        let principal = incident.organisation_id.clone().map_or(Principal::Operator, Principal::Organisation);
        Question { principal, condition }
    }

    fn lines_sql(&self) -> String {
        let (columns, condition, logs) = (lines::columns(), &self.condition, StoreTable::Logs.name());
        format!(
            "SELECT {columns} FROM {logs} WHERE {condition} \
             ORDER BY {RANK}, timestamp, kafka_partition, kafka_offset LIMIT {CANDIDATES_MAX}"
        )
    }

    fn counts_sql(&self) -> String {
        let (condition, logs) = (&self.condition, StoreTable::Logs.name());
        format!(
            "SELECT count(DISTINCT user_id) AS users, count(DISTINCT organisation_id) AS organisations \
             FROM {logs} WHERE {condition} AND {FAILED}"
        )
    }
}

/// Answers questions.
pub(super) struct Logs {
    tables: Option<Tables>,
    /// Made for the first question.
    opened: Mutex<Option<Opened>>,
    turns: Arc<Semaphore>,
}

/// Tables that can be asked.
#[derive(Clone)]
struct Opened {
    engine: Arc<Engine>,
    /// To be brought up to date before each question, as nobody else here does.
    store: Option<Arc<Store>>,
}

impl Logs {
    pub(super) fn new(tables: Option<Tables>) -> Arc<Logs> {
        Arc::new(Logs { tables, opened: Mutex::new(None), turns: Arc::new(Semaphore::new(AT_ONCE)) })
    }

    /// What is known within [`WAIT`].
    pub(super) async fn ask(self: Arc<Self>, incident_id: &str, question: Question) -> Witness {
        if self.tables.is_none() {
            return Witness::unheard(Unheard::NoStore);
        }
        match timeout(WAIT, self.answer(question)).await {
            Ok(Ok(witness)) => witness,
            Ok(Err(error)) => {
                events::witness_failed(incident_id, &scrub(&error.to_string()));
                Witness::unheard(error.unheard())
            }
            Err(_) => {
                events::witness_failed(incident_id, Unheard::Late.words());
                Witness::unheard(Unheard::Late)
            }
        }
    }

    /// Looks on a thread of its own: storage may take longer than anybody waits, and is opened where waiting is allowed.
    async fn answer(self: Arc<Self>, question: Question) -> Result<Witness, LookError> {
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let (tell, told) = oneshot::channel();
        let look = move || {
            // If nobody waits any more, the ticket has said so.
            let _ = tell.send(self.look(&question));
            drop(turn);
        };
        std::thread::Builder::new().name("witness".to_owned()).spawn(look)?;
        told.await.unwrap_or(Err(LookError::Query(QueryError::Defect)))
    }

    fn look(&self, question: &Question) -> Result<Witness, LookError> {
        let Opened { engine, store } = self.open()?;
        if let Some(store) = store {
            store.refresh(StoreTable::Logs)?;
        }
        let rows = run(&engine, &question.principal, &question.lines_sql())?;
        // Lines without numbers are worth more than neither.
        let counts = run(&engine, &question.principal, &question.counts_sql()).unwrap_or_default();
        let count = |nth| counts.first().and_then(|row: &Row| row.text(nth)?.parse().ok()).filter(|count| *count > 0);
        let (lines, traces) = lines::choose(&rows);
        Ok(Witness { lines, traces, users: count(0), organisations: count(1), unheard: None })
    }

    fn open(&self) -> Result<Opened, LookError> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = opened.as_ref() {
            return Ok(opened.clone());
        }
        let (source, store) = match &self.tables {
            Some(Tables::Here(source)) => (Arc::clone(source), None),
            Some(Tables::Committed { url, folder }) => {
                let store = Store::open(&Location::existing(url, folder)?, &[])?;
                let clock = SystemClock::default();
                (table_source(Arc::clone(&store), move || clock.wall()), Some(store))
            }
            None => return Err(LookError::Query(QueryError::Defect)),
        };
        let limits = Limits {
            memory_bytes_max: MEMORY_BYTES_MAX,
            memory_total_bytes_max: MEMORY_BYTES_MAX * AT_ONCE,
            time_max: STATEMENT_WAIT,
            statements_max: AT_ONCE,
        };
        Ok(opened.insert(Opened { engine: Engine::start(source, limits)?, store }).clone())
    }
}

/// The rows of a statement, as texts.
fn run(engine: &Arc<Engine>, principal: &Principal, sql: &str) -> Result<Vec<Row>, LookError> {
    let mut answer = engine.run_waiting(principal, sql)?;
    let mut rows = Vec::new();
    while let Some(batch) = answer.wait() {
        rows.extend(lines::rows(&batch?)?);
    }
    Ok(rows)
}
