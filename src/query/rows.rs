//! A statement that runs: its rows, a few batches ahead of whoever takes them.
//!
//! The statement is a task of its own. It waits when [`BATCHES_IN_FLIGHT`] batches have not been taken, so an answer of
//! any length needs little memory, and its time goes on while it waits, so a reader that stopped reading holds nothing
//! for longer than the limit. Dropping the rows ends the task. The end of the rows is told from a failure by how the
//! task ended, never by the rows having run out.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{SendableRecordBatchStream, execute_stream};
use futures::{FutureExt, Stream, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::{Engine, QueryError};
use crate::model::principal::Principal;

/// Batches that are ready and have not been taken: of 8,192 rows at most each.
const BATCHES_IN_FLIGHT: usize = 2;

/// The rows of a statement, in batches of one schema. After an error there are no more.
#[derive(Debug)]
pub struct Rows {
    schema: SchemaRef,
    batches: mpsc::Receiver<RecordBatch>,
    task: Option<Task>,
    handle: Handle,
}

/// Ends the statement when it is dropped.
#[derive(Debug)]
struct Task(JoinHandle<Result<(), QueryError>>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a statement needs to run.
pub(super) struct Statement {
    pub(super) engine: Arc<Engine>,
    pub(super) principal: Principal,
    pub(super) renew: Arc<dyn Fn() + Send + Sync>,
    pub(super) state: SessionState,
    pub(super) plan: LogicalPlan,
}

impl Rows {
    /// Begins to run `statement`, which ends after `time` in any case; waits until its columns are known.
    pub(super) async fn begin(statement: Statement, time: Duration) -> Result<Rows, QueryError> {
        let handle = statement.engine.handle()?;
        let (known, schema) = oneshot::channel();
        let (ready, batches) = mpsc::channel(BATCHES_IN_FLIGHT);
        let work = async move {
            let run = run(statement, known, ready);
            tokio::time::timeout(time, run).await.unwrap_or(Err(QueryError::Time(time)))
        };
        let mut task = Task(handle.spawn(work));
        match schema.await {
            Ok(schema) => Ok(Rows { schema, batches, task: Some(task), handle }),
            Err(_) => Err(match ended((&mut task.0).await) {
                Err(error) => error,
                // The columns are told before anything else can succeed.
                Ok(()) => QueryError::Defect,
            }),
        }
    }

    /// The columns.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// The next batch, for a thread that may wait and runs no other task.
    pub fn wait(&mut self) -> Option<Result<RecordBatch, QueryError>> {
        let handle = self.handle.clone();
        handle.block_on(self.next())
    }
}

impl Stream for Rows {
    type Item = Result<RecordBatch, QueryError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(batch) = ready!(self.batches.poll_recv(context)) {
            return Poll::Ready(Some(Ok(batch)));
        }
        let Some(task) = &mut self.task else { return Poll::Ready(None) };
        let outcome = ended(ready!(task.0.poll_unpin(context)));
        self.task = None;
        Poll::Ready(outcome.err().map(Err))
    }
}

/// How a task ended: by itself, by a panic, or because the engine is gone.
fn ended(outcome: Result<Result<(), QueryError>, tokio::task::JoinError>) -> Result<(), QueryError> {
    match outcome {
        Ok(outcome) => outcome,
        Err(error) if error.is_cancelled() => Err(QueryError::Cancelled),
        Err(_) => Err(QueryError::Defect),
    }
}

/// The statement from its turn to its last row.
async fn run(
    statement: Statement,
    known: oneshot::Sender<SchemaRef>,
    ready: mpsc::Sender<RecordBatch>,
) -> Result<(), QueryError> {
    let _turn = statement.engine.turns.take(&statement.principal).await;
    let mut rows = start(&statement).await?;
    // Whoever asked may be gone, in which case nobody hears of the result either.
    if known.send(rows.schema()).is_err() {
        return Ok(());
    }
    while let Some(batch) = rows.next().await {
        let batch = batch.map_err(|error| QueryError::running(&error))?;
        if batch.num_rows() > 0 && ready.send(batch).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Pins the newest version of the tables, then plans the scans of it.
async fn start(statement: &Statement) -> Result<SendableRecordBatchStream, QueryError> {
    (statement.renew)();
    let planned = statement.state.create_physical_plan(&statement.plan).await;
    let planned = planned.map_err(|error| QueryError::planning(&error))?;
    execute_stream(planned, statement.state.task_ctx()).map_err(|error| QueryError::running(&error))
}
