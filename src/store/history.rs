//! Rows of the store as a history: a range of event time of one table, in one order that does not depend on its files.
//!
//! The rows are counted first, by event time, and then read slice by slice, each slice sorted by event time and place in
//! Kafka. So memory holds one slice, whatever the range. What is read is one version of the table: what was committed
//! when it was opened, without what had expired by then. Rows that are in memory of another process are not seen.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::logical_expr::{Expr, col, lit};
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use futures::StreamExt;
use tokio::runtime;
use xxhash_rust::xxh64::xxh64;

use super::scan::table_source;
use super::{Store, StoreError};
use crate::model::pipeline::Micros;
use crate::model::principal::Principal;
use crate::model::schema::StoreTable;

/// Rows are counted in steps of this length, so a slice cannot be shorter. Less holds more counts in memory: a year takes
/// three million.
const STEP: Micros = 10_000_000;
/// Rows of a slice, unless one step has more. More holds more memory, less opens files more often.
const SLICE_ROWS: u64 = 256 * 1024;
/// A slice is not longer than this, whatever it has: a file belongs to one day.
const SLICE_STEPS: i64 = 24 * 360;
/// Threads that read files.
const THREADS: usize = 2;
/// What orders rows: no two have the same of all.
const ORDER: [&str; 2] = ["kafka_partition", "kafka_offset"];

/// A range of one table, counted and not read yet.
pub struct StoredHistory {
    table: StoreTable,
    columns: Vec<String>,
    context: SessionContext,
    runtime: runtime::Runtime,
    /// From, and up to without, with the rows between; in their order.
    slices: std::vec::IntoIter<(Micros, Micros)>,
    ready: std::vec::IntoIter<RecordBatch>,
    rows: u64,
    digest: u64,
}

impl StoredHistory {
    /// Looks at the rows of `table` from `from` up to, and without, `to`, as they are at wall time `now`. Of each row these
    /// columns will be read.
    pub fn open(
        store: &Arc<Store>,
        table: StoreTable,
        columns: Vec<String>,
        (from, to): (Micros, Micros),
        now: Micros,
    ) -> Result<Self, StoreError> {
        let config = SessionConfig::new().with_target_partitions(THREADS);
        let context = SessionContext::new_with_config(config);
        for (name, provider) in table_source(Arc::clone(store), move || now)(&Principal::Operator).providers {
            context.register_table(name, provider).map_err(reading)?;
        }
        let mut runtime = runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(THREADS).thread_name("history").build().map_err(StoreError::Thread)?;
        let counts = runtime.block_on(count(&context, table, from, to)).map_err(reading)?;
        let (rows, digest) = (counts.steps.values().sum(), counts.digest);
        let (slices, ready) = (slices(&counts.steps, from, to).into_iter(), Vec::new().into_iter());
        Ok(Self { table, columns, context, runtime, slices, ready, rows, digest })
    }

    /// How many rows there are.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// What the rows are, in a word that is the same for the same rows in whatever files.
    pub fn digest(&self) -> String {
        format!("{} {} {:016x}", self.table.name(), self.rows, self.digest)
    }

    /// The rows of the next slice.
    fn read(&self, (from, to): (Micros, Micros)) -> Result<Vec<RecordBatch>, DataFusionError> {
        self.runtime.block_on(async {
            let time = self.table.time_column();
            let rows = within(&self.context, self.table, from, to).await?;
            let order = std::iter::once(time).chain(ORDER).map(|name| col(name).sort(true, false)).collect();
            let columns = self.columns.iter().map(col).collect::<Vec<_>>();
            rows.sort(order)?.select(columns)?.collect().await
        })
    }
}

impl Iterator for StoredHistory {
    type Item = Result<(StoreTable, RecordBatch), String>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(batch) = self.ready.next() {
                return Some(Ok((self.table, batch)));
            }
            let slice = self.slices.next()?;
            match self.read(slice) {
                Ok(batches) => self.ready = batches.into_iter(),
                Err(error) => return Some(Err(reading(error).to_string())),
            }
        }
    }
}

