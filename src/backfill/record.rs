//! What a backfill says, as rows for the store.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;

use super::BackfillError;
use crate::evaluate::PipelineSet;
use crate::evaluate::shard::Outputs;
use crate::evaluate::tables::{DetectionTable, Place, RowError, WindowTable, measures};
use crate::model::schema::StoreTable;

/// Rows of one batch: more make larger files and hold more memory.
const BATCH_ROWS: usize = 50_000;
/// Where rows stand that never were in Kafka.
const NOWHERE: i32 = -1;

/// Takes a batch of rows for a table.
pub type WriteRows<'a> = dyn FnMut(StoreTable, RecordBatch) -> Result<(), String> + 'a;

/// Collects windows and detections of one set of pipelines as batches of the tables' schemas, numbered in the order in
/// which they were said: the same backfill gives the same rows.
pub struct Recorder {
    set: Arc<PipelineSet>,
    /// The pipelines whose rows are collected; none of them is all.
    names: BTreeSet<String>,
    windows: WindowTable,
    detections: DetectionTable,
    numbers: [i64; 2],
}

impl Recorder {
    /// Nothing collected yet. Only rows of the pipelines with these `names` will be; without names, of all.
    pub fn new(set: &Arc<PipelineSet>, names: &[String]) -> Self {
        let (windows, detections) = (WindowTable::new(&measures(set)), DetectionTable::default());
        let names = names.iter().cloned().collect();
        Self { set: Arc::clone(set), names, windows, detections, numbers: [0, 0] }
    }

    fn is_named(names: &BTreeSet<String>, pipeline: &str) -> bool {
        names.is_empty() || names.contains(pipeline)
    }

    /// Collects what was said, and writes batches that are full.
    pub fn take(&mut self, outputs: &Outputs, write: &mut WriteRows<'_>) -> Result<(), BackfillError> {
        let names = &self.names;
        for row in &outputs.windows {
            let compiled = self.set.pipelines().get(row.place);
            if !compiled.is_some_and(|compiled| Self::is_named(names, &compiled.pipeline.name)) {
                continue;
            }
            let place = place(&mut self.numbers[0]);
            self.windows.push_closed(row, place).map_err(of_row)?;
        }
        for detection in outputs.detections.iter().filter(|detection| Self::is_named(names, &detection.pipeline)) {
            let place = place(&mut self.numbers[1]);
            self.detections.push_detection(detection, place).map_err(of_row)?;
        }
        self.write(BATCH_ROWS, write)
    }

    /// How many rows of a table were collected so far.
    pub fn rows(&self, table: StoreTable) -> u64 {
        let number = if table == StoreTable::Windows { self.numbers[0] } else { self.numbers[1] };
        u64::try_from(number).unwrap_or(0)
    }

    /// Writes what is left.
    pub fn finish(&mut self, write: &mut WriteRows<'_>) -> Result<(), BackfillError> {
        self.write(1, write)
    }

    fn write(&mut self, least: usize, write: &mut WriteRows<'_>) -> Result<(), BackfillError> {
        let of_batch = |error: ArrowError| BackfillError::Output(error.to_string());
        if self.windows.len() >= least {
            write(StoreTable::Windows, self.windows.finish().map_err(of_batch)?).map_err(BackfillError::Output)?;
        }
        if self.detections.len() >= least {
            write(StoreTable::Detections, self.detections.finish().map_err(of_batch)?)
                .map_err(BackfillError::Output)?;
        }
        Ok(())
    }
}

/// The place of the next row.
fn place(number: &mut i64) -> Place {
    let offset = *number;
    *number += 1;
    Place { partition: NOWHERE, offset }
}

fn of_row(error: RowError) -> BackfillError {
    BackfillError::Output(error.to_string())
}
