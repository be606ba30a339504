//! One worker: a chunk in, its partial states out.

use std::io::BufRead;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::TimestampMicrosecondType;

use super::chunk::{Chunk, Content, RejectedRow, Work};
use super::conform::Conform;
use super::files::{Needed, incoming};
use super::parquet::split_by_time;
use super::{BackfillError, Rejected, Settings};
use crate::decode::{DecodeLimits, Decoder, Rejection, Table};
use crate::evaluate::PipelineSet;
use crate::model::pipeline::{Micros, Source};
use crate::window::aggregator::Aggregator;

/// Rows that are decoded and then aggregated at once: they stay in the processor's caches.
const BATCH_ROWS: usize = 8_192;

/// Decodes and aggregates; nothing stays in it between two chunks.
pub(super) struct Worker {
    from: Micros,
    to: Micros,
    logs: TableWorker,
    metrics: TableWorker,
}

/// What a worker has for one table.
struct TableWorker {
    decoder: Decoder,
    conform: Conform,
    aggregators: Vec<PlacedAggregator>,
}

struct PlacedAggregator {
    set: usize,
    pipeline: usize,
    aggregator: Aggregator,
}

/// The columns that the statements of these sets read.
pub fn needed(sets: &[Arc<PipelineSet>]) -> Needed {
    let columns = |source: Source| {
        let plans = sets.iter().flat_map(|set| set.reading(&source).map(|compiled| compiled.plan.reads().to_vec()));
        let mut columns = plans.flatten().collect::<Vec<_>>();
        columns.sort_unstable();
        columns.dedup();
        columns
    };
    Needed { logs: columns(Source::Logs), metrics: columns(Source::Metrics) }
}

impl Worker {
    pub(super) fn new(sets: &[Arc<PipelineSet>], settings: &Settings) -> Result<Self, BackfillError> {
        let needed = needed(sets);
        let table = |table, source| TableWorker::new(table, &source, sets, needed.of(table));
        Ok(Self {
            from: settings.from,
            to: settings.to,
            logs: table(Table::Logs, Source::Logs)?,
            metrics: table(Table::Metrics, Source::Metrics)?,
        })
    }

    /// Everything that is in a chunk.
    pub(super) fn run(&mut self, chunk: Chunk) -> Result<Work, BackfillError> {
        let Chunk { lane, name, table, content, rest, is_last } = chunk;
        let mut work = Work { lane, rest, is_last, ..Work::default() };
        let (from, to) = (self.from, self.to);
        let table = match table {
            Table::Logs => &mut self.logs,
            Table::Metrics => &mut self.metrics,
        };
        let in_words = |reason: String| BackfillError::File { file: name.as_ref().into(), reason };
        match content {
            Content::Lines(block) => table.lines(&block, &name, (from, to), &mut work)?,
            Content::Rows(rows) => table.rows(rows, &name, (from, to), &mut work).map_err(in_words)??,
            Content::RowGroup(file, group) => {
                for rows in file.read(group).map_err(in_words)? {
                    let rows = rows.map_err(|error| in_words(error.to_string()))?;
                    table.rows(rows, &name, (from, to), &mut work).map_err(in_words)??;
                }
            }
        }
        table.finish(&mut work)?;
        Ok(work)
    }
}

impl TableWorker {
    fn new(table: Table, source: &Source, sets: &[Arc<PipelineSet>], needed: &[usize]) -> Result<Self, BackfillError> {
        let mut aggregators = Vec::new();
        for (number, set) in sets.iter().enumerate() {
            for compiled in set.reading(source) {
                let Some(pipeline) = set.place(&compiled.pipeline.name) else { continue };
                let aggregator = Aggregator::new(&compiled.plan)
                    .map_err(|source| BackfillError::Compute { pipeline: compiled.pipeline.name.clone(), source })?;
                aggregators.push(PlacedAggregator { set: number, pipeline, aggregator });
            }
        }
        let decoder = Decoder::new(table, DecodeLimits::default()).with_columns(needed);
        Ok(Self { decoder, conform: Conform::new(table, needed), aggregators })
    }