fn reading(error: DataFusionError) -> StoreError {
    StoreError::Read(error.to_string())
}

async fn within(
    context: &SessionContext,
    table: StoreTable,
    from: Micros,
    to: Micros,
) -> Result<DataFrame, DataFusionError> {
    let time = |at: Micros| -> Expr { lit(ScalarValue::TimestampMicrosecond(Some(at), Some("UTC".into()))) };
    let column = col(table.time_column());
    let mut rows = context.table(table.name()).await?;
    if from > Micros::MIN {
        rows = rows.filter(column.clone().gt_eq(time(from)))?;
    }
    if to < Micros::MAX {
        rows = rows.filter(column.lt(time(to)))?;
    }
    Ok(rows)
}

/// What there is.
#[derive(Default)]
struct Counts {
    /// Rows, by the step that their event time is in.
    steps: BTreeMap<i64, u64>,
    /// Of time and place of every row, in no order.
    digest: u64,
}

async fn count(
    context: &SessionContext,
    table: StoreTable,
    from: Micros,
    to: Micros,
) -> Result<Counts, DataFusionError> {
    let columns = std::iter::once(table.time_column()).chain(ORDER).map(col).collect::<Vec<_>>();
    let mut rows = within(context, table, from, to).await?.select(columns)?.execute_stream().await?;
    let mut counts = Counts::default();
    while let Some(batch) = rows.next().await {
        counts.take(&batch?);
    }
    Ok(counts)
}

impl Counts {
    fn take(&mut self, batch: &RecordBatch) {
        let times = batch.column(0).as_primitive::<TimestampMicrosecondType>().values();
        let partitions = batch.column(1).as_primitive::<Int32Type>().values();
        let offsets = batch.column(2).as_primitive::<Int64Type>().values();
        for ((time, partition), offset) in times.iter().zip(partitions).zip(offsets) {
            *self.steps.entry(time.div_euclid(STEP)).or_default() += 1;
            let place = [*time, i64::from(*partition), *offset].map(i64::to_be_bytes).concat();
            self.digest = self.digest.wrapping_add(xxh64(&place, 0));
        }
    }
}

/// Divides a range into slices that have rows, but not too many each.
fn slices(steps: &BTreeMap<i64, u64>, from: Micros, to: Micros) -> Vec<(Micros, Micros)> {
    let mut slices = Vec::new();
    let mut open: Option<(i64, i64, u64)> = None;
    let cut = |(first, last, _): (i64, i64, u64)| {
        let (start, end) = (first.saturating_mul(STEP), last.saturating_add(1).saturating_mul(STEP));
        (start.max(from), end.min(to))
    };
    for (step, rows) in steps {
        open = match open {
            Some((first, _, before)) if before + rows <= SLICE_ROWS && step - first < SLICE_STEPS => {
                Some((first, *step, before + rows))
            }
            other => {
                slices.extend(other.map(cut));
                Some((*step, *step, *rows))
            }
        };
    }
    slices.extend(open.map(cut));
    slices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_cover_every_row_once_and_hold_so_many_at_most() {
        let steps = BTreeMap::from([(-3, 7), (0, SLICE_ROWS), (1, 5), (2, SLICE_ROWS - 5), (3, 1), (20_000, 2)]);
        let all = slices(&steps, Micros::MIN, Micros::MAX);
        let expected = [(-3, -2), (0, 1), (1, 3), (3, 4), (20_000, 20_001)].map(|(from, to)| (from * STEP, to * STEP));
        assert_eq!(all, expected);
        assert_eq!(
            slices(&steps, -25_000_000, 15_000_000)[..3],
            [(-25_000_000, -20_000_000), (0, STEP), (STEP, 15_000_000)]
        );
    }
}
