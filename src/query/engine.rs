//! What all sessions of a process share: the tables' source, the limits, and the threads that statements run on.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryPool};
use tokio::runtime::{self, Runtime};

use super::turns::Turns;
use super::{QueryError, Session, TableSource};
use crate::model::principal::Principal;

/// Threads that run statements: as many as work on one statement at once.
const THREADS: usize = 2;

/// What a statement may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Memory of the statements of one session, bytes.
    pub memory_bytes_max: usize,
    /// Memory of all statements together, bytes.
    pub memory_total_bytes_max: usize,
    /// From the moment a statement is to run until its last row has been taken.
    pub time_max: Duration,
    /// Statements of one principal that run at once; the next ones wait, within their time.
    pub statements_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            memory_bytes_max: 256 * 1024 * 1024,
            memory_total_bytes_max: 1024 * 1024 * 1024,
            time_max: Duration::from_secs(60),
            statements_max: 8,
        }
    }
}

/// Makes sessions and runs their statements. Dropping it ends those that run.
pub struct Engine {
    pub(super) source: TableSource,
    pub(super) limits: Limits,
    pub(super) memory: Arc<dyn MemoryPool>,
    pub(super) turns: Turns,
    /// There until [`Drop`] takes it: a runtime may only be dropped where waiting is allowed, and that is not known.
    runtime: Option<Runtime>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Engine").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Engine {
    /// Starts the threads.
    pub fn start(source: TableSource, limits: Limits) -> Result<Arc<Engine>, QueryError> {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("query")
            .enable_all()
            .build()
            .map_err(|error| QueryError::Session(error.to_string()))?;
        let memory = Arc::new(GreedyMemoryPool::new(limits.memory_total_bytes_max));
        let turns = Turns::new(limits.statements_max);
        Ok(Arc::new(Engine { source, limits, memory, turns, runtime: Some(runtime) }))
    }

    /// A session that sees what `principal` may see.
    pub fn session(self: &Arc<Self>, principal: &Principal) -> Result<Session, QueryError> {
        Session::new(self, principal)
    }

    /// Runs one statement from a thread that may wait; [`super::Rows::wait`] gives its rows.
    pub fn run_waiting(self: &Arc<Self>, principal: &Principal, sql: &str) -> Result<super::Rows, QueryError> {
        let session = self.session(principal)?;
        self.handle()?.block_on(super::run(&session, sql))
    }

    /// Where statements run.
    pub(super) fn handle(&self) -> Result<runtime::Handle, QueryError> {
        match &self.runtime {
            Some(runtime) => Ok(runtime.handle().clone()),
            None => Err(QueryError::Defect),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