    fn lines(
        &mut self,
        block: &[u8],
        name: &str,
        range: (Micros, Micros),
        work: &mut Work,
    ) -> Result<(), BackfillError> {
        let mut rest = block;
        while !rest.is_empty() {
            let before = rest;
            // Reading from memory cannot fail, and ends at the end.
            let length = rest.skip_until(b'\n').unwrap_or(before.len());
            let line = before.get(..length).unwrap_or(before).trim_ascii();
            let number = work.lines;
            work.lines += 1;
            if line.is_empty() {
                continue;
            }
            match self.decoder.push(&incoming(line)) {
                Ok(time) => work.see(time),
                Err(rejection) => work.reject(number, name, &rejection, line),
            }
            if self.decoder.len() >= BATCH_ROWS {
                self.take_decoded(range, work)?;
            }
        }
        self.take_decoded(range, work)
    }

    fn take_decoded(&mut self, range: (Micros, Micros), work: &mut Work) -> Result<(), BackfillError> {
        if self.decoder.is_empty() {
            return Ok(());
        }
        let batch = self.decoder.finish().map_err(|error| BackfillError::Rows(error.to_string()))?;
        self.aggregate(batch, range, work)
    }

    /// Rows with the columns of their file. The outer error is the file's.
    fn rows(
        &mut self,
        rows: RecordBatch,
        name: &str,
        range: (Micros, Micros),
        work: &mut Work,
    ) -> Result<Result<(), BackfillError>, String> {
        let first = work.lines;
        work.lines += rows.num_rows() as u64;
        let (rows, without_time) = split_by_time(rows)?;
        if let Some(without_time) = without_time {
            for line in json_lines(&without_time)? {
                work.reject(first, name, &Rejection::NoTime, &line);
            }
        }
        let batch = self.conform.apply(&rows)?;
        times(&batch).iter().flatten().for_each(|time| work.see(time));
        Ok(self.aggregate(batch, range, work))
    }

    fn aggregate(&mut self, batch: RecordBatch, range: (Micros, Micros), work: &mut Work) -> Result<(), BackfillError> {
        let batch = within(batch, range, work).map_err(|error| BackfillError::Rows(error.to_string()))?;
        work.rows += batch.num_rows() as u64;
        work.latest = work.latest.max(times(&batch).values().iter().max().copied());
        let earliest = times(&batch).values().iter().min().copied();
        work.earliest = work.earliest.into_iter().chain(earliest).min();
        for PlacedAggregator { aggregator, .. } in &mut self.aggregators {
            let pushed = aggregator.push(&batch);
            pushed.map_err(|source| BackfillError::Compute { pipeline: aggregator.plan().pipeline.clone(), source })?;
        }
        Ok(())
    }

    fn finish(&mut self, work: &mut Work) -> Result<(), BackfillError> {
        for PlacedAggregator { set, pipeline, aggregator } in &mut self.aggregators {
            let states = aggregator.finish();
            let states = states
                .map_err(|source| BackfillError::Compute { pipeline: aggregator.plan().pipeline.clone(), source })?;
            work.partials.extend(states.map(|states| (*set, *pipeline, states)));
        }
        Ok(())
    }
}

impl Work {
    fn see(&mut self, time: Micros) {
        let (first, last) = self.span.unwrap_or((time, time));
        self.span = Some((first.min(time), last.max(time)));
    }

    fn reject(&mut self, line: u64, name: &str, rejection: &Rejection, bytes: &[u8]) {
        let (kind, reason) = (rejection.kind(), rejection.to_string());
        let record = Rejected { position: name.to_owned(), kind, reason, bytes: bytes.to_vec() };
        self.rejected.push(RejectedRow { line, record });
    }
}

fn times(batch: &RecordBatch) -> &arrow::array::TimestampMicrosecondArray {
    // The first column of both tables.
    batch.column(0).as_primitive::<TimestampMicrosecondType>()
}

/// The rows whose event time is in the range.
fn within(
    batch: RecordBatch,
    (from, to): (Micros, Micros),
    work: &mut Work,
) -> Result<RecordBatch, arrow::error::ArrowError> {
    let is_within = |time: &Micros| (from..to).contains(time);
    if times(&batch).values().iter().all(is_within) {
        return Ok(batch);
    }
    let keep = times(&batch).values().iter().map(|time| Some(is_within(time))).collect::<BooleanArray>();
    work.outside += (keep.len() - keep.true_count()) as u64;
    filter_record_batch(&batch, &keep)
}

/// Rows as JSON, for whoever looks at what was rejected.
fn json_lines(rows: &RecordBatch) -> Result<Vec<Vec<u8>>, String> {
    let mut writer = arrow::json::LineDelimitedWriter::new(Vec::new());
    writer.write(rows).and_then(|()| writer.finish()).map_err(|error| error.to_string())?;
    let lines = writer.into_inner();
    Ok(lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect())
}
