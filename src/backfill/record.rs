//! What a backfill says, as rows for the store.

use arrow::array::RecordBatch;
use arrow::error::ArrowError;

use super::{BackfillError, Files, Settings};
use crate::evaluate::PipelineSet;
use crate::evaluate::shard::Outputs;
use crate::evaluate::tables::{DetectionTable, Place, RowError, WindowTable, measures};
use crate::model::schema::StoreTable;
use crate::model::series::stable_id;

/// Rows of one batch: more make larger files and hold more memory.
const BATCH_ROWS: usize = 50_000;
/// Where rows stand that never were in Kafka.
const NOWHERE: i32 = -1;

/// Takes a batch of rows for a table.
pub type WriteRows<'a> = dyn FnMut(StoreTable, RecordBatch) -> Result<(), String> + 'a;

/// Collects windows and detections of one set of pipelines as batches of the tables' schemas, numbered in the order in
/// which they were said: the same backfill gives the same rows.
pub struct Recorder {
    windows: WindowTable,
    detections: DetectionTable,
    numbers: [i64; 2],
}

impl Recorder {
    /// Nothing collected yet.
    pub fn new(set: &PipelineSet) -> Self {
        let (windows, detections) = (WindowTable::new(&measures(set)), DetectionTable::default());
        Self { windows, detections, numbers: [0, 0] }
    }

    /// Collects what was said, and writes batches that are full.
    pub fn take(&mut self, outputs: &Outputs, write: &mut WriteRows<'_>) -> Result<(), BackfillError> {
        for row in &outputs.windows {
            let place = self.place(0);
            self.windows.push_closed(row, place).map_err(of_row)?;
        }
        for detection in &outputs.detections {
            let place = self.place(1);
            self.detections.push_detection(detection, place).map_err(of_row)?;
        }
        self.write(BATCH_ROWS, write)
    }

    /// Writes what is left.
    pub fn finish(mut self, write: &mut WriteRows<'_>) -> Result<(), BackfillError> {
        self.write(1, write)
    }

    fn place(&mut self, table: usize) -> Place {
        let offset = self.numbers[table];
        self.numbers[table] += 1;
        Place { partition: NOWHERE, offset }
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

fn of_row(error: RowError) -> BackfillError {
    BackfillError::Output(error.to_string())
}

/// The identity of a backfill: files by name and size, the range and the disorder, and the pipelines with their rules.
/// Whoever has written the rows of a job need not write them again.
pub fn job_id(files: &Files, set: &PipelineSet, settings: &Settings) -> String {
    let range = [settings.from, settings.to, settings.disorder].map(i64::to_be_bytes).concat();
    let files = files.files.iter().map(|file| format!("{} {}", file.path.display(), file.bytes));
    let pipelines = set.pipelines().iter().map(|compiled| format!("{} {:?}", compiled.plan.version, compiled.pipeline));
    let texts = files.chain(pipelines).collect::<Vec<_>>();
    let mut parts = vec![b"backfill".as_slice(), &range];
    parts.extend(texts.iter().map(|text| text.as_bytes()));
    stable_id(&parts)
}
