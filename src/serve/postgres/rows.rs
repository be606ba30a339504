//! Rows on their way to a client: begun when the first is asked for, ended when the client cancels or goes away.
//!
//! A message may hold several statements, and their answers are sent one after the other; as each begins with its first
//! row, they also run one after the other.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use datafusion::logical_expr::LogicalPlan;
use datafusion_postgres::arrow_pg::datatypes::{arrow_schema_to_pg_fields, encode_recordbatch};
use datafusion_postgres::pgwire::api::ConnectionHandle;
use datafusion_postgres::pgwire::api::portal::Format;
use datafusion_postgres::pgwire::api::results::{DataRowEncoder, FieldInfo, QueryResponse};
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::data::DataRow;
use futures::future::{BoxFuture, Either, select};
use futures::{FutureExt, Stream, StreamExt, TryStreamExt, stream};

use super::failure;
use super::parameters::checked;
use crate::query::{Rows, Session};

/// A statement that is to run.
pub(super) struct Ready {
    pub(super) session: Session,
    pub(super) cancel: Arc<ConnectionHandle>,
    pub(super) plan: LogicalPlan,
    pub(super) time: Duration,
}

/// The answer to a statement, which begins when it is read.
pub(super) fn response(ready: Ready, format: &Format) -> PgWireResult<QueryResponse> {
    let schema = ready.plan.schema();
    let format = checked(format, schema.fields().len())?;
    let fields = Arc::new(arrow_schema_to_pg_fields(schema.as_arrow(), format, None)?);
    let begun = stream::once(begin(ready, Arc::clone(&fields))).try_flatten();
    Ok(QueryResponse::new(fields, begun))
}

/// One row with one text.
pub(super) fn one(field: FieldInfo, value: &str) -> PgWireResult<QueryResponse> {
    let fields = Arc::new(vec![field]);
    let mut encoder = DataRowEncoder::new(Arc::clone(&fields));
    encoder.encode_field(&Some(value))?;
    let row = encoder.take_row();
    Ok(QueryResponse::new(fields, stream::once(std::future::ready(Ok(row)))))
}

/// Rows under way.
struct UnderWay {
    rows: Rows,
    cancelled: BoxFuture<'static, ()>,
    fields: Arc<Vec<FieldInfo>>,
    /// What is left of the batch that was taken last.
    encoded: Box<dyn Iterator<Item = PgWireResult<DataRow>> + Send>,
}

async fn begin(
    ready: Ready,
    fields: Arc<Vec<FieldInfo>>,
) -> PgWireResult<impl Stream<Item = PgWireResult<DataRow>> + Send> {
    let cancelled = cancelled(&ready.cancel).await;
    let execute = ready.session.execute(ready.plan, ready.time).boxed();
    let (rows, cancelled) = match select(execute, cancelled).await {
        Either::Left((rows, cancelled)) => (rows.map_err(failure::of_query)?, cancelled),
        Either::Right(_) => return Err(PgWireError::QueryCanceled),
    };
    let under_way = UnderWay { rows, cancelled, fields, encoded: Box::new(std::iter::empty()) };
    Ok(stream::try_unfold(under_way, |mut under_way| async { Ok(under_way.next().await?.map(|row| (row, under_way))) }))
}

impl UnderWay {
    async fn next(&mut self) -> PgWireResult<Option<DataRow>> {
        loop {
            if let Some(row) = self.encoded.next() {
                return row.map(Some);
            }
            let batch = match select(self.rows.next(), &mut self.cancelled).await {
                Either::Left((batch, _)) => batch,
                Either::Right(_) => return Err(PgWireError::QueryCanceled),
            };
            let Some(batch) = batch else { return Ok(None) };
            let batch = batch.map_err(failure::of_query)?;
            self.encoded = encode_recordbatch(Arc::clone(&self.fields), batch);
        }
    }
}

/// Ends when the client asks for the statement that begins now to be cancelled.
async fn cancelled(cancel: &ConnectionHandle) -> BoxFuture<'static, ()> {
    let asked = cancel.start_query().await;
    async move {
        // The other side is gone when another statement begins, which is not this one's end.
        if asked.await.is_err() {
            pending::<()>().await;
        }
    }
    .boxed()
}
